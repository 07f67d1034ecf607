"""Collect what was computed for every seed of a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from examples.mpii_cooking.evaluation import schema
from examples.mpii_cooking.evaluation.cells import FrameCell, PooledCell
from examples.mpii_cooking.evaluation.estimates import mean_of_known
from examples.mpii_cooking.evaluation.predictions import answered_runs, guidance_runs, load_answers, load_overlaps
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.scores import labels, load_scores
from examples.mpii_cooking.evaluation.visibility import load_shown
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.weights import origins


def collect(
    experiments: Sequence[Experiment],
    dataset: schema.DatasetFacts,
    environment: schema.Environment,
    command: str,
    folder: Path,
) -> Results:
    """Return the results of finished experiments, without timings and files; write the probe frames to ``folder``."""
    first = experiments[0]
    return Results(
        settings=first.preset,
        command=command,
        weights=origins(first.preset, first.weights),
        dataset=dataset,
        environment=environment,
        labels=labels(first.dataset.test),
        frame_answers=tuple(row for each in experiments for row in frame_answers(each)),
        overlaps=tuple(row for each in experiments for row in _overlaps(each)),
        shown=load_shown(first),
        curves=tuple(row for each in experiments for row in _curves(each)),
        probe_frames=tuple(_probe_frames(first, folder)),
        window_paths=tuple(row for each in experiments for row in _window_paths(each)),
        scores={
            (each.seed, PooledCell(pooling, cell)): scores
            for each in experiments
            for pooling in each.preset.evaluation.poolings
            for cell, scores in load_scores(each, pooling).items()
        },
    )


def frame_answers(experiment: Experiment) -> Iterator[schema.FrameAnswers]:
    """Yield what every run that classifies RGB predicts."""
    for run in answered_runs(experiment):
        cell = FrameCell(run.tested_variant, run.level.name, run.localizer)
        yield schema.FrameAnswers(experiment.seed, cell, np.array(load_answers(experiment, run)))


def _overlaps(experiment: Experiment) -> Iterator[schema.Overlap]:
    for run in guidance_runs(experiment):
        guided, center = load_overlaps(experiment, run)
        yield schema.Overlap(experiment.seed, run.modality, run.level.name, guided, mean_of_known(center))


def _curves(experiment: Experiment) -> Iterator[schema.Curve]:
    for run in experiment.runs:
        history = experiment.history(run)
        names = (run.name, run.phase, run.modality, run.level.name, run.localizer, run.variant)
        yield schema.Curve(experiment.seed, *names, history.loss, history.measure, history.seconds)


def _probe_frames(experiment: Experiment, folder: Path) -> Iterator[schema.ProbeFrames]:
    """Yield the frames in which windows were followed, and write them as the crops that the networks read."""
    clips = experiment.followed_clips
    for level in experiment.preset.data.levels:
        sample = experiment.followed_frames(level)
        frames, images = sample.frame.tolist(), [f"frames/{level.name}-{index}.png" for index in range(len(clips))]
        for clip, frame, image in zip(clips, frames, images, strict=True):
            picture = experiment.caches[experiment.dataset.test[clip].video].rgb(level, frame)
            left = (picture.shape[1] - level.height) // 2
            crop = cv2.cvtColor(picture[:, left : left + level.height], cv2.COLOR_RGB2BGR)
            with written_aside(folder / image) as aside:
                aside.write_bytes(cv2.imencode(".png", crop)[1].tobytes())  # cv2.imwrite says nothing of a full disk
        target = sample.theta.double().numpy()
        yield schema.ProbeFrames(level.name, tuple(images), tuple(clips), tuple(frames), target)


def _window_paths(experiment: Experiment) -> Iterator[schema.WindowPath]:
    for run in experiment.runs:
        windows = experiment.history(run).windows
        if run.variant is not None and windows:
            yield schema.WindowPath(experiment.seed, run.level.name, run.variant, np.array(windows))
