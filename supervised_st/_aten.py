"""``F.grid_sample`` behind guards: what ``affine_sample`` does on a CPU.

On a CPU ``F.grid_sample`` reads and writes foreign memory for half-precision images above 32,768 pixels and for
coordinates that are not finite (https://github.com/pytorch/pytorch/issues/24823), so neither ever reaches it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from supervised_st._reference import (
    MODES,
    PADDING_MODES,
    affine_sample_reference,
    differentiable_gradients,
    is_transformed,
    lay_out,
)

_LARGEST_ENTRY = 256.0
"""Maps with larger entries, which may reach 768 half image sizes, are not for ``F.grid_sample``."""

_LONGEST_SIDE = 2**24
"""Pixels. Longer axes have positions that float32 does not hold."""

_LARGEST_FILL = 256.0
"""Larger fill values would cost the image digits on the way through ``F.grid_sample``."""

_GROUP, _LARGEST_WHOLE = 16, 2**19
"""Channels that are sampled together of images, in planes, of more bytes: ``F.grid_sample`` goes through all channels
pixel by pixel, and what it reads and writes on the way has to stay in the cache. Measured; results do not depend on it
but for the order in which theta's gradient is summed up over channels."""


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

    What ``F.grid_sample`` cannot be trusted with, and second derivatives, go to the reference. Of the tensors, only
    image, theta and fill are kept for the backward pass: the grid is made again, which is cheap.
    """
    if not (image.numel() and theta.numel() and _is_tame(image, theta, fill)):
        return affine_sample_reference(
            image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )
    options = size, mode, padding_mode, align_corners
    if torch.is_grad_enabled() and (image.requires_grad or theta.requires_grad):
        sampled: Tensor = _GridSample.apply(image, theta, fill, options)
        return sampled
    return _sample(image, theta, fill, *options)


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


def _sample(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    size: tuple[int, int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    values, grid = _operands(image, theta, fill, size, align_corners)
    padding_mode = "zeros" if padding_mode == "fill" else padding_mode
    sampled = F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
    if len(values) > len(image):
        sampled = sampled.view(*image.shape[:2], *sampled.shape[2:])
    if fill is not None:
        sampled += fill[:, None, None]
    if theta.ndim == 4:
        sampled = sampled.unflatten(2, (-1, size[0]))
    return lay_out(sampled.to(image.dtype), image)


def _operands(
    image: Tensor, theta: Tensor, fill: Tensor | None, size: tuple[int, int], align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return what `F.grid_sample` is called with: ``[batch * group channel H W]`` and a grid for each of them.

    Halves are widened, and the fill is made zero, which is then what is outside.
    """
    values = image.to(torch.promote_types(image.dtype, torch.float32))
    if fill is not None:
        values = values - fill[:, None, None]
    grid = _grid(theta, size, align_corners, values.dtype)
    groups, rest = divmod(values.shape[1], _GROUP)
    if rest == 0 and groups > 1 and values[0].nbytes > _LARGEST_WHOLE and values.is_contiguous():
        values, grid = values.view(-1, _GROUP, *values.shape[2:]), grid.repeat_interleave(groups, 0)
    return values, grid


def _grid(theta: Tensor, size: tuple[int, int], align_corners: bool, dtype: torch.dtype) -> Tensor:
    """What ``F.affine_grid`` makes for each of the maps, one below the other: ``(batch, [map *] h, w, 2)``.

    It lies in memory as a plane of x and a plane of y, which takes half the time to make and to read, and is summed up
    per axis, in which neither autocast nor TF32 take part.
    """
    theta = theta.to(torch.promote_types(theta.dtype, dtype))
    x, y = _axes(theta, size, align_corners)
    rows = theta.transpose(1, 2) if theta.ndim == 4 else theta
    a, b, t = rows.unsqueeze(-1).unsqueeze(-1).unbind(-3)  # each [batch (x, y) [map] 1 1]
    planes = a * x + torch.addcmul(t, b, y.unsqueeze(1))
    return (planes.flatten(2, 3) if theta.ndim == 4 else planes).permute(0, 2, 3, 1).to(dtype)


def _axes(theta: Tensor, size: tuple[int, int], align_corners: bool) -> tuple[Tensor, Tensor]:
    """Return the normalised coordinates of the output's columns and of its rows."""
    height, width = size
    x = _axis(width, theta, align_corners)
    return x, x if height == width else _axis(height, theta, align_corners)


def _axis(n: int, theta: Tensor, align_corners: bool) -> Tensor:
    if n == 1:
        return theta.new_zeros(1)
    end = 1.0 if align_corners else 1 - 1 / n
    return torch.linspace(-end, end, n, dtype=theta.dtype, device=theta.device)


class _GridSample(torch.autograd.Function):
    """Differentiable in image and theta; it has no ``jvp``, so forward mode raises instead of returning zeros."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, theta: Tensor, fill: Tensor | None, options: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(image, theta, fill)
        ctx.options = options
        return _sample(image, theta, fill, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        image, theta, fill = ctx.saved_tensors
        size, mode, padding_mode, align_corners = ctx.options
        wants = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # create_graph=True
            found = differentiable_gradients(
                grad, image, theta, fill, size, wants,
                mode=mode, padding_mode=padding_mode, align_corners=align_corners,
            )  # fmt: skip
            return *found, None, None
        values, grid = _operands(image, theta, fill, size, align_corners)
        grad = grad.transpose(1, -3).flatten(2, -2).to(values.dtype)  # [batch channel [map *] h w]
        if len(values) > len(image):
            grad = grad.reshape(-1, _GROUP, *grad.shape[2:])
        padding = PADDING_MODES.index("zeros" if padding_mode == "fill" else padding_mode)
        grad_values, grad_grid = torch.ops.aten.grid_sampler_2d_backward(
            grad, values, grid, MODES.index(mode), padding, align_corners, wants
        )
        grad_image = grad_values.view(image.shape).to(image.dtype) if wants[0] else None
        return grad_image, _theta_gradient(grad_grid, theta, size, align_corners) if wants[1] else None, None, None


def _theta_gradient(grad_grid: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Gather what `_grid` spreads."""
    x, y = _axes(theta, size, align_corners)
    if len(grad_grid) > len(theta):
        grad_grid = grad_grid.unflatten(0, (len(theta), -1)).sum(1)
    planes = grad_grid.permute(0, 3, 1, 2).unflatten(2, (-1, size[0]))  # [batch (x, y) map h w]
    per_row, per_column = planes.sum(-1, dtype=theta.dtype), planes.sum(-2, dtype=theta.dtype)
    sums = torch.stack(((per_column * x).sum(-1), (per_row * y).sum(-1), per_row.sum(-1)), -1)
    return sums.transpose(1, 2).reshape(theta.shape)
