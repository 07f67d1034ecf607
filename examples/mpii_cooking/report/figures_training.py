"""How training went: losses and accuracies epoch by epoch, and what became of the windows' shape meanwhile."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import Curve
from examples.mpii_cooking.evaluation.tables import PAIR
from examples.mpii_cooking.report.figures_style import GRAY, LEVEL_COLORS, VARIANT_COLORS, level_label
from examples.mpii_cooking.variants import Modality, Phase, Variant
from supervised_st import geometry

_PHASES = {
    Phase.GUIDANCE: "Guidance",
    Phase.RECOGNITION: "Recognition on random crops",
    Phase.JOINT: "Joint training, guidance off",
    Phase.BASELINE: "Recognition on R_h",
}
_PAPER_VARIANTS = (None, Variant.STN, Variant.SSTN, Variant.HARD_CODED)
_MEASURES = {
    "scale": "Side of the region\n(fraction of the frame's)",
    "anisotropy": "Longest over shortest side\n(1 is undistorted)",
    "rotation": "Rotation\n(degrees)",
    "outside": "Fraction of the region\noutside the frame",
}


def curves(results: Results) -> Figure:
    """Draw what each phase of the paper's variants reached on training clips."""
    figure = Figure(figsize=(13, 5.2), layout="constrained")
    grid = figure.subplots(len(Modality), len(_PHASES), squeeze=False)
    main = results.settings.scope.main_localizer
    shown = [run for run in results.curves if run.variant in _PAPER_VARIANTS and run.seed in results.seeds]
    for row, modality in zip(grid, Modality, strict=True):
        for axes, (phase, title) in zip(row, _PHASES.items(), strict=True):
            for run in shown:
                if (run.phase, run.modality) == (phase, modality):
                    _draw_curve(axes, run, is_bold=run.localizer in (main, None))
            is_overlap = phase is Phase.GUIDANCE
            axes.set_ylim(0, 1 if is_overlap else 100)
            axes.set_ylabel("IoU with the target window" if is_overlap else "accuracy, %")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
            axes.set_title(f"{title}: {modality}")
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    lines = [Line2D([], [], color=color, lw=2.5, label=level) for level, color in LEVEL_COLORS.items()]
    lines.append(Line2D([], [], color=GRAY, lw=1.5, ls=":", label="STN"))
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines))
    return figure


def _draw_curve(axes: Axes, run: Curve, *, is_bold: bool) -> None:
    values = run.measure if run.phase is Phase.GUIDANCE else [100 * accuracy for accuracy in run.measure]
    width, alpha, size = (2, 1, 2.5) if is_bold else (0.9, 0.6, 1.5)
    style: dict[str, Any] = {"linewidth": width, "alpha": alpha, "marker": "o", "markersize": size}
    line = ":" if run.variant is Variant.STN else "-"
    axes.plot(range(1, len(values) + 1), values, color=LEVEL_COLORS[run.level], linestyle=line, **style)


def shapes(thetas: NDArray[np.float64], crop: int, glimpse: int) -> dict[str, NDArray[np.float64]]:
    """Return means of ``_MEASURES`` over the frames of each moment; of the ratio of sides it is the median.

    ``thetas`` are (moments, frames, 2, 3), ``crop`` and ``glimpse`` sides in pixels.
    """
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
