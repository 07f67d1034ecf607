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
from numpy.typing import ArrayLike, NDArray

from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import ProbeFrames, Thetas
from examples.mpii_cooking.evaluation.tables import PAIR
from examples.mpii_cooking.report.figures_style import GRAY, VARIANT_COLORS, WIDTH, level_label, shortened
from examples.mpii_cooking.variants import Variant
from supervised_st import affine_sample, geometry, plot

LineStyle = str | tuple[int, tuple[int, ...]]
Picture = NDArray[np.floating]

EPOCH_COLORS = {"start": "#FFE8C8", "middle": "#FDA94F", "end": "#D05800"}  # over frames; none becomes another if dark
EPOCH_WIDTHS = {"start": 4.4, "middle": 3.0, "end": 1.6}  # so that regions which coincide are all seen
SHOWN = 4  # frames of each level: few, so that they are large
TILE = 2.4  # inches: the side of a tile's frame
GAP = 0.09  # inches between the regions under it
EDGE = 0.025  # inches around them, for their lines
FARTHEST = 0.25  # of the frame's side: regions that go farther beyond it are cut


_MEASURES = {
    "scale": "Side of the region\n(fraction of the frame's)",
    "anisotropy": "Longest over shortest side\n(1 is undistorted)",
    "rotation": "Rotation\n(degrees)",
    "outside": "Fraction of the region\noutside the frame",
}


def shown_frames(results: Results) -> list[int]:
    """Return which of the followed frames are drawn: of as many classes as they can be of."""
    followed = len(results.probe_frames[0].images)
    different = min(followed, max(len(results.tested), SHOWN))  # the first ones are of a class each
    return [place * different // min(different, SHOWN) for place in range(min(different, SHOWN))]


def class_shown(results: Results, probe: ProbeFrames, index: int) -> str:
    """Return the class of a followed frame."""
    name: str = results.dataset.classes[results.labels[probe.clips[index]]]
    return name


def _picture(folder: Path, probe: ProbeFrames, index: int) -> Picture:
    picture: Picture = mpl_image.imread(folder / probe.images[index])
    return picture


def _sharpest(results: Results, probe: ProbeFrames) -> ProbeFrames:
    """Return the followed frames of the finest level, which show the same as those of another."""
    finest = results.probe_frames[-1]
    return finest if (finest.clips, finest.frames) == (probe.clips, probe.frames) else probe


def _show_frame(axes: Axes, picture: Picture, reach: float) -> int:
    """Draw a frame, with room around it for ``reach`` sides, and return its side in pixels."""
    side = len(picture)
    axes.imshow(picture, interpolation="none")
    low, high = -reach * side - 0.5, (1 + reach) * side - 0.5
    axes.set(xlim=(low, high), ylim=(high, low), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    return side


def reach(thetas: ArrayLike) -> float:
    """Return how far regions go beyond their frames, in sides, with a margin for their lines, and at most so far."""
    corners = geometry.corners(torch.tensor(np.asarray(thetas, dtype=np.float64)))
    return min(max(corners.abs().max().item() / 2 - 0.5, 0) + 0.02, FARTHEST)


def _outline(
    axes: Axes, theta: ArrayLike, side: int, color: str, *, style: LineStyle = "-", width: float = 1.8
) -> None:
    room = axes.get_xlim(), axes.get_ylim()
    region = torch.tensor(np.asarray(theta, dtype=np.float64))
    plot.outline(axes, region, side, color=color, style=style, width=width)
    axes.set(xlim=room[0], ylim=room[1])  # a lost region would make its frame too small to see


def figure_7(results: Results, folder: Path) -> Figure:
    """Draw the guided transformer's regions through joint training, and how far they drift."""
    probes, window, shown = results.probe_frames, results.settings.data.glimpse, shown_frames(results)
    width = WIDTH / (len(shown) + 1.5)
    paths = [_path(results, probe, Variant.SSTN) for probe in probes]
    levels = [results.level(probe.level) for probe in probes]
    drifts = [drift(path, window / level.height) for path, level in zip(paths, levels, strict=True)]
    figure = Figure(figsize=(WIDTH, (width + 0.35) * len(probes) + 0.5), layout="constrained")
    grid = figure.subplots(len(probes), len(shown) + 1, squeeze=False, width_ratios=[1] * len(shown) + [1.5])
    for row, probe, path, level, distances in zip(grid, probes, paths, levels, drifts, strict=True):
        room = reach(np.concatenate([path[:, shown], probe.target[None, shown]]))
        for index, axes in zip(shown, row[:-1], strict=True):
            side = _show_frame(axes, _picture(folder, _sharpest(results, probe), index), room)
            name = shortened(class_shown(results, probe, index), int(13 * width))
            axes.set_title(name, fontsize=8, color=GRAY, pad=3)
            _draw_path(axes, path[:, index], side)
            _outline(axes, probe.target[index], side, VARIANT_COLORS[Variant.HARD_CODED], style=(0, (3, 3)))
        row[0].set_ylabel(level_label(level), fontsize=10)
        _draw_drift(row[-1], distances, max(each.max() for each in drifts))
    grid[0, -1].set_title("Center's distance from its start\n(% of the window's side)", fontsize=8.5)
    grid[-1, -1].set_xlabel("epoch of joint training")
    edge = effects.withStroke(linewidth=4.2, foreground="#00000099")
    lines = [
        Line2D([], [], color=color, lw=3, label=moment, path_effects=[edge]) for moment, color in EPOCH_COLORS.items()
    ]
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
    x, y = ((path[..., 2] + 1) / 2 * side - 0.5).T  # 0 is the center of a pixel
    axes.plot(x, y, color="#00000099", linewidth=1, zorder=3)
    shades = np.linspace(0, 1, len(path))
    axes.scatter(x, y, c=shades, cmap=colors, s=13, edgecolors="black", linewidths=0.5, zorder=4)


def drift(thetas: Thetas, side: float) -> NDArray[np.float64]:
    """Return how far each center is from its start, (moments, frames), in percent of the side, a crop's fraction."""
    centers = thetas[..., 2]  # from -1 to 1 across the crop
    distances: NDArray[np.float64] = np.linalg.norm(centers - centers[0], axis=-1)
    return 50 * distances / side


def _draw_drift(axes: Axes, distances: NDArray[np.float64], highest: float) -> None:
    color = VARIANT_COLORS[Variant.SSTN]
    axes.plot(distances, color=color, linewidth=0.8, alpha=0.35)
    axes.plot(distances.mean(1), color=color, linewidth=2.2, marker="o", markersize=3)
    axes.set_ylim(0, max(1.1 * highest, 1))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))


