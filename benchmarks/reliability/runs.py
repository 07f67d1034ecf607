"""Starts the smoke run, and tells what it ends with, to be compared with an undisturbed one."""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from benchmarks.saving import ROOT

TIMEOUT = 3600  # seconds
LINGERING = 60  # seconds in which the workers of a killed process must end; on an idle machine they take one or two
OF_THE_START = ("command", "digest", "environment", "timings")  # in results.json: these differ from start to start

Outcome = dict[str, str]  # digests of what a run computed, by name


@dataclass
class Started:
    """A run that was started, and what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """What the run has printed so far, without progress bars."""
        text = self.log.read_text(errors="replace")
        return "\n".join(line.rpartition("\r")[2] for line in text.splitlines())

    @property
    def stage(self) -> str:
        """The stage that the run is in; "" before the first."""
        announced = [line.removesuffix(" ...") for line in self.said.splitlines() if line.endswith(" ...")]
        return announced[-1] if announced else ""

    def wait_for_work(self) -> None:
        """Return when the first stage begins, or the process has ended."""
        while not self.stage and self.process.poll() is None:
            time.sleep(0.02)

    def ended_within(self, seconds: float) -> bool:
        """Wait for the end of the process, that long at most, and return whether it came."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, *, workers: bool) -> bool:
        """Send SIGKILL to the process, and to its ``workers`` if asked. Return whether all of them have ended soon."""
        if workers:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        patience = time.monotonic() + LINGERING
        while time.monotonic() < patience:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.05)
        os.killpg(self.process.pid, signal.SIGKILL)
        return False

    def finish(self) -> str:
        """Wait for the end. Return what went wrong; "" for nothing."""
        self.process.wait(TIMEOUT)
        if self.process.returncode or "Traceback" in self.said:
            return f"exit code {self.process.returncode}: {self.said[-2000:]}"
        return ""


def start(output: Path, *, short: bool, log: str = "log", **variables: str) -> Started:
    """Start the smoke run, or the tiny one if ``short``, in a process group of its own; it writes to ``output``.

    ``variables`` are added to its environment.
    """
    program = "benchmarks/reliability/tiny.py" if short else "examples/mpii_cooking/run_all.py"
    path = output.with_name(f"{output.name}.{log}")
    command = [sys.executable, str(ROOT / program), "--preset", "smoke", "--output", str(output)]
    with path.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | variables, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    atexit.register(_end, process)
    return Started(process, path)


def undisturbed(output: Path, *, short: bool) -> tuple[Outcome, float]:
    """Run from nothing to the end. Return what came out, and the seconds from the first stage to the end."""
    run = start(output, short=short)
    run.wait_for_work()
    started = time.monotonic()
    if problem := run.finish():
        raise RuntimeError(f"the undisturbed run ended with {problem}")
    return outcome(output), time.monotonic() - started


def outcome(output: Path) -> Outcome:
    """Return the digests of all results that follow from the data, of the decision values and of all weights."""
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    results = {name: value for name, value in results.items() if name not in OF_THE_START}
    del results["dataset"]["folder"]
    for curve in results["curves"]:
        del curve["seconds"]
    found = {name: _digest(json.dumps(value).encode()) for name, value in results.items()}
    with np.load(output / "scores.npz") as scores:
        found |= {f"scores of {name}": _digest(scores[name].tobytes()) for name in scores.files}
    for folder in output.glob("seed-*/models/*"):
        found[folder.name] = _digest(max(folder.glob("*.safetensors")).read_bytes())
    return found


def differing(found: Outcome, expected: Outcome) -> list[str]:
    """Return the names of what differs."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no run behind when the script is stopped."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
