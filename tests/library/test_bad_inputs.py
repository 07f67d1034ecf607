"""Every input that is known to have crashed, corrupted or misled a sampler somewhere, held against what the docs say.

Issue numbers are public: ``pytorch#24823`` stands for https://github.com/pytorch/pytorch/issues/24823.
What could end the process runs in a process of its own, which names each case before it runs it.
"""

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample

BACKENDS = ("reference", "aten", "triton")
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INF, NAN = float("inf"), float("nan")
IDENTITY = torch.eye(2, 3)[None]


def alone(script, *arguments):
    """Run a script by itself, and on failure say which case was the last that it named."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"exit code {done.returncode} in the case {last}: {done.stderr[-2000:]}"
    return done.stdout.splitlines()


def gradients(out, *inputs, grad=None):
    """Gradients of the sum; zeros for what it does not depend on."""
    return torch.autograd.grad(out, inputs, torch.ones_like(out) if grad is None else grad, materialize_grads=True)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


# What the documentation says of a map with one hostile entry, in NumPy and independent of the library: coordinates are
# formed in float64 from theta as its dtype holds it.
SWEEP = """
import itertools, sys
import numpy as np
import torch
from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample

dtype, backend, modes = getattr(torch, sys.argv[1]), sys.argv[2], sys.argv[3].split()
inf, nan = float("inf"), float("nan")
hostile = [nan, inf, -inf, 1e20, -1e20, 2.5e38, -3.2e38, 2.0**24 + 1, 2.0**31]
side, fill, far = 4, 7.0, 2.0**30
ends = np.array([-0.75, -0.25, 0.25, 0.75])  # No output pixel lies in the middle, where a large entry would not count.
pixels = np.arange(16.0).reshape(side, side)

def fold(c):
    distance = np.abs(c + 0.5)
    turns = np.floor(distance / side)
    rest = distance - turns * side
    return np.where(turns % 2 == 0, rest, side - rest) - 0.5

def pad(c, padding):
    if padding in ("zeros", "fill"):
        return c
    return np.clip(fold(c) if padding == "reflection" else c, 0, side - 1)

def near(d):
    return ((-0.75 + 2) * d - (-0.75 + 3)) * d * d + 1

def away(d):
    return (((d - 5) * d + 8) * d - 4) * -0.75

def taps(c, mode, padding):
    if mode == "nearest":
        return [(np.round(pad(c, padding)), 1.0)]
    if mode == "bilinear":
        c = pad(c, padding)
        first = np.floor(c)
        return [(first, 1 - (c - first)), (first + 1, c - first)]
    first = np.floor(c)
    f = c - first
    weights = away(f + 1), near(f), near(1 - f), away(2 - f)
    return [(pad(first + offset, padding), weight) for offset, weight in zip((-1, 0, 1, 2), weights)]

def documented(theta, image, outside, mode, padding):
    with np.errstate(all="ignore"):
        x, y = (((a * ends + b * ends[:, None] + t + 1) * side - 1) / 2 for a, b, t in theta)
    # An infinite entry in the left two columns gives NaN everywhere, also where a partner is not of the other sign.
    undefined = np.isnan(x) | np.isnan(y) | np.isinf(theta[:, :2]).any()
    x, y = (np.clip(np.where(undefined, 0, c), -far, far) for c in (x, y))
    total = 0.0
    for (i, wi), (j, wj) in itertools.product(taps(y, mode, padding), taps(x, mode, padding)):
        inside = (i >= 0) & (i < side) & (j >= 0) & (j < side)
        at = np.where(inside, i, 0).astype(int), np.where(inside, j, 0).astype(int)
        total = total + np.where(inside, image[at], outside) * wi * wj
    return np.where(undefined, nan, total), undefined

def check(what, name):
    if not what:
        raise SystemExit(name)

