"""Theta as a transform: composed, inverted, mirrored, and its corners."""

import torch
from torch import Tensor

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
