"""Shared fixtures. Kernels run compiled where there is a GPU, and in Triton's interpreter where there is none."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Workers share the cores. Threads that wait for each other spin.

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when kernels are defined, so before the package is imported.

from tests.helpers.remembered import forget_calls

# The same cases in each run: a change is judged by itself. ``benchmarks/reliability/random_cases.py`` tries a million.
settings.register_profile("same cases", derandomize=True, deadline=None)
settings.load_profile("same cases")

FENCE = 64

DATA = {
    "mpii": (
        "the annotation file of MPII Cooking Activities, detectionGroundtruth-1-0.csv, from https://www.mpi-inf.mpg.de/"
        "departments/computer-vision-and-machine-learning/research/human-activity-recognition/mpii-cooking-activities-"
        "dataset"
    ),
    "clips": (
        "the clips of EgoGestAR, one folder for each of ten gestures with twelve clips (up/01.mp4, ...), from "
        "https://github.com/varunj/EgoGestAR"
    ),
    "interactions": (
        "the 60 clips of the segmented set 1 of UT-Interaction, one folder for each of six classes "
        "(kick/set1_seq01_001.mp4, ...), from https://cvrc.ece.utexas.edu/SDHA2010/Human_Interaction.html"
    ),
}
"""By option: data that is not in the repository, and where to get it."""


def pytest_addoption(parser):
    """Name data that the project may not hold."""
    for name, what in DATA.items():
        parser.addoption(f"--{name}", metavar="FOLDER", type=Path, help=f"a folder that holds {what}")


def pytest_collection_modifyitems(items):
    """Skip what runs kernels where there is no Triton, which has no version for macOS."""
    for item in items:
        if runs_kernels(item) and not find_spec("triton"):
            item.add_marker(pytest.mark.skip(reason="needs Triton"))


def runs_kernels(item):
    cases = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return item.get_closest_marker("triton") or any(case == "triton" for case in cases if isinstance(case, str))


@pytest.fixture(scope="session")
def _fast_interpreter():
    """Patch ``triton.language`` once, and run as few programs as possible. Yields how many a processor usually gets."""
    from supervised_st._sampler import launches
    from tests.helpers.interpreter import patched_once

    programs = launches.PROGRAMS_PER_PROCESSOR
    with patched_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(launches, "PROGRAMS_PER_PROCESSOR", 0)
        yield programs


@pytest.fixture(autouse=True)
def _interpreted_kernels_are_fast(request):
    if runs_kernels(request.node) and not torch.cuda.is_available():
        request.getfixturevalue("_fast_interpreter")


@pytest.fixture
def _programs_of_a_gpu(request, monkeypatch):
    """Cut the work into as many programs as on a GPU, in the interpreter too."""
    if torch.cuda.is_available():
        yield
        return
    from supervised_st._sampler import calls, replay

    remembered = calls._call, replay._kind  # with the number of programs
    monkeypatch.setattr(
        "supervised_st._sampler.launches.PROGRAMS_PER_PROCESSOR", request.getfixturevalue("_fast_interpreter")
    )
    for kinds in remembered:
        kinds.cache_clear()
    yield
    for kinds in remembered:
        kinds.cache_clear()


def given_folder(config, name):
    """The folder that an option names; without the option, the test is skipped."""
    folder = config.getoption(name)
    if folder is None:
        pytest.skip(f"needs the option --{name} FOLDER, a folder that holds {DATA[name]}")
    if not folder.is_dir():
        pytest.fail(f"--{name} must be an existing folder, got {folder}")
    return folder


@pytest.fixture(scope="session")
def mpii_folder(pytestconfig):
    return given_folder(pytestconfig, "mpii")


@pytest.fixture(scope="session")
def clips_folder(pytestconfig):
    return given_folder(pytestconfig, "clips")


@pytest.fixture(scope="session")
def interactions_folder(pytestconfig):
    return given_folder(pytestconfig, "interactions")


@pytest.fixture(autouse=True)
def _calls_are_not_remembered():
    """Each test makes its own first calls: fixtures change what these would remember."""
    yield
    forget_calls()


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _tensors_travel_to_the_gpu(monkeypatch):
    """Tests make their tensors on the CPU; where there is a GPU, kernels get copies there and results come back."""
    if not (torch.cuda.is_available() and find_spec("triton")):
        return
    from supervised_st._sampler import fused

    sample = fused.affine_sample_fused

    def there_and_back(image, theta, constants, *options):
        constants = type(constants)(*(t if t is None else t.cuda() for t in constants))
        return sample(image.cuda(), theta.cuda(), constants, *options).to(image.device)

    monkeypatch.setattr(fused, "affine_sample_fused", there_and_back)


@pytest.fixture
def _poisoned_and_fenced_memory(monkeypatch):
    """Every buffer that a kernel writes arrives full of poison, with a fence of it behind it that must survive."""
    from tests.helpers.interpreter import poison

    fences = []

    def empty(like, shape, strides, dtype):
        numel = torch.Size(shape).numel()
        whole = torch.full((numel + FENCE,), poison(dtype), dtype=dtype, device=like.device)
        fences.append(whole[numel:])
        return whole.as_strided(shape, strides)

    monkeypatch.setattr("supervised_st._sampler.replay.empty", empty)
    yield
    assert fences, "no kernel ran"
    intact = (fence.isnan() | (fence == poison(fence.dtype)) for fence in fences)
    assert all(fence.all() for fence in intact), "a kernel wrote past the end of its buffer"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Small videos of two classes."""
    # Imported here, since most tests need nothing of the example.
    from examples.mpii_cooking.data.readers import open_dataset
    from tests.helpers.small_videos import moving_patch, write

    folder = tmp_path_factory.mktemp("classes")
    for index, name in enumerate(("left", "right")):
        for number in (1, 2, 10):
            write(folder / name / f"{number}.avi", moving_patch(11 + number % 3, 10 * index + number))
    return open_dataset(folder)


@pytest.fixture(scope="session")
def caches(dataset, tmp_path_factory):
    """The same videos, prepared."""
    from examples.mpii_cooking.data.preparation import prepare
    from examples.mpii_cooking.workspace import Workspace
    from tests.helpers.small_videos import PRESET

    return prepare(dataset, PRESET.data, Workspace(tmp_path_factory.mktemp("work")))
