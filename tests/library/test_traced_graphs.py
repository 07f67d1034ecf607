"""Graphs on a CPU hold ``F.grid_sample`` behind guards, with the values and gradients of the call for every theta."""

import io
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st import affine_sample
from supervised_st._sampler.options import MODES, PADDING_MODES
from tests.helpers.sampling import CONVENTIONS, INF, NAN, case

# Huge factors differ in size, so that their products with coordinates never cancel.
HOSTILE = [(None, NAN, INF, -INF, huge, -huge) for huge in (1e30, 3e29, 1e33)] * 2
SIZE = (4, 6)  # no output pixel is in the middle, where a huge factor has no effect
FILLS = {"fill": (0.5, -300.0)}  # smaller and larger than what the call subtracts and adds again


class Sample(torch.nn.Module):
    def __init__(self, size=SIZE, **options):
        super().__init__()
        self.size, self.options = size, options

    def forward(self, image, theta):
        return affine_sample(image, theta, self.size, **self.options)


def options_of(mode, padding_mode, align_corners):
    fill = {"fill_value": FILLS[padding_mode]} if padding_mode in FILLS else {}
    return {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners, **fill}


def inputs(seed, batch=3, transforms=()):
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, 2, 5, 7, generator=g)
    return image, torch.eye(2, 3) + torch.randn(batch, *transforms, 2, 3, generator=g) / 2


def results(sample, image, theta):
    """Values, and the gradients of a weighted sum to the image and to theta."""
    image, theta = image.clone().requires_grad_(), theta.clone().requires_grad_()
    out = sample(image, theta)
    weights = torch.linspace(0.5, 1.5, out.numel()).reshape(out.shape)
    return (out.detach(), *torch.autograd.grad(out, (image, theta), weights, materialize_grads=True))


def assert_same(sample, image, theta, **options):
    got, want = results(sample, image, theta), results(Sample(**options), image, theta)
    largest = max(10, *map(abs, options.get("fill_value", (0,))))
    for name, one, other in zip(("values", "to image", "to theta"), got, want, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-4, atol=1e-5 * largest, equal_nan=True,
            msg=lambda text, name=name: f"{name}, {options}: {text}",
        )  # fmt: skip
    assert got[1].isfinite().all()  # NaN thetas add nothing to the image's gradient


@st.composite
def thetas(draw):
    image, theta = inputs(draw(st.integers(0, 2**20)))
    for k, choices in itertools.product(range(2), enumerate(HOSTILE)):  # the third stays usual: it must not notice
        value = draw(st.sampled_from(choices[1]))
        if value is not None:
            theta[k].view(6)[choices[0]] = value
    return image, theta


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("mode", MODES)
def test_exported_programs_are_as_safe_as_the_call(mode, padding_mode, align_corners):
    if padding_mode == "reflection" and torch.__version__ < "2.7":
        pytest.skip("torch 2.6 exports no dynamic sizes under reflection")
    options = options_of(mode, padding_mode, align_corners)
    exported = torch.export.export(Sample(**options), inputs(0)).module()
    assert torch.ops.aten.grid_sampler.default in {node.target for node in exported.graph.nodes}

    @settings(max_examples=12)
    @given(thetas())
    def check(given):
        assert_same(exported, *given, **options)

    check()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("how", ["compiled", "traced"])
@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_compiled_and_traced_graphs_are_as_safe_as_the_call(how, padding_mode, align_corners):
    options = options_of("bilinear", padding_mode, align_corners)
    image, theta = inputs(1, batch=4, transforms=(2,))
    sample = Sample(**options)
    if how == "compiled":
        torch._dynamo.reset()  # It counts compilations.
        graph = torch.compile(sample, fullgraph=True, backend="aot_eager")
    else:
        graph = torch.jit.trace(sample, (image, theta))
    assert_same(graph, image, theta, **options)
    theta[0, 0, 0, 0], theta[0, 1, 1, 2], theta[1, 0, 1, 1], theta[2, 1, 0, 2] = NAN, INF, 1e30, -INF
    assert_same(graph, image, theta, **options)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_images_of_one_row_are_the_same_in_graphs(padding_mode, align_corners):
    """With ``align_corners``, such a side has no length to divide by."""
    options = options_of("bilinear", padding_mode, align_corners)
    image, theta = inputs(2)
    theta[0, 1, 2], theta[1, 1, 2], theta[2, 0, 2] = 1e30, -1e30, 1e30
    torch._dynamo.reset()
    compiled = torch.compile(Sample(**options), fullgraph=True, backend="aot_eager")
    for one in (image[:, :, :1], image[..., :1]):
        assert_same(compiled, one, theta, **options)


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("pixel", [NAN, INF, 1e30])
def test_pixels_that_are_not_finite_or_huge_count_as_in_the_call(pixel, padding_mode):
    options = options_of("bilinear", padding_mode, False)
    if padding_mode == "fill":
        options["fill_value"] = (0.5, -3.0)  # With large ones, the call goes to the reference.
    image, theta = inputs(2)
    image[:, :, 2, 3] = pixel
    exported = torch.export.export(Sample(**options), (image, theta)).module()
    got, want = (results(sample, image, theta) for sample in (exported, Sample(**options)))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize(("mode", "fill"), [("bilinear", -1e9), ("nearest", -1e9), *((mode, INF) for mode in MODES)])
