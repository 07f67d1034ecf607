"""Numbers as charts: accuracy by variant and by class, what windows follow, and training."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import POOLING_CELL
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import Curve
from examples.mpii_cooking.evaluation.significance import Interval, Labels, wilson
from examples.mpii_cooking.evaluation.tables import (
    ALL_SHOWN,
    PAIR,
    baseline_table,
    clip_table,
    frame_ceilings,
    frame_table,
)
from examples.mpii_cooking.report.figures_style import (
    GRAY,
    INK,
    LEVEL_COLORS,
    LINE,
    PAGE,
    REGION_COLORS,
    VARIANT_COLORS,
    WIDTH,
    shortened,
)
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant

ON_ORANGE = "#fefefe"  # white on light and on dark pages
MANY_CLASSES = 20  # with more, rows are drawn closer together and cells have no text
_PHASES = {
    Phase.GUIDANCE: "Guidance",
    Phase.RECOGNITION: "Recognition on random crops",
    Phase.JOINT: "Joint training, guidance off",
    Phase.BASELINE: "Recognition on R_h",
}
_DRAWN = (None, Variant.STN, Variant.SSTN, Variant.HARD_CODED)


def pairs(results: Results) -> Figure:
    """Draw each STN and SSTN pair of Table 2 next to the paper's."""
    table, windows = frame_table(results), baseline_table(results)[Variant.HARD_CODED].values()
    best = frame_ceilings(results)
    rows = [(level, network) for level in reversed(paper.LEVELS) for network in table]
    heights = [-(index + index // len(table)) for index in range(len(rows))]
    figure = Figure(figsize=(WIDTH, 2.4 + 0.2 * len(rows)), layout="constrained")
    ours, theirs = figure.subplots(1, 2, sharey=True)
    plain, guided, hard_coded = (VARIANT_COLORS[variant] for variant in (*PAIR, Variant.HARD_CODED))
    for height, (level, network) in zip(heights, rows, strict=True):
        means = [table[network][results.cell(variant, level, network)].mean for variant in PAIR]
        _draw_step(ours, height, [(mean.value, mean.interval) for mean in means])
        printed = [paper.TABLE_2[network, level, variant] for variant in PAIR]
        _draw_step(theirs, height, [(float(it), wilson(paper.correct_clips(it), paper.TEST_CLIPS)) for it in printed])
    for index, (level, window) in enumerate(zip(reversed(paper.LEVELS), reversed(windows), strict=True)):
        group = heights[index * len(table) :][: len(table)]
        ends = group[-1] - 0.4, group[0] + 0.4
        ours.vlines(window.mean.value, *ends, color=hard_coded, linewidth=2)
        if best:
            ours.vlines(best[level], *ends, color=INK, linewidth=1, linestyle="--")
    ours.axvline(results.majority_accuracy, color=GRAY, linewidth=1, linestyle=":", zorder=0)
    ours.set_yticks(heights, [f"{level}  {network.upper()}" for level, network in rows])
    for axes, title in ((ours, "This run"), (theirs, "The paper (MPII Cooking, full scale)")):
        axes.set(title=title, xlabel="top-1 accuracy, %")
        axes.set_xlim(left=0)
        _name_rows(axes)
    marker: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 6}
    lines = [
        Line2D([], [], color=plain, markerfacecolor=PAGE, label="STN", **marker),
        Line2D([], [], color=guided, label="SSTN", **marker),
        Line2D([], [], color=hard_coded, lw=2, label="hard-coded window R_h"),
        Line2D([], [], color=GRAY, lw=1, ls=":", label="always the largest training class"),
    ]
    lines += [Line2D([], [], color=INK, lw=1, ls="--", label=ALL_SHOWN)] if best else []
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
    return figure


def _name_rows(axes: Axes) -> None:
    """Let the labels of a chart's rows stand alone, without ticks or a line."""
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def _draw_step(axes: Axes, height: float, pair: Sequence[tuple[float, Interval]]) -> None:
    axes.plot([percent for percent, _ in pair], [height, height], color=LINE, linewidth=1.5, zorder=1)
    for variant, (percent, interval), shift in zip(PAIR, pair, (-0.14, 0.14), strict=True):
        color = VARIANT_COLORS[variant]
        axes.hlines(height + shift, *interval, color=color, linewidth=1.2, alpha=0.65)
        face = PAGE if variant is Variant.STN else color
        axes.plot(percent, height, "o", color=color, markerfacecolor=face, markersize=6, zorder=3)


def overlap(results: Results) -> Figure:
    """Draw how the overlap of guided window and window of most motion is distributed over test clips."""
    figure = Figure(figsize=(WIDTH, 1.9 * len(Modality) + 0.5), layout="constrained")
    grid = figure.subplots(len(Modality), len(paper.LEVELS), squeeze=False, sharex=True, sharey=True)
    for row, modality in zip(grid, Modality, strict=True):
        for axes, level in zip(row, paper.LEVELS, strict=True):
            found = results.overlap(modality, level)
            values = [iou for seed in found.guided for iou in seed]
            bins = np.linspace(0, 1, 21)
            axes.hist(values, bins, weights=np.full(len(values), 100 / max(len(values), 1)), color=LEVEL_COLORS[level])
            axes.axvline(0.5, color=GRAY, linewidth=1, linestyle=":")
            if found.mean is not None:
                axes.axvline(found.mean, color=VARIANT_COLORS[Variant.SSTN], linewidth=2)
                axes.axvline(found.center, color=GRAY, linewidth=2)
            axes.set_title(f"{level}: {modality}")
        row[0].set_ylabel("test clips, %")
    for axes in grid[-1]:
        axes.set(xlabel="overlap (IoU)", xlim=(0, 1))
    return figure


def average_precision(results: Results) -> Figure:
    """Draw the average precision of each class with test clips, learned region above hard-coded window."""
    names, clips = results.dataset.classes, np.bincount(results.labels)
    fused = [found.per_class for found in clip_table(results)[paper.FUSION].values()][-len(Region) :]  # of S+T
    classes = sorted(results.tested, key=lambda label: fused[0][label] or 0)
    tall = 0.42 if len(classes) <= MANY_CLASSES else 0.28
    figure = Figure(figsize=(9, tall * len(classes) + 1.1), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(classes))
    for region, per_class, shift in zip(Region, fused, (0.19, -0.19), strict=True):
        values = [per_class[label] or 0 for label in classes]
        bars = axes.barh(positions + shift, values, height=0.36, color=REGION_COLORS[region], label=region)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=7.5 if tall > 0.3 else 6, color=GRAY)
    axes.set_yticks(positions, [f"{shortened(names[label], 44)} ({clips[label]})" for label in classes])
    axes.set(xlim=(0, 108), xticks=range(0, 101, 20), xlabel="average precision, %", ylim=(-0.6, len(classes) - 0.4))
    _name_rows(axes)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


