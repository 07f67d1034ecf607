"""Time affine_sample beside every other way to the same numbers.

    python benchmarks/affine_sample.py --device cpu|cuda [--quick | --full] [--shapes TEXT ...] [--json FILE] [--fresh]

Each case first has to be right: values and gradients against float64, no further from it than the usual pair. Then
everybody takes turns. Results are kept after each case, so a run that was stopped goes on where it was;
`python benchmarks/tables.py` brings the tables of README and docs up to date.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import measure
from benchmarks.cases import PHASES, Case, ideal_bytes, plan
from benchmarks.contestants import OURS, PAIRS, Call, CannotError, Contestant, absent, contestants
from benchmarks.gate import Inputs, answers, complaint, errors, solves_another_problem
from benchmarks.records import Results, Row, provenance, results_file
from benchmarks.tables import line

LAUNCH_BOUND_US = 5000
"""Cases in which the pair takes less on a GPU are also timed as replays of a CUDA graph, without the host."""

ROUNDS, QUICK_ROUNDS = 31, 7


def call_of(contestant: Contestant, inputs: Inputs) -> Call:
    """Return what is timed: the call, and its backward where the phase has one; no loss, no conversion of theta."""
    case, wanted = inputs.case, PHASES[inputs.case.phase]
    image = inputs.image.detach().requires_grad_("image" in wanted)
    parameter = contestant.parameter(inputs.theta, case).detach().requires_grad_("theta" in wanted)
    leaves = {"image": image, "theta": parameter}

    def forward() -> Tensor:
        return contestant.sample(image, parameter, case.out, case.align_corners)

    if not wanted:
        return contestant.around(forward)
    out = forward().detach()
    gradient = torch.empty_like(out).copy_(inputs.gradient)  # In the layout in which the next layer would return it.
    return contestant.around(lambda: torch.autograd.grad(forward(), [leaves[name] for name in wanted], gradient))


def run_case(case: Case, device: str, rounds: int, everyone: Sequence[Contestant]) -> Row:
    """Check everybody, then time those who are right; nobody is timed where the library is wrong."""
    inputs = Inputs(case, device)
    suited = [contestant for contestant in everyone if contestant.suits(case, device)]
    entries = {contestant.name: _checked(contestant, inputs) for contestant in suited}
    own, pairs = entries[OURS], [entries[name]["errors"] for name in PAIRS if "errors" in entries.get(name, {})]
    failed = own["reason"] if "reason" in own else complaint(own["errors"], pairs, case, device)
    row = {"case": asdict(case), "failed": failed, "ideal_bytes": ideal_bytes(case), "contestants": entries}
    if not failed:
        right = [contestant for contestant in suited if "reason" not in entries[contestant.name]]
        _time({contestant.name: call_of(contestant, inputs) for contestant in right}, device, rounds, row)
    return row


def _checked(contestant: Contestant, inputs: Inputs) -> Row:
    try:
        found = errors(answers(contestant, inputs), inputs)
    except CannotError as error:
        return {"status": "cannot", "reason": str(error)}
    except Exception as error:
        message = next(iter(str(error).splitlines()), "")
        return {"status": "cannot", "reason": f"{type(error).__name__}: {message}"[:200]}
    if contestant.name != OURS and not contestant.is_coarse(inputs.case) and solves_another_problem(found):
        return {"status": "wrong", "reason": "not the same values or gradients", "errors": found}
    return {"status": "right", "errors": found}


def _time(calls: dict[str, Call], device: str, rounds: int, row: Row) -> None:
    entries = row["contestants"]
    clock = measure.CudaClock() if device == "cuda" else measure.cpu_clock
    for name, seconds in measure.take_turns(calls, clock, rounds).items():
        entries[name] |= {"status": "timed", "us": _microseconds(seconds)}
    row["baseline"] = min((name for name in PAIRS if name in calls), key=lambda name: median(entries[name]["us"]))
    if device == "cuda":
        for name, call in calls.items():
            entries[name]["peak_bytes"] = measure.peak_bytes(call)
        if median(entries[row["baseline"]]["us"]) < LAUNCH_BOUND_US:
            _time_replays(calls, clock, rounds, entries)


def _time_replays(calls: dict[str, Call], clock: measure.Clock, rounds: int, entries: dict[str, Row]) -> None:
    replays = {}
    for name, call in calls.items():
        try:
            replays[name] = measure.replay(call)
        except RuntimeError as error:
            entries[name]["graph_reason"] = str(error).partition("\n")[0]
    for name, seconds in measure.take_turns(replays, clock, rounds).items():
        entries[name]["graph_us"] = _microseconds(seconds)


def _microseconds(seconds: Sequence[float]) -> list[float]:
    return [round(second * 1e6, 3) for second in seconds]


def main() -> int:
    """Measure the plan; return 1 if a case failed."""
    arguments = _arguments()
    device, name = arguments.device, arguments.plan
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", module=r"torch\..*")  # The compiler's, about its own parts.
    rounds = arguments.rounds or (QUICK_ROUNDS if name == "quick" else ROUNDS)
    header = provenance(device, arguments.threads, rounds)
    path = arguments.json or results_file(device, is_quick=name == "quick")
    results = Results(path, header, fresh=arguments.fresh)
    chosen = [case for case in plan(name, device) if any(text in case.name for text in arguments.shapes)]
    if not chosen:
        sys.exit(f"no case has any of {arguments.shapes} in its name")
    clock = measure.CudaClock() if device == "cuda" else measure.cpu_clock
    results.header["copy_gigabytes_per_second"] = measure.copy_gigabytes_per_second(device, clock)
    # Compiling takes longer than all of the quick plan.
    everyone = [contestant for contestant in contestants() if name != "quick" or contestant.name != "compiled pair"]
    for contestant, reason in absent().items():
        print(f"{contestant} does not take part: {reason}")
    try:
        _run(results, results.missing(chosen), device, rounds, everyone)
    except KeyboardInterrupt:
        print(f"Stopped. {path} has what was measured; the same command goes on.")
        return 130
    failed = results.failed(chosen)
    print(f"{len(chosen) - failed} of {len(chosen)} cases measured, {failed} failed: {path}")
    return int(failed > 0)


def _run(results: Results, cases: Sequence[Case], device: str, rounds: int, everyone: Sequence[Contestant]) -> None:
    last = None
    for case in (bar := tqdm(cases, unit="case")):
        if last is None or replace(case, theta=last.theta) != last:
            torch.compiler.reset()  # Else the compiler gives up after a number of shapes, without a word.
        row = run_case(case, device, rounds, everyone)
        results.add(row)
        bar.write(line(row))
        last = case


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", dest="plan", action="store_const", const="quick", help="a few cases, no compiler")
    parser.add_argument("--full", dest="plan", action="store_const", const="full", help="every combination: hours")
    parser.add_argument(
        "--shapes", nargs="+", metavar="TEXT", default=[""], help="only cases with a TEXT in their name"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are kept")
    parser.add_argument("--fresh", action="store_true", help="forget what the file has")
    parser.add_argument("--rounds", type=int, help=f"turns for everybody ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    parser.set_defaults(plan="default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
