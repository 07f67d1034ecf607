"""``affine_sample``: exact laws, float64 truth, and agreement of the backends."""

import itertools

import cv2
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.budgets import EXACT, FLOAT32_SUM, assert_close, rounding
from supervised_st._sampler.antialias import _cumulative_sum
from supervised_st._sampler.aten import _DIFFERENTIATES_TWICE, _groups
from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.geometry import compose, window_to_theta
from supervised_st.sampling import affine_sample

EXACT_BACKENDS = ("reference", "triton")
BACKENDS = ("reference", "aten", "triton")
CONVENTIONS = (False, True)
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")
DEVICES = ("cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU]))


def supported(backends, *axes):
    """All combinations that there are: the cubic kernel has no Triton backend."""
    return [case for case in itertools.product(backends, *axes) if not {"triton", "bicubic"} <= set(case)]


def case(seed, *, dtype=torch.float64, batch=2, channels=2, largest=8, spread=1.2):
    """A random image, map and output size."""
    g = torch.Generator().manual_seed(seed)
    height, width, *size = torch.randint(2, largest + 1, (4,), generator=g).tolist()
    image = torch.randn(batch, channels, height, width, dtype=torch.float64, generator=g).to(dtype)
    theta = torch.randn(batch, 2, 3, dtype=torch.float64, generator=g) * spread
    return image, theta, tuple(size)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def usual_pair(image, theta, size, *, mode="bilinear", padding_mode="zeros", align_corners=False):
    grid = F.affine_grid(theta, [*image.shape[:2], *size], align_corners=align_corners)
    return F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def gradients(out, inputs, seed=0):
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad(out, inputs, weights.to(out.dtype))


@pytest.mark.parametrize(
    ("backend", "mode", "padding_mode", "align_corners"),
    supported(BACKENDS, MODES, ("zeros", "border", "reflection"), CONVENTIONS),
)
def test_float64_agrees_with_the_usual_pair(backend, mode, padding_mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    for seed in range(2 if backend == "triton" else 3):  # an interpreter takes its time
        image, theta, size = case(seed)
        image.requires_grad_()
        theta.requires_grad_()
        got = affine_sample(image, theta, size, **options, backend=backend)
        truth = usual_pair(image, theta, size, **options)
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
@settings(max_examples=50, deadline=None)
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


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
def test_quarter_turn_is_rot90(backend):
    image = torch.randn(1, 2, 6, 6)
    theta = torch.tensor([[[0.0, -1, 0], [1, 0, 0]]])
    assert torch.equal(affine_sample(image, theta, (6, 6), backend=backend), image.rot90(1, (2, 3)))


def drawn(backend):
    """Options that a backend has, for properties that hold under all of them."""
    return st.fixed_dictionaries({
        "mode": st.sampled_from([mode for mode in MODES if backend != "triton" or mode != "bicubic"]),
        "padding_mode": st.sampled_from(("zeros", "border", "reflection")),
        "align_corners": st.booleans(),
        "backend": st.just(backend),
    })  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=6, deadline=None)
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
@settings(max_examples=6, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16), level=st.floats(-4, 4))
def test_a_constant_image_stays_constant(backend, data, seed, level):
    """The weights of an output pixel sum to one, wherever it looks: padding by zeros is the one that shows."""
    options = data.draw(drawn(backend))
    _, theta, size = case(seed)
    if options["padding_mode"] == "zeros":
        options |= {"padding_mode": "fill", "fill_value": level}
    got = affine_sample(torch.full((2, 1, 5, 4), level, dtype=torch.float64), theta, size, **options)
    torch.testing.assert_close(got, torch.full_like(got, level), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
@settings(max_examples=6, deadline=None)
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


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=6, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_sampling_a_crop_is_sampling_the_image(backend, data, seed):
    """A map that stays three pixels inside of a crop cannot tell it from the image around it."""
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

    # The full Jacobian takes an interpreter seconds; its float64 gradients are held against the pair's, too.
    assert torch.autograd.gradcheck(sample, (image, theta), fast_mode=backend == "triton")
    assert torch.autograd.gradgradcheck(sample, (image, theta), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_several_maps_are_each_map_by_itself(backend, channels_last):
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


@pytest.mark.parametrize("differentiates_twice", sorted({_DIFFERENTIATES_TWICE, False}))
@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, ("bilinear", "bicubic")))
def test_a_theta_that_depends_on_the_image(monkeypatch, backend, mode, differentiates_twice):
    """Every spatial transformer's does. What the image gains through theta must be counted once."""
    monkeypatch.setattr("supervised_st._sampler.aten._DIFFERENTIATES_TWICE", differentiates_twice)
    g = torch.Generator().manual_seed(2)
    image = torch.randn(1, 1, 3, 4, dtype=torch.float64, generator=g, requires_grad=True)
    toward = torch.randn(2, 3, dtype=torch.float64, generator=g) * 0.1

    def loss(image):
        theta = torch.eye(2, 3, dtype=torch.float64)[None] * 0.7 + 0.03 + toward * image.mean()
        return affine_sample(image, theta, (2, 3), mode=mode, backend=backend).square().sum()

    (once,) = torch.autograd.grad(loss(image), image)
    (again,) = torch.autograd.grad(loss(image), image, create_graph=True)
    assert_close("gradient", again.detach(), once, EXACT)
    assert torch.autograd.gradgradcheck(loss, (image,), fast_mode=True)


