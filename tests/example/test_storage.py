"""Files are whole or not there, one process writes to a folder, and what was changed is found."""

import errno
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.mpii_cooking import storage
from examples.mpii_cooking.data import video
from examples.mpii_cooking.storage import DamagedError, InUseError, WriteError, read_back, write_json, written_aside
from tests.helpers.programs import ROOT, clean_environment, run_python
from tests.helpers.small_disk import files_up_to

CONTENT = {"name": "a b", "numbers": [1, 2.5, None], "rows": [{"x": 1}, {"x": 2}]}
HOLDER = "tests.example.programs.hold_a_folder"


@pytest.fixture
def written(tmp_path):
    """A file with ``CONTENT``."""
    path = tmp_path / "content.json"
    write_json(path, CONTENT, 3)
    return path


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path``."""
    arguments = [sys.executable, "-m", HOLDER, str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_what_was_written_is_read(written):
    assert storage.read_json(written, 3) == CONTENT
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_every_flipped_bit_is_found_or_changes_nothing(written):
    """Between two values, JSON has more than one kind of space."""
    content = written.read_bytes()
    silent = 0
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            written.write_bytes(flipped)
            try:
                assert storage.read_json(written, 3) == CONTENT
                silent += 1
            except DamagedError:
                pass
    assert silent < len(content) / 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not whole"),
        ("{", "is not whole"),
        pytest.param("[" * 100_000, "is not whole", id="nested"),
        ("[]", "has schema None, expected 3: another version wrote it"),
        ('{"schema": 2}', "has schema 2, expected 3: another version wrote it"),
        ('{"schema": 3, "name": "a"}', "was changed since it was written"),
    ],
)
def test_what_is_damaged_is_set_aside_and_made_again(written, caplog, content, message):
    written.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert read_back(written, 3) is None
    assert f"{written} {message}" in caplog.text
    assert "it is kept as content.json.damaged, and made again" in caplog.text
    assert written.with_name("content.json.damaged").read_text() == content
    assert read_back(written, 3) is None
    write_json(written, CONTENT, 3)
    assert read_back(written, 3) == CONTENT


def test_the_schema_is_part_of_what_the_digest_protects(written):
    content = json.loads(written.read_text())
    written.write_text(json.dumps(content | {"schema": 4}))
    with pytest.raises(DamagedError, match="was changed since it was written"):
        storage.read_json(written, 4)


def test_a_failed_write_leaves_the_old_file(written):
    def fail_half_way():
        with written_aside(written) as aside:
            aside.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WriteError) as failed:
        fail_half_way()
    assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(written))
    assert storage.read_json(written, 3) == CONTENT
    assert list(written.parent.iterdir()) == [written]


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_at_the_end_leaves_the_old_file(written, monkeypatch, call):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(WriteError, match=r"Input/output error: .*content\.json"):
            write_json(written, {"other": 1}, 3)
    assert storage.read_json(written, 3) == CONTENT
    assert list(written.parent.iterdir()) == [written]


def test_a_file_and_then_its_folder_are_synced_to_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink().name))
    with written_aside(tmp_path / "a.txt") as aside:
        aside.write_text("a")
    assert synced == [aside.name, tmp_path.name]


def test_an_error_with_another_file_is_told_as_it_is(tmp_path):
    def read_while_writing():
        with written_aside(tmp_path / "to.txt"):
            (tmp_path / "from.txt").read_text()

    with pytest.raises(FileNotFoundError, match=r"from\.txt"):
        read_while_writing()


def test_no_video_is_taken_for_whole_when_the_disk_was_full(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (20, 40, 60, 3), np.uint8)

    def write(name):
        with video.new_video(tmp_path / name, "mjpeg") as writer:
            for frame in frames:
                writer.write(frame)
        return (tmp_path / name).stat().st_size

    size = write("whole.mkv")
    for limit in (0, 1, 100, size // 2, size - 1):
        with files_up_to(limit), pytest.raises(WriteError, match=r"cut\.mkv"):
            write("cut.mkv")
    with files_up_to(size):
        assert write("cut.mkv") == size


def test_the_sentence_about_a_failed_disk_says_file_reason_room_and_cure(tmp_path):
    problem = WriteError(errno.ENOSPC, "No space left on device", str(tmp_path / "not" / "made" / "a.bin"))
    for each in (problem, pickle.loads(pickle.dumps(problem))):  # as it comes from a worker process
        sentence = storage.explained(each)
        assert sentence.startswith(f"{tmp_path}/not/made/a.bin cannot be written (No space left on device; ")
        assert sentence.endswith(
            " MB are free there); finished work is kept: when this is mended, the same command goes on"
        )
    assert "cannot be used (Permission denied; " in storage.explained(PermissionError(13, "Permission denied", "a"))
    assert storage.explained(OSError("no file")) == "no file"


def test_a_second_writer_is_told_who_holds_the_folder(holder, tmp_path):
    with pytest.raises(InUseError) as refused, storage.held(tmp_path):
        pass
    message = f"{tmp_path} is in use by process {holder.pid} on "
    assert str(refused.value).startswith(message)
    assert " since 20" in str(refused.value)
    holder.kill()
    holder.wait()
    with storage.held(tmp_path):
        pass
    with storage.held(tmp_path):
        pass


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    write_json(tmp_path / "a" / "content.json", CONTENT, 3)
    program = "import os, sys; from pathlib import Path; from examples.mpii_cooking.storage import written_aside\n"
    program += "with written_aside(Path(sys.argv[1])) as aside: aside.write_text('half'); os.kill(os.getpid(), 9)"
    assert run_python("-c", program, tmp_path / "a" / "b.txt").returncode == -signal.SIGKILL
    assert len(list((tmp_path / "a").iterdir())) == 2
    with storage.held(tmp_path):
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["content.json"]
