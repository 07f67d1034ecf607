"""How training went: losses and accuracies epoch by epoch, and what became of the windows' shape meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from examples.mpii_cooking import paper
from examples.mpii_cooking.report.figures_style import GRAY, LEVEL_COLORS, VARIANT_COLORS, Results, level_label

_CURVE = {"guide": ("iou", "IoU with the target window"), "recognize": ("accuracy", "accuracy, %")}
_PHASES = {
    "guide": "Guidance",
    "recognize": "Recognition on random crops",
    "joint": "Joint training, guidance off",
    "baseline": "Recognition on R_h",
}
_MEASURES = {
    "scale": "Side of the region\n(share of the frame's)",
    "anisotropy": "Longest over shortest side\n(1 is undistorted)",
    "rotation": "Rotation\n(degrees)",
    "outside": "Share of the region\noutside the frame",
}


def curves(results: Results, folder: Path) -> Figure:
    """Draw what each phase of the paper's variants reached on training clips."""
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    grid = figure.subplots(2, len(_PHASES), squeeze=False)
    main = results["settings"]["main_localizer"]
    for row, modality in zip(grid, ("spatial", "temporal"), strict=True):
        for axes, phase in zip(row, _PHASES, strict=True):
            metric, label = _CURVE.get(phase, _CURVE["recognize"])
            chosen = [(phase, modality, variant) for variant in (None, "STN", "SSTN", "R_h")]
            runs = [run for run in results["curves"] if (run["phase"], run["modality"], run["variant"]) in chosen]
            for run in runs:
                _draw_curve(axes, run[metric], run, main)
            axes.set_ylim(0, 1 if metric == "iou" else 100)
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
            axes.set_title(f"{_PHASES[phase]}: {modality}")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    lines = [Line2D([], [], color=color, lw=2.5, label=level) for level, color in LEVEL_COLORS.items()]
    lines.append(Line2D([], [], color=GRAY, lw=1.5, ls=":", label="STN"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _draw_curve(axes: Axes, values: Sequence[float] | None, run: Mapping[str, Any], main: str) -> None:
    if not values:
        return
    bold = run["localizer"] in (main, None)
    axes.plot(
        range(1, len(values) + 1),
        values,
        color=LEVEL_COLORS[run["level"]],
        linestyle=":" if run["variant"] == "STN" else "-",
        linewidth=2 if bold else 0.9,
        alpha=1 if bold else 0.6,
        marker="o",
        markersize=2.5 if bold else 1.5,
    )


def distortion(results: Results, folder: Path) -> Figure:
    """Draw the four measures of the windows' shape through joint training, STN against SSTN, a row for each level."""
    followed = [run for run in results["curves"] if run["distortion"] and run["variant"] in ("STN", "SSTN")]
    figure = Figure(figsize=(13, 2.1 * len(paper.LEVELS) + 0.6), layout="constrained")
    grid = figure.subplots(len(paper.LEVELS), len(_MEASURES), squeeze=False, sharey="col", sharex=True)
    for row, level in zip(grid, results["levels"], strict=True):
        undistorted = {"scale": level["glimpse"] / level["height"], "anisotropy": 1, "rotation": 0, "outside": 0}
        for axes, measure in zip(row, _MEASURES, strict=True):
            axes.axhline(
                undistorted[measure], color=VARIANT_COLORS["R_h"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1
            )
            for run in followed:
                if run["level"] == level["name"]:
                    _draw_shape(axes, path_of(run, measure), run["variant"])
        row[0].set_ylabel(level_label(results, level["name"]), fontsize=10)
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
    lines = [
        Line2D([], [], color=VARIANT_COLORS["STN"], lw=2, ls=":", label="STN"),
        Line2D([], [], color=VARIANT_COLORS["SSTN"], lw=2, label="SSTN"),
        Line2D([], [], color=VARIANT_COLORS["R_h"], lw=1.2, ls="--", label="hard-coded window R_h"),
    ]
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def path_of(run: Mapping[str, Any], measure: str) -> np.ndarray:
    """Return a measure at every moment of a run, before its first epoch and after each; NaN where it is infinite."""
    return np.array([moment[measure] for moment in run["distortion"]], dtype=float)


def _draw_shape(axes: Axes, values: np.ndarray, variant: str) -> None:
    axes.plot(values, color=VARIANT_COLORS[variant], linestyle=":" if variant == "STN" else "-", linewidth=2, zorder=2)
