"""Pictures of where a transformer looks, and of how that changes during training.

Convention:
    Axes are in pixels of the image, and ``(0, 0)`` is the center of the top-left pixel, as in
    `supervised_st.geometry`. Tensors may be on any device and require gradients.

    matplotlib (``pip install 'supervised-st[plot]'``) is imported when something is drawn. Its settings and pyplot are
    left alone: without ``axes`` or ``figure``, a new figure is made, which ``savefig`` saves and a notebook shows. For
    ``plt.show()``, pass ``axes=plt.gca()`` or ``figure=plt.figure()``.

Raises:
    ImportError: by every function, if matplotlib is not installed.
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supervised_st._checks import check_dtype, check_flag, check_number, check_shape, check_size, check_whole
from supervised_st._sampler.options import IMAGE_DTYPES
from supervised_st.geometry import corners
from supervised_st.geometry._theta import check_theta, spans
from supervised_st.monitor import DistortionMonitor
from supervised_st.transformer import Glimpse
from supervised_st.types import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

COLORS = ("#FF7F0E", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#0072B2")
"""Colors of windows, told apart with every kind of color vision, and seen on dark and light images."""

_INCHES = 2.2  # width of a panel
_MARGIN = 0.03  # around the image and its windows, as a fraction of the longer side of what is shown
_MEASURES = {
    "scale": "Side of the windows\n(fraction of the image's)",
    "anisotropy": "Longest over shortest step\n(1 is undistorted)",
    "rotation": "Rotation\n(degrees)",
    "minification": "Step\n(image pixels per output pixel)",
    "motion": "Motion of the corners\n(pixels per optimizer step)",
}
_SHARES = {"outside": "area out of bounds", "lost": "lost", "collapsed": "collapsed", "mirrored": "mirrored"}


def windows(
    image: Tensor,
    theta: Tensor | Mapping[str, Tensor],
    *,
    axes: "Axes | None" = None,
    colors: Sequence[str] = COLORS,
    limits: tuple[float, float] | None = None,
    legend: bool = True,
    align_corners: bool = False,
) -> "Axes":
    """Draw an image, and over it the regions that ``theta`` samples, whole: the axes grow where they leave the image.

    Args:
        image: ``[channel height width]`` with 1, 3 or 4 channels, or ``[height width]``; floating point or uint8.
        theta: ``[... 2 3]``, any number of regions, each in a color of its own; or some such tensors by name, such as
            ``{"target": target.theta[0], "guided": glimpse.theta[0]}``, each in one color, with a legend. Regions with
            infinite or NaN corners are not drawn.
        axes: to draw into.
        colors: of the regions or names, in order; they repeat.
        limits: the floating-point values that are black and white. None: 0 and 1, or the lowest and highest value if
            they are lower or higher. For uint8 they are 0 and 255.
        legend: of names, above the axes. For one legend of a figure, leave it out here, and pass
            ``axes.get_legend_handles_labels()`` to ``figure.legend``.
        align_corners: the convention of ``theta``.
    """
    check_flag("legend", legend)
    axes = _new_axes() if axes is None else axes
    _show(axes, "image", image, _limits({"image": image}, limits))
    image_size = (image.shape[-2], image.shape[-1])
    if not isinstance(theta, Mapping):
        check_theta("theta", theta)
        for region, color in zip(theta.reshape(-1, 2, 3), cycle(colors), strict=False):
            outline(axes, region, image_size, color=color, align_corners=align_corners)
        return axes
    named: list[Polygon] = []
    for (name, regions), color in zip(theta.items(), cycle(colors), strict=False):
        named += outline(axes, regions, image_size, color=color, label=name, align_corners=align_corners)[:1]
    if legend:
        _add_legend_above(axes, named)
    return axes


def _add_legend_above(axes: "Axes", handles: "list[Polygon]") -> None:
    """Add a legend above the axes, in as many columns as fit."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
    look: dict[str, Any] = {"frameon": False, "fontsize": "small", "handlelength": 1.2, "columnspacing": 1.2}
    for columns in range(max(len(handles), 1), 0, -1):
        legend = axes.legend(handles=handles, ncols=columns, **place, **look)
        if legend.get_window_extent().width <= axes.get_window_extent().width:
            return


