"""Tolerances of the sampler: how far each result may be from float64. The tests of single modules have their own."""

import torch
from torch import Tensor

EXACT = 1e-12
"""Relative and absolute error of float64 results, which differ from the truth only in the order of operations."""

ULPS = {torch.float32: 4, torch.float16: 0.5, torch.bfloat16: 0.5}
"""Forward error in units of the dtype's epsilon times the largest value. Half precision is rounded once."""

FLOAT32_SUM = 1e-5
"""Relative error of a float32 gradient that sums over many pixels or channels."""

RANDOM_TRANSFORMS = 5e-6
"""Absolute forward error in float32 over random affine transforms of unit noise (``benchmarks/accuracy.py``)."""


def assert_close(name: str, got: Tensor, truth: Tensor, tolerance: float) -> None:
    """Assert that ``got`` is finite and within ``tolerance`` of ``truth``, relative to its largest value or one."""
    assert truth.dtype == torch.float64, f"{name}: the truth must be float64"
    assert got.shape == truth.shape, f"{name}: shape {tuple(got.shape)} is not {tuple(truth.shape)}"
    assert got.isfinite().all(), f"{name}: not finite"
    if got.numel():
        error, largest = (got.double() - truth).abs().max().item(), max(truth.abs().max().item(), 1.0)
        assert error <= tolerance * largest, f"{name}: error {error:.3e} exceeds {tolerance:.1e} x {largest:.3g}"


def rounding(dtype: torch.dtype, *, interpreted: bool = False) -> float:
    """Return the relative forward tolerance. Triton's interpreter truncates to bfloat16 instead of rounding."""
    if interpreted and dtype == torch.bfloat16:
        return torch.finfo(dtype).eps
    exact = ULPS[torch.float32] * torch.finfo(torch.float32).eps
    # A half-precision result is rounded from float32, which adds its own error.
    return exact if dtype == torch.float32 else ULPS[dtype] * torch.finfo(dtype).eps + exact
