"""Measure what digests, syncs and locks cost the example's quick run.

    python benchmarks/reliability/cost.py [--short]

The run takes one process, with a clock around every call that digests, syncs or locks, and around those that make JSON,
of which some are for digests. Time of several threads is added up. The short form times the smoke run.
"""

import ast
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import filelock

from benchmarks.reliability import figures
from examples.mpii_cooking import run_all
from examples.mpii_cooking.presets import PRESETS

GOAL = 0.98
CLOCKED = (
    (hashlib, "file_digest"),
    (hashlib, "sha256"),
    (os, "fsync"),
    (filelock.FileLock, "acquire"),
    (ast, "parse"),  # of the code that makes units, for its digests
    (ast, "dump"),
    (json, "dumps"),
)


class Clock:
    """Sums the time in calls; one inside another counts once, and two at the same time in two threads twice."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._adding, self._here = threading.Lock(), threading.local()

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with the clock around it."""

        @wraps(function)
        def clocked(*arguments: object, **options: object) -> object:
            if getattr(self._here, "is_running", False):
                return function(*arguments, **options)
            self._here.is_running, began = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._here.is_running = False
                with self._adding:
                    self.seconds += time.perf_counter() - began

        return clocked


def measure(short: bool) -> Iterator[figures.Figure]:
    """Time a run and these calls in it."""
    name, clock = "smoke" if short else "quick", Clock()
    alone = replace(PRESETS[name], machine=replace(PRESETS[name].machine, processes=1))
    with TemporaryDirectory() as folder, ExitStack() as patches:
        patches.enter_context(mock.patch.dict(PRESETS, {name: alone}))
        for owner, function in CLOCKED:
            patches.enter_context(mock.patch.object(owner, function, clock.around(getattr(owner, function))))
        began = time.perf_counter()
        run_all.main(output=Path(folder), preset=name)  # type: ignore[arg-type]
        whole = time.perf_counter() - began
    yield figures.Figure(
        f"milliseconds of the {name} run that do not go into digests, syncs and locks",
        round(1000 * (whole - clock.seconds)), round(1000 * whole), goal=GOAL,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.RUNS, measure))
