"""The public names, and the built package as a user gets it."""

import inspect
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import supervised_st
from tests.helpers.programs import ROOT, run_python

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PUBLIC = {
    "Always", "DistortionMonitor", "Glimpse", "HardSwitch", "LinearAnneal", "MotionWindow", "MotionWindowTarget",
    "Plateau", "RegressiveGuidance", "Resize", "SupervisedSpatialTransformer", "TemporalCorrelationPooling",
    "WindowProfile", "affine_sample", "geometry", "paste", "plot", "targets",
}  # fmt: skip


def test_the_public_names_are_these():
    """A name that disappears or slips in is noticed."""
    exported = {name for name, thing in vars(supervised_st).items() if not name.startswith("_")}
    imported = {
        "version",
        "guidance",
        "monitor",
        "motion",
        "pasting",
        "pooling",
        "sampling",
        "schedules",
        "transformer",
        "types",
    }
    assert exported - imported == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"geometry", "plot", "targets"}))
def test_public_names_keep_the_house_rules(name):
    thing = getattr(supervised_st, name)
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if name in ("Glimpse", "MotionWindow", "WindowProfile", "Plateau"):  # records: their fields have an order
        return
    parameters = list(inspect.signature(thing).parameters.values())
    for parameter in parameters[1:]:
        optional = parameter.default is not parameter.empty
        assert not optional or parameter.kind is parameter.KEYWORD_ONLY, f"{name}({parameter.name}=) is positional"


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
