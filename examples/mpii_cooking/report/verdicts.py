"""Claims in words: what a run found about each, about each of its pairs, by each cue and at each distance."""

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from examples.mpii_cooking.evaluation.ceilings import ceiling
from examples.mpii_cooking.evaluation.cells import Cell, PooledCell
from examples.mpii_cooking.evaluation.claims import Claim, View, claims, cue_views, distance_views
from examples.mpii_cooking.evaluation.estimates import Comparison, Difference, known, mean_of_known
from examples.mpii_cooking.evaluation.measures import PAPER, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.significance import Verdict


class Reading(NamedTuple):
    """What a run found about a claim by one measure."""

    name: str  # what must be right
    measure: Measure
    clips: int  # test clips that count
    found: Comparison
    ceiling: float  # mean over the pairs of the best that the first cell's stream allows, in percent

    @property
    def part(self) -> str:
        """How much of the thing the motion window shows."""
        return "any" if self.measure.share is None else self.measure.share.name


class Judgment(NamedTuple):
    """A claim and what a run found about it."""

    claim: Claim
    found: Comparison
    by_cue: tuple[Reading, ...]  # the paper's measure, then each cue; empty where cues are not known
    by_distance: tuple[Reading, ...]

    @property
    def paper(self) -> float | None:
        """The paper's mean difference in points, None where it has none."""
        return mean_of_known(self.claim.paper)

    @property
    def sentence(self) -> str:
        """The verdict's reasons in plain words."""
        mean, pairs = self.found.mean, self.found.pairs
        low, high = mean.interval
        by_how_much = f"{mean.value:+.1f} points on average (95 % interval {low:+.1f} to {high:+.1f})"
        if mean.verdict is Verdict.INCONCLUSIVE and not low <= 0 <= high and mean.p is not None:
            by_how_much += f", which McNemar's exact test does not confirm (p {format_p(mean.p)})"
        if len(pairs) == 1:
            return f"{_percents(pairs[0].better)} against {_percents(pairs[0].worse)}: {by_how_much}."
        higher = sum(pair.mean.value > 0 for pair in pairs)
        verdicts = [pair.mean.verdict for pair in pairs]
        printed = known(self.claim.paper)
        theirs = f" In the paper: higher in {sum(it > 0 for it in printed)} of {len(printed)}." if printed else ""
        return (
            f"Higher in {higher} of {len(pairs)} comparisons, by {by_how_much}. Conclusive on their own: "
            f"{verdicts.count(Verdict.HOLDS)} for the claim, {verdicts.count(Verdict.FAILS)} against it.{theirs}"
        )

    @property
    def rows(self) -> Iterator[tuple[str, Difference, float | None]]:
        """Each pair's name, what was found, and the paper's difference."""
        return zip((pair_name(*it) for it in self.claim.pairs), self.found.pairs, self.claim.paper, strict=True)


def judge(results: Results) -> list[Judgment]:
    """Return what a run found about every claim."""
    found = []
    for claim in claims(results):
        cues = (View(PAPER, claim.pairs), *cue_views(results, claim)) if results.dataset.cues else ()
        by_cue, by_distance = (
            tuple(reading(results, view) for view in views) for views in (cues, distance_views(results, claim))
        )
        found.append(Judgment(claim, results.compare(claim.pairs), by_cue, by_distance))
    return found


def reading(results: Results, view: View) -> Reading:
    """Return what a run found about a claim by one measure; the classes' cues must be known."""
    measure, pairs = view
    name = measure.cue or ("class (mAP)" if isinstance(pairs[0][0], PooledCell) else "class")
    best = fmean(ceiling(results, better, measure) for better, _ in pairs)
    return Reading(name, measure, len(results.clips(measure)), results.compare(pairs, measure), best)


def pair_name(better: Cell, worse: Cell) -> str:
    """Name what two cells share, then how they differ: "spatial, R_d: late fusion against detail"."""
    names = list(zip(_names(better), _names(worse), strict=True))
    shared = ", ".join(one for one, other in names if one and one == other)
    sides = (
        ", ".join(filter(None, side)) for side in zip(*(both for both in names if both[0] != both[1]), strict=True)
    )
    return f"{shared}: {' against '.join(sides)}"


def format_p(p: float) -> str:
    """Write a p-value with its relation and two significant digits, never as zero: "= 0.016", "< 0.001"."""
    return "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def _percents(by_seed: tuple[float, ...]) -> str:
    """Return a mean, and each seed's value if there are several."""
    seeds = f" ({', '.join(f'{value:.1f}' for value in by_seed)})" if len(by_seed) > 1 else ""
    return f"{fmean(by_seed):.1f} %{seeds}"


def _names(cell: Cell) -> tuple[str | None, ...]:
    if isinstance(cell, PooledCell):
        return cell.cell.row, cell.cell.stream, cell.cell.region
    return cell.localizer, cell.level, cell.variant.key
