"""Derivatives of ``affine_sample``, first and second."""

import itertools
from functools import partial

import pytest
import torch

from benchmarks.tolerances import EXACT
from supervised_st._sampler import aten
from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample
from tests.helpers.assertions import assert_close
from tests.helpers.sampling import (
    BACKENDS,
    CONVENTIONS,
    IDENTITY,
    NAN,
    baseline,
    gradients,
    leaf,
    sum_gradients,
    supported,
)


@pytest.mark.parametrize(
    ("backend", "mode", "padding_mode", "align_corners"),
    supported(BACKENDS, MODES, PADDING_MODES, CONVENTIONS),
)
def test_first_and_second_derivatives(backend, mode, padding_mode, align_corners):
    g = torch.Generator().manual_seed(5)
    image = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=g, requires_grad=True)
    theta = (torch.eye(2, 3, dtype=torch.float64)[None] * 0.71 + torch.tensor([0.11, 0.07, 0.13])).requires_grad_()
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, "backend": backend}
    if padding_mode == "fill":
        options["fill_value"] = (0.25, -1.0)

    def sample(image, theta):
        return affine_sample(image, theta, (2, 2), **options)

    # The full Jacobian takes the interpreter seconds. Its float64 gradients are compared with the baseline, too.
    assert torch.autograd.gradcheck(sample, (image, theta), fast_mode=backend == "triton")
    assert torch.autograd.gradgradcheck(sample, (image, theta), fast_mode=True)


@pytest.mark.parametrize("differentiates_twice", sorted({aten._DIFFERENTIATES_TWICE, False}))
@pytest.mark.parametrize(
    ("backend", "mode", "align_corners"), supported(BACKENDS, ("bilinear", "bicubic"), CONVENTIONS)
)
def test_a_theta_that_depends_on_the_image(monkeypatch, backend, mode, align_corners, differentiates_twice):
    """As in every spatial transformer. The image's gradient through theta must be counted once."""
    monkeypatch.setattr("supervised_st._sampler.aten._DIFFERENTIATES_TWICE", differentiates_twice)
    g = torch.Generator().manual_seed(2)
    image = torch.randn(1, 1, 3, 4, dtype=torch.float64, generator=g, requires_grad=True)
    toward = torch.randn(2, 3, dtype=torch.float64, generator=g) * 0.1

    def loss(image):
        theta = torch.eye(2, 3, dtype=torch.float64)[None] * 0.7 + 0.03 + toward * image.mean()
        found = affine_sample(image, theta, (2, 3), mode=mode, align_corners=align_corners, backend=backend)
        return found.square().sum()

    (once,) = torch.autograd.grad(loss(image), image)
    (again,) = torch.autograd.grad(loss(image), image, create_graph=True)
    assert_close("gradient", again.detach(), once, EXACT)
    assert torch.autograd.gradgradcheck(loss, (image,), fast_mode=True)


SINGULAR = {
    "all to the center": [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
    "all to one point": [[0.0, 0.0, 0.1], [0.0, 0.0, -0.2]],
    "all to one row": [[0.9, 0.2, 0.0], [0.0, 0.0, 0.1]],
    "all to one column": [[0.0, 0.9, 0.1], [0.0, 0.6, 0.1]],
    "all to the diagonal": [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]],
    "all to one diagonal": [[0.5, 0.5, 0.0], [0.5, 0.5, 0.1]],
    "nearly all to one diagonal": [[0.5, 0.5, 0.0], [0.5, 0.5 + 1e-11, 0.1]],
    "all to one line but for the last bit": [[0.3, 0.7, 0.05], [0.3 * 0.6, 0.7 * 0.6, 0.1]],
    "denormal in float32": [[1e-42, 0.0, 0.2], [0.0, 1e-42, -0.3]],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rows", SINGULAR.values(), ids=SINGULAR)
def test_singular_transforms(rows, dtype, backend):
    """kornia#1404: singular matrices. The backward must not need the inverse either."""
    tolerance = EXACT * 100 if dtype == torch.float64 else 1e-4
    for padding_mode in ("zeros", "border", "reflection"):
        inputs = [leaf(torch.randn(1, 2, 5, 6, dtype=dtype)), leaf(torch.tensor([rows], dtype=dtype))]
        exact = [leaf(tensor.double()) for tensor in inputs]
        out = affine_sample(*inputs, (7, 4), padding_mode=padding_mode, backend=backend)
        want = baseline(*exact, (7, 4), padding_mode=padding_mode)
        assert_close(f"{padding_mode}, sampled", out, want.detach(), tolerance)
        pairs = zip(("image", "theta"), gradients(out, inputs), gradients(want, exact), strict=True)
        for name, mine, true in pairs:
            assert_close(f"{padding_mode}, {name} gradient", mine, true, tolerance)


@pytest.mark.triton
@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_the_image_gradient_meets_every_mirror(align_corners):
    """Between the outer pixel's center and its edge, output pixels meet the mirror of one convention only."""
    g = torch.Generator().manual_seed(3)
    image = torch.randn(1, 1, 5, 4, dtype=torch.float64, generator=g, requires_grad=True)
    for center, scale in itertools.product((-1.15, -1.05, 1.05, 1.15), (0.1, 0.01, 0.3)):
        theta = torch.tensor([[[scale, 0.3 * scale, center], [0.2 * scale, scale, center]]], dtype=torch.float64)
        got, want = (
            gradients(
                affine_sample(
                    image, theta, (5, 6), padding_mode="reflection", align_corners=align_corners, backend=backend
                ),
                (image,),
            )[0]
            for backend in ("triton", "reference")
        )
        assert_close(f"image gradient at {center}, {scale}", got, want, EXACT * 100)


@pytest.mark.triton
@pytest.mark.parametrize("padding_mode", ["border", "reflection"])
def test_a_nan_pixel_does_not_reach_theta_where_the_slope_is_zero(padding_mode):
    image = torch.arange(32.0).view(1, 1, 4, 8)
    image[0, 0, 0, 3] = NAN
    missing = []
    for backend in ("triton", "reference"):
        theta = torch.eye(2, 3)[None].requires_grad_()
        out = affine_sample(image, theta, (4, 8), padding_mode=padding_mode, backend=backend)
        missing.append(torch.autograd.grad(out, theta, torch.ones_like(out))[0].isnan())
    assert torch.equal(*missing)
    assert not missing[0][0, 1].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["expanded", "turned around", "channels last", "every other"])
