"""The area filter: averages over boxes, from four bilinear samples of a summed-area table.

The sum over a box is a difference of a summed-area table between its corners. Pixels are unit squares, so the table is
bilinear between whole pixels and bilinear sampling of it is exact, for boxes of any size at the same cost.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from supervised_st._sampler.options import ChannelConstants, Sampling
from supervised_st._sampler.reference import pixel_transform
from supervised_st._sampler.tensors import lay_out, normalize

Sampler = Callable[[Tensor, Tensor, ChannelConstants, tuple[int, int], Sampling], Tensor]
"""A backend, such as :func:`supervised_st._sampler.reference.affine_sample_reference`."""

# Limit of a footprint's squared side in pixels, so that areas and their derivatives are finite for every theta.
_LARGEST_SQUARE = 1e36


def affine_sample_antialiased(
    image: Tensor,
    theta: Tensor,
    constants: ChannelConstants,
    size: tuple[int, int],
    sampling: Sampling,
    *,
    sample: Sampler,
) -> Tensor:
    """Average the image over the footprint of each output pixel; arguments and result are those of ``sample``.

    Out-of-bounds pixels count as zero; then the fill is added in proportion to the area of the box out of bounds.
    """
    image = normalize(image, constants.mean, constants.std)
    transforms = theta if theta.ndim == 4 else theta[:, None]
    image_size = (image.shape[2], image.shape[3])
    pixel = pixel_transform(transforms, image_size, size, align_corners=sampling.align_corners)
    corners, areas = footprints(pixel, image_size, size)
    of_table = Sampling("bilinear", "border", align_corners=False)
    sums = sample(summed_area_table(image), corners.flatten(1, 2), ChannelConstants(), size, of_table)
    upper_left, upper_right, lower_left, lower_right = sums.view(*transforms.shape[:2], 4, *sums.shape[2:]).unbind(2)
    averages = ((lower_right - lower_left) - (upper_right - upper_left)) / areas[..., None, None, None]
    if constants.fill is not None:
        fraction = out_of_bounds_fraction(pixel, image_size, size)[:, :, None]
        # Boxes inside the image ignore the fill, even if it is infinite.
        averages = averages + torch.where(fraction > 0, fraction * constants.fill.double()[:, None, None], 0.0)
    sampled = lay_out(averages.to(image.dtype).transpose(1, 2), image)
    return sampled if theta.ndim == 4 else sampled.squeeze(1)


def summed_area_table(image: Tensor) -> Tensor:
    """Return sums of the pixels above and to the left: ``(batch, channel, H + 1, W + 1)``, float64."""
    sums = F.pad(image.double(), (1, 0, 1, 0))
    for axis in (2, 3):
        sums = sums.cumsum(axis) if sums.is_cpu else _cumulative_sum(sums, axis)
    return sums


def _cumulative_sum(values: Tensor, axis: int) -> Tensor:
    """Like ``torch.cumsum``, but with the same order of summation on every device and in every run."""
    length, step = values.shape[axis], 1
    while step < length:
        later = values.narrow(axis, step, length - step) + values.narrow(axis, 0, length - step)
        values = torch.cat((values.narrow(axis, 0, step), later), axis)
        step *= 2
    return values


def footprints(pixel: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return transforms that sample the table at the corners of every footprint, and the footprints' areas.

    The transforms are ``(batch, transform, 4, 2, 3)``, with ``align_corners=False``, for the corners upper left, upper
    right, lower left, lower right. The areas are ``(batch, transform)``, in square pixels.
    """
    h, w = size
    slopes, ends, sides = [], [], []
    for row, length in zip(pixel.unbind(-2), reversed(image_size), strict=True):
        a, b, t = row.unbind(-1)
        side = _side(a, b)
        # Pixel c of the image covers c to c + 1 in the table, which has one pixel more.
        center = t + a * ((w - 1) / 2) + b * ((h - 1) / 2) - (length - 1) / 2
        ends.append([(2 * center + sign * side) / (length + 1) for sign in (-1, 1)])
        slopes.append(torch.stack((a * w, b * h), dim=-1) / (length + 1))
        sides.append(side)
    (left, right), (top, bottom) = ends
    across = torch.stack((left, right, left, right), dim=-1)
    down = torch.stack((top, top, bottom, bottom), dim=-1)
    corners = torch.stack((across, down), dim=-1)[..., None]
    linear = torch.stack(slopes, dim=-2)[..., None, :, :].expand(*corners.shape[:-1], 2)
    return torch.cat((linear, corners), dim=-1), sides[0] * sides[1]


def out_of_bounds_fraction(pixel: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the fraction of each footprint that is out of bounds: exactly 0 where all of it is in bounds.

    It is ``(batch, transform, h, w)``, float64, in ``[0, 1]``, and NaN where a coordinate is.
    """
    rows, columns = (torch.arange(n, dtype=torch.float64, device=pixel.device) for n in size)
    fractions = []
    for row, length in zip(pixel.unbind(-2), reversed(image_size), strict=True):
        a, b, t = row[..., None, None].unbind(-3)
        side, center = _side(a, b), a * columns + b * rows[:, None] + t
        low, high = center - side / 2 + 0.5, center + side / 2 + 0.5
        out = (-low).clamp(min=0) + (high - length).clamp(min=0)
        fractions.append(torch.minimum(out, side) / side)
    x, y = fractions
    return x + y - x * y


def _side(a: Tensor, b: Tensor) -> Tensor:
    """Return a footprint's side. Without minification it is one pixel and does not depend on theta."""
    square = a.square() + b.square()
    return torch.where(square > 1, square, 1.0).clamp(max=_LARGEST_SQUARE).sqrt()
