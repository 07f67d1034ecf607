"""The contestants: the library, and every other installed way to compute the same values.

The *baseline* is `F.affine_grid` followed by `F.grid_sample`. The *widened baseline* is the same in float32, rounded to
the image's dtype at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.measure import Call
from supervised_st import affine_sample
from supervised_st.types import Backend

# (image, theta, size, align_corners) to the sampled image
Sample = Callable[[Tensor, Tensor, tuple[int, int], bool], Tensor]

OURS = "affine_sample"
BASELINES = ("baseline", "widened baseline")  # others are compared with the faster of the two
MEAN, STD = 114.0, 58.0  # of uint8 images, which are normalized before they are sampled
LARGEST_HALF_PLANE = 32_768  # pixels; on a CPU, F.grid_sample reads and writes out of bounds in larger ones


@dataclass(frozen=True)
class Contestant:
    """One way to sample."""

    name: str
    sample: Sample
    suits: Callable[[Case, str], bool] = lambda case, device: True  #: whether to try a case; ``sample`` may still raise
    parameter: Callable[[Tensor, Case], Tensor] = lambda theta, case: theta  #: its own form of theta, not timed
    is_coarse: Callable[[Case], bool] = lambda case: False
    """Whether its coordinates are less precise than float32; then its error is shown but not judged."""
    around: Callable[[Call], Call] = lambda call: call  #: runs a call, and its backward, under a setting


def _is_half(case: Case) -> bool:
    return case.dtype in ("float16", "bfloat16")


def contestants(backend: Backend = "auto", compiler: str = "inductor") -> list[Contestant]:
    """Return all contestants, the library first; ``backend`` is the library's, ``compiler`` that of `torch.compile`."""
    own = partial(library, backend=backend)
    return [
        Contestant(OURS, own),
        Contestant("baseline", baseline, is_coarse=_is_half),
        Contestant("widened baseline", widened_baseline, lambda case, device: _is_half(case)),
        Contestant(
            "baseline in layout",
            _baseline_in_layout,
            lambda case, device: case.layout == "channels_last" and case.transforms == 1,
            is_coarse=_is_half,
        ),
        Contestant(
            "TF32 baseline",
            baseline,
            lambda case, device: device == "cuda" and case.dtype == "float32",
            is_coarse=lambda case: True,
            around=_with_tf32,
        ),
        Contestant(
            "cuDNN baseline",
            lambda image, theta, size, align_corners: baseline(image, theta, size, True),
            lambda case, device: device == "cuda" and case.dtype != "bfloat16" and not case.align_corners,
            parameter=_corner_theta,
            is_coarse=_is_half,
        ),
        Contestant("compiled baseline", lambda *arguments: _compiled(widened_baseline, compiler)(*arguments)),
        Contestant(
            "compiled affine_sample",
            lambda *arguments: _compiled(own, compiler)(*arguments),
            lambda case, device: device == "cuda" or backend == "triton",
        ),
        Contestant("kornia", _kornia, lambda case, device: case.transforms == 1, parameter=_forward_matrix),
    ]


def library(
    image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool, *, backend: Backend = "auto"
) -> Tensor:
    """Sample by `affine_sample`."""
    mean, std = (MEAN, STD) if image.dtype == torch.uint8 else (None, None)
    return affine_sample(image, theta, size, align_corners=align_corners, mean=mean, std=std, backend=backend)


def _normalized(image: Tensor) -> Tensor:
    return (image.float() - MEAN) / STD if image.dtype == torch.uint8 else image


def baseline(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample by `F.affine_grid` and `F.grid_sample`, with the grid cast to the image's dtype."""
    values = _normalized(image)
    if values.itemsize == 2 and not values.is_cuda and values.shape[2:].numel() > LARGEST_HALF_PLANE:
        raise NotImplementedError(f"half-precision plane above {LARGEST_HALF_PLANE:,} pixels (pytorch/pytorch#24823)")
    return grid_sampled(values, theta, size, align_corners)


def widened_baseline(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample likewise with grid and values in float32, and round once."""
    values = _normalized(image)
    return grid_sampled(values.float(), theta, size, align_corners).to(values.dtype)


def _baseline_in_layout(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """`F.grid_sample` returns contiguous tensors; `affine_sample` keeps the layout of the image."""
    return baseline(image, theta, size, align_corners).contiguous(memory_format=torch.channels_last)


def grid_sampled(values: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample in float; several transforms per image become one tall output, so the image need not be copied."""
    flat = theta.flatten(0, -3)
    grid = F.affine_grid(flat, [flat.shape[0], values.shape[1], *size], align_corners=align_corners)
    grid = grid.view(values.shape[0], -1, size[1], 2).to(values.dtype)
    sampled = F.grid_sample(values, grid, align_corners=align_corners)
    return sampled if theta.dim() == 3 else sampled.view(*values.shape[:2], -1, *size).transpose(1, 2)


def _with_tf32(call: Call) -> Call:
    """Let matrix products round to TF32; `F.affine_grid` has one, and so has its backward."""

    def inside() -> Any:  # noqa: ANN401 - whatever the call returns
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False

    return inside


@cache
def _compiled(sample: Sample, compiler: str) -> Sample:
    return torch.compile(sample, dynamic=False, backend=compiler)


def _kornia(image: Tensor, matrix: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    from kornia.geometry.transform import warp_affine

    values = _normalized(image)
    # float32, since kornia refuses half images with a float32 matrix, and a half matrix is off by pixels.
    sampled: Tensor = warp_affine(values.float(), matrix, size, align_corners=align_corners)
    return sampled.to(values.dtype)


def _normalizer(side: int, align_corners: bool) -> Tensor:
    """Return the 3x3 matrix from pixels to normalized coordinates."""
    step, first = (2 / (side - 1), -1.0) if align_corners else (2 / side, 1 / side - 1)
    return torch.tensor([[step, 0, first], [0, step, first], [0, 0, 1]], dtype=torch.float64)


def _forward_matrix(theta: Tensor, case: Case) -> Tensor:
    """Return kornia's parameter: the matrix from input pixels to output pixels."""
    from_pixels, to_pixels = (_normalizer(side, case.align_corners).to(theta.device) for side in (case.side, case.out))
    last_row = from_pixels[2:].expand(*theta.shape[:-2], 1, 3)
    inverse: Tensor = torch.linalg.inv(torch.cat((theta.double(), last_row), -2))
    return (to_pixels.inverse() @ inverse @ from_pixels)[..., :2, :].to(theta.dtype)


def _corner_theta(theta: Tensor, case: Case) -> Tensor:
    """Return the theta that does the same under ``align_corners=True``, the convention that cuDNN supports."""
    wider, narrower = case.side / (case.side - 1), (case.out - 1) / case.out
    scales = torch.tensor([wider * narrower, wider * narrower, wider], dtype=torch.float64, device=theta.device)
    return (theta.double() * scales).to(theta.dtype)
