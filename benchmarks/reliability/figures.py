"""What the scripts of this folder share: the figures they return, their options, records and tables."""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import torch

from benchmarks.records import provenance, results_file
from benchmarks.saving import Results, Row, save
from examples.mpii_cooking.formats import duration, markdown_table

SHOWN_FAILURES = 20


class Part(StrEnum):
    """What a script tests. Each part has a table in ``docs/reliability.md``."""

    RUNS = "runs"  # interrupted, started twice, out of disk, with files damaged between two starts
    INPUT = "input"  # videos, annotations and weights of others
    TRAINING = "training"
    LIBRARY = "library"
    TESTS = "tests"  # what the tests themselves are worth


@dataclass(frozen=True)
class Figure:
    """How often something held, out of how many tries."""

    what: str  # in the table, such as "one bit flipped in a file of the output: found"
    held: int
    tried: int
    goal: float = 1.0  # the smallest fraction that is good enough
    anchor: str = "none found"  # what another project shows of the same, with its source
    detail: str = ""  # said behind the numbers
    why_below: str = ""  # the reason, if the goal cannot be reached; shown only while it is not
    failures: tuple[str, ...] = ()  # names of cases that did not hold, enough to try them again

    @property
    def is_reached(self) -> bool:
        """Whether the goal is reached; never without a single try."""
        return self.tried > 0 and self.goal * self.tried <= self.held

    @property
    def ours(self) -> str:
        """The numbers as the table shows them."""
        percent = "" if self.held == self.tried else f" ({self.held / max(self.tried, 1):.1%})"
        goal = f"; goal {self.goal:.0%}" if self.goal < 1 else ""
        return f"{self.held:,} of {self.tried:,}{percent}{goal}{f'; {self.detail}' if self.detail else ''}"


def run(script: str, part: Part, measure: Callable[[bool], Iterable[Figure]]) -> int:
    """Run the script with this path: take its options, record and print its figures. Return 1 if one misses its goal.

    ``measure`` gets whether the run is a short one.
    """
    name = Path(script).stem
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    parser.add_argument("--short", action="store_true", help="a few cases, in seconds; kept apart from the record")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    header = {"name": name, "part": part} | provenance("cpu", torch.get_num_threads())
    started = time.monotonic()
    figures = list(measure(arguments.short))
    path = arguments.json or results_file(f"reliability/{name}", is_quick=arguments.short)
    save(path, header | {"seconds": time.monotonic() - started, "rows": [asdict(figure) for figure in figures]})
    for figure in figures:
        print(f"{'reached' if figure.is_reached else 'MISSED'}: {figure.what}: {figure.ours}")
        print(*(f"  {failure}\n" for failure in figure.failures[:SHOWN_FAILURES]), sep="", end="")
    print(path)
    return int(not all(figure.is_reached for figure in figures))


def table(scripts: Sequence[Results]) -> str:
    """Return the figures of some scripts, then why some are below their goals, and where all were measured."""
    rows, reasons = [], []
    for results in scripts:
        for figure in map(_figure, results["rows"]):
            took = f"`{results['name']}.py`, {duration(results['seconds'])}"
            rows.append([figure.what, figure.anchor, figure.ours, took])
            if not figure.is_reached:
                why = figure.why_below or "the record lists the cases"
                reasons.append(f"- {figure.what}, below the goal of {figure.goal:.0%}: {why}")
    origins = {f"{of['machine']}, torch {of['versions']['torch']}": None for of in scripts}
    commits = ", ".join(f"`{of['name']}` {of['commit'][:10]}{of['commit'][40:]}, {of['date']}" for of in scripts)
    header = ["figure", "others show", "ours", "command, time"]
    parts = [markdown_table(header, rows), "\n".join(reasons), f"{'; '.join(origins)}. Commits: {commits}."]
    return "\n\n".join(filter(None, parts))


def _figure(row: Row) -> Figure:
    return Figure(**row | {"failures": tuple(row["failures"])})
