"""Where the transformers look: Figures 7 and 8 on this run's own frames, and how the windows' shape changes."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.image as mpl_image
import matplotlib.patheffects as effects
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike, NDArray

from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import ProbeFrames, Thetas
from examples.mpii_cooking.evaluation.tables import PAIR
from examples.mpii_cooking.report.figures_style import GRAY, VARIANT_COLORS, level_label, shortened
from examples.mpii_cooking.variants import Variant
from supervised_st import affine_sample, geometry

LineStyle = str | tuple[int, tuple[int, ...]]
Picture = NDArray[np.floating]

EPOCH_COLORS = {"start": "#FFE8C8", "middle": "#FDA94F", "end": "#D55E00"}
EPOCH_WIDTHS = {"start": 4.4, "middle": 3.0, "end": 1.6}  # so that regions which coincide are all seen
SHOWN_IN_FIGURE_7, SHOWN_IN_FIGURE_8 = 5, 4  # frames of each level, or one of each class if they were followed
WIDTH = 13  # of both in inches


_MEASURES = {
    "scale": "Side of the region\n(fraction of the frame's)",
    "anisotropy": "Longest over shortest side\n(1 is undistorted)",
    "rotation": "Rotation\n(degrees)",
    "outside": "Fraction of the region\noutside the frame",
}


def _pixels(points: Picture, side: int) -> Picture:
    """Normalized coordinates, -1 and 1 at the edges, to pixels."""
    return (points + 1) / 2 * side


def quadrilateral(theta: ArrayLike, side: int) -> Picture:
    """Return the corners (4, 2) of the region that ``theta`` samples, in pixels of a square image, edges at 0."""
    return _pixels(geometry.corners(torch.tensor(np.asarray(theta, dtype=np.float64))).numpy(), side)


def shown_frames(results: Results, usual: int) -> int:
    """Return how many of the followed frames are drawn: at least one of each class, unless there are too many."""
    followed, classes = len(results.probe_frames[0].images), len(results.tested)
    return min(followed, classes if usual < classes <= followed else usual)


def _show_frame(axes: Axes, results: Results, probe: ProbeFrames, index: int, folder: Path, width: float) -> Picture:
    """Draw a probe frame, of a width in inches, under the name of its class, and return it."""
    picture: Picture = mpl_image.imread(folder / probe.images[index])
    side = len(picture)
    axes.imshow(picture, extent=(0, side, side, 0), interpolation="nearest")
    axes.set(xlim=(-0.06 * side, 1.06 * side), ylim=(1.06 * side, -0.06 * side), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    name = results.dataset.classes[results.labels[probe.clips[index]]]
    axes.set_title(shortened(name, int(13 * width)), fontsize=8, color=GRAY, pad=3)
    return picture


def _outline(
    axes: Axes, theta: ArrayLike, side: int, color: str, *, style: LineStyle = "-", width: float = 1.8
) -> None:
    outline = Polygon(quadrilateral(theta, side), fill=False, edgecolor=color, linestyle=style, joinstyle="round")
    outline.set(linewidth=width, path_effects=[effects.withStroke(linewidth=width + 1.6, foreground="#00000099")])
    axes.add_patch(outline)


def figure_7(results: Results, folder: Path) -> Figure:
    """Draw the guided transformer's regions through joint training, and how far they drift."""
    probes, window = results.probe_frames, results.settings.data.glimpse
    shown = shown_frames(results, SHOWN_IN_FIGURE_7)
    width = WIDTH / (shown + 1.5)
    paths = [_path(results, probe, Variant.SSTN) for probe in probes]
    levels = [results.level(probe.level) for probe in probes]
    drifts = [drift(path, window / level.height) for path, level in zip(paths, levels, strict=True)]
    figure = Figure(figsize=(WIDTH, (width + 0.35) * len(probes) + 0.5), layout="constrained")
    grid = figure.subplots(len(probes), shown + 1, squeeze=False, width_ratios=[1] * shown + [1.5])
    for row, probe, path, level, distances in zip(grid, probes, paths, levels, drifts, strict=True):
        for index, axes in enumerate(row[:-1]):
            side = len(_show_frame(axes, results, probe, index, folder, width))
            _draw_path(axes, path[:, index], side)
            _outline(axes, probe.target[index], side, VARIANT_COLORS[Variant.HARD_CODED], style=(0, (3, 3)))
        row[0].set_ylabel(level_label(level), fontsize=10)
        _draw_drift(row[-1], distances, max(each.max() for each in drifts))
    grid[0, -1].set_title("Center's distance from its start\n(% of the window's side)", fontsize=8.5)
    grid[-1, -1].set_xlabel("epoch of joint training")
    lines = [Line2D([], [], color=color, lw=3, label=moment) for moment, color in EPOCH_COLORS.items()]
    lines.append(Line2D([], [], color=VARIANT_COLORS[Variant.HARD_CODED], lw=2.5, ls="--", label="motion window R_h"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _path(results: Results, probe: ProbeFrames, variant: Variant) -> Thetas:
    """Return where a transformer of the first seed, whose frames are shown, looks in them."""
    wanted = (results.seeds[0], probe.level, variant)
    return next(path.thetas for path in results.window_paths if (path.seed, path.level, path.variant) == wanted)


def _draw_path(axes: Axes, path: Thetas, side: int) -> None:
    """Draw one frame's region at three moments, and its center at all of them."""
    for moment, epoch in zip(EPOCH_COLORS, (0, (len(path) - 1) // 2, len(path) - 1), strict=True):
        _outline(axes, path[epoch], side, EPOCH_COLORS[moment], width=EPOCH_WIDTHS[moment])
    colors = mpl.colors.LinearSegmentedColormap.from_list("epochs", list(EPOCH_COLORS.values()))
    x, y = _pixels(path[..., 2], side).T
    axes.plot(x, y, color="#00000099", linewidth=1, zorder=3)
    shades = np.linspace(0, 1, len(path))
    axes.scatter(x, y, c=shades, cmap=colors, s=13, edgecolors="black", linewidths=0.5, zorder=4)


def drift(thetas: Thetas, side: float) -> NDArray[np.float64]:
    """Return how far each center is from its start, (moments, frames), in percent of the side, a crop's fraction."""
    centers = thetas[..., 2]  # from -1 to 1 across the crop
    distances: NDArray[np.float64] = np.linalg.norm(centers - centers[0], axis=-1)
    return 50 * distances / side


def _draw_drift(axes: Axes, distances: NDArray[np.float64], highest: float) -> None:
    axes.plot(distances, color=EPOCH_COLORS["middle"], linewidth=0.8, alpha=0.6)
    axes.plot(distances.mean(1), color=EPOCH_COLORS["end"], linewidth=2.2, marker="o", markersize=3)
    axes.set_ylim(0, max(1.1 * highest, 1))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))


def figure_8(results: Results, folder: Path) -> Figure:
    """Draw the regions of STN and SSTN after joint training, and what the classifier sees in them."""
    probes, side = results.probe_frames, results.settings.data.glimpse
    shown = shown_frames(results, SHOWN_IN_FIGURE_8)
    width = 0.68 * WIDTH / (shown + 0.16)
    figure = Figure(figsize=(WIDTH, (width + 0.33) * len(probes) + 0.5), layout="constrained")
    rows = figure.subfigures(len(probes), shown + 1, squeeze=False, wspace=0.02, width_ratios=[0.16] + [1] * shown)
    for row, probe in zip(rows, probes, strict=True):
        label = level_label(results.level(probe.level))
        row[0].text(0.5, 0.5, label, rotation=90, ha="center", va="center", fontsize=10)
        for index, cell in enumerate(row[1:]):
            panels = cell.subplot_mosaic([["frame", "STN"], ["frame", "SSTN"]], width_ratios=[2, 0.95])
            picture = _show_frame(panels["frame"], results, probe, index, folder, width)
            for variant in PAIR:
                theta, color = _path(results, probe, variant)[-1, index], VARIANT_COLORS[variant]
                _outline(panels["frame"], theta, len(picture), color)
                panel = panels[variant.key]
                panel.imshow(glimpse(picture, theta, side), interpolation="nearest")
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set(visible=True, color=color, linewidth=2)
    lines = [Line2D([], [], color=VARIANT_COLORS[variant], lw=3, label=variant.key) for variant in PAIR]
    figure.legend(handles=lines, loc="outside upper left", ncols=2)
    return figure


def glimpse(picture: Picture, theta: ArrayLike, side: int) -> Picture:
    """Sample what the classifier sees, (side, side, 3) in [0, 1]; out of bounds is gray."""
    image = torch.from_numpy(np.array(picture[..., :3])).permute(2, 0, 1)[None].float()
    window = torch.tensor(np.asarray(theta, dtype=np.float32))[None]
    sampled = affine_sample(image, window, (side, side), padding_mode="fill", fill_value=0.5)
    return sampled[0].permute(1, 2, 0).clamp(0, 1).numpy()


def shapes(thetas: Thetas, crop: int, glimpse: int) -> dict[str, NDArray[np.float64]]:
    """Return means of ``_MEASURES`` over each moment's frames, of the ratio the median; sides are in pixels."""
    measured = geometry.distortion(torch.from_numpy(thetas), (crop, crop), (glimpse, glimpse))
    return {
        "scale": measured.scale.mean(1).numpy(),
        "anisotropy": np.median(measured.anisotropy.numpy(), axis=1),
        "rotation": measured.rotation.abs().rad2deg().mean(1).numpy(),
        "outside": measured.outside.mean(1).numpy(),
    }


def distortion(results: Results) -> Figure:
    """Draw the four measures of the windows' shape through joint training, STN against SSTN, a row for each level."""
    levels, glimpse = results.settings.data.levels, results.settings.data.glimpse
    colors = [VARIANT_COLORS[variant] for variant in (*PAIR, Variant.HARD_CODED)]
    figure = Figure(figsize=(13, 2.1 * len(levels) + 0.6), layout="constrained")
    grid = figure.subplots(len(levels), len(_MEASURES), squeeze=False, sharey="col", sharex=True)
    for row, level in zip(grid, levels, strict=True):
        undistorted = {"scale": glimpse / level.height, "anisotropy": 1, "rotation": 0, "outside": 0}
        for axes, measure in zip(row, _MEASURES, strict=True):
            axes.axhline(undistorted[measure], color=colors[-1], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
        for path in results.window_paths:
            if path.level == level.name and path.variant in PAIR and path.seed in results.seeds:
                measured = shapes(path.thetas, level.height, glimpse)
                line = ":" if path.variant is Variant.STN else "-"
                for axes, measure in zip(row, _MEASURES, strict=True):
                    finite = np.where(np.isfinite(measured[measure]), measured[measure], np.nan)  # a gap
                    axes.plot(finite, color=VARIANT_COLORS[path.variant], linestyle=line, linewidth=2, zorder=2)
        row[0].set_ylabel(level_label(level), fontsize=10)
    for axes, (measure, title) in zip(grid[0], _MEASURES.items(), strict=True):
        axes.set_title(title)
        if measure == "anisotropy":  # a ratio: twice as long is as far from 1 as half as long
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    for axes in grid[-1]:
        axes.set_xlabel("epoch of joint training")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
    names, lines = ("STN", "SSTN", "hard-coded window R_h"), (":", "-", "--")
    handles = [
        Line2D([], [], color=color, lw=width, ls=line, label=name)
        for color, width, line, name in zip(colors, (2, 2, 1.2), lines, names, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure
