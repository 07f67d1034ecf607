"""Figures 7 and 8: where the transformers look, drawn on this run's own frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.image as mpl_image
import matplotlib.patheffects as effects
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike

from examples.mpii_cooking.report.figures_style import GRAY, VARIANT_COLORS, Results, level_label, shortened
from supervised_st import affine_sample, geometry

LineStyle = str | tuple[int, tuple[int, ...]]

EPOCH_COLORS = {"start": "#FFE8C8", "middle": "#FDA94F", "end": "#D55E00"}
EPOCH_WIDTHS = {"start": 4.4, "middle": 3.0, "end": 1.6}  # so that regions which coincide are all seen
FRAMES_SHOWN = {"figure-7": 5, "figure-8": 4}


def _side(picture: np.ndarray) -> int:
    return picture.shape[0]


def _pixels(points: np.ndarray, side: int) -> np.ndarray:
    """Normalized coordinates, -1 and 1 at the edges, to pixels."""
    return (points + 1) / 2 * side


def quadrilateral(theta: ArrayLike, side: int) -> np.ndarray:
    """Return the corners (4, 2) of the region that ``theta`` samples, in pixels of a square image, edges at 0."""
    return _pixels(geometry.corners(torch.tensor(np.asarray(theta, dtype=np.float64))).numpy(), side)


def _show_frame(axes: Axes, picture: np.ndarray) -> None:
    side = _side(picture)
    axes.imshow(picture, extent=(0, side, side, 0), interpolation="nearest")
    axes.set(xlim=(-0.06 * side, 1.06 * side), ylim=(1.06 * side, -0.06 * side), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _outline(
    axes: Axes, theta: ArrayLike, side: int, color: str, style: LineStyle = "-", *, width: float = 1.8
) -> None:
    outline = Polygon(quadrilateral(theta, side), fill=False, edgecolor=color, linestyle=style, joinstyle="round")
    outline.set(linewidth=width, path_effects=[effects.withStroke(linewidth=width + 1.6, foreground="#00000099")])
    axes.add_patch(outline)


def _caption_frame(axes: Axes, results: Results, look: Mapping[str, Any], index: int) -> None:
    name = results["dataset"]["classes"][look["labels"][index]]
    axes.set_title(shortened(name, 26), fontsize=8, color=GRAY, pad=3)


def figure_7(results: Results, folder: Path) -> Figure:
    """Draw the guided transformer's regions through joint training, and how far they drift."""
    looks, shown = results["looks"], FRAMES_SHOWN["figure-7"]
    figure = Figure(figsize=(13, 2.35 * len(looks) + 0.5), layout="constrained")
    grid = figure.subplots(len(looks), shown + 1, squeeze=False, width_ratios=[1] * shown + [1.5])
    highest = max(drift(look).max() for look in looks)
    for row, look in zip(grid, looks, strict=True):
        thetas = np.asarray(look["SSTN"])
        for index, axes in enumerate(row[:-1]):
            if index >= len(look["images"]):
                axes.set_axis_off()
                continue
            picture = mpl_image.imread(folder / look["images"][index])
            _show_frame(axes, picture)
            _caption_frame(axes, results, look, index)
            for moment, epoch in zip(EPOCH_COLORS, (0, (len(thetas) - 1) // 2, len(thetas) - 1), strict=True):
                _outline(axes, thetas[epoch, index], _side(picture), EPOCH_COLORS[moment], width=EPOCH_WIDTHS[moment])
            _outline(axes, look["target"][index], _side(picture), VARIANT_COLORS["R_h"], (0, (3, 3)))
            _draw_path(axes, _pixels(thetas[:, index, :, 2], _side(picture)))
        row[0].set_ylabel(level_label(results, look["level"]), fontsize=10)
        _draw_drift(row[-1], look, highest)
    grid[0, -1].set_title("Center's distance from its start\n(% of the window's side)", fontsize=8.5)
    grid[-1, -1].set_xlabel("epoch of joint training")
    lines = [Line2D([], [], color=color, lw=3, label=moment) for moment, color in EPOCH_COLORS.items()]
    lines.append(Line2D([], [], color=VARIANT_COLORS["R_h"], lw=2.5, ls="--", label="motion window R_h"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _draw_path(axes: Axes, centers: np.ndarray) -> None:
    colors = mpl.colors.LinearSegmentedColormap.from_list("epochs", list(EPOCH_COLORS.values()))
    axes.plot(*centers.T, color="#00000099", linewidth=1, zorder=3)
    axes.scatter(
        *centers.T, c=np.linspace(0, 1, len(centers)), cmap=colors, s=13, edgecolors="black", linewidths=0.5, zorder=4
    )


def drift(look: Mapping[str, Any]) -> np.ndarray:
    """Return how far each region's center is from its start, (epochs, frames), in percent of the window's side."""
    centers = np.asarray(look["SSTN"])[..., 2]
    window = np.asarray(look["target"])[0, 0, 0]  # half the window's side in normalized units, as t is
    return 50 * np.linalg.norm(centers - centers[0], axis=-1) / window


def _draw_drift(axes: Axes, look: Mapping[str, Any], highest: float) -> None:
    distances = drift(look)
    axes.plot(distances, color=EPOCH_COLORS["middle"], linewidth=0.8, alpha=0.6)
    axes.plot(distances.mean(1), color=EPOCH_COLORS["end"], linewidth=2.2, marker="o", markersize=3)
    axes.set_ylim(0, max(1.1 * highest, 1))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))


def figure_8(results: Results, folder: Path) -> Figure:
    """Draw the regions of STN and SSTN after joint training, and what the classifier sees in them."""
    looks, shown = results["looks"], FRAMES_SHOWN["figure-8"]
    figure = Figure(figsize=(13, 2.45 * len(looks) + 0.5), layout="constrained")
    rows = figure.subfigures(len(looks), shown + 1, squeeze=False, wspace=0.02, width_ratios=[0.16] + [1] * shown)
    for row, look in zip(rows, looks, strict=True):
        row[0].text(0.5, 0.5, level_label(results, look["level"]), rotation=90, ha="center", va="center", fontsize=10)
        for index, cell in enumerate(row[1 : len(look["images"]) + 1]):
            panels = cell.subplot_mosaic([["frame", "STN"], ["frame", "SSTN"]], width_ratios=[2, 0.95])
            picture = mpl_image.imread(folder / look["images"][index])
            _show_frame(panels["frame"], picture)
            _caption_frame(panels["frame"], results, look, index)
            for variant in ("STN", "SSTN"):
                theta = look[variant][-1][index]
                _outline(panels["frame"], theta, _side(picture), VARIANT_COLORS[variant])
                _show_glimpse(
                    panels[variant], glimpse(picture, theta, results["levels"][0]["glimpse"]), VARIANT_COLORS[variant]
                )
    lines = [Line2D([], [], color=VARIANT_COLORS[variant], lw=3, label=variant) for variant in ("STN", "SSTN")]
    figure.legend(handles=lines, loc="outside upper left", ncols=2)
    return figure


def glimpse(picture: np.ndarray, theta: ArrayLike, side: int) -> np.ndarray:
    """Sample what the classifier sees, (side, side, 3) in [0, 1]; gray is outside the picture."""
    image = torch.from_numpy(np.array(picture[..., :3])).permute(2, 0, 1)[None].float()
    sampled = affine_sample(
        image,
        torch.tensor(np.asarray(theta, dtype=np.float32))[None],
        (side, side),
        padding_mode="fill",
        fill_value=0.5,
    )
    return sampled[0].permute(1, 2, 0).clamp(0, 1).numpy()


def _show_glimpse(axes: Axes, sampled: np.ndarray, color: str) -> None:
    axes.imshow(sampled, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=color, linewidth=2)
