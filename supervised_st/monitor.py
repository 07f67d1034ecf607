"""Watches where a transformer looks while it trains, and says in words what goes wrong."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from supervised_st._checks import check_shape, check_whole
from supervised_st._settings import shown_settings
from supervised_st.geometry import corners, distortion
from supervised_st.transformer import SupervisedSpatialTransformer

_SHARE = 0.25  # of the windows; from here on it is no exception
_STRETCH, _TURN = 2.0, 45.0  # beyond these a window is called distorted
_STEP = 2.0  # input pixels per output pixel; bilinear sampling blends two, so beyond it some are never read
_STILL = 1e-5  # pixels per optimizer step

_GO_BACK = "Go back to a checkpoint or call reset_head()"
_SLOW_DOWN = "lower the transformer's rate (with parameter_groups(), or with free_pace= of RegressiveGuidance)"
_STAY_INSIDE = "keep the windows inside with bounds=, which 'crop4', 'crop3' and 'translation' can have"


@dataclass(frozen=True)
class DistortionRecord:
    """How the windows of the probe images lie after ``step`` optimizer steps. See `geometry.Distortion`.

    ``scale`` to ``minification`` are medians over the images, ``outside`` and ``motion`` are means, and the rest are
    shares of the windows. So a few runaways show in the shares and leave the medians alone.
    """

    step: int  #: optimizer steps so far
    scale: float  #: geometric mean of theta's singular values: the window's side as a fraction of the image's
    anisotropy: float  #: ratio of the pixel steps' singular values; 1: undistorted
    rotation: float  #: absolute angle in degrees, [0, 180]
    minification: float  #: largest step in input pixels per output pixel
    outside: float  #: fraction of the windows' area out of bounds, [0, 1]
    motion: float  #: distance that corners moved since the last record, in pixels of the image per optimizer step
    lost: float  #: share of windows of which more than half lies out of bounds
    collapsed: float  #: share of windows that are narrower than one pixel of the image
    mirrored: float  #: share of windows that are mirrored


class DistortionMonitor:
    """Measures the windows of a few fixed images during training, in any training loop.

    Call `step` after each ``optimizer.step()`` and the ``step()`` of guidance. Every ``every`` steps, and once at the
    start, the transformer localizes the probe images: in eval mode, without gradients and without sampling, and then
    everything is as before. So training takes the same course with and without a monitor. A record costs one
    ``localize`` and one transfer of theta from the device.

    A UserWarning is given once, when a quarter of the windows is lost. `describe` says what is wrong at any time.

    Attributes:
        history: the `DistortionRecord` of each measurement, the oldest first.
        thetas: where the windows were at each measurement, ``[batch [region] 2 3]``, float64 on the CPU.
        steps: number of optimizer steps so far.

    Args:
        look: the transformer itself, not a wrapper around it.
        images: ``[batch channel height width]``, a small batch on the transformer's device, such as 16 validation
            images. It must not change.
        every: optimizer steps from one record to the next, positive.

    Raises:
        TypeError: if an argument does not have the type that is described.
        ValueError: if an argument does not have the shape or range that is described.
    """

    def __init__(self, look: SupervisedSpatialTransformer, images: Tensor, *, every: int = 10) -> None:
        if not isinstance(look, SupervisedSpatialTransformer):
            raise TypeError(
                f"look must be a SupervisedSpatialTransformer, got {type(look).__name__}; "
                "pass the layer itself, not what it returns or what wraps it"
            )
        if check_shape("images", images, "batch channel height width")["batch"] < 1:
            raise ValueError(f"images must hold at least one image, got shape {tuple(images.shape)}")
        check_whole("every", every)
        if every < 1:
            raise ValueError(f"every must be positive, got {every}")
        self.look, self.images, self.every = look, images, every
        self.steps = 0
        self._warned = False
        self.thetas = [self._localize()]
        self.history = [self._measure(self.thetas[0])]

    def step(self) -> None:
        """Count an optimizer step, and measure if it is time."""
        self.steps += 1
        if self.steps % self.every:
            return
        self.thetas.append(self._localize())
        self.history.append(self._measure(self.thetas[-2]))
        if self.history[-1].lost >= _SHARE and not self._warned:
            self._warned = True
            warnings.warn(self.describe(), stacklevel=2)

    def describe(self) -> str:
        """Return what the last record means: what is wrong and what to do about it, or that nothing is."""
        now = self.history[-1]
        findings = _ruined(now) or _impaired(now, self.look.antialias)
        return " ".join([f"After {now.step} optimizer steps:", *(findings or [_sound(now)])])

    def __repr__(self) -> str:
        """Show the settings that differ from their defaults, and the state."""
        settings = shown_settings(self, DistortionMonitor, hidden=("look", "images"))
        state = f"images={tuple(self.images.shape)}, steps={self.steps}, records={len(self.history)}"
        return f"DistortionMonitor({settings}, {state})" if settings else f"DistortionMonitor({state})"

    def _localize(self) -> Tensor:
        with torch.no_grad(), _evaluating(self.look):
            return self.look.localize(self.images).cpu().double()  # the only wait for the device

    def _measure(self, before: Tensor) -> DistortionRecord:
        theta, look, image_size = self.thetas[-1], self.look, (self.images.shape[-2], self.images.shape[-1])
        measured = distortion(theta, image_size, look.size, align_corners=look.align_corners)
        whole = distortion(theta, image_size, (1, 1), align_corners=look.align_corners)
        narrow_side = whole.minification / whole.anisotropy  # in pixels: here, one step crosses the whole window
        height, width = (max(pixels - look.align_corners, 1) for pixels in image_size)
        moved = (corners(theta) - corners(before)) * theta.new_tensor([width, height]) / 2
        return DistortionRecord(
            step=self.steps,
            scale=measured.scale.median().item(),
            anisotropy=measured.anisotropy.median().item(),
            rotation=measured.rotation.abs().rad2deg().median().item(),
            minification=measured.minification.median().item(),
            outside=measured.outside.mean().item(),
            motion=moved.norm(dim=-1).mean().item() / self.every,
            lost=_share(measured.outside > 0.5),
            collapsed=_share(narrow_side < 1),
            mirrored=_share(measured.reflected),
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put all submodules into eval mode, and each one back into its own mode."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()


def _ruined(now: DistortionRecord) -> list[str]:
    """Return the reason why nothing can be learned from the windows, if there is one."""
    if not math.isfinite(now.scale):
        return [f"theta is NaN or infinite: training has diverged. {_GO_BACK}, and {_SLOW_DOWN}, or clip gradients."]
    if now.lost >= _SHARE:
        return [
            f"{now.lost:.0%} of the windows lie more than half outside the image. Nothing there tells them the way "
            f"back. {_GO_BACK}, and {_SLOW_DOWN}, or {_STAY_INSIDE}."
        ]
    if now.collapsed >= _SHARE:
        return [
            f"{now.collapsed:.0%} of the windows are narrower than one pixel of the image. With head_init='gaussian' "
            "they start so, and guidance widens them. Otherwise weight decay on the head's bias may have shrunk them, "
            f"which parameter_groups() avoids. {_GO_BACK}, and {_SLOW_DOWN}, or {_STAY_INSIDE}."
        ]
    return []


def _impaired(now: DistortionRecord, antialias: bool) -> list[str]:
    """Return what makes the windows worse than they could be."""
    findings = []
    if now.outside >= _SHARE:
        findings.append(
            f"{now.outside:.0%} of the windows' area is outside the image: {_SLOW_DOWN}, or {_STAY_INSIDE}."
        )
    if now.minification > _STEP and not antialias:
        findings.append(
            f"the windows are so wide that one step of the output is {now.minification:.1f} pixels of the image, and "
            "pixels between are skipped: set antialias=True, or a larger size."
        )
    if now.anisotropy > _STRETCH or now.rotation > _TURN or now.mirrored >= _SHARE:
        findings.append(
            f"the windows are distorted: stretched {now.anisotropy:.1f} times, turned by {now.rotation:.0f} degrees, "
            f"{now.mirrored:.0%} mirrored. Unless that is wanted, choose a parameterization with fewer parameters, "
            f"such as 'crop3', and a size with the images' aspect ratio, or {_SLOW_DOWN}."
        )
    if now.step and now.motion < _STILL:
        findings.append(
            "the windows do not move. Unless that is wanted, check that the optimizer has the transformer's "
            "parameters, that they require gradients, that the loss depends on the glimpse, and that no rate is 0."
        )
    return findings


def _sound(now: DistortionRecord) -> str:
    return (
        f"the windows are fine. Their side is {now.scale:.2f} of the image's, {now.outside:.0%} of their area is "
        f"outside the image, and they move by {now.motion:.2g} pixels per step."
    )
