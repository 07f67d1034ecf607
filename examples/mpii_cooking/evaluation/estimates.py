"""Numbers over several seeds, with their intervals: overlaps in 0 to 1, all others in percent or percentage points."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from examples.mpii_cooking.evaluation.significance import Estimate, Interval, Labels


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy; its interval over clips is Wilson's."""

    mean: Estimate
    by_seed: tuple[float, ...]
    correct: tuple[int, ...]  # clips that each seed got right
    answers: Labels  # (seeds, clips)

    @property
    def constant(self) -> int:
        """Seeds for which every clip got the same answer."""
        return sum(len(set(answers.tolist())) == 1 for answers in self.answers)


@dataclass(frozen=True)
class Precision:
    """Mean average precision over the classes that have test clips; its interval over clips is the bootstrap's."""

    mean: Estimate
    by_seed: tuple[float, ...]
    per_class: tuple[float | None, ...]  # mean over the seeds; None where no test clip has the class
    trained: float | None  # the mean over only those classes that also have training clips; None if there are none
    answers: Labels  # (seeds, clips): classes with the highest decision values


@dataclass(frozen=True)
class Difference:
    """What each seed found for the two cells of a pair, and how much better the first is, in points."""

    better: tuple[float, ...]
    worse: tuple[float, ...]
    mean: Estimate


@dataclass(frozen=True)
class Comparison:
    """Differences of pairs, from the seeds that have all of the cells."""

    seeds: tuple[int, ...]
    mean: Estimate  # over all pairs
    pairs: tuple[Difference, ...]

    @property
    def means(self) -> tuple[float, float]:
        """The means over pairs and seeds of the first cells and of the second ones."""
        sides = [pair.better for pair in self.pairs], [pair.worse for pair in self.pairs]
        return float(np.mean(sides[0])), float(np.mean(sides[1]))


@dataclass(frozen=True)
class MeanOverlap:
    """Overlap of guided windows with those of most motion: mean over clips, then over seeds where something moved."""

    mean: float | None  # IoU; None if nothing moved
    center: float | None  # IoU of the center window instead
    above_half: float | None  # fraction of clips whose IoU is above one half
    interval: Interval | None  # 95 % interval of the mean over the choice of seeds
    by_seed: tuple[float | None, ...]
    guided: tuple[tuple[float, ...], ...]  # IoU per clip of each seed, where something moved
    moved: int  # clips in which something moved, in the first seed's frames
    total: int  # test clips


def known(values: Iterable[float | None]) -> list[float]:
    """Return the values that are not None."""
    return [value for value in values if value is not None]


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    found = known(values)
    return float(np.mean(found)) if found else None