class Largest(TorchDispatchMode):
    """Remember the largest tensor that is made, and the devices of all that take part."""

    def __init__(self):
        super().__init__()
        self.numel, self.devices = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in torch.utils._pytree.tree_leaves((args, out)) if isinstance(t, torch.Tensor)]
        self.devices |= {t.device.type for t in tensors}
        self.numel = max([self.numel, *(t.untyped_storage().nbytes() // t.itemsize for t in tensors)])
        return out


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_maps_do_not_copy_the_image(backend):
    image = torch.randn(1, 1, 64, 64, requires_grad=True)
    theta = (torch.eye(2, 3).repeat(1, 8, 1, 1) * 0.01).requires_grad_()
    with Largest() as seen:
        torch.autograd.grad(affine_sample(image, theta, (3, 4), backend=backend).sum(), (image, theta))
    assert seen.numel == image.numel()


@pytest.fixture
def _channels_in_groups(monkeypatch):
    """As on a CPU they are of large images only."""
    monkeypatch.setattr("supervised_st._sampler.aten._LARGEST_UNGROUPED", 0)


@pytest.mark.usefixtures("_channels_in_groups")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("maps", [(), (3,)])
def test_many_channels_are_each_channel_by_itself(maps, dtype):
    image = torch.randn(2, 32, 8, 6).to(dtype).requires_grad_()
    assert _groups(image.float()) == 2
    theta = (torch.randn(2, *maps, 2, 3) * 0.7).requires_grad_()
    fills = torch.randn(32)
    options = {"padding_mode": "fill", "backend": "aten"}
    together = affine_sample(image, theta, (7, 9), fill_value=fills, **options)
    parts = zip(image.split(8, 1), fills.split(8), strict=True)
    alone = torch.cat([affine_sample(part, theta, (7, 9), fill_value=fill, **options) for part, fill in parts], -3)
    assert torch.equal(together, alone)
    of_image, of_theta = gradients(together, (image, theta))
    of_image_alone, of_theta_alone = gradients(alone, (image, theta))
    assert torch.equal(of_image, of_image_alone)
    assert_close("theta gradient", of_theta, of_theta_alone.double(), FLOAT32_SUM)


@pytest.mark.usefixtures("_channels_in_groups")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("maps", [(), (1,)])
def test_outputs_may_be_changed_in_place_and_gradients_batched(maps, memory_format, backend):
    channels = 2 if backend == "triton" else 32  # an interpreter takes its time
    image = torch.randn(1, channels, 3, 4).contiguous(memory_format=memory_format).requires_grad_()
    theta = (torch.randn(1, *maps, 2, 3) * 0.5).requires_grad_()
    out = affine_sample(image, theta, (2, 3), backend=backend)
    twice = affine_sample(image, theta, (2, 3), backend=backend).mul_(2)
    assert torch.equal(twice, 2 * out)
    weights = torch.randn(2, *out.shape)
    batched = torch.autograd.grad(out, (image, theta), weights, is_grads_batched=True, retain_graph=True)
    for n, weight in enumerate(weights):
        alone, doubled = (torch.autograd.grad(o, (image, theta), weight, retain_graph=True) for o in (out, twice))
        for name, one, two, mine in zip(("image", "theta"), alone, doubled, batched, strict=True):
            assert_close(f"batched {name} gradient", mine[n], one.double(), FLOAT32_SUM)
            assert_close(f"{name} gradient", two, 2 * one.double(), FLOAT32_SUM)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "nearest"},
        {"mode": "bicubic", "padding_mode": "reflection"},
        {"padding_mode": "fill", "fill_value": (1.0, 2.0, 3.0)},
        {"antialias": True, "padding_mode": "fill", "fill_value": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16], ids=str)
def test_no_number_comes_from_the_host_or_goes_there(options, dtype):
    """On a device without numbers nothing can be read back, and a copy from the host would show its device."""
    image = torch.empty(2, 3, 5, 6, dtype=dtype, device="meta")
    theta = torch.empty(2, 4, 2, 3, device="meta")
    if dtype == torch.uint8:
        options = {**options, "mean": (1.0, 2.0, 3.0), "std": 4.0}
    with Largest() as seen:
        out = affine_sample(image, theta, (7, 8), **options)
    assert (out.shape, out.dtype) == ((2, 4, 3, 7, 8), torch.float32 if dtype == torch.uint8 else dtype)
    assert seen.devices == {"meta"}


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


def test_constants_may_be_batched():
    image, theta = pixels(1, 2, 4, 5), torch.eye(2, 3)[None] * 0.9
    means = torch.rand(3, 2) * 100

    def sample(mean):
        return affine_sample(image, theta, (3, 3), mean=mean, std=50.0)

    torch.testing.assert_close(torch.func.vmap(sample)(means), torch.stack([sample(mean) for mean in means]))


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "aten"])
def test_the_fill_keeps_its_bits_beside_normalized_pixels(backend):
    generator = torch.Generator().manual_seed(0)
    image, fill, std = pixels(1, 16, 5, 6), torch.randn(16, generator=generator), torch.rand(16, generator=generator)
    # Half of the first output lies outside, and all of the second.
    theta = torch.tensor([[[[1, 0, 1], [0, 1, 0.1]], [[1, 0, 9], [0, 1, 0]]]])
    options = {"padding_mode": "fill", "fill_value": fill, "mean": 117.3, "std": 60 * std, "backend": backend}
    half, whole = affine_sample(image, theta, (5, 6), **options)[0]
    assert torch.equal(half[:, :, 3:], fill[:, None, None].expand(16, 5, 3))
    assert torch.equal(whole, fill[:, None, None].expand(16, 5, 6))


