"""What counts as a right answer, and in which test clips."""

import math
from dataclasses import dataclass
from typing import NamedTuple

THING, MOVEMENT, PLACE = "thing", "movement", "place"
"""Cues: what tells the classes of made data apart."""


class Share(NamedTuple):
    """How much of the thing the hard-coded window at detail level shows; ``low`` is included, ``high`` is not."""

    name: str
    low: float
    high: float


SHARES = (
    Share("less than a third", 0, 1 / 3),
    Share("a third to two thirds", 1 / 3, 2 / 3),
    Share("two thirds or more", 2 / 3, math.inf),
)
"""They divide the test clips by how far the action is from the largest motion: from far to near."""
LESS_THAN_HALF, HALF_OR_MORE = Share("less than half", 0, 1 / 2), Share("half or more", 1 / 2, math.inf)


@dataclass(frozen=True)
class Measure:
    """The share of right answers; but for clips of Table 3 the plain ``Measure()`` is mean average precision."""

    cue: str | None = None  # what must be right: this cue, or with None the class
    share: Share | None = None  # the test clips that count; None: all


PAPER = Measure()
"""The paper's: top-1 accuracy in Table 2, mean average precision in Table 3."""
