"""Windows in pixels and the theta that samples them."""

import warnings
from typing import get_args

import torch
from torch import Tensor

from supervised_st._checks import check_choice, check_flag, check_shape, check_size, first_true
from supervised_st._precision import widen
from supervised_st._sampler.tensors import has_values, is_transformed
from supervised_st.geometry._theta import check_theta, coordinate_dtype, hull, make_theta, spans
from supervised_st.types import Size, WindowFormat

FORMATS = get_args(WindowFormat)


def window_to_theta(
    window: Tensor, image_size: Size, *, format: WindowFormat = "xywh", align_corners: bool = False
) -> Tensor:
    """Return the ``theta`` that samples a pixel window. At the window's own size the crop is exact.

    Args:
        window: ``[... 4]``, integer or floating point, with positive sides. Numbers on other devices than the CPU, and
            in traced graphs, are not checked.
        image_size: of the image, positive.
        format: ``"xywh"`` for ``(x0, y0, width, height)``, as COCO has boxes, or ``"xyxy"`` for ``(x0, y0, x1, y1)``
            with ``x1 = x0 + width``, as detectors of torchvision have them.
        align_corners: see the convention of `supervised_st.geometry`.

    Returns:
        ``[... 2 3]``, computed in float64 and rounded once: to float64 for float64 windows, else to float32.

    Warns:
        UserWarning: if ``format`` is ``"xywh"``, and so at least half of the windows reach out of the image, but as
            ``"xyxy"`` all lie in it; or if all windows look like fractions of the image's sides.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, theta_2 of section 3.2.
    """
    check_shape("window", window, "... 4")
    check_choice("format", format, FORMATS)
    size = check_size("image_size", image_size)
    if window.is_complex() or window.dtype == torch.bool:
        raise TypeError(f"window must be integer or floating point, got {window.dtype}")
    if window.device.type == "cpu" and has_values(window) and not is_transformed(window):
        check_windows("window", window, size, format)
    theta = theta_of_windows(window, size, format, align_corners=align_corners)
    return theta if window.dtype == torch.float64 else theta.float()


def theta_to_window(
    theta: Tensor, image_size: Size, *, format: WindowFormat = "xywh", align_corners: bool = False
) -> Tensor:
    """Return the smallest upright window around the region that ``theta`` samples, in fractional pixels.

    It is ``[... 4]``. For upright windows it is the inverse of `window_to_theta`, which explains the arguments.
    """
    check_theta("theta", theta)
    check_flag("align_corners", align_corners)
    check_choice("format", format, FORMATS)
    size = check_size("image_size", image_size)
    low, high = hull(widen(theta))
    span = spans(low, size, align_corners=align_corners)
    corner, sides = (low + 1) / 2 * span, (high - low) / 2 * span + int(align_corners)
    return torch.cat([corner, corner + sides if format == "xyxy" else sides], -1).to(coordinate_dtype(theta))


def window_iou(theta: Tensor, other: Tensor) -> Tensor:
    """Return the intersection over union of the upright bounding boxes of two sampled regions.

    It is ``[...]`` in [0, 1], and 0 where neither box has an area. Batch axes broadcast.
    """
    check_theta("theta", theta)
    check_theta("other", other)
    wide, other_wide = widen(theta), widen(other)
    # Areas of huge windows would overflow, and of tiny ones underflow. The quotient does not depend on the unit.
    unit = torch.maximum(wide.detach().abs().amax((-2, -1)), other_wide.detach().abs().amax((-2, -1)))
    unit = torch.where(unit > 0, unit, 1)[..., None, None]
    (low, high), (other_low, other_high) = hull(wide / unit), hull(other_wide / unit)
    shared = (torch.minimum(high, other_high) - torch.maximum(low, other_low)).clamp_min(0).prod(-1)
    union = (high - low).prod(-1) + (other_high - other_low).prod(-1) - shared
    iou = shared / torch.where(union > 0, union, 1)
    return iou.to(torch.promote_types(coordinate_dtype(theta), other.dtype))


def theta_of_windows(
    window: Tensor, image_size: tuple[int, int], format: WindowFormat = "xywh", *, align_corners: bool
) -> Tensor:
    """Return the ``theta`` of windows that were checked, in the widest dtype."""
    check_flag("align_corners", align_corners)
    (height, width), edge = image_size, int(align_corners)
    x0, y0, window_width, window_height = as_xywh(window, format).unbind(-1)
    sx, tx = _scale_and_center(x0, window_width, width, edge)
    sy, ty = _scale_and_center(y0, window_height, height, edge)
    zero = torch.zeros_like(sx)
    return make_theta(sx, zero, tx, zero, sy, ty)


def check_windows(name: str, window: Tensor, image_size: tuple[int, int], format: WindowFormat) -> None:
    """Raise ValueError for windows without an area, and warn of those that only make sense in the other format."""
    wide = as_xywh(window, format)
    empty = ~(wide[..., 2:] > 0).all(-1).flatten()
    if empty.any():
        first = first_true(empty)
        sides = "positive width and height" if format == "xywh" else "x1 > x0 and y1 > y0"
        raise ValueError(
            f"{name} must have {sides}, since format is {format!r}; "
            f"got {window.reshape(-1, 4)[first].tolist()} in window {first}"
        )
    if are_fractions(wide):
        warnings.warn(
            "windows are in pixels, but these lie within the first pixel of the image; if they are fractions of its "
            "sides, multiply x and width by the image's width, and y and height by its height",
            stacklevel=3,
        )
    if format == "xyxy":
        return
    height, width = image_size
    x, y, w, h = wide.unbind(-1)
    leaves = (x < 0) | (y < 0) | (x + w > width) | (y + h > height)
    fits = (x >= 0) & (y >= 0) & (w > x) & (h > y) & (w <= width) & (h <= height)
    if fits.all() and 2 * leaves.sum() >= leaves.numel() > 0:
        warnings.warn(
            "windows (x0, y0, width, height) reach out of the image, but as (x0, y0, x1, y1) they lie in it; "
            "pass format='xyxy' if they are that",
            stacklevel=3,
        )


def _scale_and_center(start: Tensor, extent: Tensor, pixels: int, edge: int) -> tuple[Tensor, Tensor]:
    span = max(pixels - edge, 1)
    return (extent - edge) / span, (2 * start + extent - edge - span) / span


def as_xywh(window: Tensor, format: WindowFormat) -> Tensor:
    """Return windows as ``(x0, y0, width, height)`` in the widest dtype."""
    wide = widen(window)
    return wide if format == "xywh" else torch.cat([wide[..., :2], wide[..., 2:] - wide[..., :2]], -1)


def are_fractions(pixels: Tensor) -> bool:
    """Whether all numbers are in [0, 1] and not all whole, as fractions of an image's sides are."""
    return bool(((pixels >= 0) & (pixels <= 1)).all() and ((pixels > 0) & (pixels < 1)).any())
