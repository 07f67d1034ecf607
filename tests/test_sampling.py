"""``affine_sample``: exact laws, float64 truth, and agreement of the backends."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from budgets import EXACT, FLOAT32_SUM, assert_close, rounding
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st.sampling import PADDING_MODES, affine_sample

EXACT_BACKENDS = ("reference", "triton")
BACKENDS = ("reference", "aten", "triton")
OPTIONS = [*itertools.product(("bilinear", "nearest"), ("zeros", "border", "reflection"), (False, True))]


def case(seed, *, dtype=torch.float64, batch=2, channels=2, largest=8, spread=1.2):
    """A random image, map and output size."""
    g = torch.Generator().manual_seed(seed)
    height, width, *size = torch.randint(2, largest + 1, (4,), generator=g).tolist()
    image = torch.randn(batch, channels, height, width, dtype=torch.float64, generator=g).to(dtype)
    theta = torch.randn(batch, 2, 3, dtype=torch.float64, generator=g) * spread
    return image, theta, tuple(size)


def usual_pair(image, theta, size, *, mode="bilinear", padding_mode="zeros", align_corners=False):
    grid = F.affine_grid(theta, [*image.shape[:2], *size], align_corners=align_corners)
    return F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def gradients(out, inputs, seed=0):
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad(out, inputs, weights.to(out.dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("mode", "padding_mode", "align_corners"), OPTIONS)
def test_float64_agrees_with_the_usual_pair(backend, mode, padding_mode, align_corners):
    options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
    for seed in range(3):
        image, theta, size = case(seed)
        image.requires_grad_()
        theta.requires_grad_()
        got = affine_sample(image, theta, size, **options, backend=backend)
        truth = usual_pair(image, theta, size, **options)
        assert_close("sampled", got, truth.detach(), EXACT)
        wanted = (image, theta) if mode == "bilinear" else (image,)
        for name, mine, other in zip(
            ("image", "theta"), gradients(got, wanted), gradients(truth, wanted), strict=False
        ):
            assert_close(f"{name} gradient", mine, other, EXACT * 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", EXACT_BACKENDS)
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_narrow_dtypes_stay_within_their_rounding(backend, padding_mode, dtype):
    for seed in range(3):
        image, theta, size = case(seed, dtype=dtype, channels=3)
        theta = theta.float()
        options = {"padding_mode": padding_mode, "fill_value": 0.5 if padding_mode == "fill" else 0.0}
        got = affine_sample(image, theta, size, **options, backend=backend)
        truth = affine_sample(image.double(), theta.double(), size, **options, backend="reference")
        assert got.dtype == dtype
        interpreted = backend == "triton" and not torch.cuda.is_available()
        assert_close("sampled", got, truth, rounding(dtype, interpreted=interpreted))


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_gradients_agree_with_float64(backend):
    for seed in range(3):
        image, theta, size = case(seed, spread=0.7)
        inputs = [image.float().requires_grad_(), theta.float().requires_grad_()]
        exact = [t.detach().double().requires_grad_() for t in inputs]
        got = gradients(affine_sample(*inputs, size, backend=backend), inputs)
        truth = gradients(affine_sample(*exact, size, backend="reference"), exact)
        for name, mine, true in zip(("image", "theta"), got, truth, strict=True):
            assert_close(f"{name} gradient", mine, true, FLOAT32_SUM)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("theta_dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("image_dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [1, 2, 3, 10, 97, 224, 1000, 4097, 65536])
def test_identity_and_shifts_return_the_bits(width, image_dtype, theta_dtype, align_corners):
    image = torch.randn(1, 1, 2, width).to(image_dtype)
    for shift in {0, *(s for s in (1, -1, width // 3, 5 - width) if abs(s) < width)}:
        units = (width - 1 if align_corners else width) / 2
        theta = torch.tensor([[[1, 0, shift / units if units else 0], [0, 1, 0]]], dtype=theta_dtype)
        got = affine_sample(image, theta, (2, width), align_corners=align_corners, backend="reference")
        want = torch.zeros_like(image)
        shift = shift if units else 0
        kept = torch.arange(max(0, -shift), min(width, width - shift))
        want[..., kept] = image[..., kept + shift]
        assert torch.equal(got, want), f"shift {shift}"


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("backend", EXACT_BACKENDS)
def test_shifts_return_the_bits_in_the_kernel_too(backend, align_corners):
    image = torch.randn(2, 2, 7, 11)
    for dy, dx in [(0, 0), (1, -3), (-2, 5)]:
        units = torch.tensor([11 - align_corners, 7 - align_corners]) / 2
        theta = torch.tensor([[1.0, 0, dx], [0, 1, dy]])
        theta[:, 2] /= units
        got = affine_sample(image, theta.expand(2, 2, 3), (7, 11), align_corners=align_corners, backend=backend)
        want = F.pad(image, (11, 11, 7, 7))[..., 7 + dy : 14 + dy, 11 + dx : 22 + dx]
        assert torch.equal(got, want)


@pytest.mark.parametrize("align_corners", [False, True])
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


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), option=st.sampled_from(OPTIONS))
def test_image_gradient_is_the_adjoint(backend, seed, option):
    mode, padding_mode, align_corners = option
    image, theta, size = case(seed)
    image.requires_grad_()
    out = affine_sample(
        image, theta, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners, backend=backend
    )
    weights = torch.randn_like(out)
    (adjoint,) = torch.autograd.grad(out, image, weights)
    torch.testing.assert_close((out * weights).sum(), (image * adjoint).sum(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("padding_mode", "align_corners"), [*itertools.product(PADDING_MODES, (False, True))])
def test_gradcheck(backend, padding_mode, align_corners):
    g = torch.Generator().manual_seed(5)
    image = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=g, requires_grad=True)
    theta = (torch.eye(2, 3, dtype=torch.float64)[None] * 0.71 + torch.tensor([0.11, 0.07, 0.13])).requires_grad_()
    fill = (0.25, -1.0) if padding_mode == "fill" else 0.0

    def sample(image, theta):
        return affine_sample(
            image, theta, (2, 2), padding_mode=padding_mode, align_corners=align_corners, fill_value=fill,
            backend=backend,
        )  # fmt: skip

    assert torch.autograd.gradcheck(sample, (image, theta))


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives(backend):
    g = torch.Generator().manual_seed(6)
    image = torch.randn(1, 1, 4, 4, dtype=torch.float64, generator=g, requires_grad=True)
    theta = (torch.eye(2, 3, dtype=torch.float64)[None] * 0.71 + torch.tensor([0.11, 0.07, 0.13])).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda i, t: affine_sample(i, t, (2, 3), backend=backend), (image, theta))


def test_forward_mode_is_right_or_refused():
    image, theta, size = case(7, spread=0.5)
    tangent = torch.randn_like(theta)
    _, got = torch.func.jvp(lambda t: affine_sample(image, t, size), (theta,), (tangent,))
    step = 1e-6
    up, down = (affine_sample(image, theta + sign * step * tangent, size, backend="reference") for sign in (1, -1))
    torch.testing.assert_close(got, (up - down) / (2 * step), rtol=1e-6, atol=1e-6)
    for backend in ("aten", "triton"):
        with pytest.raises((NotImplementedError, RuntimeError), match=r"forward|jvp|setup_context"):
            torch.func.jvp(lambda t, b=backend: affine_sample(image, t, size, backend=b), (theta,), (tangent,))


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_image_is_sampled_by_its_own_map(backend):
    image, theta, size = case(8, batch=3)
    together = affine_sample(image, theta, size, backend=backend)
    alone = [affine_sample(i[None], t[None], size, backend=backend) for i, t in zip(image, theta, strict=True)]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("backend", BACKENDS)
def test_fill_stands_outside_and_blends_at_the_edge(backend):
    image = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    theta = torch.tensor([[[1, 0, 2 * 2.5 / 4], [0, 1, 0]]], dtype=torch.float64)
    got = affine_sample(image, theta, (4, 4), padding_mode="fill", fill_value=(1.0, -2.0), backend=backend)
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


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 0, 4, 4)])
def test_empty_batches_and_channels(backend, shape):
    image = torch.zeros(shape, requires_grad=True)
    theta = torch.zeros(shape[0], 2, 3, requires_grad=True)
    out = affine_sample(image, theta, (3, 5), backend=backend)
    assert out.shape == (*shape[:2], 3, 5)
    assert [g.shape for g in torch.autograd.grad(out.sum(), (image, theta))] == [image.shape, theta.shape]


def test_gradients_are_the_same_bits_in_every_run():
    image, theta, size = case(9, dtype=torch.float32, batch=3, channels=3)
    inputs = [image.requires_grad_(), (theta * 0.1).float().requires_grad_()]
    first = gradients(affine_sample(*inputs, size, backend="triton"), inputs)
    for _ in range(3):
        again = gradients(affine_sample(*inputs, size, backend="triton"), inputs)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


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


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_image_gradient_meets_every_mirror(align_corners):
    """Maps that end between the outer pixel centre and the outer pixel edge meet the mirror of one convention only."""
    g = torch.Generator().manual_seed(3)
    image = torch.randn(1, 1, 5, 4, dtype=torch.float64, generator=g, requires_grad=True)
    for centre, scale in itertools.product((-1.15, -1.05, 1.05, 1.15), (0.1, 0.01, 0.3)):
        theta = torch.tensor([[[scale, 0.3 * scale, centre], [0.2 * scale, scale, centre]]], dtype=torch.float64)
        got, want = (
            gradients(
                affine_sample(
                    image, theta, (5, 6), padding_mode="reflection", align_corners=align_corners, backend=backend
                ),
                (image,),
            )[0]
            for backend in ("triton", "reference")
        )
        assert_close(f"image gradient at {centre}, {scale}", got, want, EXACT * 100)


def test_function_transforms_work_on_the_default_path():
    image, theta, size = case(11, spread=0.5)

    def total(image, theta):
        return affine_sample(image[None], theta[None], size).square().sum()

    got = torch.func.vmap(torch.func.grad(total, argnums=1))(image, theta)
    theta.requires_grad_()
    (want,) = torch.autograd.grad(affine_sample(image, theta, size).square().sum(), theta)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_default_path_compiles_whole_and_exports(dynamic):
    image, theta, size = case(12, dtype=torch.float32, largest=8)
    theta = theta.float()
    want = affine_sample(image, theta, size, backend="reference")
    compiled = torch.compile(
        lambda i, t: affine_sample(i, t, size), fullgraph=True, backend="aot_eager", dynamic=dynamic
    )
    torch.testing.assert_close(compiled(image, theta), want, rtol=1e-5, atol=1e-5)

    class Sample(torch.nn.Module):
        def forward(self, image, theta):
            return affine_sample(image, theta, size)

    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch}) if dynamic else None
    exported = torch.export.export(Sample(), (image, theta), dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(image, theta), want, rtol=1e-5, atol=1e-5)
