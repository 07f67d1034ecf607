"""How much of a number could be chance: intervals over test clips and over seeds, paired tests, and verdicts.

Other seeds would give other networks, and other clips other answers. Each has its own interval, and a claim has to hold
against both (Dietterich, Neural Computation 10(7), 1998, separates the sources; Bouthillier et al., MLSys 2021,
https://arxiv.org/abs/2103.03098, measures them). Clips of one group, such as one recording, may be right or wrong
together, so where groups are known, whole groups are drawn. Nothing is corrected for the number of comparisons.
"""

from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

SIGNIFICANCE = 0.05
RESAMPLES = 1000  # of the test clips behind an interval: 25 lie beyond each end

Floats = NDArray[np.floating]
Labels = NDArray[np.int64]
Interval = tuple[float, float]


class Verdict(StrEnum):
    """What follows for a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    INCONCLUSIVE = "inconclusive"


class Estimate(NamedTuple):
    """A mean over seeds of a value or of a paired difference, and how much of it could be chance."""

    value: float
    clips: Interval  # 95 % over the choice of test clips, for these networks
    seeds: Interval | None  # 95 % over the choice of seeds, for these clips; None for one seed
    p: float | None = None  # two-sided, of the exact test over clips; only for differences of top-1 accuracies

    @property
    def interval(self) -> Interval:
        """The interval that covers both."""
        lows, highs = zip(*(known for known in (self.clips, self.seeds) if known), strict=True)
        return min(lows), max(highs)

    @property
    def verdict(self) -> Verdict:
        """Whether a difference is above or below zero beyond chance: by every interval, and by the test if any."""
        low, high = self.interval
        if low <= 0 <= high or (self.p is not None and self.p >= SIGNIFICANCE):
            return Verdict.INCONCLUSIVE
        return Verdict.HOLDS if low > 0 else Verdict.FAILS

    def within(self, lowest: float, highest: float = 100.0) -> "Estimate":
        """Return the estimate with intervals that end at the lowest and highest possible value."""

        def cut(interval: Interval) -> Interval:
            return max(interval[0], lowest), min(interval[1], highest)

        return self._replace(clips=cut(self.clips), seeds=self.seeds and cut(self.seeds))


def wilson(correct: float, total: int) -> Interval:
    """Return the 95 % interval of ``correct / total``, in percent (Wilson, JASA 22, 1927).

    ``correct`` may be the mean of several seeds' counts on the same clips. Then the interval is a little wide: clips
    that some seeds get right vary less than those that all or none do.
    """
    z = stats.norm.ppf(1 - SIGNIFICANCE / 2)
    fraction = correct / total
    center = fraction + z**2 / (2 * total)
    reach = z * np.sqrt(fraction * (1 - fraction) / total + z**2 / (4 * total**2))
    low, high = ((center + side) / (1 + z**2 / total) for side in (-reach, reach))
    return 100 * float(max(low, 0)), 100 * float(min(high, 1))


def proportion(hits: NDArray[np.bool_]) -> Estimate:
    """Return the mean over seeds of how many clips are right, in percent, from ``(seeds, clips)`` hits."""
    by_seed = 100 * hits.mean(1)
    clips = wilson(float(hits.sum(1).mean()), hits.shape[1])
    return Estimate(float(by_seed.mean()), clips, seed_interval(by_seed)).within(0)


def mcnemar(better: NDArray[np.bool_], worse: NDArray[np.bool_], groups: Labels | None = None) -> float:
    """Return the exact two-sided p-value of two classifiers' hits on the same clips (McNemar, Psychometrika 12, 1947).

    If the classifiers are equally good, the sign of each clip's difference is random. With several pairs of
    classifiers, ``(..., clips)`` hits each, a clip's differences are added up and share one sign, because they are not
    independent. So do the clips of a group, whose numbers are ``groups``.
    """
    sums = (better.astype(np.int64) - worse).reshape(-1, better.shape[-1]).sum(0)
    if groups is not None:
        sums = np.bincount(groups, weights=sums).astype(np.int64)
    sizes, counts = np.unique(np.abs(sums), return_counts=True)
    lattice = np.arange(2 * int(sizes @ counts) + 1)
    # The sum's distribution from its characteristic function: a clip of difference s has cos(s angle).
    angles = 2 * np.pi * lattice / len(lattice)
    distribution = np.fft.fft(np.prod(np.cos(angles[:, None] * sizes) ** counts, axis=1)).real / len(lattice)
    reach = np.minimum(lattice, len(lattice) - lattice)
    return float(np.clip(distribution[reach >= abs(sums.sum())].sum(), 0, 1))


def seed_interval(values: Sequence[float] | Floats) -> Interval | None:
    """Return the 95 % Student-t interval of the mean of ``values``, one for each seed; None for a single one."""
    if len(values) < 2:
        return None
    reach = stats.t.ppf(1 - SIGNIFICANCE / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - reach), float(np.mean(values) + reach)


@cache
def draw(clips: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Return how often each clip is in each resample, ``(clips, resamples)``; float32 is exact for such counts."""
    equal = np.full(clips, 1 / clips)
    return np.random.default_rng(seed).multinomial(clips, equal, size=resamples).T.astype(np.float32)


