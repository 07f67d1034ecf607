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
