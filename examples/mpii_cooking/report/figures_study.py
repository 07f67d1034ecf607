"""A study as one picture: when is learned attention worth it?"""

import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from examples.mpii_cooking.evaluation.measures import THING
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.evaluation.study_results import StudyResults
from examples.mpii_cooking.report.figures_style import GRAY, INK, PAGE, STYLE, VARIANT_COLORS, save
from examples.mpii_cooking.report.study_text import AXIS
from examples.mpii_cooking.variants import Variant

WIDTH, HEIGHT = 9.0, 3.0  # inches
_MARGIN = 0.15  # of the range of values, beyond the longest interval


def draw(study: StudyResults, path: Path) -> None:
    """Draw the gains."""
    with mpl.rc_context(STYLE):
        save(gains(study), path)


def gains(study: StudyResults) -> Figure:
    """Draw what SSTN gains over each rival, a panel for each, with intervals; hollow where it may be chance."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(study.rivals), sharey=True, squeeze=False)[0]
    for axes, rival in zip(panels, study.rivals, strict=True):
        _panel(axes, study, rival)
    panels[0].set_ylabel("gain in points of things right\nup: SSTN is better")
    text = {"fontsize": STYLE["font.size"], "color": INK}
    figure.suptitle("When is learned attention worth it? What SSTN gains against …", x=0.01, ha="left", **text)
    figure.supxlabel(AXIS[study.kind], **text)
    return figure


def _panel(axes: Axes, study: StudyResults, rival: Variant) -> None:
    color = VARIANT_COLORS[Variant.SSTN]
    found = sorted((study.place(each), study.gain(each, rival, THING)) for each in study.conditions)
    places, values = zip(*((place, gain.value) for place, gain in found), strict=True)
    axes.axhline(0, color=GRAY, linewidth=1)
    axes.plot(places, values, color=color, linewidth=1, alpha=0.5)
    for number, (place, gain) in enumerate(found):
        axes.vlines(place, *gain.interval, color=color, linewidth=1.5, alpha=0.6)
        face = PAGE if gain.verdict is Verdict.INCONCLUSIVE else color
        axes.plot(place, gain.value, "o", color=color, markerfacecolor=face, markersize=5, zorder=3)
        # By turns above and below, so that the numbers of neighbors do not overlap.
        end, offset, side = (gain.interval[0], -3, "top") if number % 2 else (gain.interval[1], 3, "bottom")
        axes.annotate(
            f"{gain.value:+.0f}", (place, end), (0, offset), textcoords="offset points",
            color=INK, fontsize=8, ha="center", va=side,
            bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    described = textwrap.wrap(f"… {rival.key}: {rival.traits.description}", 24)
    axes.annotate(
        "\n".join(described), (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points",
        color=INK, fontsize=8,
    )  # fmt: skip
    if study.kind == "distance":
        axes.set(xlim=(0, 100), xticks=(0, 50, 100))
    else:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(places)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda clips, _: f"{clips:g}"))
    axes.margins(x=0.15, y=_MARGIN)
