"""Which cells each table shows: row -> cells, from left to right. Page, figures and documentation share them."""

from __future__ import annotations

from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import ClipCell, FrameCell
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import PooledCell
from examples.mpii_cooking.variants import Region, Variant

PAIR = (Variant.STN, Variant.SSTN)
"""Below each level of Table 2."""
CLIP_ROWS = (*paper.LEVELS, paper.FUSION)


def frame_rows(results: Results) -> dict[str, tuple[FrameCell, ...]]:
    """Return Table 2: for each localization network STN and SSTN at every level."""
    return {
        name: tuple(results.cell(variant, level, name) for level, variant in product(paper.LEVELS, PAIR))
        for name in results.localizers
    }


def baseline_rows(results: Results) -> dict[Variant, tuple[FrameCell, ...]]:
    """Return the rows below Table 2, which the paper does not have: variants without a transformer, at every level."""
    baselines = (Variant.HARD_CODED, Variant.RANDOM_CROP)
    return {variant: tuple(results.cell(variant, level) for level in paper.LEVELS) for variant in baselines}


def variant_rows(results: Results) -> dict[Variant, tuple[FrameCell, ...]]:
    """Return the table of all variants: those of the main localization network, at the levels that have all of them."""
    return {
        variant: tuple(results.cell(variant, level) for level in results.variant_levels) for variant in results.variants
    }


def clip_rows(results: Results) -> dict[str, tuple[PooledCell, ...]]:
    """Return Table 3: for each level and for late fusion the learned and the hard-coded region of every stream."""
    return {
        row: tuple(results.pooled(ClipCell(row, *column)) for column in product(paper.STREAMS, Region))
        for row in CLIP_ROWS
    }
