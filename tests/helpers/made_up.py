"""Results of the example as a run writes them, made up: the definition of their schema for the tests of the report."""

import itertools

import matplotlib.image
import numpy as np

from examples.mpii_cooking import paper
from examples.mpii_cooking.config import PRESETS
from examples.mpii_cooking.evaluation import seeds, tables
from examples.mpii_cooking.report.provenance import describe_settings
from examples.mpii_cooking.training.weights import RANDOM

CLASSES = [
    "cut carrot at sink",
    "<script>alert('peel')</script>",
    "stir & taste",
    "weigh $\\frac$",
    "pour",
    "grate",
    "spice",
    "dry",
]
TEST_CLIPS, SIDES, EPOCHS, FRAMES = 60, {"general": 32, "middle": 56, "detail": 112}, 4, 5
GLIMPSE = 28
FOLLOWED = ("joint", "spatial", "vgg-16")


def top1(generator, labels, accuracy, **names):
    hit = generator.random(len(labels)) < accuracy
    predictions = np.where(hit, labels, (labels + 1) % len(CLASSES))
    correct = int((predictions == labels).sum())
    total = len(labels)
    return names | {
        "correct": correct,
        "total": total,
        "percent": 100 * correct / total,
        "predictions": predictions.tolist(),
    }


def made_up_table2(generator, labels):
    variants = {"STN": 0.2, "SSTN": 0.7}
    cells = [
        top1(generator, labels, accuracy, localizer=localizer, level=level, variant=variant)
        for localizer, level in paper.TABLE_2
        for variant, accuracy in variants.items()
    ]
    for level, (variant, accuracy) in itertools.product(paper.LEVELS, {"R_h": 0.6, "random crop": 0.4}.items()):
        cells.append(top1(generator, labels, accuracy, localizer=None, level=level, variant=variant))
    majority = {"class": 0, "correct": int((labels == 0).sum())}
    return {"clips": len(labels), "labels": labels.tolist(), "majority": majority, "cells": cells}


def made_up_variants(generator, labels):
    variants = {"STN-identity": 0.3, "STN-level": 0.35, "STN-slow": 0.15, "STN-fast": 0.25}
    variants |= {"center": 0.45, "frozen": 0.65, "SSTN-slow": 0.66, "guided": 0.68, "annealed": 0.69}
    return [
        top1(
            generator,
            labels,
            accuracy,
            localizer=None if variant == "center" else "vgg-16",
            level="detail",
            variant=variant,
        )
        for variant, accuracy in variants.items()
    ]


def made_up_margin(generator, labels):
    variants = {"SSTN": 0.7, "STN": 0.2}
    return [
        top1(generator, labels, accuracy, localizer="vgg-16", level="detail", variant=variant)
        for variant, accuracy in variants.items()
    ]


def made_up_overlap(generator):
    """Overlaps of every stream; nothing moved in the first clip."""
    cells = []
    for modality, level in itertools.product(("spatial", "temporal"), SIDES):
        ious = generator.beta(6, 3, TEST_CLIPS - 1)
        shares = {"mean": float(ious.mean()), "above_half": float((ious > 0.5).mean()), "center": generator.random()}
        cells.append({"modality": modality, "level": level, "localizer": "vgg-16", "iou": [None, *ious]} | shares)
    return cells


def made_up_scores(generator, labels):
    """Decision values in noise, in which the true class stands out the more, the more a cell has."""
    signals = [
        0.3 + 0.7 * (variant == "R_d") + 0.7 * (stream == "S+T") + 0.7 * (row == paper.FUSION)
        for row, stream, variant in tables.CELLS
    ]
    truth = np.eye(len(CLASSES))[labels]
    noise = generator.normal(size=(len(signals), len(labels), len(CLASSES)))
    return (np.array(signals)[:, None, None] * truth + noise).astype(np.float32)


def made_up_table3(scores, labels):
    trained = np.delete(np.arange(len(CLASSES)), 1)
    cells = [
        {"row": row, "stream": stream, "variant": variant} | tables.precision(values, labels, trained)
        for (row, stream, variant), values in zip(tables.CELLS, scores, strict=True)
    ]
    facts = {"classes_present": np.unique(labels).tolist(), "classes_without_training": [1]}
    return {"clips": len(labels), "labels": labels.tolist(), "cells": cells} | facts


def made_up_poolings(scores, labels):
    chosen = [tables.CELLS.index(tables.POOLED), 0]
    return seeds.merge_poolings(("rbf", "distance"), [each[chosen] for each in scores], labels.tolist())


