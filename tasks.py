"""Set the project up and run it. This needs Python 3.11 or newer and nothing else.

    python tasks.py demo [ARGUMENTS]   run the paper's example; the arguments go to run_all.py
    python tasks.py test [ARGUMENTS]   run every check and test; the arguments go to pytest
    python tasks.py help               print this text

The first start installs the versions in `constraints.txt` into an environment of its own, `.venv`, next to this file.
Later starts use it as it is, also without a network. Delete the folder to start over.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = ENVIRONMENT / "installed.sha256"  # written last: without it, the installation is not complete
PYTHON_VERSION = "{}.{}".format(*sys.version_info)

GRACE_SECONDS = 3.0  # for a child to end by itself after Ctrl-C
STOPPED = 130  # exit code after Ctrl-C, as shells have it
LINES_OF_A_FAILURE = 40

CHECKS = (
    ("-m", "ruff", "format", "--check", "."),
    ("-m", "ruff", "check", "."),
    ("-m", "codespell_lib", "."),
    ("-m", "mypy"),
    ("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"),
)


def demo(arguments: Sequence[str]) -> None:
    """Run the paper's example in the current folder, so that relative paths in the arguments work."""
    set_up("example")
    run(str(ROOT / "examples" / "mpii_cooking" / "run_all.py"), *arguments)


def test(arguments: Sequence[str]) -> None:
    """Run every check, and the tests last."""
    set_up("test")
    for check in CHECKS:
        run(*check, folder=ROOT)
    # One process per core. Each runs neighboring tests as long as it can, because these share fixtures.
    run("-m", "pytest", "--numprocesses=auto", "--dist=worksteal", "--durations=10", *arguments, folder=ROOT)


TASKS = {"demo": demo, "test": test}


def set_up(extra: str) -> None:
    """Install the project and one of its extras, unless that is done. The extra `test` includes every other."""
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() in (fingerprint(extra), fingerprint("test")):
        return
    STAMP.unlink(missing_ok=True)
    if not is_usable():
        print(f"Creating {ENVIRONMENT}", flush=True)
        if subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=False).returncode:
            sys.exit("This Python cannot create environments. On Debian and Ubuntu: apt install python3-venv")
    print(f"Installing supervised-st[{extra}]: the first time takes minutes, mostly for torch", flush=True)
    install(extra)
    STAMP.write_text(fingerprint(extra))


def fingerprint(extra: str) -> str:
    """Hash everything an installation depends on. It is editable, so it depends on the folder too."""
    parts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256("\0".join([*parts, extra, PYTHON_VERSION, str(ROOT)]).encode()).hexdigest()


def is_usable() -> bool:
    """Whether the environment has pip and this version of Python."""
    if not PYTHON.exists():
        return False
    script = "import pip, sys; print('{}.{}'.format(*sys.version_info))"
    done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip() == PYTHON_VERSION


def install(extra: str) -> None:
    """Install into the environment; if that fails, show what pip said and stop with its exit code."""
    options = ("--disable-pip-version-check", "--no-input", "--constraint", "constraints.txt")
    command = [PYTHON, "-m", "pip", "install", *options, "--editable", f".[{extra}]"]
    pip = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
    )
    last = deque(maxlen=LINES_OF_A_FAILURE)
    for line in pip.stdout or ():
        last.append(line)
        show_progress(line.strip())
    if sys.stdout.isatty():
        print()
    if pip.wait():
        sys.stderr.writelines(last)
    check(pip.returncode)


def show_progress(line: str) -> None:
    """Show what pip does: on a terminal as one changing line, elsewhere the large downloads and the last step."""
    if not line.startswith(("Collecting", "Processing", "Downloading", "Using cached", "Installing collected")):
        return
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{line[:width]:<{width}}", end="", flush=True)
    elif line.startswith("Installing") or re.search(r"\([\d.]+ [MG]B\)$", line):
        print(f"  {line[:100]}", flush=True)


def run(*arguments: str, folder: Path | None = None) -> None:
    """Run the environment's Python; stop with its exit code if it fails."""
    process = subprocess.Popen([PYTHON, *arguments], cwd=folder)
    try:
        check(process.wait())
    except KeyboardInterrupt:
        if stop(process) == STOPPED:  # it has printed the line itself
            sys.exit(STOPPED)
        raise


def stop(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process that Ctrl-C has reached too, and end it if it keeps running. Return its exit code."""
    for end in (process.terminate, process.kill):
        try:
            return process.wait(GRACE_SECONDS / 2)
        except subprocess.TimeoutExpired:
            end()
    return process.wait()


def check(code: int) -> None:
    """Stop with an exit code that is not 0; a negative one is a signal, as in `subprocess`."""
    if code:
        sys.exit(code if code > 0 else 128 - code)


def main(command: str = "help", *arguments: str) -> None:
    """Run one command."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the environment needs it, and an older Python reads this file too
        sys.exit(f"supervised-st needs Python 3.11 or newer; this is {PYTHON_VERSION}")
    if command in ("help", "--help", "-h"):
        print((__doc__ or "").strip())
        return
    if command not in TASKS:
        similar = difflib.get_close_matches(command, TASKS, n=1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"the commands are {', '.join(TASKS)} and help"
        print(f"unknown command {command!r}; {hint}", file=sys.stderr)
        sys.exit(2)
    try:
        TASKS[command](arguments)
    except KeyboardInterrupt:
        lead = "\n" if sys.stderr.isatty() else ""  # after the terminal's ^C
        print(f"{lead}stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(STOPPED)


if __name__ == "__main__":
    main(*sys.argv[1:])
