"""The definition of affine sampling in plain torch; every other backend is judged by it.

An output pixel (column, row) reads the image at the pixel coordinates that :func:`pixel_map` gives it. Coordinates
are float64 whatever the dtypes; values are blended in float32 (float64 for float64 images) and rounded once.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd import forward_ad

from supervised_st._checks import FLOATING, LONGEST_SIDE

MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection", "fill")
IMAGE_DTYPES = (*FLOATING, torch.uint8)

FAR = float(LONGEST_SIDE)
"""Pixels. Coordinates are clamped to this before they become integers; it lies outside of every image."""

CUBIC = -0.75
"""The cubic convolution's free parameter, as in ``F.grid_sample`` and OpenCV."""


def pixel_map(theta: Tensor, image_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Turn theta into pixel units: ``x = m[0] * column + m[1] * row + m[2]``, and ``y`` by the second row.

    A row that lies within the rounding of theta's own dtype of a whole-pixel map *is* that map, so that identity,
    whole-pixel shifts and whole-pixel crops return the bits of the image although theta can rarely hold them exactly.

    Args:
        theta: ``[... 2 3]``, output to input, normalized.
        image_size: ``(H, W)`` of the image.
        size: ``(h, w)`` of the output.
        align_corners: the convention of both sizes.

    Returns:
        ``[... 2 3]``, float64.
    """
    h, w = size
    rounding = torch.finfo(theta.dtype if theta.dtype == torch.float64 else torch.float32).eps
    rows = []
    for row, length in zip(theta.double().unbind(-2), reversed(image_size), strict=True):
        span = length - 1 if align_corners else length
        a, b, t = row.unbind(-1)
        ma, mb = (_per_output_pixel(c * span, n, align_corners) for c, n in ((a, w), (b, h)))
        # Theta speaks of the middles of both images, a pixel map of the first pixel.
        exact = torch.stack((ma, mb, (length - 1) / 2 + t * (span / 2) - ma * ((w - 1) / 2) - mb * ((h - 1) / 2)), -1)
        with torch.no_grad():
            whole = (exact + 0.5).floor()
            reach = (row.abs().sum(-1) + 1) * (span / 2)
            slack = rounding * torch.stack((ma.abs(), mb.abs(), reach), dim=-1)
            snaps = ((whole - exact).abs() <= slack).all(-1, keepdim=True)
            correction = torch.where(snaps, whole - exact, 0.0)
        rows.append(exact + correction)
    return torch.stack(rows, dim=-2)


def _per_output_pixel(distance: Tensor, n: int, align_corners: bool) -> Tensor:
    """Share out what lies between the ends of an output axis of ``n`` pixels; one whose center is both its ends has 0.

    All constants are whole numbers or halves, because some graph formats hold constants in float32.
    """
    if align_corners:
        return distance / (n - 1) if n > 1 else distance * 0
    return distance / n


def normalize(image: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Return bytes as float32, less ``mean`` and over ``std`` ``[channel]``; other images as they are."""
    if image.dtype != torch.uint8:
        return image
    values = image.float()
    if mean is None or std is None:
        return values
    mean, std = mean[:, None, None], std[:, None, None]
    if torch._C._are_functorch_transforms_active():  # Constants of a batch cannot be written into an image of none.
        return (values - mean) / std
    return values.sub_(mean).div_(std)  # In place, which takes less than half of the time.


def affine_sample_reference(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    size: tuple[int, int],
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample ``image`` ``[batch channel H W]`` by ``theta`` ``[batch [map] 2 3]``; ``fill`` ``[channel]`` is outside.

    Differentiable in both inputs as often as wanted, in reverse and in forward mode. See
    :func:`supervised_st.affine_sample` for the contract.

    Returns:
        ``(batch, [map,] channel, h, w)``, laid out as :func:`lay_out` says.
    """
    values = image.to(torch.float64 if image.dtype == torch.float64 else torch.float32)
    outside = 0.0 if fill is None else fill.to(values.dtype)[:, None, None, None]
    maps = theta if theta.ndim == 4 else theta[:, None]
    pixel = pixel_map(maps, (image.shape[2], image.shape[3]), size, align_corners=align_corners)
    rows, columns = (torch.arange(n, dtype=torch.float64, device=image.device) for n in size)
    x, y = (
        (m[..., 0, None, None] * columns + m[..., 1, None, None] * rows[:, None] + m[..., 2, None, None])
        for m in pixel.unbind(-2)
    )
    sampled = sample_at(values, x, y, outside, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
    return lay_out((sampled if theta.ndim == 4 else sampled.squeeze(2)).to(image.dtype), image)


def is_transformed(*tensors: Tensor) -> bool:
    """Tell whether a ``torch.func`` transform or forward-mode differentiation, which only this module has, is on."""
    return torch._C._are_functorch_transforms_active() or any(has_tangent(tensor) for tensor in tensors)


def has_tangent(tensor: Tensor) -> bool:
    """Tell whether forward-mode differentiation is under way that goes through this tensor."""
    # Outside of all levels there are no tangents, and looking for them would take longer.
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def wants_derivative(tensor: Tensor) -> bool:
    """Tell whether something is to be differentiated with respect to this tensor, in either direction."""
    return (torch.is_grad_enabled() and tensor.requires_grad) or has_tangent(tensor)


def sample_at(
    values: Tensor,
    x: Tensor,
    y: Tensor,
    outside: Tensor | float,
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample ``values`` ``[batch channel H W]`` at pixel coordinates ``x`` and ``y`` ``[batch map h w]``.

    Returns:
        ``(batch, channel, map, h, w)``.
    """
    undefined = x.isnan() | y.isnan()
    near_x, near_y = (torch.where(undefined, 0.0, c).clamp(-FAR, FAR) for c in (x, y))
    pad_x, pad_y = (
        partial(_pad, length=length, padding_mode=padding_mode, align_corners=align_corners)
        for length in (values.shape[3], values.shape[2])
    )
    if mode == "nearest":
        sampled = _tap(values, pad_x(near_x).round(), pad_y(near_y).round(), outside)
    else:
        taps = _cubic_taps if mode == "bicubic" else _linear_taps
        sampled = _blend(values, taps(near_x, pad_x, values.dtype), taps(near_y, pad_y, values.dtype), outside)
    # The NaN is carried by x + y so that it reaches theta's gradient; the inner `where` keeps it from other pixels.
    nan = torch.where(undefined, x + y, 0.0).to(values.dtype)[:, None] * float("nan")
    return torch.where(undefined[:, None], nan, sampled)


def lay_out(sampled: Tensor, image: Tensor) -> Tensor:
    """Turn ``[batch channel [map] h w]`` into ``[batch [map] channel h w]``, in memory as the image is.

    Channels are innermost where they are in the image, and packed planes otherwise.
    """
    if is_channels_last(image):
        return sampled.movedim(1, -1).contiguous().movedim(-1, -3)
    return (sampled.transpose(1, 2) if sampled.ndim == 5 else sampled).contiguous()


def is_channels_last(image: Tensor) -> bool:
    """Tell whether channels are innermost in memory: in ``torch.channels_last``, and in what is cut out of it.

    Batches made by ``torch.func.vmap`` do not tell how they lie in memory, so what is sampled from them is planes.
    """
    if torch._C._are_functorch_transforms_active() or image.is_contiguous():
        return False
    _, channels, height, width = image.shape
    return channels > 1 and height * width > 1 and image.stride(1) == 1


Taps = list[tuple[Tensor, Tensor]]
"""Along one axis: whole pixels and their weights."""


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


def _pad(c: Tensor, *, length: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Bring a coordinate into the image as the padding says; its slope is 0 on and beyond the border, as in ATen."""
    if padding_mode in ("zeros", "fill"):
        return c
    if padding_mode == "reflection":
        low, span = (0.0, length - 1.0) if align_corners else (-0.5, float(length))
        c = _fold(c, low, span) if span > 0 else torch.zeros_like(c)
    return torch.where((c > 0) & (c < length - 1), c, c.detach().clamp(0, length - 1))


def _fold(c: Tensor, low: float, span: float) -> Tensor:
    """Mirror a coordinate at ``low`` and ``low + span`` until it lies between them."""
    distance = (c - low).abs()
    with torch.no_grad():
        turns = (distance / span).floor()
    rest = distance - turns * span
    return low + torch.where(turns % 2 == 0, rest, span - rest)


def _blend(values: Tensor, in_x: Taps, in_y: Taps, outside: Tensor | float) -> Tensor:
    """Weigh the taps; one without weight does not count even where the image is infinite or NaN."""

    def term(x: Tensor, wx: Tensor, y: Tensor, wy: Tensor) -> Tensor:
        value = _tap(values, x, y, outside)
        weightless = ((wx == 0) | (wy == 0))[:, None]
        return torch.where(weightless & ~value.isfinite(), 0.0, value) * wx[:, None]

    return _total([_total([term(x, wx, y, wy) for x, wx in in_x]) * wy[:, None] for y, wy in in_y])


def _total(terms: list[Tensor]) -> Tensor:
    return sum(terms[1:], terms[0])


def _tap(values: Tensor, x: Tensor, y: Tensor, outside: Tensor | float) -> Tensor:
    """Read whole-pixel positions ``[batch map h w]`` as ``[batch channel map h w]``; outside stands ``outside``."""
    height, width = values.shape[2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = torch.where(inside, y * width + x, 0.0).long()
    flat = index.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    read = values.flatten(2).gather(2, flat).view(*values.shape[:2], *x.shape[1:])
    return torch.where(inside[:, None], read, outside)
