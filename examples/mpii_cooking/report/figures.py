"""The report's pictures; the page has the words that go with them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.report import figures_tables, figures_windows
from examples.mpii_cooking.report.figures_style import STYLE, save

PIXELS = 100  # of CSS for an inch of a figure: its text then has the size of the page's small print
DRAWN: dict[str, Callable[[Results], Figure]] = {
    "table-2": figures_tables.pairs,
    "average-precision": figures_tables.average_precision,
    "confusion": figures_tables.confusion,
    "overlap": figures_tables.overlap,
    "distortion": figures_windows.distortion,
    "curves": figures_tables.curves,
}


def draw_all(results: Results, folder: Path) -> dict[str, int]:
    """Draw every figure that ``results`` has numbers for, as an SVG file in ``folder``; return their widths."""
    painters, widths = dict(DRAWN), {}
    if results.probe_frames:
        painters["figure-7"] = partial(figures_windows.figure_7, folder=folder)
    for probe in results.probe_frames:
        for index in figures_windows.shown_frames(results):
            tile = partial(figures_windows.tile, probe=probe, index=index, folder=folder)
            painters[figures_windows.tile_name(probe, index)] = tile
    with mpl.rc_context(STYLE):
        for name, draw in painters.items():
            figure = draw(results)
            save(figure, folder / f"{name}.svg")
            widths[name] = round(PIXELS * figure.get_figwidth())
    return widths