def tile_name(probe: ProbeFrames, index: int) -> str:
    """Return the name of a tile's file."""
    return f"looks-{probe.level}-{index}"


def tile(results: Results, probe: ProbeFrames, index: int, folder: Path) -> Figure:
    """Draw a frame with the three windows after joint training, and under it what the classifier sees in each."""
    windows = windows_shown(results, probe)
    small = (TILE - 2 * EDGE - GAP * (len(windows) - 1)) / len(windows)
    height = TILE + GAP + small + 2 * EDGE
    figure = Figure(figsize=(TILE, height))
    frame = figure.add_axes((0, 1 - TILE / height, 1, TILE / height))
    shown = np.array(shown_frames(results))
    side = _show_frame(
        frame,
        _picture(folder, _sharpest(results, probe), index),
        reach(np.stack([thetas[shown] for thetas in windows.values()])),
    )
    seen = _picture(folder, probe, index)
    for place, (variant, thetas) in enumerate(windows.items()):
        _outline(frame, thetas[index], side, VARIANT_COLORS[variant])
        left = EDGE + place * (small + GAP)
        panel = figure.add_axes((left / TILE, EDGE / height, small / TILE, small / height))
        panel.imshow(glimpse(seen, thetas[index], results.settings.data.glimpse), interpolation="none")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(visible=True, color=VARIANT_COLORS[variant], linewidth=3)
    return figure


def windows_shown(results: Results, probe: ProbeFrames) -> dict[Variant, Thetas]:
    """Return where the plain and the guided transformer look in followed frames in the end, and the motion windows."""
    return {variant: _path(results, probe, variant)[-1] for variant in PAIR} | {Variant.HARD_CODED: probe.target}


def offsets(results: Results, probe: ProbeFrames) -> list[float]:
    """Return how far centers are from those of the motion windows on average, in a window's sides, for each of PAIR."""
    side = results.settings.data.glimpse / results.level(probe.level).height
    paths = [np.stack([probe.target, _path(results, probe, variant)[-1]]) for variant in PAIR]
    return [float(drift(path, side)[1].mean()) / 100 for path in paths]


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
    figure = Figure(figsize=(WIDTH, 2.1 * len(levels) + 0.6), layout="constrained")
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
