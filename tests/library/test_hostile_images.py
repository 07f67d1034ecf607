"""Images and sizes that are huge, empty, malformed, or hold NaN and infinity.

Many of them have crashed, corrupted or misled a sampler somewhere. Issue numbers are public: ``pytorch#24823`` is
https://github.com/pytorch/pytorch/issues/24823. What could end the process runs in a process of its own.
"""

import pytest
import torch

from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample
from tests.helpers.programs import run_cases
from tests.helpers.sampling import BACKENDS, EXACT_BACKENDS, IDENTITY, INF, NAN, leaf, sum_gradients, supported


def test_half_precision_images_around_32768_pixels():
    """F.grid_sample on a CPU reads foreign memory or aborts above 32,768 pixels (torchvision#9029, PR #9658)."""
    assert len(run_cases("tests.library.programs.half_precision_images")) == 16


@pytest.mark.parametrize("backend", ["reference", "aten"])
def test_the_gradient_of_an_image_of_40000_columns(backend):
    """opencv#7544, opencv#26860: coordinates in 16 bits wrap at 32,768 pixels."""
    image = leaf(torch.zeros(1, 1, 1, 40_000))
    theta = leaf(torch.tensor([[[2 / 40_000, 0, 1 - 2 / 40_000], [0, 1, 0]]], dtype=torch.float64))
    weights = torch.tensor([3.0, 5.0]).view(1, 1, 1, 2)
    out = affine_sample(image, theta, (1, 2), backend=backend)
    grad_image, grad_theta = sum_gradients(out, image, theta, grad=weights)
    assert grad_image.nonzero()[:, 3].tolist() == [39_998, 39_999]
    torch.testing.assert_close(grad_image[..., -2:], weights, rtol=0, atol=1e-2)
    assert (grad_theta == 0).all()


@pytest.mark.parametrize("backend", ["reference", "aten"])
def test_a_batch_of_more_than_65535_images(backend):
    """cuDNN and a CUDA grid's axis count no further (pytorch#88380, pytorch#16365); on a GPU see test_gpu.py."""
    n = 65_537
    image = leaf(torch.arange(float(n)).view(n, 1, 1, 1).repeat(1, 1, 2, 2))
    theta = leaf(IDENTITY.repeat(n, 1, 1))
    out = affine_sample(image, theta, (2, 2), backend=backend)
    grad_image, grad_theta = sum_gradients(out, image, theta)
    torch.testing.assert_close(out, image, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad_image, torch.ones_like(image), rtol=0, atol=1e-6)
    assert grad_theta.isfinite().all()


@pytest.mark.triton
@pytest.mark.skipif(
    torch.cuda.is_available(), reason="the interpreter needs no device; test_gpu.py has such images there"
)
def test_an_image_of_more_than_2_31_pixels(tmp_path):
    """Indices of 32 bits (pytorch#41656, PR pytorch#41923), in values and in theta's gradient.

    The image is a file with a hole of 8 or 4 GB, so only what is looked at takes memory. What would take 9 GB more is
    left out: the image's gradient, half images where they are widened first (``reference`` and ``aten``), and theta's
    gradient by ``aten``, for which F.grid_sample allocates the image's as well.
    """
    assert len(run_cases("tests.library.programs.beyond_32_bits", tmp_path / "image")) == 4


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("padding_mode", ["border", "reflection"])
def test_axes_of_more_pixels_than_float32_counts(padding_mode, axis):
    """pytorch#144643 and opencv#24075 fail beyond 2^23 pixels. Here a sentinel follows the last pixel in memory."""
    length = 2**24 + 4
    memory = torch.zeros(length + 8)
    memory[length:] = 999
    shape = (1, 1, length, 1) if axis == 2 else (1, 1, 1, length)
    image = memory[:length].view(shape).requires_grad_()
    theta = torch.zeros(1, 2, 3)
    theta[0, 3 - axis, 2] = 1.0 if padding_mode == "reflection" else 2.0
    out = affine_sample(image, theta, (1, 1), padding_mode=padding_mode)
    assert out.item() == 0
    (gradient,) = sum_gradients(out, image)
    assert gradient.sum() == 1
    assert gradient.flatten()[-1] == 1


def test_outputs_beyond_all_memory_raise_at_once():
    """CVE-2021-41199, CVE-2022-41886, CVE-2022-23587: there the number of elements overflows."""
    assert len(run_cases("tests.library.programs.beyond_memory")) == 16


