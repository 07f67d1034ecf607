"""Table 2, Table 3, the training curves and the windows' paths, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from examples.mpii_cooking import classify, distributed
from examples.mpii_cooking.classify import Floats, Frames, Gram, Labels
from examples.mpii_cooking.clips import Clip
from examples.mpii_cooking.config import MODALITIES, Level, levels
from examples.mpii_cooking.features import REGIONS, Region, predictions, stream_runs
from examples.mpii_cooking.streams import Run, all_runs
from examples.mpii_cooking.train import Trainer
from examples.mpii_cooking.workspace import written_aside

StreamFeatures = Mapping[tuple[Region, str, str], tuple[Frames, ...]]
"""(region, modality, level name) -> shards, as ``frame_features`` returns them."""


def table_2(trainer: Trainer) -> dict[str, Any]:
    """Return top-1 accuracy on one random frame per test clip, for every localisation network, level and arm."""
    train, test = _labels(trainer.corpus.train), _labels(trainer.corpus.test)
    majority = int(np.bincount(train).argmax())
    return {
        "clips": len(test),
        "labels": test.tolist(),
        "majority": {"class": majority, "correct": int((test == majority).sum())},
        "cells": [cell | _top_1(np.asarray(cell["predictions"]), test) for cell in predictions(trainer)],
    }


def table_3(trainer: Trainer, train: StreamFeatures, test: StreamFeatures) -> dict[str, Any]:
    """Return mean average precision over all frames of each test clip, for every level, stream and region.

    Args:
        trainer: corpus and settings.
        train: features of the training clips, from ``frame_features``.
        test: features of the test clips.
    """
    labels, truth = _labels(trainer.corpus.train), _labels(trainer.corpus.test)
    classes, names = len(trainer.corpus.classes), [level.name for level in levels(trainer.preset)]
    trained = np.unique(labels)
    cells = []
    for region in REGIONS:
        grams = {
            (modality, level.name): _gram(trainer, region, modality, level, train, test)
            for modality, level in product(MODALITIES, levels(trainer.preset))
        }
        for stream in (*MODALITIES, "S+T"):
            scores = {}
            for name in names:
                products = _stream_products(grams, stream, name)
                scores[name] = classify.svm_scores(products, labels, classes, trainer.preset.svm_c)
            scores["late fusion"] = classify.late_fusion(list(scores.values()))
            cells += [
                {"row": row, "stream": stream, "arm": region} | precision(values, truth, trained)
                for row, values in scores.items()
            ]
    return {
        "clips": len(truth),
        "classes_present": np.unique(truth).tolist(),
        "classes_without_training": np.setdiff1d(np.arange(classes), trained).tolist(),
        "cells": cells,
    }


def pool(trainer: Trainer, train: StreamFeatures, test: StreamFeatures) -> None:
    """Store the inner products of every stream's clip descriptors, on which Table 3 rests; ranks share the streams."""

    def store(stream: tuple[Region, str, Level]) -> None:
        _gram(trainer, *stream, train, test)

    streams = list(product(REGIONS, MODALITIES, levels(trainer.preset)))
    distributed.map(store, streams, desc="pooling", unit="stream")


