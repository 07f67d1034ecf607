"""From optical flow to the window with the most motion, as a target ``theta``.

Convention:
    Flow is a displacement ``(u, v)`` in pixels of its own grid, x first. A window is ``(x0, y0, width, height)`` in
    pixels of the same grid, where ``(x0, y0)`` is its top-left pixel.
"""

from functools import partial, reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from supervised_st._checks import check_choice, check_floating, check_shape, check_size
from supervised_st.geometry import window_to_theta

_UNDECIDED = 1e-6  # share of the best score; float32 flow of a uniform motion makes windows differ by less than this


class MotionWindow(NamedTuple):
    """Where the motion is, relative to the crop that was searched; one window per sample."""

    theta: Tensor  #: ``[batch 2 3]`` float32, maps output to the crop's normalized coordinates
    window: Tensor  #: ``[batch 4]`` int64, ``(x0, y0, width, height)`` in the crop's pixels
    score: Tensor  #: ``[batch]`` float64, sum of the motion map in the window that the search found
    confidence: Tensor  #: ``[batch]`` float32, 1; with ``fallback="invalid"`` 0 where there was no motion


class WindowProfile(NamedTuple):
    """The best window of every column: all that a crop chosen later needs to know of the scores."""

    score: Tensor  #: ``[batch column]`` float64, score of the best window whose left edge is at this column
    row: Tensor  #: ``[batch column]`` int64, y0 of that window, the topmost where several are best
    lowest: Tensor | None = None  #: ``[batch column]`` float64, smallest score; None: uniform motion counts as motion


def motion_map(
    flow: Tensor,
    *,
    components: str = "both",
    power: int = 2,
    reduction: str = "mean",
    floor: float = 0.0,
    bound: float | None = None,
) -> Tensor:
    """Return how much moves at every pixel: the mean squared length of the flows there.

    Flows are read one field at a time, so that memory does not grow with their number.

    Args:
        flow: ``[batch field 2 height width]``, ``(u, v)`` in pixels, floating point; or uint8, where q stands for
            ``(q - 128) 2 bound / 255`` pixels.
        components: ``"both"``, or only ``"u"`` (horizontal) or ``"v"`` (vertical) motion.
        power: 2 for squared lengths, 1 for lengths.
        reduction: ``"mean"`` or ``"max"`` over the fields.
        floor: what counts as noise, in the map's own unit (pixels to the ``power``); subtracted, not below zero.
        bound: the displacement in pixels at which 8-bit flow saturates; for uint8 flow only, and needed there.

    Returns:
        ``[batch height width]``, float64, not negative.

    Raises:
        TypeError: if ``flow`` is neither floating point nor uint8.
        ValueError: if shapes or choices do not fit, ``bound`` is missing or superfluous, or a sample's motion is not
            finite.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, eq. (2); the square of a flow vector is
        taken as its squared length.
    """
    fields = check_shape("flow", flow, "batch field 2 height width")["field"]
    if fields < 1:
        raise ValueError(f"flow must hold at least one field, got shape {tuple(flow.shape)}")
    _check_motion_options(components, power, reduction, floor)
    _check_bound(flow, bound)
    combine = torch.add if reduction == "mean" else torch.maximum
    motion = reduce(combine, (_energy(_in_pixels(field, bound), components, power) for field in flow.unbind(1)))
    if reduction == "mean":
        motion = motion / fields
    _check_finite("flow", motion)
    return (motion - floor).clamp_min(0)


