"""Give the library and the parsers a million random and hostile inputs; results are right, or a refusal is clear.

    python benchmarks/reliability/random_cases.py [--short]

A run that was stopped goes on with the same command.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures
from benchmarks.reliability import library_cases as library
from benchmarks.reliability import parser_cases as parsers
from benchmarks.reliability import sampler_cases as sampler
from benchmarks.reliability.progress import kept

CASES = 1000  # of a chunk, which takes seconds
SHORT_CASES = 20
ANCHOR = "FBGEMM: 10 to 20 random cases for most operators; NATTEN: 1,000 (their tests)"


class Property(NamedTuple):
    """What must hold for every case."""

    cases: st.SearchStrategy[Any]
    check: Callable[[Any], None]
    chunks: int  # of the long run


PROPERTIES = {
    "sampler": Property(sampler.calls("auto"), sampler.check, 600),
    "sampler, reference": Property(sampler.calls("reference"), sampler.check, 60),
    "windows, overlaps, parameters": Property(library.WINDOWS, library.check_windows, 80),
    "search for motion": Property(library.MOTION, library.check_motion, 80),
    "pooling": Property(library.POOLED, library.check_pooling, 60),
    "guidance": Property(library.GUIDED, library.check_guidance, 40),
    **{name: Property(*parser, 20) for name, parser in parsers.PARSERS.items()},
}


class Chunk(NamedTuple):
    """Some cases of a property; the number is their seed."""

    name: str
    number: int


class Outcome(NamedTuple):
    """How many cases were tried, and those that did not hold."""

    tried: int
    failures: list[str]


def try_cases(chunk: Chunk, cases: int = CASES) -> Outcome:
    """Try the cases of a chunk."""
    tried, failures = 0, []
    strategy, check, _ = PROPERTIES[chunk.name]

    def attempt(case: object) -> None:
        nonlocal tried
        tried += 1
        try:
            check(case)
        except Exception as problem:
            failures.append(f"{case}: {type(problem).__name__}: {problem}"[:2000])

    options = settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    options(seed(chunk.number)(given(strategy)(attempt)))()
    return Outcome(tried, failures)


def measure(short: bool) -> Iterable[figures.Figure]:
    """Try all cases; every property is a figure."""
    for name, outcomes in (_short() if short else _long()).items():
        tried, failures = sum(it.tried for it in outcomes), [failure for it in outcomes for failure in it.failures]
        shown = tuple(failures[: figures.SHOWN_FAILURES])
        yield figures.Figure(f"random cases: {name}", tried - len(failures), tried, anchor=ANCHOR, failures=shown)


def _short() -> dict[str, list[Outcome]]:
    return {name: [try_cases(Chunk(name, 0), SHORT_CASES)] for name in PROPERTIES}


def _long() -> dict[str, list[Outcome]]:
    plan = [Chunk(name, number) for name, it in PROPERTIES.items() for number in range(it.chunks)]
    done = kept("random_cases", plan)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), _begin) as processes:
        left = done.missing(plan)
        for chunk, outcome in zip(left, processes.map(try_cases, left), strict=True):
            done.add({"case": chunk._asdict(), **outcome._asdict(), "failed": False})
    rows = done.results["rows"]
    return {name: [*_outcomes(rows, name)] for name in PROPERTIES}


def _begin() -> None:
    """Prepare a process that tries cases."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # There is one for every damaged file.


def _outcomes(rows: list[dict[str, Any]], name: str) -> Iterator[Outcome]:
    return (Outcome(row["tried"], row["failures"]) for row in rows if row["case"]["name"] == name)


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.LIBRARY, measure))
