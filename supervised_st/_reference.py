"""The definition of affine sampling in plain torch; every other backend is judged by it.

An output pixel (column, row) reads the image at the pixel coordinates that :func:`pixel_map` gives it. Coordinates
are float64 whatever the dtypes; values are blended in float32 (float64 for float64 images) and rounded once.
"""

import torch
from torch import Tensor

FAR = 2.0**30
"""Pixels. Coordinates are clamped to this before they become integers; it lies outside of every image."""


def axis_steps(length: int, *, align_corners: bool) -> tuple[float, float]:
    """Return ``(step, first)``: output pixel ``i`` of an axis has the normalised coordinate ``first + step * i``."""
    if not align_corners:
        return 2 / length, 1 / length - 1
    return (2 / (length - 1), -1.0) if length > 1 else (0.0, 0.0)


def axis_scale(length: int, *, align_corners: bool) -> tuple[float, float]:
    """Return ``(half, middle)``: normalised coordinate ``c`` of an input axis is the pixel ``half * c + middle``."""
    return ((length - 1) / 2 if align_corners else length / 2), (length - 1) / 2


def pixel_map(theta: Tensor, image_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Turn theta into pixel units: ``x = m[0] * column + m[1] * row + m[2]``, and ``y`` by the second row.

    A row that lies within the rounding of theta's own dtype of a whole-pixel map *is* that map, so that identity,
    whole-pixel shifts and whole-pixel crops return the bits of the image although theta can rarely hold them exactly.

    Args:
        theta: ``[batch 2 3]``, output to input, normalised.
        image_size: ``(H, W)`` of the image.
        size: ``(h, w)`` of the output.
        align_corners: the convention of both sizes.

    Returns:
        ``[batch 2 3]``, float64.
    """
    (step_x, first_x), (step_y, first_y) = (axis_steps(n, align_corners=align_corners) for n in reversed(size))
    rounding = torch.finfo(theta.dtype if theta.dtype == torch.float64 else torch.float32).eps
    rows = []
    for row, length in zip(theta.double().unbind(1), reversed(image_size), strict=True):
        half, middle = axis_scale(length, align_corners=align_corners)
        a, b, t = row.unbind(-1)
        exact = torch.stack(
            (a * half * step_x, b * half * step_y, (a * first_x + b * first_y + t) * half + middle), dim=-1
        )
        with torch.no_grad():
            whole = exact.round()
            reach = half * (row.abs().sum(-1) + 1)
            slack = rounding * torch.stack((exact[:, 0].abs(), exact[:, 1].abs(), reach), dim=-1)
            snaps = ((whole - exact).abs() <= slack).all(-1, keepdim=True)
            correction = torch.where(snaps, whole - exact, 0.0)
        rows.append(exact + correction)
    return torch.stack(rows, dim=1)


def pixel_map_vjp(
    grad_map: Tensor, image_size: tuple[int, int], size: tuple[int, int], *, align_corners: bool
) -> Tensor:
    """Pull a gradient of :func:`pixel_map`'s result, ``[batch 2 3]`` float64, back to theta."""
    (step_x, first_x), (step_y, first_y) = (axis_steps(n, align_corners=align_corners) for n in reversed(size))
    rows = []
    for row, length in zip(grad_map.unbind(1), reversed(image_size), strict=True):
        half, _ = axis_scale(length, align_corners=align_corners)
        a, b, t = row.unbind(-1)
        rows.append(torch.stack((a * step_x + t * first_x, b * step_y + t * first_y, t), dim=-1) * half)
    return torch.stack(rows, dim=1)


def affine_sample_reference(
    image: Tensor,
    theta: Tensor,
    fill: Tensor,
    size: tuple[int, int],
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample ``image`` ``[batch channel H W]`` by ``theta`` ``[batch 2 3]``; ``fill`` ``[channel]`` stands outside.

    Differentiable in both inputs as often as wanted, in reverse and in forward mode. See
    :func:`supervised_st.affine_sample` for the contract.
    """
    values = image.to(torch.float64 if image.dtype == torch.float64 else torch.float32)
    outside = fill.to(values.dtype)[:, None, None]
    pixel = pixel_map(theta, (image.shape[2], image.shape[3]), size, align_corners=align_corners)
    rows, columns = (torch.arange(n, dtype=torch.float64, device=image.device) for n in size)
    x, y = (
        (m[:, 0, None, None] * columns + m[:, 1, None, None] * rows[:, None] + m[:, 2, None, None])
        for m in pixel.unbind(1)
    )

    undefined = x.isnan() | y.isnan()
    px, py = (
        _pad(torch.where(undefined, 0.0, c).clamp(-FAR, FAR), length, padding_mode, align_corners)
        for c, length in ((x, image.shape[3]), (y, image.shape[2]))
    )
    nearest = mode == "nearest"
    sampled = _tap(values, px.round(), py.round(), outside) if nearest else _bilinear(values, px, py, outside)
    # The NaN is carried by x + y so that it reaches theta's gradient; the inner `where` keeps it from other pixels.
    nan = torch.where(undefined, x + y, 0.0).to(values.dtype)[:, None] * float("nan")
    return torch.where(undefined[:, None], nan, sampled).to(image.dtype)


def _pad(c: Tensor, length: int, padding_mode: str, align_corners: bool) -> Tensor:
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


def _tap(values: Tensor, x: Tensor, y: Tensor, outside: Tensor) -> Tensor:
    """Read whole-pixel positions ``[batch h w]``; positions outside give ``outside``."""
    height, width = values.shape[2:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = torch.where(inside, y * width + x, 0.0).long()
    flat = index.flatten(1)[:, None].expand(-1, values.shape[1], -1)
    read = values.flatten(2).gather(2, flat).view(*values.shape[:2], *x.shape[1:])
    return torch.where(inside[:, None], read, outside)


def _bilinear(values: Tensor, x: Tensor, y: Tensor, outside: Tensor) -> Tensor:
    """Blend four taps; a tap without weight does not count even where the image is infinite or NaN."""
    left, top = x.detach().floor(), y.detach().floor()
    wx, wy = (x - left).to(values.dtype)[:, None], (y - top).to(values.dtype)[:, None]

    def tap(dx: int, dy: int) -> Tensor:
        read = _tap(values, left + dx, top + dy, outside)
        weightless = (wx == 1 - dx) | (wy == 1 - dy)
        return torch.where(weightless & ~read.isfinite(), 0.0, read)

    upper = tap(0, 0) * (1 - wx) + tap(1, 0) * wx
    lower = tap(0, 1) * (1 - wx) + tap(1, 1) * wx
    return upper * (1 - wy) + lower * wy
