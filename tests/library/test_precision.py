"""Devices without float64, such as MPS: what runs there and what says that it cannot, and how exact float32 is."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from supervised_st import (
    MotionWindowTarget,
    Plateau,
    RegressiveGuidance,
    Resize,
    SupervisedSpatialTransformer,
    TemporalCorrelationPooling,
    affine_sample,
    targets,
)
from supervised_st._precision import widest
from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.geometry import (
    at_scales,
    compose,
    corners,
    distortion,
    flip_theta,
    parameters_from_theta,
    theta_from_parameters,
    theta_to_window,
    window_iou,
    window_to_theta,
)
from supervised_st.motion import motion_map, window_scores
from supervised_st.pooling import median_gamma


class WithoutFloat64(TorchDispatchMode):
    """Fails where a float64 tensor would be made, as it would on MPS."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for it in tree_leaves(result):
            assert not isinstance(it, torch.Tensor) or it.dtype != torch.float64, func
        return result


@pytest.fixture
def _without_float64(monkeypatch):
    """A CPU that is like MPS."""
    monkeypatch.setattr("supervised_st._precision.widest", lambda device: torch.float32)
    with WithoutFloat64():
        yield


def leaf(*shape):
    return torch.rand(*shape, requires_grad=True)


LOOK = SupervisedSpatialTransformer(torch.nn.Flatten(), 4, features=126, downscale=Resize((6, 7)), backend="reference")


def guided():
    guidance = RegressiveGuidance(schedule=Plateau(2))

    def loss():
        return guidance.objective(LOOK, leaf(2, 3, 9, 9), target=leaf(2, 2, 3), task=lambda it: it.image.sum())

    for _ in range(3):  # under guidance twice, and slowed down once
        loss().backward()
        guidance.step()
        if guidance.steps == 2:
            guidance.off()
    return loss()


RUN = {
    "bytes": lambda: affine_sample(torch.ones(2, 3, 6, 7).byte(), leaf(2, 2, 3), 4, mean=3.0, backend="reference"),
    "compose": lambda: compose(leaf(2, 2, 3), leaf(2, 2, 3)),
    "at_scales": lambda: at_scales(leaf(2, 2, 3), (1, 2)),
    "corners": lambda: corners(leaf(2, 2, 3)),
    "from_boxes": lambda: targets.from_boxes(leaf(2, 4) + 1, (6, 7)).theta,
    "from_points": lambda: targets.from_points(leaf(2, 2) + 1, (6, 7), 3).theta,
    "flip_theta": lambda: flip_theta(leaf(2, 2, 3)),
    "guidance": guided,
    "parameters_from_theta": lambda: parameters_from_theta(leaf(2, 2, 3), "crop3", bounds=(0.1, 0.9)),
    "theta_from_parameters": lambda: theta_from_parameters(leaf(2, 3), "crop3", bounds=(0.1, 0.9)),
    "theta_to_window": lambda: theta_to_window(leaf(2, 2, 3), (6, 7)),
    "window_iou": lambda: window_iou(leaf(2, 2, 3), leaf(2, 2, 3)),
    "window_to_theta": lambda: window_to_theta(leaf(2, 4) + 1, (6, 7)),
}


@pytest.mark.usefixtures("_without_float64")
@pytest.mark.parametrize("name", RUN)
def test_runs_without_float64(name):
    result = RUN[name]()
    assert result.dtype == torch.float32
    result.sum().backward()


@pytest.mark.usefixtures("_without_float64")
def test_distortion_and_windows_without_float64():
    assert {it.dtype for it in distortion(leaf(2, 2, 3), (6, 7), 4)} == {torch.float32, torch.bool}
    assert window_to_theta(torch.tensor([1, 2, 3, 4]), (6, 7)).dtype == torch.float32


@pytest.mark.usefixtures("_without_float64")
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("mode", MODES)
def test_samples_without_float64(backend, mode):
    for padding_mode in PADDING_MODES:
        for largest in (1, 1000):  # the second is beyond what F.grid_sample is given
            image, theta = leaf(2, 3, 6, 7), leaf(2, 4, 2, 3)
            options = {"mode": mode, "padding_mode": padding_mode, "backend": backend}
            affine_sample(image, theta * largest, 5, **options).sum().backward()


NEED_FLOAT64 = {
    "flow": lambda: MotionWindowTarget(4)(leaf(2, 1, 2, 6, 7)),
    "flow of a map": lambda: motion_map(leaf(2, 1, 2, 6, 7)),
    "motion": lambda: window_scores(leaf(2, 6, 7), 3),
    "score_map": lambda: targets.from_map(leaf(2, 6, 7), 3),
    "features": lambda: TemporalCorrelationPooling("distance")(leaf(2, 6, 7)),
    "features of a set": lambda: median_gamma(leaf(2, 6, 7)),
    "image": lambda: affine_sample(leaf(2, 3, 6, 7), leaf(2, 2, 3), 5, antialias=True),
}


@pytest.mark.usefixtures("_without_float64")
@pytest.mark.parametrize("what", NEED_FLOAT64)
def test_says_what_needs_float64(what):
    name = what.split()[0]
    match = rf"{name} must be on a device with float64, which cpu has not: pass {name}\.cpu\(\)"
    with pytest.raises(TypeError, match=match):
        NEED_FLOAT64[what]()


def test_mps_alone_has_no_float64():
    found = {name: widest(torch.device(name)) for name in ("cpu", "cuda", "mps", "meta", "xpu")}
    assert found.pop("mps") == torch.float32
    assert set(found.values()) == {torch.float64}


BUDGET = 2.0**-20


def thetas(count=200):
    """Regions that lie within twice the image."""
    matrix, shift = torch.rand(count, 2, 2) * 2 - 1, torch.rand(count, 2, 1) * 2 - 1
    return torch.cat([matrix, shift], 2)


@pytest.fixture
def in_float32(monkeypatch):
    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr("supervised_st._precision.widest", lambda device: torch.float32)
            return function(*arguments)

    return call


@pytest.mark.parametrize("align_corners", [False, True])
def test_pixels_in_float32_are_within_the_budget(in_float32, align_corners):
    """The image holds its own coordinates, so that samples show them."""
    side = 1024
    ramp = torch.arange(side, dtype=torch.float64).expand(side, side)
    image = torch.stack([ramp, ramp.T])[None].float()

    def coordinates(theta):
        options = {"padding_mode": "border", "align_corners": align_corners, "backend": "reference"}
        return affine_sample(image, theta[None], (7, 9), **options)

    theta = thetas()
    difference = (in_float32(coordinates, theta) - coordinates(theta)).abs().max()
    assert 0 < difference <= BUDGET * side


@pytest.mark.parametrize("align_corners", [False, True])
def test_geometry_in_float32_is_within_the_budget(in_float32, align_corners):
    size, theta, other = (896, 1189), thetas(), thetas()
    window = torch.cat([torch.rand(200, 2) * 500, torch.rand(200, 2) * 300 + 1], 1)
    for function, arguments, scale in (
        (lambda *it: theta_to_window(*it, size, align_corners=align_corners), (theta,), max(size)),
        (lambda *it: window_to_theta(*it, size, align_corners=align_corners), (window,), 1),
        (lambda *it: window_to_theta(*it, size, align_corners=align_corners), (window.long(),), 1),
        (compose, (theta, other), 1),
        (window_iou, (theta, other), 1),
    ):
        difference = (in_float32(function, *arguments) - function(*arguments)).abs().max()
        assert difference <= BUDGET * scale
