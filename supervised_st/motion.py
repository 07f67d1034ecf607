"""From optical flow to the window with the most motion, as a target ``theta``.

Convention:
    Flow is a displacement ``(u, v)`` in pixels of its own grid, x first. A window is ``(x0, y0, width, height)`` in
    pixels of the same grid, where ``(x0, y0)`` is its top-left pixel. Sizes are ``(height, width)`` in pixels, or one
    number for a square. Everything is in float64, so tensors must not be on MPS, which has none.

Raises:
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described.
"""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from supervised_st._checks import (
    check_choice,
    check_finite,
    check_flag,
    check_floating,
    check_integer,
    check_number,
    check_shape,
    check_size,
    first_true,
)
from supervised_st._named_tuples import serializable
from supervised_st._precision import check_float64
from supervised_st._settings import shown_settings
from supervised_st.geometry import window_to_theta
from supervised_st.types import Size

_SMALLEST_TOTAL = 2.0**-900  # of a map that is rounded, so that the unit of rounding and its inverse are normal numbers
_LINES = 128  # rows or columns that are summed at a time, so that they stay in the processor's cache
_TIE = 1e-6  # relative to the best score; in float32 flow of a uniform motion, windows differ by less than this


@serializable
class MotionWindow(NamedTuple):
    """The window with the most motion, or the highest sum of other scores, relative to the crop that was searched."""

    theta: Tensor  #: ``[batch 2 3]`` float32, maps output to the crop's normalized coordinates
    window: Tensor  #: ``[batch 4]`` int64, ``(x0, y0, width, height)`` in the crop's pixels
    score: Tensor  #: ``[batch]`` float64, sum of the map in the best window
    confidence: Tensor  #: ``[batch]`` float32, 1; with ``fallback="invalid"`` 0 where there is no motion


@serializable
class WindowProfile(NamedTuple):
    """The best window of every column. It is enough to search full-height crops that are chosen later."""

    score: Tensor  #: ``[batch column]`` float64, score of the best window whose left edge is at this column
    row: Tensor  #: ``[batch column]`` int64, y0 of that window; the topmost if several are best
    lowest: Tensor | None = None  #: ``[batch column]`` float64, lowest score; None: uniform motion counts as motion


def motion_map(flow: Tensor, *, bound: float | None = None) -> Tensor:
    """Return the motion at every pixel: the mean squared length of the flow vectors there.

    Flow fields are converted one at a time, so memory does not grow with their number.

    Args:
        flow: ``[batch field 2 height width]``, ``(u, v)`` in pixels, floating point; or uint8, where q means
            ``(q - 128) 2 bound / 255`` pixels. Finite, and at least one field.
        bound: the displacement in pixels at which uint8 flow saturates; required for uint8 flow, and only for it.

    Returns:
        ``[batch height width]``, float64, in squared pixels.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, eq. (2). The square of a flow vector is
        taken to be its squared length.
    """
    if isinstance(flow, Tensor) and flow.ndim == 4 and flow.shape[1] == 2:
        raise ValueError(
            f"flow must have shape (batch, field, 2, height, width), got {tuple(flow.shape)}; "
            "if each sample has one field, pass flow[:, None]"
        )
    fields = check_shape("flow", flow, "batch field 2 height width")["field"]
    check_float64("flow", flow)
    if bound is not None:
        check_number("bound", bound)
    if fields < 1:
        raise ValueError(f"flow must hold at least one field, got shape {tuple(flow.shape)}")
    if flow.dtype == torch.uint8:
        if bound is None or not 0 < bound < float("inf"):
            raise ValueError(f"bound must be the displacement in pixels at which uint8 flow saturates, got {bound}")
    else:
        check_floating("flow", flow)
        if bound is not None:
            raise ValueError(f"bound must be None for floating-point flow, which is in pixels, got {bound}")
    motion = reduce(torch.add, (_squared_length(field, bound) for field in flow.unbind(1))) / fields
    check_finite("flow", motion)
    return motion


