"""The documents are true: their code runs, the docs build, links lead somewhere, and versions agree."""

import re
import tomllib
from importlib.metadata import version

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from tests.helpers.programs import ROOT, run_python

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMUNITY = [ROOT / name for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_on_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=[PythonCodeBlockParser()]).parse(page).examples():
        example.evaluate()


def test_the_documentation_builds_without_a_warning(tmp_path):
    done = run_python("-m", "sphinx", "-W", "-q", ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES + COMMUNITY, ids=lambda page: page.name)
def test_links_to_files_of_the_project_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("folder", ["supervised_st", "examples/mpii_cooking"])
def test_the_design_page_names_every_file(folder):
    page = (ROOT / "docs" / "design.md").read_text()
    files = [path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    assert not [name for name in map(str, files) if f"`{name.removeprefix('_sampler/')}`" not in page]


def test_the_design_page_has_the_import_orders_that_the_linter_checks():
    page = (ROOT / "docs" / "design.md").read_text()
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [" > ".join(contract["layers"]) for contract in contracts] == re.findall(r"^(.* > .*)$", page, re.M)


def test_the_version_is_the_same_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    newest = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)[1]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)[1]
    assert declared == newest == cited == version("supervised-st")


def test_the_address_is_the_same_everywhere():
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    files = [
        ROOT / "pyproject.toml",
        ROOT / "CITATION.cff",
        ROOT / "README.md",
        *COMMUNITY,
        *(ROOT / "docs").glob("*.md"),
    ]
    named = {url for path in files for url in re.findall(r"https://github\.com/[\w-]+/supervised-st", path.read_text())}
    assert named == {address}


def test_the_supported_versions_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    policy = (ROOT / "docs" / "policy.md").read_text()
    oldest = dict(re.findall(r"^\| (Python|torch|Triton)[^|]* \| ([\d.]+)", policy, re.M))
    assert f">={oldest['Python']}" == project["requires-python"]
    assert f"torch>={oldest['torch']}" in project["dependencies"]
    assert all(f">={oldest['Triton']};" in name for name in project["optional-dependencies"]["triton"])
    newest = re.search(r"^\| Python \|[^|]*\| ([\d.]+)", policy, re.M)[1]
    assert f"Programming Language :: Python :: {newest}" in project["classifiers"]
