"""``affine_sample`` under bad input: documented values, named errors, and never a crash."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from supervised_st._sampler.options import PADDING_MODES
from supervised_st.sampling import affine_sample

BACKENDS = ("reference", "aten", "triton")
INF, NAN = float("inf"), float("nan")
HOSTILE = (NAN, INF, -INF, 1e20, -1e20, 2.5e38, -3.2e38, 2.0**24 + 1, 2.0**31)


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
"""``aten`` without antialiasing is held against what is documented in test_bad_inputs.py, as the reference is."""


@pytest.mark.parametrize(("backend", "mode", "padding_mode", "antialias"), HOSTILE_OPTIONS)
def test_hostile_maps_give_the_same_values_everywhere(backend, mode, padding_mode, antialias):
    """NaN in a coordinate: NaN out, nothing to the image, NaN to theta. The other images of the batch are untouched."""
    options = {"mode": mode, "padding_mode": padding_mode, "antialias": antialias}
    hostile = [theta_with(value, entry)[1] for value, entry in itertools.product(HOSTILE, (0, 2))]
    maps = torch.stack([*hostile, torch.eye(2, 3)])
    results = []
    for either in ("reference", backend):
        image = torch.arange(12.0).expand(len(maps), 1, 12).reshape(-1, 1, 3, 4).requires_grad_()
        theta = maps.clone().requires_grad_()
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
    # A footprint without end: what is inside of the image does not count against what is outside.
    assert (sample(2, -INF, "zeros", antialias=True) == 0).all()
    assert sample(2, NAN, "zeros", antialias=True).isnan().all()
    assert (sample(0, 2.5e38, "fill", fill_value=7.0, antialias=True) == 7).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e100, 1e200])
def test_a_footprint_larger_than_any_number_sees_what_is_outside(backend, scale):
    image = torch.ones(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    theta = (torch.eye(2, 3, dtype=torch.float64)[None] * scale).requires_grad_()
    out = affine_sample(image, theta, (3, 3), padding_mode="fill", fill_value=7.0, antialias=True, backend=backend)
    assert (out == 7).all()
    grad_image, grad_theta = torch.autograd.grad(out.sum(), (image, theta))
    assert grad_image.abs().max() < 1e-30
    assert grad_theta.abs().max() < 1e-30


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pixel_that_is_not_a_number_stays_in_its_own_image(backend):
    image = torch.ones(2, 2, 4, 4)
    image[0, 0, 1, 1] = NAN
    out = affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), (2, 2), antialias=True, backend=backend)
    assert out[0, 0, 1, 1].isnan()
    torch.testing.assert_close(out.flatten(0, 1)[1:], torch.ones(3, 2, 2))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("fill", [NAN, INF, 1e9, 1e20])
def test_an_unusual_fill_leaves_the_inside_alone(backend, fill, antialias):
    image = torch.rand(1, 1, 6, 6)
    theta = torch.tensor([[[1.0, 0, 0.4], [0, 1, 0]]])
    options = {"padding_mode": "fill", "fill_value": fill, "antialias": antialias}
    got = affine_sample(image, theta, (6, 6), **options, backend=backend)
    want = affine_sample(image, theta, (6, 6), backend="reference")
    torch.testing.assert_close(got[..., :4], want[..., :4], rtol=0, atol=1e-6)
    torch.testing.assert_close(got[..., 5], torch.full_like(got[..., 5], fill), equal_nan=True)


@pytest.mark.parametrize(
    "fill",
    [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0, 2]).half()[::2], (1, 2), np.array([1.0, 2.0], np.float32)],
    ids=lambda fill: f"{type(fill).__name__}-{getattr(fill, 'dtype', '')}",
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fill_per_channel_may_be_any_sequence(backend, fill):
    options = {"padding_mode": "fill", "backend": backend}
    outside = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])
    got = affine_sample(torch.zeros(1, 2, 3, 3), outside, (1, 1), **options, fill_value=fill)
    assert got.flatten().tolist() == [1, 2]
    for number in (fill[0], torch.tensor(1.0)):
        got = affine_sample(torch.zeros(1, 2, 3, 3), outside, (1, 1), **options, fill_value=number)
        assert got.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("name", ["fill_value", "mean", "std"])
def test_constants_that_want_a_gradient_are_refused(name):
    """They get none, which would look like zero."""
    outside = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])

    def total(constant):
        options = {"padding_mode": "fill", "fill_value": constant} if name == "fill_value" else {name: constant}
        return affine_sample(torch.zeros(1, 2, 3, 3, dtype=torch.uint8), outside, (1, 1), **options).sum()

    constant = torch.ones(2)
    wanting = (
        lambda: total(constant.clone().requires_grad_()),
        lambda: torch.func.grad(total)(constant),
        lambda: torch.func.jvp(total, (constant,), (constant,)),
    )
    for call in wanting:
        with pytest.raises(ValueError, match=rf"{name} must not require grad; pass {name}.detach\(\)"):
            call()
    with torch.no_grad():
        total(constant.clone().requires_grad_())
    total(constant.clone().requires_grad_().detach())


@pytest.mark.parametrize(
    ("backend", "mode"), [("reference", "bilinear"), ("reference", "bicubic"), ("triton", "bilinear")]
)
def test_a_tap_without_weight_does_not_count(backend, mode):
    """An infinite or NaN pixel reaches its own outputs only: zero times infinity is never formed (ATen forms it)."""
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1], image[0, 0, 0, 2] = NAN, INF
    got = affine_sample(image, torch.eye(2, 3)[None], (3, 3), mode=mode, backend=backend)
    torch.testing.assert_close(got, image, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("side", [181, 182, 224, 512])
def test_large_half_planes_on_the_default_path(dtype, side):
    image = torch.ones(1, 1, side, side, dtype=dtype, requires_grad=True)
    theta = (torch.eye(2, 3)[None] * 0.9).requires_grad_()
    out = affine_sample(image, theta, (64, 64))
    assert torch.equal(out, torch.ones_like(out))
    grad_image, grad_theta = torch.autograd.grad(out.float().sum(), (image, theta))
    # The weights of each output pixel sum to one, so what arrives is the number of output pixels, up to its rounding.
    assert abs(grad_image.double().sum().item() - 64 * 64) < 64 * 64 * torch.finfo(dtype).eps
    assert grad_theta.abs().max() < 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("antialias", [False, True])
def test_identity_survives_autocast(antialias, dtype):
    image = torch.randn(1, 1, 4, 224)
    with torch.autocast("cpu", dtype=dtype):
        out = affine_sample(image, torch.eye(2, 3)[None], (4, 224), antialias=antialias)
    torch.testing.assert_close(out, image, rtol=0, atol=1e-4)


IMAGE, THETA = (2, 3, 4, 4), (2, 2, 3)


@pytest.mark.parametrize(
    ("image", "theta", "size", "options", "error", "match"),
    [
        ((3, 4, 4), THETA, (2, 2), {}, ValueError, r"image must have shape \(batch, channel, height, width\), got"),
        (IMAGE, (1, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, 2, 3\), got"),
        (IMAGE, (2, 3, 3), (2, 2), {}, ValueError, r"theta must have shape"),
        (IMAGE, (2, 5, 2, 2), (2, 2), {}, ValueError, r"must have shape \(2, transform, 2, 3\), got \(2, 5, 2, 2\)"),
        (IMAGE, (3, 5, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, transform, 2, 3\)"),
        (IMAGE, (1, 2, 5, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, 2, 3\)"),
        ((2, 3, 0, 4), THETA, (2, 2), {}, ValueError, r"image must have sides of 1 to 1073741824 pixels, got shape"),
        (IMAGE, THETA, (0, 2), {}, ValueError, r"size must be two integers .* from 1 to 1073741824, got \(0, 2\)"),
        (IMAGE, THETA, (2, -2), {}, ValueError, r"size must be two integers \(height, width\) from 1"),
        (IMAGE, THETA, (2.5, 2), {}, TypeError, r"size must be two integers"),
        (IMAGE, THETA, 7, {}, TypeError, r"size must be two integers \(height, width\), got 7"),
        (IMAGE, THETA, (2, NAN), {}, TypeError, r"size must be two integers"),
        (IMAGE, THETA, (2, 2), {"align_corners": "False"}, TypeError, r"align_corners must be True or False, got 'Fa"),
        (IMAGE, THETA, (2, 2), {"antialias": np.ones(2)}, TypeError, r"antialias must be True or False"),
        (IMAGE, THETA, (2, 2), {"mode": np.ones(2)}, ValueError, r"mode must be one of"),
        (IMAGE, THETA, (2, 2), {"mode": "cubic"}, ValueError, r"mode must be one of 'bilinear', 'nearest', 'bic"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "wrap"}, ValueError, r"padding_mode must be one of"),
        (IMAGE, THETA, (2, 2), {"backend": "cuda"}, ValueError, r"backend must be one of"),
        (IMAGE, THETA, (2, 2), {"fill_value": 1.0}, ValueError, r"fill_value is only for padding_mode='fill'"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": (1.0, 2.0)}, ValueError, r"channel \(3\), got 2"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": "x"}, TypeError, r"fill_value must be a number"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": None}, TypeError, r"fill_value must be a number"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(2)}, ValueError,
         r"fill_value must have shape \(\) or \(3,\), got \(2,\)"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(3, dtype=torch.int64)}, TypeError,
         r"fill_value must be float64.*got torch.int64"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(3, device="meta")}, ValueError,
         r"fill_value must be on the image's device cpu, got meta"),
        (IMAGE, THETA, (2, 2), {"fill_value": torch.zeros(3)}, ValueError, r"fill_value is only for padding_mode='fil"),
        (IMAGE, THETA, (2, 2), {"mean": 0.0}, ValueError, r"mean and std are only for uint8 images, got .* torch.fl"),
        (IMAGE, THETA, (2, 2), {"std": 1.0}, ValueError, r"mean and std are only for uint8 images"),
        (IMAGE, THETA, (2, 2), {"mode": "bicubic", "backend": "triton"}, ValueError,
         r"backend must be 'auto', 'reference' or 'aten' for mode='bicubic', got 'triton'"),
        (IMAGE, THETA, (2, 2), {"mode": "nearest", "antialias": True}, ValueError,
         r"antialias is only for mode='bilinear' .* got mode='nearest' with padding_mode='zeros'"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "border", "antialias": True}, ValueError,
         r"antialias is only for .* padding_mode='zeros' or 'fill', got .*'border'"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(image, theta, size, options, error, match):
    with pytest.raises(error, match=match):
        affine_sample(torch.zeros(image), torch.zeros(theta), size, **options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mean": (1.0, 2.0)}, ValueError, r"mean must be one number or one per channel \(3\), got 2"),
        ({"mean": "x"}, TypeError, r"mean must be a number or one per channel, got 'x'"),
        ({"mean": torch.ones(4)}, ValueError, r"mean must have shape \(\) or \(3,\), got \(4,\)"),
        ({"mean": torch.ones(3, dtype=torch.uint8)}, TypeError, r"mean must be float64.*got torch.uint8"),
        ({"std": torch.ones(3, device="meta")}, ValueError, r"std must be on the image's device cpu, got meta"),
        ({"std": 0}, ValueError, r"std must not be zero, got 0"),
        ({"std": (1.0, 0.0, 1.0)}, ValueError, r"std must not be zero, got \(1.0, 0.0, 1.0\)"),
    ],
)
def test_errors_name_mean_and_std(options, error, match):
    with pytest.raises(error, match=match):
        affine_sample(torch.zeros(IMAGE, dtype=torch.uint8), torch.zeros(THETA), (2, 2), **options)


def test_wrong_types_are_named():
    image, theta = torch.zeros(IMAGE), torch.zeros(THETA)
    with pytest.raises(TypeError, match=r"image must be float64, float32, float16, bfloat16 or uint8, got torch.int64"):
        affine_sample(image.long(), theta, (2, 2))
    with pytest.raises(TypeError, match=r"image must be a torch.Tensor, got ndarray"):
        affine_sample(image.numpy(), theta, (2, 2))
    with pytest.raises(TypeError, match=r"theta must be float64.*got torch.int64"):
        affine_sample(image, theta.long(), (2, 2))
    with pytest.raises(TypeError, match=r"theta must be a torch.Tensor, got list"):
        affine_sample(image, theta.tolist(), (2, 2))
    with pytest.raises(ValueError, match=r"theta must be on the image's device cpu, got meta"):
        affine_sample(image, theta.to("meta"), (2, 2))


IMPORTS = """
import sys
sys.modules["triton"] = None
import supervised_st, torch
image, theta = torch.randn(1, 1, 4, 4), torch.eye(2, 3)[None]
assert torch.allclose(supervised_st.affine_sample(image, theta, (4, 4)), image, atol=1e-5)
"""


def test_the_package_works_without_triton():
    subprocess.run([sys.executable, "-c", IMPORTS], check=True)


def test_importing_does_not_import_triton():
    loaded = "any(name in sys.modules for name in ('triton', 'supervised_st._sampler.fused'))"
    check = f"import sys, torch, supervised_st; sys.exit({loaded})"
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.triton
def test_the_fused_sampler_refuses_a_cpu_without_the_interpreter():
    check = """
import os, torch
os.environ.pop("TRITON_INTERPRET", None)
from supervised_st import affine_sample
try:
    affine_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 3), (2, 2), backend="triton")
except RuntimeError as error:
    assert "needs an image on a CUDA or ROCm device, got one on cpu" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.triton
@pytest.mark.parametrize("padding_mode", ["border", "reflection"])
def test_a_slope_of_zero_keeps_a_pixel_that_is_not_a_number_from_theta(padding_mode):
    image = torch.arange(32.0).view(1, 1, 4, 8)
    image[0, 0, 0, 3] = NAN
    missing = []
    for backend in ("triton", "reference"):
        theta = torch.eye(2, 3)[None].requires_grad_()
        out = affine_sample(image, theta, (4, 8), padding_mode=padding_mode, backend=backend)
        missing.append(torch.autograd.grad(out, theta, torch.ones_like(out))[0].isnan())
    assert torch.equal(*missing)
    assert not missing[0][0, 1].any()
