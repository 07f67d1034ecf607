"""Where results come from, and which cases of a plan have some."""

import json
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Generic, TypeVar

import torch

import supervised_st
from benchmarks.saving import ROOT, Results, Row, save

RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("torch", "triton", "kornia", "supervised-st", "numpy", "av", "opencv-contrib-python-headless")

CaseT = TypeVar("CaseT")


def results_file(name: str, *, is_quick: bool = False) -> Path:
    """Return the file of some results. Those of a quick run are kept apart from the published ones."""
    return (ROOT / "runs" / "benchmarks" if is_quick else RESULTS / supervised_st.__version__) / f"{name}.json"


def provenance(device: str, threads: int) -> Results:
    """Return the machine, the versions and the commit that results depend on."""
    return {
        "device": device,
        "machine": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def origin(results: Results) -> str:
    """Return where and when results were measured."""
    versions = results["versions"]
    threads = f", {results['threads']} thread{'s' * (results['threads'] > 1)}" if results["device"] == "cpu" else ""
    commit = results["commit"][:10] + results["commit"][40:].replace("with changes", "with uncommitted changes")
    return (
        f"{results['machine']}{threads}; torch {versions['torch']}; supervised-st {versions['supervised-st']}, commit "
        f"{commit}, {results['date']}"
    )


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.+)", known.read_text()) if known.exists() else None
    return name[1].strip() if name else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return ""
        return done.stdout.strip()

    # Benchmarks and examples decide the numbers too. Their results do not: a resumed run would find its own.
    results = (":(exclude)benchmarks/results", ":(exclude)examples/mpii_cooking/results")
    changed = git("status", "--porcelain", "--", "supervised_st", "benchmarks", "examples", *results)
    return (git("rev-parse", "HEAD") or "unknown") + (" with changes" if changed else "")


class Measured(Generic[CaseT]):
    """The cases measured so far, kept in a file in the order of ``plan``.

    ``header`` is what they depend on; ``fresh`` forgets them.
    """

    def __init__(self, path: Path, header: Results, plan: Sequence[CaseT], *, fresh: bool) -> None:
        self.path, self.header = path, header
        self._case = type(plan[0])
        self._order = {case: place for place, case in enumerate(plan)}
        self._rows: dict[CaseT, Row] = {}
        if path.exists() and not fresh:
            kept = json.loads(path.read_text())
            differing = [key for key in header if kept.get(key) != header[key]]
            if differing:
                old, new = ({key: of.get(key) for key in differing} for of in (kept, header))
                raise SystemExit(f"{path} was measured with {old}, this run has {new}: pass --fresh or another --json")
            self._rows = {self._case(**row["case"]): row for row in kept["rows"]}

    @property
    def results(self) -> Results:
        """What has been measured, with what it depends on."""
        rows = sorted(self._rows.items(), key=lambda item: self._order.get(item[0], len(self._order)))
        return self.header | {"rows": [row for _, row in rows]}

    def missing(self, cases: Sequence[CaseT]) -> list[CaseT]:
        """Return the cases that have not been measured, or failed."""
        return [case for case in cases if case not in self._rows or self._rows[case]["failed"]]

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        self._rows[self._case(**row["case"])] = row
        save(self.path, self.results)
