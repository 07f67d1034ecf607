"""The area filter: averages over boxes, from four bilinear samples of a summed-area table.

The sum over a box is a difference of a summed-area table between its corners. Pixels are unit squares, so the table is
bilinear between whole pixels and bilinear sampling of it is exact, for boxes of any size at the same cost.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from supervised_st._sampler.options import ChannelConstants, Sampler, Sampling
from supervised_st._sampler.reference import pixel_transform
from supervised_st._sampler.tensors import has_values, is_transformed, lay_out, normalize

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
    transforms = theta if theta.ndim == 4 else theta[:, None]
    image_size = (image.shape[2], image.shape[3])
    pixel = pixel_transform(transforms, image_size, size, align_corners=sampling.align_corners)
    is_known = _is_known(image, pixel)
    part, in_part = parts_in_reach(image, pixel, size) if is_known else (image, pixel)
    part = normalize(part, constants.mean, constants.std)
    if is_known and not (pixel[..., :2].square().sum(-1) > 1).any():
        # All footprints are one pixel large: averages over them are bilinear.
        bilinear = Sampling("bilinear", "zeros", align_corners=False)
        centers = to_theta(in_part, (part.shape[2], part.shape[3]), size)
        averages = sample(part.double(), centers, ChannelConstants(), size, bilinear)
    else:
        averages = box_averages(part, in_part, size, sample)
    if constants.fill is not None:
        fraction = out_of_bounds_fraction(pixel, image_size, size)[:, :, None]
        # Boxes inside the image ignore the fill, even if it is infinite.
        averages = averages + torch.where(fraction > 0, fraction * constants.fill.double()[:, None, None], 0.0)
    sampled = lay_out(averages.to(part.dtype).transpose(1, 2), image)
    return sampled if theta.ndim == 4 else sampled.squeeze(1)


def _is_known(image: Tensor, pixel: Tensor) -> bool:
    """Return whether shapes may depend on theta: not on a GPU, which would have to be waited for, nor in a graph."""
    is_plain = image.is_cpu and has_values(pixel) and not is_transformed(image, pixel)
    return is_plain and image.numel() > 0 and pixel.numel() > 0


def parts_in_reach(image: Tensor, pixel: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the part of each image that its footprints reach, all of one size, and the transforms relative to it."""
    h, w = size
    starts, lengths = [], []
    for row, length in zip(pixel.detach().unbind(-2), reversed(image.shape[2:]), strict=True):
        a, b, t = row.unbind(-1)
        center = t + a * ((w - 1) / 2) + b * ((h - 1) / 2) + 0.5
        reach = a.abs() * ((w - 1) / 2) + b.abs() * ((h - 1) / 2) + _side(a, b) / 2
        # One pixel more on each side, so that no derivative at the edge of a footprint is lost.
        start = (center - reach).floor().sub(1).nan_to_num(0.0).amin(1).clamp(0, length - 1)
        stop = (center + reach).ceil().add(1).nan_to_num(float(length)).amax(1).clamp(1, length)
        lengths.append(int((stop - start).max()))
        starts.append(start.clamp(max=length - lengths[-1]))
    width, height = lengths
    if (height, width) == image.shape[2:]:
        return image, pixel
    places = zip(image.unbind(), *(start.long().tolist() for start in starts), strict=True)
    parts = torch.stack([one[:, y : y + height, x : x + width] for one, x, y in places])
    return parts, pixel - F.pad(torch.stack(starts, dim=-1)[:, None, :, None], (2, 0))


def box_averages(image: Tensor, pixel: Tensor, size: tuple[int, int], sample: Sampler) -> Tensor:
    """Return the averages over all footprints, ``(batch, transform, channel, h, w)``, float64."""
    corners, areas = footprints(pixel, (image.shape[2], image.shape[3]), size)
    of_table = Sampling("bilinear", "border", align_corners=False)
    sums = sample(summed_area_table(image), corners.flatten(1, 2), ChannelConstants(), size, of_table)
    upper_left, upper_right, lower_left, lower_right = sums.view(*pixel.shape[:2], 4, *sums.shape[2:]).unbind(2)
    averages: Tensor = ((lower_right - lower_left) - (upper_right - upper_left)) / areas[..., None, None, None]
    return averages


def summed_area_table(image: Tensor) -> Tensor:
    """Return sums of the pixels above and to the left: ``(batch, channel, H + 1, W + 1)``, float64."""
    sums = F.pad(image, (1, 0, 1, 0)).double()
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
    x_side, y_side = (_side(a, b) for a, b, _ in (row.unbind(-1) for row in pixel.unbind(-2)))
    # Pixel c of the image covers c to c + 1 in the table, which has one pixel more.
    left, right, top, bottom = (0.5 + sign * side for side in (x_side, y_side) for sign in (-0.5, 0.5))
    across = torch.stack((left, right, left, right), dim=-1)
    down = torch.stack((top, top, bottom, bottom), dim=-1)
    shifts = F.pad(torch.stack((across, down), dim=-1)[..., None], (2, 0))
    table_size = (image_size[0] + 1, image_size[1] + 1)
    return to_theta(pixel[..., None, :, :] + shifts, table_size, size), x_side * y_side


def to_theta(pixel: Tensor, image_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the theta ``[... 2 3]`` of transforms in pixels, with ``align_corners=False``."""
    h, w = size
    rows = []
    for row, length in zip(pixel.unbind(-2), reversed(image_size), strict=True):
        a, b, t = row.unbind(-1)
        center = t + a * ((w - 1) / 2) + b * ((h - 1) / 2) - (length - 1) / 2
        rows.append(torch.stack((a * w, b * h, 2 * center), dim=-1) / length)
    return torch.stack(rows, dim=-2)


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
