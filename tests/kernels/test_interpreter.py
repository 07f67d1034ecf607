"""In the interpreter, tests run few programs (``conftest.py``). That gives the values of as many as on a GPU."""

import math

import pytest
import torch

from benchmarks.tolerances import EXACT, FLOAT32_SUM
from supervised_st import affine_sample
from tests.helpers.assertions import assert_close

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter runs only where there is no GPU"),
]


def sample(dtype, channels, memory_format):
    """Values and gradients of an image that many programs cut into tiles, the last of which are not full."""
    g = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, 9, 8, generator=g).to(dtype).contiguous(memory_format=memory_format)
    theta = torch.tensor([[[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.2]]]]).to(torch.promote_types(dtype, torch.float32))
    inputs = [tensor.requires_grad_() for tensor in (image, theta)]
    out = affine_sample(*inputs, (20, 8), padding_mode="border", backend="triton")
    return out.detach(), *torch.autograd.grad(out.square().sum(), inputs)


@pytest.fixture
def grids(monkeypatch):
    """The grids of all launches."""
    from triton.runtime import interpreter

    seen, set_grid_dim = [], interpreter.InterpreterBuilder.set_grid_dim

    def watched(builder, *grid):
        seen.append(grid)
        return set_grid_dim(builder, *grid)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "set_grid_dim", watched)
    return seen


@pytest.mark.parametrize(
    ("dtype", "channels", "memory_format"),
    [
        (torch.float32, 2, torch.contiguous_format),
        (torch.float16, 2, torch.contiguous_format),
        (torch.float64, 16, torch.channels_last),
    ],
    ids=str,
)
def test_the_number_of_programs_does_not_change_values(dtype, channels, memory_format, grids, request):
    few = sample(dtype, channels, memory_format)
    grids_of_few, grids[:] = grids[:], []
    request.getfixturevalue("_programs_of_a_gpu")
    many = sample(dtype, channels, memory_format)
    assert sum(map(math.prod, grids_of_few)) < sum(map(math.prod, grids))
    for mine, other in zip(few[:2], many[:2], strict=True):
        assert torch.equal(mine, other)
    # Theta's gradient adds up the same numbers in another order.
    assert_close("theta gradient", few[2], many[2].double(), EXACT if dtype == torch.float64 else FLOAT32_SUM)


def image_gradient(theta, shape, size, **options):
    image = torch.zeros(shape, requires_grad=True)
    out = affine_sample(image, theta, size, **options, backend="triton")
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    weights[..., -1, 3], weights[..., 0, 0] = math.inf, math.nan
    return torch.autograd.grad(out, image, weights)[0]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding_mode", ["zeros", "fill"])
def test_usual_transforms_have_the_same_gradients_as_in_a_search(mode, padding_mode, monkeypatch):
    from supervised_st._sampler import launches

    theta = torch.tensor([
        [[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.2]], [[-0.4, 0, 0], [0, 0.7, 0.5]]],
        [[[0.5, 0, 0.1], [0, 0.5, 0.1]], [[0, 0, 0.1], [0, 0, 0.2]]],  # the second has no inverse
        [[[1.0, 0, 9], [0, 1, 0]], [[1, 0, 0], [0, 1, 0]]],  # nothing reads the first image; then the identity
    ])  # fmt: skip
    found = []
    for programs in (0, 1000):  # of a search; with less work, it is the only kernel
        monkeypatch.setattr(launches, "search_programs", lambda launch, processors, programs=programs: programs)
        found.append(image_gradient(theta, (3, 2, 9, 35), (6, 34), mode=mode, padding_mode=padding_mode))
    assert torch.equal(*(gradient.view(torch.int32) for gradient in found))
    assert found[0].isfinite().any()
    assert not found[0].isfinite().all()


def test_a_search_through_many_mirrors_compares_tiles_with_the_outputs_that_read_them(monkeypatch):
    """All output pixels read the same columns of their mirror images, 127 of them; so only the first tile is read."""
    from supervised_st._sampler.kernels import image_search

    compared, add_block = [], image_search._add_block
    monkeypatch.setattr(image_search, "_add_block", lambda *given: compared.append(1) or add_block(*given))
    width, columns = 96, 64
    # From column to column twice the width; column 31 reads pixel 10.
    theta = torch.tensor([[[2.0 * columns, 0, 1 + 21 / width], [0, 1, 0]]])
    found = image_gradient(theta, (1, 1, 2, width), (2, columns), padding_mode="reflection")
    assert len(compared) == columns // 2, "blocks of two columns, once each"
    assert found[0, 0, :, 32:].eq(0).all()
    assert found.ne(0).any()
