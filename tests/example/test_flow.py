"""Optical flow: eight bits, the estimators, and what RAFT lacks."""

import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.mpii_cooking.data import flow
from examples.mpii_cooking.data.dataset import DataError


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(0.5, 20))
def test_eight_bits_keep_a_displacement_to_one_step(displacement, bound):
    u, v = flow.quantize(np.full((1, 1, 2), displacement), bound).ravel().tolist()
    decoded = (u - 128) * 2 * bound / 255
    assert u == v
    assert abs(decoded - np.clip(displacement, -bound, bound)) <= 2 * bound / 255


@pytest.mark.parametrize("bound", [8.0, 20.0])
def test_eight_bits_saturate_at_the_bound(bound):
    step = 2 * bound / 255
    displacements = np.array([-1e6, -bound - step, -bound, -bound + step, bound - step, bound, bound + step, 1e6])
    u, v = flow.quantize(np.stack([displacements, -displacements], axis=-1)[None], bound)
    assert u.tolist() == [[0, 0, 0, 1, 254, 255, 255, 255]]
    assert v.tolist() == [[255, 255, 255, 254, 1, 0, 0, 0]]


def test_no_motion_is_exactly_128():
    assert (flow.quantize(np.zeros((3, 4, 2)), 8.0) == 128).all()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_follows_a_shift_of_the_picture(method):
    texture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (80, 100)).astype(np.float32), (0, 0), 2)
    film = [np.roll(texture * 3 - 255, (now, 2 * now), (0, 1)).clip(0, 255).astype(np.uint8) for now in range(4)]
    found = list(flow.flows(film, flow.estimator(method), 8.0))
    u, v = (np.median((part[20:-20, 20:-20].astype(float) - 128) * 16 / 255) for part in found[0])
    assert (u, v) == pytest.approx((2, 1), abs=0.1)
    assert len(found) == len(film)
    np.testing.assert_array_equal(found[-1], found[-2])
    assert [part.tolist() for part in flow.flows(film[:1], flow.estimator(method), 8.0)] == [[[[128] * 100] * 80] * 2]


@pytest.mark.parametrize("size", [(112, 149), (128, 136), (200, 131), (1, 1)], ids=str)
def test_raft_gets_sides_and_values_it_can_take_and_gives_each_pixel_its_own_flow(size):
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, *size), dtype=np.uint8)

    def network(*images: torch.Tensor) -> list[torch.Tensor]:
        """As u and v, the gray values of both pictures: so whatever moves or scales pixels shows."""
        for image, picture in zip(images, (first, second), strict=True):
            assert (image.dtype, image.shape[:2]) == (torch.float32, (1, 3))
            for side, wanted in zip(image.shape[2:], size, strict=True):
                assert side % 8 == 0
                assert max(128, wanted) <= side < max(129, wanted + 8)
            assert image.abs().max() <= 1
            assert torch.equal(image, image[:, :1].expand_as(image))
            assert set(gray(image).unique().tolist()) == set(picture.ravel().tolist()), "margins repeat the edge"
        return [torch.full_like(images[0][:, :2], torch.nan), torch.cat([gray(image) for image in images], dim=1)]

    def gray(image: torch.Tensor) -> torch.Tensor:
        return (image[:, :1] * 127.5 + 127.5).round()

    found = flow.raft(network, torch.device("cpu"))(first, second)
    np.testing.assert_array_equal(found, np.stack([first, second], axis=-1))


def test_what_raft_lacks_is_named(tmp_path, monkeypatch):
    weights = tmp_path / "raft.pth"
    for missing in (None, str(weights)):
        with pytest.raises(
            DataError, match=r"needs a file with torchvision's weights, such as .*, got (None|.*raft\.pth)"
        ):
            flow.estimator("raft", missing)
    weights.touch()
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"needs torchvision, built for torch .*: pip install torchvision"):
        flow.estimator("raft", str(weights))
    with pytest.raises(DataError, match=r"weights belong to flow raft, got .*raft\.pth with flow dis"):
        flow.estimator("dis", str(weights))


@pytest.mark.parametrize("name", ["raft_small", "raft_large"])
def test_torchvisions_raft_runs(tmp_path, name):
    optical_flow = pytest.importorskip("torchvision.models.optical_flow")
    weights = tmp_path / "raft.pth"
    torch.save(getattr(optical_flow, name)().state_dict(), weights)
    found = flow.estimator("raft", str(weights))(*np.zeros((2, 112, 149), np.uint8))
    assert (found.shape, found.dtype) == ((112, 149, 2), np.float32)
    weights.write_bytes(b"no weights")
    with pytest.raises(DataError, match="must hold weights of torchvision's raft_large or raft_small"):
        flow.estimator("raft", str(weights))
