"""How much a sampled region differs from an upright window."""

from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._checks import check_size
from supervised_st._named_tuples import serializable
from supervised_st._precision import widen
from supervised_st.geometry._theta import check_theta, coordinate_dtype, spans
from supervised_st.types import Size

_LATTICE = 32  # points per side; measures the fraction out of bounds to about 1/32 per image edge that is crossed


@serializable
class Distortion(NamedTuple):
    """How much a sampled region differs from an upright, undistorted window. Fields have theta's batch axes."""

    scale: Tensor  #: ``sqrt(|det A|)``, side of the region as a fraction of the image's side
    anisotropy: Tensor  #: ratio of the pixel steps' singular values; 1: undistorted, inf: collapsed to a line
    rotation: Tensor  #: angle of the nearest rotation in radians, ``(-pi, pi]``, after undoing a reflection in x
    reflected: Tensor  #: bool, ``det A < 0``
    outside: Tensor  #: fraction of the region that lies out of bounds, in [0, 1]
    minification: Tensor  #: largest step in input pixels per output pixel; above 1 the sampler skips pixels


def distortion(theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False) -> Distortion:
    """Measure what the paper calls the distortion effect of an unguided transformer.

    Anisotropy, rotation and minification describe the step in input pixels per output pixel. So a pixel-exact crop
    counts as undistorted in an image of any shape. For square images and outputs they describe ``A`` itself.

    Args:
        theta: ``[... 2 3]``.
        image_size: of the image, positive.
        size: of the output, positive.
        align_corners: see the convention of `supervised_st.geometry`.

    Returns:
        One tensor ``[...]`` per measure. No measure of a finite ``theta`` is NaN: a region collapsed to a line has
        anisotropy inf, one collapsed to a point has anisotropy 1 and rotation 0. ``outside`` counts the points of a
        fixed 32 x 32 lattice in the output square.
    """
    check_theta("theta", theta)
    wide = widen(theta.detach())
    # Measured on A / max|A|: the products below would overflow for huge matrices and underflow for tiny ones.
    largest = wide[..., :2].abs().amax((-2, -1))
    unit = wide[..., :2] / torch.where(largest > 0, largest, 1)[..., None, None]
    in_pixels = spans(unit, check_size("image_size", image_size), align_corners=align_corners)
    out_pixels = spans(unit, check_size("size", size), align_corners=align_corners)
    step = unit * in_pixels[:, None] / out_pixels
    determinant = torch.linalg.det(unit)
    reflected = determinant < 0
    major, minor = _singular_values(step)
    anisotropy = torch.where(major > 0, major / minor, 1)
    dtype = coordinate_dtype(theta)
    return Distortion(
        scale=(largest * determinant.abs().sqrt()).to(dtype),
        anisotropy=anisotropy.to(dtype),
        rotation=_rotation(step, reflected).to(dtype),
        reflected=reflected,
        outside=_fraction_out_of_bounds(wide).to(dtype),
        minification=(largest * major).to(dtype),
    )


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
