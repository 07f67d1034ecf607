"""The built package, as a user gets it."""

import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from tests.helpers.programs import ROOT, run_python

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


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


def test_the_source_distribution_holds_what_the_tests_need(built):
    with tarfile.open(built[1]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    needed = {"constraints.txt", "examples/quickstart.py", "LICENSE", "pyproject.toml", "README.md", "tasks.py"}
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    assert not needed - names
    assert not [name for name in names if name.endswith((".avi", ".mp4", ".csv", ".pyc"))]


def test_the_wheel_works_where_there_is_no_triton_and_no_gpu(built, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    site = next((tmp_path / "env").rglob("site-packages"))
    zipfile.ZipFile(built[0]).extractall(site)
    # torch is found where the tests found it; the package only in the new environment.
    (site / "torch.pth").write_text(str(Path(sys.modules["torch"].__file__).parents[1]))
    program = ROOT / "tests" / "project" / "programs" / "use_installed_package.py"
    done = run_python("-I", program, python=python, folder=tmp_path)
    assert done.returncode == 0, done.stderr
