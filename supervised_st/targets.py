"""Targets of guidance: from boxes, points or score maps to windows to look at, each with a confidence.

Convention:
    Boxes and points are in pixels of the image, as windows and points of `supervised_st.geometry` are: the point
    ``(0, 0)`` is the center of the top-left pixel. Sizes are ``(height, width)`` in pixels, or one number for a square.

    Boxes and points that are missing have confidence 0, so that guidance ignores them, and their ``theta`` is NaN. All
    functions accept any number of leading batch axes: ``[batch ...]`` for one region per image, ``[batch region ...]``
    for several, and so for clips.

Raises:
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described. Numbers on other
        devices than the CPU, and in traced graphs, are not checked, except those of score maps.
"""

import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._checks import check_choice, check_finite, check_shape, check_size, check_tensor
from supervised_st._named_tuples import serializable
from supervised_st._precision import check_float64, widen
from supervised_st._sampler.tensors import has_values, is_transformed
from supervised_st.geometry.windows import FORMATS, are_fractions, as_xywh, check_windows, theta_of_windows
from supervised_st.motion import MotionWindow, best_window, window_profile, window_scores
from supervised_st.types import Size, WindowFormat


@serializable
class Target(NamedTuple):
    """Where to look, and how much it counts."""

    theta: Tensor  #: ``[... 2 3]``, float64 if what it was made of is, else float32; NaN if missing
    confidence: Tensor  #: ``[...]``, float32, the weight in the loss of guidance; 0 if missing


def from_boxes(
    boxes: Tensor,
    image_size: Size,
    *,
    format: WindowFormat = "xywh",
    confidence: Tensor | None = None,
    align_corners: bool = False,
) -> Target:
    """Return the targets that show boxes.

    Args:
        boxes: ``[... 4]``, integer or floating point. Boxes with a NaN or wholly outside the image are missing; the
            others have positive sides.
        image_size: of the image in which the boxes are.
        format: ``"xywh"`` or ``"xyxy"``, see `geometry.window_to_theta`, which warns of boxes in the wrong format.
        confidence: ``[...]``, not negative, such as a detector's scores, or a mask of the boxes that are not padding.
            Where it is 0 or False, the box is missing and may be anything. None: 1.
        align_corners: the convention of ``theta``.
    """
    check_shape("boxes", boxes, "... 4")
    check_choice("format", format, FORMATS)
    size = check_size("image_size", image_size)
    weights = _weights("boxes", boxes, confidence, ~boxes.isnan().any(-1))
    if _has_numbers(boxes):
        check_windows("boxes", boxes[weights > 0], size, format)
    x, y, width, height = as_xywh(boxes, format).unbind(-1)
    is_seen = (x < size[1]) & (y < size[0]) & (x + width > 0) & (y + height > 0)
    weights = torch.where(is_seen, weights, 0)
    return _target(theta_of_windows(boxes, size, format, align_corners=align_corners), weights, boxes.dtype)