def made_up_look(generator, folder, level):
    side, images = SIDES[level], []
    for index in range(FRAMES):
        images.append(f"frames/{level}-{index}.png")
        (folder / "frames").mkdir(exist_ok=True)
        matplotlib.image.imsave(folder / images[-1], generator.random((side, side, 3)))
    scale = GLIMPSE / side
    target = np.tile([[scale, 0, 0], [0, scale, 0]], (FRAMES, 1, 1))
    target[..., 2] = generator.uniform(scale - 1, 1 - scale, (FRAMES, 2))
    steps = np.linspace(0, 0.2, EPOCHS + 1)[:, None, None, None]
    return {
        "level": level,
        "localizer": "vgg-16",
        "images": images,
        "clips": list(range(FRAMES)),
        "labels": [index % len(CLASSES) for index in range(FRAMES)],
        "frames": [12] * FRAMES,
        "target": target.tolist(),
        "SSTN": (target + steps).tolist(),
        "STN": (generator.normal(0, 0.2, (1, FRAMES, 2, 3)) + steps).tolist(),
    }


def made_up_curve(phase, modality, level, localizer, variant):
    rising = np.linspace(0.2, 0.8, EPOCHS)
    return {
        "run": f"{phase}-{modality}-{level}",
        "phase": phase,
        "modality": modality,
        "level": level,
        "localizer": localizer,
        "variant": variant,
        "loss": (2 - rising).tolist(),
        "accuracy": None if phase == "guide" else (100 * rising).tolist(),
        "iou": rising.tolist() if phase == "guide" else None,
        "seconds": 3.2,
        "epochs": EPOCHS,
        "steps": 5 * EPOCHS,
        "distortion": made_up_distortion(variant) if (phase, modality, localizer) == FOLLOWED else None,
    }


def made_up_distortion(variant):
    """A window that stays upright (SSTN), or one that collapses to a line at last (STN)."""
    moments = []
    for moment in range(EPOCHS + 1):
        stretch = 1 + moment * (variant == "STN")
        anisotropy = None if variant == "STN" and moment == EPOCHS else stretch
        measures = {"scale": 0.4 / stretch, "rotation": 9 * (stretch - 1), "outside": 0.1 * (stretch - 1)}
        moments.append(measures | {"anisotropy": anisotropy})
    return moments


def made_up_curves():
    variants = [("guide", "vgg-16", "SSTN"), ("joint", "vgg-16", "SSTN"), ("joint", "vgg-16", "STN")]
    variants += [("guide", "vgg-f", "SSTN"), ("recognize", None, None), ("baseline", None, "R_h")]
    return [
        made_up_curve(phase, modality, level, localizer, variant)
        for modality, level, (phase, localizer, variant) in itertools.product(("spatial", "temporal"), SIDES, variants)
    ]


def made_up_results(folder, count=1):
    """Results of the shape that ``count`` seeds write, with guidance, R_d, fusion and S+T all clearly ahead."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, len(CLASSES) - 1, TEST_CLIPS)
    scores = [made_up_scores(generator, labels) for _ in range(count)]
    accuracies = [made_up_table2(generator, labels) for _ in range(count)]
    variants = [made_up_variants(generator, labels) for _ in range(count)]
    answers = [[*table["cells"], *more] for table, more in zip(accuracies, variants, strict=True)]
    counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    timings = [{"stage": "make videos", "seconds": 8.1}, {"stage": "train", "seconds": 220.4}]
    dataset = {"name": "synthetic kitchen", "folder": "runs/data", "split": "Five subjects train.", "synthetic": True}
    dataset |= {"has_paper_protocol": True, "videos": 12, "frames": 4800, "frame_size": [204, 154], "classes": CLASSES}
    dataset |= {
        "train_per_class": counts,
        "test_per_class": counts,
        "train_clips": TEST_CLIPS,
        "test_clips": TEST_CLIPS,
    }
    machine = {"python": "3.12.1", "torch": "2.13.0", "supervised_st": "0.1.0", "platform": "Linux", "cpu": "some CPU"}
    machine |= {"cores": 2, "threads": 2, "device": "cpu", "commit": None, "date": "2026-11-22T20:30:00+00:00"}
    return {
        "schema": 2,
        "preset": "standard",
        "seeds": list(range(count)),
        "margin_seeds": [count],
        "command": "python examples/mpii_cooking/run_all.py --preset standard",
        "settings": describe_settings(PRESETS["standard"]),
        "weights": dict.fromkeys(paper.LOCALIZERS, RANDOM),
        "dataset": dataset,
        "levels": [
            {"name": name, "height": side, "width": round(side * 204 / 154), "glimpse": GLIMPSE}
            for name, side in SIDES.items()
        ],
        "environment": machine,
        "timings": timings,
        "timings_total": 228.5,
        "table2": seeds.merge_table_2(accuracies),
        "table3": seeds.merge_table_3([made_up_table3(each, labels) for each in scores], scores),
        "poolings": made_up_poolings(scores, labels),
        "variants": seeds.merge_accuracies(variants),
        "variant_claims": seeds.compare_variants(answers, labels.tolist(), "vgg-16"),
        "overlap": seeds.merge_overlaps([made_up_overlap(generator) for _ in range(count)]),
        "margin": seeds.merge_margin([made_up_margin(generator, labels) for _ in range(count + 1)], labels.tolist()),
        "curves": made_up_curves() * count,
        "looks": [made_up_look(generator, folder, level) for level in SIDES],
        "files": {"checkpoints": "models", "features": "features", "cache": "cache", "results": "results.json"},
    }
