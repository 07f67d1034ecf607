"""The process that decodes: it hangs, crashes, is killed or stopped, or lacks memory; it serves again, and ends."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.reliability.made_videos import (
    counting,
    encode,
    number_of,
    numbered,
)
from examples.mpii_cooking.data import decoder, video
from examples.mpii_cooking.data.dataset import BrokenError, DataError
from tests.example.test_interrupts import running
from tests.helpers.programs import ROOT, clean_environment, run_python
from tests.helpers.small_videos import moving_patch, write


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_file_that_hangs_its_decoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PATIENCE", 3)
    monkeypatch.setattr(video, "_decoders", {})
    os.mkfifo(tmp_path / "a.avi")  # opening it waits for a writer
    with pytest.raises(BrokenError, match=r"a\.avi cannot be read: nothing happened for 3 s"):
        video.frame_size(tmp_path / "a.avi")


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_decoder_that_goes_on_is_not_given_up_nor_one_that_was_stopped(tmp_path):
    """Reading takes longer than there is patience, and so does a stop, as by Ctrl-Z, which reaches all processes."""
    path = encode(tmp_path / "a.avi", counting(5), "mjpeg")
    command = [sys.executable, "-m", "tests.example.programs.count_slowly", path]
    run = subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert run.stdout.readline() == "begins\n"
    time.sleep(1)
    os.killpg(run.pid, signal.SIGSTOP)
    time.sleep(3)
    os.killpg(run.pid, signal.SIGCONT)
    assert run.communicate(timeout=60)[0] == "5\n"
    assert run.returncode == 0


def test_patience_is_for_the_decoder_and_not_for_whoever_takes_the_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "PATIENCE", 3)
    monkeypatch.setattr(video, "_decoders", {})
    large = [(number, numbered(number, (720, 1280))) for number in range(5)]
    frames = video.decode(encode(tmp_path / "a.avi", large, "mjpeg"))
    assert number_of(next(frames)) == 0
    time.sleep(4)
    assert [number_of(frame) for frame in frames] == [1, 2, 3, 4]
    video._end_decoders()


@pytest.fixture
def started(monkeypatch):
    """The processes that were started."""
    processes = []

    class Recorded(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(video, "_decoders", {})
    monkeypatch.setattr(video.subprocess, "Popen", Recorded)
    yield processes
    video._end_decoders()
    assert all(process.poll() is not None for process in processes)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads processes from /proc")
def test_a_decoder_that_hangs_ends_with_the_run(tmp_path):
    """However the run ends: a decoder notices by itself."""
    os.mkfifo(tmp_path / "a.avi")  # opening it waits for a writer
    done = run_python("-m", "tests.example.programs.leave_a_decoder", tmp_path / "a.avi")
    assert done.returncode == 130, done.stderr
    waiting, until = int(done.stdout), time.monotonic() + 20
    while running(waiting):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_a_decoder_that_cannot_start_is_no_fault_of_a_video(tmp_path, monkeypatch):
    path, start = encode(tmp_path / "a.avi", counting(3), "mjpeg"), subprocess.Popen
    limited = "sh", "-c", 'ulimit -v 120000; exec "$@"', "sh"  # kilobytes
    monkeypatch.setattr(video, "_decoders", {})
    monkeypatch.setattr(video.subprocess, "Popen", lambda command, **options: start([*limited, *command], **options))
    with pytest.raises(DataError, match=r"a\.avi was not read: its decoder could not start.*: start again") as caught:
        video.count_frames(path)
    assert not isinstance(caught.value, BrokenError)


@pytest.mark.parametrize(("problem", "is_broken"), [
    (MemoryError(), False),
    (av.FFmpegError(errno.ENOMEM, "Cannot allocate memory"), False),
    (av.FFmpegError(errno.EAGAIN, "Resource temporarily unavailable"), False),  # no more threads
    (av.FFmpegError(errno.EMFILE, "Too many open files"), False),
    (av.FFmpegError(errno.EIO, "Input/output error"), True),  # FFmpeg says so of many damaged files
    (av.FFmpegError(errno.EINVAL, "Invalid argument"), True),
], ids=repr)  # fmt: skip
def test_want_of_memory_threads_or_files_is_no_fault_of_a_video(tmp_path, monkeypatch, problem, is_broken):
    path, watch = encode(tmp_path / "a.avi", counting(3), "mjpeg"), lambda: None

    def fails(*_):
        raise problem

    with monkeypatch.context() as patch:
        patch.setattr(decoder.av, "open", fails)
        ((kind, text),) = decoder._answer("count", path, watch)
    assert kind == (decoder.PROBLEM if is_broken else decoder.FAULT), text


def test_a_fault_of_the_machine_is_said_with_what_to_do(tmp_path, monkeypatch):
    messages = iter([decoder.HEADER.pack(decoder.FAULT, 3, 0, 0), b"why"])
    monkeypatch.setattr(video, "_decoders", {})
    monkeypatch.setattr(video._Decoder, "_read", lambda *_: np.frombuffer(next(messages), np.uint8))
    with pytest.raises(DataError, match=r"a\.avi why: start again") as caught:
        video.frame_size(tmp_path / "a.avi")
    assert not isinstance(caught.value, BrokenError)
    video._end_decoders()


def test_a_crash_of_the_decoder_is_an_error_of_one_file(tmp_path, started):
    path = encode(tmp_path / "a.avi", counting(20, size=(720, 1280)), "mjpeg")
    frames = video.decode(path)
    next(frames)
    started[0].send_signal(signal.SIGSEGV)
    with pytest.raises(DataError, match=r"a\.avi cannot be read: its decoder ended with exit code -11"):
        list(frames)
    assert len(list(video.decode(path))) == 20
    assert len(started) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals that end a process")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_video_whose_decoder_was_killed_is_not_broken(tmp_path, started, name):
    """Or ``--skip-broken`` would go on without a sound video when memory is short."""
    frames = video.decode(encode(tmp_path / "a.avi", counting(20, size=(720, 1280)), "mjpeg"))
    next(frames)
    started[0].send_signal(getattr(signal, name))
    with pytest.raises(DataError, match=r"a\.avi was not read .* memory ran out: start again") as caught:
        list(frames)
    assert not isinstance(caught.value, BrokenError)


def test_lost_bytes_are_no_end_of_a_video(tmp_path, started):
    frames = video.decode(encode(tmp_path / "a.avi", counting(20, size=(720, 1280)), "mjpeg"))
    next(frames)
    started[0].stdout.read(1)
    with pytest.raises(DataError, match=r"a\.avi was not read to the end: bytes were lost"):
        list(frames)
    assert started[0].poll() is not None
    assert len(list(video.decode(tmp_path / "a.avi"))) == 20


def test_a_decoder_serves_again_unless_an_answer_was_left_unread(tmp_path, started):
    path = write(tmp_path / "a.avi", moving_patch(60, 0))
    (tmp_path / "b.avi").write_bytes(b"no video")
    assert len(list(video.decode(path))) == video.count_frames(path) == 60
    with pytest.raises(DataError, match=r"b\.avi cannot be read as a video"):
        video.frame_size(tmp_path / "b.avi")
    for _ in video.decode(path):
        break
    assert len(started) == 1
    assert started[0].poll() is not None
    assert len(list(video.decode(path))) == 60
    assert len(started) == 2


def test_a_decoder_ends_whether_its_files_are_closed_or_not(tmp_path, started):
    """When Python ends with an error, files are closed in any order."""
    path = encode(tmp_path / "a.avi", counting(20, size=(720, 1280)), "mjpeg")
    frames = video.decode(path)
    next(frames)
    started[0].stdin.close()
    frames.close()
    assert started[0].poll() is not None
