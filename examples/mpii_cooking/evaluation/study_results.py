"""A study's results: what the same arms answer under several conditions, and what SSTN gains over each other arm.

Stored are the answers of every seed; shares, gains and verdicts are derived.
"""

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.evaluation import schema, significance, stored
from examples.mpii_cooking.evaluation.significance import Estimate
from examples.mpii_cooking.storage import write_json
from examples.mpii_cooking.typed_json import STRICT, encode
from examples.mpii_cooking.variants import Phase, Variant

SCHEMA = 1  # raised when the file changes
FILE = "study.json"

Kind = Literal["distance", "clips"]


@dataclass(frozen=True, eq=False)
class Condition:
    """One setting of what a study varies, and what every arm of every seed answers there."""

    name: str
    distance: tuple[float, float]  # of its kitchen's ``KitchenSize``
    train_clips: int
    epochs: Mapping[Phase, int]
    shown: tuple[float, ...]  # 0 to 1, for each test clip: the part of the thing that the motion window shows
    labels: schema.Classes  # true class of each test clip
    answers: tuple[schema.FrameAnswers, ...]


@dataclass(frozen=True, eq=False)
class StudyResults:
    """What a study found."""

    __pydantic_config__ = STRICT

    kind: Kind
    settings: Preset  # as given; the conditions say what differs
    command: str
    classes: tuple[str, ...]
    cues: Mapping[str, tuple[int, ...]]  # the value of each class, by the cue's name
    environment: schema.Environment
    timings: tuple[schema.StageTime, ...]
    conditions: tuple[Condition, ...]

    @classmethod
    def load(cls, path: Path) -> "StudyResults":
        """Read what ``save`` has written; ``ResultsError`` if the file is missing, damaged or of another version."""
        results = stored.load(path, cls, SCHEMA)
        for condition in results.conditions:
            parts: dict[str, Sized] = {
                f"answers of seed {row.seed}, {row.cell},": row.answers for row in condition.answers
            }
            for name, values in (parts | {"shown": condition.shown}).items():
                if len(values) != len(condition.labels):
                    expected = f"must be for {len(condition.labels)} test clips, got {len(values)}"
                    raise stored.ResultsError(f"{path}: {name} in condition {condition.name} {expected}; {stored.CURE}")
        return results

    def save(self, path: Path) -> None:
        """Write the results."""
        write_json(path, encode(self), SCHEMA)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds with which every arm was trained under every condition."""
        return tuple(sorted({row.seed for condition in self.conditions for row in condition.answers}))

    @property
    def arms(self) -> tuple[Variant, ...]:
        """What was trained, in the order of ``Variant``."""
        trained = {row.cell.variant for condition in self.conditions for row in condition.answers}
        return tuple(variant for variant in Variant if variant in trained)

    @property
    def rivals(self) -> tuple[Variant, ...]:
        """What SSTN is compared with."""
        return tuple(arm for arm in self.arms if arm is not Variant.SSTN)

    def place(self, condition: Condition) -> float:
        """Return what the study varies: the percentage of the thing that is shown, or the number of training clips."""
        return 100 * float(np.mean(condition.shown)) if self.kind == "distance" else condition.train_clips

    def share(self, condition: Condition, arm: Variant, cue: str | None) -> Estimate:
        """Return the percentage of test clips whose class is right, or whose cue is."""
        return significance.proportion(self._right(condition, arm, cue))

    def gain(self, condition: Condition, rival: Variant, cue: str | None) -> Estimate:
        """Return by how many points SSTN is right more often, seed by seed and clip by clip."""
        better, worse = (self._right(condition, arm, cue) for arm in (Variant.SSTN, rival))
        return significance.paired(better, worse, significance.draw(len(condition.labels)))

    def _right(self, condition: Condition, arm: Variant, cue: str | None) -> NDArray[np.bool_]:
        """Return which clips each seed gets right, (seeds, clips)."""
        rows = {row.seed: row.answers for row in condition.answers if row.cell.variant is arm}
        value = np.arange(len(self.classes)) if cue is None else np.array(self.cues[cue])
        right: NDArray[np.bool_] = value[np.stack([rows[seed] for seed in self.seeds])] == value[condition.labels]
        return right
