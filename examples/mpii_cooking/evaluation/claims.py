"""Claims as pairs of cells: those of the paper, and that each part of its method helps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import CLIP_ROWS, Cell, ClipCell, Pair, PooledCell
from examples.mpii_cooking.evaluation.results import Results
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
    """The first cell of each pair is better than the second, on average over the pairs."""

    title: str
    pairs: Sequence[Pair]

    @property
    def paper(self) -> tuple[float | None, ...]:
        """The paper's difference of each pair, in points; None where it has no such pair."""
        values = [(_printed(better), _printed(worse)) for better, worse in self.pairs]
        return tuple(None if one is None or other is None else one - other for one, other in values)


def claims(results: Results) -> tuple[Claim, ...]:
    """Return what a run can judge: the paper's claims, then those about parts of its method.

    The pair with the paper's largest difference is a claim of its own if more seeds have it than have the other pairs.
    """
    guidance = list(_guidance(results))
    rows = list(product(CLIP_ROWS, paper.STREAMS))
    regions = [_pair(results, *(ClipCell(row, stream, region) for region in Region)) for row, stream in rows]
    found = [
        Claim("A guided transformer (SSTN) beats a plain one (STN)", guidance),
        Claim("The learned region (R_d) beats the hard-coded motion window (R_h)", regions),
        Claim("Late fusion beats the best single level", list(_fusions(results))),
        Claim("Both streams together (S+T) beat each alone", list(_streams(results))),
    ]
    for title, variants in PARTS:
        tried = [(level, _beats(results, it, level)) for level, it in product(results.variant_levels, variants)]
        pairs = {pair: level for level, pair in tried if results.has(pair)}
        if pairs:
            names, levels = ", ".join(it.key for it in variants), " and ".join(dict.fromkeys(pairs.values()))
            found.append(Claim(f"{title} ({names}), at {levels} level", list(pairs)))
    closest = _beats(results, Variant.STN, paper.LEVELS[-1])
    count = len(results.compare([closest]).seeds)
    if count > len(results.compare(guidance).seeds):
        network = results.settings.scope.main_localizer.upper()
        found.append(Claim(f"SSTN beats STN at {paper.LEVELS[-1]} level with {network}, {count} seeds", [closest]))
    return tuple(found)


def _printed(cell: Cell) -> float | None:
    """Return the paper's value of a cell, None where it has none."""
    if isinstance(cell, PooledCell):
        return paper.TABLE_3[cell.cell.row, cell.cell.stream, cell.cell.region]
    printed = paper.TABLE_2.get((cell.localizer or "", cell.level, cell.variant))
    return None if printed is None else float(printed)


def _beats(results: Results, worse: Variant, level: str, localizer: str | None = None) -> Pair:
    return results.cell(Variant.SSTN, level, localizer), results.cell(worse, level, localizer)


def _guidance(results: Results) -> Iterator[Pair]:
    for localizer, level in dict.fromkeys((localizer, level) for localizer, level, _ in paper.TABLE_2):
        if localizer in results.localizers:
            yield _beats(results, Variant.STN, level, localizer)


def _fusions(results: Results) -> Iterator[Pair]:
    for stream, region in product(paper.STREAMS, Region):
        levels = results.precisions([results.pooled(ClipCell(level, stream, region)) for level in paper.LEVELS])
        yield results.pooled(ClipCell(paper.FUSION, stream, region)), max(levels, key=lambda it: levels[it].mean.value)


def _streams(results: Results) -> Iterator[Pair]:
    for row, region, alone in product(CLIP_ROWS, Region, Modality):
        yield _pair(results, ClipCell(row, paper.STREAMS[-1], region), ClipCell(row, alone, region))


def _pair(results: Results, better: ClipCell, worse: ClipCell) -> Pair:
    return results.pooled(better), results.pooled(worse)