rounding = 16 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
for mode, padding, value in itertools.product(modes, PADDING_MODES, hostile):
    name = f"{value} in theta, {mode}, {padding}, {dtype}, {backend}"
    print(name, flush=True)
    image = torch.from_numpy(pixels).to(dtype).expand(7, 1, side, side).clone().requires_grad_()
    theta = torch.eye(2, 3, dtype=dtype).repeat(7, 1, 1)
    theta.view(7, 6)[range(6), range(6)] = value  # In another entry for each image; the last one is left alone.
    theta.requires_grad_()
    options = {"mode": mode, "padding_mode": padding, "fill_value": fill if padding == "fill" else 0.0}
    out = affine_sample(image, theta, (side, side), backend=backend, **options)
    grad_image, grad_theta = torch.autograd.grad(out.sum(), (image, theta), materialize_grads=True)
    check((out[6] - image[6]).abs().max() <= 16 * rounding, f"{name}: the other image came to harm")
    check((grad_image[6] - 1).abs().max() <= 16 * rounding, f"{name}: the other image's gradient {grad_image[6]}")
    check(grad_theta[6].isfinite().all(), f"{name}: the other map's gradient {grad_theta[6]}")
    for entry in range(6):
        name = f"{value} in entry {entry} of theta, {mode}, {padding}, {dtype}, {backend}"
        held = theta[entry].detach().double().numpy()
        want, undefined = documented(held, pixels, fill if padding == "fill" else 0.0, mode, padding)
        arrived, _ = documented(held, np.ones_like(pixels), 0.0, mode, padding)
        got = out[entry, 0].detach().double().numpy()
        if padding == "reflection" and dtype != torch.float64 and not undefined.any():
            # Theta's own rounding is more than a pixel: it may be taken for a whole-pixel map, or mirrored elsewhere.
            right = (got >= -4) & (got <= 19)
        else:
            right = np.isclose(got, want, rtol=rounding, atol=rounding, equal_nan=True)
        check(right.all(), f"{name}: value {got}, documented {want}")
        missed = abs(float(grad_image[entry].sum()) - float(np.nansum(arrived)))
        check(missed <= 32 * rounding, f"{name}: the image's gradient {grad_image[entry]}")
        slope = grad_theta[entry]
        if undefined.any():
            check(slope.isnan().all(), f"{name}: theta's gradient {slope} does not tell of NaN")
            check(not undefined.all() or (grad_image[entry] == 0).all(), f"{name}: NaN reached the image's gradient")
            continue
        check(slope.isfinite().all(), f"{name}: theta's gradient {slope}")
        if padding in ("zeros", "fill"):
            check((slope == 0).all(), f"{name}: theta's gradient {slope} although all is outside")
        if padding == "border":
            check((slope[entry // 3] == 0).all(), f"{name}: theta's gradient {slope} beyond the border")
"""


@pytest.mark.parametrize(("dtype", "backend"), [*((dtype, "auto") for dtype in FLOATS), (torch.float32, "reference")])
def test_nan_infinite_and_huge_maps_in_all_modes_and_paddings(dtype, backend):
    """In F.grid_sample on a CPU some end the process in the backward, others give values that are not documented.

    pytorch#19826 (NaN, border), pytorch#24823 (NaN and infinities, reflection and zeros; -1e20; memory corruption in
    3-D), pytorch#42616 and pytorch#42703 (2.5e38, reflection), pytorch#51911 (2.98e38 and -3.2e38), pytorch#149013
    (outside, zeros), onnxruntime#27975 and onnxruntime#28302 (reflection reads the heap), torchvision#9272 and
    torchvision#9273 (NaN and infinite boxes), CVE-2020-15266 (boxes that become NaN inside of the kernel).
    """
    names = alone(SWEEP, str(dtype).removeprefix("torch."), backend, " ".join(MODES))
    assert len(names) == len(MODES) * len(PADDING_MODES) * 9


@pytest.mark.parametrize("backend", BACKENDS)
def test_coordinates_from_minus_1e7_to_7e7(backend):
    """The range in which a compiler folded a bounds check away: illegal access on CUDA (pytorch#35202, PR #35506)."""
    image = leaf(torch.ones(1, 1, 4, 4))
    theta = leaf(torch.tensor([[[3.9e7, 0.0, 2.9e7], [0.0, 1.0, 0.0]]]))
    out = affine_sample(image, theta, (4, 4), backend=backend)
    grad_image, grad_theta = gradients(out, image, theta)
    assert (out == 0).all()
    assert (grad_image == 0).all()
    assert (grad_theta == 0).all()


HALF_PLANES = """
import torch
from supervised_st import affine_sample

for dtype in (torch.float16, torch.bfloat16):
    for height, width in ((151, 217), (128, 256), (331, 99), (182, 182)):
        for backend in ("auto", "reference"):
            name = f"{height} x {width} = {height * width} pixels, {dtype}, {backend}"
            print(name, flush=True)
            image = (torch.arange(height * width) % 61).view(1, 1, height, width).to(dtype).requires_grad_()
            theta = torch.eye(2, 3)[None].requires_grad_()
            out = affine_sample(image, theta, (height, width), backend=backend)
            grad_image, grad_theta = torch.autograd.grad(out, (image, theta), torch.ones_like(out))
            if not (out - image).abs().max() <= 0.25:
                raise SystemExit(f"{name}: values are off by {(out - image).abs().max()}")
            if not (grad_image - 1).abs().max() <= 0.01:
                raise SystemExit(f"{name}: the image's gradient is off by {(grad_image - 1).abs().max()}")
            if not grad_theta.isfinite().all():
                raise SystemExit(f"{name}: theta's gradient {grad_theta}")
"""


def test_half_planes_around_32768_pixels():
    """F.grid_sample on a CPU reads foreign memory or aborts above 32,768 pixels (torchvision#9029, PR #9658)."""
    assert len(alone(HALF_PLANES)) == 16


@pytest.mark.parametrize("backend", ["reference", "aten"])
def test_the_gradient_of_an_image_of_40000_columns(backend):
    """opencv#7544, opencv#26860: coordinates in 16 bits wrap at 32,768 pixels."""
    image = leaf(torch.zeros(1, 1, 1, 40_000))
    theta = leaf(torch.tensor([[[2 / 40_000, 0, 1 - 2 / 40_000], [0, 1, 0]]], dtype=torch.float64))
    weights = torch.tensor([3.0, 5.0]).view(1, 1, 1, 2)
    out = affine_sample(image, theta, (1, 2), backend=backend)
    grad_image, grad_theta = gradients(out, image, theta, grad=weights)
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
    grad_image, grad_theta = gradients(out, image, theta)
    torch.testing.assert_close(out, image, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad_image, torch.ones_like(image), rtol=0, atol=1e-6)
    assert grad_theta.isfinite().all()


BEYOND_2_31 = """
import os, resource, sys
os.environ["TRITON_INTERPRET"] = "1"
import numpy as np
import torch
import torch.nn.functional as F
from triton.runtime import interpreter
from supervised_st import affine_sample

# All memory is the CPU's, so what a kernel was given need not be copied back: that would touch all of it.
interpreter.GridExecutor._restore_args_dev = lambda *arguments: None
height, width, h, w = 32_770, 65_536, 3, 5  # The upper left of the last four pixels lies beyond element 2^31.
corner = torch.randint(1, 100, (1, 1, h + 1, w + 1), generator=torch.Generator().manual_seed(0)).double()
# Halfway between the pixels of the last rows and columns: every output pixel is the mean of four.
theta = [[[w / width, 0, 1 - (w + 1) / width], [0, h / height, 1 - (h + 1) / height]]]
theta = torch.tensor(theta, dtype=torch.float64)
mean = F.avg_pool2d(corner, 2, stride=1)
weights = torch.arange(h * w).view(1, 1, h, w).double() % 7 - 2
across, down = corner.diff(dim=3), corner.diff(dim=2)
along_x = (across[..., :-1, :] + across[..., 1:, :]) * width / 4
along_y = (down[..., :-1] + down[..., 1:]) * height / 4
x, y = ((2 * torch.arange(n).double() + 1) / n - 1 for n in (w, h))
slopes = torch.tensor([[[(weights * along * at).sum() for at in (x, y[:, None], 1)] for along in (along_x, along_y)]])

for backend, dtype in (("reference", "float32"), ("aten", "float32"), ("triton", "float32"), ("triton", "float16")):
    print(f"{height} x {width} pixels, {dtype}, {backend}", flush=True)
    image = torch.from_numpy(np.memmap(sys.argv[1], dtype, "w+", shape=(1, 1, height, width)))
    image[..., -h - 1:, -w - 1:] = corner
    theta.requires_grad_(backend != "aten")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = affine_sample(image, theta, (h, w), backend=backend)
    # F.grid_sample's coordinates, in float32, are off by a few thousandths of a pixel here.
    rounding = {"float16": 0.05, "float32": 2 if backend == "aten" else 1e-4}[dtype]
    torch.testing.assert_close(out.detach().double(), mean, rtol=0, atol=rounding)
    if backend != "aten":
        (got,) = torch.autograd.grad(out, theta, weights.to(out.dtype))
        torch.testing.assert_close(got, slopes, rtol=1e-5, atol=1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > 500_000 and sys.platform == "linux":  # where its unit is a kilobyte
        raise SystemExit(f"{grown} kB were taken: the image was copied")
"""


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
    assert len(alone(BEYOND_2_31, str(tmp_path / "image"))) == 4


def views():
    """Name, the memory that is a leaf, and the view of it that is sampled."""
    yield "expanded, stride 0", torch.arange(12.0).view(1, 1, 3, 4), lambda base: base.expand(2, 3, 3, 4)
    yield "overlapping memory", torch.arange(6.0), lambda base: base.as_strided((2, 1, 4, 3), (0, 1, 1, 1))
    yield "stride 128", torch.arange(2 * 3 * 512.0).view(2, 1, 3, 512), lambda base: base[..., 127::128]
    yield "size-1 axes of odd strides", torch.arange(6.0), lambda base: base.as_strided((2, 1, 1, 3), (3, 777, 555, 1))
    yield "an offset into storage", torch.arange(30.0), lambda base: base[5:29].view(2, 1, 3, 4)
    yield "channels last", torch.randn(2, 3, 4, 5), lambda base: base.contiguous(memory_format=torch.channels_last)
    yield "turned around", torch.randn(5, 4, 3, 2), lambda base: base.permute(3, 2, 1, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("base", "view"), [pytest.param(*of, id=name) for name, *of in views()])
def test_views_of_all_kinds(backend, base, view):
    """pytorch#2307 (expanded input, backward), PR pytorch#41923 (large strides with gradients).

    Under identity the view comes back, and each number in memory gets the gradient of every place it stands in.
    """
    base = leaf(base)
    image = view(base)
    out = affine_sample(image, IDENTITY.repeat(2, 1, 1), tuple(image.shape[2:]), backend=backend)
    weights = torch.randn_like(out)
    torch.testing.assert_close(out, image, rtol=0, atol=2e-5 * max(1.0, float(image.detach().abs().max())))
    (got,) = gradients(out, base, grad=weights)
    (want,) = gradients(view(base), base, grad=weights)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


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
    (got,) = gradients(out, image, grad=weights)
    torch.testing.assert_close(got, weights.contiguous(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gradient_is_the_same_without_the_other(backend):
    """requires_grad on the image only, on theta only, and on neither."""
    image, theta = torch.randn(1, 2, 4, 5), torch.tensor([[[0.8, 0.2, 0.1], [-0.3, 0.7, 0.2]]])
    sample = partial(affine_sample, size=(3, 3), backend=backend)
    both = leaf(image), leaf(theta)
    want_image, want_theta = gradients(sample(*both), *both)
    only_image, only_theta = leaf(image), leaf(theta)
    assert torch.equal(gradients(sample(only_image, theta), only_image)[0], want_image)
    assert torch.equal(gradients(sample(image, only_theta), only_theta)[0], want_theta)
    assert not sample(image, theta).requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1)], ids=str)
def test_an_output_of_one_pixel_is_the_center(backend, align_corners, size):
    """With align_corners its coordinate is 0 / 0 elsewhere (kornia#3957, PR kornia#4006, onnxruntime#28302)."""
    image = leaf(torch.arange(15.0).view(1, 1, 3, 5))
    theta = leaf(torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.7, -0.1]]]))
    out = affine_sample(image, theta, size, align_corners=align_corners, backend=backend)
    grad_image, grad_theta = gradients(out, image, theta)
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
    grad_image, grad_theta = gradients(out, image, theta)
    # With align_corners one pixel's center is both ends of its axis, so everything is there.
    inside = align_corners or padding_mode in ("border", "reflection")
    assert (out == (5 if inside else options["fill_value"])).all()
    assert grad_image.item() == (4 if inside else 0)
    assert (grad_theta == 0).all()


