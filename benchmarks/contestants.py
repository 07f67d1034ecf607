"""Who is measured: the library, and every other way to the same numbers that is installed."""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import FAMILIES, Case
from supervised_st import affine_sample

OURS = "affine_sample"
PAIRS = ("pair", "widened pair")
"""The eager forms of ``F.affine_grid`` with ``F.grid_sample``; the faster one is what ratios are relative to."""

MEAN, STD = 114.0, 58.0
"""Of images of bytes, which are normalized before they are sampled."""

LARGEST_HALF_PLANE = 32_768
"""Pixels. ``F.grid_sample`` on a CPU reads and writes foreign memory for larger half-precision planes."""

Sample = Callable[[Tensor, Tensor, int, bool], Tensor]
Call = Callable[[], Any]


class CannotError(Exception):
    """The contestant must not be given this case."""


@dataclass(frozen=True)
class Contestant:
    """One way to sample.

    Attributes:
        name: as tables show it.
        sample: ``(image, parameter, out, align_corners)`` to the sampled image.
        suits: ``(case, device)`` to whether it may take part; it may still raise.
        parameter: what it takes in the place of theta, differentiably made from theta and never timed.
        is_coarse: whether it rounds coordinates to less than float32, so that its error is shown but not judged.
        around: puts a call, and its backward, under a setting of its own.
    """

    name: str
    sample: Sample
    suits: Callable[[Case, str], bool] = lambda case, device: True
    parameter: Callable[[Tensor, Case], Tensor] = lambda theta, case: theta
    is_coarse: Callable[[Case], bool] = lambda case: False
    around: Callable[[Call], Call] = lambda call: call


def contestants() -> list[Contestant]:
    """Return everyone who is installed; the library comes first."""
    everyone = [
        Contestant(OURS, _ours),
        Contestant("pair", _pair, is_coarse=_is_half),
        Contestant("widened pair", _widened_pair, lambda case, device: _is_half(case)),
        Contestant(
            "pair in layout",
            _pair_in_layout,
            lambda case, device: case.layout == "channels_last" and case.maps == 1,
            is_coarse=_is_half,
        ),
        Contestant(
            "TF32 pair",
            _pair,
            lambda case, device: device == "cuda" and case.dtype == "float32",
            is_coarse=lambda case: True,
            around=_with_tf32,
        ),
        Contestant(
            "cuDNN pair",
            lambda image, theta, out, align_corners: _pair(image, theta, out, True),
            lambda case, device: device == "cuda" and case.dtype != "bfloat16" and not case.align_corners,
            parameter=_corner_theta,
            is_coarse=_is_half,
        ),
        Contestant("compiled pair", _compiled_pair),
        Contestant("kornia", _kornia, lambda case, device: case.maps == 1, parameter=_forward_matrix),
        Contestant(
            "roi_align",
            _roi_align,
            lambda case, device: case.maps == 1 and _is_parallel(case),
            parameter=_boxes,
            is_coarse=_is_half,
        ),
    ]
    return [contestant for contestant in everyone if contestant.name not in absent()]


@cache
def absent() -> dict[str, str]:
    """Return who cannot take part at all, and why."""
    reasons = {}
    for name, module in (("kornia", "kornia.geometry.transform"), ("roi_align", "torchvision.ops")):
        try:
            _imported(module)
        except (ImportError, RuntimeError) as error:  # torchvision raises the latter beside another build of torch.
            reasons[name] = f"{module.partition('.')[0]} cannot be imported: {error}"
    return reasons


