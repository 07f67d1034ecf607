"""Numbers that several seeds found, with their intervals: in percent or percentage points, but for overlaps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from examples.mpii_cooking.evaluation.significance import Estimate, Interval, Labels


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy in percent, from some seeds.

    Attributes:
        mean: over the seeds, with its intervals; Wilson's over clips.
        correct: clips that each seed got right.
        answers: ``(seeds, clips)`` classes.
    """

    mean: Estimate
    correct: tuple[int, ...]
    answers: Labels

    @property
    def total(self) -> int:
        """Clips that were tested."""
        return len(self.answers[0])

    @property
    def by_seed(self) -> tuple[float, ...]:
        """Each seed's accuracy."""
        return tuple(100 * correct / self.total for correct in self.correct)

    @property
    def constant(self) -> int:
        """Seeds for which every clip got the same answer."""
        return sum(len(np.unique(answers)) == 1 for answers in self.answers)


@dataclass(frozen=True)
class Precision:
    """Mean average precision over the classes that have test clips, in percent, from some seeds.

    Attributes:
        mean: over the seeds, with its intervals; the bootstrap's over clips.
        by_seed: each seed's.
        per_class: average precision of each class, mean over the seeds; None where no test clip has the class.
        trained: the mean over only those classes that also have training clips; None if there are none.
        answers: ``(seeds, clips)`` classes with the highest decision values.
    """

    mean: Estimate
    by_seed: tuple[float, ...]
    per_class: tuple[float | None, ...]
    trained: float | None
    answers: Labels


@dataclass(frozen=True)
class Difference:
    """What two cells of a pair found, and how much better the first is.

    Attributes:
        better: each seed's value of the first cell, in percent.
        worse: each seed's value of the second.
        mean: of the differences over the seeds, in points.
    """

    better: tuple[float, ...]
    worse: tuple[float, ...]
    mean: Estimate


@dataclass(frozen=True)
class Comparison:
    """Paired differences, first cell minus second.

    Attributes:
        seeds: that have all of the cells.
        mean: of the differences of all pairs, in points.
        pairs: each pair by itself.
    """

    seeds: tuple[int, ...]
    mean: Estimate
    pairs: tuple[Difference, ...]


@dataclass(frozen=True)
class MeanOverlap:
    """Overlap of guided windows with those of most motion: mean over clips, then over seeds in which something moved.

    Attributes:
        mean: IoU of the guided window; None if nothing moved.
        center: IoU of the center window instead.
        above_half: fraction of clips whose IoU is above one half.
        interval: 95 % interval of ``mean`` over the choice of seeds.
        by_seed: each seed's mean.
        guided: IoU per clip of each seed, where something moved.
        moved: clips in which something moved, in the first seed's frames.
        total: test clips.
    """

    mean: float | None
    center: float | None
    above_half: float | None
    interval: Interval | None
    by_seed: tuple[float | None, ...]
    guided: tuple[tuple[float, ...], ...]
    moved: int
    total: int


def known(values: Iterable[float | None]) -> list[float]:
    """Return the values that there are."""
    return [value for value in values if value is not None]


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that there are, None if there are none."""
    found = known(values)
    return float(np.mean(found)) if found else None
