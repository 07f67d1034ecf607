"""Anomaly detection, with which users hunt NaN, finds none on the way to finite gradients of finite inputs."""

import pytest
import torch

from supervised_st import RegressiveGuidance, Resize, TemporalCorrelationPooling, affine_sample, paste
from supervised_st.geometry import (
    PARAMETERIZATIONS,
    compose,
    corners,
    flip_theta,
    parameters_from_theta,
    theta_from_parameters,
    theta_to_window,
    window_iou,
    window_to_theta,
)
from tests.helpers.sampling import BACKENDS, IDENTITY, supported

pytestmark = pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled:UserWarning")  # it is slow

DTYPE = torch.float64
# The identity, a collapsed region, a mirrored one, one far away, one whose coordinates are large, and a tiny one.
THETAS = torch.tensor([
    [[1, 0, 0], [0, 1, 0]],
    [[0, 0, 0], [0, 0, 0]],
    [[-1, 0, 0], [0, 1, 0]],
    [[1, 0, 50], [0, 1, -50]],
    [[300, -7, 1e30], [0, 1e-30, 0]],
    [[1e-30, 0, 1], [0, 1e-30, -1]],
], dtype=DTYPE)  # fmt: skip
TINY, HUGE = 1e-30, 1e30


def gradients(function, *inputs):
    inputs = [it.detach().clone().requires_grad_() for it in inputs]
    with torch.autograd.detect_anomaly():
        out = function(*inputs)
        found = torch.autograd.grad(out.sum(), inputs, materialize_grads=True)
    for it in found:
        assert it.isfinite().all()
    return found


@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, ("bilinear", "nearest", "bicubic")))
def test_samplers(backend, mode):
    image = torch.rand(len(THETAS), 2, 5, 4, dtype=DTYPE)
    for padding_mode in ("zeros", "border", "reflection", "fill"):
        gradients(
            lambda image, theta, padding_mode=padding_mode: affine_sample(
                image, theta, (3, 3), mode=mode, padding_mode=padding_mode, backend=backend
            ),
            image,
            THETAS,
        )


@pytest.mark.parametrize("padding_mode", ["zeros", "fill"])
def test_antialiasing(padding_mode):
    image = torch.rand(len(THETAS), 2, 5, 4, dtype=DTYPE)
    gradients(lambda *it: affine_sample(*it, (3, 3), padding_mode=padding_mode, antialias=True), image, THETAS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives(backend):
    image, theta = torch.rand(1, 2, 5, 4, dtype=DTYPE), (IDENTITY * 0.7).double()

    def gradient(image, theta):
        out = affine_sample(image, theta, (3, 3), backend=backend)
        return torch.autograd.grad(out.square().sum(), theta, create_graph=True)[0]

    gradients(gradient, image, theta)


def test_a_nan_coordinate_still_reaches_the_gradient_of_its_own_theta_only():
    theta = IDENTITY.repeat(2, 1, 1)
    theta[0, 0, 2] = float("nan")
    theta.requires_grad_()
    image = torch.rand(2, 1, 4, 4, requires_grad=True)
    affine_sample(image, theta, (3, 3), backend="reference").nansum().backward()
    assert theta.grad[0].isnan().all()
    assert theta.grad[1].isfinite().all()
    assert image.grad.isfinite().all()


@pytest.mark.parametrize(
    "function",
    [
        corners,
        flip_theta,
        lambda theta: compose(theta, THETAS.flip(0)),
        lambda theta: window_iou(theta, THETAS.flip(0)),
        lambda theta: window_iou(THETAS, theta),
        lambda theta: theta_to_window(theta, (4, 5)),
        lambda theta: window_to_theta(theta.flatten(1)[:, :4].abs() + 1, (1, 5), align_corners=True),
        *(
            lambda theta, loss=loss: RegressiveGuidance(loss)(theta, THETAS.clamp(-9, 9))
            for loss in ("l1", "corner_l1", "grid_mse")
        ),
    ],
)
def test_geometry_and_losses(function):
    gradients(function, THETAS)
    gradients(function, THETAS.float())


def test_pasting_where_some_regions_have_no_area():
    gradients(lambda theta: paste(torch.ones(2, 1, 2, 2), theta, torch.zeros(2, 1, 4, 4)), THETAS[:2].float())


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, DTYPE])
def test_parameterizations(kind, dtype):
    for bounds in (None, (0.1, 0.9), (0.1, 1.0)):
        if bounds is not None and kind in ("affine", "similarity"):
            continue
        gradients(lambda theta, bounds=bounds: parameters_from_theta(theta, kind, bounds=bounds), THETAS.to(dtype))
        count = PARAMETERIZATIONS[kind]
        parameters = torch.tensor([0, TINY, -TINY, 1, -30, HUGE, -HUGE], dtype=dtype)[:, None].repeat(1, count)
        gradients(lambda it, bounds=bounds: theta_from_parameters(it, kind, scale=0.5, bounds=bounds), parameters)


def test_a_window_without_room_has_no_gradient_to_its_shift():
    """At the identity with bounds the shift cannot move, so its parameter must not depend on it by 1e38."""
    theta = IDENTITY.clone().requires_grad_()
    parameters = parameters_from_theta(theta, "crop3", bounds=(0.1, 1.0))
    assert parameters[0, 1:].tolist() == [0, 0]
    parameters.sum().backward()
    assert theta.grad.abs().max() < 1e7


@pytest.mark.parametrize(
    "kind", ["distance", "rbf", "laplacian", "mds", "inner", "covariance", "correlation", "cosine"]
)
def test_pooling(kind):
    random = torch.rand(4, 3, dtype=DTYPE)
    clips = torch.stack([random, torch.zeros_like(random), torch.ones_like(random), random[:, :1].expand_as(random)])
    for map in ("none",) if kind == "distance" else ("none", "log"):
        for power in (0.1, 1.0):
            gradients(TemporalCorrelationPooling(kind, gamma=1.0, map=map, power=power, shrinkage=0.0), clips)


def test_resizing():
    gradients(Resize(3), torch.zeros(1, 1, 5, 7))
