"""Whether a run bears out what the paper claims: its paired differences beside the paper's, and verdicts in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.significance import Interval, Verdict

TITLES = {
    "guidance": "A guided transformer (SSTN) beats a plain one (STN)",
    "region": "The learned region (R_d) beats the hard-coded motion window (R_h)",
    "fusion": "Late fusion beats the best single level",
    "streams": "Both streams together (S+T) beat each alone",
    "initialization": "Guidance (SSTN) beats a better start of a plain transformer (STN-identity, STN-level)",
    "rate": "Guidance (SSTN) beats another learning rate of a plain transformer (STN-slow, STN-fast)",
    "freedom": "Joint training after guidance (SSTN) beats leaving the window where guidance put it (frozen)",
    "learning": "The learned window (SSTN) beats the hard-coded one (R_h) in single frames",
    "turning off": "Turning guidance off (SSTN) beats never turning it off (guided)",
}

Key = tuple[str | None, str, str]


@dataclass(frozen=True)
class Comparison:
    """One pair of numbers that a claim orders, in percent.

    Attributes:
        name: which pair.
        better: this run's value of the side that the paper claims to be higher.
        worse: this run's value of the other side.
        difference: better minus worse, in points.
        interval: 95 % interval of the difference.
        p: two-sided p-value of the exact test where there is one.
        verdict: what may be said about this pair alone.
        paper: the paper's own difference, in points; None where it made no such comparison.
    """

    name: str
    better: float
    worse: float
    difference: float
    interval: Interval
    p: float | None
    verdict: Verdict
    paper: float | None


@dataclass(frozen=True)
class Reading:
    """A claim, what this run says about it on average over its comparisons, and the comparisons."""

    claim: str
    mean: float
    interval: Interval
    verdict: Verdict
    comparisons: tuple[Comparison, ...]

    @property
    def sentence(self) -> str:
        """The verdict's reasons in plain words."""
        n = len(self.comparisons)
        higher = sum(c.difference > 0 for c in self.comparisons)
        shown = sum(c.verdict is Verdict.HOLDS for c in self.comparisons)
        reversed_ = sum(c.verdict is Verdict.FAILS for c in self.comparisons)
        paper = [c.paper for c in self.comparisons if c.paper is not None]
        theirs = f" In the paper's own tables: higher in {sum(c > 0 for c in paper)} of {n}." if paper else ""
        low, high = self.interval
        return (
            f"Higher in {higher} of {n} comparisons, by {self.mean:+.1f} points on average (95 % interval "
            f"{low:+.1f} to {high:+.1f}). Beyond chance one by one: {shown} for the claim, {reversed_} against it."
            f"{theirs}"
        )


def format_p(p: float) -> str:
    """Write a p-value with its relation and two significant digits, never as zero: "= 0.016", "< 0.001"."""
    return "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def read(results: Mapping[str, Any]) -> tuple[Reading, ...]:
    """Read the paper's four claims off ``results.json``, and what each part of its method is worth."""
    table_2, table_3 = results["table2"], results["table3"]
    cells = (*table_2["cells"], *results["variants"])
    accuracies = {(cell["localizer"], cell["level"], cell["variant"]): cell["percent"] for cell in cells}
    maps = {(cell["row"], cell["stream"], cell["variant"]): cell["map"] for cell in table_3["cells"]}
    return (
        *(_reading(found, accuracies, _paper_accuracies()) for found in table_2["comparisons"]),
        *(_reading(found, maps, _paper_maps()) for found in table_3["comparisons"]),
        *(_reading(found, accuracies, {}, at_levels=True) for found in results["variant_claims"]),
    )


def _reading(
    found: Mapping[str, Any], ours: Mapping[Key, float], paper: Mapping[Key, float], *, at_levels: bool = False
) -> Reading:
    mean = found["mean"]
    levels = dict.fromkeys(pair["better"][1] for pair in found["pairs"])
    title = TITLES[found["claim"]] + f", at {' and '.join(levels)} level" * at_levels
    comparisons = tuple(_comparison(pair, ours, paper) for pair in found["pairs"])
    verdict = Verdict(mean["verdict"])
    return Reading(title, mean["difference"], tuple(mean["interval"]), verdict, comparisons)


def _comparison(pair: Mapping[str, Any], ours: Mapping[Key, float], paper: Mapping[Key, float]) -> Comparison:
    better, worse = tuple(pair["better"]), tuple(pair["worse"])
    return Comparison(
        _name(better, worse),
        ours[better],
        ours[worse],
        pair["difference"],
        tuple(pair["interval"]),
        pair["p"],
        Verdict(pair["verdict"]),
        paper[better] - paper[worse] if paper else None,
    )


def _name(better: Key, worse: Key) -> str:
    """Name what two cells share, then the two: "spatial, R_d: late fusion against detail"."""
    shared = ", ".join(name for name in better if name in worse)
    pairs = [(a, b) for a, b in zip(better, worse, strict=True) if a != b]
    one, other = (", ".join(name for name in side if name is not None) for side in zip(*pairs, strict=True))
    return f"{shared}: {one} against {other}"


def _paper_accuracies() -> dict[Key, float]:
    return {
        (*key, variant): accuracy.percent
        for key, cell in paper.TABLE_2.items()
        for variant, accuracy in {"STN": cell.stn, "SSTN": cell.sstn}.items()
    }


def _paper_maps() -> dict[Key, float]:
    return {
        (*key, variant): value
        for key, cell in paper.TABLE_3.items()
        for variant, value in {"R_d": cell.r_d, "R_h": cell.r_h}.items()
    }
