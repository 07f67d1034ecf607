"""The definition of affine sampling in plain torch; every other backend is tested against it.

An output pixel (column, row) reads the image at the pixel coordinates that :func:`pixel_transform` gives it.
Coordinates are float64 for all dtypes, except on devices that have none; values are blended in float32 (float64 for
float64 images) and rounded once.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from supervised_st._checks import LONGEST_SIDE
from supervised_st._precision import widen
from supervised_st._sampler.options import ChannelConstants, Sampling
from supervised_st._sampler.tensors import lay_out, normalize

FAR = float(LONGEST_SIDE)  # coordinates are clamped to it before they become integers; out of bounds in every image
CUBIC = -0.75  # the cubic convolution's free parameter, as in ``F.grid_sample`` and OpenCV
Taps = list[tuple[Tensor, Tensor]]  # along one axis: whole pixels and their weights


def pixel_transform(
    theta: Tensor, image_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool
) -> Tensor:
    """Turn theta into pixel units: ``x = m[0] * column + m[1] * row + m[2]``, and ``y`` by the second row.

    Theta and the result are ``[... 2 3]``, the result in float64 if the device has it. A row within rounding distance
    (of theta's dtype) of a whole-pixel transform is replaced by it. So the identity, whole-pixel shifts and whole-pixel
    crops return the bits of the image, although theta rarely holds them exactly.
    """
    h, w = size
    rounding = torch.finfo(theta.dtype if theta.dtype == torch.float64 else torch.float32).eps
    rows = []
    for row, length in zip(widen(theta).unbind(-2), reversed(image_size), strict=True):
        span = length - 1 if align_corners else length
        a, b, t = row.unbind(-1)
        ma, mb = (_per_output_pixel(c * span, n, align_corners) for c, n in ((a, w), (b, h)))
        # Theta is relative to the centers of both images, the result to their first pixels.
        exact = torch.stack((ma, mb, (length - 1) / 2 + t * (span / 2) - ma * ((w - 1) / 2) - mb * ((h - 1) / 2)), -1)
        # Detached, because torch.export cannot save a region without gradients that reads a dynamic size.
        reach = (row.detach().abs().sum(-1) + 1) * (span / 2)
        slack = rounding * torch.stack((ma.detach().abs(), mb.detach().abs(), reach), dim=-1)
        to_whole = (exact.detach() + 0.5).floor() - exact.detach()
        snaps = (to_whole.abs() <= slack).all(-1, keepdim=True)
        rows.append(exact + torch.where(snaps, to_whole, 0.0))
    return torch.stack(rows, dim=-2)


def _per_output_pixel(distance: Tensor, n: int, align_corners: bool) -> Tensor:
    """Divide the length of an output axis by its ``n`` pixels; 0 for a one-pixel axis with ``align_corners``.

    All constants are whole numbers or halves, because some graph formats hold constants in float32.
    """
    if align_corners:
        return distance / (n - 1) if n > 1 else distance * 0
    return distance / n


def affine_sample_reference(
    image: Tensor, theta: Tensor, constants: ChannelConstants, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample as :func:`supervised_st.affine_sample`; differentiable any number of times, also in forward mode."""
    image = normalize(image, constants.mean, constants.std)
    values = image.to(torch.float64 if image.dtype == torch.float64 else torch.float32)
    fill = 0.0 if constants.fill is None else constants.fill.to(values.dtype)[:, None, None, None]
    transforms = theta if theta.ndim == 4 else theta[:, None]
    image_size = image.shape[2], image.shape[3]
    pixel = pixel_transform(transforms, image_size, size, align_corners=sampling.align_corners)
    rows, columns = (torch.arange(n, dtype=pixel.dtype, device=image.device) for n in size)
    x, y = (
        (m[..., 0, None, None] * columns + m[..., 1, None, None] * rows[:, None] + m[..., 2, None, None])
        for m in pixel.unbind(-2)
    )
    sampled = sample_at(values, x, y, fill, sampling)
    return lay_out((sampled if theta.ndim == 4 else sampled.squeeze(2)).to(image.dtype), image)


def sample_at(values: Tensor, x: Tensor, y: Tensor, fill: Tensor | float, sampling: Sampling) -> Tensor:
    """Sample ``[batch channel H W]`` at pixels ``[batch transform h w]``: ``(batch, channel, transform, h, w)``."""
    undefined = x.isnan() | y.isnan()
    near_x, near_y = (torch.where(undefined, 0.0, c).clamp(-FAR, FAR) for c in (x, y))
    pad_x, pad_y = (partial(_pad, length=length, sampling=sampling) for length in (values.shape[3], values.shape[2]))
    if sampling.mode == "nearest":
        sampled = _tap(values, pad_x(near_x).round(), pad_y(near_y).round(), fill)
    else:
        taps = _cubic_taps if sampling.mode == "bicubic" else _linear_taps
        sampled = _blend(values, taps(near_x, pad_x, values.dtype), taps(near_y, pad_y, values.dtype), fill)
    # The factor puts the NaN into theta's gradient, and into no other pixel's, not even on the way.
    nan = (x + y) * torch.where(undefined, float("nan"), 1.0)
    return torch.where(undefined[:, None], nan.to(values.dtype)[:, None], sampled)


def _linear_taps(c: Tensor, pad: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Taps:
    c = pad(c)
    first = c.detach().floor()
    weight = (c - first).to(dtype)
    return [(first, 1 - weight), (first + 1, weight)]


def _cubic_taps(c: Tensor, pad: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Taps:
    """Keys' cubic convolution. The taps are padded one by one, so the coordinate keeps its slope everywhere."""
    first = c.detach().floor()
    f = c - first
    weights = (_cubic_far(f + 1), _cubic_near(f), _cubic_near(1 - f), _cubic_far(2 - f))
    return [(pad(first + offset), weight.to(dtype)) for offset, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def _cubic_near(d: Tensor) -> Tensor:
    return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1


def _cubic_far(d: Tensor) -> Tensor:
    return (((d - 5) * d + 8) * d - 4) * CUBIC


def _pad(c: Tensor, *, length: int, sampling: Sampling) -> Tensor:
    """Bring a coordinate into the image as the padding says; its slope is 0 on and beyond the border, as in ATen."""
    if sampling.padding_mode in ("zeros", "fill"):
        return c
    if sampling.padding_mode == "reflection":
        low, span = (0.0, length - 1) if sampling.align_corners else (-0.5, length)
        c = _reflect(c, low, span) if span > 0 else torch.zeros_like(c)
    return torch.where((c > 0) & (c < length - 1), c, c.detach().clamp(0, length - 1))


def _reflect(c: Tensor, low: float, span: int) -> Tensor:
    """Mirror a coordinate at ``low`` and ``low + span`` until it lies between them."""
    distance = (c - low).abs()
    turns = (distance.detach() / span).floor()
    rest = distance - turns * span
    return low + torch.where(turns % 2 == 0, rest, span - rest)


def _blend(values: Tensor, in_x: Taps, in_y: Taps, fill: Tensor | float) -> Tensor:
    """Weighted sum of the taps; zero-weight taps are skipped so that inf and NaN pixels do not leak in."""

    def term(x: Tensor, wx: Tensor, y: Tensor, wy: Tensor) -> Tensor:
        value = _tap(values, x, y, fill)
        weightless = ((wx == 0) | (wy == 0))[:, None]
        return torch.where(weightless & ~value.isfinite(), 0.0, value) * wx[:, None]

    return _total([_total([term(x, wx, y, wy) for x, wx in in_x]) * wy[:, None] for y, wy in in_y])


def _total(terms: list[Tensor]) -> Tensor:
    return sum(terms[1:], terms[0])


def _tap(values: Tensor, x: Tensor, y: Tensor, fill: Tensor | float) -> Tensor:
    """Read whole-pixel positions ``[batch transform h w]`` as ``(batch, channel, transform, h, w)``."""
    height, width = values.shape[2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = torch.where(inside, y.long() * width + x.long(), 0)
    flat = index.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    read = values.flatten(2).gather(2, flat).view(*values.shape[:2], *x.shape[1:])
    return torch.where(inside[:, None], read, fill)