def window_scores(motion: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the sum of a map over every window of one size, in time independent of that size.

    The sums are differences of an integral image (summed-area table). Beforehand each map is rounded to multiples of
    ``2^-52`` of its total (more exactly, of the next power of two), after which every float64 sum is exact: windows
    that tie do tie, in whatever order the device adds. Whole-numbered maps are not changed at all.

    Args:
        motion: ``[batch height width]``, floating point, any sign.
        size: ``(height, width)`` of the window in pixels.

    Returns:
        ``[batch row column]``, float64: at ``[n, y0, x0]`` the sum over the window whose top-left pixel is (x0, y0);
        ``height - h + 1`` rows and ``width - w + 1`` columns.

    Raises:
        TypeError: if ``motion`` is not floating point.
        ValueError: if it is not finite, or smaller than the window.

    Reference:
        Crow, Summed-area tables for texture mapping, SIGGRAPH 1984: https://doi.org/10.1145/800031.808600
    """
    sizes = check_shape("motion", motion, "batch height width")
    check_floating("motion", motion)
    height, width = check_size("size", size)
    if height > sizes["height"] or width > sizes["width"]:
        raise ValueError(
            f"size must fit into the map of (height, width) {(sizes['height'], sizes['width'])}, got {(height, width)}"
        )
    _check_finite("motion", motion)
    integral = nn.functional.pad(_exactly_summable(motion.double()).cumsum(1).cumsum(2), (1, 0, 1, 0))
    strips = integral[:, height:] - integral[:, :-height]
    return strips[..., width:] - strips[..., :-width]


def window_profile(scores: Tensor) -> WindowProfile:
    """Keep of all scores those of each column's best (and worst) window.

    Args:
        scores: ``[batch row column]``, as from `window_scores`.

    Raises:
        ValueError: if ``scores`` has another shape or no window at all.
    """
    sizes = check_shape("scores", scores, "batch row column")
    if not sizes["row"] or not sizes["column"]:
        raise ValueError(f"scores must hold at least one window, got shape {tuple(scores.shape)}")
    lowest, best = scores.aminmax(dim=1)
    rows = torch.arange(sizes["row"], device=scores.device)[:, None]
    topmost = torch.where(scores == best[:, None], rows, sizes["row"] - 1).amin(1)
    return WindowProfile(best, topmost, lowest)


def containing_offset(
    window_x: Tensor, window_width: int, crop_width: int, frame_width: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the column of a crop that contains a given window, uniformly among all such columns of the frame.

    The third way, beside ``restrict="research"`` and ``"clamp"``, to bring window and random crop together: find the
    window in the whole frame first, then crop around it.

    Args:
        window_x: ``[batch]``, integer: each window's left pixel in the frame.
        window_width: in pixels.
        crop_width: in pixels.
        frame_width: in pixels.
        generator: source of randomness; torch's global one if None.

    Returns:
        ``[batch]``, int64, the crop's left pixel in the frame.

    Raises:
        TypeError: if ``window_x`` is not of an integer type.
        ValueError: unless window <= crop <= frame in width and every window lies in the frame.
    """
    check_shape("window_x", window_x, "batch")
    _check_integer("window_x", window_x)
    if not 1 <= window_width <= crop_width <= frame_width:
        raise ValueError(
            "widths must satisfy 1 <= window_width <= crop_width <= frame_width, "
            f"got {window_width}, {crop_width}, {frame_width}"
        )
    outside = (window_x < 0) | (window_x > frame_width - window_width)
    if outside.any():
        raise ValueError(
            f"window_x must lie in [0, {frame_width - window_width}], got {window_x[outside][0]} "
            f"in sample {_first(outside)}"
        )
    low = (window_x + window_width - crop_width).clamp_min(0).long()
    high = window_x.clamp_max(frame_width - crop_width).long()
    device = window_x.device if generator is None else generator.device
    draw = torch.rand(window_x.shape, generator=generator, dtype=torch.float64, device=device).to(window_x.device)
    return low + (draw * (high - low + 1)).long()


class MotionWindowTarget(nn.Module):
    """The window of one size that holds the most motion, found exactly, as a target ``theta``.

    Every position is tried. Where several windows are best, the topmost and of these the leftmost is taken. There is
    no motion where the best score is zero, below ``min_motion``, or the same for all windows (to one part in a
    million; a window as large as what is searched is such a case); ``fallback`` then takes its place.

    Args:
        size: of the window in pixels of the flow's grid: ``(height, width)``, or one number for a square.
        bound: see `motion_map`.
        components: see `motion_map`.
        power: see `motion_map`.
        reduction: see `motion_map`.
        floor: see `motion_map`.
        restrict: how the window is kept inside a crop. ``"research"``: the search runs among the crop's own windows;
            ``"clamp"``: it runs in the whole frame and the window is then moved into the crop.
        fallback: what stands in where there is no motion. ``"center"``: the window in the middle of the crop;
            ``"invalid"``: the same, with confidence 0; ``"previous"``, for batches in the order of time: the place in
            the frame that the nearest earlier sample of the batch with motion has, moved into the crop, and the middle
            if there is none.
        min_motion: smallest score that counts as motion: pixels to the ``power``, summed over the window.
        align_corners: the convention of ``theta``, see `supervised_st.geometry`.

    Raises:
        ValueError: if an option is unknown or out of range.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, section 3.2. The paper searches the
        network's own input, which is ``restrict="research"``; ties and missing motion are not defined there.
    """

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        bound: float | None = None,
        components: str = "both",
        power: int = 2,
        reduction: str = "mean",
        floor: float = 0.0,
        restrict: str = "research",
        fallback: str = "center",
        min_motion: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        _check_motion_options(components, power, reduction, floor)
        check_choice("restrict", restrict, ("research", "clamp"))
        check_choice("fallback", fallback, ("center", "invalid", "previous"))
        if not min_motion >= 0:
            raise ValueError(f"min_motion must not be negative, got {min_motion}")
        if bound is not None and not 0 < bound < float("inf"):
            raise ValueError(f"bound must be a positive number of pixels, got {bound}")
        self.size = check_size("size", size if isinstance(size, tuple) else (size, size))
        self.restrict = restrict
        self.fallback = fallback
        self.min_motion = min_motion
        self.align_corners = align_corners
        self._motion_map = partial(
            motion_map, components=components, power=power, reduction=reduction, floor=floor, bound=bound
        )

    @torch.no_grad()
    def forward(self, flow: Tensor, *, crop: Tensor | tuple[int, int, int, int] | None = None) -> MotionWindow:
        """Find the window, relative to ``crop`` (the whole frame if None).

        Args:
            flow: ``[batch field 2 height width]``, see `motion_map`.
            crop: ``(x0, y0, width, height)`` in pixels of the flow's grid; a tensor ``[batch 4]`` of integers gives
                every sample its own. As images of a batch do, all crops have one size.

        Raises:
            TypeError: if ``flow`` or ``crop`` has the wrong type.
            ValueError: if the flow is not finite, a crop leaves the frame, or the window does not fit into the crop.
        """
        scores = self._scores(flow)
        crops = self._crops(crop, flow)
        if self.restrict == "clamp":
            return self._aim(window_profile(scores), torch.zeros_like(crops.origin), crops)
        return self._aim(window_profile(_windows_inside(scores, crops, self.size)), crops.origin, crops)

    @torch.no_grad()
    def profile(self, flow: Tensor) -> WindowProfile:
        """Search once for all full-height crops of a frame, to be finished by `from_profile`.

        Args:
            flow: ``[batch field 2 height width]``, see `motion_map`.

        Returns:
            Tensors ``[batch column]`` with ``width - w + 1`` columns.

        Raises:
            TypeError: if ``flow`` has the wrong type.
            ValueError: if the flow is not finite or smaller than the window.
        """
        return window_profile(self._scores(flow))

    @torch.no_grad()
    def from_profile(self, profile: WindowProfile, *, crop_x: Tensor, crop_size: tuple[int, int]) -> MotionWindow:
        """Find the window in full-height crops: exactly what `forward` finds there, without the flow.

        Args:
            profile: of this window size, for frames of height ``crop_size[0]``.
            crop_x: ``[batch]``, integer, each crop's left pixel in the frame.
            crop_size: ``(height, width)`` of the crops in pixels.

        Raises:
            TypeError: if ``crop_x`` is not of an integer type.
            ValueError: if shapes do not fit, a crop leaves the frame, or the window does not fit into the crop.
        """
        sizes = check_shape("profile.score", profile.score, "batch column")
        check_shape("profile.row", profile.row, "batch column", **sizes)
        check_shape("crop_x", crop_x, "batch", batch=sizes["batch"])
        _check_integer("crop_x", crop_x)
        height, width = check_size("crop_size", crop_size)
        if (profile.row > height - self.size[0]).any():
            raise ValueError(f"crop_size must be full height, got {(height, width)} for a profile with windows below")
        left = crop_x.to(profile.score.device, torch.int64)
        crops = _Crops(torch.stack([left, torch.zeros_like(left)], 1), (height, width))
        crops.check((height, sizes["column"] + self.size[1] - 1), self.size)
        if self.restrict == "clamp":
            return self._aim(profile, torch.zeros_like(crops.origin), crops)
        columns = left[:, None] + torch.arange(width - self.size[1] + 1, device=left.device)
        inside = WindowProfile(
            profile.score.gather(1, columns),
            profile.row.gather(1, columns),
            None if profile.lowest is None else profile.lowest.gather(1, columns),
        )
        return self._aim(inside, crops.origin, crops)

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        return f"size={self.size}, restrict={self.restrict!r}, fallback={self.fallback!r}"

    def _scores(self, flow: Tensor) -> Tensor:
        return window_scores(self._motion_map(flow), self.size)

    def _crops(self, crop: Tensor | tuple[int, int, int, int] | None, flow: Tensor) -> "_Crops":
        batch, (frame_height, frame_width) = flow.shape[0], flow.shape[-2:]
        if crop is None:
            crop = (0, 0, frame_width, frame_height)
        boxes = crop if isinstance(crop, Tensor) else torch.tensor(crop).expand(batch, -1)
        check_shape("crop", boxes, "batch 4", batch=batch)
        _check_integer("crop", boxes)
        boxes = boxes.to(flow.device, torch.int64)
        if (boxes[:, 2:] != boxes[:1, 2:]).any():
            raise ValueError(f"crop must have one (width, height) for the whole batch, got {boxes[:, 2:].tolist()}")
        width, height = boxes[0, 2:].tolist() if batch else (frame_width, frame_height)
        crops = _Crops(boxes[:, :2], (height, width))
        crops.check((frame_height, frame_width), self.size)
        return crops

    def _aim(self, profile: WindowProfile, origin: Tensor, crops: "_Crops") -> MotionWindow:
        """Choose among the columns of a profile whose first window stands at ``origin`` of the frame."""
        score = profile.score.amax(1)
        place = origin + _topmost_then_leftmost(profile, score)
        decided = (score > 0) & (score >= self.min_motion)
        if profile.lowest is not None:
            decided &= score - profile.lowest.amin(1) > _UNDECIDED * score
        height, width = self.size
        room = origin.new_tensor([crops.size[1] - width, crops.size[0] - height])
        corner = self._fall_back(place, decided, crops.origin + room // 2) - crops.origin
        corner = torch.minimum(corner.clamp_min(0), room)
        window = torch.cat([corner, corner.new_tensor([width, height]).expand_as(corner)], 1)
        theta = window_to_theta(window, crops.size, align_corners=self.align_corners)
        confidence = decided.float() if self.fallback == "invalid" else torch.ones_like(score, dtype=torch.float32)
        return MotionWindow(theta, window, score, confidence)

    def _fall_back(self, place: Tensor, decided: Tensor, middle: Tensor) -> Tensor:
        if self.fallback != "previous":
            return torch.where(decided[:, None], place, middle)
        samples = torch.arange(len(place), device=place.device)
        latest = torch.where(decided, samples, -1).cummax(0).values
        return torch.where(latest[:, None] >= 0, place[latest.clamp_min(0)], middle)


class _Crops(NamedTuple):
    """Parts of the frames: top-left pixels ``[batch 2]`` (x0, y0), and the one size (height, width)."""

    origin: Tensor
    size: tuple[int, int]

    def check(self, frame: tuple[int, int], window: tuple[int, int]) -> None:
        """Raise ValueError unless window <= crop in size and the crop lies in the frame; all (height, width)."""
        if window[0] > self.size[0] or window[1] > self.size[1]:
            raise ValueError(f"size of the window must fit into the crop of (height, width) {self.size}, got {window}")
        room = self.origin.new_tensor([frame[1] - self.size[1], frame[0] - self.size[0]])
        outside = ((self.origin < 0) | (self.origin > room)).any(1)
        if outside.any():
            raise ValueError(
                f"crop must lie in the frame of (height, width) {frame}, got (x0, y0) "
                f"{tuple(self.origin[outside][0].tolist())} and (height, width) {self.size} in sample {_first(outside)}"
            )


def _energy(field: Tensor, components: str, power: int) -> Tensor:
    """Length of the flow vectors, ``[batch 2 height width] -> [batch height width]``, to the given power."""
    u, v = field.unbind(1)
    if components == "both":
        return u * u + v * v if power == 2 else torch.hypot(u, v)
    component = u if components == "u" else v
    return component * component if power == 2 else component.abs()


def _in_pixels(field: Tensor, bound: float | None) -> Tensor:
    return field.double() if bound is None else (field.double() - 128) * (2 * bound / 255)


def _exactly_summable(motion: Tensor) -> Tensor:
    """Round each sample to multiples of 2^-52 times the power of two above its total of absolute values."""
    total = motion.abs().sum((1, 2), keepdim=True)
    mantissa, _ = torch.frexp(total)
    quantum = torch.where(total > 0, total / torch.where(total > 0, mantissa, 1), 1) * 2.0**-52
    return (motion / quantum).round() * quantum


def _windows_inside(scores: Tensor, crops: _Crops, size: tuple[int, int]) -> Tensor:
    """Scores of the windows that lie in each sample's crop."""
    samples = torch.arange(len(scores), device=scores.device)[:, None, None]
    left, top = crops.origin.unbind(1)
    rows = top[:, None] + torch.arange(crops.size[0] - size[0] + 1, device=scores.device)
    columns = left[:, None] + torch.arange(crops.size[1] - size[1] + 1, device=scores.device)
    return scores[samples, rows[:, :, None], columns[:, None]]


def _topmost_then_leftmost(profile: WindowProfile, score: Tensor) -> Tensor:
    """``[batch 2]``, (x0, y0) of the first window in row-major order whose score is the best."""
    width = profile.score.shape[1]
    order = profile.row * width + torch.arange(width, device=score.device)
    first = torch.where(profile.score == score[:, None], order, torch.iinfo(torch.int64).max).amin(1)
    return torch.stack([first % width, first // width], 1)


def _first(failing: Tensor) -> int:
    return int(failing.nonzero()[0])


def _check_motion_options(components: str, power: int, reduction: str, floor: float) -> None:
    check_choice("components", components, ("both", "u", "v"))
    check_choice("reduction", reduction, ("mean", "max"))
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}")
    if not floor >= 0:
        raise ValueError(f"floor must not be negative, got {floor}")


def _check_bound(flow: Tensor, bound: float | None) -> None:
    if flow.dtype != torch.uint8:
        check_floating("flow", flow)
        if bound is not None:
            raise ValueError(f"bound is for uint8 flow only, got bound={bound} with {flow.dtype} flow in pixels")
    elif bound is None or not 0 < bound < float("inf"):
        raise ValueError(f"bound must say, in pixels, where uint8 flow saturates, got {bound}")


def _check_integer(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be of an integer type, got {tensor.dtype}")


def _check_finite(name: str, motion: Tensor) -> None:
    broken = ~motion.isfinite().flatten(1).all(1)
    if broken.any():
        raise ValueError(f"{name} must be finite, got nan or inf in sample {_first(broken)}")
