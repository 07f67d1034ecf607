"""Start the smoke run twice in one output folder, and compare what it ends with.

    python benchmarks/reliability/two_starts.py [--short]

The second start comes at a random moment of the first one's first seconds. One has to go on, while the other names the
process that holds the folder and ends. After some pairs, of which the first start is killed on the way, one start ends
by itself: with what an undisturbed run ends with, to the bit.
"""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures, runs

PAIRS, SHORT_PAIRS = 50, 1
PAIRS_PER_RUN = 5
LATEST_START = 5.0  # seconds after the first start, which takes about as long to import its modules
LATEST_KILL = 0.2  # of the time of an undisturbed run


def measure(short: bool) -> Iterator[figures.Figure]:
    """Start pairs until there are enough, and finish every run."""
    generator, failures, refused = random.Random(0), [], 0
    ends: list[str] = []  # what is wrong with the end of each run
    pairs, of_this_run = SHORT_PAIRS if short else PAIRS, 0
    with TemporaryDirectory() as name:
        expected, seconds = runs.undisturbed(Path(name, "undisturbed"), short=short)
        for number in range(1, 1 + pairs):
            output = Path(name, f"run-{len(ends)}")
            winner, problem = start_pair(output, generator, short=short)
            refused += not problem
            failures += [f"pair {number}: {problem}"] if problem else []
            of_this_run += 1
            is_last = of_this_run == PAIRS_PER_RUN or number == pairs
            if not is_last and not winner.ended_within(generator.uniform(0, LATEST_KILL * seconds)):
                winner.kill(workers=True)
                continue
            ends.append(winner.finish() or ", ".join(runs.differing(runs.outcome(output), expected)))
            of_this_run = 0
            print(f"{number} pairs, {refused} with one refused; {ends.count('')} right ends", flush=True)
    yield figures.Figure(
        "two starts at once in one output folder: one goes on, the other names it and ends",
        refused, pairs, failures=tuple(failures),
    )  # fmt: skip
    yield figures.Figure(
        f"up to {PAIRS_PER_RUN} such pairs in one folder, then the end of the run: results equal to the bit",
        ends.count(""), len(ends), failures=tuple(filter(None, ends)),
    )  # fmt: skip


def start_pair(output: Path, generator: random.Random, *, short: bool) -> tuple[runs.Started, str]:
    """Start two runs. Return the one that goes on, and what went wrong."""
    both = [runs.start(output, short=short, log="first.log")]
    time.sleep(generator.uniform(0, LATEST_START))
    both.append(runs.start(output, short=short, log="second.log"))
    while all(run.process.poll() is None for run in both):
        time.sleep(0.05)
    loser, winner = sorted(both, key=lambda run: run.process.poll() is None)
    said = loser.said
    if not loser.process.returncode:
        return winner, "both starts ended well"
    named = str(winner.process.pid) in said and "Traceback" not in said
    return winner, "" if named else f"the second start ended with {loser.process.returncode}: {said[-500:]}"


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.RUNS, measure))
