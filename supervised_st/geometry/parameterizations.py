"""The kinds of theta that a localization head can predict."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from supervised_st._checks import check_choice, check_floating, check_number, check_shape
from supervised_st.geometry._theta import check_theta, coordinate_dtype, make_theta
from supervised_st.types import Parameterization, Scale

PARAMETERIZATIONS: dict[Parameterization, int] = {
    "affine": 6,
    "similarity": 4,
    "crop4": 4,
    "crop3": 3,
    "translation": 2,
}
"""The kinds of ``theta`` that a localization head can predict, and how many parameters each one has."""

_BOUNDABLE = ("crop4", "crop3", "translation")
_SATURATION = 1e-6  # closest relative distance to a bound at which a bounded parameter is inverted; keeps it finite


def theta_from_parameters(
    parameters: Tensor, kind: Parameterization, *, scale: Scale = 1.0, bounds: tuple[float, float] | None = None
) -> Tensor:
    """Build ``theta`` from the numbers that a localization head predicts.

    ===========  ======================  ===============================
    kind         parameters              theta
    ===========  ======================  ===============================
    affine       the six, row by row     ``[[a, b, tx], [c, d, ty]]``
    similarity   ``a, b, tx, ty``        ``[[a, -b, tx], [b, a, ty]]``
    crop4        ``sx, sy, tx, ty``      ``[[sx, 0, tx], [0, sy, ty]]``
    crop3        ``s, tx, ty``           ``[[rx s, 0, tx], [0, ry s, ty]]``
    translation  ``tx, ty``              ``[[scale_x, 0, tx], [0, scale_y, ty]]``
    ===========  ======================  ===============================

    The window of ``crop3`` keeps the ratio of ``scale``: ``(ry, rx)`` is ``scale`` over the larger of its two numbers,
    so that s is the larger side. With one number, ``rx = ry = 1``. Sides are fractions of the image's sides. So on an
    image that is not square, one number gives windows as oblong as the image. For a square window of p pixels, pass
    ``scale=(p / height, p / width)``.

    With ``bounds = (s0, s1)`` a parameter z means ``s = s0 + (s1 - s0) sigmoid(z)`` or ``t = (1 - s) tanh(z)``. The
    window then never leaves the image, except by the last rounding.

    Args:
        parameters: ``[... count]`` with the count that `PARAMETERIZATIONS` gives for ``kind``, floating point.
        kind: a key of `PARAMETERIZATIONS`.
        scale: the fixed sides of a translation's window, ``(along height, along width)`` as fractions of the image's
            sides, or one number for both; for crop3, only their ratio counts; unused by the other kinds. Positive. With
            ``bounds``, a translation's must lie within them and below 1, so that the window can move.
        bounds: smallest and largest side of the window as fractions of the image's side, ``0 < s0 < s1 <= 1``; for
            crop4, crop3 (its larger side) and translation only.

    Reference:
        crop3 is the attention transform of Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, section 3.2.
    """
    check_choice("kind", kind, PARAMETERIZATIONS)
    check_shape("parameters", parameters, f"... {PARAMETERIZATIONS[kind]}")
    check_floating("parameters", parameters)
    _check_bounds(kind, scale, bounds)
    values = parameters.to(coordinate_dtype(parameters)).unbind(-1)
    if kind == "affine":
        return make_theta(*values)
    if kind == "similarity":
        a, b, tx, ty = values
        return make_theta(a, -b, tx, b, a, ty)
    *sides, tx, ty = values
    if bounds is not None:
        low, high = bounds
        sides = [low + (high - low) * side.sigmoid() for side in sides]
    along_y, along_x = check_scale(scale)
    if kind == "translation":
        sx, sy = torch.full_like(tx, along_x), torch.full_like(ty, along_y)
    elif kind == "crop3":
        ry, rx = _ratio(scale)
        sx, sy = sides[0] * rx, sides[0] * ry
    else:
        sx, sy = sides
    if bounds is not None:
        tx, ty = (1 - sx) * tx.tanh(), (1 - sy) * ty.tanh()
    zero = torch.zeros_like(sx)
    return make_theta(sx, zero, tx, zero, sy, ty)


def parameters_from_theta(
    theta: Tensor, kind: Parameterization, *, scale: Scale = 1.0, bounds: tuple[float, float] | None = None
) -> Tensor:
    """Return the parameters of ``theta``: the inverse of `theta_from_parameters`.

    They are ``[... count]``. A ``theta`` that the kind cannot express is first projected onto it (least squares over
    the entries). With ``bounds``, a side or shift at or beyond its bound is moved inside by 1e-6 of the range, so that
    its parameter is finite.
    """
    check_choice("kind", kind, PARAMETERIZATIONS)
    check_theta("theta", theta)
    a, b, tx, c, d, ty = theta.to(coordinate_dtype(theta)).flatten(-2).unbind(-1)
    ry, rx = _ratio(scale) if kind == "crop3" else (1.0, 1.0)
    families: dict[str, list[Tensor]] = {
        "affine": [a, b, tx, c, d, ty],
        "similarity": [(a + d) / 2, (c - b) / 2, tx, ty],
        "crop4": [a, d, tx, ty],
        "crop3": [(rx * a + ry * d) / (rx * rx + ry * ry), tx, ty],
        "translation": [tx, ty],
    }
    if bounds is None:
        return torch.stack(families[kind], -1)
    _check_bounds(kind, None, bounds)
    low, high = bounds
    *sides, tx, ty = families[kind]
    sx, sy = (rx * sides[0], ry * sides[-1]) if sides else (a, d)
    bounded = [((side - low) / (high - low)).clamp(_SATURATION, 1 - _SATURATION).logit() for side in sides]
    return torch.stack([*bounded, _unbounded_shift(tx, sx), _unbounded_shift(ty, sy)], -1)


def _unbounded_shift(shift: Tensor, side: Tensor) -> Tensor:
    room = 1 - side
    is_inside = shift.abs() < room
    # Where the window has no room for its shift, the quotient is 1 or -1; dividing would make gradients NaN on the way.
    share = torch.where(is_inside, shift, shift.sign()) / torch.where(is_inside, room, 1)
    return share.clamp(_SATURATION - 1, 1 - _SATURATION).atanh()


def check_scale(scale: Scale) -> tuple[float, float]:
    """Return ``(along height, along width)``; raise an error unless ``scale`` is one or two positive numbers."""
    wanted = "scale must be one positive number, or two, (along height, along width)"
    pair = tuple(scale) if isinstance(scale, Sequence) else (scale, scale)
    if len(pair) != 2 or not all(isinstance(side, Real) for side in pair):
        raise TypeError(f"{wanted}, got {scale!r}")
    if not all(0 < side < math.inf for side in pair):
        raise ValueError(f"{wanted}, got {scale!r}")
    return pair


def _ratio(scale: Scale) -> tuple[float, float]:
    along_y, along_x = check_scale(scale)
    return along_y / max(along_y, along_x), along_x / max(along_y, along_x)


def _check_bounds(kind: Parameterization, scale: Scale | None, bounds: tuple[float, float] | None) -> None:
    if bounds is None:
        return
    if kind not in _BOUNDABLE:
        boundable = ", ".join(map(repr, _BOUNDABLE))
        raise ValueError(f"bounds must be None unless the parameterization is one of {boundable}, got {kind!r}")
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(f"bounds must be two numbers (s0, s1), got {bounds!r}")
    low, high = bounds
    check_number("bounds[0]", low)
    check_number("bounds[1]", high)
    if not 0 < low < high <= 1:
        raise ValueError(f"bounds must be (s0, s1) with 0 < s0 < s1 <= 1, got {bounds}")
    if (
        kind == "translation"
        and scale is not None
        and not all(low <= side <= high and side < 1 for side in check_scale(scale))
    ):
        raise ValueError(f"scale must lie within bounds={bounds} and below 1, so that the window can move, got {scale}")
