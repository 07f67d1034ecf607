"""Claims in words: what a run says about each, and about each of its pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from examples.mpii_cooking.evaluation.cells import FrameCell
from examples.mpii_cooking.evaluation.claims import Claim, claims
from examples.mpii_cooking.evaluation.estimates import Comparison, Difference
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import PooledCell
from examples.mpii_cooking.evaluation.significance import Verdict


@dataclass(frozen=True)
class Judgment:
    """A claim and what a run found about it."""

    claim: Claim
    found: Comparison

    @property
    def paper(self) -> float | None:
        """The paper's mean difference in points, None where it has none."""
        printed = [difference for difference in self.claim.paper if difference is not None]
        return sum(printed) / len(printed) if printed else None

    @property
    def sentence(self) -> str:
        """The verdict's reasons in plain words."""
        mean, pairs = self.found.mean, self.found.pairs
        low, high = mean.interval
        by_how_much = f"{mean.value:+.1f} points on average (95 % interval {low:+.1f} to {high:+.1f})"
        if len(pairs) == 1:
            return f"{_percents(pairs[0].better)} against {_percents(pairs[0].worse)}: {by_how_much}."
        higher = sum(pair.mean.value > 0 for pair in pairs)
        shown = sum(pair.mean.verdict is Verdict.HOLDS for pair in pairs)
        reversed_ = sum(pair.mean.verdict is Verdict.FAILS for pair in pairs)
        printed = [difference for difference in self.claim.paper if difference is not None]
        theirs = f" In the paper: higher in {sum(it > 0 for it in printed)} of {len(printed)}." if printed else ""
        return (
            f"Higher in {higher} of {len(pairs)} comparisons, by {by_how_much}. Conclusive on their own: {shown} for "
            f"the claim, {reversed_} against it.{theirs}"
        )

    @property
    def rows(self) -> Iterator[tuple[str, Difference, float | None]]:
        """Each pair's name, what was found, and the paper's difference."""
        for pair, found, printed in zip(self.claim.pairs, self.found.pairs, self.claim.paper, strict=True):
            yield pair_name(*pair), found, printed


def judge(results: Results) -> tuple[Judgment, ...]:
    """Return what a run says about every claim."""
    return tuple(Judgment(claim, results.compare(claim.pairs)) for claim in claims(results))


def pair_name(better: FrameCell | PooledCell, worse: FrameCell | PooledCell) -> str:
    """Name what two cells share, then how they differ: "spatial, R_d: late fusion against detail"."""
    one, other = _names(better), _names(worse)
    shared = ", ".join(name for name in one if name is not None and name in other)
    differing = [(a, b) for a, b in zip(one, other, strict=True) if a != b]
    sides = [", ".join(name for name in side if name is not None) for side in zip(*differing, strict=True)]
    return f"{shared}: {' against '.join(sides)}"


def format_p(p: float) -> str:
    """Write a p-value with its relation and two significant digits, never as zero: "= 0.016", "< 0.001"."""
    return "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def _percents(by_seed: tuple[float, ...]) -> str:
    """Return a mean, and each seed's value if there are several."""
    seeds = f" ({', '.join(f'{value:.1f}' for value in by_seed)})" if len(by_seed) > 1 else ""
    return f"{fmean(by_seed):.1f} %{seeds}"


def _names(cell: FrameCell | PooledCell) -> tuple[str | None, ...]:
    if isinstance(cell, PooledCell):
        return cell.cell.row, cell.cell.stream, cell.cell.region
    return cell.localizer, cell.level, cell.variant.key
