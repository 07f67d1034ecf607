"""Time the hot stages of the paper's pipeline beside other ways to the same answers.

    python benchmarks/pipeline.py --device cpu|cuda [--quick | --full] [--json FILE]

Preparing a video (decode, flow, windows), searching motion maps for the best window, temporal correlation pooling and
feature extraction. Every answer first has to be right; then everybody takes turns. Results are a JSON file and a table;
`python benchmarks/tables.py` brings that of docs/speed.md up to date.
"""

import argparse
import json
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import torch
from threadpoolctl import threadpool_limits

import supervised_st
from benchmarks import measure
from benchmarks.pipeline_plan import PLANS
from benchmarks.pipeline_stages import Contestant, Stage, stages
from benchmarks.records import ROOT, Row, provenance
from benchmarks.tables import RESULTS, pipeline_table

LONG_SECONDS = 30
"""Who takes longer has one turn only, before the others."""

ROUNDS, QUICK_ROUNDS = 5, 2


def run_stage(stage: Stage, clock: measure.Clock, rounds: int) -> Row:
    """Check everybody, then time those who are right; nobody is timed where ours is wrong."""
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


def _checked(contestant: Contestant, clock: measure.Clock) -> Row:
    answers: list[Any] = []
    seconds = clock(lambda: answers.append(contestant.call()), 1)
    error = contestant.error(answers[0])
    entry = {"error": error, "budget": contestant.budget, "role": contestant.role, "checked_in": seconds}
    if error <= contestant.budget:
        return {"status": "right"} | entry
    return {"status": "wrong", "reason": f"error is {error:.1e}, allowed is {contestant.budget:.1e}"} | entry


def main() -> int:
    """Measure the plan, keep and print; return 1 if a stage failed."""
    arguments = _arguments()
    device, is_quick = arguments.device, arguments.plan == "quick"
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    rounds = arguments.rounds or (QUICK_ROUNDS if is_quick else ROUNDS)
    results = _header(device, arguments.threads, rounds) | {"rows": []}
    clock = measure.CudaClock() if device == "cuda" else measure.cpu_clock
    with TemporaryDirectory() as folder, threadpool_limits(arguments.threads):
        for stage in stages(PLANS[device][arguments.plan], device, Path(folder)):
            print(stage.name, flush=True)
            results["rows"].append(run_stage(stage, clock, rounds))
    kept_in = ROOT / "runs" if is_quick else RESULTS / supervised_st.__version__
    path = arguments.json or kept_in / f"pipeline-{device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{pipeline_table(results)}\n\n{path}")
    return int(any(row["failed"] for row in results["rows"]))


def _header(device: str, threads: int, rounds: int) -> dict[str, Any]:
    header = provenance(device, threads, rounds)
    del header["absent"]  # Of other contestants.
    header["versions"] |= {name: version(name) for name in ("numpy", "av", "opencv-contrib-python-headless")}
    return header | {"date": datetime.now(UTC).date().isoformat(), "command": shlex.join(["python", *sys.argv])}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(PLANS), default="cpu")
    parser.add_argument("--quick", dest="plan", action="store_const", const="quick", help="small sizes: seconds")
    parser.add_argument(
        "--full", dest="plan", action="store_const", const="full", help="the paper's networks on a CPU too; all levels"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are kept")
    parser.add_argument("--rounds", type=int, help=f"turns for everybody ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    parser.set_defaults(plan="default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