def test_a_gradient_that_is_not_contiguous(backend, layout):
    image = leaf(torch.randn(2, 3, 4, 5))
    out = affine_sample(image, IDENTITY.repeat(2, 1, 1), (4, 5), backend=backend)
    weights = {
        "expanded": torch.ones(()).expand(2, 3, 4, 5),
        "turned around": torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0),
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "every other": torch.randn(2, 3, 4, 10)[..., ::2],
    }[layout]
    (got,) = sum_gradients(out, image, grad=weights)
    torch.testing.assert_close(got, weights.contiguous(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gradient_is_the_same_without_the_other(backend):
    """requires_grad on the image only, on theta only, and on neither."""
    image, theta = torch.randn(1, 2, 4, 5), torch.tensor([[[0.8, 0.2, 0.1], [-0.3, 0.7, 0.2]]])
    sample = partial(affine_sample, size=(3, 3), backend=backend)
    both = leaf(image), leaf(theta)
    want_image, want_theta = sum_gradients(sample(*both), *both)
    only_image, only_theta = leaf(image), leaf(theta)
    assert torch.equal(sum_gradients(sample(only_image, theta), only_image)[0], want_image)
    assert torch.equal(sum_gradients(sample(image, only_theta), only_theta)[0], want_theta)
    assert not sample(image, theta).requires_grad


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("transforms", [(), (3,)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtypes", list(itertools.product((torch.float32, torch.float64), repeat=2)), ids=str)
def test_the_gradient_of_the_grid_has_the_bits_of_autograd(dtypes, groups, transforms, align_corners):
    """One node does what autograd does with the operators of the forward, and so does its own derivative."""
    g = torch.Generator().manual_seed(6)
    values_dtype, theta_dtype = dtypes
    theta = torch.randn(2, *transforms, 2, 3, dtype=theta_dtype, generator=g, requires_grad=True)
    for size in ((6, 11), (9, 9), (1, 5), (7, 1)):
        options = size, align_corners, groups, values_dtype
        grids = aten._grid(theta, *options), aten._Grid.apply(theta, *options)
        assert torch.equal(*grids)
        weights = torch.randn(grids[0].shape, dtype=values_dtype, generator=g, requires_grad=True)
        firsts = [torch.autograd.grad(grid, theta, weights, create_graph=True)[0] for grid in grids]
        assert torch.equal(*firsts)
        direction = torch.randn(theta.shape, dtype=theta_dtype, generator=g)
        assert torch.equal(*(torch.autograd.grad(first, weights, direction)[0] for first in firsts))


def test_a_size_first_seen_in_inference_mode_can_be_differentiated():
    """The coordinates of an output's axes are kept from one call to the next."""
    image, theta = torch.randn(1, 1, 4, 5), (IDENTITY * 0.71).requires_grad_()

    def derivatives():
        loss = affine_sample(image, theta, (2, 3), backend="aten").square().sum()
        (first,) = torch.autograd.grad(loss, theta, create_graph=True)
        return first, torch.autograd.grad(first.square().sum(), theta)[0]

    aten._axes.cache_clear()
    want = derivatives()
    aten._axes.cache_clear()
    with torch.inference_mode():
        affine_sample(image, theta, (2, 3), backend="aten")
    assert all(torch.equal(*pair) for pair in zip(derivatives(), want, strict=True))
