"""Kill or stop processes of ``torchrun`` at random moments, go on with another number of them, and compare the end.

    python benchmarks/reliability/ranks.py [--short]

``torchrun`` starts the smoke run with one, two or four processes, and each of these ranks gets SIGKILL, and at another
time SIGTERM. All must have ended within a minute, and ``torchrun`` must name what came first. The next start goes on
with another number of ranks. What a run ends with must equal, to the bit, what a single process ends with undisturbed.
Processes are found in ``/proc``, which Linux has.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures, runs
from benchmarks.saving import ROOT

RANKS = (1, 2, 4)
ROUNDS = 2  # of the long form
LATEST = 0.4  # of the time of an undisturbed run, after which a rank is hit
SOON = 60.0  # seconds
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
FIRST = "Root Cause (first observed failure)"  # what torchrun calls the error that it saw first
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}
"""With what a rank ends."""
ANCHOR = "torchft: recovered replicas have equal weights, in one process group; no test with SIGKILL was found"


class Hit(NamedTuple):
    """A signal to one of several ranks."""

    number: signal.Signals
    rank: int
    ranks: int

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.number.name} to rank {self.rank} of {self.ranks}"


class Ended(NamedTuple):
    """How a hit run has ended."""

    hit: Hit
    seconds: float
    problem: str  # "" for none


def measure(short: bool) -> Iterator[figures.Figure]:
    """Hit every rank of every number of ranks, and finish every run."""
    generator = random.Random(0)
    hits = [Hit(signal.SIGKILL, 1, 2)] if short else _all_hits(generator)
    ended: list[Ended] = []
    ends: list[str] = []  # what is wrong with each run in the end
    with TemporaryDirectory() as name:
        expected, seconds = runs.undisturbed(Path(name, "undisturbed"), short=short)
        while hits:
            output = Path(name, f"run-{len(ends)}")
            problem = hit_until_it_ends(output, hits, ended, LATEST * seconds, generator, short=short)
            ends.append(problem or ", ".join(runs.differing(runs.outcome(output), expected)))
    for number in CODES:
        chosen = [each for each in ended if each.hit.number is number]
        if chosen:
            yield figures.Figure(
                f"{number.name} to one of 1, 2 or 4 processes of torchrun: all end within a minute, the cause named",
                sum(not each.problem for each in chosen), len(chosen),
                detail=f"the slowest took {max(each.seconds for each in chosen):.0f} s",
                failures=tuple(f"{each.hit}: {each.problem}" for each in chosen if each.problem),
            )  # fmt: skip
    yield figures.Figure(
        f"after {len(ended)} such signals, each start with another number of processes: results equal to the bit",
        ends.count(""), len(ends), anchor=ANCHOR, failures=tuple(filter(None, ends)),
    )  # fmt: skip


def _all_hits(generator: random.Random) -> list[Hit]:
    """Return every hit, so that the number of ranks changes from one to the next where it can."""
    every = [Hit(number, rank, ranks) for number in CODES for ranks in RANKS for rank in range(ranks)] * ROUNDS
    generator.shuffle(every)
    hits = [every.pop()]
    while every:
        other = next((hit for hit in every if hit.ranks != hits[-1].ranks), every[0])
        every.remove(other)
        hits.append(other)
    return hits


def hit_until_it_ends(
    output: Path, hits: list[Hit], ended: list[Ended], latest: float, generator: random.Random, *, short: bool
) -> str:
    """Start the run until it ends, and hit it on the way. Return what is wrong with its end; "" for nothing."""
    while True:
        run = _start(output, hits[0].ranks if hits else RANKS[0], short=short)
        run.wait_for_work()
        if not hits or run.ended_within(generator.uniform(0, latest)):
            return run.finish()
        started = _descendants(run.process.pid)
        victim = next((pid for pid in started if f"RANK={hits[0].rank}" in _environment(pid)), None)
        if victim is None:  # it has done its part, and others still write
            return run.finish()
        hit = _hit(run, started, victim, hits[0])
        if run.process.returncode == 0:  # it was about to end, having done its part
            return run.finish()
        ended.append(hit)
        hits.pop(0)
        print(f"{ended[-1].hit}: {ended[-1].seconds:.1f} s {ended[-1].problem}", flush=True)


def _start(output: Path, ranks: int, *, short: bool) -> runs.Started:
    program = ROOT / ("benchmarks/reliability/tiny.py" if short else "examples/mpii_cooking/run_all.py")
    log, options = output.with_name(f"{output.name}.log"), ("--preset", "smoke", "--output", str(output))
    with log.open("wb") as file:
        command = [sys.executable, *TORCHRUN, str(ranks), str(program), *options]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
    return runs.Started(process, log)


def _hit(run: runs.Started, started: list[int], victim: int, hit: Hit) -> Ended:
    """Send the signal, and wait until all that were started have ended."""
    os.kill(victim, hit.number)
    began = time.monotonic()
    while run.process.poll() is None or any(map(_is_running, started)):
        if time.monotonic() - began > SOON:
            for pid in (run.process.pid, *filter(_is_running, started)):
                os.kill(pid, signal.SIGKILL)
            return Ended(hit, SOON, "not all have ended")
        time.sleep(0.05)
    seconds, cause = time.monotonic() - began, run.said.partition(FIRST)[2]
    if f"exitcode  : {CODES[hit.number]} " not in cause:
        return Ended(hit, seconds, f"torchrun names another cause:{cause or run.said[-500:]}")
    return Ended(hit, seconds, "a rank shows a traceback" if 'run_all.py", line' in run.said else "")


def _descendants(pid: int) -> list[int]:
    children = [int(child) for child in _told_of(pid, f"task/{pid}/children").split()]
    return [*children, *(other for child in children for other in _descendants(child))]


def _environment(pid: int) -> list[str]:
    return _told_of(pid, "environ").split("\0")


def _is_running(pid: int) -> bool:
    status = _told_of(pid, "status")
    return bool(status) and "State:\tZ" not in status


def _told_of(pid: int, file: str) -> str:
    """Return what ``/proc`` tells of a process; "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.TRAINING, measure))
