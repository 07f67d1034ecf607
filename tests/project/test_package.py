"""The built package, as a user gets it."""

import re
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers.programs import ROOT, run_python

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    done = run_python("-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    assert done.returncode == 0, done.stderr
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def test_the_wheel_holds_the_package_and_its_type_marker_only(built):
    names = zipfile.ZipFile(built[0]).namelist()
    assert "supervised_st/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"supervised_st", f"supervised_st-{VERSION}.dist-info"}


def test_links_of_the_description_lead_to_the_repository(built):
    """An index shows it without the folders next to it."""
    wheel = zipfile.ZipFile(built[0])
    described = wheel.read(f"supervised_st-{VERSION}.dist-info/METADATA").decode()
    links = re.findall(r'(?:\]\(|src=")([^)"]+)', described)
    repository = PROJECT["urls"]["Repository"]
    files = {link.partition("/main/")[2] for link in links if "/main/" in link}
    assert {"docs/images/moving.webp", "docs/conventions.md", "LICENSE"} <= files
    assert all((ROOT / file).exists() for file in files)
    assert all(link.startswith("https://") for link in links)
    assert f"]({repository}/blob/main/docs/speed.md)" in described


def test_the_source_distribution_holds_what_the_tests_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    needed = {"constraints.txt", "examples/quickstart.py", "LICENSE", "pyproject.toml", "README.md", "tasks.py"}
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert not needed - names
    assert not [name for name in names if name.endswith((".avi", ".mp4", ".csv", ".pyc"))]


def test_tests_run_in_the_source_distribution(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    test = "tests/project/test_public_api.py"
    done = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", test, folder=folder, PYTHONPATH=str(folder))
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory):
    """The Python of an environment that has the wheel and, from where the tests found it, torch."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False)
    site = next(folder.rglob("site-packages"))
    zipfile.ZipFile(built[0]).extractall(site)
    (site / "torch.pth").write_text(str(Path(sys.modules["torch"].__file__).parents[1]))
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def test_the_wheel_works_where_there_is_no_triton_and_no_gpu(bare, tmp_path):
    program = ROOT / "tests" / "project" / "programs" / "use_installed_package.py"
    done = run_python("-I", program, python=bare, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_first_model_of_the_readme_runs_from_the_wheel(bare, tmp_path):
    first = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    done = run_python("-I", "-c", first, python=bare, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_itself_only():
    """After torch and numpy, which are all it depends on. So it takes some fifty milliseconds of a CPU."""
    program = "import sys, numpy, torch; known = {*sys.modules}; import supervised_st; print(*{*sys.modules} - known)"
    loaded = {name.partition(".")[0] for name in run_python("-c", program).stdout.split()}
    assert loaded - sys.stdlib_module_names == {"supervised_st"}
    assert {re.match(r"[\w-]+", name)[0] for name in PROJECT["dependencies"]} == {"torch", "numpy"}
