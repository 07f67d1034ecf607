"""``F.grid_sample`` behind guards: what ``affine_sample`` does on a CPU.

On a CPU ``F.grid_sample`` reads and writes out of bounds for half-precision images above 32,768 pixels and for
coordinates that are not finite (https://github.com/pytorch/pytorch/issues/24823), so neither is ever passed to it.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from supervised_st._checks import LONGEST_SIDE
from supervised_st._precision import widen
from supervised_st._sampler.options import MODES, PADDING_MODES, ChannelConstants, Sampling
from supervised_st._sampler.reference import affine_sample_reference, sample_at
from supervised_st._sampler.tensors import has_values, is_transformed, lasting, lay_out, normalize

_DIFFERENTIATES_TWICE = torch.__version__ >= "2.13"
"""Whether ``F.grid_sample`` has second derivatives (https://github.com/pytorch/pytorch/pull/177487)."""

_LARGEST_ENTRY = 256.0  # of theta; larger ones, which may reach 768 half image sizes, go to the reference
_FARTHEST = 3 * _LARGEST_ENTRY  # coordinate, in half image sizes, that ``F.grid_sample`` is given in a graph
_FEW = 48  # numbers; Python has read them by the time that a reduction starts
_LARGEST_FILL = 256.0  # larger ones would cost the image precision in ``F.grid_sample``
_LONGEST_SIDE = 2**24  # pixels; longer axes have positions that float32 cannot represent

# ``F.grid_sample`` visits all channels at every pixel; the pixels of a group of channels should stay in cache.
_CHANNELS_PER_GROUP = 16
_LARGEST_UNGROUPED = 2**19  # bytes; larger contiguous images are sampled in groups of channels, if they divide evenly


def affine_sample_aten(
    image: Tensor, theta: Tensor, constants: ChannelConstants, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample with ``F.grid_sample`` where it is safe, otherwise with :func:`affine_sample_reference`."""
    image, fill = normalize(image, constants.mean, constants.std), constants.fill
    if not is_transformed(image, theta) and _has_exact_positions(image):
        if not has_values(theta):
            return _sample_in_graph(image, theta, fill, size, sampling)
        # The fill is subtracted from the image and added again, so it must have the magnitude of a pixel's value.
        if _has_numbers(image, theta) and (fill is None or _is_within(_LARGEST_FILL, fill)):
            return _sample_unless_far(image, theta, fill, size, sampling)
    return affine_sample_reference(image, theta, ChannelConstants(fill), size, sampling)


def sampler(
    image: Tensor, theta: Tensor, size: tuple[int, int], sampling: Sampling
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Return how to sample any image and theta of this kind that nobody observes; None where only the long way can."""
    if image.dtype == torch.uint8 or not (has_values(theta) and _has_exact_positions(image)):
        return None
    return partial(_sample_unless_far, fill=None, size=size, sampling=sampling) if _has_numbers(image, theta) else None


def _has_exact_positions(image: Tensor) -> bool:
    """Return whether the image's dtype tells its last pixel, to which ``F.grid_sample`` clamps, from the next one."""
    return image.dtype == torch.float64 or max(image.shape[2:]) <= _LONGEST_SIDE


def _has_numbers(image: Tensor, theta: Tensor) -> bool:
    """Return whether there is something to sample. Graphs must not ask: their sizes may depend on data."""
    return image.numel() > 0 and theta.numel() > 0


def _sample_unless_far(
    image: Tensor, theta: Tensor, fill: Tensor | None, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample, with the reference where coordinates may be so large that ``F.grid_sample`` does not handle them."""
    if not _is_within(_LARGEST_ENTRY, theta):
        return affine_sample_reference(image, theta, ChannelConstants(fill), size, sampling)
    sampled = _sample_image(image, theta, fill, size, sampling)
    if theta.ndim == 4:
        sampled = sampled.unflatten(2, (-1, size[0]))
    return lay_out(sampled if sampled.dtype == image.dtype else sampled.to(image.dtype), image)


def _sample_in_graph(
    image: Tensor, theta: Tensor, fill: Tensor | None, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample with operators that are safe for every theta, since a graph is traced once for all of them.

    As in the reference, an infinite shift is far away, and an infinite factor of coordinates gives NaN.
    """
    values = image.float() if image.itemsize == 2 else image
    is_padded, align_corners = sampling.padding_mode in ("zeros", "fill"), sampling.align_corners
    options = _options(Sampling(sampling.mode, "zeros", align_corners) if is_padded else sampling)

    largest = torch.finfo(theta.dtype).max
    is_row_defined = (theta.abs() <= theta.new_tensor((largest, largest, math.inf))).all(-1, keepdim=True)
    is_defined = is_row_defined.all(-2, keepdim=True)  # [batch [transform] 1 1]
    # Row by row: with more reads for each coordinate, the compiler for CPUs stores what it needs for it one by one.
    safe = torch.where(is_row_defined, theta, theta.new_tensor((0.0, 0.0, _FARTHEST)))
    grid = _grid(safe, size, align_corners, 1, values.dtype, _centered_axes)
    if sampling.padding_mode == "reflection":
        grid = _reflect_infinity(grid, values, align_corners)
    else:
        grid = grid.clamp(-_FARTHEST, _FARTHEST)

    sampled = torch.grid_sampler(values, grid, *options)
    if fill is not None:
        ones = values.new_ones(()).expand(values.shape[0], 1, *values.shape[2:])
        outside = 1 - torch.grid_sampler(ones, grid, *options)
        # Rounding must not show large fills where only the image counts, nor infinite ones at its outermost pixels.
        rounding = torch.finfo(values.dtype).eps * 2 * (values.shape[2] + values.shape[3])
        is_rounding = outside.abs() <= torch.where(fill.isfinite(), 0.0, rounding)[:, None, None]
        is_inside = _is_inside(grid, values, sampling).unsqueeze(1) | is_rounding
        sampled = sampled + torch.where(is_inside, 0.0, outside * fill[:, None, None])
    if theta.ndim == 4:
        sampled = sampled.unflatten(2, (-1, size[0]))

    # The factor puts the NaN into theta's gradient, and into that of no other theta, not even on the way.
    nan = theta.sum((-2, -1), keepdim=True) * torch.where(is_defined, 1.0, math.nan)
    nan = nan if nan.dtype == values.dtype else nan.to(values.dtype)
    if is_padded and not align_corners:  # Nothing was read for these, and a sum takes a third of the time.
        sampled = sampled + torch.where(is_defined, 0.0, nan).unsqueeze(1)
    else:
        sampled = torch.where(is_defined.unsqueeze(1), sampled, nan.unsqueeze(1))
    return lay_out(sampled if sampled.dtype == image.dtype else sampled.to(image.dtype), image)


def _reflect_infinity(grid: Tensor, values: Tensor, align_corners: bool) -> Tensor:
    """Replace coordinates that are too far away by what the reference reads there: a pixel `FAR` away, mirrored."""
    near = []
    for c, length in zip(grid.unbind(-1), (values.shape[3], values.shape[2]), strict=True):
        # One is measured in halves of the image's side, so every four of them return to the same place.
        side, edge = (_steps(length), 0) if align_corners else (length, 1)
        low, high = ((edge + sign * 2 * LONGEST_SIDE) % (4 * side) / side - 1 for sign in (-1, 1))
        near.append(torch.where(c.abs() <= _FARTHEST, c, torch.where(c > 0, high, low)))
    return torch.stack(near, -1)


def _steps(length: int) -> int:
    """Return `max(length - 1, 1)`, for numbers of every tracer."""
    return length - 1 + 1 // length


def _is_inside(grid: Tensor, values: Tensor, sampling: Sampling) -> Tensor:
    """Return where only pixels of the image count, to the rounding of coordinates; nearest ones need not ask."""
    rounding = 4 * torch.finfo(grid.dtype).eps
    margin = 1 if sampling.mode == "bicubic" else 0  # pixels at each edge that are read together with others beyond it
    near = []
    for c, length in zip(grid.unbind(-1), (values.shape[3], values.shape[2]), strict=True):
        side = _steps(length) if sampling.align_corners else length
        near.append(c.abs() <= (length - 1 - 2 * margin) / side + rounding)
    return near[0] & near[1]


def _sample_image(
    image: Tensor, theta: Tensor, fill: Tensor | None, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Return the values ``(batch, channel, [transform *] h, w)``. What led to them is freed before they are copied."""
    values = image.float() if image.itemsize == 2 else image
    if fill is not None:
        values, sampling = values - fill[:, None, None], Sampling(sampling.mode, "zeros", sampling.align_corners)
    groups = _groups(values)
    make_grid = _Grid.apply if theta.requires_grad and torch.is_grad_enabled() else _grid
    grid = make_grid(theta, size, sampling.align_corners, groups, values.dtype)
    if groups == 1:
        sampled = _grid_sample(values, grid, sampling)
    else:
        parts = values.view(-1, _CHANNELS_PER_GROUP, *values.shape[2:])
        sampled = _grid_sample(parts, grid, sampling)
        sampled = sampled.view(*values.shape[:2], *sampled.shape[2:])
    return sampled if fill is None else sampled + fill[:, None, None]


def _is_within(limit: float, numbers: Tensor) -> bool:
    """Return whether no magnitude is larger than the limit, and no number is NaN."""
    if numbers.numel() <= _FEW:
        return all(-limit <= number <= limit for number in numbers.flatten().tolist())
    numbers = numbers.detach()
    if 0 in numbers.stride():  # One copy of expanded values is enough.
        numbers = numbers[tuple(slice(None if stride else 1) for stride in numbers.stride())]
    smallest, largest = numbers.aminmax()  # Both are NaN if there is one, and comparisons with NaN are false.
    return smallest.item() >= -limit and largest.item() <= limit


def _groups(values: Tensor) -> int:
    """Return the number of groups of channels to sample one after the other; only a CPU gains from groups."""
    groups, rest = divmod(values.shape[1], _CHANNELS_PER_GROUP)
    is_large = groups > 1 and rest == 0 and values.nbytes > len(values) * _LARGEST_UNGROUPED
    return groups if is_large and values.is_cpu and values.is_contiguous() else 1


@lru_cache(maxsize=16)
def _axes(
    size: tuple[int, int], dtype: torch.dtype, device: torch.device, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return the normalized coordinates of the output's columns ``[w]`` and rows ``[h 1]``."""
    axes = []
    with lasting():
        for n in size:
            end = 0.0 if n == 1 else 1.0 if align_corners else 1 - 1 / n
            axes.append(torch.linspace(-end, end, n, dtype=dtype, device=device))
    y, x = axes
    return x, y.unsqueeze(1)


def _centered_axes(
    size: tuple[int, int], dtype: torch.dtype, device: torch.device, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return the coordinates of `_axes`, of which the middle one is exactly 0: theta may be huge."""
    y, x = (
        torch.arange(1 - n, n, 2, dtype=dtype, device=device) / (max(n - 1, 1) if align_corners else n) for n in size
    )
    return x, y.unsqueeze(1)


def _grid(
    theta: Tensor,
    size: tuple[int, int],
    align_corners: bool,
    groups: int,
    values_dtype: torch.dtype,
    axes: Callable[[tuple[int, int], torch.dtype, torch.device, bool], tuple[Tensor, Tensor]] = _axes,
) -> Tensor:
    """``F.affine_grid`` of all transforms, one below the other, and again for each group of channels.

    It is ``(batch * group, [transform *] h, w, (x, y))``. Storing x and y separately takes half the time of storing
    pairs (x, y). They are computed by elementwise operations, which neither autocast nor TF32 affect.
    """
    dtype = torch.promote_types(theta.dtype, values_dtype)
    x, y = axes(size, dtype, theta.device, align_corners)
    rows = theta if theta.dtype == dtype else theta.to(dtype)
    if theta.ndim == 4:
        rows = rows.transpose(1, 2)
    a, b, t = rows.reshape(*rows.shape, 1, 1).unbind(-3)  # each [batch (x y) [transform] 1 1]
    grid: Tensor = a * x + torch.addcmul(t, b, y)
    if theta.ndim == 4:
        grid = grid.flatten(2, 3)
    if values_dtype != dtype:
        grid = grid.to(values_dtype)
    if groups > 1:
        grid = grid.unsqueeze(1).expand(-1, groups, -1, -1, -1).flatten(0, 1)
    return grid.permute(0, 2, 3, 1)


class _Grid(torch.autograd.Function):
    """`_grid` as one node for autograd, which takes less of the host's time than the ten of its operators.

    Its backward has the operators of theirs, so it gives the same bits and can be differentiated again.
    """

    @staticmethod
    def forward(
        ctx: Any, theta: Tensor, size: tuple[int, int], align_corners: bool, groups: int, values_dtype: torch.dtype
    ) -> Tensor:
        ctx.is_several, ctx.dtype, ctx.options = theta.ndim == 4, theta.dtype, (size, align_corners, groups)
        return _grid(theta, size, align_corners, groups, values_dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, (size, align_corners, groups) = grads[0].permute(0, 3, 1, 2), ctx.options
        dtype = torch.promote_types(ctx.dtype, grad.dtype)
        x, y = _axes(size, dtype, grad.device, align_corners)
        if groups > 1:
            grad = grad.reshape(-1, groups, *grad.shape[1:]).sum(1)
        if grad.dtype != dtype:
            grad = grad.to(dtype)
        if ctx.is_several:
            grad = grad.reshape(*grad.shape[:2], -1, *size)
        # As in autograd, nothing is summed where there is one; the layout decides the order of the next sums.
        of_columns = grad.sum(-2) if size[0] > 1 else grad.squeeze(-2)
        of_rows = grad.sum(-1) if size[1] > 1 else grad.squeeze(-1)
        a, b, t = (of_columns * x).sum(-1), (of_rows * y.squeeze(1)).sum(-1), of_rows.sum(-1)
        of_theta = torch.stack((a, b, t), -1)
        if ctx.is_several:
            of_theta = of_theta.transpose(1, 2)
        return of_theta if ctx.dtype == dtype else of_theta.to(ctx.dtype), None, None, None, None


def _options(sampling: Sampling) -> tuple[int, int, bool]:
    """Return the sampling as torch's operators take it."""
    return MODES.index(sampling.mode), PADDING_MODES.index(sampling.padding_mode), sampling.align_corners


def _grid_sample(values: Tensor, grid: Tensor, sampling: Sampling) -> Tensor:
    """``F.grid_sample``, twice differentiable in older versions of torch too."""
    if _DIFFERENTIATES_TWICE or not (torch.is_grad_enabled() and (values.requires_grad or grid.requires_grad)):
        return torch.grid_sampler(values, grid, *_options(sampling))
    sampled: Tensor = _GridSample.apply(values, grid, sampling)
    return sampled


class _GridSample(torch.autograd.Function):
    """``F.grid_sample``; its gradients come from the reference where they must be differentiable themselves."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, sampling: Sampling) -> Tensor:
        ctx.save_for_backward(values, grid)
        ctx.sampling = sampling
        return torch.grid_sampler(values, grid, *_options(sampling))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Aliases: the grid may depend on the values; that part of the gradient is added by the caller.
        values, grid = (saved.view_as(saved) for saved in ctx.saved_tensors)
        sampling = ctx.sampling
        needed = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            found = torch.ops.aten.grid_sampler_2d_backward(grads[0], values, grid, *_options(sampling), needed)
            return *found, None
        sizes = values.new_tensor((values.shape[3], values.shape[2]))
        pixels = (grid + 1) * ((sizes - 1) / 2) if sampling.align_corners else ((grid + 1) * sizes - 1) / 2
        x, y = widen(pixels[:, None]).unbind(-1)
        sampled = sample_at(values, x, y, 0.0, sampling)
        inputs = [tensor for tensor, is_needed in zip((values, grid), needed, strict=True) if is_needed]
        given = iter(torch.autograd.grad(sampled.squeeze(2), inputs, grads[0], create_graph=True, allow_unused=True))
        return *(next(given) if is_needed else None for is_needed in needed), None