@pytest.mark.parametrize("shape", [(1, 1, 0, 4), (1, 1, 4, 0), (1, 1, 0, 0), (0, 1, 0, 4)], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_of_no_pixels(backend, shape):
    """kornia#3957; CVE-2021-29533: empty images."""
    with pytest.raises(ValueError, match=r"image must have sides of 1 to 1073741824 pixels, got shape"):
        affine_sample(torch.zeros(shape), IDENTITY.expand(shape[0], 2, 3), (2, 2), backend=backend)


SINGULAR = {
    "all zeros": [[0.0, 0.0, 0.2], [0.0, 0.0, -0.3]],
    "a line": [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]],
    "a zero row": [[1.0, 0.5, 0.1], [0.0, 0.0, 0.1]],
    "a zero column": [[0.0, 0.9, 0.1], [0.0, 0.6, 0.1]],
    "denormal": [[1e-42, 0.0, 0.2], [0.0, 1e-42, -0.3]],
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SINGULAR)
def test_maps_without_an_inverse(backend, name):
    """kornia#1404: singular matrices; the sampler's backward must not need the inverse either."""
    image, theta = torch.randn(1, 1, 6, 7), torch.tensor([SINGULAR[name]])
    ours, truth = (leaf(image), leaf(theta)), (leaf(image.double()), leaf(theta.double()))
    out = affine_sample(*ours, (4, 4), backend=backend)
    want = F.grid_sample(truth[0], F.affine_grid(truth[1], [1, 1, 4, 4], align_corners=False), align_corners=False)
    torch.testing.assert_close(out.double(), want, rtol=0, atol=1e-5)
    for got, true in zip(gradients(out, *ours), gradients(want, *truth), strict=True):
        torch.testing.assert_close(got.double(), true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("align_corners", [False, True])
def test_quarter_turns_return_every_row(backend, turns, align_corners):
    """kornia#747 (identity was off by a default), PR torchvision#2468 (a turn by 90 degrees had a row of zeros)."""
    image = leaf(torch.arange(1.0, 26).view(1, 1, 5, 5))
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0]], [[-1, 0, 0], [0, -1, 0]],
                          [[0, 1, 0], [-1, 0, 0]]])[turns : turns + 1]  # fmt: skip
    out = affine_sample(image, theta, (5, 5), align_corners=align_corners, backend=backend)
    torch.testing.assert_close(out, image.rot90(turns, (2, 3)), rtol=0, atol=0 if backend != "aten" else 1e-4)
    weights = torch.randn_like(out)
    (grad,) = gradients(out, image, grad=weights)
    torch.testing.assert_close(grad, weights.rot90(-turns, (2, 3)), rtol=0, atol=0 if backend != "aten" else 1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("theta_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("image_dtype", [*FLOATS, torch.uint8], ids=str)
def test_every_dtype_of_image_with_every_dtype_of_theta(backend, image_dtype, theta_dtype):
    """The pair refuses to mix them (pytorch#94733). The result has the image's dtype, each gradient its input's."""
    image, theta = torch.arange(12).view(1, 1, 3, 4).to(image_dtype), leaf(IDENTITY.to(theta_dtype))
    leaves = (leaf(image), theta) if image_dtype.is_floating_point else (theta,)
    out = affine_sample(leaves[0] if len(leaves) == 2 else image, theta, (3, 4), backend=backend)
    assert out.dtype == (torch.float32 if image_dtype == torch.uint8 else image_dtype)
    torch.testing.assert_close(out, image.to(out.dtype), rtol=0, atol=0 if backend != "aten" else 1e-4)
    for got, of in zip(gradients(out, *leaves), leaves, strict=True):
        assert got.dtype == of.dtype
        assert got.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "aten"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [512, 3840])
def test_coordinates_are_not_formed_in_half_precision(backend, dtype, width):
    """A half theta, or a half image, moves no pixel: the pair's grid in half precision moves them by whole pixels.

    pytorch#30404, pytorch#89836, pytorch#96429, PR pytorch#90427, pytorch#96586, PR pytorch#62875.
    """
    ramp = torch.arange(float(width)).expand(1, 1, 2, width).contiguous()
    out = affine_sample(ramp, IDENTITY.to(dtype), (2, width), padding_mode="border", backend=backend)
    torch.testing.assert_close(out, ramp, rtol=0, atol=0 if backend == "reference" else 1e-3)
    image = (torch.arange(width) % 2).expand(1, 1, 2, width).to(dtype).contiguous()
    out = affine_sample(image, IDENTITY, (2, width), padding_mode="border", backend=backend)
    torch.testing.assert_close(out, image, rtol=0, atol=0 if backend == "reference" else 2e-3)


@pytest.mark.parametrize("theta", [torch.int64, torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_that_are_not_floating_point(backend, theta):
    """pytorch#12362: an integer theta."""
    with pytest.raises(TypeError, match=r"theta must be float64, float32, float16 or bfloat16, got torch\."):
        affine_sample(torch.zeros(1, 1, 2, 2), IDENTITY.to(theta), (2, 2), backend=backend)


NO_IMAGES = (torch.int8, torch.int32, torch.int64, torch.uint16, torch.bool, torch.complex64, torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", NO_IMAGES, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_integers_and_complex_numbers(backend, dtype):
    with pytest.raises(TypeError, match=r"image must be float64, float32, float16, bfloat16 or uint8, got torch\."):
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
def test_tensors_that_do_not_lie_by_strides(backend, name, layout):
    arguments = {"image": torch.ones(1, 1, 2, 2), "theta": IDENTITY}
    arguments[name] = SCATTERED[layout](arguments[name])
    with pytest.raises(TypeError, match=rf"{name} must be a dense tensor, got (torch\.\w+|nested)"):
        affine_sample(**arguments, size=(2, 2), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "channels"), [(0, 3), (2, 0), (0, 0)])
def test_empty_batches_and_no_channels(backend, batch, channels):
    image, theta = leaf(torch.ones(batch, channels, 3, 3)), leaf(IDENTITY.repeat(batch, 1, 1))
    out = affine_sample(image, theta, (2, 4), backend=backend)
    assert out.shape == (batch, channels, 2, 4)
    grad_image, grad_theta = gradients(out, image, theta)
    assert grad_image.shape == image.shape
    assert torch.equal(grad_theta, torch.zeros(batch, 2, 3))


@pytest.mark.parametrize(
    ("size", "error", "match"),
    [
        ((0, 4), ValueError, r"size must be two integers .* from 1 to 1073741824"),
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
def test_sizes_that_are_none(size, error, match, antialias):
    """F.affine_grid's checks; pytorch#88951, pytorch#107545, pytorch#107552, pytorch#107553 (interpolate)."""
    with pytest.raises(error, match=match):
        affine_sample(torch.ones(1, 1, 2, 2), IDENTITY, size, antialias=antialias)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2**60, 2, 3), r"theta must have shape \(1, 2, 3\)"),
        ((1, 1, 1, 1, 2, 3), r"theta must have shape \(1, 2, 3\)"),
        ((1, 3, 3), r"theta must have shape"),
        ((3, 2), r"theta must have shape"),
    ],
    ids=["2^60 maps", "rank 6", "3 x 3", "rank 2"],
)
def test_maps_of_absurd_shapes(backend, shape, match):
    """pytorch#94590: a theta of rank 6, or of more than 10^18 maps (expanded, so it takes no memory)."""
    with pytest.raises(ValueError, match=match):
        affine_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1).expand(shape), (2, 2), backend=backend)