@pytest.mark.parametrize("shape", [(1, 1, 1, 2**30 + 1), (1, 1, 2**30 + 1, 1)])
def test_images_with_sides_beyond_the_range_of_coordinates(shape):
    with pytest.raises(ValueError, match=r"image must have sides of 1 to 1073741824 pixels"):
        affine_sample(torch.ones(1).expand(shape), IDENTITY, (2, 2))


def test_an_image_with_the_longest_side():
    found = affine_sample(torch.ones(1).expand(1, 1, 1, 2**30), IDENTITY, (1, 2))
    assert found.tolist() == [[[[1.0, 1.0]]]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1)], ids=str)
def test_an_output_of_one_pixel_is_the_center(backend, align_corners, size):
    """With align_corners its coordinate is 0 / 0 elsewhere (kornia#3957, PR kornia#4006, onnxruntime#28302)."""
    image = leaf(torch.arange(15.0).view(1, 1, 3, 5))
    theta = leaf(torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.7, -0.1]]]))
    out = affine_sample(image, theta, size, align_corners=align_corners, backend=backend)
    grad_image, grad_theta = sum_gradients(out, image, theta)
    # The image is linear, column + 5 * row, and so is what is sampled from it: it is that of the mean coordinate.
    half_width, half_height = (2.0, 1.0) if align_corners else (2.5, 1.5)
    center = 2 + 0.2 * half_width + 5 * (1 - 0.1 * half_height)
    assert out.mean().item() == pytest.approx(center, abs=1e-5)
    assert grad_image.sum().item() == pytest.approx(out.numel(), abs=1e-5)
    pixels = out.numel()
    assert grad_theta[0, :, 2].tolist() == pytest.approx([half_width * pixels, 5 * half_height * pixels], abs=1e-4)
    assert grad_theta[0, :, :2].flatten().tolist() == pytest.approx([0.0] * 4, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_an_image_of_one_pixel(backend, align_corners, padding_mode):
    """kornia#3957: a size of one gave a scale of 2e14 and mirrors."""
    image, theta = leaf(torch.full((1, 1, 1, 1), 5.0)), leaf(torch.tensor([[[1.0, 0.2, 3.0], [0.0, 1.0, 0.1]]]))
    options = {"padding_mode": padding_mode, "fill_value": 7.0 if padding_mode == "fill" else 0.0}
    out = affine_sample(image, theta, (2, 2), align_corners=align_corners, backend=backend, **options)
    grad_image, grad_theta = sum_gradients(out, image, theta)
    # With align_corners one pixel's center is both ends of its axis, so everything is there.
    in_bounds = align_corners or padding_mode in ("border", "reflection")
    assert (out == (5 if in_bounds else options["fill_value"])).all()
    assert grad_image.item() == (4 if in_bounds else 0)
    assert (grad_theta == 0).all()


@pytest.mark.parametrize("shape", [(1, 1, 0, 4), (1, 1, 4, 0), (1, 1, 0, 0), (0, 1, 0, 4)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_of_no_pixels(backend, shape):
    """kornia#3957; CVE-2021-29533: empty images."""
    with pytest.raises(ValueError, match=r"image must have sides of 1 to 1073741824 pixels, got shape"):
        affine_sample(torch.zeros(shape), IDENTITY.expand(shape[0], 2, 3), (2, 2), backend=backend)


@pytest.mark.parametrize(("backend", "mode"), supported(EXACT_BACKENDS, MODES))
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_nan_and_infinite_pixels_count_only_where_their_weight_is_not_zero(backend, mode, value):
    """Zero times infinity is never formed: neighbors keep their values and gradients. (ATen forms it.)"""
    image = torch.ones(1, 1, 4, 4)
    image[0, 0, 1, 2] = value
    image, theta = leaf(image), leaf(IDENTITY)
    out = affine_sample(image, theta, (4, 4), mode=mode, backend=backend)
    torch.testing.assert_close(out, image, rtol=0, atol=0, equal_nan=True)
    (grad_image,) = sum_gradients(out, image)
    assert torch.equal(grad_image, torch.ones_like(image))
    # Out of bounds, no pixel of the image has a weight.
    away = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])
    assert (affine_sample(image, away, (4, 4), mode=mode, backend=backend) == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("fill", [NAN, INF, 1e9, 1e20])
def test_an_unusual_fill_leaves_pixels_in_bounds_alone(backend, fill, antialias):
    image = torch.rand(1, 1, 6, 6)
    theta = torch.tensor([[[1.0, 0, 0.4], [0, 1, 0]]])
    options = {"padding_mode": "fill", "fill_value": fill, "antialias": antialias}
    got = affine_sample(image, theta, (6, 6), **options, backend=backend)
    want = affine_sample(image, theta, (6, 6), backend="reference")
    torch.testing.assert_close(got[..., :4], want[..., :4], rtol=0, atol=1e-6)
    torch.testing.assert_close(got[..., 5], torch.full_like(got[..., 5], fill), equal_nan=True)


NO_IMAGES = (torch.int8, torch.int32, torch.int64, torch.uint16, torch.bool, torch.complex64, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", NO_IMAGES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_integers_and_complex_numbers(backend, dtype):
    with pytest.raises(TypeError, match=r"image must be .* or uint8.*, got torch\."):
        affine_sample(torch.ones(1, 1, 2, 2).to(dtype), IDENTITY, (2, 2), backend=backend)


@pytest.mark.filterwarnings("ignore:.*quantiz.*")
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (1, 1, 0, 2), (0, 1, 2, 2)], ids=str)
def test_quantized_images(shape):
    """pytorch#162335, CVE-2021-29529, CVE-2021-29537: quantized images, also those without pixels."""
    image = torch.quantize_per_tensor(torch.ones(shape), 1.0, 0, torch.quint8)
    with pytest.raises(TypeError, match=r"image must be .*, got torch.quint8"):
        affine_sample(image, IDENTITY.expand(shape[0], 2, 3), (2, 2))


SCATTERED = {
    "coordinates": lambda dense: dense.to_sparse(),
    "csr": lambda dense: dense.flatten(0, -2).to_sparse_csr(),
    "mkldnn": lambda dense: dense.to_mkldnn(),
    "nested": lambda dense: torch.nested.nested_tensor(list(dense)),
    "jagged": lambda dense: torch.nested.nested_tensor(list(dense), layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype stage", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("layout", SCATTERED)
@pytest.mark.parametrize("name", ["image", "theta"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sparse_and_nested_tensors(backend, name, layout):
    arguments = {"image": torch.ones(1, 1, 2, 2), "theta": IDENTITY}
    arguments[name] = SCATTERED[layout](arguments[name])
    with pytest.raises(TypeError, match=rf"{name} must be a dense tensor, got (torch\.\w+|nested)"):
        affine_sample(**arguments, size=(2, 2), backend=backend)


@pytest.mark.parametrize(
    ("size", "error", "match"),
    [
        (
            (0, 4),
            ValueError,
            r"size must be two integers \(height, width\), or one for a square, from 1 to 1073741824, got \(0, 4\)",
        ),
        (7.0, TypeError, r"size must be two integers \(height, width\), or one for a square, got 7.0"),
        (0, ValueError, r"size must be two integers .* from 1 to 1073741824, got 0"),
        ((0, 0), ValueError, r"size must be two integers .* from 1 to 1073741824"),
        ((4, -1), ValueError, r"size must be two integers .* from 1 to 1073741824"),
        ((-(2**63), 1), ValueError, r"size must be two integers .* from 1 to 1073741824"),
        ((2**30 + 1, 1), ValueError, r"size must be two integers .* from 1 to 1073741824"),
        ((1, 2**64), ValueError, r"size must be two integers .* from 1 to 1073741824"),
        ((2.0, 2), TypeError, r"size must be two integers"),
        ((INF, 2), TypeError, r"size must be two integers"),
        ((2, NAN), TypeError, r"size must be two integers"),
        ((-1e20, 2), TypeError, r"size must be two integers"),
        ((1.25e12, 2), TypeError, r"size must be two integers"),
        (("2", "2"), TypeError, r"size must be two integers"),
        ((2,), TypeError, r"size must be two integers"),
        ((2, 2, 2), TypeError, r"size must be two integers"),
        (None, TypeError, r"size must be two integers"),
        (torch.tensor([2.0, 2.0]), TypeError, r"size must be two integers"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("antialias", [False, True])
def test_impossible_sizes(size, error, match, antialias):
    """F.affine_grid's checks; pytorch#88951, pytorch#107545, pytorch#107552, pytorch#107553 (interpolate)."""
    with pytest.raises(error, match=match):
        affine_sample(torch.ones(1, 1, 2, 2), IDENTITY, size, antialias=antialias)
