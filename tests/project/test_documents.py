"""The documents are true: their code runs, the docs build, links lead somewhere, and versions agree."""

import re
import tomllib
from importlib.metadata import version

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from tests.helpers.programs import ROOT, run_python

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


# From torch's own exporter and Lightning; and because theta is a view of what the head returns.
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_on_the_page_runs(page, tmp_path, monkeypatch):
    if page.stem == "lightning":
        pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=[PythonCodeBlockParser()]).parse(page).examples():
        example.evaluate()


def test_the_documentation_builds_without_a_warning(tmp_path):
    done = run_python("-m", "sphinx", "-W", "-q", ROOT / "docs", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
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
