"""Ctrl-C and SIGTERM end a run soon, with one line, and nothing keeps running."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from examples.mpii_cooking import interrupts
from examples.mpii_cooking.training import workers
from tests.example.test_end_to_end import TIMEOUT, by_two, command
from tests.helpers.programs import ROOT, listen_to_ctrl_c, run_python

SECONDS = 20.0  # 2 on an idle machine; other tests keep this one busy
TINY = ROOT / "benchmarks" / "reliability" / "tiny.py"
MESSAGE = "stopped; the same command goes on from here"
MOMENTS = {
    "preparation": "cache/prepare/*/*",  # the first video is on its way
    "training": "seed-0/models/*/manifest.json",  # in worker processes
    "features": "seed-0/predictions/*/manifest.json",
}

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads processes from /proc")


def test_sigterm_after_the_work_is_done_changes_nothing():
    lines = (
        "import os, signal", "from examples.mpii_cooking import interrupts", "interrupts.stoppable(lambda: None)",
        "os.kill(os.getpid(), signal.SIGTERM)", "print('done')",
    )  # fmt: skip
    done = run_python("-c", "; ".join(lines))
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def descendants(pid):
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [*children, *(grandchild for child in children for grandchild in descendants(child))]


def running(pid):
    """Whether a process still runs; one that has ended but was not waited for does not."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


def press_ctrl_c(pid):
    """Ctrl-C reaches every process of the terminal's foreground, here of the command's own process group."""
    os.killpg(pid, signal.SIGINT)


def terminate(pid):
    """SIGTERM reaches one process, most often."""
    os.kill(pid, signal.SIGTERM)


def terminate_all(pid):
    """Some service managers send SIGTERM to every process."""
    os.killpg(pid, signal.SIGTERM)


def kill_worker(pid):
    """The kernel kills a process when memory runs out; here one of those that train."""
    training = [child for child in descendants(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(training[0]), signal.SIGKILL)


def interrupted(arguments, folder, moment, stop):
    """Start a command, stop it at a moment, and return its exit code, its seconds to the end and what it prints."""
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
    stop(process.pid)
    pressed = time.monotonic()
    code = process.wait(timeout=TIMEOUT)
    while any(running(pid) for pid in others) and time.monotonic() - pressed < 2 * SECONDS:
        time.sleep(0.02)
    return code, time.monotonic() - pressed, errors.read_text().removeprefix(said)


@pytest.mark.parametrize(
    ("stop", "expected", "moments"),
    [
        (press_ctrl_c, 130, ["preparation", "features"]),
        (terminate, 143, ["preparation"]),
        (terminate_all, 143, ["training"]),
    ],
)
def test_a_stopped_run_ends_with_one_line_and_the_same_command_goes_on(tmp_path, stop, expected, moments):
    # With fewer networks, but in worker processes only the usual command trains.
    arguments = command(tmp_path) if "training" in moments else [sys.executable, TINY, *command(tmp_path)[2:]]
    finished = {}
    for name in moments:
        code, seconds, said = interrupted(arguments, tmp_path, MOMENTS[name], stop)
        assert code == expected, name
        assert seconds < SECONDS, name
        before, _, after = said.partition(f"\n{MESSAGE}\n")
        assert "Traceback" not in before, name
        assert not after.strip(), f"{name}: the line is the last one"
        assert not (tmp_path / "results.json").exists()
        prepared = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/prepare/*/manifest.json")}
        assert finished.items() <= prepared.items(), f"{name}: finished work was done again"
        finished = prepared
    assert len(finished) == 12 or "features" not in moments


@pytest.mark.parametrize("stop", [press_ctrl_c, terminate])
def test_all_ranks_of_a_stopped_run_end_with_one_line(tmp_path, stop):
    code, seconds, said = interrupted(by_two(tmp_path), tmp_path, MOMENTS["training"], stop)
    assert code != 0
    assert seconds < SECONDS
    assert said.count(MESSAGE) == 1
    assert 'run_all.py", line' not in said, "the traceback is torchrun's alone"


def test_a_killed_training_process_ends_the_run_with_one_sentence(tmp_path):
    code, seconds, said = interrupted(command(tmp_path), tmp_path, MOMENTS["training"], kill_worker)
    assert code == 2
    assert seconds < SECONDS
    assert said.count("error: a process that trains was killed") == 1
    assert "Traceback" not in said


def work(is_busy):
    """Get SIGTERM, and then wait, as for a lock that nobody gives back."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with interrupts.working_for_another() if is_busy else contextlib.nullcontext():
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.has_sigterm()
    time.sleep(TIMEOUT)


@pytest.mark.parametrize(("is_busy", "code"), [(True, 143), (False, -signal.SIGTERM)])
def test_a_worker_does_not_wait_for_more_after_sigterm(is_busy, code):
    process = multiprocessing.get_context("spawn").Process(target=work, args=(is_busy,))
    process.start()
    process.join(SECONDS)
    assert process.exitcode == code


@pytest.mark.parametrize(("is_stopped", "problem", "raised"), [
    (False, ValueError(), ValueError),
    (False, BrokenProcessPool(), workers.WorkerLostError),
    (True, BrokenProcessPool(), interrupts.Stopped),
])  # fmt: skip
def test_when_one_training_process_fails_the_others_get_sigterm(monkeypatch, is_stopped, problem, raised):
    monkeypatch.setattr(interrupts, "_has_sigterm", is_stopped)
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(TIMEOUT,))
    other.start()
    with pytest.raises(raised), workers._ending_together():
        raise problem
    other.join()
    assert other.exitcode == -signal.SIGTERM
