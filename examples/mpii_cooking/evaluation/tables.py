"""Table 2, Table 3, more variants, the training curves and the windows' paths and distortion, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mpii_cooking import distributed, paper
from examples.mpii_cooking.config import MODALITIES, Level, Preset, levels
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.evaluation import svm
from examples.mpii_cooking.evaluation.features import (
    REGIONS,
    Region,
    StreamFeatures,
    margin_predictions,
    overlaps,
    predictions,
    stream_runs,
    variant_predictions,
)
from examples.mpii_cooking.evaluation.svm import Floats, Gram, Labels
from examples.mpii_cooking.training.runs import Run, all_runs
from examples.mpii_cooking.training.train import Trainer
from examples.mpii_cooking.workspace import Unit, written_aside
from supervised_st import geometry

Scores = NDArray[np.float32]
Cell = tuple[str, str, Region]
"""(row, stream, region) of Table 3."""
CELLS: tuple[Cell, ...] = tuple(
    (row, stream, region) for region in REGIONS for stream in paper.STREAMS for row in (*paper.LEVELS, paper.FUSION)
)
"""Table 3, in the order in which it is computed and stored."""
POOLED: Cell = (paper.FUSION, "S+T", "R_d")
"""The cell in which kinds of pooling are compared: everything the method has."""


def table_2(trainer: Trainer) -> dict[str, Any]:
    """Return top-1 accuracy on one random frame per test clip, for every localization network, level and variant."""
    train, test = _labels(trainer.dataset.train), _labels(trainer.dataset.test)
    majority = int(np.bincount(train).argmax())
    return {
        "clips": len(test),
        "labels": test.tolist(),
        "majority": {"class": majority, "correct": int((test == majority).sum())},
        "cells": [cell | top_1(np.asarray(cell["predictions"]), test) for cell in predictions(trainer)],
    }


def variants(trainer: Trainer) -> list[dict[str, Any]]:
    """Return cells as those of Table 2, on the same frames, for the variants that the paper does not have."""
    test = _labels(trainer.dataset.test)
    return [cell | top_1(np.asarray(cell["predictions"]), test) for cell in variant_predictions(trainer)]


def margin(trainer: Trainer) -> list[dict[str, Any]]:
    """Return Table 2's two cells, SSTN and STN, of the main localization network at detail level."""
    test = _labels(trainer.dataset.test)
    return [cell | top_1(np.asarray(cell["predictions"]), test) for cell in margin_predictions(trainer)]


def overlap(trainer: Trainer) -> list[dict[str, Any]]:
    """Return how far the guided window and the window of most motion overlap, for every stream.

    Returns:
        Cells with ``iou`` per test clip, None where nothing moved; ``mean`` over the others, ``above_half``, the share
        of them above 0.5, and ``center``, the mean of the center window instead, all None if there are no others.
    """
    return [cell | _overlap(_known(cell["iou"]), _known(cell["center"])) for cell in overlaps(trainer)]


def decision_values(
    trainer: Trainer, train: StreamFeatures, test: StreamFeatures, kind: str, cells: Sequence[Cell] = CELLS
) -> Scores:
    """Return what the linear machines say about all frames of each test clip, computed unless it is stored.

    Args:
        trainer: dataset and settings.
        train: features of the training clips, from ``frame_features``.
        test: features of the test clips.
        kind: of temporal correlation pooling.
        cells: which cells of Table 3.

    Returns:
        (cells, clips, classes).
    """
    streams = [(modality, level) for modality in MODALITIES for level in levels(trainer.preset)]
    inputs = {
        "grams": [
            _gram_unit(trainer, kind, region, modality, level).fingerprint
            for region, (modality, level) in product(REGIONS, streams)
        ],
        "cells": cells,
        "svm_c": trainer.preset.svm_c,
    }
    unit = trainer.workspace.unit(f"scores/{kind}", inputs)
    if not unit.done:
        parts = dict.fromkeys((stream, region) for _, stream, region in cells)
        scores = {
            (row, stream, region): values
            for stream, region in tqdm(parts, desc=f"{kind} pooling, linear machines", unit="stream", leave=False)
            for row, values in _stream_scores(trainer, train, test, kind, stream, region).items()
        }
        np.save(unit.path("scores.npy"), np.stack([scores[cell] for cell in cells]).astype(np.float32))
        unit.commit("scores.npy")
    return np.load(unit.path("scores.npy"))


def table_3(trainer: Trainer, scores: Scores) -> dict[str, Any]:
    """Return mean average precision over all frames of each test clip, for every level, stream and region.

    Args:
        trainer: dataset and settings.
        scores: (cells, clips, classes) for ``CELLS``, from ``decision_values``.
    """
    labels, truth = _labels(trainer.dataset.train), _labels(trainer.dataset.test)
    trained = np.unique(labels)
    return {
        "clips": len(truth),
        "labels": truth.tolist(),
        "classes_present": np.unique(truth).tolist(),
        "classes_without_training": np.setdiff1d(np.arange(len(trainer.dataset.classes)), trained).tolist(),
        "cells": [
            {"row": row, "stream": stream, "variant": region} | precision(values, truth, trained)
            for (row, stream, region), values in zip(CELLS, scores, strict=True)
        ],
    }


def pool(trainer: Trainer, train: StreamFeatures, test: StreamFeatures) -> None:
    """Store the inner products of every stream's clip descriptors, on which Table 3 rests; ranks share the streams."""

    def store(stream: tuple[str, Region, str, Level]) -> None:
        _gram(trainer, train, test, *stream)

    main, *others = trainer.preset.poolings
    streams = list(product([main], REGIONS, MODALITIES, levels(trainer.preset)))
    streams += product(others, [POOLED[2]], MODALITIES, levels(trainer.preset))
    distributed.map(store, streams, desc="pooling", unit="stream")


