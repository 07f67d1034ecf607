"""What the tests of the sampler share: backends, cases, the baseline and gradients."""

import itertools

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from supervised_st._sampler.options import MODES

BACKENDS = ("reference", "aten", "triton")
EXACT_BACKENDS = ("reference", "triton")
CONVENTIONS = (False, True)
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INF, NAN = float("inf"), float("nan")
IDENTITY = torch.eye(2, 3)[None]


def supported(backends, *axes):
    """All combinations that exist. The Triton backend has no bicubic kernel."""
    return [case for case in itertools.product(backends, *axes) if not {"triton", "bicubic"} <= set(case)]


def drawn(backend):
    """Draw options of a backend, for properties that hold under all of them."""
    return st.fixed_dictionaries({
        "mode": st.sampled_from([mode for mode in MODES if backend != "triton" or mode != "bicubic"]),
        "padding_mode": st.sampled_from(("zeros", "border", "reflection")),
        "align_corners": st.booleans(),
        "backend": st.just(backend),
    })  # fmt: skip


def case(seed, *, dtype=torch.float64, batch=2, channels=2, largest=8, spread=1.2):
    """A random image, theta and output size."""
    g = torch.Generator().manual_seed(seed)
    height, width, *size = torch.randint(2, largest + 1, (4,), generator=g).tolist()
    image = torch.randn(batch, channels, height, width, dtype=torch.float64, generator=g).to(dtype)
    theta = torch.randn(batch, 2, 3, dtype=torch.float64, generator=g) * spread
    return image, theta, tuple(size)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def baseline(image, theta, size, *, mode="bilinear", padding_mode="zeros", align_corners=False):
    """``affine_grid`` and ``grid_sample``."""
    grid = F.affine_grid(theta, [*image.shape[:2], *size], align_corners=align_corners)
    return F.grid_sample(image, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def gradients(out, inputs, seed=0):
    """Gradients of a sum with random weights."""
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.autograd.grad(out, inputs, weights.to(out.dtype))


def sum_gradients(out, *inputs, grad=None):
    """Gradients of the sum; zeros for inputs that it does not depend on."""
    return torch.autograd.grad(out, inputs, torch.ones_like(out) if grad is None else grad, materialize_grads=True)
