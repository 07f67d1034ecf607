"""Collects everything that is wrong with data, so that one error can say it before any work is done."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from examples.mpii_cooking.data.dataset import DataError

MOST = 20  # findings of a kind that are said; the others are counted
VIDEO_CURE = "copy the file again, or remove it"


class Findings:
    """What was found to be wrong. Findings with one cure are one kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()  # of each cure, in the order in which they were found
        self._said: dict[str, list[str]] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return self._counts.total()

    def add(self, problem: str, cure: str) -> None:
        """Add a finding: its file, its row if it has one, and what is wrong there."""
        self._counts[cure] += 1
        said = self._said.setdefault(cure, [])
        if len(said) < MOST:
            said.append(problem)

    @contextmanager
    def collected(self, place: str = "", cure: str = "") -> Iterator[None]:
        """Add a ``DataError`` that is raised inside, instead of passing it on; it may have a cure of its own."""
        try:
            yield
        except DataError as error:
            self.add(": ".join(filter(None, (place, error.problem))), error.cure or cure)

    def complain(self, what: str) -> None:
        """Raise a ``DataError`` that says all findings about ``what``, if there are any."""
        if self._counts:
            noun = "finding" if len(self) == 1 else "findings"
            raise DataError("\n".join([f"{what} cannot be used ({len(self)} {noun}):", *self._lines()]))

    def _lines(self) -> Iterator[str]:
        for cure, count in self._counts.items():
            yield from (f"  {problem}" for problem in self._said[cure])
            if count > MOST:
                yield f"  and {count - MOST} more of this kind"
            yield f"    what to do: {cure}"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = [f"and {len(names) - MOST} more"] if len(names) > MOST else []
    return ", ".join([*names[:MOST], *more])


def check_names(paths: Iterable[Path], findings: Findings) -> None:
    """Add the paths whose last part is not UTF-8, such as in old archives: no report can hold such names."""
    for path in paths:
        try:
            path.name.encode()
        except UnicodeEncodeError:
            findings.add(f"{os.fsencode(path)!r} has a name that is not UTF-8", "rename the file or folder")
