"""The report: one HTML page that needs no other file."""

import base64
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import POOLING_CELL, ClipCell, FrameCell
from examples.mpii_cooking.evaluation.claims import beats
from examples.mpii_cooking.evaluation.estimates import Accuracy, Difference, Precision
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.tables import (
    ALL_SHOWN,
    baseline_table,
    clip_ceilings,
    clip_table,
    frame_ceilings,
    frame_table,
    variant_table,
)
from examples.mpii_cooking.formats import counted, duration
from examples.mpii_cooking.report import figures, figures_windows, verdicts
from examples.mpii_cooking.report.differences import departures, is_comparable
from examples.mpii_cooking.report.headline import headline, shortfall
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.training.weights import RANDOM
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Modality, Region, Variant

FILE = "report.html"
TONES = {Variant.STN: "stn", Variant.SSTN: "sstn", Variant.HARD_CODED: "r_h"}  # the page's colors; others are gray
REGION_TONES = {Region.LEARNED: "sstn", Region.HARD_CODED: "r_h"}


WORDS = {
    "STN": "a plain spatial transformer network; it learns where to look from the classes alone",
    "SSTN": "a supervised one; it is guided to the window with the most motion first, then set free",
    "R_h": "the hard-coded window with the most motion",
    "R_d": "the region that the guided transformer has learned to look at",
    "S+T": "the spatial stream, which reads frames, and the temporal one, which reads optical flow, together",
    "mAP": "mean average precision over the classes, in percent",
    "IoU": "the area that two windows share, divided by the area of both together",
    "top-1": "the share of test clips whose class has the highest score",
    "FC6": "the values of a network's first fully connected layer",
    "FC7": "those of its second one",
    "VGG": "a family of networks; the larger the number, the more layers, except for F (fast) and M (medium)",
}
"""What the page's abbreviations mean. Each section explains its own."""


class Entry(NamedTuple):
    """A number in a table of the page."""

    found: Accuracy | Precision
    tone: str  # its color
    paper: str | None = None  # the paper's number as it is printed
    is_best: bool = False  # whether it is highlighted


class Row(NamedTuple):
    """A row of a table of the page; ``note`` says in plain words what its name means."""

    name: str
    entries: list[Entry]
    note: str = ""
    group: str = ""


def write_report(results: Results, folder: Path) -> Path:
    """Draw the figures and write ``report.html`` into ``folder``, which has the images of the probe frames."""
    environment = templates()
    environment.filters.update(
        duration=duration, format_p=verdicts.format_p, place=place, embed=lambda file: embed(folder / file)
    )
    widths = figures.draw_all(results, folder)
    path = folder / FILE
    with written_aside(path) as aside:
        text = environment.get_template("page.html.jinja").render(_context(results), widths=widths)
        aside.write_text(text, encoding="utf-8")
    return path


def templates() -> jinja2.Environment:
    """Return what renders this folder's templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=with_minus,
    )
    environment.filters["counted"] = counted
    return environment


def with_minus(value: object) -> object:
    """Return a text whose negative numbers have a minus sign in place of a hyphen; markup as it is."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", str(value)) if is_text else value


def embed(file: Path) -> str:
    """Return an SVG file as a data URL."""
    return "data:image/svg+xml;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def place(value: float, low: float, high: float) -> str:
    """Return where a value is on a strip from ``low`` to ``high``, as a CSS length; values beyond are at its ends."""
    return f"{100 * min(max((value - low) / (high - low), 0), 1):.1f}%"


def paired_rows(results: Results) -> list[Row]:
    """Return Table 2: levels across, for each STN and SSTN."""
    return [
        Row(
            name.upper(),
            _pairs(
                Entry(found, TONES[it.variant], paper.TABLE_2[name, it.level, it.variant]) for it, found in row.items()
            ),
        )
        for name, row in frame_table(results).items()
    ]