@pytest.mark.parametrize("shape", [(1, 1, 1, 2**30 + 1), (1, 1, 2**30 + 1, 1)])
def test_images_with_sides_beyond_the_range_of_coordinates(shape):
    with pytest.raises(ValueError, match=r"image must have sides of 1 to 1073741824 pixels"):
        affine_sample(torch.ones(1).expand(shape), IDENTITY, (2, 2))


BEYOND_MEMORY = """
import resource, sys
import torch
from supervised_st import affine_sample

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
image = torch.ones(1, 1, 2, 2)
for antialias in (False, True):
    for size, maps in (((2**30, 2**30), 1), ((1, 2**30), 2**30), ((2, 2), 2**40), ((2**30, 2), 2**20)):
        print(f"{size} for {maps} maps, antialias={antialias}, {sys.argv[1]}", flush=True)
        theta = torch.eye(2, 3).expand(1, maps, 2, 3)
        try:
            affine_sample(image, theta, size, antialias=antialias, backend=sys.argv[1])
        except RuntimeError as error:
            if "memory" not in str(error) and "overflow" not in str(error):
                raise SystemExit(f"not the allocator's error: {error}")
        else:
            raise SystemExit("it fits into memory?")
"""


@pytest.mark.parametrize("backend", ["aten", "reference"])
def test_outputs_beyond_all_memory_raise_at_once(backend):
    """CVE-2021-41199, CVE-2022-41886, CVE-2022-23587: there the number of elements overflows."""
    alone(BEYOND_MEMORY, backend)


