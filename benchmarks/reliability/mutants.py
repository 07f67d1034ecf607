"""Plant faults into the code that runs on the host, stores files and parses them, and count those that tests find.

    python benchmarks/reliability/mutants.py [--short]

A sample of the faults is tried, the same one in each run. A run that was stopped goes on with the same command. Kernels
have their own faults, in ``tests/kernels``.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures
from benchmarks.reliability.mutations import Mutation, mutations, planted
from benchmarks.reliability.progress import kept
from benchmarks.saving import ROOT

SAMPLE, SHORT_SAMPLE = 300, 2
GOAL = 0.85
ANCHOR = "python-ecdsa 0.19: 78.49 % of its mutants (its README)"
PATIENCE = 600.0  # seconds that a file of tests may take when there is no fault
SLOWDOWN = 5.0
"""A fault that makes tests take this many times as long is found. They may be slowed down by other work, too."""

LIBRARY = {
    "_checks": ["mistakes", "sampling_arguments", "guidance", "transformer", "geometry", "hostile_images", "sizes"],
    "_matrix_log": ["pooling", "precision"],
    "_named_tuples": ["named_tuples"],
    "_pace": ["free_pace", "guidance"],
    "_pooling_kinds": ["pooling", "precision"],
    "_precision": ["precision"],
    "_settings": ["settings"],
    "_state_tensor": ["state_dict"],
    "geometry/_theta": ["geometry", "geometry_pixels", "mistakes", "precision"],
    "geometry/components": ["geometry_pixels", "mistakes", "precision"],
    "geometry/distortions": ["geometry", "mistakes", "monitor"],
    "geometry/parameterizations": ["geometry", "mistakes", "head", "anomaly"],
    "geometry/pixels": ["geometry_pixels", "mistakes", "precision"],
    "geometry/transforms": ["geometry", "geometry_pixels", "mistakes", "precision"],
    "geometry/windows": ["geometry", "geometry_pixels", "targets", "mistakes", "anomaly"],
    "guidance": ["guidance", "free_pace", "state_dict", "settings", "mistakes"],
    "monitor": ["monitor", "settings", "mistakes"],
    "motion": ["motion", "settings", "mistakes", "targets", "precision"],
    "pasting": ["pasting", "mistakes", "anomaly"],
    "pooling": ["pooling", "settings", "mistakes", "precision"],
    "sampling": [
        "sampling_arguments",
        "mistakes",
        "backends",
        "remembered_calls",
        "sampling_labels",
        "hostile_images",
        "sampling_accuracy",
    ],
    "schedules": ["schedules", "settings", "guidance", "mistakes"],
    "targets": ["targets", "mistakes", "precision"],
    "transformer": ["transformer", "head", "settings", "mistakes", "free_pace", "guidance"],
    "_sampler/antialias": ["antialias"],
    "_sampler/aten": [
        "remembered_calls",
        "hostile_images",
        "sampling_bits",
        "sampling_layouts",
        "traced_graphs",
        "sampling_derivatives",
        "hostile_transforms",
    ],
    "_sampler/calls": ["remembered_calls", "sampling_arguments"],
    "_sampler/labels": ["sampling_labels"],
    "_sampler/options": ["sampling_arguments"],
    "_sampler/reference": ["sampling_bits", "hostile_images", "hostile_transforms", "sampling_derivatives"],
    "_sampler/tensors": [
        "remembered_calls",
        "sampling_layouts",
        "sampling_graphs",
        "schedules",
        "sampling_derivatives",
    ],
}
"""By module of the library: its tests, in ``tests/library``, the quickest first, besides that of all signatures."""
SIGNATURES = "tests/project/test_public_api.py"
LEFT_OUT = {"lightning", "plot"}
"""A callback for a package that tests need not have; and pictures, at which one has to look."""

KERNELS = {
    "_sampler/fused": ["replay", "fused", "interpreter"],
    "_sampler/launches": ["fused", "interpreter"],
    "_sampler/operators": ["operators", "fused"],
    "_sampler/replay": ["replay", "fused"],
}
"""By module that launches kernels: its tests, in ``tests/kernels``."""

EXAMPLE = {
    "storage": ["storage", "stages", "workspace"],
    "workspace": ["workspace", "stages"],
    "typed_json": ["typed_json", "results"],
    "data/class_folders": ["class_folders", "frames"],
    "data/containers": ["foreign_videos", "video"],
    "data/dataset": ["mpii", "class_folders", "skip_broken", "samples"],
    "data/findings": ["class_folders", "mpii", "foreign_videos"],
    "data/mpii": ["mpii", "class_folders"],
    "evaluation/stored": ["results", "study"],
    "training/checkpoints": ["train", "checkpoints"],
    "training/weight_files": ["weights"],
    "training/weights": ["weights", "weights_of_runs"],
}
"""By module of the example that stores or parses files: its tests, in ``tests/example``."""


Item = TypeVar("Item")
Result = TypeVar("Result")


class Fault(NamedTuple):
    """A fault in a file."""

    file: str
    mutation: Mutation

    @property
    def name(self) -> str:
        """Where it is, and what is there instead."""
        return f"{self.file}:{self.mutation.line}:{self.mutation.column}: {' '.join(self.mutation.replacement.split())}"


class Trial(NamedTuple):
    """What a row of the record is about."""

    fault: str


def tests_of() -> dict[str, list[str]]:
    """Return the tests of each file."""
    groups = (
        ("supervised_st", "tests/library", LIBRARY),
        ("supervised_st", "tests/kernels", KERNELS),
        ("examples/mpii_cooking", "tests/example", EXAMPLE),
    )
    return {
        f"{package}/{module}.py": [f"{folder}/test_{name}.py" for name in names] + [SIGNATURES] * (modules is LIBRARY)
        for package, folder, modules in groups
        for module, names in modules.items()
    }


def faults(files: Iterable[str], root: Path) -> list[Fault]:
    """Return all faults of some files."""
    return [Fault(file, each) for file in files for each in mutations((root / file).read_text(encoding="utf-8"))]


def copy_of_repository(folder: Path) -> Path:
    """Copy what git knows, and what it would."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("benchmarks/results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def seconds_of(tests: Sequence[str], folder: Path, limit: float) -> float | None:
    """Run tests in a copy until one fails. Return the seconds that they take, None if one fails or does not end."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    environment = inherited | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        return time.monotonic() - began if process.wait(limit) == 0 else None
    except subprocess.TimeoutExpired:
        return None
    finally:  # of Ctrl-C, too
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_found(fault: Fault, folder: Path, tests: Sequence[str], limit: float) -> bool:
    """Plant a fault into a copy, and return whether the file's tests find it."""
    path = folder / fault.file
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(planted(source, fault.mutation), encoding="utf-8")
        return seconds_of(tests, folder, limit) is None
    finally:
        path.write_text(source, encoding="utf-8")


