"""Kill the smoke run at random moments, start it again each time, and compare what it ends with.

    python benchmarks/reliability/kills.py [--short]

SIGKILL hits the process alone or with its workers, at a random moment after the first stage has begun. The next start
goes on, and is killed too; after some kills one is quicker than its killer. What it ends with must be, to the bit, what
an undisturbed run ends with: every number of the tables, every decision value and all weights.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures, runs

KILLS, SHORT_KILLS = 100, 1
LATEST = 0.3  # of the time of an undisturbed run, after which a start is killed

ANCHOR = (
    "Composer (`test_resumption`): equal at tolerance 0 after stops at 6 points; Lightning (`test_restart_parity`): "
    "losses within 1e-8; in both, the process stops by itself, without SIGKILL"
)


def measure(short: bool) -> Iterator[figures.Figure]:
    """Kill until there are enough kills, and finish every run that was killed."""
    wanted, generator = SHORT_KILLS if short else KILLS, random.Random(0)
    stages: Counter[str] = Counter()
    failures: list[str] = []
    held = 0
    with TemporaryDirectory() as name:
        expected, seconds = runs.undisturbed(Path(name, "undisturbed"), short=short)
        for number in count():
            if stages.total() == wanted:
                break
            output = Path(name, f"run-{number}")
            killed, problems = _killed_and_finished(output, wanted - stages.total(), seconds, generator, short=short)
            if not problems:
                problems = runs.differing(runs.outcome(output), expected)
            stages.update(killed)
            held += 0 if problems else len(killed)
            failures += [f"killed in {', '.join(killed)}: {problem}" for problem in problems]
            print(f"{stages.total()} kills, {held} of them without a trace", flush=True)
    where = ", ".join(f"{times} in {stage}" for stage, times in stages.items())
    yield figures.Figure(
        "SIGKILL at a random moment, then the same command again: tables, decision values and weights equal to the bit",
        held, stages.total(), anchor=ANCHOR, detail=where, failures=tuple(failures),
    )  # fmt: skip


def _killed_and_finished(
    output: Path, kills: int, seconds: float, generator: random.Random, *, short: bool
) -> tuple[list[str], list[str]]:
    """Start the run until it ends, and kill it on the way. Return the stages it was killed in, and what went wrong."""
    stages: list[str] = []
    problems = []
    while len(stages) < kills:
        run = runs.start(output, short=short)
        run.wait_for_work()
        if run.ended_within(generator.uniform(0, LATEST * seconds)):
            break
        stages.append(run.stage)
        if not run.kill(workers=generator.random() < 0.5):
            problems.append(f"a worker outlived its killed parent by {runs.LINGERING} s")
    else:
        run = runs.start(output, short=short)
    return stages, problems + ([problem] if (problem := run.finish()) else [])


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.RUNS, measure))
