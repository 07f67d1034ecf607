"""``affine_sample`` agrees with float64 truth, and keeps the properties of sampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tolerances import EXACT, FLOAT32_SUM, rounding
from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.geometry import compose, window_to_theta
from supervised_st.sampling import affine_sample
from tests.helpers.assertions import assert_close
from tests.helpers.sampling import (
    BACKENDS,
    CONVENTIONS,
    EXACT_BACKENDS,
    IDENTITY,
    baseline,
    case,
    drawn,
    gradients,
    pixels,
    supported,
)


@pytest.mark.parametrize(
    ("backend", "mode", "padding_mode", "align_corners"),
    supported(BACKENDS, MODES, ("zeros", "border", "reflection"), CONVENTIONS),
)
def test_float64_agrees_with_the_baseline(backend, mode, padding_mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    for seed in range(2 if backend == "triton" else 3):  # the interpreter is slow
        image, theta, size = case(seed)
        image.requires_grad_()
        theta.requires_grad_()
        got = affine_sample(image, theta, size, **options, backend=backend)
        truth = baseline(image, theta, size, **options)
        assert_close("sampled", got, truth.detach(), EXACT)
        wanted = (image,) if mode == "nearest" else (image, theta)
        for name, mine, other in zip(
            ("image", "theta"), gradients(got, wanted), gradients(truth, wanted), strict=False
        ):
            assert_close(f"{name} gradient", mine, other, EXACT * 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("backend", "mode", "padding_mode"), supported(EXACT_BACKENDS, ("bilinear", "bicubic"), PADDING_MODES)
)
def test_narrow_dtypes_stay_within_their_rounding(backend, mode, padding_mode, dtype):
    for seed in range(3):
        image, theta, size = case(seed, dtype=dtype, channels=3)
        theta = theta.float()
        options = {"mode": mode, "padding_mode": padding_mode, "fill_value": 0.5 if padding_mode == "fill" else 0.0}
        got = affine_sample(image, theta, size, **options, backend=backend)
        truth = affine_sample(image.double(), theta.double(), size, **options, backend="reference")
        assert got.dtype == dtype
        interpreted = backend == "triton" and not torch.cuda.is_available()
        assert_close("sampled", got, truth, rounding(dtype, interpreted=interpreted))


@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, ("bilinear", "bicubic")))
def test_float32_gradients_agree_with_float64(backend, mode):
    for seed in range(3):
        image, theta, size = case(seed, spread=0.7)
        inputs = [image.float().requires_grad_(), theta.float().requires_grad_()]
        exact = [t.detach().double().requires_grad_() for t in inputs]
        got = gradients(affine_sample(*inputs, size, mode=mode, backend=backend), inputs)
        truth = gradients(affine_sample(*exact, size, mode=mode, backend="reference"), exact)
        for name, mine, true in zip(("image", "theta"), got, truth, strict=True):
            assert_close(f"{name} gradient", mine, true, FLOAT32_SUM)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=6)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_sampling_is_linear_and_its_gradient_the_adjoint(backend, data, seed):
    options = data.draw(drawn(backend))
    image, theta, size = case(seed)
    image.requires_grad_()
    out = affine_sample(image, theta, size, **options)
    other = torch.randn_like(image)
    got = affine_sample(2.5 * image + other, theta, size, **options)
    want = 2.5 * out + affine_sample(other, theta, size, **options)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(out)
    (adjoint,) = torch.autograd.grad(out, image, weights)
    torch.testing.assert_close((out * weights).sum(), (image * adjoint).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=6)
@given(data=st.data(), seed=st.integers(0, 2**16), level=st.floats(-4, 4))
def test_a_constant_image_stays_constant(backend, data, seed, level):
    """The weights of an output pixel sum to one; with zero padding the padding counts, too."""
    options = data.draw(drawn(backend))
    _, theta, size = case(seed)
    if options["padding_mode"] == "zeros":
        options |= {"padding_mode": "fill", "fill_value": level}
    got = affine_sample(torch.full((2, 1, 5, 4), level, dtype=torch.float64), theta, size, **options)
    torch.testing.assert_close(got, torch.full_like(got, level), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=6)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_sampling_a_crop_is_sampling_the_image(backend, data, seed):
    """A crop gives the same values as the whole image where all output pixels are three pixels in bounds of it."""
    options = data.draw(drawn(backend))
    antialias = data.draw(st.booleans()) and options["mode"] == "bilinear" and options["padding_mode"] == "zeros"
    image, theta, size = case(seed, largest=6)
    image = torch.randn(2, 1, 17, 19, dtype=torch.float64)
    theta = theta / theta.abs().sum(-1, keepdim=True).clamp_min(1) * 0.45
    x0, y0, width, height = window = data.draw(st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(12, 14)] * 2))
    outer = window_to_theta(
        torch.tensor([window], dtype=torch.float64), (17, 19), align_corners=options["align_corners"]
    )
    crop = image[:, :, y0 : y0 + height, x0 : x0 + width]
    got = affine_sample(crop, theta, size, antialias=antialias, **options)
    want = affine_sample(image, compose(outer.expand(2, 2, 3), theta), size, antialias=antialias, **options)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_several_transforms_equal_each_transform_alone(backend, channels_last):
    image, _, size = case(8, channels=3, dtype=torch.float32, largest=4)
    theta = torch.randn(2, 3, 2, 3) * 0.7
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    inputs = [image.requires_grad_(), theta.requires_grad_()]
    for options in ({}, {"padding_mode": "fill", "fill_value": (1.0, 2.0, 3.0)}, {"antialias": True}):
        together = affine_sample(*inputs, size, **options, backend=backend)
        alone = torch.stack([affine_sample(image, t, size, **options, backend=backend) for t in theta.unbind(1)], 1)
        assert together.shape == (2, 3, 3, *size)
        assert torch.equal(together, alone)
        for name, mine, other in zip(
            ("image", "theta"), gradients(together, inputs), gradients(alone, inputs), strict=True
        ):
            assert_close(f"{name} gradient", mine, other.double(), FLOAT32_SUM)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_image_is_sampled_by_its_own_transform(backend):
    image, theta, size = case(8, batch=3)
    together = affine_sample(image, theta, size, backend=backend)
    alone = [affine_sample(i[None], t[None], size, backend=backend) for i, t in zip(image, theta, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("fill", [(1.0, -2.0), torch.tensor([1.0, -2.0])], ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_fill_is_out_of_bounds_and_blends_at_the_edge(backend, fill):
    image = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    theta = torch.tensor([[[1, 0, 2 * 2.5 / 4], [0, 1, 0]]], dtype=torch.float64)
    got = affine_sample(image, theta, (4, 4), padding_mode="fill", fill_value=fill, backend=backend)
    want = (
        torch.tensor([0, 0.5, 1, 1], dtype=torch.float64).expand(1, 2, 4, 4) * torch.tensor([1.0, -2.0])[:, None, None]
    )
    torch.testing.assert_close(got, want, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, MODES))
def test_uint8_is_normalized_before_it_is_sampled(backend, mode):
    image, (_, theta, size) = pixels(2, 3, 7, 6), case(4)
    mean, std = torch.tensor([120.0, 110, 90]), torch.tensor([60.0, 50, 40])
    first = (image.float() - mean[:, None, None]) / std[:, None, None]
    for padding in ({}, {"padding_mode": "fill", "fill_value": 1.5}, {"padding_mode": "reflection"}):
        options = {"mode": mode, "backend": backend, **padding}
        got = affine_sample(image, theta, size, mean=mean, std=std, **options)
        assert got.dtype == torch.float32
        truth = affine_sample(first.double(), theta, size, **options)
        assert_close("sampled", got, truth, 1e-4 if backend == "aten" else 2 * rounding(torch.float32))
        for same in ({"mean": mean.tolist(), "std": std.double()}, {"mean": tuple(mean), "std": std.tolist()}):
            assert torch.equal(affine_sample(image, theta, size, **same, **options), got)
        identity = torch.eye(2, 3).repeat(2, 1, 1)
        whole = affine_sample(image, identity, (7, 6), mean=mean, std=std, **options)
        if backend == "reference":
            assert torch.equal(whole, first)
        else:  # the kernel multiplies by 1 / std
            torch.testing.assert_close(whole, first, rtol=1e-6, atol=1e-4 if backend == "aten" else 1e-6)
        assert affine_sample(image, identity, (7, 6), **options).max() > 250


@pytest.mark.parametrize("backend", BACKENDS)
def test_uint8_passes_gradients_to_theta(backend):
    image, theta, size = pixels(2, 3, 7, 6), case(4)[1].float().requires_grad_(), (4, 5)
    got = gradients(affine_sample(image, theta, size, mean=128.0, std=64.0, backend=backend), (theta,))
    truth = theta.detach().double().requires_grad_()
    want = gradients(affine_sample((image.double() - 128) / 64, truth, size, backend="reference"), (truth,))
    assert_close("theta gradient", got[0], want[0], FLOAT32_SUM)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("side", [181, 182, 224, 512])
def test_large_half_precision_images_on_the_default_path(dtype, side):
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


@pytest.mark.parametrize("backend", ["reference", "aten"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [512, 3840])
def test_coordinates_are_not_formed_in_half_precision(backend, dtype, width):
    """Half precision moves no pixel. The baseline's grid in half precision moves them by whole pixels.

    pytorch#30404, pytorch#89836, pytorch#96429, PR pytorch#90427, pytorch#96586, PR pytorch#62875.
    """
    ramp = torch.arange(float(width)).expand(1, 1, 2, width).contiguous()
    out = affine_sample(ramp, IDENTITY.to(dtype), (2, width), padding_mode="border", backend=backend)
    torch.testing.assert_close(out, ramp, rtol=0, atol=0 if backend == "reference" else 1e-3)
    image = (torch.arange(width) % 2).expand(1, 1, 2, width).to(dtype).contiguous()
    out = affine_sample(image, IDENTITY, (2, width), padding_mode="border", backend=backend)
    torch.testing.assert_close(out, image, rtol=0, atol=0 if backend == "reference" else 2e-3)
