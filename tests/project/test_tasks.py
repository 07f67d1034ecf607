"""`tasks.py` installs once, shows progress and stops at once. Its environment is a fake here: nothing is installed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.helpers.programs import listen_to_ctrl_c

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fakes are scripts that POSIX systems can start")

ROOT = Path(__file__).resolve().parents[2]
STOPPED = "stopped; the same command goes on from here"

# In place of the environment's Python: it notes each call and does what `behavior.py` says.
FAKE_PYTHON = f"""#!{sys.executable}
import sys
from pathlib import Path

root = Path({{root!r}})
arguments = sys.argv[1:]
if arguments[:1] == ["-c"] and "pip" in arguments[1]:
    print("{sys.version_info[0]}.{sys.version_info[1]}")
    sys.exit()
with (root / "calls").open("a") as calls:
    print(*arguments, file=calls)
exec((root / "behavior.py").read_text())
"""

# In place of the standard library's `venv`, with `--clear`.
FAKE_VENV = """
import shutil, sys
from pathlib import Path

shutil.rmtree(sys.argv[-1], ignore_errors=True)
python = Path(sys.argv[-1]) / "bin" / "python"
python.parent.mkdir(parents=True)
python.write_text(Path(__file__).with_name("python").read_text())
python.chmod(0o755)
"""

HANG = """
import signal, subprocess, sys, time
sys.excepthook = lambda *error: None  # a program that ends silently
subprocess.Popen(["sleep", "60"])
(root / "started").touch()
time.sleep(60)
"""


class Project:
    """A copy of `tasks.py` among fakes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "fakes").mkdir()
        (root / "fakes" / "venv.py").write_text(FAKE_VENV)
        (root / "fakes" / "python").write_text(FAKE_PYTHON.format(root=str(root)))
        shutil.copy(ROOT / "tasks.py", root)
        for name in ("pyproject.toml", "constraints.txt"):
            (root / name).write_text("first")
        self.behave("")

    def behave(self, code: str) -> None:
        (self.root / "behavior.py").write_text(code)

    def start(self, *arguments: str, **options) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.root / "tasks.py"), *arguments]
        environment = os.environ | {"PYTHONPATH": str(self.root / "fakes")}
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as a terminal does, whose Ctrl-C reaches the whole group
            preexec_fn=listen_to_ctrl_c,
            **options,
        )

    def run(self, *arguments: str, **options) -> tuple[int, str, str]:
        process = self.start(*arguments, **options)
        output, errors = process.communicate(timeout=30)
        return process.returncode, output, errors

    def calls(self) -> list[str]:
        """What the environment's Python was asked since the last time."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def installs(self) -> list[str]:
        return [call.rsplit("--editable ")[1] for call in self.calls() if call.startswith("-m pip install")]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",)], ids=" ".join)
def test_help_is_printed_and_nothing_installed(project, arguments):
    code, output, errors = project.run(*arguments)
    assert (code, errors) == (0, "")
    assert "python tasks.py demo" in output
    assert "python tasks.py test" in output
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize(
    ("word", "hint"),
    [("tset", "did you mean 'test'?"), ("Demo", "did you mean 'demo'?"), ("x", "the commands are demo, test and help")],
)
def test_a_typo_is_named(project, word, hint):
    assert project.run(word) == (2, "", f"unknown command {word!r}; {hint}\n")
    assert not (project.root / ".venv").exists()


def test_a_finished_environment_is_not_installed_again(project):
    assert project.run("demo")[0] == 0
    assert project.installs() == [".[example]"]
    code, output, errors = project.run("demo", "--preset", "smoke")
    assert (code, output, errors) == (0, "", "")
    assert project.calls() == [f"{project.root}/examples/mpii_cooking/run_all.py --preset smoke"]


def test_what_the_tests_need_includes_what_the_example_needs(project):
    project.run("demo")
    project.run("test")
    project.run("demo")
    assert project.installs() == [".[example]", ".[test]"]


def test_the_checks_run_before_the_tests_and_arguments_go_to_pytest(project):
    assert project.run("test", "-k", "shift")[0] == 0
    calls = [call.split()[:2] for call in project.calls()]
    assert calls[:3] == [["-m", "pip"], ["-m", "ruff"], ["-m", "ruff"]]
    assert calls[-1] == ["-m", "pytest"]
    project.run("test", "-k", "shift")
    assert project.calls()[-1].endswith(" -k shift")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_requirements_are_installed(project, name):
    project.run("demo")
    (project.root / name).write_text("second")
    project.run("demo")
    assert project.installs() == [".[example]", ".[example]"]


def test_a_moved_project_is_installed_again(project, tmp_path):
    project.run("demo")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in (".venv", "tasks.py", "pyproject.toml", "constraints.txt"):
        (project.root / name).rename(moved / name)
    subprocess.run([sys.executable, moved / "tasks.py", "demo"], check=True, capture_output=True)
    assert project.installs() == [".[example]", ".[example]"]


def test_a_failed_installation_is_tried_again_and_its_exit_code_passed_on(project):
    project.behave("sys.exit(3 * ('pip' in arguments))")
    assert project.run("demo")[0] == 3
    assert project.installs() == [".[example]"]
    project.behave("")
    assert project.run("demo")[0] == 0
    assert project.installs() == [".[example]"]


@pytest.mark.parametrize("answer", ["3.0", ""], ids=["another Python", "no pip"])
def test_an_environment_that_cannot_be_used_is_replaced(project, answer):
    project.run("demo")
    python = project.root / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho {answer}\n")
    (project.root / "constraints.txt").write_text("second")
    assert "Creating" in project.run("demo")[1]
    assert project.installs() == [".[example]", ".[example]"]


def test_an_environment_whose_python_is_gone_is_replaced(project):
    project.run("demo")
    (project.root / ".venv" / "bin" / "python").unlink()
    assert "Creating" in project.run("demo")[1]


@pytest.mark.parametrize(
    ("behavior", "expected"), [("sys.exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)], ids=["7", "SIGKILL"]
)
def test_the_exit_code_is_passed_on(project, behavior, expected):
    project.run("demo")
    project.behave(behavior)
    assert project.run("demo")[0] == expected


def test_large_downloads_are_shown_and_small_ones_are_not(project):
    project.behave("""
