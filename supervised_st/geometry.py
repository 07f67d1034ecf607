"""What ``theta`` means: windows, compositions, parameterizations and measures of distortion.

Convention:
    ``theta = [A | t]`` maps *output* to *input* coordinates, ``x_in = A x_out + t``. Both are ``(x, y)``, and the
    square ``[-1, 1] x [-1, 1]`` is the whole image: -1 and 1 are the outer **edges** of the outer pixels with
    ``align_corners=False``, and their **centers** with ``align_corners=True``. A window is
    ``(x0, y0, width, height)`` in pixels, where ``(x0, y0)`` is its top-left pixel. Sizes are ``(height, width)`` in
    pixels, or one number for a square.

    ``theta`` is ``[... 2 3]``, floating point. All functions accept any number of leading batch axes. Results have the
    dtype of ``theta``, the wider one of two, but at least float32.

    All functions compute in float64. On MPS, which has none, they compute in float32, and results are off by up to
    2^-20, pixels by up to 2^-20 of the image's side.

Raises:
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from supervised_st._checks import Size, check_choice, check_flag, check_floating, check_number, check_shape, check_size
from supervised_st._deprecated import renamed_globals
from supervised_st._named_tuples import serializable
from supervised_st._precision import widen

PARAMETERIZATIONS: dict[str, int] = {"affine": 6, "similarity": 4, "crop4": 4, "crop3": 3, "translation": 2}
"""The kinds of ``theta`` that a localization head can predict, and how many parameters each one has."""

if not TYPE_CHECKING:
    __getattr__ = renamed_globals(__name__, PARAMETERISATIONS=f"{__name__}.PARAMETERIZATIONS")

_BOUNDABLE = ("crop4", "crop3", "translation")
_LATTICE = 32  # points per side; measures the fraction out of bounds to about 1/32 per image edge that is crossed
_SATURATION = 1e-6  # closest relative distance to a bound at which a bounded parameter is inverted; keeps it finite


@serializable
class Distortion(NamedTuple):
    """How much a sampled region differs from an upright, undistorted window. Fields have theta's batch axes."""

    scale: Tensor  #: ``sqrt(|det A|)``, side of the region as a fraction of the image's side
    anisotropy: Tensor  #: ratio of the pixel steps' singular values; 1: undistorted, inf: collapsed to a line
    rotation: Tensor  #: angle of the nearest rotation in radians, ``(-pi, pi]``, after undoing a reflection in x
    reflected: Tensor  #: bool, ``det A < 0``
    outside: Tensor  #: fraction of the region that lies out of bounds, in [0, 1]
    minification: Tensor  #: largest step in input pixels per output pixel; above 1 the sampler skips pixels


