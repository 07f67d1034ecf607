"""Theta put together from angle, scale, shear and translation, and taken apart again."""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._checks import check_floating, check_shape, check_size
from supervised_st._named_tuples import serializable
from supervised_st._precision import widen
from supervised_st.geometry._theta import coordinate_dtype, make_theta
from supervised_st.geometry.pixels import matrix_to_theta, theta_to_matrix
from supervised_st.types import Size


@serializable
class Components(NamedTuple):
    """How a glimpse lies in the image, in pixels.

    Steps of one pixel of the glimpse, to the right and down, are the columns of ``R(angle) [[1, shear], [0, 1]]
    diag(scale)`` in the image.
    """

    angle: Tensor  #: ``[...]``, of the glimpse's x axis in the image, in radians in ``(-pi, pi]``, clockwise as seen
    scale: Tensor  #: ``[... 2]``, image pixels per glimpse pixel along x and y; a mirrored glimpse has a negative y
    shear: Tensor  #: ``[...]``, how far the y axis leans along the x axis; 0: a right angle
    center: Tensor  #: ``[... 2]``, where the glimpse's center lies, ``(x, y)`` in pixels of the image


def theta_from_components(
    components: Components, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Return the ``theta`` of a glimpse that lies in the image as described.

    Args:
        components: see `Components`; their batch axes broadcast.
        image_size: of the image.
        size: of the glimpse.
        align_corners: the convention of the ``theta`` that is returned.
    """
    if not isinstance(components, Components):
        raise TypeError(
            f"components must be Components, got {type(components).__name__}; "
            "pass Components(angle, scale, shear, center)"
        )
    for name, value in components._asdict().items():
        check_shape(f"components.{name}", value, "... 2" if name in ("scale", "center") else "...")
        check_floating(f"components.{name}", value)
    height, width = check_size("size", size)
    angle, scale, shear, center = map(widen, components)
    (sx, sy), (x, y) = scale.unbind(-1), center.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    a, b, c, d = cos * sx, (cos * shear - sin) * sy, sin * sx, (sin * shear + cos) * sy
    right, down = (width - 1) / 2, (height - 1) / 2  # the middle of the glimpse
    entries = (a, b, x - a * right - b * down, c, d, y - c * right - d * down)
    batch = torch.broadcast_shapes(*(entry.shape for entry in entries))  # type: ignore[no-untyped-call]
    matrix = make_theta(*(entry.expand(batch) for entry in entries))
    theta = matrix_to_theta(matrix, image_size, size, direction="glimpse_to_image", align_corners=align_corners)
    return theta.to(reduce(torch.promote_types, (value.dtype for value in components), torch.float32))


def components_from_theta(theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False) -> Components:
    """Return how the glimpse lies in the image: the inverse of `theta_from_components`, which explains the arguments.

    Every ``theta`` with an inverse has exactly one such description. Where the glimpse's x axis has no length, the
    angle is 0; where the region is a line or a point, the shear is infinite or NaN.
    """
    height, width = check_size("size", size)
    matrix = theta_to_matrix(widen(theta), image_size, size, direction="glimpse_to_image", align_corners=align_corners)
    (a, b, tx), (c, d, ty) = (row.unbind(-1) for row in matrix.unbind(-2))
    sx = torch.hypot(a, c)
    along = torch.where(sx > 0, sx, 1)
    cos, sin = torch.where(sx > 0, a / along, 1), c / along
    sy = cos * d - sin * b
    right, down = (width - 1) / 2, (height - 1) / 2
    center = torch.stack([tx + a * right + b * down, ty + c * right + d * down], -1)
    found = (torch.atan2(sin, cos), torch.stack([sx, sy], -1), (cos * b + sin * d) / sy, center)
    return Components(*(value.to(coordinate_dtype(theta)) for value in found))
