"""Let the disk fail at every operation with which the example writes, and look at what is left.

    python benchmarks/reliability/faults.py [--short]

A library in front of libc (``faults.c``; it needs Linux and a C compiler) lets operations of one folder fail. For every
writer, every kind of fault and every operation: what was there before must load, or what was written, whole; the error
must be an OSError that names a file; and the same call without the fault must end with what it was to write.
"""

import ctypes
import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import torch

from benchmarks.reliability import figures
from benchmarks.reliability.writers import Writer, writers

PRELOAD = "LD_PRELOAD"
SHORT_EVERY = 29  # a short form lets one in so many operations fail


class Fault(NamedTuple):
    """What goes wrong: at operations with these letters of ``faults.c``, with this error."""

    name: str
    letters: str
    code: int  # 0: the process is killed
    lasts: bool  # whether all operations that follow fail too


FAULTS = (
    Fault("the disk is full from there on", "owtm", errno.ENOSPC, lasts=True),
    Fault("the disk is read-only from there on", "owtmsru", errno.EROFS, lasts=True),
    Fault("one input/output error", "owtsr", errno.EIO, lasts=False),
    Fault("SIGKILL, after half of the bytes of a write", "owtmsru", 0, lasts=False),
)
ANCHORS = {
    errno.ENOSPC: "torch 2.13, `torch.save` over a checkpoint at a limit of file size: the old one is lost",
    errno.EROFS: "Lightning (#21800, open): reports success after a PermissionError",
}


def measure(short: bool) -> Iterator[figures.Figure]:
    """Let every operation of every writer fail in every way."""
    torch.set_num_threads(1)  # forked processes cannot use threads of their parent
    cv2.setNumThreads(1)
    unsynced: list[str] = []
    renamed = 0
    tried: dict[Fault, list[str]] = {fault: [] for fault in FAULTS}
    with TemporaryDirectory() as name:
        for writer in writers(Path(name)):
            trial = _Trial(writer, Path(name, writer.name))
            renamed += sum(line.startswith("r ") for line in trial.operations)
            unsynced += [f"{writer.name}: {problem}" for problem in not_synced(trial.operations)]
            for fault in FAULTS:
                places = range(1, 1 + sum(line[0] in fault.letters for line in trial.operations))
                for place in places[:: SHORT_EVERY if short else 1]:
                    problem = trial.fails(fault, place)
                    tried[fault].append(problem and f"{writer.name}, operation {place}: {problem}")
            print(f"{writer.name}: {len(trial.operations)} operations", flush=True)
    for fault, problems in tried.items():
        yield figures.Figure(
            f"{fault.name}, at each write, sync and rename: the old or the new state loads, the error names a file, "
            "and the same call then ends well",
            problems.count(""), len(problems), anchor=ANCHORS.get(fault.code, "none found"),
            failures=tuple(filter(None, problems)),
        )  # fmt: skip
    yield figures.Figure(
        "renames whose file was synced before, and whose folder afterwards",
        renamed - len(unsynced), renamed, failures=tuple(unsynced),
        anchor="timm, Lightning: renamed, not synced; nanoGPT, mmengine: written straight to the target",
    )  # fmt: skip


class _Trial:
    """Tries one writer: makes its older and its newer state here, and lets it fail in forked processes."""

    def __init__(self, writer: Writer, folder: Path) -> None:
        self._writer = writer
        self._older, self._newer, self._now = (folder / name for name in ("older", "newer", "now"))
        self._older.mkdir(parents=True)
        writer.before(self._older)
        self._before = writer.read(self._older)
        shutil.copytree(self._older, self._newer)
        hook = _Hook()
        hook.arm(self._newer, "", 0, 0, lasts=False)
        writer.write(self._newer)
        self.operations = hook.record()
        self._after = writer.read(self._newer)

    def fails(self, fault: Fault, place: int) -> str:
        """Let the ``place``-th operation fail. Return what is wrong with what is left; "" for nothing."""
        shutil.copytree(self._older, self._now)
        hook = _Hook()

        def write() -> list[str]:
            hook.arm(self._now, fault.letters, place, fault.code, lasts=fault.lasts)
            self._writer.write(self._now)
            return []

        broken = _forked(write)
        rest = _forked(lambda: self._left(is_done=not broken.error))
        shutil.rmtree(self._now)
        problems = [f"afterwards {rest.error}"] if rest.error else rest.found
        if fault.code and broken.error and not broken.names_file:
            problems.append(f"the error was {broken.error}")
        return "; ".join(problems)

    def _left(self, *, is_done: bool) -> list[str]:
        """Read what a fault has left, and write again. Return what is wrong with it; ``is_done``: no error was seen."""
        left = self._writer.read(self._now)
        problems = ["nothing was said, and the new state is not there"] if is_done and left != self._after else []
        for name in left.keys() | self._before.keys():
            if left.get(name) not in (self._before.get(name), self._after.get(name)):
                problems.append(f"{name} is neither the old nor the new one")
        self._writer.write(self._now)
        if self._writer.read(self._now) != self._after:
            problems.append("writing again does not end with the new state")
        return problems


class _Ended(NamedTuple):
    """How a forked process ended."""

    found: list[str]
    error: str = ""
    names_file: bool = False  # the error is an OSError that names a file


def _forked(work: Callable[[], list[str]]) -> _Ended:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, theirs))
    process.start()
    theirs.close()
    try:
        ended: _Ended = ours.recv()
    except EOFError:
        process.join()
        return _Ended([], f"signal {-(process.exitcode or 0)}")
    else:
        return ended
    finally:
        process.join()
        ours.close()


def _report(work: Callable[[], list[str]], to: Connection) -> None:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            ended = _Ended(work())
        except Exception as problem:
            names = isinstance(problem, OSError) and problem.filename is not None
            ended = _Ended([], f"{type(problem).__name__}: {problem}", names)
    to.send(ended)


def not_synced(operations: list[str]) -> Iterator[str]:
    """Yield the renames whose file was not synced after its last write, or whose folder was not synced afterwards."""
    lines = [(line[0], line[2:]) for line in operations]
    for place, (letter, target) in enumerate(lines):
        if letter != "r":
            continue
        source = lines[place - 1][1]
        touched = [kind for kind, path in lines[:place] if path == source and kind in "wts"]
        if touched[-1:] != ["s"]:
            yield f"{Path(target).name} is renamed without being synced"
        elif ("s", str(Path(target).parent)) not in lines[place:]:
            yield f"the folder of {Path(target).name} is not synced"


class _Hook:
    """The library of ``faults.c``, which is loaded already."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[PRELOAD])
        self._library.fault_record.restype = ctypes.c_char_p

    def arm(self, folder: Path, letters: str, first: int, code: int, *, lasts: bool) -> None:
        """Let operations fail from now on."""
        path, kinds = os.fsencode(folder), letters.encode()
        self._library.fault_arm(path, kinds, ctypes.c_long(first), code, lasts)

    def record(self) -> list[str]:
        """Return the operations since then, one a line."""
        return os.fsdecode(self._library.fault_record()).splitlines()


def built(folder: Path) -> Path:
    """Compile the library into a folder."""
    library, source = folder / "faults.so", Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def main() -> int:
    """Build the library, and start this script again with it."""
    if PRELOAD in os.environ:
        return figures.run(__file__, figures.Part.RUNS, measure)
    with TemporaryDirectory() as name:
        preload = {PRELOAD: str(built(Path(name)))}
        return subprocess.run([sys.executable, *sys.argv], env=os.environ | preload, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