@torch.no_grad()
def window_scores(motion: Tensor, size: Size) -> Tensor:
    """Return the sum of a map over every window of one size. The time does not depend on that size.

    The sums are differences of running sums, along rows and then along columns. Each map is first rounded to multiples
    of ``2^-52`` times the power of two above its total. Every float64 sum is then exact: equal windows have equal sums
    on every device. Maps of integers are not changed by this.

    Args:
        motion: ``[batch height width]``, floating point, finite with a finite sum, any sign. It gets no gradient.
        size: of the window; at most the map's.

    Returns:
        ``[batch row column]``, float64: entry ``[n, y0, x0]`` is the sum over the window with the top-left pixel
        ``(x0, y0)``. There are ``height - size[0] + 1`` rows and ``width - size[1] + 1`` columns.
    """
    sizes = check_shape("motion", motion, "batch height width")
    check_floating("motion", motion)
    check_float64("motion", motion)
    height, width = check_size("size", size)
    if height > sizes["height"] or width > sizes["width"]:
        raise ValueError(
            f"size must be at most the map's (height, width) {(sizes['height'], sizes['width'])}, got {(height, width)}"
        )
    motion = motion.double()
    quantum = _quantum(motion)
    # Turned, so that running sums go along memory; first they are sums along rows, then over windows.
    sums = motion.new_empty(sizes["batch"], sizes["width"] - width + 1, sizes["height"])
    for rows, out in zip(torch.split(motion, _LINES, 1), torch.split(sums, _LINES, 2), strict=True):
        _window_sums((rows * (1 / quantum)).round_().mul_(quantum).cumsum_(-1), width, out=out.mT)
    scores = sums[..., : sizes["height"] - height + 1]
    for columns, out in zip(torch.split(sums, _LINES, 1), torch.split(scores, _LINES, 1), strict=True):
        _window_sums(columns.cumsum(-1), height, out=out)
    return scores.mT


def window_profile(scores: Tensor) -> WindowProfile:
    """Return the best and the lowest score of each column of ``scores`` ``[batch row column]``, not empty."""
    sizes = check_shape("scores", scores, "batch row column")
    if not sizes["row"] or not sizes["column"]:
        raise ValueError(f"scores must hold at least one window, got shape {tuple(scores.shape)}")
    best, topmost = scores.max(1)  # of equal scores, the first
    return WindowProfile(best, topmost, scores.amin(1))