def from_points(
    points: Tensor,
    image_size: Size,
    size: Size,
    *,
    confidence: Tensor | None = None,
    align_corners: bool = False,
) -> Target:
    """Return the targets that show windows of one size around points, such as where somebody looked.

    Near the edge of the image, a window reaches beyond it, so that the point stays in its middle.

    Args:
        points: ``[... 2]``, integer or floating point, ``(x, y)`` in pixels. Those outside the image or with a NaN are
            missing. If all look like fractions of the image's sides, there is a warning.
        image_size: of the image in which the points are.
        size: of the windows, at most the image's.
        confidence: ``[...]``, not negative; where it is 0 or False, the point is missing. None: 1.
        align_corners: the convention of ``theta``.
    """
    check_shape("points", points, "... 2")
    height, width = check_size("image_size", image_size)
    window_height, window_width = check_size("size", size)
    if window_height > height or window_width > width:
        raise ValueError(f"size must be at most image_size {(height, width)}, got {(window_height, window_width)}")
    x, y = points.unbind(-1)
    weights = _weights(
        "points", points, confidence, (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    )
    wide = widen(points)
    if _has_numbers(points) and are_fractions(wide[weights > 0]):
        warnings.warn(
            "points are in pixels, but these lie within one pixel of the image's corner; if they are fractions of its "
            "sides, multiply x by the image's width, and y by its height, and subtract 0.5",
            stacklevel=2,
        )
    x, y = wide.unbind(-1)
    left, top = x - (window_width - 1) / 2, y - (window_height - 1) / 2
    windows = torch.stack([left, top, torch.full_like(x, window_width), torch.full_like(x, window_height)], -1)
    return _target(theta_of_windows(windows, (height, width), align_corners=align_corners), weights, points.dtype)


@torch.no_grad()
def from_map(score_map: Tensor, size: Size, *, fallback: str = "invalid", align_corners: bool = False) -> MotionWindow:
    """Return the windows of one size with the highest sums of score maps, such as saliency, class activations or masks.

    Every window is tried, and sums are exact. Of several best windows it is the topmost, and of these the leftmost. A
    map may be smaller than the image: with ``align_corners=False``, ``theta`` is the same region at every resolution.

    Args:
        score_map: ``[... height width]``, not negative and finite; floating point, integer or truth values.
        size: of the windows in cells of the map, at most the map's: on a map of 16 x 16 for images of 64 x 64, 4 cells
            are 16 pixels.
        fallback: what to do where the map is zero, or all windows have the same sum, to one part in a million. The
            window is the one in the middle; ``"invalid"`` gives it confidence 0, ``"center"`` trusts it.
        align_corners: the convention of ``theta``.

    Returns:
        ``theta``, ``window`` in pixels of the map, ``score`` and ``confidence``, with the map's batch axes.
    """
    sizes = check_shape("score_map", score_map, "... height width")
    if score_map.is_complex():
        raise TypeError(f"score_map must be real, got {score_map.dtype}")
    check_float64("score_map", score_map)
    batch = score_map.shape[:-2]
    maps = score_map.double().reshape(batch.numel(), sizes["height"], sizes["width"])
    check_finite("score_map", maps)
    if (maps < 0).any():
        raise ValueError(
            f"score_map must not be negative, got {maps.min().item():g}; pass score_map.relu(), or subtract each map's "
            "lowest score"
        )
    profile = window_profile(window_scores(maps, size))
    map_size = (sizes["height"], sizes["width"])
    best = best_window(profile, size, map_size, fallback=fallback, align_corners=align_corners)
    return MotionWindow(*(field.reshape((*batch, *field.shape[1:])) for field in best))


def _weights(name: str, given: Tensor, confidence: Tensor | None, is_present: Tensor) -> Tensor:
    """Return the confidence of boxes or points as float32, and 0 where there are none."""
    if given.is_complex() or given.dtype == torch.bool:
        raise TypeError(f"{name} must be integer or floating point, got {given.dtype}")
    if confidence is None:
        return is_present.float()
    check_tensor("confidence", confidence)
    if confidence.shape != is_present.shape:
        raise ValueError(f"confidence must have shape {tuple(is_present.shape)}, got {tuple(confidence.shape)}")
    if confidence.device != given.device:
        raise ValueError(f"confidence must be on the device of {name}, {given.device}, got {confidence.device}")
    weights = torch.where(is_present, confidence.float(), 0)
    if _has_numbers(weights) and not ((weights >= 0) & weights.isfinite()).all():
        raise ValueError(f"confidence must be finite and not negative, got {confidence.min().item():g}")
    return weights


def _target(theta: Tensor, weights: Tensor, dtype: torch.dtype) -> Target:
    theta = torch.where((weights > 0)[..., None, None], theta, torch.nan)
    return Target(theta if dtype == torch.float64 else theta.float(), weights)


def _has_numbers(tensor: Tensor) -> bool:
    """Whether numbers can be read without waiting for a device, or breaking a traced graph."""
    return tensor.device.type == "cpu" and has_values(tensor) and not is_transformed(tensor)