def draw_groups(groups: Labels) -> Floats:
    """Return the same for resamples of groups, whose numbers ``groups`` gives for each clip; all are used."""
    return draw(int(groups.max()) + 1)[groups]


def bootstrap_map(scores: Floats, truth: Labels, draws: Floats) -> Floats:
    """Return the mean average precision, between 0 and 1, of resampled test clips, ``(resamples,)``.

    Average precision is the mean over a class's clips of the precision among all that score at least as high, so that
    equal scores are one step, as in scikit-learn. A class that is not in a resample is left out of its mean.
    """
    precisions = [_resampled_precision(scores[:, label], truth == label, draws) for label in np.unique(truth)]
    maps: Floats = np.nanmean(precisions, axis=0)
    return maps


def _resampled_precision(scores: Floats, truth: NDArray[np.bool_], draws: Floats) -> Floats:
    """Return one class's average precision in every resample, NaN where the class is not in it."""
    as_high = (scores >= scores[truth, None]).astype(np.float32)  # (class's clips, clips)
    own = draws[truth]
    precision = (as_high[:, truth] @ own).astype(np.float64) / np.maximum(as_high @ draws, 1)
    total = own.sum(0)
    return np.where(total > 0, (own * precision).sum(0) / np.maximum(total, 1), np.nan)


def bootstrap_interval(value: float, resampled: Floats, groups: int | None = None) -> Interval:
    """Return the 95 % interval of a statistic over the choice of test clips.

    It is that of the percentile bootstrap (Efron, Tibshirani, An Introduction to the Bootstrap, 1993), moved so that
    the mean over resamples falls on the value: a clip that was drawn twice counts twice among those that score as high
    as itself, which lifts the average precision of rare classes in every resample. A few groups vary less in resamples
    than they should: the interval is wider by what Student's t is wider than the bootstrap of a mean (Hesterberg, The
    American Statistician 69(4), 2015).
    """
    tail = 50 * SIGNIFICANCE
    low, high = np.percentile(resampled - resampled.mean(), [tail, 100 - tail])
    wider = 1.0
    if groups is not None:
        wider = stats.t.ppf(1 - SIGNIFICANCE / 2, groups - 1) / stats.norm.ppf(1 - SIGNIFICANCE / 2)
        wider *= np.sqrt(groups / (groups - 1))
    return value + wider * float(low), value + wider * float(high)


def paired(
    better: NDArray[np.bool_], worse: NDArray[np.bool_], draws: Floats, groups: Labels | None = None
) -> Estimate:
    """Return the difference of two variants' top-1 accuracies in points, seed by seed and clip by clip.

    Over clips: bootstrap of the differences averaged over seeds, and McNemar's test (``mcnemar``). Over seeds:
    Student's t on each seed's difference; the two variants of a seed saw the same samples in the same order. Hits are
    ``(..., seeds, clips)``, draws ``(clips, resamples)``; leading axes, such as networks, are averaged.
    """
    differences = 100 * (better.astype(np.float64) - worse).reshape(-1, *better.shape[-2:]).mean(0)
    by_seed = differences.mean(1)
    value = float(np.mean(by_seed))
    count = None if groups is None else int(groups.max()) + 1
    clips = bootstrap_interval(value, differences.mean(0) @ draws / draws.sum(0), count)
    return Estimate(value, clips, seed_interval(by_seed), mcnemar(better, worse, groups)).within(-100)
