"""Theta in pixels: the matrices of OpenCV and kornia, and points, windows and flow that move with a glimpse."""

from typing import get_args

import torch
from torch import Tensor

from supervised_st._checks import check_choice, check_flag, check_floating, check_shape, check_size
from supervised_st._precision import widen
from supervised_st.geometry._theta import (
    check_theta,
    coordinate_dtype,
    hull,
    inverse,
    product,
    spans,
    transform,
    vector,
)
from supervised_st.types import Direction, Size

_DIRECTIONS = get_args(Direction)


def matrix_to_theta(
    matrix: Tensor,
    image_size: Size,
    size: Size,
    *,
    direction: Direction = "image_to_glimpse",
    align_corners: bool = False,
) -> Tensor:
    """Return the ``theta`` of an affine transform between pixels.

    ``affine_sample(image, matrix_to_theta(M, image_size, size), size)`` does what ``cv2.warpAffine(image, M, (w, h))``
    does, and ``kornia.geometry.warp_affine(image, M, size)`` with ``align_corners=True``.

    Args:
        matrix: ``[... 2 3]``, floating point: a point ``(x, y)`` in pixels goes to ``matrix @ (x, y, 1)``.
        image_size: of the image.
        size: of the glimpse.
        direction: ``"image_to_glimpse"``, as OpenCV and kornia have it, or ``"glimpse_to_image"``, which is OpenCV's
            ``WARP_INVERSE_MAP``.
        align_corners: of the ``theta`` that is returned. The transform between pixels is the same for both.

    Returns:
        ``[... 2 3]``. Where a matrix has no inverse, and one is needed, entries are infinite or NaN.
    """
    check_theta("matrix", matrix)
    check_choice("direction", direction, _DIRECTIONS)
    check_flag("align_corners", align_corners)
    wide = widen(matrix)
    backward = wide if direction == "glimpse_to_image" else inverse(wide)
    to_image = _to_pixels(wide, check_size("image_size", image_size), align_corners=align_corners)
    to_glimpse = _to_pixels(wide, check_size("size", size), align_corners=align_corners)
    return product(inverse(to_image), product(backward, to_glimpse)).to(coordinate_dtype(matrix))


def theta_to_matrix(
    theta: Tensor,
    image_size: Size,
    size: Size,
    *,
    direction: Direction = "image_to_glimpse",
    align_corners: bool = False,
) -> Tensor:
    """Return the affine transform between pixels: the inverse of `matrix_to_theta`, which explains it."""
    check_choice("direction", direction, _DIRECTIONS)
    backward = _backward(theta, image_size, size, align_corners)
    matrix = backward if direction == "glimpse_to_image" else inverse(backward)
    return matrix.to(coordinate_dtype(theta))


def change_align_corners(theta: Tensor, image_size: Size, size: Size, *, to: bool) -> Tensor:
    """Return the ``theta`` that samples the same pixels with ``align_corners=to`` as ``theta`` does with the other.

    Args:
        theta: ``[... 2 3]``, made for ``align_corners=not to``.
        image_size: of the image.
        size: of the glimpse.
        to: the convention of the ``theta`` that is returned.
    """
    wide_matrix = _backward(theta, image_size, size, not to)
    changed = matrix_to_theta(wide_matrix, image_size, size, direction="glimpse_to_image", align_corners=to)
    return changed.to(coordinate_dtype(theta))