def confusion(results: Results) -> Figure:
    """Draw the confusion matrix of late fusion of S+T on R_d."""
    (found,) = results.precisions([results.pooled(POOLING_CELL)]).values()
    classes, percentages = confusions(results.labels, found.answers)
    names = [shortened(results.dataset.classes[label], 30) for label in classes]
    few = len(classes) <= MANY_CLASSES
    cell, font = (0.5, 8) if few else (0.16, 6.2)
    figure = Figure(figsize=(cell * len(classes) + 3.4, cell * len(classes) + 2.6), layout="constrained")
    axes = figure.subplots()
    scale = mpl.colors.LinearSegmentedColormap.from_list("percent", ["#B3470000", "#B34700FF"])  # over any ground
    colors = scale.with_extremes(bad="#80808030")
    image = axes.imshow(percentages, cmap=colors, vmin=0, vmax=100)
    if few:
        for (row, column), percent in np.ndenumerate(percentages):
            if percent >= 0.5:
                color = ON_ORANGE if percent > 55 else INK
                axes.text(column, row, f"{percent:.0f}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(classes)), names, rotation=90, fontsize=font)
    axes.set_yticks(range(len(classes)), names, fontsize=font)
    axes.tick_params(length=0, labelcolor=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=LINE, linewidth=0.8 if few else 0.4)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="taken for", ylabel="class of the clip")
    bar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=30, label="percent of the class's clips")
    bar.outline.set_visible(False)
    return figure


def confusions(truth: Labels, answers: Labels) -> tuple[list[int], NDArray[np.float64]]:
    """Return the classes that were tested or answered, and the percentage of each one's clips taken for each.

    All seeds of the answers, ``(seeds, clips)``, count alike. A row is NaN if its class has no test clips.
    """
    classes = sorted({*truth.tolist(), *answers.ravel().tolist()})
    counts = confusion_matrix(np.tile(truth, len(answers)), answers.ravel(), labels=classes)
    tested = counts.sum(1, keepdims=True)
    return classes, np.divide(100 * counts, tested, out=np.full(counts.shape, np.nan), where=tested > 0)


def curves(results: Results) -> Figure:
    """Draw what each phase of the paper's variants reached on training clips."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    grid = figure.subplots(len(Modality), len(_PHASES), squeeze=False)
    main = results.settings.scope.main_localizer
    shown = [run for run in results.curves if run.variant in _DRAWN and run.seed in results.seeds]
    for row, modality in zip(grid, Modality, strict=True):
        for axes, (phase, title) in zip(row, _PHASES.items(), strict=True):
            for run in shown:
                if (run.phase, run.modality) == (phase, modality):
                    _draw_curve(axes, run, is_bold=run.localizer in (main, None))
            is_overlap = phase is Phase.GUIDANCE
            axes.set_ylim(0, 1 if is_overlap else 100)
            axes.set_ylabel("IoU with the target window" if is_overlap else "accuracy, %")
            axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=6))
            axes.set_title(f"{title}:\n{modality}")
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
