"""Read annotations and weights that others have damaged, by accident or on purpose.

    python benchmarks/reliability/foreign_files.py [--short]

Annotations are read as meant, or each wrong row is named with what to do. Weights are refused without running any code
from the file, without ending this process and without filling its memory.
"""

import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures, weight_corpus
from benchmarks.reliability.annotation_corpus import HARMLESS, ROWS, damaged, wrong
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.mpii import parse_annotations
from examples.mpii_cooking.training import weights

WIDTH = 1 / 32  # of the networks: what is refused does not depend on it
MOST_MEMORY = 500_000_000  # bytes by which this process may grow
MOST_TEXT = 20_000  # letters of a message


def measure(short: bool) -> Iterator[figures.Figure]:
    """Read every file."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        yield _as_meant(folder)
        yield _named(folder)
        yield _survived(folder, 200 if short else 10_000)
        yield _weights(folder, every=8 if short else 1)


def _as_meant(folder: Path) -> figures.Figure:
    """Read files whose text is saved in another way."""
    expected = _read(folder, ROWS)
    failures = [what for what, content in HARMLESS.items() if _read(folder, content) != expected]
    return _figure("annotations saved by other editors: read as meant", len(HARMLESS), failures)


def _named(folder: Path) -> figures.Figure:
    """Read files with one wrong row."""
    cases, failures = list(wrong()), []
    for what, row, content in cases:
        message = _read(folder, content)
        if not (isinstance(message, str) and f"row {row}:" in message and "what to do: " in message):
            failures.append(what)
        elif len(message) > MOST_TEXT:
            failures.append(f"{what}: {len(message)} letters")
    return _figure("annotations with a wrong row: refused, with the row and what to do", len(cases), failures)


def _survived(folder: Path, count: int) -> figures.Figure:
    """Read files with random damage."""
    failures = []
    for seed in range(count):
        try:
            _read(folder, damaged(random.Random(seed)))
        except Exception as problem:  # any other than DataError is a failure
            failures.append(f"seed {seed}: {type(problem).__name__}: {problem}")
    return _figure("annotations with random damage: read, or refused with a clear message", count, failures)


def _weights(folder: Path, every: int) -> figures.Figure:
    mark = folder / "code-ran"
    before, slowest, failures = _memory(), 0.0, []
    cases = list(weight_corpus.corpus(mark))[::every]
    for suffix, what, content in cases:
        path = folder / f"vgg16{suffix}"
        path.write_bytes(content())
        started = time.monotonic()
        try:
            weights.read(path, "vgg-f" if suffix == ".mat" else "vgg-16", WIDTH)
            failures.append(f"{what} ({suffix}): read")
        except DataError:
            pass
        except Exception as problem:
            failures.append(f"{what} ({suffix}): {type(problem).__name__}: {problem}")
        slowest = max(slowest, time.monotonic() - started)
        if mark.exists():
            failures.append(f"{what} ({suffix}): its code ran")
            mark.unlink()
        path.unlink()
    grown = _memory() - before
    if grown > MOST_MEMORY:
        failures.append(f"this process grew by {grown:,} bytes")
    detail = f"this process grew by at most {grown / 1e6:.0f} MB; the slowest file took {slowest:.0f} s"
    what = "malicious files of weights: refused, nothing in them was run, the run did not crash"
    return _figure(what, len(cases), failures, detail=detail)


def _figure(what: str, tried: int, failures: list[str], detail: str = "") -> figures.Figure:
    return figures.Figure(what, max(tried - len(failures), 0), tried, detail=detail, failures=tuple(failures))


def _read(folder: Path, content: bytes) -> object:
    """Return the rows without their numbers, or what is said instead."""
    path = folder / "rows.csv"
    path.write_bytes(content)
    try:
        return [interval[1:] for interval in parse_annotations(path)]
    except DataError as problem:
        return str(problem)


def _memory() -> int:
    """Return the most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.INPUT, measure))
