"""Affine sampling in NumPy as it is documented: pixel by pixel, in float64, and how far coordinates may be off."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FAR = 2.0**30  # where coordinates are clamped
CUBIC = -0.75


class How(NamedTuple):
    """The options of a call."""

    mode: str
    padding_mode: str
    align_corners: bool
    antialias: bool


class Positions(NamedTuple):
    """Where the output's pixels are read, in pixels of the image: all are ``[batch transform h w]``."""

    x: Array
    y: Array
    undefined: NDArray[np.bool_]
    x_error: Array  # how far an implementation may be off
    y_error: Array


def positions(theta: Array, image_size: Sequence[int], size: Sequence[int], how: How, epsilon: float) -> Positions:
    """Apply ``theta`` ``[batch transform 2 3]`` to the output's pixels; ``epsilon`` is the rounding of coordinates."""
    across, down = (_centers(n, how.align_corners) for n in reversed(size))
    found, errors = [], []
    with np.errstate(all="ignore"):
        for row, length in zip(np.moveaxis(theta, -2, 0), reversed(image_size), strict=True):
            a, b, t = (entry[..., None, None] for entry in np.moveaxis(row, -1, 0))
            span = length - how.align_corners
            found.append(((a * across + b * down[:, None] + t) * span + length - 1) / 2)
            reach = (np.abs(a) + np.abs(b) + np.abs(t) + 1) * (span / 2 + 1)
            errors.append(np.broadcast_to(epsilon * reach, found[-1].shape))
    # An infinite entry in the left two columns is multiplied by zero somewhere.
    endless = np.isinf(theta[..., :2]).any((-2, -1), keepdims=True)
    x, y = found
    return Positions(x, y, np.isnan(x) | np.isnan(y) | endless, *errors)


def _centers(n: int, align_corners: bool) -> Array:
    return np.linspace(-1, 1, n) if align_corners and n > 1 else (2 * np.arange(n) + 1) / n - 1


def sample(image: Array, at: Positions, fill: Array, how: How) -> Array:
    """Read ``image`` ``[batch channel H W]``: ``(batch, transform, channel, h, w)``, with any value where undefined."""
    height, width = image.shape[2:]
    x, y = (np.clip(np.where(at.undefined, 0, c), -FAR, FAR) for c in (at.x, at.y))
    total = np.zeros((*x.shape[:2], image.shape[1], *x.shape[2:]))
    batch = np.arange(len(image))[:, None, None, None]
    pairs = itertools.product(_taps(y, height, how), _taps(x, width, how))
    for (i, across), (j, down) in pairs:
        inside = (i >= 0) & (i < height) & (j >= 0) & (j < width)
        read = image[batch, :, np.where(inside, i, 0).astype(int), np.where(inside, j, 0).astype(int)]
        read = np.where(inside[..., None], read, fill)
        total += np.moveaxis(read * (across * down)[..., None], -1, 2)
    return total


def averages(image: Array, theta: Array, at: Positions, fill: Array, size: Sequence[int], align: bool) -> Array:
    """Average ``image`` over the footprint of each output pixel; it is laid out as in `sample`."""
    height, width = image.shape[2:]
    weights, areas = [], []
    for row, c, length in zip(np.moveaxis(theta, -2, 0), (at.x, at.y), (width, height), strict=True):
        span = length - align
        steps = (np.where(n > align, entry * span / max(n - align, 1), 0) for entry, n in
                 zip(np.moveaxis(row, -1, 0), reversed(size), strict=False))  # fmt: skip
        side = np.maximum(np.hypot(*steps), 1)[..., None, None]
        middle, pixel = np.where(at.undefined, 0, c)[..., None] + 0.5, np.arange(length)
        low, high = middle - side[..., None] / 2, middle + side[..., None] / 2
        weights.append((np.minimum(high, pixel + 1) - np.maximum(low, pixel)).clip(0) / side[..., None])
        areas.append(weights[-1].sum(-1))
    read = np.einsum("bchw,btijh,btijw->btcij", image, weights[1], weights[0], optimize=True)
    inside = (areas[0] * areas[1])[:, :, None]
    found: Array = np.where(inside < 1 - 1e-12, read + (1 - inside) * fill[:, None, None], read)
    return found


def _taps(c: Array, length: int, how: How) -> list[tuple[Array, Array]]:
    """Return whole pixels along one axis, and their weights."""
    if how.mode == "nearest":
        return [(np.round(_pad(c, length, how)), np.ones_like(c))]
    if how.mode == "bilinear":
        c = _pad(c, length, how)
        first = np.floor(c)
        return [(first, 1 - (c - first)), (first + 1, c - first)]
    first = np.floor(c)
    f = c - first
    weights = _far(f + 1), _near(f), _near(1 - f), _far(2 - f)
    return [(_pad(first + offset, length, how), weight) for offset, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def _pad(c: Array, length: int, how: How) -> Array:
    if how.padding_mode in ("zeros", "fill"):
        return c
    if how.padding_mode == "reflection":
        low, span = (0.0, length - 1) if how.align_corners else (-0.5, length)
        turns, rest = np.divmod(np.abs(c - low), max(span, 1))
        c = low + np.where(turns % 2 == 0, rest, span - rest) if span else np.zeros_like(c)
    return c.clip(0, length - 1)


def _near(d: Array) -> Array:
    return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1


def _far(d: Array) -> Array:
    return (((d - 5) * d + 8) * d - 4) * CUBIC