@torch.no_grad()
def best_window(
    profile: WindowProfile, size: Size, map_size: Size, *, fallback: str = "center", align_corners: bool = False
) -> MotionWindow:
    """Return the best window of all that a profile was made of: the search of every kind of target.

    Args:
        profile: from `window_profile`, of all windows of this size in maps of that.
        size: of the windows.
        map_size: of the maps.
        fallback: as for `MotionWindowTarget`, which also says what counts as no motion.
        align_corners: the convention of ``theta``, see `supervised_st.geometry`.
    """
    check_choice("fallback", fallback, ("center", "invalid"))
    (height, width), (map_height, map_width) = check_size("size", size), check_size("map_size", map_size)
    columns = check_shape("profile.score", profile.score, "batch column")["column"]
    if columns != map_width - width + 1 or height > map_height:
        raise ValueError(
            f"size and map_size must be those of the profile with {columns} columns, got {(height, width)} and "
            f"{(map_height, map_width)}"
        )
    score = profile.score.amax(1)
    has_motion = score > 0
    if profile.lowest is not None:
        has_motion &= score - profile.lowest.amin(1) > _TIE * score
    middle = profile.row.new_tensor([(map_width - width) // 2, (map_height - height) // 2])
    corner = torch.where(has_motion[:, None], _topmost_then_leftmost(profile, score), middle)
    window = torch.cat([corner, corner.new_tensor([width, height]).expand_as(corner)], 1)
    theta = window_to_theta(window, (map_height, map_width), align_corners=align_corners)
    confidence = has_motion.float() if fallback == "invalid" else torch.ones_like(score, dtype=torch.float32)
    return MotionWindow(theta, window, score, confidence)


class MotionWindowTarget(nn.Module):
    """Find the window of one size that holds the most motion, exactly, as a target ``theta``.

    Every position is tried. If several windows are best, the topmost is taken, and of these the leftmost. There is no
    motion where the best score is zero, or where all windows have the same score (to one part in a million); a window
    as large as the crop is such a case. The window is then the one in the middle of the crop.

    A full-height random crop of a frame needs no new search: keep the frame's `profile`, and pass it to
    `from_profile` with the crop's place.

    Args:
        size: of the window.
        bound: for uint8 flow, see `motion_map`.
        fallback: what to do where there is no motion. ``"center"``: trust the window in the middle like any other;
            ``"invalid"``: give it confidence 0, so that guidance ignores it.
        align_corners: the convention of ``theta``, see `supervised_st.geometry`.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, section 3.2. The paper searches the
        network's own input, which is the crop here. It does not define ties and missing motion.
    """

    def __init__(
        self,
        size: Size,
        *,
        bound: float | None = None,
        fallback: str = "center",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_choice("fallback", fallback, ("center", "invalid"))
        check_flag("align_corners", align_corners)
        if bound is not None:
            check_number("bound", bound)
        if bound is not None and not 0 < bound < float("inf"):
            raise ValueError(f"bound must be a positive number of pixels, got {bound}")
        self.size = check_size("size", size)
        self.bound, self.fallback, self.align_corners = bound, fallback, align_corners

    @torch.no_grad()
    def forward(self, flow: Tensor, *, crop: Tensor | tuple[int, int, int, int] | None = None) -> MotionWindow:
        """Find the window, relative to ``crop`` (the whole frame if None).

        Args:
            flow: ``[batch field 2 height width]``, see `motion_map`.
            crop: ``(x0, y0, width, height)``, or an integer tensor ``[batch 4]`` with one crop per sample. All crops of
                a batch have the same size. They lie in the frame, and the window fits into them.
        """
        scores = self._scores(flow)
        crops = self._crops(crop, flow)
        return self._best(window_profile(_windows_inside(scores, crops, self.size)), crops.size)

    @torch.no_grad()
    def profile(self, flow: Tensor) -> WindowProfile:
        """Search once for all full-height crops of a frame; `from_profile` then finds the window of each crop.

        ``flow`` is ``[batch field 2 height width]``, see `motion_map`. For windows of width w, the profile has
        ``width - w + 1`` columns.
        """
        return window_profile(self._scores(flow))

    @torch.no_grad()
    def from_profile(self, profile: WindowProfile, *, crop_x: Tensor, crop_size: Size) -> MotionWindow:
        """Find the window in full-height crops: the same window that `forward` finds there, without the flow.

        Args:
            profile: from `profile` with this window size, of frames of height ``crop_size[0]``.
            crop_x: ``[batch]``, integer, each crop's left pixel. Crops lie in the frame.
            crop_size: of the crops; at least the window's.
        """
        if not isinstance(profile, WindowProfile):
            raise TypeError(f"profile must be a WindowProfile, got {type(profile).__name__}")
        sizes = check_shape("profile.score", profile.score, "batch column")
        check_shape("profile.row", profile.row, "batch column", **sizes)
        check_shape("crop_x", crop_x, "batch", batch=sizes["batch"])
        check_integer("crop_x", crop_x)
        height, width = check_size("crop_size", crop_size)
        if (profile.row > height - self.size[0]).any():
            raise ValueError(
                f"crop_size must have the height of the profile's frames, got {(height, width)} for a profile with "
                f"windows that end at row {int(profile.row.max()) + self.size[0]}"
            )
        left = crop_x.to(profile.score.device, torch.int64)
        crops = _Crops(torch.stack([left, torch.zeros_like(left)], 1), (height, width))
        crops.check((height, sizes["column"] + self.size[1] - 1), self.size)
        columns = left[:, None] + torch.arange(width - self.size[1] + 1, device=left.device)
        inside = WindowProfile(
            profile.score.gather(1, columns),
            profile.row.gather(1, columns),
            None if profile.lowest is None else profile.lowest.gather(1, columns),
        )
        return self._best(inside, crops.size)

    def extra_repr(self) -> str:
        """Return the size and the settings that differ from their defaults, for ``repr``."""
        return shown_settings(self, MotionWindowTarget)

    def _scores(self, flow: Tensor) -> Tensor:
        return window_scores(motion_map(flow, bound=self.bound), self.size)

    def _best(self, profile: WindowProfile, crop_size: tuple[int, int]) -> MotionWindow:
        return best_window(profile, self.size, crop_size, fallback=self.fallback, align_corners=self.align_corners)

    def _crops(self, crop: Tensor | tuple[int, int, int, int] | None, flow: Tensor) -> "_Crops":
        batch, (frame_height, frame_width) = flow.shape[0], flow.shape[-2:]
        if crop is None:
            crop = (0, 0, frame_width, frame_height)
        boxes = crop if isinstance(crop, Tensor) else _box(crop, flow.device).expand(batch, -1)
        check_shape("crop", boxes, "batch 4", batch=batch)
        check_integer("crop", boxes)
        boxes = boxes.to(flow.device, torch.int64)
        if (boxes[:, 2:] != boxes[:1, 2:]).any():
            raise ValueError(f"crop must have one (width, height) for the whole batch, got {boxes[:, 2:].tolist()}")
        width, height = boxes[0, 2:].tolist() if batch else (frame_width, frame_height)
        crops = _Crops(boxes[:, :2], (height, width))
        crops.check((frame_height, frame_width), self.size)
        return crops


class _Crops(NamedTuple):
    """The crops of a batch: top-left pixels ``[batch 2]``, (x0, y0), and their common size, (height, width)."""

    origin: Tensor
    size: tuple[int, int]

    def check(self, frame: tuple[int, int], window: tuple[int, int]) -> None:
        """Raise ValueError unless the window fits into the crops and these lie in the frame, all (height, width)."""
        if window[0] > self.size[0] or window[1] > self.size[1]:
            raise ValueError(f"size of the window must be at most the crop's (height, width) {self.size}, got {window}")
        room = self.origin.new_tensor([frame[1] - self.size[1], frame[0] - self.size[0]])
        outside = ((self.origin < 0) | (self.origin > room)).any(1)
        if outside.any():
            sample = first_true(outside)
            raise ValueError(
                f"crop must lie in the frame of (height, width) {frame}, got (x0, y0) "
                f"{tuple(self.origin[sample].tolist())} and (height, width) {self.size} in sample {sample}"
            )


def _box(crop: tuple[int, int, int, int], device: torch.device) -> Tensor:
    try:
        box = torch.tensor(crop, device=device)
    except (TypeError, ValueError, RuntimeError):
        box = torch.empty(0, 0)
    if box.ndim != 1:
        raise TypeError(f"crop must be (x0, y0, width, height), or an integer tensor of one a sample, got {crop!r}")
    return box


def _squared_length(field: Tensor, bound: float | None) -> Tensor:
    pixels = field.double() if bound is None else (field.double() - 128) * (2 * bound / 255)
    u, v = pixels.unbind(1)
    return u * u + v * v


def _quantum(motion: Tensor) -> Tensor:
    """Return ``[batch 1 1]``: 2^-52 times the power of two above the sum of a map's absolute values.

    Sums of up to 2^53 multiples of it are exact. Raise ValueError if a map or its sum is not finite.
    """
    has_signs = motion.numel() > 0 and bool(motion.amin() < 0)
    total = (motion.abs() if has_signs else motion).sum((1, 2), keepdim=True)
    if not total.isfinite().all():
        check_finite("motion", motion)
        check_finite("the sum of motion", total)
    total = total.clamp_min(_SMALLEST_TOTAL)
    mantissa, _ = torch.frexp(total)
    return total * 2.0**-52 / mantissa


def _window_sums(running: Tensor, length: int, *, out: Tensor) -> None:
    """Write the sums over every window along the last axis to ``out``, from sums over all windows that start at 0."""
    out[..., 0] = running[..., length - 1]
    torch.sub(running[..., length:], running[..., :-length], out=out[..., 1:])


def _windows_inside(scores: Tensor, crops: _Crops, size: tuple[int, int]) -> Tensor:
    """Return the scores of the windows that lie in each sample's crop, as ``[batch row column]``."""
    samples = torch.arange(len(scores), device=scores.device)[:, None, None]
    left, top = crops.origin.unbind(1)
    rows = top[:, None] + torch.arange(crops.size[0] - size[0] + 1, device=scores.device)
    columns = left[:, None] + torch.arange(crops.size[1] - size[1] + 1, device=scores.device)
    return scores[samples, rows[:, :, None], columns[:, None]]


def _topmost_then_leftmost(profile: WindowProfile, score: Tensor) -> Tensor:
    """Return ``[batch 2]``, (x0, y0) of the first window in row-major order that has the best score."""
    width = profile.score.shape[1]
    order = profile.row * width + torch.arange(width, device=score.device)
    first = torch.where(profile.score == score[:, None], order, torch.iinfo(torch.int64).max).amin(1)
    return torch.stack([first % width, first // width], 1)
