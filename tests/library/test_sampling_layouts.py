"""``affine_sample`` of every layout and dtype; what it allocates and where."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.tolerances import EXACT, FLOAT32_SUM, rounding
from supervised_st._sampler.aten import _groups
from supervised_st._sampler.options import MODES
from supervised_st.sampling import affine_sample
from tests.helpers.assertions import assert_close
from tests.helpers.sampling import BACKENDS, FLOATS, IDENTITY, gradients, leaf, pixels, sum_gradients, supported


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

    Under identity the view comes back, and each number in memory gets the gradients of all pixels that show it.
    """
    base = leaf(base)
    image = view(base)
    out = affine_sample(image, IDENTITY.repeat(2, 1, 1), tuple(image.shape[2:]), backend=backend)
    weights = torch.randn_like(out)
    torch.testing.assert_close(out, image, rtol=0, atol=2e-5 * max(1.0, float(image.detach().abs().max())))
    (got,) = sum_gradients(out, base, grad=weights)
    (want,) = sum_gradients(view(base), base, grad=weights)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8], ids=str)
@pytest.mark.parametrize(("backend", "mode"), supported(BACKENDS, MODES))
def test_channels_last_stays_channels_last(backend, mode, dtype):
    image = pixels(2, 3, 6, 5).to(dtype)
    theta = torch.randn(2, 3, 2, 3) * 0.6
    last = image.contiguous(memory_format=torch.channels_last)
    for transforms in (theta[:, 0], theta):
        for antialias in {False, mode == "bilinear"}:
            got, want = (
                affine_sample(i, transforms, (4, 7), mode=mode, antialias=antialias, backend=backend)
                for i in (last, image)
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
def test_views_of_channels_last_images_stay_channels_last(backend, cut):
    """Of 17 channels, 16 are what a kernel works on at a time, from an address that is not aligned."""
    whole = torch.randn(2, 17 if cut is CUTS["some channels"] else 3, 4, 5)
    last, contiguous = (cut(whole.contiguous(memory_format=f)) for f in (torch.channels_last, torch.contiguous_format))
    inputs = [tensor.requires_grad_() for tensor in (last, contiguous, torch.randn(2, 2, 3) * 0.6)]
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
def test_channels_of_single_pixels_are_contiguous(backend):
    image = torch.randn(2, 6, 1, 1)[:, :3]
    assert affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), (2, 3), backend=backend).is_contiguous()


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("batch", "transforms", "channels"),
    [(0, (2,), 2), (2, (0,), 2), (2, (2,), 0), (0, (), 3), (2, (), 0), (0, (), 0)],
    ids=str,
)
def test_no_images_transforms_or_channels(backend, antialias, batch, transforms, channels):
    image, theta = leaf(torch.ones(batch, channels, 4, 4)), leaf(torch.eye(2, 3).repeat(batch, *transforms, 1, 1))
    out = affine_sample(image, theta, (3, 5), antialias=antialias, backend=backend)
    assert out.shape == (batch, *transforms, channels, 3, 5)
    grad_image, grad_theta = torch.autograd.grad(out.sum(), (image, theta))
    assert torch.equal(grad_image, torch.zeros_like(image))
    assert torch.equal(grad_theta, torch.zeros_like(theta))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("theta_dtype", FLOATS, ids=str)
@pytest.mark.parametrize("image_dtype", [*FLOATS, torch.uint8], ids=str)
def test_every_dtype_of_image_with_every_dtype_of_theta(backend, image_dtype, theta_dtype):
    """The baseline refuses to mix them (pytorch#94733). The result has the image's dtype, each gradient its input's."""
    image, theta = torch.arange(12).view(1, 1, 3, 4).to(image_dtype), leaf(IDENTITY.to(theta_dtype))
    leaves = (leaf(image), theta) if image_dtype.is_floating_point else (theta,)
    out = affine_sample(leaves[0] if len(leaves) == 2 else image, theta, (3, 4), backend=backend)
    assert out.dtype == (torch.float32 if image_dtype == torch.uint8 else image_dtype)
    torch.testing.assert_close(out, image.to(out.dtype), rtol=0, atol=0 if backend != "aten" else 1e-4)
    for got, of in zip(sum_gradients(out, *leaves), leaves, strict=True):
        assert got.dtype == of.dtype
        assert got.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_and_negated_views(backend):
    """Subclasses of tensors, and views with a pending negation."""
    image = torch.complex(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 3.0)).conj().imag
    assert image.is_neg()
    assert (affine_sample(image, IDENTITY, (2, 2), backend=backend) == -3).all()
    image, theta = nn.Parameter(torch.ones(1, 1, 2, 2)), nn.Parameter(IDENTITY.clone())
    affine_sample(image, theta, (2, 2), backend=backend).sum().backward()
    assert torch.equal(image.grad, torch.ones(1, 1, 2, 2))
    assert theta.grad.isfinite().all()


class Largest(TorchDispatchMode):
    """Remember the largest tensor that is made, and the devices of all tensors involved."""

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
def test_several_transforms_do_not_copy_the_image(backend):
    image = torch.randn(1, 1, 64, 64, requires_grad=True)
    theta = (torch.eye(2, 3).repeat(1, 8, 1, 1) * 0.01).requires_grad_()
    with Largest() as seen:
        torch.autograd.grad(affine_sample(image, theta, (3, 4), backend=backend).sum(), (image, theta))
    assert seen.numel == image.numel()


@pytest.fixture
def _channels_in_groups(monkeypatch):
    """As they are for large images on a CPU."""
    monkeypatch.setattr("supervised_st._sampler.aten._LARGEST_UNGROUPED", 0)


@pytest.mark.usefixtures("_channels_in_groups")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("transforms", [(), (3,)])
def test_groups_of_channels_equal_each_channel_alone(transforms, dtype):
    image = torch.randn(2, 32, 8, 6).to(dtype).requires_grad_()
    assert _groups(image.float()) == 2
    theta = (torch.randn(2, *transforms, 2, 3) * 0.7).requires_grad_()
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
@pytest.mark.parametrize("transforms", [(), (1,)])
def test_outputs_may_be_changed_in_place_and_gradients_batched(transforms, memory_format, backend):
    channels = 2 if backend == "triton" else 32  # the interpreter is slow
    image = torch.randn(1, channels, 3, 4).contiguous(memory_format=memory_format).requires_grad_()
    theta = (torch.randn(1, *transforms, 2, 3) * 0.5).requires_grad_()
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
def test_nothing_is_copied_from_or_to_the_host(options, dtype):
    """On the meta device nothing can be read back, and a copy from the host would show its device."""
    image = torch.empty(2, 3, 5, 6, dtype=dtype, device="meta")
    theta = torch.empty(2, 4, 2, 3, device="meta")
    if dtype == torch.uint8:
        options = {**options, "mean": (1.0, 2.0, 3.0), "std": 4.0}
    with Largest() as seen:
        out = affine_sample(image, theta, (7, 8), **options)
    assert (out.shape, out.dtype) == ((2, 4, 3, 7, 8), torch.float32 if dtype == torch.uint8 else dtype)
    assert seen.devices == {"meta"}
