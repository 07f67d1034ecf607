"""Made-up results of a study, with answers drawn at random."""

from dataclasses import replace

import numpy as np

from examples.mpii_cooking.evaluation.cells import FrameCell
from examples.mpii_cooking.evaluation.schema import FrameAnswers
from examples.mpii_cooking.evaluation.study_results import Condition, StudyResults
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.variants import Phase, Variant
from tests.helpers.made_up import made_up_results

CLASSES = tuple("abcdefgh")
CUES = {"thing": (0, 0, 1, 1, 2, 3, 4, 5), "place": (0, 0, 2, 1, 1, 1, 0, 2)}
TEST_CLIPS = 80
SHOWN, TRAIN_CLIPS = (0.9, 0.5, 0.1), (40, 80, 160)
# How often each arm is right: in the first condition all are, but for STN; in the last, SSTN alone.
RIGHT = {
    Variant.HARD_CODED: (0.9, 0.6, 0.3),
    Variant.STN: (0.2, 0.2, 0.2),
    Variant.FROZEN: (0.9, 0.9, 0.4),
    Variant.SSTN: (0.9, 0.9, 0.9),
}


def made_up_study(kind="distance", seeds=4, right=RIGHT, **changes):
    generator = np.random.default_rng(0)
    labels = np.arange(TEST_CLIPS) % len(CLASSES)

    def answers(part):
        is_right = generator.random(TEST_CLIPS) < part
        return np.where(is_right, labels, generator.integers(0, len(CLASSES), TEST_CLIPS))

    def condition(index):
        is_distance = kind == "distance"
        low = 10.0 + 4 * index * is_distance
        return Condition(
            name=f"condition {index}",
            distance=(low, low + 2),
            train_clips=TRAIN_CLIPS[-1 if is_distance else index],
            epochs=dict.fromkeys(Phase, 3),
            shown=(SHOWN[index if is_distance else 1],) * TEST_CLIPS,
            labels=labels,
            answers=tuple(
                FrameAnswers(seed, FrameCell(arm, "detail", None), answers(parts[index]))
                for seed in range(seeds)
                for arm, parts in right.items()
            ),
        )

    whole = made_up_results()
    study = StudyResults(
        kind=kind,
        settings=PRESETS["standard"],
        command=f"python examples/mpii_cooking/run_all.py --study {kind}",
        classes=CLASSES,
        cues=CUES,
        environment=whole.environment,
        timings=whole.timings,
        conditions=tuple(map(condition, range(len(SHOWN)))),
    )
    return replace(study, **changes)
