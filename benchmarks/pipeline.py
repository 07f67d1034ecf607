"""Time the hot stages of the paper's pipeline against other ways to the same answers.

    python benchmarks/pipeline.py --device cpu|cuda [--quick | --full] [--json FILE]

Only right answers are timed, in turns. The results become a JSON file and a table.
"""

import io
import sys
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch
from threadpoolctl import threadpool_limits

from benchmarks import measure
from benchmarks.pipeline_plan import PLANS
from benchmarks.pipeline_stages import Solution, Stage, stages
from benchmarks.records import provenance, results_file
from benchmarks.saving import Row, save
from benchmarks.timing_tables import pipeline_table

LONG_SECONDS = 30  # a contestant that takes longer has a single turn, before the others
ROUNDS, QUICK_ROUNDS = 5, 2


def run_stage(stage: Stage, clock: measure.Clock, rounds: int) -> Row:
    """Check all contestants, then time those that are right; time none if ours is wrong."""
    entries = {name: _checked(contestant, clock) for name, contestant in stage.contestants.items()}
    own = next(iter(entries.values()))
    row = {"stage": stage.name, "unit": stage.unit, "count": stage.count, "failed": own.get("reason", "")}
    right = [name for name, entry in entries.items() if entry["status"] == "right" and not row["failed"]]
    once = {name: entries[name].pop("checked_in") for name in entries}
    calls = {name: stage.contestants[name].call for name in right if once[name] <= LONG_SECONDS}
    seconds = {name: [once[name]] for name in right} | measure.take_turns(calls, clock, rounds)
    for name, of in seconds.items():
        entries[name] |= {"status": "timed", "seconds": of}
    return row | {"contestants": entries}


def _checked(contestant: Solution, clock: measure.Clock) -> Row:
    answers: list[Any] = []
    seconds = clock(lambda: answers.append(contestant.call()), 1)
    error = contestant.error(answers[0])
    entry = {"error": error, "budget": contestant.tolerance, "role": contestant.role, "checked_in": seconds}
    if error <= contestant.tolerance:
        return {"status": "right"} | entry
    return {"status": "wrong", "reason": f"error is {error:.1e}, allowed is {contestant.tolerance:.1e}"} | entry


def main() -> int:
    """Measure the plan, save and print; return 1 if a stage failed."""
    arguments = measure.timing_options(
        __doc__.splitlines()[0], quick="small sizes, in seconds", full="all levels, and the paper's networks on a CPU"
    ).parse_args()
    device, is_quick = arguments.device, arguments.plan == "quick"
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    rounds = arguments.rounds or (QUICK_ROUNDS if is_quick else ROUNDS)
    header = provenance(device, arguments.threads) | {"rounds": rounds}
    clock, rows = measure.CLOCKS[device], []
    hidden = redirect_stderr(io.StringIO())  # the progress bars
    with TemporaryDirectory() as folder, threadpool_limits(arguments.threads), hidden:
        for stage in stages(PLANS[device][arguments.plan], device, Path(folder)):
            print(stage.name, flush=True)
            rows.append(run_stage(stage, clock, rounds))
    path = arguments.json or results_file(f"pipeline-{device}", is_quick=is_quick)
    print(f"\n{pipeline_table(save(path, header | {'rows': rows}))}\n\n{path}")
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