LONG_STEPS = """
import torch
from supervised_st import affine_sample

device = "cuda" if torch.cuda.is_available() else "cpu"
image = torch.ones(1, 1, 8, 512, device=device, requires_grad=True)
for step in (541200.5625, *(2.0**n for n in range(12, 24))):
    print(f"{step * 256:.0f} pixels from one output pixel to the next", flush=True)
    theta = torch.tensor([[[step, 0, step / 2 - 0.9], [0, 0.01, 0]]], device=device, requires_grad=True)
    results = []
    for backend in ("triton", "reference"):
        out = affine_sample(image, theta, (1, 2), backend=backend)
        results.append((out.detach(), *torch.autograd.grad(out.sum(), (image, theta))))
    for got, want in zip(*results):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
"""


@pytest.mark.triton
def test_steps_of_millions_of_pixels():
    """Every finite step between two output pixels, also where most of a block of them would lie beyond 32 bits."""
    alone(LONG_STEPS)


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
    (gradient,) = gradients(out, image)
    assert gradient.sum() == 1
    assert gradient.flatten()[-1] == 1


def test_lists_are_not_tensors():
    """torchvision#4828, PR torchvision#9588: boxes given as a list."""
    with pytest.raises(TypeError, match=r"theta must be a torch.Tensor, got list"):
        affine_sample(torch.zeros(1, 1, 2, 2), IDENTITY.tolist(), (2, 2))