@pytest.mark.parametrize("backend", BACKENDS)
def test_uint8_passes_gradients_to_theta(backend):
    image, theta, size = pixels(2, 3, 7, 6), case(4)[1].float().requires_grad_(), (4, 5)
    got = gradients(affine_sample(image, theta, size, mean=128.0, std=64.0, backend=backend), (theta,))
    truth = theta.detach().double().requires_grad_()
    want = gradients(affine_sample((image.double() - 128) / 64, truth, size, backend="reference"), (truth,))
    assert_close("theta gradient", got[0], want[0], FLOAT32_SUM)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8], ids=str)
@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, MODES))
def test_channels_last_stays_channels_last(backend, mode, dtype):
    image = pixels(2, 3, 6, 5).to(dtype)
    theta = torch.randn(2, 3, 2, 3) * 0.6
    last = image.contiguous(memory_format=torch.channels_last)
    for maps in (theta[:, 0], theta):
        for antialias in {False, mode == "bilinear"}:
            got, want = (
                affine_sample(i, maps, (4, 7), mode=mode, antialias=antialias, backend=backend) for i in (last, image)
            )
            assert torch.equal(got, want)
            assert want.is_contiguous()
            assert got.movedim(-3, -1).is_contiguous()
    if dtype.is_floating_point:
        inputs = [tensor.requires_grad_() for tensor in (last, image, theta)]
        got, want = (
            gradients(affine_sample(i, theta, (4, 7), mode=mode, backend=backend), (i, theta)) if mode != "nearest"
            else gradients(affine_sample(i, theta, (4, 7), mode=mode, backend=backend), (i,)) for i in inputs[:2]
        )  # fmt: skip
        for name, mine, other in zip(("image", "theta"), got, want, strict=False):
            assert_close(f"{name} gradient", mine, other.double(), max(FLOAT32_SUM, rounding(dtype)))


