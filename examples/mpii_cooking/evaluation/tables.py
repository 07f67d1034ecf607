"""What each table shows: row -> cell -> numbers, from left to right. Page, figures and documentation share them."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TypeVar

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.ceilings import ceiling
from examples.mpii_cooking.evaluation.cells import CLIP_ROWS, ClipCell, FrameCell, PooledCell
from examples.mpii_cooking.evaluation.estimates import Accuracy, Precision
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.variants import Region, Variant

PAIR = (Variant.STN, Variant.SSTN)  # below each level of Table 2
ALL_SHOWN = "all that this stream shows"  # names the best that could be
Name = TypeVar("Name")
Cell = TypeVar("Cell")
FoundT = TypeVar("FoundT")


def frame_table(results: Results) -> dict[str, dict[FrameCell, Accuracy]]:
    """Return Table 2: for each localization network STN and SSTN at every level."""
    columns = list(product(paper.LEVELS, PAIR))
    rows = {name: [results.cell(it, level, name) for level, it in columns] for name in results.localizers}
    return _filled(rows, results.accuracies)


def baseline_table(results: Results) -> dict[Variant, dict[FrameCell, Accuracy]]:
    """Return the rows below Table 2, which the paper does not have: variants without a transformer, at every level."""
    baselines = (Variant.HARD_CODED, Variant.RANDOM_CROP)
    return _filled({it: [results.cell(it, level) for level in paper.LEVELS] for it in baselines}, results.accuracies)


def variant_table(results: Results) -> dict[Variant, dict[FrameCell, Accuracy]]:
    """Return all variants of the main localization network at the levels that have all; empty without such levels."""
    levels = results.variant_levels
    rows = {it: [results.cell(it, level) for level in levels] for it in results.variants}
    return _filled(rows, results.accuracies) if levels else {}


def clip_table(results: Results) -> dict[str, dict[PooledCell, Precision]]:
    """Return Table 3: for each level and for late fusion the learned and the hard-coded region of every stream."""
    columns = list(product(paper.STREAMS, Region))
    rows = {row: [results.pooled(ClipCell(row, *column)) for column in columns] for row in CLIP_ROWS}
    return _filled(rows, results.precisions)


def frame_ceilings(results: Results) -> dict[str, float]:
    """Return the best of each level of Table 2 from all that it shows; empty where the classes' cues are not known."""
    levels = paper.LEVELS if results.dataset.cues else ()
    return {level: ceiling(results, results.cell(Variant.SSTN, level)) for level in levels}


def clip_ceilings(results: Results) -> dict[str, dict[str, float]]:
    """Return the best of each row and stream of Table 3 from all that it shows; empty where the cues are not known."""
    found: dict[str, dict[str, float]] = {}
    for row, stream in product(CLIP_ROWS if results.dataset.cues else (), paper.STREAMS):
        best = ceiling(results, results.pooled(ClipCell(row, stream, Region.LEARNED)))
        found.setdefault(row, {})[stream] = best
    return found


def _filled(
    rows: Mapping[Name, Sequence[Cell]], find: Callable[[Sequence[Cell]], Mapping[Cell, FoundT]]
) -> dict[Name, dict[Cell, FoundT]]:
    found = find([cell for row in rows.values() for cell in row])
    return {name: {cell: found[cell] for cell in row} for name, row in rows.items()}
