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

CHECKS = (
    ("-m", "ruff", "format", "--check", "."),
    ("-m", "ruff", "check", "."),
    ("-m", "codespell_lib", "."),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
)


def demo(arguments: Sequence[str]) -> None:
    """Run the paper's example, in the caller's folder, to which the arguments may refer."""
    set_up("example")
    run(str(ROOT / "examples" / "mpii_cooking" / "run_all.py"), *arguments)


def test(arguments: Sequence[str]) -> None:
    """Run every check, and the tests last."""
    set_up("test")
    for check in CHECKS:
        run(*check, folder=ROOT)
    # One process per core; each keeps to its own stretch of the tests as long as it can, for what they share.
    run("-m", "pytest", "--numprocesses=auto", "--dist=worksteal", *arguments, folder=ROOT)


def set_up(extra: str) -> None:
    """Make the environment unless a whole one is there, and install the project with one of its extras into it."""
    whole = PYTHON.exists() and not subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode
    if not whole:
        print(f"Making {ENVIRONMENT}", flush=True)
        try:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
        except subprocess.CalledProcessError:
            sys.exit("This Python cannot make environments with pip. On Debian and Ubuntu: apt install python3-venv")
    print(f"Installing supervised-st[{extra}] (the first time takes minutes: torch is large)", flush=True)
    run("-m", "pip", "install", "--quiet", "--constraint", "constraints.txt", "--editable", f".[{extra}]", folder=ROOT)


def run(*arguments: str, folder: Path | None = None) -> None:
    """Run the environment's Python; stop with its exit code if it fails."""
    done = subprocess.run([PYTHON, *arguments], cwd=folder, check=False)
    if done.returncode:
        sys.exit(done.returncode)


TASKS = {"demo": demo, "test": test}

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - this is for whoever has an older one
        sys.exit(f"supervised-st needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    if len(sys.argv) < 2 or sys.argv[1] not in TASKS:
        sys.exit(__doc__)
    TASKS[sys.argv[1]](sys.argv[2:])
