"""Where results come from and where they are kept."""

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import supervised_st
from benchmarks.cases import Case, plan
from benchmarks.contestants import absent

ROOT = Path(__file__).resolve().parents[1]

Row = dict[str, Any]


def results_file(device: str, *, is_quick: bool) -> Path:
    """Return where results are kept: those of a quick run not among the published ones."""
    if is_quick:
        return ROOT / "runs" / f"affine_sample-quick-{device}.json"
    return ROOT / "benchmarks" / "results" / supervised_st.__version__ / f"{device}.json"


def provenance(device: str, threads: int, rounds: int) -> dict[str, Any]:
    """Return what a row depends on beside its case."""
    return {
        "device": device,
        "machine": torch.cuda.get_device_name() if device == "cuda" else _processor(),
        "threads": threads,
        "rounds": rounds,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in ("torch", "triton", "kornia", "torchvision", "supervised-st")},
        "commit": _commit(),
        "absent": absent(),
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    # Whoever measures decides the numbers too. Results do not: a run that goes on would find its own.
    changed = git("status", "--porcelain", "--", "supervised_st", "benchmarks", ":(exclude)benchmarks/results")
    return (git("rev-parse", "HEAD") or "unknown") + (" with changes" if changed else "")


class Results:
    """The rows so far, in a file that is whole at any moment."""

    def __init__(self, path: Path, header: dict[str, Any], *, fresh: bool) -> None:
        self.path, self.header = path, header
        self._rows: dict[Case, Row] = {}
        if path.exists() and not fresh:
            kept = json.loads(path.read_text())
            differing = [key for key in header if kept.get(key) != header[key]]
            if differing:
                old, new = ({key: of.get(key) for key in differing} for of in (kept, header))
                raise SystemExit(f"{path} was measured with {old}, this is {new}: give --fresh or another --json")
            self._rows = {Case(**row["case"]): row for row in kept["rows"]}

    def missing(self, cases: Sequence[Case]) -> list[Case]:
        """Return the cases without a row, or with one that failed."""
        return [case for case in cases if self._rows.get(case, {"failed": True})["failed"]]

    def failed(self, cases: Sequence[Case]) -> int:
        """Return how many of the cases failed."""
        return sum(bool(self._rows[case]["failed"]) for case in cases)

    def add(self, row: Row) -> None:
        """Add a row and write the file."""
        self._rows[Case(**row["case"])] = row
        order = {case: place for place, case in enumerate(plan("full", self.header["device"]))}
        rows = sorted(self._rows.items(), key=lambda item: order.get(item[0], len(order)))
        now = {"date": datetime.now(UTC).date().isoformat(), "command": shlex.join(["python", *sys.argv])}
        head = json.dumps(self.header | now, indent=1)[:-2]
        body = ",\n".join(json.dumps(row) for _, row in rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".part")
        aside.write_text(f'{head},\n "rows": [\n{body}\n]}}\n')
        aside.replace(self.path)