def window_to_theta(window: Tensor, image_size: Size, *, align_corners: bool = False) -> Tensor:
    """Return the ``theta`` that samples a pixel window. At the window's own size the crop is exact.

    Args:
        window: ``[... 4]``, integer or floating point.
        image_size: of the image, positive.
        align_corners: see the convention above.

    Returns:
        ``[... 2 3]``, computed in float64 and rounded once: to float64 for float64 windows, else to float32.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, theta_2 of section 3.2.
    """
    check_shape("window", window, "... 4")
    check_flag("align_corners", align_corners)
    if window.is_complex() or window.dtype == torch.bool:
        raise TypeError(f"window must be integer or floating point, got {window.dtype}")
    height, width = check_size("image_size", image_size)
    edge = int(align_corners)
    x0, y0, window_width, window_height = widen(window).unbind(-1)

    def scale_and_center(start: Tensor, extent: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
        span = max(pixels - edge, 1)
        return (extent - edge) / span, (2 * start + extent - edge - span) / span

    (sx, tx), (sy, ty) = scale_and_center(x0, window_width, width), scale_and_center(y0, window_height, height)
    zero = torch.zeros_like(sx)
    theta = _theta(sx, zero, tx, zero, sy, ty)
    return theta if window.dtype == torch.float64 else theta.float()


def theta_to_window(theta: Tensor, image_size: Size, *, align_corners: bool = False) -> Tensor:
    """Return the smallest upright window around the region that ``theta`` samples: ``[... 4]``, in fractional pixels.

    For upright windows it is the inverse of `window_to_theta`, which explains the arguments.
    """
    _check_theta("theta", theta)
    check_flag("align_corners", align_corners)
    height, width = check_size("image_size", image_size)
    edge = int(align_corners)
    low, high = _hull(widen(theta))
    span = _vector(low, max(width - edge, 1), max(height - edge, 1))
    window = torch.cat([(low + 1) / 2 * span, (high - low) / 2 * span + edge], -1)
    return window.to(_coordinate_dtype(theta))


def flip_theta(theta: Tensor) -> Tensor:
    """Return the ``theta`` for the horizontally mirrored image: it samples the mirror image of the same region.

    With ``F = diag(-1, 1)``: ``A' = F A F`` and ``t' = F t``. For an upright window only the sign of ``tx`` changes.
    The result keeps theta's dtype, half precision too, because nothing is rounded.
    """
    _check_theta("theta", theta)
    a, b, tx, c, d, ty = theta.flatten(-2).unbind(-1)
    return _theta(a, -b, -tx, -c, d, ty)


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the one ``theta`` for sampling with ``outer`` first, and then sampling the result with ``inner``.

    ``A = A_outer A_inner`` and ``t = A_outer t_inner + t_outer``, in float64, rounded once. Batch axes broadcast.
    """
    _check_theta("outer", outer)
    _check_theta("inner", inner)
    wide = widen(outer)
    product = wide[..., :2] @ widen(inner)
    theta = torch.cat([product[..., :2], product[..., 2:] + wide[..., 2:]], -1)
    return theta.to(torch.promote_types(_coordinate_dtype(outer), inner.dtype))


def corners(theta: Tensor) -> Tensor:
    """Return where the top-left, top-right, bottom-right and bottom-left corners of the output are sampled.

    They are ``[... 4 2]``, ``(x, y)`` in normalized input coordinates, in theta's dtype, and linear in ``theta``.
    """
    _check_theta("theta", theta)
    x, y, t = theta.unbind(-1)
    return torch.stack([t - x - y, t + x - y, t + x + y, t - x + y], -2)


def window_iou(theta: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of the upright bounding boxes of two sampled regions.

    It is ``[...]`` in [0, 1], and 0 where neither box has an area. Batch axes broadcast.
    """
    _check_theta("theta", theta)
    _check_theta("other", other)
    wide, other_wide = widen(theta), widen(other)
    # Areas of huge windows would overflow, and of tiny ones underflow. The quotient does not depend on the unit.
    unit = torch.maximum(wide.detach().abs().amax((-2, -1)), other_wide.detach().abs().amax((-2, -1)))
    unit = torch.where(unit > 0, unit, 1)[..., None, None]
    (low, high), (other_low, other_high) = _hull(wide / unit), _hull(other_wide / unit)
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp_min(0).prod(-1)
    union = (high - low).prod(-1) + (other_high - other_low).prod(-1) - shared
    iou = shared / torch.where(union > 0, union, 1)
    return iou.to(torch.promote_types(_coordinate_dtype(theta), other.dtype))


def distortion(theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False) -> Distortion:
    """Measure what the paper calls the distortion effect of an unguided transformer.

    Anisotropy, rotation and minification describe the step in input pixels per output pixel. So a pixel-exact crop
    counts as undistorted in an image of any shape. For square images and outputs they describe ``A`` itself.

    Args:
        theta: ``[... 2 3]``.
        image_size: of the image, positive.
        size: of the output, positive.
        align_corners: see the convention above.

    Returns:
        One tensor ``[...]`` per measure. No measure of a finite ``theta`` is NaN: a region collapsed to a line has
        anisotropy inf, one collapsed to a point has anisotropy 1 and rotation 0. ``outside`` counts the points of a
        fixed 32 x 32 lattice in the output square.
    """
    _check_theta("theta", theta)
    check_flag("align_corners", align_corners)
    height, width = check_size("image_size", image_size)
    out_height, out_width = check_size("size", size)
    edge = int(align_corners)
    wide = widen(theta.detach())
    # Measured on A / max|A|: the products below would overflow for huge matrices and underflow for tiny ones.
    largest = wide[..., :2].abs().amax((-2, -1))
    unit = wide[..., :2] / torch.where(largest > 0, largest, 1)[..., None, None]
    in_pixels = _vector(unit, max(width - edge, 1), max(height - edge, 1))
    out_pixels = _vector(unit, max(out_width - edge, 1), max(out_height - edge, 1))
    step = unit * in_pixels[:, None] / out_pixels
    determinant = torch.linalg.det(unit)
    reflected = determinant < 0
    major, minor = _singular_values(step)
    anisotropy = torch.where(major > 0, major / minor, 1)
    dtype = _coordinate_dtype(theta)
    return Distortion(
        scale=(largest * determinant.abs().sqrt()).to(dtype),
        anisotropy=anisotropy.to(dtype),
        rotation=_rotation(step, reflected).to(dtype),
        reflected=reflected,
        outside=_fraction_out_of_bounds(wide).to(dtype),
        minification=(largest * major).to(dtype),
    )


def theta_from_parameters(
    parameters: Tensor, kind: str, *, scale: float = 1.0, bounds: tuple[float, float] | None = None
) -> Tensor:
    """Build ``theta`` from the numbers that a localization head predicts.

    ===========  ======================  ===============================
    kind         parameters              theta
    ===========  ======================  ===============================
    affine       the six, row by row     ``[[a, b, tx], [c, d, ty]]``
    similarity   ``a, b, tx, ty``        ``[[a, -b, tx], [b, a, ty]]``
    crop4        ``sx, sy, tx, ty``      ``[[sx, 0, tx], [0, sy, ty]]``
    crop3        ``s, tx, ty``           ``[[s, 0, tx], [0, s, ty]]``
    translation  ``tx, ty``              ``[[scale, 0, tx], [0, scale, ty]]``
    ===========  ======================  ===============================

    With ``bounds = (s0, s1)`` a parameter z means ``s = s0 + (s1 - s0) sigmoid(z)`` or ``t = (1 - s) tanh(z)``. The
    window then never leaves the image, except by the last rounding.

    Args:
        parameters: ``[... count]`` with the count that `PARAMETERIZATIONS` gives for ``kind``, floating point.
        kind: a key of `PARAMETERIZATIONS`.
        scale: the fixed side of a translation's window, as a fraction of the image's side; unused by the other kinds.
            With ``bounds`` it must lie within them and below 1, so that the window can move.
        bounds: smallest and largest side of the window as fractions of the image's side, ``0 < s0 < s1 <= 1``; for
            crop4, crop3 and translation only.

    Reference:
        crop3 is the attention transform of Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, section 3.2.
    """
    check_choice("kind", kind, PARAMETERIZATIONS)
    check_shape("parameters", parameters, f"... {PARAMETERIZATIONS[kind]}")
    check_floating("parameters", parameters)
    check_number("scale", scale)
    _check_bounds(kind, scale, bounds)
    values = parameters.to(_coordinate_dtype(parameters)).unbind(-1)
    if kind == "affine":
        return _theta(*values)
    if kind == "similarity":
        a, b, tx, ty = values
        return _theta(a, -b, tx, b, a, ty)
    *sides, tx, ty = values
    if bounds is not None:
        low, high = bounds
        sides = [low + (high - low) * side.sigmoid() for side in sides]
    sx, sy = sides[0] if sides else torch.full_like(tx, scale), sides[-1] if sides else torch.full_like(ty, scale)
    if bounds is not None:
        tx, ty = (1 - sx) * tx.tanh(), (1 - sy) * ty.tanh()
    zero = torch.zeros_like(sx)
    return _theta(sx, zero, tx, zero, sy, ty)


def parameters_from_theta(theta: Tensor, kind: str, *, bounds: tuple[float, float] | None = None) -> Tensor:
    """Return the parameters ``[... count]`` of ``theta``: the inverse of `theta_from_parameters`.

    A ``theta`` that the kind cannot express is first projected onto it (least squares over the entries). With
    ``bounds``, a side or shift at or beyond its bound is moved inside by 1e-6 of the range, so that its parameter is
    finite.
    """
    check_choice("kind", kind, PARAMETERIZATIONS)
    _check_theta("theta", theta)
    a, b, tx, c, d, ty = theta.to(_coordinate_dtype(theta)).flatten(-2).unbind(-1)
    mean = (a + d) / 2
    families: dict[str, list[Tensor]] = {
        "affine": [a, b, tx, c, d, ty],
        "similarity": [mean, (c - b) / 2, tx, ty],
        "crop4": [a, d, tx, ty],
        "crop3": [mean, tx, ty],
        "translation": [tx, ty],
    }
    if bounds is None:
        return torch.stack(families[kind], -1)
    _check_bounds(kind, None, bounds)
    low, high = bounds
    *sides, tx, ty = families[kind]
    sx, sy = (sides[0], sides[-1]) if sides else (a, d)
    bounded = [((side - low) / (high - low)).clamp(_SATURATION, 1 - _SATURATION).logit() for side in sides]
    return torch.stack([*bounded, _unbounded_shift(tx, sx), _unbounded_shift(ty, sy)], -1)


def _theta(a: Tensor, b: Tensor, tx: Tensor, c: Tensor, d: Tensor, ty: Tensor) -> Tensor:
    return torch.stack([a, b, tx, c, d, ty], -1).reshape(*a.shape, 2, 3)


def _vector(like: Tensor, *entries: int) -> Tensor:
    """Return the entries as ``like`` is. A tensor made of a list would make symbolic ones constant."""
    return torch.stack([like.new_full((), entry) for entry in entries])


def _hull(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest ``(x, y)`` of the sampled region, both ``[... 2]``."""
    matrix, center = theta[..., :2], theta[..., 2]
    reach = matrix.abs().sum(-1)
    return center - reach, center + reach


def _singular_values(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return both singular values of ``[... 2 2]``; the smaller from the determinant, which avoids cancellation."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    major = (torch.hypot(a + d, c - b) + torch.hypot(a - d, c + b)) / 2
    minor = torch.linalg.det(matrix).abs() / torch.where(major > 0, major, 1)
    return major, minor


def _rotation(matrix: Tensor, reflected: Tensor) -> Tensor:
    """Return the angle of the orthogonal polar factor; a reflected matrix is first mirrored in the output's x."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    sign = torch.where(reflected, -1.0, 1.0)
    return torch.atan2(sign * c - b, sign * a + d)


def _fraction_out_of_bounds(theta: Tensor) -> Tensor:
    ticks = (torch.arange(_LATTICE, device=theta.device, dtype=theta.dtype) + 0.5) * (2 / _LATTICE) - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])
    # NaN (inf - inf, for a huge theta) compares as out of bounds, which is right.
    return 1 - ((theta @ points).abs() <= 1).all(-2).to(theta.dtype).mean(-1)


