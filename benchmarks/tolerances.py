"""Tolerances of the sampler: how far each result may be from float64. The tests of single modules have their own."""

import torch

EXACT = 1e-12
"""Relative and absolute error of float64 results, which differ from the truth only in the order of operations."""

ULPS = {torch.float32: 4, torch.float16: 0.5, torch.bfloat16: 0.5}
"""Forward error in units of the dtype's epsilon times the largest value. Half precision is rounded once."""

FLOAT32_SUM = 1e-5  # relative error of a float32 gradient that sums over many pixels or channels

RANDOM_TRANSFORMS = 5e-6
"""Absolute forward error in float32 over random affine transforms of unit noise (``benchmarks/accuracy.py``)."""

GRAPHS = 2e-6
"""Absolute forward error of graphs on images of range 1. Coordinates are in float32, as those of ``F.grid_sample``."""


def rounding(dtype: torch.dtype, *, interpreted: bool = False) -> float:
    """Return the relative forward tolerance. Triton's interpreter truncates to bfloat16 instead of rounding."""
    if interpreted and dtype == torch.bfloat16:
        return torch.finfo(dtype).eps
    exact = ULPS[torch.float32] * torch.finfo(torch.float32).eps
    # A half-precision result is rounded from float32, which adds its own error.
    return exact if dtype == torch.float32 else ULPS[dtype] * torch.finfo(dtype).eps + exact
