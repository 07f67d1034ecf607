"""The project's two commands. They need Python 3.11 or newer and nothing else.

    python tasks.py demo [ARGUMENTS]   set up what the example needs and run it; arguments go to run_all.py
    python tasks.py test [ARGUMENTS]   set up what the tests need and run every check; arguments go to pytest

Both work in an environment of their own, `.venv` beside this file, at the versions of `constraints.txt`.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

DEMO = (("examples/mpii_cooking/run_all.py",),)
CHECKS = (
    ("-m", "ruff", "format", "--check", "."),
    ("-m", "ruff", "check", "."),
    ("-m", "codespell_lib", "."),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
    ("-m", "pytest"),
)
TASKS = {"demo": ("example", DEMO), "test": ("test", CHECKS)}


def set_up(extra: str) -> None:
    """Make the environment if it is not there, and install the project with one of its extras into it."""
    if not PYTHON.exists():
        print(f"Making {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    print(f"Installing supervised-st[{extra}] (the first time takes minutes: torch is large)", flush=True)
    run("-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--editable", f".[{extra}]")


def run(*arguments: str) -> None:
    """Run the environment's Python in the project's folder; stop with its exit code if it fails."""
    done = subprocess.run([PYTHON, *arguments], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main(arguments: Sequence[str]) -> None:
    """Run the task that the first argument names; the others go to its last command."""
    if not arguments or arguments[0] not in TASKS:
        sys.exit(__doc__)
    extra, commands = TASKS[arguments[0]]
    set_up(extra)
    for command in commands[:-1]:
        run(*command)
    run(*commands[-1], *arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
