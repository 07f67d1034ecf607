"""Shared fixtures. Kernels run compiled where there is a GPU, and in Triton's interpreter where there is none."""

import os
from importlib.util import find_spec

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when kernels are defined, so before the package is imported.

FENCE = 64


def pytest_collection_modifyitems(items):
    """Skip what runs kernels where there is no Triton, which has no version for macOS."""
    if find_spec("triton"):
        return
    for item in items:
        cases = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if item.get_closest_marker("triton") or any(case == "triton" for case in cases if isinstance(case, str)):
            item.add_marker(pytest.mark.skip(reason="needs Triton"))


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
    """Every buffer that a kernel writes arrives full of NaN, with a fence of NaN behind it that must survive."""
    fences = []

    def empty(like, shape, dtype):
        numel = torch.Size(shape).numel()
        whole = torch.full((numel + FENCE,), float("nan"), dtype=dtype, device=like.device)
        fences.append(whole[numel:])
        return whole[:numel].view(shape)

    monkeypatch.setattr("supervised_st._sampler.fused.empty", empty)
    yield
    assert fences, "no kernel ran"
    assert all(fence.isnan().all() for fence in fences), "a kernel wrote past the end of its buffer"


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