def outline(
    axes: "Axes",
    theta: Tensor,
    image_size: Size,
    *,
    color: str = COLORS[0],
    label: str | None = None,
    width: float = 2.0,
    style: str | tuple[int, Sequence[int]] = "-",
    align_corners: bool = False,
) -> "list[Polygon]":
    """Draw the outlines of the regions that ``theta`` samples, over an image that the axes show in pixels.

    Args:
        axes: to draw into. They grow until they hold all regions.
        theta: ``[... 2 3]``. Regions with infinite or NaN corners are not drawn.
        image_size: of the image.
        color: of the lines, as matplotlib takes it. They have a dark edge, so that they are seen on every image.
        label: name in a legend, shown once for all regions.
        width: of the lines, in points.
        style: of the lines, as matplotlib takes it.
        align_corners: the convention of ``theta``. If True, the lines go through the centers of the outer pixels.

    Returns:
        The quadrilaterals that were drawn, in order.
    """
    from matplotlib.patches import Polygon
    from matplotlib.patheffects import withStroke

    points = _corners_in_pixels(theta, check_size("image_size", image_size), align_corners)
    drawn: list[Polygon] = []
    for quadrilateral in points[points.isfinite().all(-1).all(-1)]:
        polygon = Polygon(quadrilateral.numpy(), fill=False, edgecolor=color, linewidth=width, linestyle=style)
        polygon.set(joinstyle="round", path_effects=[withStroke(linewidth=width + 1.6, foreground="#00000099")])
        polygon.set_label("_" if drawn or label is None else label)
        axes.add_patch(polygon)
        drawn.append(polygon)
    _grow(axes)
    return drawn


def glimpses(
    images: Tensor,
    glimpse: Glimpse,
    *,
    figure: "Figure | None" = None,
    colors: Sequence[str] = COLORS,
    limits: tuple[float, float] | None = None,
    align_corners: bool = False,
) -> "Figure":
    """Draw a column for each image: the image with its regions, and below it what is seen in each region.

    Args:
        images: ``[batch channel height width]`` with 1, 3 or 4 channels, floating point or uint8; a handful.
        glimpse: of these images, such as ``look(images)``, with any number of regions. Glimpses of feature maps cannot
            be shown: pass ``Glimpse(look.sample(images, theta), theta)``.
        figure: to draw into; it should be empty.
        colors: of the regions and of the frames around what is seen in them, in order; they repeat.
        limits: as for `windows`; images and glimpses share them.
        align_corners: the convention of the glimpse's ``theta``.
    """
    batch = check_shape("images", images, "batch channel height width")["batch"]
    theta, seen = glimpse.theta, glimpse.image
    check_theta("glimpse.theta", theta)
    theta = theta[:, None] if theta.ndim == 3 else theta
    seen = seen[:, None] if seen.ndim == 4 else seen
    regions = check_shape("glimpse.theta", theta, "batch region 2 3", batch=batch)["region"]
    check_shape("glimpse.image", seen, "batch region channel h w", batch=batch, region=regions)
    if not batch or not regions:
        raise ValueError(f"images must hold at least one image, and theta one region, got {batch} and {regions}")
    limits = _limits({"images": images, "glimpse.image": seen}, limits)
    heights = [images.shape[-2] / images.shape[-1], *[seen.shape[-2] / seen.shape[-1]] * regions]
    if figure is None:
        figure = _new_figure(_INCHES * batch, _INCHES * sum(heights))
    grid = figure.subplots(1 + regions, batch, squeeze=False, height_ratios=heights)
    for n, column in enumerate(grid.T):
        windows(images[n], theta[n], axes=column[0], colors=colors, limits=limits, align_corners=align_corners)
        for panel, tile, color in zip(column[1:], seen[n], cycle(colors), strict=False):
            _show(panel, "glimpse.image", tile, limits)
            panel.spines[:].set(visible=True, color=color, linewidth=2)
    return figure