def points_in_image(
    points: Tensor, theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Return where points of the glimpse lie in the image.

    Args:
        points: ``[... point 2]``, floating point, ``(x, y)`` in pixels of the glimpse. Batch axes broadcast.
        theta: ``[... 2 3]``, of the glimpse.
        image_size: of the image.
        size: of the glimpse.
        align_corners: the convention of ``theta``.

    Returns:
        ``[... point 2]``, in pixels of the image.
    """
    _check_points(points)
    return _applied(points, _backward(theta, image_size, size, align_corners), theta)


def points_in_glimpse(
    points: Tensor, theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Return where points of the image lie in the glimpse: the inverse of `points_in_image`, which explains it.

    Points that the glimpse does not show get coordinates outside it.
    """
    _check_points(points)
    return _applied(points, inverse(_backward(theta, image_size, size, align_corners)), theta)


def window_in_image(
    window: Tensor, theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Return the smallest upright window of the image around a window of the glimpse.

    Args:
        window: ``[... 4]``, floating point, ``(x0, y0, width, height)`` in pixels of the glimpse. Batch axes broadcast.
        theta: ``[... 2 3]``, of the glimpse.
        image_size: of the image.
        size: of the glimpse.
        align_corners: the convention of ``theta``.

    Returns:
        ``[... 4]``, in pixels of the image.
    """
    return _moved_window(window, _backward(theta, image_size, size, align_corners), theta)


def window_in_glimpse(
    window: Tensor, theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Return the smallest upright window of the glimpse around a window of the image; see `window_in_image`."""
    return _moved_window(window, inverse(_backward(theta, image_size, size, align_corners)), theta)


def flow_in_glimpse(
    flow: Tensor, theta: Tensor, image_size: Size, size: Size, *, align_corners: bool = False
) -> Tensor:
    """Turn flow vectors that were sampled from the image into vectors in pixels of the glimpse.

    Sampling moves vectors, but leaves each one as it was: in a glimpse that shows the image twice as large, motion is
    twice as fast. Both frames are taken to be seen through the same ``theta``.

    Args:
        flow: ``[... 2 height width]``, floating point, ``(u, v)`` in pixels of the image. Batch axes broadcast.
        theta: ``[... 2 3]``, of the glimpse.
        image_size: of the image.
        size: of the glimpse.
        align_corners: the convention of ``theta``.

    Returns:
        As ``flow``, in pixels of the glimpse, in the wider dtype of both.
    """
    check_shape("flow", flow, "... 2 height width")
    check_floating("flow", flow)
    forward = inverse(_backward(theta, image_size, size, align_corners))[..., :2]
    turned = torch.einsum("...ij,...jhw->...ihw", forward, widen(flow))
    return turned.to(torch.promote_types(flow.dtype, coordinate_dtype(theta)))


def _to_pixels(like: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Return the transform ``[2 3]`` from normalized coordinates to pixels."""
    span = spans(like, size, align_corners=align_corners)
    height, width = size
    return torch.cat([torch.diag(span), vector(like, width - 1, height - 1)[:, None]], -1) / 2


def _backward(theta: Tensor, image_size: Size, size: Size, align_corners: bool) -> Tensor:
    """Return the transform from pixels of the glimpse to pixels of the image, in the widest dtype."""
    check_theta("theta", theta)
    check_flag("align_corners", align_corners)
    wide = widen(theta)
    # The sampler's own transform to pixels snaps to whole ones. This one does not, so that it has exact inverses.
    to_image = _to_pixels(wide, check_size("image_size", image_size), align_corners=align_corners)
    to_glimpse = _to_pixels(wide, check_size("size", size), align_corners=align_corners)
    return product(to_image, product(wide, inverse(to_glimpse)))


def _check_points(points: Tensor) -> None:
    check_shape("points", points, "... point 2")
    check_floating("points", points)


def _applied(points: Tensor, matrix: Tensor, theta: Tensor) -> Tensor:
    return transform(matrix, widen(points)).to(torch.promote_types(points.dtype, coordinate_dtype(theta)))


def _moved_window(window: Tensor, matrix: Tensor, theta: Tensor) -> Tensor:
    check_shape("window", window, "... 4")
    check_floating("window", window)
    wide = widen(window)
    corner, side = wide[..., :2], wide[..., 2:]
    # As a theta that maps the square [-1, 1] to the window, in the coordinates of pixel centers.
    low, high = hull(product(matrix, torch.cat([torch.diag_embed(side / 2), (corner + (side - 1) / 2)[..., None]], -1)))
    moved = torch.cat([low + 0.5, high - low], -1)
    return moved.to(torch.promote_types(window.dtype, coordinate_dtype(theta)))