CUTS = {
    "a crop": lambda last: last[:, :, 1:3, 2:4],
    "some channels": lambda last: last[:, 1:],
    "every other column": lambda last: last[..., ::2],
    "one image, repeated": lambda last: last[:1].expand(2, -1, -1, -1),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_cut_out_of_channels_last_stays_channels_last(backend, cut):
    """Of 17 channels, 16 are what a kernel works on at a time, though none of them starts where it might wish."""
    whole = torch.randn(2, 17 if cut is CUTS["some channels"] else 3, 4, 5)
    last, planes = (cut(whole.contiguous(memory_format=f)) for f in (torch.channels_last, torch.contiguous_format))
    inputs = [tensor.requires_grad_() for tensor in (last, planes, torch.randn(2, 2, 3) * 0.6)]
    results = []
    for image in inputs[:2]:
        out = affine_sample(image, inputs[2], (2, 3), backend=backend)
        results.append((out.detach(), *gradients(out, (image, inputs[2]))))
    got, want = results
    assert_close("sampled", got[0], want[0].double(), rounding(torch.float32))
    for name, mine, true in zip(("image", "theta"), got[1:], want[1:], strict=True):
        assert_close(f"{name} gradient", mine, true.double(), FLOAT32_SUM)
    assert want[0].is_contiguous()
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    assert not got[0].is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
def test_channels_cut_out_of_single_pixels_are_planes(backend):
    image = torch.randn(2, 6, 1, 1)[:, :3]
    assert affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), (2, 3), backend=backend).is_contiguous()


AREA_OPTIONS = ({}, {"padding_mode": "fill", "fill_value": (0.5, -2.0)})


