"""The command: what it prints when a run cannot continue."""

import errno
import io
import math
import os
import re
from itertools import product
from pathlib import Path

import pytest
import tyro

from examples.mpii_cooking import run_all, storage
from examples.mpii_cooking.data.class_folders import Choices
from tests.helpers.made_up import made_up_results
from tests.helpers.small_videos import moving_patch, write_images


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
    monkeypatch.setattr(run_all, "run", lambda *args, choices, **others: found.append((args[0], choices)))
    for rate in ("12.5", "keep"):
        options = ["--data", "clips", "--groups", r"set1_seq\d+", "--fold", "set1_seq03", "--aspect", "4:3"]
        tyro.cli(run_all.main, args=[*options, "--without", "point", "hug", "--rate", rate, "--output", str(tmp_path)])
    same = {"groups": r"set1_seq\d+", "fold": "set1_seq03", "aspect": "4:3", "without": ("point", "hug")}
    assert found == [(Path("clips"), Choices(**same, rate=rate)) for rate in (12.5, "keep")]


def test_names_are_printed_whatever_the_encoding_of_the_terminal(tmp_path, monkeypatch):
    for label in ("left", "right"):
        for number in range(2):
            write_images(tmp_path / "k\xe4se" / label / str(number), moving_patch(2, number, (64, 48)), "{}.png")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
    with pytest.raises(SystemExit, match="2"):  # the clips are higher than wide
        run_all.main(data=tmp_path / "k\xe4se", output=tmp_path / "output", preset="smoke")
    assert b"k\\xe4se: 2 classes. " in printed.getvalue()


@pytest.mark.parametrize("option", ["data", "output"])
def test_links_in_a_circle_end_with_one_message_and_code_2(tmp_path, capsys, option):
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(SystemExit, match="2"):
        run_all.main(**({"data": tmp_path / "data", "output": tmp_path / "output"} | {option: circle}))
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(circle) in line


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_a_rate_is_a_number(tmp_path, capsys, rate):
    with pytest.raises(SystemExit, match="2"):
        run_all.main(data=tmp_path, output=tmp_path / "output", rate=rate)
    assert capsys.readouterr().err == f"error: rate must be a number of frames per second, or keep, got {rate}\n"


@pytest.mark.parametrize("option", ["data", "output", "weights"])
def test_folders_that_no_report_could_name_are_refused_at_once(tmp_path, capsys, option):
    folder = tmp_path / os.fsdecode(b"k\xe4se") / "videos"
    with pytest.raises(SystemExit, match="2"):
        run_all.main(**({"output": tmp_path / "output"} | {option: folder}))
    shown = os.fsencode(tmp_path).decode()
    assert f"  b'{shown}/k\\xe4se' has a name that is not UTF-8\n" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("moving", [0, 1])
def test_clips_without_motion_are_found_before_training(tmp_path, monkeypatch, capsys, caplog, moving):
    """They ended in an error of the pooling, after everything had been trained."""
    for label in ("left", "right"):
        for number in range(3):
            film = moving_patch(3, number)
            write_images(tmp_path / "data" / label / str(number), film if number < moving else [film[0]] * 3, "{}.png")
    monkeypatch.setattr(run_all, "train_all", lambda _: pytest.exit("training begins"))
    with pytest.raises(SystemExit if moving == 0 else pytest.exit.Exception):
        run_all.main(data=tmp_path / "data", output=tmp_path / "output", preset="smoke")
    if moving:
        named = "left/1, right/1, left/2, right/2"
        assert f"nothing moves in 4 of the clips: {named}" in caplog.messages
    else:
        error = "error: nothing moves in any training clip of data: use videos and not still images\n"
        assert capsys.readouterr().err.endswith(error)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({}, "report.html"),
        ({"study": "clips"}, "report.html"),
        ({"groups": "s[12]", "fold": "s2"}, "groups-s2/report.html"),
        ({"groups": "s[12]", "fold": "all"}, "groups-all/report.html"),
        ({"split": "loso7", "fold": "all"}, "loso7-all/report.html"),
    ],
)
def test_where_the_report_will_be_is_said_before_anything_is_done(tmp_path, monkeypatch, capsys, options, place):
    for name, number in product(("a", "b"), (1, 2)):
        write_images(tmp_path / "data" / name / f"s{number}", moving_patch(3, number), "{}.png")
    if "groups" in options:
        options = options | {"data": tmp_path / "data"}
    said = []

    def start(*_, **__):
        said.append(capsys.readouterr().out)
        return made_up_results(1)

    monkeypatch.setattr(run_all, "run", start)
    monkeypatch.setattr(run_all.studies, "run", start)
    monkeypatch.setattr(run_all, "pool", lambda results: next(iter(results.values())))
    monkeypatch.setattr(run_all.page, "write_report", lambda results, folder: folder / "report.html")
    run_all.main(output=tmp_path / "output", preset="smoke", **options)
    assert said[0] == f"the report will be {tmp_path / 'output' / place}\n"
    written = capsys.readouterr().out
    assert "study" in options or written == f"report: {tmp_path / 'output' / place}\n"


def test_a_plan_ends_with_no_report_and_names_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_all, "run", lambda *_, **__: None)
    run_all.main(output=tmp_path, preset="smoke", plan_only=True)
    assert capsys.readouterr().out == ""


def test_times_of_modification_are_trusted_only_if_asked(tmp_path, monkeypatch):
    trusted = []
    monkeypatch.setattr(run_all, "run", lambda *_, trust_mtime, **others: trusted.append(trust_mtime))
    run_all.main(output=tmp_path, preset="smoke")
    run_all.main(output=tmp_path, preset="smoke", trust_mtime=True)
    assert trusted == [False, True]
