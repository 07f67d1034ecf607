"""The steps of a session on a GPU that measure. ``device_session.py`` starts each in a process of its own.

Results are saved after each case, and no case is begun once the time is up. In a rehearsal, Triton's interpreter runs
small cases on a CPU: everything but the numbers is as on a GPU.
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import host_time, measure
from benchmarks.affine_sample import run_case, timed_call
from benchmarks.cases import Case, headline, plan, shapes, vary
from benchmarks.contestants import Contestant, contestants
from benchmarks.correctness import Inputs, answers, complaint, errors
from benchmarks.launch_tables import Table, tables
from benchmarks.measure import Call, Gauges, take_turns
from benchmarks.records import Measured, provenance
from benchmarks.saving import Row, save
from benchmarks.timing_tables import line
from supervised_st._sampler import kernels, launches
from supervised_st.types import Backend

WARMED_IMAGES = 16  # a kernel is the same for any larger batch that 16 divides


@dataclass(frozen=True)
class Bench:
    """What measures."""

    device: str
    backend: Backend  #: of the library
    compiler: str  #: of compiled contestants
    gauges: Gauges
    rounds: int
    host_rounds: int
    processes: int  #: that compile kernels at the same time
    threads: int

    def contestants(self) -> list[Contestant]:
        """Return all contestants, the library first."""
        return contestants(self.backend, self.compiler)


def _called(call: Call) -> Call:
    call()
    return call


def _once(call: Call, repeats: int) -> float:
    return measure.cpu_clock(call, 1)


BENCHES = {
    False: Bench("cuda", "auto", "inductor", measure.GPU, rounds=7, host_rounds=25, processes=12, threads=8),
    True: Bench("cpu", "triton", "aot_eager", Gauges(_called, _once, _once, lambda call: 0), 1, 1, 1, 1),
}
"""By whether it is a rehearsal."""


class Step:
    """One run of a step: what it measures with, until when, and the file of its results."""

    def __init__(self, path: Path, seconds: float, commit: str, *, rehearse: bool) -> None:
        self.path, self.is_rehearsal, self.bench = path, rehearse, BENCHES[rehearse]
        self._end = time.monotonic() + seconds
        torch.set_num_threads(self.bench.threads)
        self.header = provenance(self.bench.device, self.bench.threads) | {"rounds": self.bench.rounds}
        self.header |= {"commit": commit} if commit else {}

    def cases(self, wanted: Iterable[Case]) -> list[Case]:
        """Return the cases, each of them once; in a rehearsal the first one, made small."""
        each = list(dict.fromkeys(wanted))
        return [small(each[0])] if self.is_rehearsal else each

    def seconds_left(self) -> float:
        """Return for how long cases may be begun."""
        return self._end - time.monotonic()

    def in_time(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield cases until the time is up, then say how many are left."""
        waiting = list(cases)
        while waiting and self.seconds_left() > 0:
            yield waiting.pop(0)
        if waiting:
            print(f"out of time: {len(waiting)} cases were not measured, from {waiting[0].name}")

    def save(self, rows: list[Row]) -> None:
        """Write the rows so far."""
        save(self.path, self.header | {"rows": rows})


def small(case: Case) -> Case:
    """Return a case that the interpreter runs in a second."""
    channels = 16 if case.layout == "channels_last" and case.channels % 16 == 0 else min(case.channels, 3)
    return replace(case, images=1, channels=channels, side=7, out=5, transforms=min(case.transforms, 2))


class Launched(NamedTuple):
    """How a kernel was launched; the last two are None in the interpreter."""

    kernel: str
    block: int | None
    warps: int | None
    registers_allowed: int | None
    registers: int | None
    spills: int | None


@contextmanager
def recorded() -> Iterator[list[Launched]]:
    """Yield the launches from now on, each kind of them once."""
    kind = type(kernels.forward_kernel)
    found: list[Launched] = []
    launcher = kind.__getitem__

    def record(kernel: Any, grid: tuple[int, ...]) -> Callable[..., object]:  # noqa: ANN401 - Triton has no types
        def launch(*arguments: object, **named: Any) -> object:  # noqa: ANN401
            compiled = launcher(kernel, grid)(*arguments, **named)
            build, used = named.get("BUILD"), [getattr(compiled, name, None) for name in ("n_regs", "n_spills")]
            options = getattr(build, "block", None), named.get("num_warps"), named.get("maxnreg")
            launched = Launched(kernel.fn.__name__, *options, *used)
            if launched not in found:
                found.append(launched)
            return compiled

        return launch

    with mock.patch.object(kind, "__getitem__", record):
        yield found