def region_rows(results: Results) -> list[Row]:
    """Return Table 3: streams across, for each R_d and R_h; late fusion last."""
    printed = {key: f"{percent:.2f}" for key, percent in paper.TABLE_3.items()}
    return [
        Row(
            name,
            _pairs(
                Entry(found, REGION_TONES[it.cell.region], printed[it.cell.row, it.cell.stream, it.cell.region])
                for it, found in row.items()
            ),
        )
        for name, row in clip_table(results).items()
    ]


def pooling_rows(results: Results) -> list[tuple[str, Precision, Difference | None]]:
    """Return each kind of pooling's precision in one cell, and how much better the main kind, the first, is."""
    cells = [results.pooled(POOLING_CELL, kind) for kind in results.settings.evaluation.poolings]
    found, pairs = results.precisions(cells), [(cells[0], other) for other in cells[1:]]
    differences = results.compare(pairs).pairs if pairs else ()
    return [(it.pooling, found[it], better) for it, better in zip(cells, (None, *differences), strict=True)]


def _pairs(entries: Iterable[Entry]) -> list[Entry]:
    """Highlight the higher of each two neighbors."""
    all_of = list(entries)
    means = [entry.found.mean.value for entry in all_of]
    return [entry._replace(is_best=means[i] > means[i ^ 1]) for i, entry in enumerate(all_of)]


def _variant_rows(table: Mapping[Variant, Mapping[FrameCell, Accuracy]]) -> list[Row]:
    """Return variants, one number for each level, with the paper's method highlighted."""
    rows = []
    for variant, row in table.items():
        entries = [Entry(it, TONES.get(variant, "other"), is_best=variant is Variant.SSTN) for it in row.values()]
        rows.append(Row(variant.key, entries, variant.traits.description, variant.traits.group))
    return rows


def _context(results: Results) -> dict[str, object]:
    """Return what the template shows."""
    dataset, levels = results.dataset, results.settings.data.levels
    width, height = dataset.frame_size
    judgments, table_3 = verdicts.judge(results), region_rows(results)
    ends = [abs(end) for judgment in judgments for end in judgment.found.mean.interval]
    streams = [(modality, level.name) for modality in Modality for level in levels]
    behind_windows = (
        shortfall(results, [beats(results, Variant.HARD_CODED, level)], "SSTN is", f"R_h at {level} level")
        for level in paper.LEVELS
    )
    fused = [results.pooled(ClipCell(paper.FUSION, paper.STREAMS[-1], region)) for region in Region]
    return {
        "results": results,
        "settings": encode(results.settings),
        "seeds": len(results.seeds),
        "words": WORDS,
        "headline": headline(results),
        "looks": list(reversed(results.probe_frames)),
        "shown": figures_windows.shown_frames(results) if results.probe_frames else [],
        "tile_name": figures_windows.tile_name,
        "class_shown": partial(figures_windows.class_shown, results),
        "offsets": partial(figures_windows.offsets, results),
        "behind": {
            "STN": shortfall(results, [beats(results, Variant.STN)], "It is", "the plain one"),
            "R_h": " ".join(filter(None, behind_windows)),
            "fused": shortfall(results, [(fused[0], fused[1])], "They are", "the hard-coded windows"),
        },
        "judgments": judgments,
        "reach": max(1, *ends),
        "table_2": paired_rows(results),
        "baselines": _variant_rows(baseline_table(results)),
        "variants": _variant_rows(variant_table(results)),
        "table_3": table_3,
        "all_shown": ALL_SHOWN,
        "frame_ceilings": frame_ceilings(results),
        "clip_ceilings": clip_ceilings(results),
        "fused": [entry.found for entry in table_3[-1].entries[-2:]],
        "poolings": pooling_rows(results),
        "overlaps": [(*stream, results.overlap(*stream)) for stream in streams],
        "sizes": [(level.name, round(width * level.height / height), level.height) for level in levels],
        "test_clips": np.bincount(results.labels, minlength=len(dataset.classes)).tolist(),
        "untrained": [dataset.classes[label] for label in results.untrained],
        "paper": paper,
        "comparable": is_comparable(results),
        "pretrained": RANDOM not in results.weights.values(),
        "departures": departures(results),
    }
