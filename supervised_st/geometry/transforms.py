"""Theta as a transform: composed, inverted, mirrored, at several scales, and its corners."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from supervised_st._checks import check_number
from supervised_st._precision import widen
from supervised_st.geometry._theta import check_theta, coordinate_dtype, inverse, make_theta, product


def flip_theta(theta: Tensor) -> Tensor:
    """Return the ``theta`` for the horizontally mirrored image: it samples the mirror image of the same region.

    With ``F = diag(-1, 1)``: ``A' = F A F`` and ``t' = F t``. For an upright window only the sign of ``tx`` changes.
    The result keeps theta's dtype, half precision too, because nothing is rounded.
    """
    check_theta("theta", theta)
    a, b, tx, c, d, ty = theta.flatten(-2).unbind(-1)
    return make_theta(a, -b, -tx, -c, d, ty)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the one ``theta`` for sampling with ``outer`` first, and then sampling the result with ``inner``.

    ``A = A_outer A_inner`` and ``t = A_outer t_inner + t_outer``, in float64, rounded once. Batch axes broadcast.
    """
    check_theta("outer", outer)
    check_theta("inner", inner)
    return product(widen(outer), widen(inner)).to(torch.promote_types(coordinate_dtype(outer), inner.dtype))


def at_scales(theta: Tensor, factors: Sequence[float]) -> Tensor:
    """Return regions with the same center and orientation as ``theta``, one for each factor of its sides.

    ``at_scales(theta, (1, 2))`` is the region and one that is twice as wide and high: ``A' = factor A`` and ``t' = t``.
    So a transformer that predicts one region can look at it in several scales, and guidance of the one region guides
    all of them: ``look.sample(images, at_scales(theta, (1, 2)))`` is ``(batch, 2, channel, *size)``.

    Args:
        theta: ``[... 2 3]``.
        factors: positive and finite, at least one.

    Returns:
        ``[... factor 2 3]``.
    """
    check_theta("theta", theta)
    for factor in factors:
        check_number("factors", factor)
        if not 0 < factor < math.inf:
            raise ValueError(f"factors must be positive and finite, got {factor}")
    if not factors:
        raise ValueError("factors must hold at least one number, got none")
    wide = widen(theta)
    scaled = [torch.cat([wide[..., :2] * factor, wide[..., 2:]], -1) for factor in factors]
    return torch.stack(scaled, -3).to(coordinate_dtype(theta))


def invert(theta: Tensor) -> Tensor:
    """Return the ``theta`` of the inverse transform: it maps coordinates of the image to those of the glimpse.

    ``A' = A^-1`` and ``t' = -A^-1 t``. Where the region is a line or a point, there is no inverse, and entries are
    infinite or NaN.
    """
    check_theta("theta", theta)
    return inverse(widen(theta)).to(coordinate_dtype(theta))


def corners(theta: Tensor) -> Tensor:
    """Return where the top-left, top-right, bottom-right and bottom-left corners of the output are sampled.

    They are ``[... 4 2]``, ``(x, y)`` in normalized input coordinates, in theta's dtype, and linear in ``theta``.
    """
    check_theta("theta", theta)
    x, y, t = theta.unbind(-1)
    return torch.stack([t - x - y, t + x - y, t + x + y, t - x + y], -2)