@contextmanager
def launched_by(table: Table) -> Iterator[None]:
    """Launch kernels by another table."""
    with mock.patch.dict(launches.LAUNCHES, table):
        forget()
        yield
    forget()


def forget() -> None:
    """Empty the caches of the sampler: what it remembers, it would launch again as it was."""
    for name, module in list(sys.modules.items()):
        if name.startswith("supervised_st._sampler"):
            for thing in vars(module).values():
                if hasattr(thing, "cache_clear"):
                    thing.cache_clear()


def run_kernels(step: Step) -> bool:
    """Run every kernel in all formats, and compare its results with float64."""
    of = shapes("cuda")
    frames, features = (replace(of[name][1], images=2, phase="both") for name in ("stream", "features"))
    formats = [*vary(frames, dtype=("float32", "float16", "bfloat16")), replace(frames, dtype="uint8", phase="theta")]
    formats += vary(replace(features, layout="channels_last"), dtype=("float32", "float16"))
    ours, rows = step.bench.contestants()[0], list[Row]()
    missing = {name for name in vars(kernels) if name.endswith("_kernel")}
    # As many programs as usual, and as few as possible: some kernels run only if there is more than one tile, others
    # only if there are more tiles than programs.
    manners = launches.PROGRAMS_PER_PROCESSOR, 0
    for case, programs in ((case, programs) for case in step.in_time(step.cases(formats)) for programs in manners):
        inputs = Inputs(case, step.bench.device)
        forget()
        with mock.patch.object(launches, "PROGRAMS_PER_PROCESSOR", programs), recorded() as found:
            wrong = errors(answers(ours, inputs), inputs)
        failed = complaint(wrong, [], case, step.bench.device)
        launched = [launch._asdict() for launch in found]
        rows.append(
            {"case": asdict(case), "programs": programs, "failed": failed, "errors": wrong, "launches": launched}
        )
        step.save(rows)
        missing -= {launch.kernel for launch in found}
        print(f"{case.name}: {failed or 'right'}; " + ", ".join(f"{it.kernel} {it.registers}" for it in found))
    if missing:
        print(f"never launched: {', '.join(sorted(missing))}")
    return not missing and not any(row["failed"] for row in rows)


def run_launches(step: Step) -> bool:
    """Take the GPU time of every published case, ours alone, with every table of launches."""
    cases = step.cases([*headline("cuda"), *plan("default", "cuda")])
    present, *others = tables()
    _warm(step, cases, [present, *others])
    rows: list[Row] = []
    for case in step.in_time(cases):
        rows.append({"case": asdict(case), "tables": _by_table(step.bench, case)})
        step.save(rows)
    for other in others:
        pairs = [(row["tables"][present], row["tables"].get(other, {})) for row in rows]
        ratios = [
            median(a["graph_us"]) / median(b["graph_us"]) for a, b in pairs if "graph_us" in a and "graph_us" in b
        ]
        found = f": median {median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}" if ratios else ""
        print(f"{other}: times as fast as the present launches in {len(ratios)} cases{found}")
    return bool(rows) and all("graph_us" in row["tables"][present] for row in rows)


def _by_table(bench: Bench, case: Case) -> dict[str, Row]:
    """Return the times by table, without those of tables that launch what the present one does."""
    inputs, ours = Inputs(case, bench.device), bench.contestants()[0]
    found: dict[str, Row] = {}
    replays: dict[str, Call] = {}
    known: list[list[Launched]] = []
    for name, table in tables().items():
        try:
            with launched_by(table), recorded() as launched:
                replay = bench.gauges.replay(timed_call(ours, inputs))
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
            continue
        if launched not in known:
            known.append(launched)
            found[name], replays[name] = {"launches": [launch._asdict() for launch in launched]}, replay
    for name, seconds in take_turns(replays, bench.gauges.clock, bench.rounds).items():
        found[name]["graph_us"] = [round(second * 1e6, 3) for second in seconds]
    return found


