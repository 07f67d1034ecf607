"""What only a device can show: repeats to the bit, graphs, streams, sizes beyond 32 bits, compiled callers, no waiting.

All other tests of the kernels run on the device too where there is one (``conftest.py``).
"""

import pytest
import torch

from benchmarks.tolerances import FLOAT32_SUM, rounding
from supervised_st import affine_sample
from supervised_st._sampler.options import PADDING_MODES
from tests.helpers.assertions import assert_close

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device"),
]

LAYOUTS = {"contiguous": (3, torch.contiguous_format), "channels_last": (32, torch.channels_last)}
INF, NAN = float("inf"), float("nan")


def on_device(layout, *, batch=2, side=61, dtype=torch.float32):
    """An image of several tiles, the last of them partly filled, and transforms whose output pixels overlap."""
    channels, memory_format = LAYOUTS[layout]
    image = torch.randn(batch, channels, side, side + 2, device="cuda").to(dtype)
    theta = torch.eye(2, 3, device="cuda").repeat(batch, 1, 1) + torch.randn(batch, 2, 3, device="cuda") * 0.2
    return image.contiguous(memory_format=memory_format).requires_grad_(), theta.requires_grad_()


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_thousand_runs_give_the_same_bits(layout, padding_mode):
    image, theta = on_device(layout)
    weights = torch.randn(2, image.shape[1], 77, 70, device="cuda")

    def run():
        out = affine_sample(image, theta, (77, 70), padding_mode=padding_mode)
        return out, *torch.autograd.grad(out, (image, theta), weights)

    first, same = run(), torch.ones((), dtype=torch.bool, device="cuda")
    for _ in range(1000):
        for one, other in zip(first, run(), strict=True):
            same &= (one == other).all()
    assert same.item()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_image_does_not_depend_on_its_neighbors_in_the_batch(layout):
    image, theta = on_device(layout, batch=5)
    together = affine_sample(image, theta, (40, 40))
    gradients = torch.autograd.grad(together, (image, theta), together.detach())
    for n in range(5):
        one = [t.detach()[n : n + 1].contiguous().requires_grad_() for t in (image, theta)]
        if layout == "channels_last":
            one[0] = one[0].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        alone = affine_sample(*one, (40, 40))
        assert torch.equal(alone[0], together[n])
        for mine, other in zip(torch.autograd.grad(alone, one, alone.detach()), gradients, strict=True):
            assert_close("gradient", mine[0], other[n].double(), FLOAT32_SUM)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_graph_replays_the_bits_of_the_call(layout):
    image, theta = on_device(layout)
    weights = torch.randn(2, image.shape[1], 50, 50, device="cuda")

    def run():
        out = affine_sample(image, theta, (50, 50), padding_mode="fill", fill_value=0.5)
        return out.detach(), *torch.autograd.grad(out, (image, theta), weights)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        wanted = run()  # Compiles the kernels, which is not possible during a capture.
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    same = torch.ones((), dtype=torch.bool, device="cuda")
    for _ in range(1000):
        for tensor in captured:
            tensor.fill_(NAN)
        graph.replay()
        for one, other in zip(wanted, captured, strict=True):
            same &= (one == other).all()
    assert same.item()


@pytest.mark.parametrize(
    "options",
    [{}, {"padding_mode": "fill", "fill_value": (1.0, 2.0, 3.0)}, {"mode": "nearest"}, {"mode": "bicubic"},
     {"antialias": True}],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*ynchronization debug mode is a prototype feature")
def test_the_host_never_synchronizes(options):
    image, theta = on_device("contiguous")
    out = affine_sample(image, theta, (20, 20), **options)
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        out = affine_sample(image, theta, (20, 20), **options)
        torch.autograd.grad(out, (image, theta), torch.ones_like(out), allow_unused=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_may_be_changed_in_place(layout):
    image, theta = on_device(layout)
    out = affine_sample(image, theta, (20, 20))
    assert torch.equal(affine_sample(image, theta, (20, 20)).mul_(2), out * 2)


def test_kernels_wait_for_the_stream_they_are_called_on():
    image, theta = on_device("contiguous", side=400)
    wanted = affine_sample(image, theta, (400, 400)).detach()
    late = torch.full_like(image.detach(), NAN)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(image.detach())
        out = affine_sample(late, theta.detach(), (400, 400))
    torch.cuda.current_stream().wait_stream(side)
    assert torch.equal(out, wanted)


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_callers_see_one_node(dynamic):
    def caller(image, theta):
        return affine_sample(image * 2, theta, (30, 31), padding_mode="border") + 1

    compiled = torch.compile(caller, fullgraph=True, dynamic=dynamic)
    for side in (40, 52):
        image, theta = on_device("contiguous", side=side)
        got, want = compiled(image, theta), caller(image, theta)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
        weights = torch.randn_like(want)
        pairs = zip(*(torch.autograd.grad(out, (image, theta), weights) for out in (got, want)), strict=True)
        for mine, other in pairs:
            assert_close("gradient", mine, other.double(), FLOAT32_SUM)


def test_operators_are_registered_as_torch_expects():
    from supervised_st._sampler import fused

    everything = (
        "test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static",
        "test_aot_dispatch_dynamic",
    )  # fmt: skip
    for layout in LAYOUTS:
        inputs = on_device(layout)
        image, theta = (t.detach() for t in inputs)
        channels_last = layout == "channels_last"
        grad = affine_sample(image, theta, (20, 21))
        options = ("bilinear", "reflection", False)
        for operator, arguments in (
            (fused.forward_op, (*inputs, None, None, None, 20, 21, *options)),
            (fused.image_gradient_op, (grad, theta, *image.shape[2:], channels_last, *options)),
            (fused.theta_gradient_op, (grad, image, theta, None, None, None, *options)),
        ):
            torch.library.opcheck(operator, arguments, test_utils=everything)


def test_more_images_than_a_grid_axis_counts():
    image = torch.randn(70_000, 1, 2, 3, device="cuda", requires_grad=True)
    theta = torch.eye(2, 3, device="cuda").repeat(70_000, 1, 1).requires_grad_()
    out = affine_sample(image, theta, (2, 3))
    assert torch.equal(out, image)
    gradient, _ = torch.autograd.grad(out, (image, theta), image.detach())
    assert torch.equal(gradient, image)


def test_more_channels_than_a_grid_axis_counts():
    """A prime number, so that channels cannot be processed in pairs."""
    image = torch.randn(1, 65_537, 2, 3, device="cuda", requires_grad=True)
    theta = torch.eye(2, 3, device="cuda")[None].requires_grad_()
    out = affine_sample(image, theta, (2, 3))
    assert torch.equal(out, image)
    gradient, _ = torch.autograd.grad(out, (image, theta), image.detach())
    assert torch.equal(gradient, image)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_images_of_more_elements_than_32_bits_count(layout):
    """A window at the far end of a large image has the pixels that were written there."""
    channels, side = (1, 47_000) if layout == "contiguous" else (16, 11_800)
    memory_format = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    image = torch.zeros(1, channels, side, side, dtype=torch.float16, device="cuda")
    image = image.contiguous(memory_format=memory_format)
    corner = torch.randn(1, channels, 40, 40, device="cuda").half()
    image[:, :, -40:, -40:] = corner
    scale, shift = 40 / side, 1 - 40 / side
    theta = torch.tensor([[[scale, 0, shift], [0, scale, shift]]], dtype=torch.float64, device="cuda")
    out = affine_sample(image.requires_grad_(), theta.requires_grad_(), (40, 40))
    assert torch.equal(out, corner)
    gradient, to_theta = torch.autograd.grad(out, (image, theta), corner)
    assert torch.equal(gradient[:, :, -40:, -40:], corner)
    assert gradient[:, :, :-40].count_nonzero() == 0
    assert to_theta.isfinite().all()


def test_outputs_of_more_elements_than_32_bits_count():
    side = 47_000
    image = torch.randn(1, 1, 8, 8, device="cuda").half().requires_grad_()
    theta = torch.eye(2, 3, device="cuda")[None].requires_grad_()
    out = affine_sample(image, theta, (side, side), mode="nearest", padding_mode="border")
    block = side // 8
    assert torch.equal(out[..., ::block, ::block][..., :8, :8], image)
    assert torch.equal(out[..., -1, -1], image[..., -1, -1])


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e20, -3.2e38, 2.0**31])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_hostile_transforms_give_what_the_cpu_gives(dtype, value):
    for padding_mode in PADDING_MODES:
        results = []
        for device in ("cpu", "cuda"):
            image = torch.arange(24.0).view(2, 1, 3, 4).to(device, dtype).requires_grad_()
            theta = torch.eye(2, 3).repeat(2, 1, 1)
            theta[1, 0, 2] = value
            theta = theta.to(device).requires_grad_()
            out = affine_sample(image, theta, (3, 4), padding_mode=padding_mode)
            results.append([t.cpu() for t in (out.detach(), *torch.autograd.grad(out.sum(), (image, theta)))])
        for here, there in zip(*results, strict=True):
            assert torch.equal(here.isnan(), there.isnan()), padding_mode
            torch.testing.assert_close(here, there, equal_nan=True, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_tiles_agree_with_float64(layout, dtype):
    """In bounds, at the edge and out of bounds, in images of many tiles, with gradients."""
    for degrees_and_scale in ((0.1, 1.0), (0.8, 1.3), (0.3, 0.4), (0.0, 3.0)):
        turn, scale = (torch.tensor(x) for x in degrees_and_scale)
        image, theta = on_device(layout, side=150, dtype=dtype)
        rotation = torch.stack((torch.stack((turn.cos(), -turn.sin())), torch.stack((turn.sin(), turn.cos()))))
        theta.data[:, :, :2] = rotation.cuda() * scale
        exact = [t.detach().double().requires_grad_() for t in (image, theta)]
        out = affine_sample(image, theta, (130, 141))
        truth = affine_sample(*exact, (130, 141), backend="reference")
        weights = torch.randn_like(out)
        assert_close("sampled", out, truth.detach(), rounding(dtype))
        got = torch.autograd.grad(out, (image, theta), weights)
        want = torch.autograd.grad(truth, exact, weights.double())
        assert_close("image gradient", got[0], want[0], max(FLOAT32_SUM, rounding(dtype)))
        assert_close("theta gradient", got[1], want[1], FLOAT32_SUM)