def box_mean(image, theta, size, *, align_corners, outside):
    """The area filter by its definition: what each pixel shares with the footprint, in float64, pixel by pixel."""
    outside = torch.tensor(outside, dtype=torch.float64).expand(2)[:, None, None]
    shares = []
    for row, length in zip(theta.unbind(1), reversed(image.shape[2:]), strict=True):
        half, per_step = [], []
        for n in reversed(size):
            steps = n - 1 if align_corners else n
            half.append((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * 2 / max(steps, 1))
            per_step.append((length - 1 if align_corners else length) / max(steps, 1))
        column, line = half
        a, b, t = row.T[..., None, None]
        units = (length - 1 if align_corners else length) / 2
        center = (a * column + b * line[:, None] + t) * units + (length - 1) / 2
        side = torch.hypot(a * per_step[0], b * per_step[1]).clamp_min(1)
        pixel = torch.arange(length, dtype=torch.float64) - 0.5
        low, high = (center - side / 2)[..., None], (center + side / 2)[..., None]
        shared = (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp_min(0)
        shares.append(shared / side[..., None])
    return torch.einsum("nhwx,nhwy,ncyx->nchw", *shares, image - outside) + outside


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_antialias_averages_over_footprints(backend, align_corners):
    for seed, options in itertools.product(range(3), AREA_OPTIONS):
        image, theta, size = case(seed, largest=7)
        options = {**options, "align_corners": align_corners, "antialias": True}
        truth = box_mean(image, theta, size, align_corners=align_corners, outside=options.get("fill_value", 0.0))
        got = affine_sample(image, theta, size, **options, backend=backend)
        assert_close("averages", got, truth, EXACT * 10)
        for dtype in (torch.float32, torch.bfloat16):
            narrow = image.to(dtype)
            truth = box_mean(
                narrow.double(), theta, size, align_corners=align_corners, outside=options.get("fill_value", 0.0)
            )
            got = affine_sample(narrow, theta, size, **options, backend=backend)
            assert_close("averages", got, truth, rounding(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_antialias_is_bilinear_where_nothing_is_minified(backend):
    image, theta, _ = case(1)
    theta = theta * 0.3
    got, want = (affine_sample(image, theta, (11, 13), antialias=a, backend=backend) for a in (True, False))
    assert_close("sampled", got, want, EXACT * 10)


@pytest.mark.parametrize("factor", [2, 3, (2, 4)])
def test_antialias_takes_the_mean_of_blocks(factor):
    image = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    want = F.avg_pool2d(image, factor)
    got = affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), want.shape[2:], antialias=True)
    assert_close("blocks", got, want, EXACT)


@settings(max_examples=20, deadline=None)
@given(window=st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(5, 30)] * 2), share=st.floats(0, 1))
def test_antialias_of_a_window_is_opencvs_area_interpolation(window, share):
    image = torch.randn(1, 1, 40, 40, dtype=torch.float64)
    x0, y0, width, height = window
    size = (max(1, round(height * share)), max(1, round(width * share)))
    theta = window_to_theta(torch.tensor([window], dtype=torch.float64), (40, 40))
    crop = image[0, 0, y0 : y0 + height, x0 : x0 + width].numpy()
    want = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA)
    got = affine_sample(image, theta, size, antialias=True)[0, 0]
    assert_close("area", got, torch.from_numpy(want).double(), 1e-6)  # OpenCV's weights are float32


def test_antialias_silences_what_plain_sampling_aliases():
    board = torch.ones(1, 1, 32, 32)
    board[..., ::2, ::2], board[..., 1::2, 1::2] = -1, -1
    theta = torch.tensor([[[1.0, 0, 1 / 32], [0, 1, 1 / 32]]])
    assert (affine_sample(board, theta, (16, 16), backend="reference")[..., :-1, :-1] == -1).all()
    averaged = affine_sample(board, theta, (16, 16), antialias=True)[..., :-1, :-1]
    torch.testing.assert_close(averaged, torch.zeros_like(averaged))


@pytest.mark.parametrize("backend", ["reference", "aten"])
def test_antialias_differentiates_through_the_footprint(backend):
    g = torch.Generator().manual_seed(5)
    image = torch.randn(1, 2, 5, 6, dtype=torch.float64, generator=g, requires_grad=True)
    theta = torch.tensor([[[0.71, 0.11, 0.07], [0.13, 0.83, 0.05]]], dtype=torch.float64, requires_grad=True)
    for options in AREA_OPTIONS:

        def sample(image, theta, options=options):
            return affine_sample(image, theta, (2, 2), antialias=True, **options, backend=backend)

        assert torch.autograd.gradcheck(sample, (image, theta), fast_mode=backend == "triton")
        assert torch.autograd.gradgradcheck(sample, (image, theta), fast_mode=True)


@pytest.mark.parametrize("length", range(1, 18))
def test_the_scan_is_the_running_sum(length):
    values = torch.randint(-99, 99, (2, length, 3)).double()
    assert torch.equal(_cumulative_sum(values, 1), values.cumsum(1))


