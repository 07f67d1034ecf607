"""Whether a run bears out what the paper claims: paired tests on the run's own numbers, and a verdict in words.

Every test here asks whether a paired difference could be chance in *which clips (or classes) were tested*. One run has
one seed, so none of them says how far another seed would land.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import stats

from examples.mpii_cooking import claims

SIGNIFICANCE = 0.05
ARMS = ("R_d", "R_h")


class Verdict(StrEnum):
    """What may be said about a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be told"


@dataclass(frozen=True)
class Comparison:
    """One pair of numbers that a claim orders, in percent.

    Attributes:
        name: which pair.
        better: this run's value of the side that the paper claims to be higher.
        worse: this run's value of the other side.
        p: two-sided p-value of the paired difference.
        paper: the paper's own difference, better minus worse, in points.
    """

    name: str
    better: float
    worse: float
    p: float
    paper: float

    @property
    def difference(self) -> float:
        """This run's difference, in points."""
        return self.better - self.worse

    @property
    def verdict(self) -> Verdict:
        """The verdict on this pair alone."""
        return judge(self.difference, self.p)


@dataclass(frozen=True)
class Reading:
    """A claim, what this run says about it on average over its comparisons, and the comparisons."""

    claim: str
    unit: str
    units: int
    mean: float
    p: float
    comparisons: tuple[Comparison, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the mean difference."""
        return judge(self.mean, self.p)

    @property
    def sentence(self) -> str:
        """The verdict's reasons in plain words."""
        n = len(self.comparisons)
        higher = sum(c.difference > 0 for c in self.comparisons)
        shown = sum(c.verdict is Verdict.HOLDS for c in self.comparisons)
        reversed_ = sum(c.verdict is Verdict.FAILS for c in self.comparisons)
        paper = sum(c.paper > 0 for c in self.comparisons)
        text = (
            f"Higher in {higher} of {n} comparisons, by {self.mean:+.1f} points on average (p {format_p(self.p)}, "
            f"{self.units} {self.unit}). Beyond chance one by one: {shown} for the claim, {reversed_} against it. "
            f"In the paper's own tables: higher in {paper} of {n}."
        )
        if smallest_p(self.units) >= SIGNIFICANCE:
            text += f" With {self.units} {self.unit} no difference, however large, could be told from chance."
        return text


def format_p(p: float) -> str:
    """Write a p-value with its relation and two significant digits, never as zero: "= 0.016", "< 0.001"."""
    return "< 0.001" if p < 1e-3 else f"= {p:.2g}"


def judge(difference: float, p: float) -> Verdict:
    """Turn a difference and its p-value into a verdict."""
    if p >= SIGNIFICANCE or difference == 0:
        return Verdict.OPEN
    return Verdict.HOLDS if difference > 0 else Verdict.FAILS


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of ``correct / total``, in percent."""
    interval = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def mcnemar(hits: np.ndarray, others: np.ndarray) -> float:
    """Return the exact two-sided McNemar p-value of two classifiers' hits on the same clips."""
    wins, losses = int((hits & ~others).sum()), int((others & ~hits).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def sign_flip(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a mean paired difference under random signs, exact for up to 13 units."""
    if not differences.any():
        return 1.0
    test = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=9999, batch=1000, rng=0
    )
    return float(test.pvalue)


def smallest_p(units: int) -> float:
    """Return the smallest p-value that ``sign_flip`` can give for so many units."""
    return 2.0 ** (1 - units)


def read(results: Mapping[str, Any]) -> tuple[Reading, ...]:
    """Read the paper's four claims off ``results.json``."""
    return (
        _guidance(results["table2"]),
        _learned_region(results["table3"]),
        _fusion(results["table3"]),
        _two_streams(results["table3"]),
    )


def _guidance(table: Mapping[str, Any]) -> Reading:
    labels = np.asarray(table["labels"])
    hits = {
        (cell["localiser"], cell["level"], cell["arm"]): np.asarray(cell["predictions"]) == labels
        for cell in table["cells"]
    }
    comparisons, differences = [], []
    for (localiser, level), paper in claims.TABLE_2.items():
        sstn, stn = hits[localiser, level, "SSTN"], hits[localiser, level, "STN"]
        name = f"{localiser.upper()}, {level}"
        gain = paper.sstn.percent - paper.stn.percent
        comparisons.append(Comparison(name, 100 * sstn.mean(), 100 * stn.mean(), mcnemar(sstn, stn), gain))
        differences.append(sstn.astype(float) - stn)
    return _reading("A guided transformer (SSTN) beats a plain one (STN)", "test clips", comparisons, differences)


def _learned_region(table: Mapping[str, Any]) -> Reading:
    pairs = [
        (f"{row}, {stream}", (row, stream, "R_d"), (row, stream, "R_h"))
        for row in (*claims.LEVELS, claims.FUSION)
        for stream in claims.STREAMS
    ]
    return _compare_maps("The learned region (R_d) beats the hard-coded motion window (R_h)", table, pairs)


def _fusion(table: Mapping[str, Any]) -> Reading:
    maps = _maps(table)
    pairs = []
    for stream in claims.STREAMS:
        for arm in ARMS:
            best = max(claims.LEVELS, key=lambda level, stream=stream, arm=arm: maps[level, stream, arm])
            name = f"{stream}, {arm}: late fusion against {best}"
            pairs.append((name, (claims.FUSION, stream, arm), (best, stream, arm)))
    return _compare_maps("Late fusion beats the best single level", table, pairs)


def _two_streams(table: Mapping[str, Any]) -> Reading:
    pairs = [
        (f"{row}, {arm}: S+T against {alone}", (row, "S+T", arm), (row, alone, arm))
        for row in (*claims.LEVELS, claims.FUSION)
        for arm in ARMS
        for alone in ("spatial", "temporal")
    ]
    return _compare_maps("Both streams together (S+T) beat each alone", table, pairs)


Key = tuple[str, str, str]


def _maps(table: Mapping[str, Any]) -> dict[Key, float]:
    return {(cell["row"], cell["stream"], cell["arm"]): cell["map"] for cell in table["cells"]}


def _compare_maps(claim: str, table: Mapping[str, Any], pairs: Iterable[tuple[str, Key, Key]]) -> Reading:
    maps, present = _maps(table), table["classes_present"]
    precision = {
        (cell["row"], cell["stream"], cell["arm"]): np.array([cell["ap"][label] for label in present], dtype=float)
        for cell in table["cells"]
    }
    comparisons, differences = [], []
    for name, better, worse in pairs:
        difference = precision[better] - precision[worse]
        gain = _paper_map(better) - _paper_map(worse)
        comparisons.append(Comparison(name, maps[better], maps[worse], sign_flip(difference), gain))
        differences.append(difference / 100)
    return _reading(claim, "classes", comparisons, differences)


def _paper_map(key: Key) -> float:
    row, stream, arm = key
    cell = claims.TABLE_3[row, stream]
    return cell.r_d if arm == "R_d" else cell.r_h


def _reading(claim: str, unit: str, comparisons: Sequence[Comparison], differences: Sequence[np.ndarray]) -> Reading:
    mean = np.mean(differences, axis=0)
    return Reading(claim, unit, len(mean), 100 * float(mean.mean()), sign_flip(mean), tuple(comparisons))