@cache
def _imported(module: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def _is_half(case: Case) -> bool:
    return case.dtype in ("float16", "bfloat16")


def _is_parallel(case: Case) -> bool:
    return FAMILIES[case.theta].degrees == 0


def _ours(image: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    if image.dtype == torch.uint8:
        return affine_sample(image, theta, (out, out), align_corners=align_corners, mean=MEAN, std=STD)
    return affine_sample(image, theta, (out, out), align_corners=align_corners)


def _normalized(image: Tensor) -> Tensor:
    return (image.float() - MEAN) / STD if image.dtype == torch.uint8 else image


def _pair(image: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    """The grid is formed in float32 and, since ``F.grid_sample`` wants it so, cast to the image's dtype."""
    values = _normalized(image)
    is_half = values.dtype in (torch.float16, torch.bfloat16)
    if is_half and not values.is_cuda and values.shape[2] * values.shape[3] > LARGEST_HALF_PLANE:
        raise CannotError(
            "F.grid_sample leaves its memory: half-precision plane above 32,768 pixels (pytorch/pytorch#24823)"
        )
    return _grid_sampled(values, theta, out, align_corners)


def _widened_pair(image: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    """Coordinates and values in float32."""
    values = _normalized(image)
    return _grid_sampled(values.float(), theta, out, align_corners).to(values.dtype)


def _pair_in_layout(image: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    """``F.grid_sample`` returns planes, and `affine_sample` what it was given."""
    return _pair(image, theta, out, align_corners).contiguous(memory_format=torch.channels_last)


def _grid_sampled(values: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    """Several maps per image become one tall output, so that nobody has to copy the image."""
    flat = theta.flatten(0, -3)
    grid = F.affine_grid(flat, [flat.shape[0], values.shape[1], out, out], align_corners=align_corners)
    grid = grid.view(values.shape[0], -1, out, 2).to(values.dtype)
    sampled = F.grid_sample(values, grid, align_corners=align_corners)
    return sampled if theta.dim() == 3 else sampled.unflatten(2, (-1, out)).transpose(1, 2)


def _with_tf32(call: Call) -> Call:
    """Let matrix products round to TF32, of which there is one in ``F.affine_grid`` and one in its backward."""

    def inside() -> Any:  # noqa: ANN401 - whatever the call returns
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return call()
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return inside


@cache
def _compiler_made() -> Sample:
    return torch.compile(_widened_pair, dynamic=False)


def _compiled_pair(image: Tensor, theta: Tensor, out: int, align_corners: bool) -> Tensor:
    return _compiler_made()(image, theta, out, align_corners)


def _kornia(image: Tensor, matrix: Tensor, out: int, align_corners: bool) -> Tensor:
    warp_affine = _imported("kornia.geometry.transform").warp_affine
    values = _normalized(image)  # It refuses half images with a float32 matrix, and a half matrix is off by pixels.
    return warp_affine(values.float(), matrix, (out, out), align_corners=align_corners).to(values.dtype)


def _roi_align(image: Tensor, boxes: Tensor, out: int, align_corners: bool) -> Tensor:
    roi_align, values = _imported("torchvision.ops").roi_align, _normalized(image)
    return roi_align(values, boxes.to(values.dtype), out, sampling_ratio=1, aligned=True)


def _normalizer(side: int, align_corners: bool) -> Tensor:
    """Return the 3x3 matrix that takes pixels to normalized coordinates."""
    step, first = (2 / (side - 1), -1.0) if align_corners else (2 / side, 1 / side - 1)
    return torch.tensor([[step, 0, first], [0, step, first], [0, 0, 1]], dtype=torch.float64)


def _pixel_matrix(theta: Tensor, case: Case) -> Tensor:
    """Return theta in pixels, output to input, ``[... 3 3]`` float64."""
    homogeneous = torch.cat(
        (theta.double(), theta.new_tensor([0.0, 0, 1]).double().expand(*theta.shape[:-2], 1, 3)), -2
    )
    to_pixels = torch.linalg.inv(_normalizer(case.side, case.align_corners)).to(theta.device)
    return to_pixels @ homogeneous @ _normalizer(case.out, case.align_corners).to(theta.device)


def _forward_matrix(theta: Tensor, case: Case) -> Tensor:
    """Return what kornia takes: pixels of the input to pixels of the output."""
    return torch.linalg.inv(_pixel_matrix(theta, case))[..., :2, :].to(theta.dtype)


def _corner_theta(theta: Tensor, case: Case) -> Tensor:
    """Return the theta of the same map in the other convention, ``align_corners=True``, which cuDNN serves."""
    to_pixels = torch.linalg.inv(_normalizer(case.out, True)).to(theta.device)
    converted = _normalizer(case.side, True).to(theta.device) @ _pixel_matrix(theta, case) @ to_pixels
    return converted[..., :2, :].to(theta.dtype)


def _boxes(theta: Tensor, case: Case) -> Tensor:
    """Return ``[batch 5]``: the image's number and the edges of its window in pixels; pixels are unit squares."""
    matrix = _pixel_matrix(theta, case)
    scale, first = matrix.diagonal(dim1=-2, dim2=-1)[..., :2], matrix[..., :2, 2]
    start = first + 0.5 - scale / 2
    number = torch.arange(len(theta), device=theta.device, dtype=torch.float64)[:, None]
    return torch.cat((number, start, start + scale * case.out), dim=1).to(theta.dtype)
