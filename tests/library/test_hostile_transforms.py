"""Affine transforms that are NaN, infinite, huge, singular or malformed.

Many of them have crashed, corrupted or misled a sampler somewhere. Issue numbers are public: ``pytorch#24823`` is
https://github.com/pytorch/pytorch/issues/24823. What could end the process runs in a process of its own.
"""

import itertools

import pytest
import torch

from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample
from tests.helpers.programs import run_cases
from tests.helpers.sampling import (
    BACKENDS,
    IDENTITY,
    INF,
    NAN,
    leaf,
    sum_gradients,
)
from tests.library.programs.hostile_transforms import HOSTILE, RUNS


def theta_with(value, entry, dtype=torch.float32):
    theta = torch.eye(2, 3, dtype=dtype)[None].repeat(2, 1, 1)
    theta.view(2, 6)[1, entry] = value
    return theta


HOSTILE_OPTIONS = [
    *(
        (backend, "bilinear", padding_mode, True)
        for backend in ("aten", "triton")
        for padding_mode in ("zeros", "fill")
    ),
    *(("triton", mode, padding_mode, False) for mode in ("bilinear", "nearest") for padding_mode in PADDING_MODES),
]
"""Without antialiasing, ``aten`` and the reference are compared with what is documented."""


def test_nan_infinite_and_huge_transforms_in_all_modes_and_paddings():
    """In F.grid_sample on a CPU some end the process in the backward, others give values that are not documented.

    pytorch#19826 (NaN, border), pytorch#24823 (NaN and infinities, reflection and zeros; -1e20; memory corruption in
    3-D), pytorch#42616 and pytorch#42703 (2.5e38, reflection), pytorch#51911 (2.98e38 and -3.2e38), pytorch#149013
    (out of bounds, zeros), onnxruntime#27975 and onnxruntime#28302 (reflection reads the heap), torchvision#9272 and
    torchvision#9273 (NaN and infinite boxes), CVE-2020-15266 (boxes that become NaN in the kernel).
    """
    names = run_cases("tests.library.programs.hostile_transforms")
    assert len(names) == len(RUNS) * len(MODES) * len(PADDING_MODES) * len(HOSTILE)


@pytest.mark.parametrize(("backend", "mode", "padding_mode", "antialias"), HOSTILE_OPTIONS)
def test_hostile_transforms_give_the_same_values_on_every_backend(backend, mode, padding_mode, antialias):
    """NaN coordinates give NaN, no gradient to the image and NaN to theta. Other images do not change."""
    options = {"mode": mode, "padding_mode": padding_mode, "antialias": antialias}
    hostile = [theta_with(value, entry)[1] for value, entry in itertools.product(HOSTILE, (0, 2))]
    transforms = torch.stack([*hostile, torch.eye(2, 3)])
    results = []
    for either in ("reference", backend):
        image = torch.arange(12.0).expand(len(transforms), 1, 12).reshape(-1, 1, 3, 4).requires_grad_()
        theta = transforms.clone().requires_grad_()
        out = affine_sample(image, theta, (3, 4), **options, backend=either)
        results.append((out.detach(), *torch.autograd.grad(out.sum(), (image, theta), materialize_grads=True)))
    for out, grad_image, grad_theta in results:
        torch.testing.assert_close(out[-1], torch.arange(12.0).view(1, 3, 4), rtol=0, atol=1e-5)
        assert grad_image.isfinite().all()
        torch.testing.assert_close(out, results[0][0], equal_nan=True, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(grad_image, results[0][1], rtol=1e-6, atol=1e-5)
        assert torch.equal(grad_theta.isnan(), results[0][2].isnan())


@pytest.mark.parametrize("backend", BACKENDS)
def test_documented_values(backend):
    image = torch.ones(1, 1, 4, 4)

    def sample(entry, value, padding_mode, **options):
        return affine_sample(
            image, theta_with(value, entry)[1:], (4, 4), padding_mode=padding_mode, backend=backend, **options
        )

    assert (sample(2, INF, "zeros") == 0).all()
    assert (sample(2, -INF, "fill", fill_value=7.0) == 7).all()
    assert (sample(2, INF, "border") == 1).all()
    assert sample(2, NAN, "border").isnan().all()
    assert (sample(2, 1e20, "zeros") == 0).all()
    # An infinite footprint: pixels in bounds do not count against those out of bounds.
    assert (sample(2, -INF, "zeros", antialias=True) == 0).all()
    assert sample(2, NAN, "zeros", antialias=True).isnan().all()
    assert (sample(0, 2.5e38, "fill", fill_value=7.0, antialias=True) == 7).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_coordinates_from_minus_1e7_to_7e7(backend):
    """The range in which a compiler folded a bounds check away: illegal access on CUDA (pytorch#35202, PR #35506)."""
    image = leaf(torch.ones(1, 1, 4, 4))
    theta = leaf(torch.tensor([[[3.9e7, 0.0, 2.9e7], [0.0, 1.0, 0.0]]]))
    out = affine_sample(image, theta, (4, 4), backend=backend)
    grad_image, grad_theta = sum_gradients(out, image, theta)
    assert (out == 0).all()
    assert (grad_image == 0).all()
    assert (grad_theta == 0).all()


@pytest.mark.triton
def test_steps_of_millions_of_pixels():
    """Every finite step between two output pixels, also where most of a block is beyond 32 bits."""
    assert len(run_cases("tests.library.programs.long_steps")) == 13


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2**60, 2, 3), r"theta must have shape \(1, 2, 3\)"),
        ((1, 1, 1, 1, 2, 3), r"theta must have shape \(1, 2, 3\)"),
        ((1, 3, 3), r"theta must have shape"),
        ((3, 2), r"theta must have shape"),
    ],
    ids=["2^60 transforms", "rank 6", "3 x 3", "rank 2"],
)
def test_transforms_of_absurd_shapes(backend, shape, match):
    """pytorch#94590: a theta of rank 6, or of more than 10^18 transforms (expanded, so it takes no memory)."""
    with pytest.raises(ValueError, match=match):
        affine_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1).expand(shape), (2, 2), backend=backend)


@pytest.mark.parametrize("theta", [torch.int64, torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_transforms_that_are_not_floating_point(backend, theta):
    """pytorch#12362: an integer theta."""
    with pytest.raises(TypeError, match=r"theta must be float64, float32, float16 or bfloat16, got torch\."):
        affine_sample(torch.zeros(1, 1, 2, 2), IDENTITY.to(theta), (2, 2), backend=backend)
