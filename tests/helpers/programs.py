"""Programs that tests start: Python in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


def run_python(
    *arguments: str | Path, python: str | Path = sys.executable, folder: Path = ROOT, timeout: float = 600,
    **variables: str,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run Python with arguments; ``variables`` are added to its clean environment."""
    return subprocess.run(
        [python, *arguments], cwd=folder, env=clean_environment() | variables,
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def clean_environment() -> dict[str, str]:
    """The environment without settings of Python and pytest, but for one: modules are found in this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def run_cases(module: str, *arguments: str | Path) -> list[str]:
    """Run a program that prints the name of each case before it runs it. Return the names, or fail with the last."""
    done = run_python("-m", module, *arguments)
    names = done.stdout.splitlines()
    assert done.returncode == 0, (
        f"{module} ended with {done.returncode} in the case {names[-1:]}: {done.stderr[-2000:]}"
    )
    return names


def listen_to_ctrl_c():
    """Restore the default action of SIGINT, which programs in the background of a shell ignore; for a new process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