@pytest.mark.parametrize("backend", ["reference", "triton"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_pixels_that_are_not_numbers_count_only_where_they_have_weight(backend, mode, value):
    """Zero times infinity is never formed: neighbors of such a pixel keep their values and gradients."""
    if (backend, mode) == ("triton", "bicubic"):
        pytest.skip("bicubic has no kernel")
    image = torch.ones(1, 1, 4, 4)
    image[0, 0, 1, 2] = value
    image, theta = leaf(image), leaf(IDENTITY)
    out = affine_sample(image, theta, (4, 4), mode=mode, backend=backend)
    torch.testing.assert_close(out, image, rtol=0, atol=0, equal_nan=True)
    (grad_image,) = gradients(out, image)
    assert torch.equal(grad_image, torch.ones_like(image))
    # What is outside has no weight from the image: a map that leaves it sees none of its pixels.
    away = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])
    assert (affine_sample(image, away, (4, 4), mode=mode, backend=backend) == 0).all()


def test_a_compiled_call_raises_and_returns_what_the_call_does():
    """pytorch#193822, pytorch#183769, PR pytorch#176721: errors and values that differ under the compiler."""
    compiled = torch.compile(affine_sample, backend="eager")
    image = torch.ones(1, 1, 2, 2)
    for theta, size, error in ((IDENTITY, (0, 2), ValueError), (torch.zeros(1, 3, 3), (2, 2), ValueError),
                               (IDENTITY.long(), (2, 2), TypeError)):  # fmt: skip
        with pytest.raises(error) as plain:
            affine_sample(image, theta, size)
        with pytest.raises(error) as traced:
            compiled(image, theta, size)
        assert str(traced.value).startswith(str(plain.value))
    for value in (NAN, INF, -INF, 2.5e38):
        theta = IDENTITY.clone()
        theta[0, 0, 2] = value
        for padding_mode in PADDING_MODES:
            got, want = (of(image, theta, (2, 2), padding_mode=padding_mode) for of in (compiled, affine_sample))
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, msg=f"{value}, {padding_mode}")


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_and_negated_views(backend):
    """Subclasses of tensors, and views whose sign is still to be taken."""
    image = torch.complex(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)).conj().imag
    assert image.is_neg()
    assert (affine_sample(image, IDENTITY, (2, 2), backend=backend) == -3).all()
    image, theta = nn.Parameter(torch.ones(1, 1, 2, 2)), nn.Parameter(IDENTITY.clone())
    affine_sample(image, theta, (2, 2), backend=backend).sum().backward()
    assert torch.equal(image.grad, torch.ones(1, 1, 2, 2))
    assert theta.grad.isfinite().all()