def _unbounded_shift(shift: Tensor, side: Tensor) -> Tensor:
    room = 1 - side
    is_inside = shift.abs() < room
    # Where the window has no room for its shift, the quotient is 1 or -1; dividing would make gradients NaN on the way.
    share = torch.where(is_inside, shift, shift.sign()) / torch.where(is_inside, room, 1)
    return share.clamp(_SATURATION - 1, 1 - _SATURATION).atanh()


def _coordinate_dtype(tensor: Tensor) -> torch.dtype:
    """Return at least float32: in half precision, coordinates in 896 pixels are off by a quarter of a pixel."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _check_theta(name: str, theta: Tensor) -> None:
    check_shape(name, theta, "... 2 3")
    check_floating(name, theta)


def _check_bounds(kind: str, scale: float | None, bounds: tuple[float, float] | None) -> None:
    if bounds is None:
        return
    if kind not in _BOUNDABLE:
        raise ValueError(f"bounds need kind to be one of {', '.join(map(repr, _BOUNDABLE))}, got {kind!r}")
    if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
        raise TypeError(f"bounds must be two numbers (s0, s1), got {bounds!r}")
    low, high = bounds
    check_number("bounds[0]", low)
    check_number("bounds[1]", high)
    if not 0 < low < high <= 1:
        raise ValueError(f"bounds must be (s0, s1) with 0 < s0 < s1 <= 1, got {bounds}")
    if kind == "translation" and scale is not None and not (low <= scale <= high and scale < 1):
        raise ValueError(f"scale must lie within bounds={bounds} and below 1, so that the window can move, got {scale}")