def test_large_fills_are_only_seen_out_of_bounds(mode, fill, align_corners):
    image, theta, size = torch.rand(1, 1, 5, 224), torch.eye(2, 3)[None], (5, 224)
    sample = Sample(size, mode=mode, padding_mode="fill", fill_value=fill, align_corners=align_corners)
    exported = torch.export.export(sample, (image, theta)).module()
    torch.testing.assert_close(exported(image, theta), image, rtol=0, atol=2e-5)
    theta[0, 0, 2] = 9
    assert (exported(image, theta) == fill).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_layouts_are_those_of_the_call(dtype):
    image, theta, size = case(3, dtype=dtype, largest=8)
    image = image.to(memory_format=torch.channels_last)
    exported = torch.export.export(Sample(size), (image, theta)).module()
    got, want = exported(image, theta), affine_sample(image, theta, size)
    torch.testing.assert_close(got, want, rtol=1e-12 if dtype == torch.float64 else 1e-2, atol=1e-2)
    assert got.stride() == want.stride()


@pytest.mark.parametrize(
    ("mean", "std", "dynamic"),
    [
        ((110.0, 120.0), (50.0, 60.0), True),
        (110.0, 60.0, False),
        (torch.tensor([110.0, 120.0]), torch.tensor([50.0, 60.0]), True),
    ],
    ids=["tuples", "numbers", "tensors"],
)
def test_bytes_are_normalized_in_whole_graphs(mean, std, dynamic):
    image, theta = inputs(4)
    image = image.mul(50).add(128).clamp(0, 255).byte()
    sample = Sample(mean=mean, std=std)
    want = sample(image, theta)
    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    torch.testing.assert_close(compiled(image, theta), want, rtol=1e-4, atol=1e-4)
    shapes = ({0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO}, {0: torch.export.Dim.AUTO}) if dynamic else None
    exported = torch.export.export(sample, (image, theta), strict=True, dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(image, theta), want, rtol=1e-4, atol=1e-4)


def test_fills_for_each_channel_may_be_tensors_of_a_dynamic_graph():
    image, theta = inputs(5)
    sample = Sample(padding_mode="fill", fill_value=torch.tensor([1.0, 2.0]))
    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(image, theta), sample(image, theta), rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 exports no sizes without bounds")
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
def test_programs_with_dynamic_sizes_can_be_saved(padding_mode):
    sample, file = Sample(padding_mode=padding_mode), io.BytesIO()
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    shapes = {0: batch, 2: height, 3: width}, {0: batch}
    torch.export.save(torch.export.export(sample, inputs(6), dynamic_shapes=shapes), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    image, theta = torch.randn(5, 2, 11, 3), inputs(7, batch=5)[1]
    torch.testing.assert_close(loaded(image, theta), sample(image, theta), rtol=1e-4, atol=1e-4)


class SampleSome(Sample):
    def forward(self, image, theta, chosen):
        rows = chosen.nonzero()[:, 0]
        return super().forward(image[rows], theta[rows])


def test_the_number_of_images_may_depend_on_data():
    image, theta = inputs(8, batch=4)
    exported = torch.export.export(SampleSome(), (image, theta, torch.tensor([1, 0, 1, 1]))).module()
    for chosen in ([0, 1, 0, 1], [0, 0, 0, 0]):
        chosen = torch.tensor(chosen, dtype=torch.bool)
        want = affine_sample(image[chosen], theta[chosen], SIZE)
        torch.testing.assert_close(exported(image, theta, chosen.long()), want, rtol=1e-4, atol=1e-4)