def curves(trainer: Trainer) -> list[dict[str, Any]]:
    """Return the loss, and the accuracy or overlap, of every training run, epoch by epoch."""
    steps = -(-len(trainer.corpus.train) // trainer.preset.batch)
    return [_curve(run, trainer.unit(run).facts, steps) for run in all_runs(trainer.preset)]


def looks(trainer: Trainer, folder: Path) -> list[dict[str, Any]]:
    """Return where the SSTN and the STN look on a few test frames, before joint training and after each epoch of it.

    The frames are written to ``folder / "frames"``, as the crops that the networks read.
    """
    entries = []
    localiser = trainer.preset.main_localiser
    for level in levels(trainer.preset):
        sample = trainer.looks(level)
        clips = trainer.look_clips()
        files = [f"frames/{level.name}-{i}.png" for i in range(len(clips))]
        for file, index, frame in zip(files, clips, sample.frame.tolist(), strict=True):
            picture = trainer.caches[trainer.corpus.test[index].video].rgb(level, frame)
            _write_png(folder / file, _centre_crop(picture))
        arms = {
            arm: trainer.unit(Run("joint", "spatial", level, localiser, arm)).facts["looks"] for arm in ("SSTN", "STN")
        }
        entries.append(
            {
                "level": level.name,
                "localiser": localiser,
                "images": files,
                "clips": clips,
                "labels": sample.label.tolist(),
                "frames": sample.frame.tolist(),
                "target": sample.theta.tolist(),
                **arms,
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
        there are none; ``ap`` per class, None without test clips; and the top-1 figures of Table 2.
    """
    precisions = classify.average_precisions(scores, truth)
    known = [precisions[label] for label in np.intersect1d(trained, truth)]
    return {
        "map": 100 * classify.mean_average_precision(precisions),
        "map_trained": 100 * classify.mean_average_precision(known) if known else None,
        "ap": [None if value is None else 100 * value for value in precisions],
    } | _top_1(scores.argmax(1), truth)


def _labels(clips: Sequence[Clip]) -> Labels:
    return np.array([clip.label for clip in clips], dtype=np.int64)


def _top_1(predicted: np.ndarray, truth: Labels) -> dict[str, Any]:
    correct = int((predicted == truth).sum())
    return {
        "correct": correct,
        "total": len(truth),
        "percent": 100 * correct / len(truth),
        "predictions": predicted.tolist(),
    }


def _stream_products(grams: Mapping[tuple[str, str], Gram], stream: str, level: str) -> Gram:
    if stream == "S+T":
        return grams["spatial", level].joined(grams["temporal", level])
    return grams[stream, level]


def _gram(
    trainer: Trainer, region: Region, modality: str, level: Level, train: StreamFeatures, test: StreamFeatures
) -> Gram:
    """Return the inner products of one stream's clip descriptors, computed unless they are stored."""
    preset, names = trainer.preset, ("train.npy", "test.npy")
    inputs = {
        "runs": [trainer.unit(run).fingerprint for run in stream_runs(trainer, modality, level)],
        "stride": preset.feature_stride,
        "pca": preset.pca,
        "pooling": preset.pooling,
    }
    unit = trainer.workspace.unit(f"gram/{region}-{modality}-{level.name}", inputs)
    if not unit.done:
        key = (region, modality, level.name)
        pca = classify.fit_pca(train[key], preset.pca)
        pooling = classify.make_pooling(preset.pooling, train[key], pca)
        descriptors = (classify.describe(shards[key], pca, pooling) for shards in (train, test))
        for name, values in zip(names, classify.gram(*descriptors), strict=True):
            np.save(unit.path(name), values)
        unit.commit(*names)
    return Gram(*(np.load(unit.path(name)) for name in names))


def _curve(run: Run, facts: Mapping[str, Any], steps_per_epoch: int) -> dict[str, Any]:
    guided = run.phase == "guide"
    return {
        "run": run.name,
        "phase": run.phase,
        "modality": run.modality,
        "level": run.level.name,
        "localiser": run.localiser,
        "arm": run.arm,
        "loss": facts["loss"],
        "accuracy": None if guided else [100 * share for share in facts["measure"]],
        "iou": facts["measure"] if guided else None,
        "seconds": facts["seconds"],
        "epochs": facts["epoch"],
        "steps": facts["epoch"] * steps_per_epoch,
    }


def _centre_crop(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    left = (width - height) // 2
    return picture[:, left : left + height]


def _write_png(path: Path, rgb: np.ndarray) -> None:
    with written_aside(path) as aside:
        cv2.imwrite(str(aside), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
