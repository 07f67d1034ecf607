"""``F.grid_sample`` behind guards: what ``affine_sample`` does on a CPU.

On a CPU ``F.grid_sample`` reads and writes out of bounds for half-precision images above 32,768 pixels and for
coordinates that are not finite (https://github.com/pytorch/pytorch/issues/24823), so neither is ever passed to it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from supervised_st._precision import widen
from supervised_st._sampler.options import MODES, PADDING_MODES, ChannelConstants, Sampling
from supervised_st._sampler.reference import affine_sample_reference, sample_at
from supervised_st._sampler.tensors import has_values, is_transformed, lay_out, normalize

_DIFFERENTIATES_TWICE = torch.__version__ >= "2.13"
"""Whether ``F.grid_sample`` has second derivatives (https://github.com/pytorch/pytorch/pull/177487)."""

_LARGEST_ENTRY = 256.0  # of theta; larger ones, which may reach 768 half image sizes, go to the reference
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
    if not (image.numel() and theta.numel() and _is_safe(image, theta, fill)):
        return affine_sample_reference(image, theta, ChannelConstants(fill), size, sampling)
    values = image.to(torch.promote_types(image.dtype, torch.float32))
    if fill is not None:
        values, sampling = values - fill[:, None, None], sampling._replace(padding_mode="zeros")
    grid = _grid(theta, size, sampling.align_corners, values.dtype)
    groups = _groups(values)
    if groups > 1:
        values = values.view(-1, _CHANNELS_PER_GROUP, *values.shape[2:])
        grid = grid.unsqueeze(1).expand(-1, groups, -1, -1, -1).flatten(0, 1)
    sampled = _grid_sample(values, grid.permute(0, 2, 3, 1), sampling)
    if groups > 1:
        sampled = sampled.view(*image.shape[:2], *sampled.shape[2:])
    if fill is not None:
        sampled = sampled + fill[:, None, None]
    if theta.ndim == 4:
        sampled = sampled.unflatten(2, (-1, size[0]))
    return lay_out(sampled.to(image.dtype), image)


def _groups(values: Tensor) -> int:
    """Return the number of groups of channels to sample one after the other; only a CPU gains from groups."""
    groups, rest = divmod(values.shape[1], _CHANNELS_PER_GROUP)
    is_large = values.nbytes > len(values) * _LARGEST_UNGROUPED
    return groups if rest == 0 and is_large and values.is_cpu and values.is_contiguous() else 1


def _is_safe(image: Tensor, theta: Tensor, fill: Tensor | None) -> bool:
    """Return whether ``F.grid_sample`` handles these numbers; False where they cannot be inspected.

    It clamps to the last pixel in the image's dtype, in which the last pixel of a long axis may round to the next one.
    The fill is subtracted from the image and added again, so it must have the magnitude of a pixel's value.
    """
    if not has_values(theta) or is_transformed(image, theta):
        return False
    if image.dtype != torch.float64 and max(image.shape[2:]) > _LONGEST_SIDE:
        return False
    return _is_within(_LARGEST_ENTRY, theta) and (fill is None or _is_within(_LARGEST_FILL, fill))


def _is_within(limit: float, numbers: Tensor) -> bool:
    """Return whether no magnitude is larger than the limit, and no number is NaN."""
    numbers = numbers.detach()
    if 0 in numbers.stride():  # One copy of expanded values is enough.
        numbers = numbers[tuple(slice(None if stride else 1) for stride in numbers.stride())]
    smallest, largest = numbers.aminmax()  # Both are NaN if there is one, and comparisons with NaN are false.
    return float(smallest) >= -limit and float(largest) <= limit


def _grid(theta: Tensor, size: tuple[int, int], align_corners: bool, dtype: torch.dtype) -> Tensor:
    """``F.affine_grid`` of all transforms, one below the other: ``(batch, (x, y), [transform *] h, w)``.

    Storing x and y separately takes half the time of storing pairs (x, y). They are computed by elementwise
    operations, which neither autocast nor TF32 affect.
    """
    theta = theta.to(torch.promote_types(theta.dtype, dtype))
    height, width = size
    x = _axis(width, theta, align_corners)
    y = x if height == width else _axis(height, theta, align_corners)
    rows = theta.transpose(1, 2) if theta.ndim == 4 else theta
    a, b, t = rows.split(1, -1)  # each [batch (x, y) [transform] 1]
    grid: Tensor = (a * x).unsqueeze(-2) + torch.addcmul(t, b, y).unsqueeze(-1)
    return (grid.flatten(2, 3) if theta.ndim == 4 else grid).to(dtype)


def _axis(n: int, theta: Tensor, align_corners: bool) -> Tensor:
    """Return the normalized coordinates of an output axis of ``n`` pixels."""
    if n == 1:
        return theta.new_zeros(1)
    end = 1.0 if align_corners else 1 - 1 / n
    return torch.linspace(-end, end, n, dtype=theta.dtype, device=theta.device)


def _grid_sample(values: Tensor, grid: Tensor, sampling: Sampling) -> Tensor:
    """``F.grid_sample``, twice differentiable in older versions of torch too."""
    if _DIFFERENTIATES_TWICE or not (torch.is_grad_enabled() and (values.requires_grad or grid.requires_grad)):
        return F.grid_sample(values, grid, *sampling)
    sampled: Tensor = _GridSample.apply(values, grid, sampling)
    return sampled


class _GridSample(torch.autograd.Function):
    """``F.grid_sample``; its gradients come from the reference where they must be differentiable themselves."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, grid: Tensor, sampling: Sampling) -> Tensor:
        ctx.save_for_backward(values, grid)
        ctx.sampling = sampling
        return F.grid_sample(values, grid, *sampling)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Aliases: the grid may depend on the values; that part of the gradient is added by the caller.
        values, grid = (saved.view_as(saved) for saved in ctx.saved_tensors)
        mode, padding_mode, align_corners = sampling = ctx.sampling
        needed = ctx.needs_input_grad[:2]
        if not torch.is_grad_enabled():
            options = MODES.index(mode), PADDING_MODES.index(padding_mode), align_corners
            found = torch.ops.aten.grid_sampler_2d_backward(grads[0], values, grid, *options, needed)
            return *found, None
        sizes = values.new_tensor((values.shape[3], values.shape[2]))
        pixels = (grid + 1) * ((sizes - 1) / 2) if align_corners else ((grid + 1) * sizes - 1) / 2
        x, y = widen(pixels[:, None]).unbind(-1)
        sampled = sample_at(values, x, y, 0.0, sampling)
        inputs = [tensor for tensor, is_needed in zip((values, grid), needed, strict=True) if is_needed]
        given = iter(torch.autograd.grad(sampled.squeeze(2), inputs, grads[0], create_graph=True, allow_unused=True))
        return *(next(given) if is_needed else None for is_needed in needed), None
