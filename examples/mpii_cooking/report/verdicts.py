"""Claims in words: what a run found about each, and about each of its pairs."""

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from examples.mpii_cooking.evaluation.cells import Cell, PooledCell
from examples.mpii_cooking.evaluation.claims import Claim, claims
from examples.mpii_cooking.evaluation.estimates import Comparison, Difference, known, mean_of_known
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.significance import Verdict


class Judgment(NamedTuple):
    """A claim and what a run found about it."""

    claim: Claim
    found: Comparison

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
    return [Judgment(claim, results.compare(claim.pairs)) for claim in claims(results)]


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
