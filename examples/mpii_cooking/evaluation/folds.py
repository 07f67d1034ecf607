"""Pools the results of folds: each test clip was tested by the networks of the fold that left it out."""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np

from examples.mpii_cooking.evaluation.estimates import known
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import FrameAnswers, Overlap, StageTime

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")


def pool(folds: Mapping[str, Results]) -> Results:
    """Return one result of several, by the names of their folders; its own folder is to lie next to them.

    Test clips follow each other fold by fold, and those of a fold are a group, since they share their networks.
    Decision values of different folds are compared as they are. Curves, frames and windows are those of one fold: the
    first of those that test the most classes.
    """
    results = list(folds.values())
    first = results[0]
    shown = max(folds, key=lambda name: len(folds[name].tested))
    starts = dict(zip(folds, accumulate((len(each.labels) for each in results), initial=0), strict=False))
    probes = [
        replace(
            probe,
            images=tuple(f"../{shown}/{image}" for image in probe.images),
            clips=tuple(starts[shown] + clip for clip in probe.clips),
        )
        for probe in folds[shown].probe_frames
    ]
    trained = zip(*(each.dataset.train_clips for each in results), strict=True)
    answers = _gathered(((row.seed, row.cell), row) for each in results for row in each.frame_answers)
    overlaps = _gathered(((row.seed, row.modality, row.level), row) for each in results for row in each.overlaps)
    seconds = _gathered((row.stage, row.seconds) for each in results for row in each.timings)
    scores = _gathered((key, values) for each in results for key, values in each.scores.items())
    return replace(
        first,
        dataset=replace(
            first.dataset,
            protocol=f"{len(folds)} folds, each tested on what it left out; the first: {first.dataset.protocol}",
            train_clips=tuple(math.ceil(sum(counts) / len(folds)) for counts in trained),
            groups=tuple(name for name, each in folds.items() for _ in each.labels),
        ),
        labels=np.concatenate([each.labels for each in results]),
        frame_answers=tuple(
            FrameAnswers(*key, np.concatenate([row.answers for row in rows])) for key, rows in answers.items()
        ),
        shown=tuple(share for each in results for share in each.shown),
        overlaps=tuple(
            Overlap(*key, tuple(iou for row in rows for iou in row.guided), _mean_center(rows))
            for key, rows in overlaps.items()
        ),
        curves=folds[shown].curves,
        probe_frames=tuple(probes),
        window_paths=folds[shown].window_paths,
        timings=tuple(StageTime(stage, sum(parts)) for stage, parts in seconds.items()),
        files={"folds": ", ".join(f"../{name}" for name in folds)},
        scores={key: np.concatenate(parts) for key, parts in scores.items()},
    )


def _gathered(rows: Iterable[tuple[Key, Row]]) -> dict[Key, list[Row]]:
    """Return the rows of all folds by what they are about."""
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for key, row in rows:
        found[key].append(row)
    return found


def _mean_center(rows: Iterable[Overlap]) -> float | None:
    """Return the mean over the clips in which something moved, of which each fold has the mean."""
    means = [(row.center, len(known(row.guided))) for row in rows if row.center is not None]
    return sum(mean * clips for mean, clips in means) / sum(clips for _, clips in means) if means else None
