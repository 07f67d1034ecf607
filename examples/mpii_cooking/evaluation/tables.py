"""Table 2, Table 3, more variants, the training curves and the windows' paths and distortion, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.evaluation import svm
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, POOLING_CELL, ClipCell
from examples.mpii_cooking.evaluation.predictions import answered_runs, load_answers, load_overlaps, overlap_streams
from examples.mpii_cooking.evaluation.scores import labels
from examples.mpii_cooking.evaluation.svm import Floats, Labels
from examples.mpii_cooking.training.checkpoints import History
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.runs import Run, extra_runs
from examples.mpii_cooking.variants import Phase
from examples.mpii_cooking.workspace import written_aside
from supervised_st import geometry

Scores = NDArray[np.float32]
Cell = tuple[str, str, str]
"""(row, stream, region) of Table 3."""
CELLS: tuple[Cell, ...] = tuple((cell.row, cell.stream, cell.region.value) for cell in CLIP_CELLS)
POOLED: Cell = (POOLING_CELL.row, POOLING_CELL.stream, POOLING_CELL.region.value)


def table_2(experiment: Experiment) -> dict[str, Any]:
    """Return top-1 accuracy on one random frame per test clip, for every localization network, level and variant."""
    train, test = labels(experiment.dataset.train), labels(experiment.dataset.test)
    majority = int(np.bincount(train).argmax())
    extra = {*extra_runs(experiment.preset)}
    of_paper = [run for run in answered_runs(experiment) if run not in extra]
    rank = {Phase.JOINT: 0, Phase.BASELINE: 1, Phase.RECOGNITION: 2}
    localizers = (*experiment.preset.scope.localizers, None)
    order = sorted(
        of_paper,
        key=lambda run: (
            experiment.preset.data.levels.index(run.level),
            rank[run.phase],
            localizers.index(run.localizer),
            run.tested_variant.key != "STN",
        ),
    )
    return {
        "clips": len(test),
        "labels": test.tolist(),
        "majority": {"class": majority, "correct": int((test == majority).sum())},
        "cells": [_answered(experiment, run) for run in order],
    }


def variants(experiment: Experiment) -> list[dict[str, Any]]:
    """Return cells as those of Table 2, on the same frames, for the variants that the paper does not have."""
    return [_answered(experiment, run) for run in extra_runs(experiment.preset)]


def overlap(experiment: Experiment) -> list[dict[str, Any]]:
    """Return how far the guided window and the window of most motion overlap, for every stream."""
    cells = []
    for modality, level in overlap_streams(experiment):
        guided, center = load_overlaps(experiment, modality, level)
        names = {"modality": modality.value, "level": level.name, "localizer": experiment.preset.scope.main_localizer}
        cells.append(names | {"iou": [*guided]} | _overlap(_known(guided), _known(center)))
    return cells


def table_3(experiment: Experiment, scores: Mapping[ClipCell, Scores]) -> dict[str, Any]:
    """Return mean average precision over all frames of each test clip, for every level, stream and region."""
    train, truth = labels(experiment.dataset.train), labels(experiment.dataset.test)
    trained = np.unique(train)
    return {
        "clips": len(truth),
        "labels": truth.tolist(),
        "classes_present": np.unique(truth).tolist(),
        "classes_without_training": np.setdiff1d(np.arange(len(experiment.dataset.classes)), trained).tolist(),
        "cells": [
            {"row": cell.row, "stream": cell.stream, "variant": cell.region.value} | precision(values, truth, trained)
            for cell, values in scores.items()
        ],
    }


def curves(experiment: Experiment) -> list[dict[str, Any]]:
    """Return the loss, and the accuracy or overlap, of every training run, epoch by epoch."""
    steps = -(-len(experiment.dataset.train) // experiment.preset.training.batch)
    curves = []
    for run in experiment.runs:
        history = experiment.history(run)
        distorted = distortion(history.windows, run.level, experiment.preset) if history.windows else None
        curves.append(_curve(run, history, steps, experiment.seed) | {"distortion": distorted})
    return curves


def distortion(looks: Sequence[Any], level: Level, preset: Preset) -> list[dict[str, float | None]]:
    """Return what the paper calls the distortion effect, at each moment that windows were noted at.

    Args:
        looks: moment -> theta of every frame, ``[frame 2 3]``.
        level: whose crops the windows lie in.
        preset: of the run.

    Returns:
        Per moment, over the frames: mean ``scale``, median ``anisotropy``, mean absolute ``rotation`` in degrees and
        mean share ``outside`` of the crop; None for infinity, as where windows have collapsed to lines.
    """
    crop, glimpse = (level.height, level.height), (preset.data.glimpse, preset.data.glimpse)
    rows = []
    for thetas in looks:
        measured = geometry.distortion(torch.tensor(thetas, dtype=torch.float64), crop, glimpse)
        row = {
            "scale": measured.scale.mean().item(),
            "anisotropy": float(np.median(measured.anisotropy)),
            "rotation": measured.rotation.abs().rad2deg().mean().item(),
            "outside": measured.outside.mean().item(),
        }
        rows.append({name: value if np.isfinite(value) else None for name, value in row.items()})
    return rows


def looks(experiment: Experiment, folder: Path) -> list[dict[str, Any]]:
    """Return where each variant's transformer looks on a few test frames, before joint training and after each epoch.

    The frames are written to ``folder / "frames"``, as the crops that the networks read.
    """
    entries = []
    followed = [run for run in experiment.runs if experiment.follows(run)]
    for level in experiment.preset.data.levels:
        sample: Sample = experiment.followed_frames(level)
        clips = experiment.followed_clips
        files = [f"frames/{level.name}-{i}.png" for i in range(len(clips))]
        for file, index, frame in zip(files, clips, sample.frame.tolist(), strict=True):
            picture = experiment.caches[experiment.dataset.test[index].video].rgb(level, frame)
            _write_png(folder / file, _center_crop(picture))
        variants = {
            run.tested_variant.key: [*experiment.history(run).windows] for run in followed if run.level == level
        }
        entries.append(
            {
                "level": level.name,
                "localizer": experiment.preset.scope.main_localizer,
                "images": files,
                "clips": clips,
                "labels": sample.label.tolist(),
                "frames": sample.frame.tolist(),
                "target": sample.theta.tolist(),
                **variants,
            }
        )
    return entries


def precision(scores: Floats | Scores, truth: Labels, trained: Labels) -> dict[str, Any]:
    """Return the average precisions of decision values, and top-1 accuracy, in percent.

    Args:
        scores: (clips, classes).
        truth: (clips,) true class of each clip.
        trained: the classes that have training clips.

    Returns:
        ``map``, the mean over the classes with test clips; ``map_trained``, over those of them in ``trained``, None if
        there are none (on MPII Cooking: mAP over 64 and over 62 classes); ``ap`` per class, None without test clips;
        and the top-1 figures of Table 2.
    """
    precisions = svm.average_precisions(scores, truth)
    known = [precisions[label] for label in np.intersect1d(trained, truth)]
    return {
        "map": 100 * svm.mean_average_precision(precisions),
        "map_trained": 100 * svm.mean_average_precision(known) if known else None,
        "ap": [None if value is None else 100 * value for value in precisions],
    } | top_1(scores.argmax(1), truth)


def top_1(predicted: NDArray[Any], truth: Labels) -> dict[str, Any]:
    """Return how many clips are right, of how many, and the predictions themselves."""
    correct = int((predicted == truth).sum())
    return {
        "correct": correct,
        "total": len(truth),
        "percent": 100 * correct / len(truth),
        "predictions": predicted.tolist(),
    }


def _known(ious: Sequence[float | None]) -> list[float]:
    return [iou for iou in ious if iou is not None]


def _overlap(guided: Sequence[float], center: Sequence[float]) -> dict[str, float | None]:
    if not guided:
        return {"mean": None, "above_half": None, "center": None}
    above_half = float(np.mean(np.asarray(guided) > 0.5))
    return {"mean": float(np.mean(guided)), "above_half": above_half, "center": float(np.mean(center))}


def _answered(experiment: Experiment, run: Run) -> dict[str, Any]:
    names = {"localizer": run.localizer, "level": run.level.name, "variant": run.tested_variant.key}
    return names | top_1(np.asarray(load_answers(experiment, run)), labels(experiment.dataset.test))


def _curve(run: Run, history: History, steps_per_epoch: int, seed: int) -> dict[str, Any]:
    guided = run.phase is Phase.GUIDANCE
    return {
        "run": run.name,
        "phase": run.phase.value,
        "modality": run.modality.value,
        "level": run.level.name,
        "localizer": run.localizer,
        "variant": run.variant and run.variant.key,
        "seed": seed,
        "loss": [*history.loss],
        "accuracy": None if guided else [100 * fraction for fraction in history.measure],
        "iou": [*history.measure] if guided else None,
        "seconds": history.seconds,
        "epochs": history.epochs,
        "steps": history.epochs * steps_per_epoch,
    }


def _center_crop(picture: NDArray[Any]) -> NDArray[Any]:
    height, width = picture.shape[:2]
    left = (width - height) // 2
    return picture[:, left : left + height]


def _write_png(path: Path, rgb: NDArray[Any]) -> None:
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