def _warm(step: Step, cases: Iterable[Case], names: Sequence[str]) -> None:
    """Compile kernels for some tables, in several processes and at most half of the time; Triton keeps them on disk."""
    few = {replace(case, group="", theta="5 degrees", images=min(case.images, WARMED_IMAGES)): None for case in cases}
    with ProcessPoolExecutor(step.bench.processes, mp_context=get_context("spawn")) as pool:
        begun = [pool.submit(_compile, case, names, rehearse=step.is_rehearsal) for case in few]
        wait(begun, timeout=step.seconds_left() / 2)
        pool.shutdown(cancel_futures=True)


def _compile(case: Case, names: Sequence[str], *, rehearse: bool) -> None:
    torch.set_num_threads(1)
    bench = BENCHES[rehearse]
    call = timed_call(bench.contestants()[0], Inputs(case, bench.device))
    for name in names[: 1 if rehearse else None]:
        with launched_by(tables()[name]), suppress(Exception):  # which the timed run reports
            call()


def run_host(step: Step) -> bool:
    """Take the host time of short calls, with autograd's own thread and without it."""
    phases, rows = list(host_time.PHASES), list[Row]()
    for phase, with_thread in itertools.product(phases[: 1 if step.is_rehearsal else None], (True, False)):
        with torch.autograd.set_multithreading_enabled(with_thread):
            row = host_time.measured(phase, step.bench.device, step.bench.host_rounds)
        rows.append(row | {"autograd_thread": with_thread, "rounds": step.bench.host_rounds})
        step.save(rows)
        print("with autograd's thread" if with_thread else "without a thread", host_time.table([row]), sep="\n")
    return True


def run_cuda(step: Step) -> bool:
    """Time the published cases: those of the headline with all contestants, then the rest without compilers."""
    first, rest = step.cases(headline("cuda")), step.cases(plan("default", "cuda"))
    cases = list(dict.fromkeys([*first, *rest]))
    _warm(step, cases, list(tables())[:1])
    header = step.header | {"copy_gigabytes_per_second": measure.copy_gigabytes_per_second(step.bench.device)}
    measured = Measured(step.path, header, cases, fresh=True)
    everyone = step.bench.contestants()
    for case in step.in_time(cases):
        chosen = [one for one in everyone if case in first or not one.name.startswith("compiled")]
        torch.compiler.reset()  # without it, the compiler silently gives up after some number of shapes
        row = run_case(case, step.bench.device, step.bench.rounds, chosen, step.bench.gauges)
        measured.add(row)
        print(line(row))
    return not any(row["failed"] for row in measured.results["rows"])


def run_profile(step: Step) -> bool:
    """Run six kernels, for a profiler that waits until they are compiled."""
    of = shapes("cuda")
    frames, features = of["stream"][1], of["features"][1]
    cases = [replace(frames, phase="both"), replace(frames, dtype="float16"), replace(features, layout="channels_last")]
    bench = step.bench
    calls = [timed_call(bench.contestants()[0], Inputs(case, bench.device)) for case in step.cases(cases)]
    for call in calls:
        call()
    if bench.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.profiler.start()
    for call in calls:
        call()
    if bench.device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.profiler.stop()
    return True


STEPS = {
    "kernels": run_kernels,
    "launches": run_launches,
    "host": run_host,
    "cuda": run_cuda,
    "profile": run_profile,
}


def main() -> int:
    """Run one step; return 1 if something in it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="file for the results")
    parser.add_argument("--seconds", type=float, default=60, help="after this time no case is begun")
    parser.add_argument("--commit", default="", help="the commit, where git does not know it")
    parser.add_argument("--rehearse", action="store_true", help="small cases on a CPU, in Triton's interpreter")
    chosen = parser.parse_args()
    warnings.filterwarnings("ignore", module=r"torch\..*")  # the compiler's, about itself
    step = Step(chosen.json, chosen.seconds, chosen.commit, rehearse=chosen.rehearse)
    return int(not STEPS[chosen.step](step))


if __name__ == "__main__":
    sys.exit(main())
