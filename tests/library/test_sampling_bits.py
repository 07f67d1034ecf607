"""Where ``affine_sample`` is exact to the bit."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st._sampler.options import MODES
from supervised_st._sampler.reference import pixel_transform
from supervised_st.geometry import compose
from supervised_st.sampling import affine_sample
from tests.helpers.sampling import (
    BACKENDS,
    CONVENTIONS,
    EXACT_BACKENDS,
    case,
    drawn,
    gradients,
    leaf,
    pixels,
    sum_gradients,
    supported,
)

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")


DEVICES = ("cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU]))


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("theta_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("image_dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_identity_and_shifts_return_the_bits(mode, image_dtype, theta_dtype, align_corners):
    for width in (1, 2, 3, 10, 97, 224, 1000, 4097, 65536):
        image = torch.randn(1, 1, 2, width).to(image_dtype)
        for shift in {0, *(s for s in (1, -1, width // 3, 5 - width) if abs(s) < width)}:
            units = (width - 1 if align_corners else width) / 2
            theta = torch.tensor([[[1, 0, shift / units if units else 0], [0, 1, 0]]], dtype=theta_dtype)
            got = affine_sample(image, theta, (2, width), mode=mode, align_corners=align_corners, backend="reference")
            want = torch.zeros_like(image)
            shift = shift if units else 0
            kept = torch.arange(max(0, -shift), min(width, width - shift))
            want[..., kept] = image[..., kept + shift]
            assert torch.equal(got, want), f"width {width}, shift {shift}"


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize(("backend", "mode"), supported(EXACT_BACKENDS, MODES))
def test_shifts_return_the_bits_in_every_mode(backend, mode, align_corners):
    image = torch.randn(2, 2, 7, 11)
    for dy, dx in [(0, 0), (1, -3), (-2, 5)]:
        units = torch.tensor([11 - align_corners, 7 - align_corners]) / 2
        theta = torch.tensor([[1.0, 0, dx], [0, 1, dy]])
        theta[:, 2] /= units
        got = affine_sample(
            image, theta.expand(2, 2, 3), (7, 11), mode=mode, align_corners=align_corners, backend=backend
        )
        want = F.pad(image, (11, 11, 7, 7))[..., 7 + dy : 14 + dy, 11 + dx : 22 + dx]
        assert torch.equal(got, want)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@settings(max_examples=50)
@given(data=st.data())
def test_whole_pixel_crops_return_the_bits(align_corners, data):
    height, width = (data.draw(st.integers(2, 900), label=axis) for axis in ("height", "width"))
    h, w = data.draw(st.integers(1, min(height, 5))), data.draw(st.integers(1, min(width, 300)))
    y0, x0 = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
    image = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    if align_corners:
        rows = [[(w - 1) / (width - 1), 0, (2 * x0 + w - 1) / (width - 1) - 1],
                [0, (h - 1) / (height - 1), (2 * y0 + h - 1) / (height - 1) - 1]]  # fmt: skip
    else:
        rows = [[w / width, 0, (2 * x0 + w) / width - 1], [0, h / height, (2 * y0 + h) / height - 1]]
    got = affine_sample(image, torch.tensor([rows]), (h, w), align_corners=align_corners, backend="reference")
    assert torch.equal(got, image[..., y0 : y0 + h, x0 : x0 + w])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("side", [5, 6])
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("align_corners", [False, True])
def test_quarter_turns_are_rot90(backend, side, turns, align_corners):
    """kornia#747 (identity was off by a default), PR torchvision#2468 (a turn by 90 degrees had a row of zeros)."""
    image = leaf(torch.arange(1.0, 2 * side**2 + 1).view(1, 2, side, side))
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0]], [[-1, 0, 0], [0, -1, 0]],
                          [[0, 1, 0], [-1, 0, 0]]])[turns : turns + 1]  # fmt: skip
    out = affine_sample(image, theta, (side, side), align_corners=align_corners, backend=backend)
    torch.testing.assert_close(out, image.rot90(turns, (2, 3)), rtol=0, atol=0 if backend != "aten" else 1e-4)
    weights = torch.randn_like(out)
    (grad,) = sum_gradients(out, image, grad=weights)
    torch.testing.assert_close(grad, weights.rot90(-turns, (2, 3)), rtol=0, atol=0 if backend != "aten" else 1e-4)


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
@settings(max_examples=6)
@given(data=st.data(), shifts=st.lists(st.integers(-3, 3), min_size=4, max_size=4))
def test_whole_shifts_compose_to_the_bits(backend, data, shifts):
    """Border padding is left out: it repeats the edge at the first shift."""
    options = data.draw(drawn(backend)) | {"padding_mode": "zeros"}
    image = torch.randn(1, 1, 9, 8)
    units = torch.tensor([8, 9]) - int(options["align_corners"])
    first, second = (
        torch.cat((torch.eye(2), (2 * torch.tensor(shift) / units)[:, None]), dim=1)[None]
        for shift in (shifts[:2], shifts[2:])
    )
    twice = affine_sample(affine_sample(image, first, (9, 8), **options), second, (9, 8), **options)
    once = affine_sample(image, compose(first, second), (9, 8), **options)
    seen = affine_sample(torch.ones_like(image), second, (9, 8), **options) > 0  # not pushed out by the first
    assert torch.equal(twice, once * seen)


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "aten"])
def test_the_fill_keeps_its_bits_next_to_normalized_pixels(backend):
    generator = torch.Generator().manual_seed(0)
    image, fill, std = pixels(1, 16, 5, 6), torch.randn(16, generator=generator), torch.rand(16, generator=generator)
    # Half of the first output is out of bounds, and all of the second.
    theta = torch.tensor([[[[1, 0, 1], [0, 1, 0.1]], [[1, 0, 9], [0, 1, 0]]]])
    options = {"padding_mode": "fill", "fill_value": fill, "mean": 117.3, "std": 60 * std, "backend": backend}
    half, whole = affine_sample(image, theta, (5, 6), **options)[0]
    assert torch.equal(half[:, :, 3:], fill[:, None, None].expand(16, 5, 3))
    assert torch.equal(whole, fill[:, None, None].expand(16, 5, 6))


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
def test_nearest_takes_the_even_pixel_of_a_half(backend):
    image = torch.arange(8.0).view(1, 1, 1, 8)
    theta = torch.tensor([[[1, 0, 2 * 0.5 / 8], [0, 1, 0]]])
    got = affine_sample(image, theta, (1, 8), mode="nearest", backend=backend)
    assert got.flatten().tolist() == [0, 2, 2, 4, 4, 6, 6, 0]


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_the_same_bits_in_every_run(backend, antialias):
    image, theta, size = case(9, dtype=torch.float32, batch=2, channels=3, largest=6)
    inputs = [image.requires_grad_(), (theta * 0.1).float().requires_grad_()]
    first = gradients(affine_sample(*inputs, size, antialias=antialias, backend=backend), inputs)
    for _ in range(3):
        again = gradients(affine_sample(*inputs, size, antialias=antialias, backend=backend), inputs)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("options", [{}, {"mode": "bicubic"}, {"antialias": True}], ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_the_default_path_satisfies_deterministic_algorithms(device, options):
    image, theta, size = case(9, dtype=torch.float32)
    inputs = [t.float().to(device).requires_grad_() for t in (image, theta)]
    torch.use_deterministic_algorithms(True)
    try:
        torch.autograd.grad(affine_sample(*inputs, size, **options).sum(), inputs)
    finally:
        torch.use_deterministic_algorithms(False)


def test_only_rounding_is_taken_for_a_whole_pixel():
    """Of a shift by a pixel, up to the rounding of what the row reaches: 1 + 1 + 1/32 halves of 64 pixels."""
    rounding = torch.finfo(torch.float32).eps * (2 + 1 / 32) * 32
    for share, is_whole in ((0.9, True), (1.1, False)):
        for sign in (-1, 1):
            theta = torch.eye(2, 3)[None]
            theta[0, 0, 2] = (1 + sign * share * rounding) / 32
            x = pixel_transform(theta, (64, 64), (64, 64), align_corners=False)[0, 0, 2].item()
            assert (x == 1) == is_whole, (share, x)
