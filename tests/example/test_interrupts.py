"""Ctrl-C ends a run at once, with one line, and nothing keeps running."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.example.test_end_to_end import TIMEOUT, by_two, command, running
from tests.helpers.programs import listen_to_ctrl_c

SECONDS = 10.0  # 2 on an idle machine; other tests keep this one busy
MESSAGE = "stopped; the same command goes on from here"
MOMENTS = {
    "preparation": "cache/prepare/*/*",  # the first video is on its way
    "training": "seed-0/models/*/manifest.json",  # in worker processes
    "features": "seed-0/predictions/*/manifest.json",
}

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads processes from /proc")


def descendants(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def interrupted(arguments, folder, moment):
    """Start a command, press Ctrl-C at a moment, and return its exit code, its seconds to the end and what it prints.

    Ctrl-C reaches every process of the terminal's foreground, so here each one in the command's own process group.
    """
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True, preexec_fn=listen_to_ctrl_c
        )
    started = time.monotonic()
    while not any(folder.glob(moment)):
        assert process.poll() is None, errors.read_text()
        assert time.monotonic() - started < TIMEOUT
        time.sleep(0.02)
    others, said = descendants(process.pid), errors.read_text()
    os.killpg(process.pid, signal.SIGINT)
    pressed = time.monotonic()
    code = process.wait(timeout=TIMEOUT)
    while any(running(pid) for pid in others) and time.monotonic() - pressed < 2 * SECONDS:
        time.sleep(0.02)
    return code, time.monotonic() - pressed, errors.read_text().removeprefix(said)


def test_ctrl_c_ends_a_run_with_one_line_and_the_same_command_goes_on(tmp_path):
    finished = {}
    for name, moment in MOMENTS.items():
        code, seconds, said = interrupted(command(tmp_path), tmp_path, moment)
        assert code == 130, name
        assert seconds < SECONDS, name
        before, _, after = said.partition(f"\n{MESSAGE}\n")
        assert "Traceback" not in before, name
        assert not after.strip(), f"{name}: the line is the last one"
        assert not (tmp_path / "results.json").exists()
        prepared = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/prepare/*/manifest.json")}
        assert finished.items() <= prepared.items(), f"{name}: finished work was done again"
        finished = prepared
    assert len(finished) == 12


def test_ctrl_c_ends_all_ranks_with_one_line(tmp_path):
    code, seconds, said = interrupted(by_two(tmp_path), tmp_path, MOMENTS["training"])
    assert code != 0
    assert seconds < SECONDS
    assert said.count(MESSAGE) == 1
    assert 'run_all.py", line' not in said, "the traceback is torchrun's alone"