def transformed(image, theta, sample):
    """Derivatives of a scalar by six transforms, to be held against one another."""

    def one(image, theta):
        return sample(image[None], theta[None]).square().sum()

    def total(theta):
        return sample(image, theta).square().sum()

    def along(theta):
        return torch.func.jvp(total, (theta,), (torch.ones_like(theta),))[1]

    return {
        "grad": torch.func.grad(total)(theta),
        "jacrev": torch.func.jacrev(total)(theta),
        "jacfwd": torch.func.jacfwd(total)(theta),
        "vmap of grad": torch.func.vmap(torch.func.grad(one, argnums=1))(image, theta),
        "jvp": along(theta),
        "grad of jvp": torch.func.grad(along)(theta),
    }


@pytest.mark.parametrize("options", [{}, {"mode": "bicubic"}, {"antialias": True}], ids=str)
@pytest.mark.parametrize("backend", ["auto", "aten"])
def test_function_transforms(backend, options):
    image, theta, size = case(11, spread=0.5)

    def sample(image, theta):
        return affine_sample(image, theta, size, **options, backend=backend)

    got = transformed(image, theta, sample)
    theta.requires_grad_()
    (want,) = torch.autograd.grad(sample(image, theta).square().sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(want.sum(), theta)
    want = want.detach()
    for name in ("grad", "jacrev", "jacfwd", "vmap of grad"):
        torch.testing.assert_close(got[name], want, rtol=1e-9, atol=1e-9, msg=name)
    torch.testing.assert_close(got["jvp"], want.sum(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got["grad of jvp"], second, rtol=1e-9, atol=1e-9)


@pytest.mark.triton
@pytest.mark.parametrize("antialias", [False, True])
def test_the_kernels_refuse_function_transforms(antialias):
    image, theta, size = case(11)

    def total(theta):
        return affine_sample(image, theta, size, antialias=antialias, backend="triton").sum()

    for transform in (torch.func.grad, torch.func.jacfwd):
        with pytest.raises(RuntimeError, match=r"supports neither torch.func transforms nor forward-mode"):
            transform(total)(theta)


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_image_is_sampled_by_its_own_map(backend):
    image, theta, size = case(8, batch=3)
    together = affine_sample(image, theta, size, backend=backend)
    alone = [affine_sample(i[None], t[None], size, backend=backend) for i, t in zip(image, theta, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("fill", [(1.0, -2.0), torch.tensor([1.0, -2.0])], ids=lambda fill: type(fill).__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_fill_stands_outside_and_blends_at_the_edge(backend, fill):
    image = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    theta = torch.tensor([[[1, 0, 2 * 2.5 / 4], [0, 1, 0]]], dtype=torch.float64)
    got = affine_sample(image, theta, (4, 4), padding_mode="fill", fill_value=fill, backend=backend)
    want = (
        torch.tensor([0, 0.5, 1, 1], dtype=torch.float64).expand(1, 2, 4, 4) * torch.tensor([1.0, -2.0])[:, None, None]
    )
    torch.testing.assert_close(got, want, rtol=0, atol=EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    wide = torch.randn(2, 6, 8, 3, dtype=torch.float64)
    image = wide.permute(0, 3, 1, 2)[:, :, ::2, 1:].requires_grad_()
    theta = torch.randn(2, 3, 2, dtype=torch.float64).mT.requires_grad_()
    packed = [t.detach().contiguous().requires_grad_() for t in (image, theta)]
    weights = torch.randn(2, 3, 5, 4, dtype=torch.float64).mT
    got = affine_sample(image, theta, (4, 5), backend=backend)
    want = affine_sample(*packed, (4, 5), backend=backend)
    assert torch.equal(got, want)
    pairs = zip(
        torch.autograd.grad(got, (image, theta), weights), torch.autograd.grad(want, packed, weights), strict=True
    )
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("options", [{}, {"antialias": True}], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "maps", "channels"), [(0, 2, 2), (2, 0, 2), (2, 2, 0)])
def test_empty_batches_maps_and_channels(backend, options, batch, maps, channels):
    image = torch.zeros(batch, channels, 4, 4, requires_grad=True)
    theta = torch.zeros(batch, maps, 2, 3, requires_grad=True)
    out = affine_sample(image, theta, (3, 5), **options, backend=backend)
    assert out.shape == (batch, maps, channels, 3, 5)
    assert [g.shape for g in torch.autograd.grad(out.sum(), (image, theta))] == [image.shape, theta.shape]


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


@pytest.mark.parametrize("backend", EXACT_BACKENDS)
def test_nearest_takes_the_even_pixel_of_a_half(backend):
    image = torch.arange(8.0).view(1, 1, 1, 8)
    theta = torch.tensor([[[1, 0, 2 * 0.5 / 8], [0, 1, 0]]])
    got = affine_sample(image, theta, (1, 8), mode="nearest", backend=backend)
    assert got.flatten().tolist() == [0, 2, 2, 4, 4, 6, 6, 0]


SINGULAR = {
    "all to one point": [[0, 0, 0.1], [0, 0, -0.2]],
    "all to one row": [[0.9, 0.2, 0], [0, 0, 0.1]],
    "all to one diagonal": [[0.5, 0.5, 0], [0.5, 0.5, 0.1]],
    "nearly all to one diagonal": [[0.5, 0.5, 0], [0.5, 0.5 + 1e-11, 0.1]],
    "all to one line but for the last bit": [[0.3, 0.7, 0.05], [0.3 * 0.6, 0.7 * 0.6, 0.1]],
}


@pytest.mark.triton
@pytest.mark.parametrize("theta", SINGULAR.values(), ids=SINGULAR)
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_maps_without_an_inverse_have_their_gradients_too(theta, padding_mode):
    inputs = [torch.randn(1, 2, 5, 6, dtype=torch.float64), torch.tensor([theta], dtype=torch.float64)]
    inputs = [tensor.requires_grad_() for tensor in inputs]
    got, want = (
        gradients(affine_sample(*inputs, (7, 4), padding_mode=padding_mode, backend=backend), inputs)
        for backend in ("triton", "reference")
    )
    for name, mine, true in zip(("image", "theta"), got, want, strict=True):
        assert_close(f"{name} gradient", mine, true, EXACT * 100)


@pytest.mark.triton
@pytest.mark.parametrize("align_corners", CONVENTIONS)
def test_the_image_gradient_meets_every_mirror(align_corners):
    """Maps that end between the outer pixel center and the outer pixel edge meet the mirror of one convention only."""
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


class Sample(torch.nn.Module):
    def __init__(self, size, **options):
        super().__init__()
        self.size, self.options = size, options

    def forward(self, image, theta):
        return affine_sample(image, theta, self.size, **self.options)


@pytest.mark.parametrize("options", [{}, {"antialias": True, "padding_mode": "fill", "fill_value": 1.5}], ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_default_path_compiles_whole_and_exports(dynamic, options):
    image, theta, size = case(12, dtype=torch.float32, largest=8)
    theta = theta.float()
    want = affine_sample(image, theta, size, **options, backend="reference")
    sample = Sample(size, **options)
    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    torch.testing.assert_close(compiled(image, theta), want, rtol=1e-5, atol=1e-5)

    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch}) if dynamic else None
    exported = torch.export.export(sample, (image, theta), dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(image, theta), want, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_graph_is_as_safe_as_the_call():
    """A guard that looked at theta while a graph was traced would let everything through ever after."""
    image, theta, size = case(12, dtype=torch.float32, largest=8)
    traced = torch.jit.trace(Sample(size, padding_mode="reflection"), (image, theta))
    theta[0, 0, 0] = float("nan")
    image.requires_grad_()
    out = traced(image, theta)
    torch.testing.assert_close(
        out, affine_sample(image, theta, size, padding_mode="reflection"), equal_nan=True, rtol=1e-5, atol=1e-5
    )
    assert torch.autograd.grad(out.sum(), image)[0].isfinite().all()
