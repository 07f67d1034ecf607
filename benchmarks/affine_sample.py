"""Time affine_sample against every other way to the same values.

    python benchmarks/affine_sample.py --device cpu|cuda [--quick | --full] [--shapes TEXT ...] [--json FILE] [--fresh]

Only right answers are timed, in turns. Results are saved after each case, and a stopped run resumes where it was.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import measure
from benchmarks.cases import PHASES, Case, ideal_bytes, plan
from benchmarks.contestants import BASELINES, OURS, Contestant, contestants
from benchmarks.correctness import Inputs, answers, complaint, errors, solves_another_problem
from benchmarks.measure import Call, Clock, Gauges
from benchmarks.records import Measured, provenance, results_file
from benchmarks.saving import Row
from benchmarks.timing_tables import line

ROUNDS, QUICK_ROUNDS = 31, 7


def timed_call(contestant: Contestant, inputs: Inputs) -> Call:
    """Return what is timed: the forward, and the backward of the phase; no loss, no conversion of theta."""
    case, wanted = inputs.case, PHASES[inputs.case.phase]
    image = inputs.image.detach().requires_grad_("image" in wanted)
    parameter = contestant.parameter(inputs.theta, case).detach().requires_grad_("theta" in wanted)
    leaves = {"image": image, "theta": parameter}

    def forward() -> Tensor:
        return contestant.sample(image, parameter, case.size, case.align_corners)

    if not wanted:
        return contestant.around(forward)
    out = forward().detach()
    gradient = torch.empty_like(out).copy_(inputs.gradient)  # in the layout that the next layer would return
    return contestant.around(lambda: torch.autograd.grad(forward(), [leaves[name] for name in wanted], gradient))


def run_case(case: Case, device: str, rounds: int, everyone: Sequence[Contestant], gauges: Gauges | None = None) -> Row:
    """Check all contestants, then time those that are right; time none if the library is wrong.

    ``gauges`` are those of a GPU; without them, calls are timed as on a CPU.
    """
    inputs = Inputs(case, device)
    suited = [contestant for contestant in everyone if contestant.suits(case, device)]
    entries = {contestant.name: _checked(contestant, inputs) for contestant in suited}
    own = entries[OURS]
    baselines = [entries[name]["errors"] for name in BASELINES if "errors" in entries.get(name, {})]
    failed = own.get("reason") or complaint(own["errors"], baselines, case, device)
    row = {"case": asdict(case), "failed": failed, "ideal_bytes": ideal_bytes(case), "contestants": entries}
    if not failed:
        right = [contestant for contestant in suited if "reason" not in entries[contestant.name]]
        calls = {contestant.name: timed_call(contestant, inputs) for contestant in right}
        if gauges:
            _time_on_gpu(calls, gauges, rounds, entries)
        else:
            _time(calls, measure.cpu_clock, rounds, entries, "us")
    return row


def _checked(contestant: Contestant, inputs: Inputs) -> Row:
    try:
        found = errors(answers(contestant, inputs), inputs)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        return {"status": "cannot", "reason": reason}
    if contestant.name != OURS and not contestant.is_coarse(inputs.case) and solves_another_problem(found):
        return {"status": "wrong", "reason": "not the same values or gradients", "errors": found}
    return {"status": "right", "errors": found}


def _time(calls: dict[str, Call], clock: Clock, rounds: int, entries: dict[str, Row], kind: str) -> None:
    for name, seconds in measure.take_turns(calls, clock, rounds).items():
        entries[name] |= {"status": "timed", kind: _microseconds(seconds)}


def _time_on_gpu(calls: dict[str, Call], gauges: Gauges, rounds: int, entries: dict[str, Row]) -> None:
    replays = {}
    for name, call in calls.items():
        entries[name]["peak_bytes"] = gauges.peak_bytes(call)
        try:
            replays[name] = gauges.replay(call)
        except RuntimeError as error:
            entries[name]["graph_reason"] = str(error).partition("\n")[0]
    _time(replays, gauges.clock, rounds, entries, "graph_us")
    _time(calls, gauges.host_clock, rounds, entries, "host_us")


def _microseconds(seconds: Sequence[float]) -> list[float]:
    return [round(second * 1e6, 3) for second in seconds]


def main() -> int:
    """Measure the plan; return 1 if a case failed."""
    parser = measure.timing_options(
        __doc__.splitlines()[0], quick="a few cases, without the compiler", full="every combination, in hours"
    )
    parser.add_argument("--shapes", nargs="+", metavar="TEXT", default=[""], help="cases whose name has a TEXT in it")
    parser.add_argument("--fresh", action="store_true", help="discard the results in the file")
    arguments = parser.parse_args()
    device, is_quick = arguments.device, arguments.plan == "quick"
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", module=r"torch\..*")  # the compiler's, about itself
    rounds = arguments.rounds or (QUICK_ROUNDS if is_quick else ROUNDS)
    header = provenance(device, arguments.threads) | {"rounds": rounds}
    path = arguments.json or results_file(device, is_quick=is_quick)
    measured = Measured(path, header, plan("full", device), fresh=arguments.fresh)
    chosen = [case for case in plan(arguments.plan, device) if any(text in case.name for text in arguments.shapes)]
    if not chosen:
        sys.exit(f"no case has any of {arguments.shapes} in its name")
    measured.header["copy_gigabytes_per_second"] = measure.copy_gigabytes_per_second(device)
    # Compiling takes longer than the rest of the quick plan.
    everyone = [one for one in contestants() if not (is_quick and one.name.startswith("compiled"))]
    try:
        last = None
        for case in (bar := tqdm(measured.missing(chosen), unit="case")):
            if last is None or replace(case, theta=last.theta) != last:
                torch.compiler.reset()  # without it, the compiler silently gives up after some number of shapes
            row = run_case(case, device, rounds, everyone, measure.GPU if device == "cuda" else None)
            measured.add(row)
            bar.write(line(row))
            last = case
    except KeyboardInterrupt:
        print(f"Stopped. {path} has the cases measured so far; the same command resumes.")
        return 130
    failed = len(measured.missing(chosen))
    print(f"{len(chosen) - failed} of {len(chosen)} cases measured, {failed} failed: {path}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
