"""Let the disk fail at random operations of whole runs, start again each time, and compare what they end with.

    python benchmarks/reliability/faulty_runs.py [--short]

With the library of ``faults``, each start fails at a random operation of one of its processes: on a full disk, on one
that has turned read-only, or by one error. It has to end with exit code 2 and one error, which names a file. The next
start goes on, until one ends before its fault: with what an undisturbed run ends with, to the bit.
"""

import random
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import faults, figures, runs

STARTS, SHORT_STARTS = 30, 1
LAST_OPERATION = 400  # of a process, at which a fault may come
EXIT_CODE = 2


def measure(short: bool) -> Iterator[figures.Figure]:
    """Let starts fail until there are enough, and finish every run."""
    wanted, generator = SHORT_STARTS if short else STARTS, random.Random(0)
    failed, right, said = 0, [], []
    with TemporaryDirectory() as name:
        library = faults.built(Path(name))
        expected, _ = runs.undisturbed(Path(name, "undisturbed"), short=short)
        for number in count():
            if failed == wanted:
                break
            output = Path(name, f"run-{number}")
            ends = start_with_faults(output, library, wanted - failed, generator, short=short)
            failed += len(ends)
            said += [f"{fault}: {problem}" for fault, problem in ends if problem]
            last = runs.start(output, short=short)
            right.append(last.finish() or ", ".join(runs.differing(runs.outcome(output), expected)))
            print(f"{failed} starts failed, {len(said)} of them wrongly; {right.count('')} right ends", flush=True)
    yield figures.Figure(
        "a disk fault at a random operation of a whole run: one error that names a file, and exit code 2",
        failed - len(said), failed, failures=tuple(said), anchor=faults.ANCHORS[faults.FAULTS[0].code],
    )  # fmt: skip
    yield figures.Figure(
        "runs that failed so, some of them often, and then went on: results equal to the bit",
        right.count(""), len(right), failures=tuple(filter(None, right)),
    )  # fmt: skip


def start_with_faults(
    output: Path, library: Path, most: int, generator: random.Random, *, short: bool
) -> list[tuple[str, str]]:
    """Start a run until it ends well. Return the fault of each start before, and what was wrong with its end."""
    found: list[tuple[str, str]] = []
    while len(found) < most:
        fault = generator.choice([fault for fault in faults.FAULTS if fault.code])
        first = generator.randint(1, LAST_OPERATION)
        run = runs.start(
            output, short=short, LD_PRELOAD=str(library), FAULT_FOLDER=str(output), FAULT_LETTERS=fault.letters,
            FAULT_FIRST=str(first), FAULT_CODE=str(fault.code), FAULT_LASTS=str(int(fault.lasts)),
        )  # fmt: skip
        run.process.wait(runs.TIMEOUT)
        if run.process.returncode == 0:
            break
        errors = [line for line in run.said.splitlines() if line.startswith("error: ")]
        is_clear = run.process.returncode == EXIT_CODE and len(errors) == 1 and str(output) in errors[0]
        is_clear = is_clear and "Traceback" not in run.said
        problem = "" if is_clear else f"exit code {run.process.returncode}: {run.said[-1500:]}"
        found.append((f"{fault.name}, operation {first}", problem))
    return found


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.RUNS, measure))
