"""Assertions that several tests share."""

import torch
from torch import Tensor


def assert_close(name: str, got: Tensor, truth: Tensor, tolerance: float) -> None:
    """Assert that ``got`` is finite and within ``tolerance`` of ``truth``, relative to its largest value or one."""
    assert truth.dtype == torch.float64, f"{name}: the truth must be float64"
    assert got.shape == truth.shape, f"{name}: shape {tuple(got.shape)} is not {tuple(truth.shape)}"
    assert got.isfinite().all(), f"{name}: not finite"
    if got.numel():
        error, largest = (got.double() - truth).abs().max().item(), max(truth.abs().max().item(), 1.0)
        assert error <= tolerance * largest, f"{name}: error {error:.3e} exceeds {tolerance:.1e} x {largest:.3g}"
