"""The report's pictures, with the words that go with them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.report import figures_tables, figures_windows
from examples.mpii_cooking.report.figures_style import STYLE

Painter = Callable[[Results, Path], Figure]  # images of the probe frames are in the folder
PIXELS = 100  # of CSS for an inch of a figure


class Drawing(NamedTuple):
    """A figure on disk and the words that go with it."""

    file: str  # its name in the output folder
    title: str
    caption: str  # how to read it
    alt: str  # for those who cannot see it: what is drawn, and where its numbers are
    width: int  # at which its text has the size of the page's small print, in CSS pixels


def draw_all(results: Results, folder: Path) -> dict[str, Drawing]:
    """Draw every figure that ``results`` has numbers for, as PNG files in ``folder``."""
    drawings = {}
    with mpl.rc_context(STYLE):
        for name, (draw, title, caption, alt) in _FIGURES.items():
            if not name.startswith("figure-") or results.probe_frames:
                figure = draw(results, folder)
                figure.savefig(folder / f"{name}.png", bbox_inches="tight", facecolor="white")
                drawings[name] = Drawing(f"{name}.png", title, caption, alt, round(PIXELS * figure.get_figwidth()))
    return drawings


_FIGURES: dict[str, tuple[Painter, str, str, str]] = {
    "table-2": (
        lambda results, _: figures_tables.pairs(results),
        "Table 2 as a picture",
        "From the plain transformer (hollow) to the guided one (filled), with 95 % intervals; the paper's are Wilson "
        "intervals of its counts. Green: the hard-coded window of the same level, without a localization network.",
        "Two charts side by side, this run's and the paper's: top-1 accuracy of STN and SSTN for each of nine pairs of "
        "level and localization network. The numbers are those of Table 2.",
    ),
    "average-precision": (
        lambda results, _: figures_tables.average_precision(results),
        "Average precision per class",
        "Late fusion of three levels and both streams, for the learned region and for the hard-coded window. "
        "In brackets: test clips of the class. Classes without any are left out.",
        "A bar chart with two bars for each class, R_d above R_h, sorted by R_d. "
        "The numbers are in the table “classes” below.",
    ),
    "confusion": (
        lambda results, _: figures_tables.confusion(results),
        "Which class is taken for which",
        "Late fusion of both streams on the learned region R_d: each row shows what the clips of one class were taken "
        "for. On the diagonal they are right; a gray row has no test clips.",
        "A matrix with a row and a column for each class, darker where more of a row's clips were given a column's "
        "class. The decision values behind it are in scores.npz.",
    ),
    "figure-7": (
        figures_windows.figure_7,
        "Figure 7. Windows that drift once guidance is off",
        "The region of the guided transformer on fixed test frames: at the start of joint training, half way, and "
        "at its end; the dots trace its center epoch by epoch. Dashed: the hard-coded motion window R_h. "
        "Right: how far each center has moved from where guidance left it; bold is the mean.",
        "A row of test frames for each level, with three outlines of the guided transformer's region and the dashed "
        "motion window in each, and a chart of the distance that the centers moved. "
        "The regions are in results.json, under window_paths.",
    ),
    "figure-8": (
        figures_windows.figure_8,
        "Figure 8. Regions of the plain and of the guided transformer",
        "The same test frames at each level, after joint training: the regions that the plain (STN) and the guided "
        "transformer (SSTN) sample, and what the classifier then sees. "
        "Gray: out of bounds.",
        "A row of test frames for each level, with the outlines of two regions, STN's and SSTN's, and both regions "
        "as they are sampled. The regions are in results.json, under window_paths.",
    ),
    "overlap": (
        lambda results, _: figures_tables.overlap(results),
        "Overlap of the guided window and the window of most motion",
        "Over test clips, after guidance and before joint training. Orange: the mean. Gray: the mean of the "
        "window at the center instead. Dotted: one half, the overlap of two windows that are a third of their side "
        "apart.",
        "Histograms of the overlap, one for each level and modality. Means are in the table above.",
    ),
    "distortion": (
        lambda results, _: figures_windows.distortion(results),
        "Distortion over joint training",
        "The shape of the regions on the test frames of Figure 7, before joint training and after each epoch of it: "
        "plain transformer (dotted) and guided one, a line for each seed. Each value is the mean over the frames; the "
        "ratio of sides is the median. Green: an undistorted window of the level's size, as R_h is. "
        "A line has a gap where regions have collapsed to lines and the ratio is infinite.",
        "Twelve small charts, three levels by four measures of the region's shape over the epochs of joint training, "
        "for STN and SSTN. The windows behind it are in results.json, under window_paths.",
    ),
    "curves": (
        lambda results, _: figures_tables.curves(results),
        "Training",
        "Left: agreement of the guided window with its target. The other columns: accuracy on training clips. "
        "Bold: the localization network of Table 3; thin: the other two. Dotted: plain transformer (STN). "
        "Each seed has its own lines.",
        "Eight small charts, two modalities by four phases of training, of overlap or accuracy over the epochs. "
        "The numbers are in results.json, under curves.",
    ),
}