if "pip" in arguments:
    for index in range(200):
        print(f"Collecting package-{index}")
        print(f"  Downloading package_{index}-1.0-py3-none-any.whl (12 kB)")
    print("  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (190.4 MB)")
    print("Installing collected packages: " + ", ".join(f"package-{index}" for index in range(200)))
""")
    lines = project.run("demo")[1].splitlines()
    assert len(lines) == 4
    assert lines[2] == "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (190.4 MB)"
    assert lines[3].startswith("  Installing collected packages: package-0")
    assert max(map(len, lines[2:])) <= 102


@pytest.mark.parametrize("stage", ["install", "run"])
def test_ctrl_c_stops_everything_with_one_line(project, stage):
    if stage == "run":
        project.run("demo")
    project.behave(HANG)
    process = project.start("demo")
    errors = interrupt(project, process)
    assert (process.returncode, errors) == (130, f"{STOPPED}\n")
    project.behave("")
    project.run("demo")
    assert len(project.installs()) == (2 if stage == "install" else 1)


def test_the_message_of_a_stopped_run_is_not_repeated(project):
    project.run("demo")
    project.behave("try:" + textwrap.indent(HANG, "    ") + "except KeyboardInterrupt: sys.exit(130)")
    process = project.start("demo")
    assert interrupt(project, process) == ""
    assert process.returncode == 130


def test_a_process_that_does_not_listen_is_killed(project):
    project.run("demo")
    deaf = "import signal\nfor name in ('SIGINT', 'SIGTERM'): signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    project.behave(deaf + HANG.replace('["sleep", "60"]', '["sleep", "0"]'))
    process = project.start("demo")
    interrupt(project, process)
    assert process.returncode == 130


def interrupt(project: Project, process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C once the fake hangs; return the errors printed once all who could print any have ended."""
    deadline = time.monotonic() + 20
    while not (project.root / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    _, errors = process.communicate(timeout=30)  # waits for the fake and its child too: they hold the same pipe
    assert time.monotonic() - sent < 10  # 2 on an idle machine
    return errors
