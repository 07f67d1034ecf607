"""Claims as pairs of cells: those of the paper, and that each part of its method helps; and what they are about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.ceilings import seen
from examples.mpii_cooking.evaluation.cells import CLIP_ROWS, Cell, ClipCell, FrameCell, Pair, PooledCell
from examples.mpii_cooking.evaluation.measures import LESS_THAN_HALF, SHARES, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.variants import Modality, Region, Variant


class Part(NamedTuple):
    """What is claimed about a part of the method, and the variants that SSTN then beats."""

    title: str
    variants: tuple[Variant, ...]
    is_about_distance: bool = True


PARTS = (
    Part("Guidance (SSTN) beats a better start of a plain transformer", (Variant.STN_IDENTITY, Variant.STN_LEVEL)),
    Part(
        "Guidance (SSTN) beats another learning rate of a plain transformer",
        (Variant.STN_SLOW, Variant.STN_FAST),
        is_about_distance=False,
    ),
    Part("Joint training after guidance (SSTN) beats leaving the window where guidance put it", (Variant.FROZEN,)),
    Part("The learned window (SSTN) beats the hard-coded one in single frames", (Variant.HARD_CODED,)),
    Part("Turning guidance off (SSTN) beats never turning it off", (Variant.GUIDED,)),
)


@dataclass(frozen=True)
class Claim:
    """The first cell of each pair is better than the second, on average over the pairs."""

    title: str
    pairs: Sequence[Pair]
    is_about_distance: bool = False  # whether it may depend on how far the action is from the largest motion

    @property
    def paper(self) -> tuple[float | None, ...]:
        """The paper's difference of each pair, in points; None where it has no such pair."""
        values = [(_printed(better), _printed(worse)) for better, worse in self.pairs]
        return tuple(None if one is None or other is None else one - other for one, other in values)


class View(NamedTuple):
    """What a claim is judged by besides the paper's measure, and its pairs that bear on it."""

    measure: Measure
    pairs: Sequence[Pair]


def claims(results: Results) -> tuple[Claim, ...]:
    """Return what a run can judge: the paper's claims, then those about parts of its method.

    The pair with the paper's largest difference is a claim of its own if more seeds have it than have the other pairs.
    """
    guidance = list(_guidance(results))
    found = [
        Claim("A guided transformer (SSTN) beats a plain one (STN)", guidance, is_about_distance=True),
        region_claim(results),
        Claim("Late fusion beats the best single level", list(_fusions(results))),
        Claim("Both streams together (S+T) beat each alone", list(_streams(results))),
    ]
    for part in PARTS:
        tried = product(results.variant_levels or paper.LEVELS[-1:], part.variants)
        pairs = {pair: level for level, it in tried if results.has(pair := beats(results, it, level))}
        if pairs:
            names, levels = ", ".join(it.key for it in part.variants), " and ".join(dict.fromkeys(pairs.values()))
            found.append(Claim(f"{part.title} ({names}), at {levels} level", list(pairs), part.is_about_distance))
    closest = beats(results, Variant.STN)
    count = len(results.compare([closest]).seeds)
    if count > len(results.compare(guidance).seeds):
        network = results.settings.scope.main_localizer.upper()
        found.append(Claim(f"SSTN beats STN at {paper.LEVELS[-1]} level with {network}, {count} seeds", [closest]))
    return tuple(found)


def region_claim(results: Results) -> Claim:
    """Return the paper's claim about Table 3."""
    rows = product(CLIP_ROWS, paper.STREAMS)
    pairs = [_pair(results, *(ClipCell(row, stream, region) for region in Region)) for row, stream in rows]
    title = "The learned region (R_d) beats the hard-coded motion window (R_h)"
    return Claim(title, pairs, is_about_distance=True)


def cue_views(results: Results, claim: Claim) -> Iterator[View]:
    """Yield how a claim is judged by each cue, on the pairs whose streams both show it."""
    for cue in results.dataset.cues:
        if pairs := [pair for pair in claim.pairs if all(cue in seen(cell) for cell in pair)]:
            yield View(Measure(cue), pairs)


def distance_views(results: Results, claim: Claim) -> Iterator[View]:
    """Yield how a claim is judged by the thing at each distance, on the pairs of the level where it was measured."""
    pairs = [pair for pair in claim.pairs if all(_is_closest(cell) and THING in seen(cell) for cell in pair)]
    if claim.is_about_distance and pairs:
        measures = [Measure(THING, share) for share in (*SHARES, LESS_THAN_HALF)]
        yield from (View(measure, pairs) for measure in measures if len(results.clips(measure)))


def beats(results: Results, worse: Variant, level: str = paper.LEVELS[-1], localizer: str | None = None) -> Pair:
    """Return the pair that claims that SSTN beats another variant."""
    return results.cell(Variant.SSTN, level, localizer), results.cell(worse, level, localizer)


def _is_closest(cell: Cell) -> bool:
    return (cell.level if isinstance(cell, FrameCell) else cell.cell.row) == paper.LEVELS[-1]


def _printed(cell: Cell) -> float | None:
    """Return the paper's value of a cell, None where it has none."""
    if isinstance(cell, PooledCell):
        return paper.TABLE_3[cell.cell.row, cell.cell.stream, cell.cell.region]
    printed = paper.TABLE_2.get((cell.localizer or "", cell.level, cell.variant))
    return None if printed is None else float(printed)


def _guidance(results: Results) -> Iterator[Pair]:
    for localizer, level in dict.fromkeys((localizer, level) for localizer, level, _ in paper.TABLE_2):
        if localizer in results.localizers:
            yield beats(results, Variant.STN, level, localizer)


def _fusions(results: Results) -> Iterator[Pair]:
    for stream, region in product(paper.STREAMS, Region):
        levels = results.precisions([results.pooled(ClipCell(level, stream, region)) for level in paper.LEVELS])
        yield results.pooled(ClipCell(paper.FUSION, stream, region)), max(levels, key=lambda it: levels[it].mean.value)


def _streams(results: Results) -> Iterator[Pair]:
    for row, region, alone in product(CLIP_ROWS, Region, Modality):
        yield _pair(results, ClipCell(row, paper.STREAMS[-1], region), ClipCell(row, alone, region))


def _pair(results: Results, better: ClipCell, worse: ClipCell) -> Pair:
    return results.pooled(better), results.pooled(worse)
