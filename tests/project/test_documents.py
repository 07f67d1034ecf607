"""The documents are true: their code runs, the docs build, links lead somewhere, and versions agree."""

import doctest
import html
import io
import re
import shutil
import tomllib
from contextlib import redirect_stdout
from importlib.metadata import version
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import supervised_st
from tests.helpers.programs import ROOT, run_python

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "gallery").glob("*.py"))
COMMUNITY = [ROOT / name for name in ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")]


# From torch's own exporter and Lightning; and because theta is a view of what the head returns.
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning")
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_on_the_page_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    if page.stem == "lightning":
        pytest.importorskip("lightning")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()

    def compare(example):
        """Compare an "output" block with what was printed since the one before; ... stands for anything."""
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        same = doctest.OutputChecker().check_output(example.parsed, printed.getvalue(), flags)
        assert same, f"{example.parsed!r} should be {printed.getvalue()!r}"
        printed.seek(0)
        printed.truncate()

    output = CodeBlockParser(language="output", evaluator=compare)
    with redirect_stdout(printed):
        for example in Sybil(parsers=[PythonCodeBlockParser(), output]).parse(page).examples():
            example.evaluate()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The documentation as a browser gets it. All tutorials have been run, and nothing gave a warning."""
    folder = tmp_path_factory.mktemp("site")
    made = shutil.ignore_patterns("_build", "api", "tutorials")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=made)
    shutil.copy(ROOT / "README.md", folder)  # the landing page includes some of it
    done = run_python("-m", "sphinx", "-W", "-q", folder / "docs", folder / "pages", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return folder / "pages"


def test_each_tutorial_has_one_picture(site):
    pictures = sorted(path.name for path in (site / "_images").glob("sphx_glr_*_2_00x.png"))
    assert pictures == [f"sphx_glr_{path.stem}_001_2_00x.png" for path in TUTORIALS]


@pytest.mark.parametrize(
    ("tutorial", "end"),
    [
        ("01_first_model", r"step 500: overlap 0\.[5-9]\d, [6-9]\d% of the digits are read"),
        ("05_flow", r"window (\[.*?\]) from bytes, \1 from floats"),
        ("06_regions", r"overlap with the targets 0\.[7-9]"),
        ("08_registration", r"Newton: off by (0e\+00|\de-1\d) after 12 steps"),
        (
            "10_after_guidance",
            r"the default: After 250 .* the windows are fine.*=1: After 250 .* more than half outside",
        ),
    ],
)
def test_tutorials_end_as_they_say(site, tutorial, end):
    page = html.unescape(re.sub("<[^>]+>", "", (site / "tutorials" / f"{tutorial}.html").read_text()))
    assert re.search(end, page, re.S)


def test_pages_need_no_network(site):
    pages = {path.relative_to(site): path.read_text() for path in site.rglob("*.html")}
    loaded = re.compile(r'<(?:script|img)[^>]+src="(?:https?:)?//|<link[^>]+stylesheet[^>]+href="(?:https?:)?//')
    assert not [name for name, page in pages.items() if loaded.search(page)]
    assert "<math" in (site / "conventions.html").read_text()  # formulas need no script


def test_the_reference_has_every_public_name():
    listed = set(re.findall(r"^   (?:\w+\.)*(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.M))
    modules = [value for name, value in vars(supervised_st).items() if isinstance(value, ModuleType) and name[0] != "_"]
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if getattr(value, "__module__", "").startswith(module.__name__) and not name.startswith(("_", "check_"))
    }
    assert public - listed == set()


@pytest.mark.parametrize("page", PAGES + COMMUNITY, ids=lambda page: page.name)
def test_links_to_files_of_the_project_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    # Tutorials are made from the scripts in the gallery.
    targets = [re.sub(r"tutorials/(\w+)\.rst", r"gallery/\1.py", target) for target in targets]
    targets = [target.replace("gallery/index.py", "gallery/GALLERY_HEADER.rst") for target in targets]
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
