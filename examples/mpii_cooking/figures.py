"""The report's pictures: where the transformers look (Figures 7 and 8), and the numbers as charts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

from examples.mpii_cooking import claims
from examples.mpii_cooking.significance import wilson
from supervised_st import affine_sample, geometry

Results = Mapping[str, Any]
LineStyle = str | tuple[int, tuple[int, ...]]

# Okabe and Ito's colour-blind-safe set for the arms; lightness alone carries an order (epochs, zoom levels).
ARM_COLOURS = {"STN": "#0072B2", "SSTN": "#D55E00", "R_d": "#D55E00", "R_h": "#009E73"}
EPOCH_COLOURS = {"start": "#FFE8C8", "middle": "#FDA94F", "end": "#D55E00"}
EPOCH_WIDTHS = {"start": 4.4, "middle": 3.0, "end": 1.6}  # so that regions which coincide are all seen
LEVEL_COLOURS = {"general": "#9ECAE1", "middle": "#4292C6", "detail": "#08306B"}
GREY = "#666666"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#222222",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.parse_math": False,  # class names are shown as they are, dollar signs too
}
FRAMES_SHOWN = {"figure-7": 5, "figure-8": 4}


@dataclass(frozen=True)
class Drawing:
    """A figure on disk and the words that go with it."""

    file: str
    title: str
    caption: str


def draw_all(results: Results, folder: Path) -> dict[str, Drawing]:
    """Draw every figure that ``results`` has numbers for, as PNG files in ``folder``."""
    figures: dict[str, tuple[Callable[[Results, Path], Figure], str, str]] = {
        "table-2": (
            _table_2,
            "Table 2 as a picture",
            "From the plain transformer (hollow) to the guided one (filled), with 95 % Wilson intervals. "
            "Green: the hard-coded window of the same level, without a localisation network.",
        ),
        "figure-7": (
            _figure_7,
            "Figure 7. Windows that drift once guidance is off",
            "The region of the guided transformer on fixed test frames: at the start of joint training, half way, and "
            "at its end; the dots trace its centre epoch by epoch. Dashed: the hard-coded motion window R_h. "
            "Right: how far each centre has moved from where guidance left it; bold is the mean.",
        ),
        "figure-8": (
            _figure_8,
            "Figure 8. Regions of the plain and of the guided transformer",
            "The same test frames at each level, after joint training: the regions that the plain (STN) and the guided "
            "transformer (SSTN) sample, and beside them what the recognition network then sees. "
            "Grey: outside the frame.",
        ),
        "curves": (
            _curves,
            "Training",
            "Left: agreement of the guided window with its target. The other columns: accuracy on training clips. "
            "Bold: the localisation network of Table 3; thin: the other two. Dotted: plain transformer (STN).",
        ),
        "average-precision": (
            _average_precision,
            "Average precision per class",
            "Late fusion of three levels and both streams, for the learned region and for the hard-coded window. "
            "Classes without test clips are left out.",
        ),
    }
    needed = {"figure-7": results["looks"], "figure-8": results["looks"], "curves": results["curves"]}
    drawings = {}
    with mpl.rc_context(STYLE):
        for name, (draw, title, caption) in figures.items():
            if needed.get(name, True):
                draw(results, folder).savefig(folder / f"{name}.png", bbox_inches="tight", facecolor="white")
                drawings[name] = Drawing(f"{name}.png", title, caption)
    return drawings


def _side(picture: np.ndarray) -> int:
    return picture.shape[0]


def _pixels(points: np.ndarray, side: int) -> np.ndarray:
    """Normalised coordinates, -1 and 1 at the edges, to pixels."""
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
    axes: Axes, theta: ArrayLike, side: int, colour: str, style: LineStyle = "-", *, width: float = 1.8
) -> None:
    outline = Polygon(quadrilateral(theta, side), fill=False, edgecolor=colour, linestyle=style, joinstyle="round")
    outline.set(linewidth=width, path_effects=[effects.withStroke(linewidth=width + 1.6, foreground="#00000099")])
    axes.add_patch(outline)


def _caption_frame(axes: Axes, results: Results, look: Mapping[str, Any], index: int) -> None:
    name = results["corpus"]["classes"][look["labels"][index]]
    axes.set_title(textwrap.shorten(name, 26, placeholder="…"), fontsize=8, color=GREY, pad=3)


def _figure_7(results: Results, folder: Path) -> Figure:
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
            for moment, epoch in zip(EPOCH_COLOURS, (0, (len(thetas) - 1) // 2, len(thetas) - 1), strict=True):
                _outline(axes, thetas[epoch, index], _side(picture), EPOCH_COLOURS[moment], width=EPOCH_WIDTHS[moment])
            _outline(axes, look["target"][index], _side(picture), ARM_COLOURS["R_h"], (0, (3, 3)))
            _draw_path(axes, _pixels(thetas[:, index, :, 2], _side(picture)))
        row[0].set_ylabel(f"{look['level']}\n{_height(results, look)} px", fontsize=10)
        _draw_drift(row[-1], look, highest)
    grid[0, -1].set_title("Centre's distance from its start\n(% of the window's side)", fontsize=8.5)
    grid[-1, -1].set_xlabel("epoch of joint training")
    lines = [Line2D([], [], color=colour, lw=3, label=moment) for moment, colour in EPOCH_COLOURS.items()]
    lines.append(Line2D([], [], color=ARM_COLOURS["R_h"], lw=2.5, ls="--", label="motion window R_h"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _height(results: Results, look: Mapping[str, Any]) -> int:
    return next(level["height"] for level in results["levels"] if level["name"] == look["level"])


def _draw_path(axes: Axes, centres: np.ndarray) -> None:
    colours = mpl.colors.LinearSegmentedColormap.from_list("epochs", list(EPOCH_COLOURS.values()))
    axes.plot(*centres.T, color="#00000099", linewidth=1, zorder=3)
    axes.scatter(
        *centres.T, c=np.linspace(0, 1, len(centres)), cmap=colours, s=13, edgecolors="black", linewidths=0.5, zorder=4
    )


def drift(look: Mapping[str, Any]) -> np.ndarray:
    """Return how far each region's centre is from its start, (epochs, frames), in percent of the window's side."""
    centres = np.asarray(look["SSTN"])[..., 2]
    window = np.asarray(look["target"])[0, 0, 0]  # half the window's side in normalised units, as t is
    return 50 * np.linalg.norm(centres - centres[0], axis=-1) / window


def _draw_drift(axes: Axes, look: Mapping[str, Any], highest: float) -> None:
    distances = drift(look)
    axes.plot(distances, color=EPOCH_COLOURS["middle"], linewidth=0.8, alpha=0.6)
    axes.plot(distances.mean(1), color=EPOCH_COLOURS["end"], linewidth=2.2, marker="o", markersize=3)
    axes.set_ylim(0, max(1.1 * highest, 1))
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))


def _figure_8(results: Results, folder: Path) -> Figure:
    looks, shown = results["looks"], FRAMES_SHOWN["figure-8"]
    figure = Figure(figsize=(13, 2.45 * len(looks) + 0.5), layout="constrained")
    rows = figure.subfigures(len(looks), shown + 1, squeeze=False, wspace=0.02, width_ratios=[0.16] + [1] * shown)
    for row, look in zip(rows, looks, strict=True):
        level = f"{look['level']}\n{_height(results, look)} px"
        row[0].text(0.5, 0.5, level, rotation=90, ha="center", va="center", fontsize=10)
        for index, cell in enumerate(row[1 : len(look["images"]) + 1]):
            panels = cell.subplot_mosaic([["frame", "STN"], ["frame", "SSTN"]], width_ratios=[2, 0.95])
            picture = mpl_image.imread(folder / look["images"][index])
            _show_frame(panels["frame"], picture)
            _caption_frame(panels["frame"], results, look, index)
            for arm in ("STN", "SSTN"):
                theta = look[arm][-1][index]
                _outline(panels["frame"], theta, _side(picture), ARM_COLOURS[arm])
                _show_glimpse(panels[arm], glimpse(picture, theta, results["levels"][0]["glimpse"]), ARM_COLOURS[arm])
    lines = [Line2D([], [], color=ARM_COLOURS[arm], lw=3, label=arm) for arm in ("STN", "SSTN")]
    figure.legend(handles=lines, loc="outside upper left", ncols=2)
    return figure


def glimpse(picture: np.ndarray, theta: ArrayLike, side: int) -> np.ndarray:
    """Sample what the recognition network sees, (side, side, 3) in [0, 1]; grey is outside the picture."""
    image = torch.from_numpy(np.array(picture[..., :3])).permute(2, 0, 1)[None].float()
    sampled = affine_sample(
        image,
        torch.tensor(np.asarray(theta, dtype=np.float32))[None],
        (side, side),
        padding_mode="fill",
        fill_value=0.5,
    )
    return sampled[0].permute(1, 2, 0).clamp(0, 1).numpy()


def _show_glimpse(axes: Axes, sampled: np.ndarray, colour: str) -> None:
    axes.imshow(sampled, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=colour, linewidth=2)


def _table_2(results: Results, folder: Path) -> Figure:
    table = results["table2"]
    cells = {(cell["localiser"], cell["level"], cell["arm"]): cell for cell in table["cells"]}
    rows = [(localiser, level) for level in reversed(claims.LEVELS) for localiser in claims.LOCALISERS]
    heights = [-(index + index // len(claims.LOCALISERS)) for index in range(len(rows))]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    ours, paper = figure.subplots(1, 2, sharey=True)
    for height, (localiser, level) in zip(heights, rows, strict=True):
        both = [cells[localiser, level, arm] for arm in ("STN", "SSTN")]
        ours_pair = [(cell["percent"], cell["interval"]) for cell in both]
        printed = claims.TABLE_2[localiser, level]
        paper_pair = [
            (value.percent, wilson(value.correct, claims.TEST_CLIPS)) for value in (printed.stn, printed.sstn)
        ]
        for axes, pair in ((ours, ours_pair), (paper, paper_pair)):
            _draw_step(axes, height, pair)
    for index, level in enumerate(reversed(claims.LEVELS)):
        window, group = cells[None, level, "R_h"]["percent"], heights[3 * index : 3 * index + 3]
        ours.vlines(window, group[-1] - 0.4, group[0] + 0.4, color=ARM_COLOURS["R_h"], linewidth=2)
    constant = 100 * table["majority"]["correct"] / table["clips"]
    ours.axvline(constant, color=GREY, linewidth=1, linestyle=":", zorder=0)
    ours.set_yticks(heights, [f"{level}  {localiser.upper()}" for localiser, level in rows])
    ours.set_title("This run")
    paper.set_title("The paper (MPII Cooking, full scale)")
    for axes in (ours, paper):
        axes.set_xlabel("top-1 accuracy, %")
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0, labelcolor="#222222")
        axes.spines["left"].set_visible(False)
    figure.legend(handles=_table_2_legend(), loc="outside lower center", ncols=4)
    return figure


def _table_2_legend() -> list[Line2D]:
    marker = {"marker": "o", "linestyle": "none", "markersize": 6}
    return [
        Line2D([], [], color=ARM_COLOURS["STN"], markerfacecolor="white", label="STN", **marker),
        Line2D([], [], color=ARM_COLOURS["SSTN"], label="SSTN", **marker),
        Line2D([], [], color=ARM_COLOURS["R_h"], lw=2, label="hard-coded window R_h"),
        Line2D([], [], color=GREY, lw=1, ls=":", label="always the largest training class"),
    ]


def _draw_step(axes: Axes, height: float, pair: Sequence[tuple[float, Sequence[float]]]) -> None:
    percents, intervals = zip(*pair, strict=True)
    axes.plot(percents, [height, height], color="#BBBBBB", linewidth=1.5, zorder=1)
    for arm, percent, interval, shift in zip(("STN", "SSTN"), percents, intervals, (-0.14, 0.14), strict=True):
        colour = ARM_COLOURS[arm]
        axes.hlines(height + shift, *interval, color=colour, linewidth=1.2, alpha=0.65)
        face = "white" if arm == "STN" else colour
        axes.plot(percent, height, "o", color=colour, markerfacecolor=face, markersize=6, zorder=3)


_CURVE = {"guide": ("iou", "IoU with the target window"), "recognise": ("accuracy", "accuracy, %")}
_PHASES = {
    "guide": "Guidance",
    "recognise": "Recognition on random crops",
    "joint": "Joint training, guidance off",
    "baseline": "Recognition on R_h",
}


def _curves(results: Results, folder: Path) -> Figure:
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    grid = figure.subplots(2, len(_PHASES), squeeze=False)
    main = results["settings"]["main_localiser"]
    for row, modality in zip(grid, ("spatial", "temporal"), strict=True):
        for axes, phase in zip(row, _PHASES, strict=True):
            metric, label = _CURVE.get(phase, _CURVE["recognise"])
            chosen = [(phase, modality, arm) for arm in (None, "STN", "SSTN", "R_h")]
            runs = [run for run in results["curves"] if (run["phase"], run["modality"], run["arm"]) in chosen]
            for run in runs:
                _draw_curve(axes, run[metric], run, main)
            axes.set_ylim(0, 1 if metric == "iou" else 100)
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
            axes.set_title(f"{_PHASES[phase]}: {modality}")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    lines = [Line2D([], [], color=colour, lw=2.5, label=level) for level, colour in LEVEL_COLOURS.items()]
    lines.append(Line2D([], [], color=GREY, lw=1.5, ls=":", label="STN"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _draw_curve(axes: Axes, values: Sequence[float] | None, run: Mapping[str, Any], main: str) -> None:
    if not values:
        return
    bold = run["localiser"] in (main, None)
    axes.plot(
        range(1, len(values) + 1),
        values,
        color=LEVEL_COLOURS[run["level"]],
        linestyle=":" if run["arm"] == "STN" else "-",
        linewidth=2 if bold else 0.9,
        alpha=1 if bold else 0.6,
        marker="o",
        markersize=2.5 if bold else 1.5,
    )


def _average_precision(results: Results, folder: Path) -> Figure:
    table, names = results["table3"], results["corpus"]["classes"]
    precision = {
        cell["arm"]: cell["ap"] for cell in table["cells"] if (cell["row"], cell["stream"]) == (claims.FUSION, "S+T")
    }
    classes = sorted(table["classes_present"], key=lambda label: precision["R_d"][label])
    figure = Figure(figsize=(9, 0.42 * len(classes) + 1.1), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(classes))
    for arm, shift in (("R_d", 0.19), ("R_h", -0.19)):
        values = [precision[arm][label] for label in classes]
        bars = axes.barh(positions + shift, values, height=0.36, color=ARM_COLOURS[arm], label=arm)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=7.5, color=GREY)
    axes.set_yticks(positions, [textwrap.shorten(names[label], 44, placeholder="…") for label in classes])
    axes.tick_params(axis="y", length=0, labelcolor="#222222")
    axes.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="average precision, %", ylim=(-0.6, len(classes) - 0.4))
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2)
    return figure
