"""The tables as charts: which variant is right how often, which classes are, and what the guided windows follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.significance import wilson
from examples.mpii_cooking.report.figures_style import (
    GRAY,
    INK,
    LEVEL_COLORS,
    MANY_CLASSES,
    VARIANT_COLORS,
    Results,
    name_rows,
    shortened,
)
from examples.mpii_cooking.report.variants import localizers


def table_2(results: Results, folder: Path) -> Figure:
    """Draw each STN and SSTN pair of Table 2, beside the paper's."""
    table = results["table2"]
    cells = {(cell["localizer"], cell["level"], cell["variant"]): cell for cell in table["cells"]}
    networks = localizers(results)
    rows = [(network, level) for level in reversed(paper.LEVELS) for network in networks]
    heights = [-(index + index // len(networks)) for index in range(len(rows))]
    figure = Figure(figsize=(10, 2.4 + 0.2 * len(rows)), layout="constrained")
    ours, theirs = figure.subplots(1, 2, sharey=True)
    for height, (localizer, level) in zip(heights, rows, strict=True):
        both = [cells[localizer, level, variant] for variant in ("STN", "SSTN")]
        ours_pair = [(cell["percent"], cell["interval"]) for cell in both]
        printed = paper.TABLE_2[localizer, level]
        paper_pair = [(value.percent, wilson(value.correct, paper.TEST_CLIPS)) for value in (printed.stn, printed.sstn)]
        for axes, pair in ((ours, ours_pair), (theirs, paper_pair)):
            _draw_step(axes, height, pair)
    for index, level in enumerate(reversed(paper.LEVELS)):
        window, group = cells[None, level, "R_h"]["percent"], heights[index * len(networks) :][: len(networks)]
        ours.vlines(window, group[-1] - 0.4, group[0] + 0.4, color=VARIANT_COLORS["R_h"], linewidth=2)
    constant = 100 * table["majority"]["correct"] / table["clips"]
    ours.axvline(constant, color=GRAY, linewidth=1, linestyle=":", zorder=0)
    ours.set_yticks(heights, [f"{level}  {localizer.upper()}" for localizer, level in rows])
    ours.set_title("This run")
    theirs.set_title("The paper (MPII Cooking, full scale)")
    for axes in (ours, theirs):
        axes.set_xlabel("top-1 accuracy, %")
        axes.set_xlim(left=0)
        name_rows(axes)
    figure.legend(handles=_table_2_legend(), loc="outside lower center", ncols=4)
    return figure


def _table_2_legend() -> list[Line2D]:
    marker = {"marker": "o", "linestyle": "none", "markersize": 6}
    return [
        Line2D([], [], color=VARIANT_COLORS["STN"], markerfacecolor="white", label="STN", **marker),
        Line2D([], [], color=VARIANT_COLORS["SSTN"], label="SSTN", **marker),
        Line2D([], [], color=VARIANT_COLORS["R_h"], lw=2, label="hard-coded window R_h"),
        Line2D([], [], color=GRAY, lw=1, ls=":", label="always the largest training class"),
    ]


def _draw_step(axes: Axes, height: float, pair: Sequence[tuple[float, Sequence[float]]]) -> None:
    percents, intervals = zip(*pair, strict=True)
    axes.plot(percents, [height, height], color="#BBBBBB", linewidth=1.5, zorder=1)
    for variant, percent, interval, shift in zip(("STN", "SSTN"), percents, intervals, (-0.14, 0.14), strict=True):
        color = VARIANT_COLORS[variant]
        axes.hlines(height + shift, *interval, color=color, linewidth=1.2, alpha=0.65)
        face = "white" if variant == "STN" else color
        axes.plot(percent, height, "o", color=color, markerfacecolor=face, markersize=6, zorder=3)


def overlap(results: Results, folder: Path) -> Figure:
    """Draw how the overlap of guided window and window of most motion is distributed over test clips."""
    cells = {(cell["modality"], cell["level"]): cell for cell in results["overlap"]}
    modalities = list(dict.fromkeys(modality for modality, _ in cells))
    figure = Figure(figsize=(11, 1.9 * len(modalities) + 0.5), layout="constrained")
    grid = figure.subplots(len(modalities), len(paper.LEVELS), squeeze=False, sharex=True, sharey=True)
    for row, modality in zip(grid, modalities, strict=True):
        for axes, level in zip(row, paper.LEVELS, strict=True):
            cell = cells[modality, level]
            values = [iou for seed in cell["seeds"] for iou in seed["iou"] if iou is not None]
            bins = np.linspace(0, 1, 21)
            axes.hist(values, bins, weights=np.full(len(values), 100 / max(len(values), 1)), color=LEVEL_COLORS[level])
            axes.axvline(0.5, color=GRAY, linewidth=1, linestyle=":")
            if cell["mean"] is not None:
                axes.axvline(cell["mean"], color=VARIANT_COLORS["SSTN"], linewidth=2)
                axes.axvline(cell["center"], color=GRAY, linewidth=2)
            axes.set_title(f"{level}: {modality}")
        row[0].set_ylabel("test clips, %")
    for axes in grid[-1]:
        axes.set(xlabel="overlap (IoU)", xlim=(0, 1))
    return figure


def average_precision(results: Results, folder: Path) -> Figure:
    """Draw the average precision of each class with test clips, learned region beside hard-coded window."""
    table, names = results["table3"], results["dataset"]["classes"]
    clips = results["dataset"]["test_per_class"]
    precision = {
        cell["variant"]: cell["ap"] for cell in table["cells"] if (cell["row"], cell["stream"]) == (paper.FUSION, "S+T")
    }
    classes = sorted(table["classes_present"], key=lambda label: precision["R_d"][label])
    tall = 0.42 if len(classes) <= MANY_CLASSES else 0.28
    figure = Figure(figsize=(9, tall * len(classes) + 1.1), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(classes))
    for variant, shift in (("R_d", 0.19), ("R_h", -0.19)):
        values = [precision[variant][label] for label in classes]
        bars = axes.barh(positions + shift, values, height=0.36, color=VARIANT_COLORS[variant], label=variant)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=7.5 if tall > 0.3 else 6, color=GRAY)
    axes.set_yticks(positions, [f"{shortened(names[label], 44)} ({clips[label]})" for label in classes])
    axes.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="average precision, %", ylim=(-0.6, len(classes) - 0.4))
    name_rows(axes)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def confusion(results: Results, folder: Path) -> Figure:
    """Draw which class late fusion of S+T on R_d takes for which."""
    classes, shares = confusions(results)
    names = [shortened(results["dataset"]["classes"][label], 30) for label in classes]
    few = len(classes) <= MANY_CLASSES
    cell, font = (0.5, 8) if few else (0.16, 6.2)
    figure = Figure(figsize=(cell * len(classes) + 3.4, cell * len(classes) + 2.6), layout="constrained")
    axes = figure.subplots()
    scale = mpl.colors.LinearSegmentedColormap.from_list("share", ["#FFFFFF", "#F4A261", "#D55E00", "#7A2E00"])
    colors = scale.with_extremes(bad="#EDEDED")
    image = axes.imshow(shares, cmap=colors, vmin=0, vmax=100)
    if few:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=_over(share))
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=font)
    axes.set_yticks(range(len(classes)), names, fontsize=font)
    axes.tick_params(length=0, labelcolor=INK)
    axes.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#E4E4E4", linewidth=0.8 if few else 0.4)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="taken for", ylabel="class of the clip")
    figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, label="share of the class's clips, %").outline.set_visible(
        False
    )
    return figure


def _over(share: float) -> str:
    """Return a color of text that can be read on the cell of a share."""
    return "white" if share > 55 else INK


def confusions(results: Results) -> tuple[list[int], np.ndarray]:
    """Return the classes that were tested or answered, and the share of each one's clips taken for each, in percent.

    Clips of all seeds count alike; a row is NaN if the class has no test clips.
    """
    truth = np.asarray(results["table3"]["labels"])
    wanted = (paper.FUSION, "S+T", "R_d")
    (cell,) = (cell for cell in results["table3"]["cells"] if (cell["row"], cell["stream"], cell["variant"]) == wanted)
    answers = np.array([seed["predictions"] for seed in cell["seeds"]])
    classes = sorted({*truth.tolist(), *answers.ravel().tolist()})
    counts = np.array([[(answers[:, truth == row] == column).sum() for column in classes] for row in classes])
    tested = counts.sum(1, keepdims=True)
    return classes, np.divide(100 * counts, tested, out=np.full(counts.shape, np.nan), where=tested > 0)
