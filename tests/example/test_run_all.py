"""The command: what it prints when a run cannot continue."""

import errno
import os
import re
from pathlib import Path

import pytest
import tyro

from examples.mpii_cooking import run_all, storage
from examples.mpii_cooking.data.class_folders import Choices


def test_features_beyond_their_format_end_with_one_message_and_code_2(tmp_path, monkeypatch, capsys):
    def overflow(*_, **__):
        raise OverflowError("features exceed float16's range")

    monkeypatch.setattr(run_all, "run", overflow)
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path)
    assert capsys.readouterr().err == "error: features exceed float16's range\n"


def test_a_second_start_in_the_same_folder_ends_with_one_message_and_code_2(tmp_path, capsys):
    with storage.held(tmp_path), pytest.raises(SystemExit, match="2"):
        run_all.main(preset="smoke", output=tmp_path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path} is in use by process {os.getpid()} on ")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def file_in_place(folder: Path):
    folder.write_text("a")
    return folder


def below_a_file(folder: Path):
    return file_in_place(folder) / "b"


def dangling_link(folder: Path):
    folder.symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("make", [file_in_place, below_a_file, dangling_link])
def test_a_folder_that_cannot_be_written_ends_with_one_message_and_code_2(tmp_path, capsys, make):
    output = make(tmp_path / "output")
    with pytest.raises(SystemExit, match="2"):
        run_all.main(preset="smoke", output=output)
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"error: {output} cannot be used \\(.*; [0-9,]+ MB are free there\\); finished work .*", line)


def test_a_full_disk_ends_with_one_message_and_code_2(tmp_path, monkeypatch, capsys):
    def fill(*_, **__):
        with storage.written_aside(tmp_path / "a.bin"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_all, "run", fill)
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/a.bin cannot be written (No space left on device; ")
    assert line.endswith("the same command goes on")


def test_choices_about_clips_are_read_from_the_command_line(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(run_all, "run", lambda *args, choices, plan_only, trust_mtime: found.append((args[0], choices)))
    for rate in ("12.5", "keep"):
        options = ["--data", "clips", "--groups", r"set1_seq\d+", "--fold", "set1_seq03", "--aspect", "4:3"]
        tyro.cli(run_all.main, args=[*options, "--without", "point", "hug", "--rate", rate, "--output", str(tmp_path)])
    same = {"groups": r"set1_seq\d+", "fold": "set1_seq03", "aspect": "4:3", "without": ("point", "hug")}
    assert found == [(Path("clips"), Choices(**same, rate=rate)) for rate in (12.5, "keep")]
