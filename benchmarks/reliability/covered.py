"""Run the tests of the package, and count the lines and branches of it that they run.

    python benchmarks/reliability/covered.py [--short]

Kernels are counted as Triton's interpreter runs them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures
from benchmarks.saving import ROOT

GOAL = 0.95
ANCHOR = "kornia: its CI asks for 87 %; Hypothesis: for 100 % of lines and branches"
TESTS, SHORT_TESTS = ("tests/library", "tests/kernels"), ("tests/library/test_state_dict.py",)
FILES, SHORT_FILES = "supervised_st/*", "supervised_st/_state_tensor.py"
SETTINGS = """[run]
branch = true
source = supervised_st
parallel = true
patch = subprocess
data_file = {folder}/data
[report]
exclude_also =
    if TYPE_CHECKING:
    raise NotImplementedError
"""
Totals = dict[str, Any]


def covered(tests: Iterable[str], files: str, folder: Path) -> dict[str, Totals]:
    """Return what ``coverage`` counts, by file and as a whole under the name ``""``."""
    settings, report = folder / "settings", folder / "report.json"
    settings.write_text(SETTINGS.format(folder=folder), encoding="utf-8")
    pytest = ("pytest", "-q", "-p", "no:cacheprovider", *tests)
    environment = os.environ | {"COVERAGE_FILE": str(folder / "data")}
    for command in (
        ("run", f"--rcfile={settings}", "-m", *pytest),
        ("combine", "-q", f"--rcfile={settings}"),
        ("json", "-q", f"--rcfile={settings}", f"--include={files}", "-o", str(report)),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *command], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"coverage {command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    found = json.loads(report.read_text(encoding="utf-8"))
    return {name: each["summary"] for name, each in found["files"].items()} | {"": found["totals"]}


def measure(short: bool) -> Iterable[figures.Figure]:
    """Count lines and branches."""
    tests, files = (SHORT_TESTS, SHORT_FILES) if short else (TESTS, FILES)
    with TemporaryDirectory() as place:
        counts = covered(tests, files, Path(place))
    total = counts.pop("")
    for what, held, tried in (
        ("lines", "covered_lines", "num_statements"),
        ("branches", "covered_branches", "num_branches"),
    ):
        below = [
            f"{name}: {each[held]} of {each[tried]} {what}"
            for name, each in counts.items()
            if each[held] < GOAL * each[tried]
        ]
        yield figures.Figure(
            f"{what} of the package that tests run", total[held], total[tried], GOAL, ANCHOR, failures=tuple(below)
        )


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.TESTS, measure))
