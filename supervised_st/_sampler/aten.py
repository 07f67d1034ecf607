"""``F.grid_sample`` behind guards: what ``affine_sample`` does on a CPU.

On a CPU ``F.grid_sample`` reads and writes foreign memory for half-precision images above 32,768 pixels and for
coordinates that are not finite (https://github.com/pytorch/pytorch/issues/24823), so neither ever reaches it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from supervised_st._sampler.reference import (
    MODES,
    PADDING_MODES,
    affine_sample_reference,
    is_transformed,
    lay_out,
    sample_at,
)

_DIFFERENTIATES_TWICE = torch.__version__ >= "2.13"
"""Whether ``F.grid_sample`` does (https://github.com/pytorch/pytorch/pull/177487)."""

_LARGEST_ENTRY = 256.0
"""Maps with larger entries, which may reach 768 half image sizes, are not for ``F.grid_sample``."""

_LONGEST_SIDE = 2**24
"""Pixels. Longer axes have positions that float32 does not hold."""

_LARGEST_FILL = 256.0
"""Larger fill values would cost the image digits on the way through ``F.grid_sample``."""

_CHANNELS_PER_GROUP = 16
"""``F.grid_sample`` goes through all channels at every pixel, and what it touches on the way should stay in cache."""

_LARGEST_UNGROUPED = 2**19
"""Bytes per image above which planes are sampled in groups of channels, if there are whole groups of them."""


def affine_sample_aten(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    size: tuple[int, int],
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample as :func:`affine_sample_reference` does, faster and about as exactly as ``F.grid_sample``.

    What ``F.grid_sample`` cannot be trusted with goes to the reference.
    """
    if not (image.numel() and theta.numel() and _is_tame(image, theta, fill)):
        return affine_sample_reference(
            image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )
    values = image.to(torch.promote_types(image.dtype, torch.float32))
    if fill is not None:
        values, padding_mode = values - fill[:, None, None], "zeros"
    planes = _coordinates(theta, size, align_corners, values.dtype)
    groups = _groups(values)
    if groups > 1:
        values = values.view(-1, _CHANNELS_PER_GROUP, *values.shape[2:])
        planes = planes.unsqueeze(1).expand(-1, groups, -1, -1, -1).flatten(0, 1)
    sampled = _grid_sample(values, planes.permute(0, 2, 3, 1), mode, padding_mode, align_corners)
    if groups > 1:
        sampled = sampled.view(*image.shape[:2], *sampled.shape[2:])
    if fill is not None:
        sampled = sampled + fill[:, None, None]
    if theta.ndim == 4:
        sampled = sampled.unflatten(2, (-1, size[0]))
    return lay_out(sampled.to(image.dtype), image)


def _groups(values: Tensor) -> int:
    """Return in how many groups of channels to sample; elsewhere than on a CPU this gains nothing."""
    groups, rest = divmod(values.shape[1], _CHANNELS_PER_GROUP)
    is_large = values.nbytes > len(values) * _LARGEST_UNGROUPED
    return groups if rest == 0 and is_large and values.is_cpu and values.is_contiguous() else 1


def _is_tame(image: Tensor, theta: Tensor, fill: Tensor | None) -> bool:
    """Tell whether ``F.grid_sample`` can be trusted with these numbers; where they cannot be seen, it is not.

    It clamps to the last pixel in the image's format, in which the last one of a long axis may round to one beyond it.
    The fill is subtracted from the image and added again, so it must be of the size of a pixel's value.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
    if traced or theta.is_meta or isinstance(theta, FakeTensor) or is_transformed(image, theta):
        return False
    if image.dtype != torch.float64 and max(image.shape[2:]) > _LONGEST_SIDE:
        return False
    return _is_within(_LARGEST_ENTRY, theta) and (fill is None or _is_within(_LARGEST_FILL, fill))


def _is_within(limit: float, numbers: Tensor) -> bool:
    """Tell whether no magnitude is larger, and nothing is NaN."""
    numbers = numbers.detach()
    if 0 in numbers.stride():  # One look at a number is enough, however many maps it was expanded to.
        numbers = numbers[tuple(slice(None if stride else 1) for stride in numbers.stride())]
    smallest, largest = numbers.aminmax()  # Both are NaN if there is one, and no comparison holds for it.
    return float(smallest) >= -limit and float(largest) <= limit


def _coordinates(theta: Tensor, size: tuple[int, int], align_corners: bool, dtype: torch.dtype) -> Tensor:
    """What ``F.affine_grid`` makes for each of the maps, one below the other: ``(batch, (x, y), [map *] h, w)``.

    Planes of x and of y take half the time of pairs to make and to read, and are summed up per axis, in which neither
    autocast nor TF32 take part.
    """
    theta = theta.to(torch.promote_types(theta.dtype, dtype))
    height, width = size
    x = _axis(width, theta, align_corners)
    y = x if height == width else _axis(height, theta, align_corners)
    rows = theta.transpose(1, 2) if theta.ndim == 4 else theta
    a, b, t = rows.split(1, -1)  # each [batch (x, y) [map] 1]
    planes: Tensor = (a * x).unsqueeze(-2) + torch.addcmul(t, b, y).unsqueeze(-1)
    return (planes.flatten(2, 3) if theta.ndim == 4 else planes).to(dtype)


def _axis(n: int, theta: Tensor, align_corners: bool) -> Tensor:
    """Return the normalized coordinates of an output axis of ``n`` pixels."""
    if n == 1:
        return theta.new_zeros(1)
    end = 1.0 if align_corners else 1 - 1 / n
    return torch.linspace(-end, end, n, dtype=theta.dtype, device=theta.device)


def _grid_sample(values: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
    """``F.grid_sample``, twice differentiable in older versions of torch too."""
    if _DIFFERENTIATES_TWICE or not (torch.is_grad_enabled() and (values.requires_grad or grid.requires_grad)):
        return F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
    sampled: Tensor = _GridSample.apply(values, grid, mode, padding_mode, align_corners)
    return sampled


class _GridSample(torch.autograd.Function):
    """``F.grid_sample`` whose gradients, where they are to be differentiated, come from the reference."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, mode: str, padding_mode: str, align_corners: bool) -> Tensor:
        ctx.save_for_backward(values, grid)
        ctx.options = mode, padding_mode, align_corners
        return F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Aliases: what reaches the values through a grid that was computed from them is the caller's to add.
        values, grid = (saved.view_as(saved) for saved in ctx.saved_tensors)
        mode, padding_mode, align_corners = ctx.options
        wants = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            options = MODES.index(mode), PADDING_MODES.index(padding_mode), align_corners
            found = torch.ops.aten.grid_sampler_2d_backward(grads[0], values, grid, *options, wants)
            return *found, None, None, None
        sizes = values.new_tensor((values.shape[3], values.shape[2]))
        pixels = (grid + 1) * ((sizes - 1) / 2) if align_corners else ((grid + 1) * sizes - 1) / 2
        x, y = pixels[:, None].double().unbind(-1)
        sampled = sample_at(values, x, y, 0.0, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
        wanted = [tensor for tensor, wants_it in zip((values, grid), wants, strict=True) if wants_it]
        given = iter(torch.autograd.grad(sampled.squeeze(2), wanted, grads[0], create_graph=True, allow_unused=True))
        return *(next(given) if wants_it else None for wants_it in wants), None, None, None
