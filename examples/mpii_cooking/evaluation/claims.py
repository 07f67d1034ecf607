"""What the paper claims, and what each part of its method would have to be worth, as pairs of cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import ClipCell, FrameCell
from examples.mpii_cooking.evaluation.results import ClipPair, FramePair, Pairs, Results
from examples.mpii_cooking.evaluation.schema import PooledCell
from examples.mpii_cooking.evaluation.tables import CLIP_ROWS
from examples.mpii_cooking.variants import Modality, Region, Variant

PARTS = (
    ("Guidance (SSTN) beats a better start of a plain transformer", (Variant.STN_IDENTITY, Variant.STN_LEVEL)),
    ("Guidance (SSTN) beats another learning rate of a plain transformer", (Variant.STN_SLOW, Variant.STN_FAST)),
    ("Joint training after guidance (SSTN) beats leaving the window where guidance put it", (Variant.FROZEN,)),
    ("The learned window (SSTN) beats the hard-coded one in single frames", (Variant.HARD_CODED,)),
    ("Turning guidance off (SSTN) beats never turning it off", (Variant.GUIDED,)),
)
"""What is claimed about a part of the method, and the variants that SSTN then beats."""


@dataclass(frozen=True)
class Claim:
    """The first cell of each pair is better than the second, on average over the pairs.

    Attributes:
        title: the claim as a sentence.
        pairs: of cells.
        paper: the paper's difference of each pair, in points; None where it has no such pair.
    """

    title: str
    pairs: Pairs
    paper: tuple[float | None, ...]


def claims(results: Results) -> tuple[Claim, ...]:
    """Return what a run can judge: the paper's claims, then those about parts of its method.

    The pair with the paper's largest difference is a claim of its own where more seeds have it than have the others.
    """
    guidance = list(_guidance(results))
    found = [
        _claim("A guided transformer (SSTN) beats a plain one (STN)", guidance),
        _claim("The learned region (R_d) beats the hard-coded motion window (R_h)", list(_regions(results))),
        _claim("Late fusion beats the best single level", list(_fusions(results))),
        _claim("Both streams together (S+T) beat each alone", list(_streams(results))),
    ]
    for title, variants in PARTS:
        pairs = list(_against(results, variants))
        if pairs:
            names, levels = ", ".join(it.key for it in variants), dict.fromkeys(better.level for better, _ in pairs)
            found.append(_claim(f"{title} ({names}), at {' and '.join(levels)} level", pairs))
    closest = _beats(results, Variant.SSTN, Variant.STN, paper.LEVELS[-1], results.settings.scope.main_localizer)
    count = len(results.compare([closest]).seeds)
    if count > len(results.compare(guidance).seeds):
        network = results.settings.scope.main_localizer.upper()
        found.append(_claim(f"SSTN beats STN at {paper.LEVELS[-1]} level with {network}, {count} seeds", [closest]))
    return tuple(found)


def pooling_pairs(results: Results, cell: ClipCell) -> list[ClipPair]:
    """Return the pairs of the main kind of pooling and each other one, in a cell of Table 3."""
    main, *others = results.settings.evaluation.poolings
    return [(results.pooled(cell, main), results.pooled(cell, kind)) for kind in others]


def _claim(title: str, pairs: Pairs) -> Claim:
    return Claim(title, pairs, tuple(_printed_difference(*pair) for pair in pairs))


def _printed_difference(better: FrameCell | PooledCell, worse: FrameCell | PooledCell) -> float | None:
    values = [_printed(better), _printed(worse)]
    return None if values[0] is None or values[1] is None else values[0] - values[1]


def _printed(cell: FrameCell | PooledCell) -> float | None:
    """Return the paper's value of a cell, None where it has none."""
    if isinstance(cell, PooledCell):
        return paper.TABLE_3[cell.cell.row, cell.cell.stream, cell.cell.region]
    printed = paper.TABLE_2.get((cell.localizer or "", cell.level, cell.variant))
    return None if printed is None else float(printed)


def _beats(results: Results, better: Variant, worse: Variant, level: str, localizer: str) -> FramePair:
    return results.cell(better, level, localizer), results.cell(worse, level, localizer)


def _guidance(results: Results) -> Iterator[FramePair]:
    for localizer, level in dict.fromkeys((localizer, level) for localizer, level, _ in paper.TABLE_2):
        if localizer in results.localizers:
            yield _beats(results, Variant.SSTN, Variant.STN, level, localizer)


def _against(results: Results, variants: Iterable[Variant]) -> Iterator[FramePair]:
    for level, variant in product(results.variant_levels, variants):
        pair = _beats(results, Variant.SSTN, variant, level, results.settings.scope.main_localizer)
        if results.has(pair):
            yield pair


def _regions(results: Results) -> Iterator[ClipPair]:
    for row, stream in product(CLIP_ROWS, paper.STREAMS):
        yield _pair(results, ClipCell(row, stream, Region.LEARNED), ClipCell(row, stream, Region.HARD_CODED))


def _fusions(results: Results) -> Iterator[ClipPair]:
    for stream, region in product(paper.STREAMS, Region):
        levels = [results.pooled(ClipCell(level, stream, region)) for level in paper.LEVELS]
        found = results.precisions(levels)
        means = {level: found[level].mean.value for level in levels}
        yield results.pooled(ClipCell(paper.FUSION, stream, region)), max(means, key=means.__getitem__)


def _streams(results: Results) -> Iterator[ClipPair]:
    both = paper.STREAMS[-1]
    for row, region, alone in product(CLIP_ROWS, Region, Modality):
        yield _pair(results, ClipCell(row, both, region), ClipCell(row, alone, region))


def _pair(results: Results, better: ClipCell, worse: ClipCell) -> ClipPair:
    return results.pooled(better), results.pooled(worse)