RAW_OPERATORS = """
import os
os.environ["TRITON_INTERPRET"] = "1"
import torch
import supervised_st._sampler.fused

forward = torch.ops.supervised_st.affine_sample
image_gradient = torch.ops.supervised_st.affine_sample_image_gradient
theta_gradient = torch.ops.supervised_st.affine_sample_theta_gradient
image, theta, grad = torch.ones(2, 3, 4, 4), torch.eye(2, 3).repeat(2, 1, 1), torch.ones(2, 3, 3, 3)
none, plain = (None, None, None), ("bilinear", "zeros", False)
cases = {
    "an unknown mode": lambda: forward(image, theta, *none, 3, 3, "cubic", "zeros", False),
    "an unknown padding": lambda: forward(image, theta, *none, 3, 3, "bilinear", "wrap", False),
    "three maps of two images": lambda: forward(image, torch.eye(2, 3).repeat(3, 1, 1), *none, 3, 3, *plain),
    "five maps of two images": lambda: forward(image, torch.eye(2, 3).repeat(5, 1, 1), *none, 3, 3, *plain),
    "one map of two images": lambda: forward(image, theta[:1], *none, 3, 3, *plain),
    "a theta of 2 x 2": lambda: forward(image, theta[..., :2], *none, 3, 3, *plain),
    "fewer fills than channels": lambda: forward(
        image, theta + 9, torch.ones(1), None, None, 3, 3, "bilinear", "fill", False
    ),
    "an expanded fill": lambda: forward(
        image, theta, torch.ones(1).expand(3), None, None, 3, 3, "bilinear", "fill", False
    ),
    "no fill": lambda: forward(image, theta, *none, 3, 3, "bilinear", "fill", False),
    "a fill for zeros": lambda: forward(image, theta, torch.ones(3), None, None, 3, 3, *plain),
    "a fill of another dtype": lambda: forward(
        image, theta, torch.ones(3).half(), None, None, 3, 3, "bilinear", "fill", False
    ),
    "an output of no rows": lambda: forward(image, theta, *none, 0, 3, *plain),
    "an output of negative width": lambda: forward(image, theta, *none, 3, -3, *plain),
    "an image of no columns": lambda: forward(image[..., :0], theta, *none, 3, 3, *plain),
    "an image on another device": lambda: forward(image.to("meta"), theta, *none, 3, 3, *plain),
    "a half theta": lambda: forward(image, theta.half(), *none, 3, 3, *plain),
    "a mean without a std": lambda: forward(image.byte(), theta, None, torch.ones(3), None, 3, 3, *plain),
    "no images, two maps": lambda: forward(image[:0], theta, *none, 3, 3, *plain),
    "an image of integers": lambda: forward(image.long(), theta, *none, 3, 3, *plain),
    "a theta of integers": lambda: forward(image, theta.long(), *none, 3, 3, *plain),
    "image gradient, unknown mode": lambda: image_gradient(grad, theta, 4, 4, False, "cubic", "zeros", False),
    "image gradient, one map of two": lambda: image_gradient(grad, theta[:1], 4, 4, False, *plain),
    "image gradient, five maps, one gradient": lambda: image_gradient(
        grad, theta[:, None].repeat(1, 5, 1, 1), 4, 4, False, *plain
    ),
    "theta gradient, one image of two": lambda: theta_gradient(grad, image[:1], theta, *none, *plain),
    "theta gradient, one gradient of two": lambda: theta_gradient(grad[:1], image, theta, *none, *plain),
    "image gradient of no rows": lambda: image_gradient(grad, theta, 0, 4, False, *plain),
    "image gradient, integers": lambda: image_gradient(grad.long(), theta, 4, 4, False, *plain),
    "theta gradient, a number": lambda: theta_gradient(grad.sum(), image, theta, *none, *plain),
    "theta gradient, other channels": lambda: theta_gradient(grad[:, :2], image, theta, *none, *plain),
    "theta gradient, another dtype": lambda: theta_gradient(grad.double(), image, theta, *none, *plain),
    "theta gradient, other maps": lambda: theta_gradient(
        grad[:, None], image, theta[:, None].repeat(1, 2, 1, 1), *none, *plain
    ),
    "theta gradient, one map of two": lambda: theta_gradient(grad, image, theta[:1], *none, *plain),
}
accepted = []
for name, call in cases.items():
    print(name, flush=True)
    try:
        call()
    except (TypeError, ValueError, RuntimeError):
        pass
    except Exception as error:
        accepted.append(f"{name} ({type(error).__name__})")
    else:
        accepted.append(name)
if accepted:
    raise SystemExit(f"no error that says what is wrong: {accepted}")
"""


@pytest.mark.triton
def test_raw_operators_refuse_shapes_and_choices_that_do_not_fit():
    """pytorch#78125, pytorch#73187 (heap corruption), pytorch#98136 (enums out of range): those of torch did not.

    Whatever is reachable as torch.ops.supervised_st.* is reachable with any arguments.
    """
    alone(RAW_OPERATORS)
