"""The workflows can run: they are valid, what they call exists, and their versions are those that are claimed."""

import re
import shlex
import tomllib
from importlib.metadata import entry_points

import pytest
import yaml

from tests.helpers.programs import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = sorted((ROOT / ".github").rglob("*.yml"))
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FILES if path.parent.name == "workflows"}
JOBS = {f"{name}: {job}": body for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()}
RUNNERS = {"ubuntu-latest": "Linux", "macos-latest": "MacOS", "windows-latest": "Windows"}


def steps(key):
    return [step[key] for job in JOBS.values() for step in job["steps"] if key in step]


def combinations(job):
    matrix = JOBS[job]["strategy"]["matrix"]
    return matrix.get("include") or [{"os": os, "python": python} for os in matrix["os"] for python in matrix["python"]]


def test_there_are_workflows_for_every_purpose():
    assert set(WORKFLOWS) == {"checks", "gpu", "release"}
    assert {"lint", "types", "tests", "versions", "documentation"} == set(WORKFLOWS["checks"]["jobs"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_valid_yaml_and_names_public_hosts_only(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)
    hosts = set(re.findall(r"https?://([^/\"\s]+)", path.read_text()))
    assert hosts <= {"github.com", "pypi.org", "download.pytorch.org"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_may_only_read(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("job", JOBS)
def test_jobs_end(job):
    assert 1 <= JOBS[job]["timeout-minutes"] <= 60


@pytest.mark.parametrize("action", sorted(set(steps("uses"))))
def test_actions_are_pinned_by_a_tag(action):
    assert re.fullmatch(r"(actions|pypa)/[\w-]+@(v\d+|release/v\d+)", action)


@pytest.mark.parametrize("command", sorted(set(steps("run"))))
def test_commands_name_what_exists(command):
    program, *arguments = shlex.split(command.replace("${{ matrix.torch }}", "torch"))
    program = program.removeprefix(".venv/bin/")
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert program in scripts | {"ruff", "python", "python3", "grep"}
    is_pip = "pip" in arguments
    for argument in arguments:
        if "/" in argument and "://" not in argument and not argument.startswith("docs/_build"):
            assert (ROOT / argument).exists() or argument.startswith("runs/")
        if argument.endswith((".py", ".txt", ".toml")):
            assert (ROOT / argument).is_file()
        if extra := re.fullmatch(r"\.\[(\w+)\]", argument):
            assert extra[1] in PROJECT["optional-dependencies"]
        elif is_pip and re.fullmatch(r"[a-z][\w-]+", argument) and argument not in ("pip", "install"):
            assert re.search(rf"^{argument}==", (ROOT / "constraints.txt").read_text(), re.M | re.I), argument


def claimed(pattern):
    return {match[1] for line in PROJECT["classifiers"] if (match := re.fullmatch(pattern, line))}


def test_the_pythons_that_are_tested_are_those_that_are_claimed():
    tested = {case["python"] for job in ("checks: tests", "checks: versions") for case in combinations(job)}
    assert tested == claimed(r"Programming Language :: Python :: (3\.\d+)")
    oldest = min(tested, key=lambda version: int(version.split(".")[1]))
    assert PROJECT["requires-python"] == f">={oldest}"


def test_the_systems_that_are_tested_are_those_that_are_claimed():
    tested = {RUNNERS[case["os"]] for case in combinations("checks: tests")}
    assert tested == {name.split(" :: ")[-1] for name in claimed(r"Operating System :: (.+)")}


def test_the_oldest_torch_and_the_newest_are_tested():
    (floor,) = (name.removeprefix("torch>=") for name in PROJECT["dependencies"] if name.startswith("torch"))
    assert {case["torch"] for case in combinations("checks: versions")} == {f"torch=={floor}.*", "torch"}