def measure(short: bool) -> Iterable[figures.Figure]:
    """Try a sample of the faults."""
    tests = {"supervised_st/_settings.py": ["tests/library/test_settings.py"]} if short else tests_of()
    with TemporaryDirectory() as place:
        workers = 1 if short else os.cpu_count() or 1
        copies = [copy_of_repository(Path(place, str(number))) for number in range(workers)]
        known = faults(tests, copies[0])
        chosen = random.Random(0).sample(known, min(len(known), SHORT_SAMPLE if short else SAMPLE))
        found = _try_all(chosen, copies, tests, is_kept=not short)
    missed = [fault.name for fault in chosen if not found[fault.name]]
    detail = f"drawn from {len(known):,} faults in {len(tests)} files"
    what = "a fault in one place of host code, storage or a parser: tests fail"
    yield figures.Figure(what, len(chosen) - len(missed), len(chosen), GOAL, ANCHOR, detail, failures=tuple(missed))


def _try_all(chosen: list[Fault], copies: list[Path], tests: dict[str, list[str]], *, is_kept: bool) -> dict[str, bool]:
    """Return by name whether each fault is found. Of a long run, what was tried before is kept."""
    done = kept("mutants", [Trial(fault.name) for fault in chosen]) if is_kept else None
    found = {row["case"]["fault"]: row["found"] for row in done.results["rows"]} if done else {}
    left = [fault for fault in chosen if fault.name not in found]
    names = sorted({name for fault in left for name in tests[fault.file]})
    passing = _spread(lambda name, folder: seconds_of([name], folder, PATIENCE), names, copies)
    seconds = dict(zip(names, passing, strict=True))
    if failed := [name for name in names if seconds[name] is None]:
        raise SystemExit(f"tests fail without a fault, run them first: {', '.join(failed)}")

    def attempt(fault: Fault, folder: Path) -> bool:
        usual = sum(seconds[name] or 0.0 for name in tests[fault.file])
        return is_found(fault, folder, tests[fault.file], SLOWDOWN * usual)

    for fault, is_it in zip(left, _spread(attempt, left, copies), strict=True):
        found[fault.name] = is_it
        if done:
            done.add({"case": {"fault": fault.name}, "found": is_it, "failed": False})
    return found


def _spread(work: Callable[[Item, Path], Result], items: list[Item], copies: list[Path]) -> Iterator[Result]:
    """Yield what ``work`` returns for each item, in their order; each copy is used by one item at a time."""
    free: Queue[Path] = Queue()
    for folder in copies:
        free.put(folder)

    def attempt(item: Item) -> Result:
        folder = free.get()
        try:
            return work(item, folder)
        finally:
            free.put(folder)

    with ThreadPoolExecutor(len(copies)) as workers:
        yield from workers.map(attempt, items)


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.TESTS, measure))