def curves(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the loss, and the accuracy or overlap, of every training run, epoch by epoch.

    Runs whose windows are followed also have their distortion, once more than they have epochs; others have None.
    """
    steps = -(-len(trainer.dataset.train) // trainer.preset.batch)
    curves = []
    for run in all_runs(trainer.preset):
        facts = trainer.unit(run).facts
        distorted = distortion(facts["looks"], run.level, trainer.preset) if trainer.follows(run) else None
        curves.append(_curve(run, facts, steps, trainer.preset.seed) | {"distortion": distorted})
    return curves


def distortion(looks: Sequence[Floats], level: Level, preset: Preset) -> list[dict[str, float | None]]:
    """Return what the paper calls the distortion effect, at each moment that windows were noted at.

    Args:
        looks: moment -> theta of every frame, ``[frame 2 3]``.
        level: whose crops the windows lie in.
        preset: of the run.

    Returns:
        Per moment, over the frames: mean ``scale``, median ``anisotropy``, mean absolute ``rotation`` in degrees and
        mean share ``outside`` of the crop; None for infinity, as where windows have collapsed to lines.
    """
    crop, glimpse = (level.height, level.height), (preset.glimpse, preset.glimpse)
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


def looks(trainer: Trainer, folder: Path) -> list[dict[str, Any]]:
    """Return where each variant's transformer looks on a few test frames, before joint training and after each epoch.

    The frames are written to ``folder / "frames"``, as the crops that the networks read.
    """
    entries = []
    followed = [run for run in all_runs(trainer.preset) if trainer.follows(run)]
    for level in levels(trainer.preset):
        sample = trainer.looks(level)
        clips = trainer.look_clips()
        files = [f"frames/{level.name}-{i}.png" for i in range(len(clips))]
        for file, index, frame in zip(files, clips, sample.frame.tolist(), strict=True):
            picture = trainer.caches[trainer.dataset.test[index].video].rgb(level, frame)
            _write_png(folder / file, _center_crop(picture))
        variants = {run.variant: trainer.unit(run).facts["looks"] for run in followed if run.level == level}
        entries.append(
            {
                "level": level.name,
                "localizer": trainer.preset.main_localizer,
                "images": files,
                "clips": clips,
                "labels": sample.label.tolist(),
                "frames": sample.frame.tolist(),
                "target": sample.theta.tolist(),
                **variants,
            }
        )
    return entries


def precision(scores: Floats, truth: Labels, trained: Labels) -> dict[str, Any]:
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


def top_1(predicted: np.ndarray, truth: Labels) -> dict[str, Any]:
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


def _labels(clips: Sequence[Clip]) -> Labels:
    return np.array([clip.label for clip in clips], dtype=np.int64)


def _stream_scores(
    trainer: Trainer, train: StreamFeatures, test: StreamFeatures, kind: str, stream: str, region: Region
) -> dict[str, Floats]:
    """Return the decision values, (clips, classes), of a stream's machine at every level and of their late fusion."""
    labels, classes = _labels(trainer.dataset.train), len(trainer.dataset.classes)
    scores = {}
    for level in levels(trainer.preset):
        modalities = MODALITIES if stream == "S+T" else (stream,)
        grams = [_gram(trainer, train, test, kind, region, modality, level) for modality in modalities]
        scores[level.name] = svm.svm_scores(reduce(Gram.joined, grams), labels, classes, trainer.preset.svm_c)
    return scores | {paper.FUSION: svm.late_fusion(list(scores.values()))}


def _gram_unit(trainer: Trainer, kind: str, region: Region, modality: str, level: Level) -> Unit:
    inputs = {
        "runs": [trainer.unit(run).fingerprint for run in stream_runs(trainer, modality, level)],
        "stride": trainer.preset.feature_stride,
        "pca": trainer.preset.pca,
        "pooling": kind,
    }
    return trainer.workspace.unit(f"gram/{kind}/{region}-{modality}-{level.name}", inputs)


def _gram(
    trainer: Trainer,
    train: StreamFeatures,
    test: StreamFeatures,
    kind: str,
    region: Region,
    modality: str,
    level: Level,
) -> Gram:
    """Return the inner products of one stream's clip descriptors, computed unless they are stored."""
    names, key = ("train.npy", "test.npy"), (region, modality, level.name)
    unit = _gram_unit(trainer, kind, region, modality, level)
    if not unit.done:
        pca = svm.fit_pca(train[key], trainer.preset.pca)
        pooling = svm.make_pooling(kind, train[key], pca)
        descriptors = (svm.describe(shards[key], pca, pooling) for shards in (train, test))
        for name, values in zip(names, svm.gram(*descriptors), strict=True):
            np.save(unit.path(name), values)
        unit.commit(*names)
    return Gram(*(np.load(unit.path(name)) for name in names))


def _curve(run: Run, facts: Mapping[str, Any], steps_per_epoch: int, seed: int) -> dict[str, Any]:
    guided = run.phase == "guide"
    return {
        "run": run.name,
        "phase": run.phase,
        "modality": run.modality,
        "level": run.level.name,
        "localizer": run.localizer,
        "variant": run.variant,
        "seed": seed,
        "loss": facts["loss"],
        "accuracy": None if guided else [100 * share for share in facts["measure"]],
        "iou": facts["measure"] if guided else None,
        "seconds": facts["seconds"],
        "epochs": facts["epoch"],
        "steps": facts["epoch"] * steps_per_epoch,
    }


def _center_crop(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    left = (width - height) // 2
    return picture[:, left : left + height]


def _write_png(path: Path, rgb: np.ndarray) -> None:
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
