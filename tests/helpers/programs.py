"""Programs that tests start: Python in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""


def run_python(
    *arguments: str | Path, folder: Path = ROOT, timeout: float = 600, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments, and with environment variables besides those that `clean_environment` keeps."""
    command = [sys.executable, *map(str, arguments)]
    environment = clean_environment() | variables
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def clean_environment() -> dict[str, str]:
    """The environment without what changes how Python, torch, Triton or pytest behave."""
    changing = ("PYTHON", "TORCH", "PYTORCH", "TRITON", "PYTEST", "OMP_", "MKL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(changing)}