def drift(monitor: DistortionMonitor, *, since: int = 0, axes: "Axes | None" = None) -> "Axes":
    """Draw how far the centers of the windows are from where they were, over the optimizer steps.

    Args:
        monitor: of a training run.
        since: the step from which distances are measured, such as that at which guidance ended; the first record that
            is not before it counts.
        axes: to draw into. They get a thin line for each window, and a thick one for the mean.
    """
    _check_monitor(monitor)
    check_whole("since", since)
    records = [n for n, record in enumerate(monitor.history) if record.step >= since]
    if not records:
        raise ValueError(f"since must be at most the last record's step {monitor.history[-1].step}, got {since}")
    axes = _new_axes() if axes is None else axes
    steps = [monitor.history[n].step for n in records]
    thetas = torch.stack([monitor.thetas[n] for n in records]).flatten(1, -3)
    image_size = (monitor.images.shape[-2], monitor.images.shape[-1])
    span = spans(thetas, image_size, align_corners=monitor.look.align_corners)
    moved = (thetas[..., 2] - thetas[0, :, :, 2]) * span / 2
    distances = _without_infinity(moved.norm(dim=-1))
    lines = axes.plot(steps, distances.numpy(), color="C0", linewidth=0.8, alpha=0.5)
    lines[0].set_label("one window")
    axes.plot(steps, distances.mean(1).numpy(), color="C1", linewidth=2.2, label="mean")
    axes.set(xlabel="optimizer steps", ylabel="distance of the centers (pixels)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return axes


def distortion(monitor: DistortionMonitor, *, figure: "Figure | None" = None) -> "Figure":
    """Draw the measures of the windows' shape and place over the optimizer steps, as in ``monitor.history``.

    Args:
        monitor: of a training run.
        figure: to draw into; it should be empty. It gets six panels. What is infinite leaves a gap.
    """
    _check_monitor(monitor)
    if figure is None:
        figure = _new_figure(10, 5.2)
    steps = [record.step for record in monitor.history]
    panels = figure.subplots(2, 3, sharex=True)

    def curve(name: str) -> Tensor:
        values = [getattr(record, name) for record in monitor.history]
        return _without_infinity(torch.tensor(values, device="cpu"))

    for panel, (name, title) in zip(panels.flat, _MEASURES.items(), strict=False):
        panel.plot(steps, curve(name).numpy(), color="C0", linewidth=2)
        panel.set_title(title, fontsize="medium")
    for name, label in _SHARES.items():
        panels[-1, -1].plot(steps, (100 * curve(name)).numpy(), linewidth=2, label=label)
    panels[-1, -1].set(ylim=(-4, 104))
    panels[-1, -1].set_title("Area out of bounds, and windows\nthat are no good (%)", fontsize="medium")
    panels[-1, -1].legend(frameon=False, fontsize="small")
    for panel in panels[-1]:
        panel.set_xlabel("optimizer steps")
    return figure


def _new_figure(width: float, height: float) -> "Figure":
    """Return a figure that pyplot does not know, with sides in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("supervised_st.plot needs matplotlib: run pip install 'supervised-st[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _new_axes() -> "Axes":
    return _new_figure(6.4, 4.8).subplots()


def _check_monitor(monitor: DistortionMonitor) -> None:
    if not isinstance(monitor, DistortionMonitor):
        raise TypeError(f"monitor must be a DistortionMonitor, got {type(monitor).__name__}")


def _without_infinity(values: Tensor) -> Tensor:
    return torch.where(values.isfinite(), values, torch.nan)


def _limits(images: Mapping[str, Tensor], limits: tuple[float, float] | None) -> tuple[float, float]:
    """Return the values that are black and white in all of some images."""
    for name, image in images.items():
        check_dtype(name, image, IMAGE_DTYPES)
    if limits is None:
        values = [image.detach()[image.isfinite()] for image in images.values() if image.is_floating_point()]
        ends = [end.item() for each in values if each.numel() for end in each.aminmax()]
        return min([0.0, *ends]), max([1.0, *ends])
    try:
        low, high = limits
    except (TypeError, ValueError):
        raise TypeError(f"limits must be two numbers (low, high), got {limits!r}") from None
    check_number("limits[0]", low)
    check_number("limits[1]", high)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"limits must be finite, and the second larger than the first, got {limits}")
    return low, high


def _show(axes: "Axes", name: str, image: Tensor, limits: tuple[float, float]) -> None:
    """Draw an image ``[channel height width]`` or ``[height width]`` without ticks or a frame."""
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[0] not in (1, 3, 4)):
        raise ValueError(
            f"{name} must be one image [channel height width] with 1, 3 or 4 channels, or [height width], got shape "
            f"{tuple(image.shape)}; pass image[0] of a batch, and image.movedim(-1, 0) of [height width channel]"
        )
    low, high = (0, 255) if image.dtype == torch.uint8 else limits
    scaled = (image.detach().cpu().double() - low) / (high - low)
    shown = scaled.nan_to_num(0.0, posinf=1.0, neginf=0.0).clamp(0, 1)
    gray = shown.squeeze(0) if image.ndim == 3 and image.shape[0] == 1 else shown
    pixels = gray.movedim(0, -1) if gray.ndim == 3 else gray
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _corners_in_pixels(theta: Tensor, image_size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return ``[region 4 2]``, float64 on the CPU."""
    check_theta("theta", theta)
    check_flag("align_corners", align_corners)
    wide = theta.detach().cpu().double().reshape(-1, 2, 3)
    span = spans(wide, image_size, align_corners=align_corners)
    return (corners(wide) + 1) / 2 * span - (0.0 if align_corners else 0.5)


def _grow(axes: "Axes") -> None:
    """Move the limits of the axes out, in whichever direction they run, until they hold everything with a margin."""
    shown = axes.dataLim
    margin = _MARGIN * max(shown.width, shown.height)
    (left, right), (top, bottom) = axes.get_xbound(), axes.get_ybound()
    axes.set_xbound(min(left, shown.x0 - margin), max(right, shown.x1 + margin))
    axes.set_ybound(min(top, shown.y0 - margin), max(bottom, shown.y1 + margin))
