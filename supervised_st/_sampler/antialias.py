"""The area filter as four readings of a table of sums: what is read, and where.

The sum over a box is a difference of a summed-area table between its corners. The table of an image of unit squares is
bilinear between whole pixels, so that bilinear sampling of the table is exact, for boxes of any size at the same cost.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_LARGEST_SQUARE = 1e36
"""Of a footprint's side in pixels, so that areas and their derivatives are numbers whatever theta is."""


def summed_area_table(image: Tensor) -> Tensor:
    """``[batch channel H W]`` to ``(batch, channel, H + 1, W + 1)`` float64: sums of all pixels before."""
    sums = F.pad(image.double(), (1, 0, 1, 0))
    for axis in (2, 3):
        sums = sums.cumsum(axis) if sums.is_cpu else _scan(sums, axis)
    return sums


def _scan(values: Tensor, axis: int) -> Tensor:
    """A running sum whose order is fixed, which that of ``torch.cumsum`` is not on every device."""
    length, step = values.shape[axis], 1
    while step < length:
        later = values.narrow(axis, step, length - step) + values.narrow(axis, 0, length - step)
        values = torch.cat((values.narrow(axis, 0, step), later), axis)
        step *= 2
    return values


def footprints(pixel: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Say where the footprints of output pixels have their corners, and how large they are.

    Args:
        pixel: ``[batch map 2 3]``, output to input, in the pixel units of `pixel_map`.
        image_size: ``(H, W)`` of the image.
        size: ``(h, w)`` of the output.

    Returns:
        Maps ``(batch, map, 4, 2, 3)`` into the :func:`summed_area_table`, whose convention is ``align_corners=False``,
        for the corners upper left, upper right, lower left, lower right; and the areas ``(batch, map)`` in pixels.
    """
    h, w = size
    slopes, lows, highs, sides = [], [], [], []
    for row, length in zip(pixel.unbind(-2), reversed(image_size), strict=True):
        a, b, t = row.unbind(-1)
        side = _side(a, b)
        # Pixel c of the image covers c to c + 1 in the table, which has one pixel more.
        center = t + a * ((w - 1) / 2) + b * ((h - 1) / 2) - (length - 1) / 2
        low, high = ((2 * center + sign * side) / (length + 1) for sign in (-1, 1))
        slopes.append(torch.stack((a * w, b * h), dim=-1) / (length + 1))
        lows.append(low)
        highs.append(high)
        sides.append(side)
    (left, top), (right, bottom) = lows, highs
    across = torch.stack((left, right, left, right), dim=-1)
    down = torch.stack((top, top, bottom, bottom), dim=-1)
    corners = torch.stack((across, down), dim=-1)[..., None]
    linear = torch.stack(slopes, dim=-2)[..., None, :, :].expand(*corners.shape[:-1], 2)
    return torch.cat((linear, corners), dim=-1), sides[0] * sides[1]


def outside_share(pixel: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """How much of each footprint lies outside of the image: exactly 0 where nothing does.

    Args:
        pixel: ``[batch map 2 3]``, output to input, in the pixel units of `pixel_map`.
        image_size: ``(H, W)`` of the image.
        size: ``(h, w)`` of the output.

    Returns:
        ``(batch, map, h, w)``, float64, in ``[0, 1]``; NaN where a coordinate is.
    """
    rows, columns = (torch.arange(n, dtype=torch.float64, device=pixel.device) for n in size)
    beyond_axis = []
    for row, length in zip(pixel.unbind(-2), reversed(image_size), strict=True):
        a, b, t = row[..., None, None].unbind(-3)
        side, center = _side(a, b), a * columns + b * rows[:, None] + t
        low, high = center - side / 2 + 0.5, center + side / 2 + 0.5
        beyond = (-low).clamp(min=0) + (high - length).clamp(min=0)
        beyond_axis.append(torch.minimum(beyond, side) / side)
    x, y = beyond_axis
    return x + y - x * y


def _side(a: Tensor, b: Tensor) -> Tensor:
    """A footprint's side; at one pixel or less nothing is minified, and the box no longer follows theta."""
    square = a.square() + b.square()
    return torch.where(square > 1, square, 1.0).clamp(max=_LARGEST_SQUARE).sqrt()
