"""The report: one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from examples.mpii_cooking import paper
from examples.mpii_cooking.durations import duration
from examples.mpii_cooking.evaluation.cells import POOLING_CELL, FrameCell
from examples.mpii_cooking.evaluation.claims import pooling_pairs
from examples.mpii_cooking.evaluation.estimates import Accuracy, Difference, Precision
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.tables import baseline_rows, clip_rows, frame_rows, variant_rows
from examples.mpii_cooking.report import figures, verdicts
from examples.mpii_cooking.report.differences import departures, is_comparable
from examples.mpii_cooking.training.weights import RANDOM
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Modality, Region, Variant
from examples.mpii_cooking.workspace import written_aside

TEMPLATE = "page.html.jinja"
TONES = {Variant.STN: "stn", Variant.SSTN: "sstn", Variant.HARD_CODED: "r_h"}
"""The page's color of a variant; others are gray."""
REGION_TONES = {Region.LEARNED: "sstn", Region.HARD_CODED: "r_h"}


@dataclass(frozen=True)
class Entry:
    """A number in a table of the page.

    Attributes:
        found: what this run found.
        tone: its color.
        paper: the paper's number as it is printed; None where it has none.
        is_best: whether it is the higher one of its pair.
    """

    found: Accuracy | Precision
    tone: str
    paper: str | None = None
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table of the page; ``note`` says in plain words what its name means."""

    name: str
    entries: tuple[Entry, ...]
    note: str = ""
    group: str = ""


def write_report(results: Results, folder: Path) -> Path:
    """Draw the figures and write ``report.html`` into ``folder``.

    Args:
        results: of the run.
        folder: its output folder, with the images of the probe frames.

    Returns:
        The path of the report.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = figures.draw_all(results, folder)
    environment.filters.update(
        duration=duration, format_p=verdicts.format_p, place=place, embed=lambda file: embed(folder / file)
    )
    path = folder / "report.html"
    with written_aside(path) as aside:
        text = environment.get_template(TEMPLATE).render(_context(results), drawings=drawings)
        aside.write_text(text, encoding="utf-8")
    return path


def embed(file: Path) -> str:
    """Return a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def place(value: float, low: float, high: float) -> str:
    """Return where a value is on a strip from ``low`` to ``high``, as a CSS length; others are at the strip's ends."""
    return f"{100 * min(max((value - low) / (high - low), 0), 1):.1f}%"


def paired_rows(results: Results) -> tuple[Row, ...]:
    """Return Table 2: levels across, for each STN and SSTN."""
    found = results.accuracies(_table_2_cells(results))
    rows = []
    for name, cells in frame_rows(results).items():
        printed = [paper.TABLE_2[name, cell.level, cell.variant] for cell in cells]
        tones = [TONES[cell.variant] for cell in cells]
        rows.append(Row(name.upper(), _pairs([found[cell] for cell in cells], tones, printed)))
    return tuple(rows)


def unpaired_rows(results: Results) -> tuple[Row, ...]:
    """Return the rows below Table 2: variants without a transformer, one number for each level."""
    found = results.accuracies(_table_2_cells(results))
    return tuple(_variant_row(variant, cells, found) for variant, cells in baseline_rows(results).items())


def grouped_rows(results: Results) -> tuple[Row, ...]:
    """Return all variants, from the least attention to the most; none if only the paper's were trained."""
    if not results.variant_levels:
        return ()
    grid = variant_rows(results)
    found = results.accuracies([cell for row in grid.values() for cell in row])
    return tuple(_variant_row(variant, cells, found) for variant, cells in grid.items())


def region_rows(results: Results) -> tuple[Row, ...]:
    """Return Table 3: streams across, for each R_d and R_h; late fusion last."""
    grid = clip_rows(results)
    found = results.precisions([cell for row in grid.values() for cell in row])
    rows = []
    for name, row in grid.items():
        printed = [f"{paper.TABLE_3[it.cell.row, it.cell.stream, it.cell.region]:.2f}" for it in row]
        tones = [REGION_TONES[it.cell.region] for it in row]
        rows.append(Row(name, _pairs([found[it] for it in row], tones, printed)))
    return tuple(rows)


def pooling_rows(results: Results) -> list[tuple[str, Precision, Difference | None]]:
    """Return what each kind of pooling leads to in one cell, and how much better the main kind, the first, is."""
    cells = [results.pooled(POOLING_CELL, kind) for kind in results.settings.evaluation.poolings]
    found, pairs = results.precisions(cells), pooling_pairs(results, POOLING_CELL)
    differences = results.compare(pairs).pairs if pairs else ()
    return [(it.pooling, found[it], better) for it, better in zip(cells, (None, *differences), strict=True)]


def _context(results: Results) -> dict[str, object]:
    """Return what the template shows."""
    width, height = results.dataset.frame_size
    judgments, table_3 = verdicts.judge(results), region_rows(results)
    ends = [abs(end) for judgment in judgments for end in judgment.found.mean.interval]
    streams = [(modality, level.name) for modality in Modality for level in results.levels]
    return {
        "results": results,
        "settings": encode(results.settings),
        "seeds": len(results.seeds),
        "judgments": judgments,
        "reach": max(1, *ends),
        "table_2": paired_rows(results),
        "baselines": unpaired_rows(results),
        "variants": grouped_rows(results),
        "table_3": table_3,
        "fused": [entry.found for entry in table_3[-1].entries[-2:]],
        "poolings": pooling_rows(results),
        "overlaps": [(*stream, results.overlap(*stream)) for stream in streams],
        "sizes": [(level.name, round(width * level.height / height), level.height) for level in results.levels],
        "test_clips": np.bincount(results.labels, minlength=len(results.dataset.classes)).tolist(),
        "untrained": [results.dataset.classes[label] for label in results.untrained],
        "levels": paper.LEVELS,
        "streams": paper.STREAMS,
        "comparable": is_comparable(results),
        "pretrained": RANDOM not in results.weights.values(),
        "departures": departures(results),
        "errata": paper.ERRATA,
        "paper_clips": paper.TEST_CLIPS,
    }


def _pairs(found: Sequence[Accuracy | Precision], tones: Sequence[str], printed: Sequence[str]) -> tuple[Entry, ...]:
    """Return numbers of which each two neighbors are compared."""
    means = [it.mean.value for it in found]
    is_best = [mean > means[i ^ 1] for i, mean in enumerate(means)]
    return tuple(map(Entry, found, tones, printed, is_best))


def _variant_row(variant: Variant, cells: Sequence[FrameCell], found: Mapping[FrameCell, Accuracy]) -> Row:
    tone, is_best = TONES.get(variant, "other"), variant is Variant.SSTN
    entries = tuple(Entry(found[cell], tone, is_best=is_best) for cell in cells)
    return Row(variant.key, entries, variant.traits.description, variant.traits.group)


def _table_2_cells(results: Results) -> list[FrameCell]:
    rows = (*frame_rows(results).values(), *baseline_rows(results).values())
    return [cell for row in rows for cell in row]
