"""How far the sampler may be from float64 truth, stated once. Laws of single modules state theirs beside them."""

import torch
from torch import Tensor

EXACT = 1e-12
"""Relative and absolute error of float64 results that differ from the truth by the order of operations only."""

ULPS = {torch.float32: 4, torch.float16: 0.5, torch.bfloat16: 0.5}
"""Forward error allowed, in units of the dtype's epsilon times the largest value. Half formats: one rounding."""

FLOAT32_SUM = 1e-5
"""Relative error of a float32 gradient that sums over many pixels or channels."""

ATEN = 1e-3
"""Relative forward error of the backend ``aten`` up to 1,024 pixels a side: it forms coordinates in float32."""

RANDOM_MAPS = 5e-6
"""Absolute forward error in float32 over random maps of unit noise (``benchmarks/accuracy.py``)."""


def assert_close(name: str, got: Tensor, truth: Tensor, budget: float) -> None:
    """``got`` is finite and at most ``budget`` times the largest true value away from float64 ``truth``."""
    assert truth.dtype == torch.float64, f"{name}: the truth must be float64"
    assert got.shape == truth.shape, f"{name}: shape {tuple(got.shape)} is not {tuple(truth.shape)}"
    assert got.isfinite().all(), f"{name}: not finite"
    if got.numel():
        error, largest = (got.double() - truth).abs().max().item(), max(truth.abs().max().item(), 1.0)
        assert error <= budget * largest, f"{name}: error {error:.3e} exceeds {budget:.1e} x {largest:.3g}"


def rounding(dtype: torch.dtype, *, interpreted: bool = False) -> float:
    """The relative forward budget of a dtype. Triton's interpreter cuts to bfloat16 where a device rounds."""
    if interpreted and dtype == torch.bfloat16:
        return torch.finfo(dtype).eps
    exact = ULPS[torch.float32] * torch.finfo(torch.float32).eps
    # A half result is rounded from float32, which adds its own error to the half ulp.
    return exact if dtype == torch.float32 else ULPS[dtype] * torch.finfo(dtype).eps + exact
