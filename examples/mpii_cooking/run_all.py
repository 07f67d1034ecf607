"""The whole paper in one command: videos in, Tables 2 and 3 and Figures 7 and 8 out.

python examples/mpii_cooking/run_all.py                        a synthetic kitchen, made on the spot
python examples/mpii_cooking/run_all.py --data FOLDER          MPII Cooking, or a folder of videos per class
python examples/mpii_cooking/run_all.py --preset paper --data FOLDER --weights FOLDER --plan-only
python examples/mpii_cooking/run_all.py --data FOLDER --split loso7 --fold 8
torchrun --standalone --nproc-per-node N examples/mpii_cooking/run_all.py   N processes, with a GPU each where there are

Every stage keeps what it has finished: started again, a run goes on where it was stopped. On the same CPU,
with as many threads, it ends with the same tables; a GPU adds up in varying order, so there they may differ a little.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.mpii_cooking import distributed, plan
from examples.mpii_cooking.config import PRESETS, Preset
from examples.mpii_cooking.data import kitchen, mpii
from examples.mpii_cooking.data.preparation import VideoCache, prepare
from examples.mpii_cooking.data.readers import DataError, Dataset, open_dataset
from examples.mpii_cooking.evaluation import features, seeds, tables
from examples.mpii_cooking.evaluation.features import StreamFeatures
from examples.mpii_cooking.report import page, provenance
from examples.mpii_cooking.training.runs import margin_runs
from examples.mpii_cooking.training.train import Trainer, TrainingDivergedError, settings_of_training
from examples.mpii_cooking.training.weights import NO_WEIGHTS, Weights, origins, read_weights
from examples.mpii_cooking.workspace import Workspace, fingerprint, write_json

EXIT_BAD_INPUT = 2
GRACE_SECONDS = 5


def main(
    data: Path | None = None,
    output: Path | None = None,
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick",
    split: Literal["fixed5", "loso7"] | None = None,
    fold: int | None = None,
    flow: Literal["dis", "tvl1", "raft"] | None = None,
    raft_weights: Path | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
    weights: Path | None = None,
    plan_only: bool = False,
) -> None:
    """Train and evaluate every network of the paper, and write a report.

    Args:
        data: folder with the MPII Cooking videos and annotations, or with one sub-folder of videos per class.
            Without it, a small synthetic kitchen is made.
        output: folder for everything that is written; runs/mpii_cooking-PRESET by default.
        preset: smoke (a minute or two), quick (nine minutes), standard (an hour: all networks, variants; three seeds)
            or paper (the paper's sizes: days on one GPU).
        split: of MPII Cooking's subjects: fixed5 is the paper's and the default, loso7 leaves one test subject out.
        fold: the subject that loso7 leaves out; a fold has its own folder in the output, and all share the caches.
        flow: how optical flow is estimated, if not as in the preset.
        raft_weights: file with torchvision's weights of RAFT, for that flow.
        precision: bfloat16 has networks, apart from theta, compute with 8 bits of precision. Not the default, for that
            it leaves the tables as they are has not been shown on a GPU.
        compile: compile the networks, except where only their FC6 is asked for. Not the default, for the same reason.
        weights: folder with ImageNet weights, for the preset paper; docs/reproduction.md names the files.
        plan_only: measure a few steps on one clip, print what the whole run will take, and stop.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    folder = output or Path("runs") / f"mpii_cooking-{preset}"
    try:
        subjects = None if split is None and fold is None else mpii.choose_split(split or "fixed5", fold)
        chosen = dataclasses.replace(
            PRESETS[preset],
            flow=flow or PRESETS[preset].flow,
            raft_weights=None if raft_weights is None else str(raft_weights),
            precision=precision,
            compile=compile,
        )
        with distributed.joined():
            run(data, folder, chosen, subjects, weights, plan_only=plan_only)
    except (DataError, plan.NotEnoughDiskError, TrainingDivergedError, OverflowError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except distributed.ElsewhereError:
        # torchrun ends all processes when one has ended, and the one that failed has to speak.
        time.sleep(GRACE_SECONDS)
        sys.exit(EXIT_BAD_INPUT)


def run(
    data: Path | None,
    output: Path,
    preset: Preset,
    split: mpii.Split | None,
    weights: Path | None,
    *,
    plan_only: bool,
) -> None:
    """Run every stage in order; finished work in ``output`` is not done again."""
    folder = output if split in (None, mpii.FIXED5) else output / split.name
    cache = output / "cache"  # the same for every split
    released, preset = _released(weights, preset)
    # More variants, seeds or features on top of the same training are the same job.
    source = data.resolve() if data else [kitchen.VERSION, preset.kitchen]
    job = fingerprint([settings_of_training(preset), source, {name: file.sha256 for name, file in released.items()}])
    timings = provenance.Timings(folder / "timings.json", job)
    if preset.threads:
        torch.set_num_threads(preset.threads)
    environment = provenance.describe_environment(distributed.device())  # now: a checkout may change under a run
    with timings.stage("data"):
        dataset = distributed.once(lambda: _open(data, output, preset, split))
    if distributed.is_main():
        print(f"{dataset.name}: {len(dataset.classes)} classes. {dataset.split}")
    if plan_only or preset.scale == 1:
        with timings.stage("plan"):
            written = (cache, *folder.glob("seed-*"))
            text = distributed.once(
                lambda: plan.make(dataset, preset, folder, distributed.device(), released, written=written)
            )
        if distributed.is_main():
            print(text)
        if plan_only:
            return
    with timings.stage("prepare"):
        caches = prepare(dataset, preset, Workspace(cache))
    trainers, others = (
        [_trainer(seed, dataset, caches, preset, folder, released) for seed in chosen]
        for chosen in (preset.seeds, preset.margin_seeds)
    )
    with timings.stage("train"):
        for trainer in trainers:
            trainer.train_all()
        for trainer in others:
            trainer.train_all(margin_runs(trainer.preset))
    with timings.stage("features"):
        described = [features.describe(trainer) for trainer in trainers]
        margins = [tables.margin(trainer) for trainer in (*trainers, *others)]
    with timings.stage("classify"):
        for trainer, clips in zip(trainers, described, strict=True):
            tables.pool(trainer, *clips)
        content = distributed.once(lambda: _content(trainers, described, folder))
        content["margin"] = seeds.merge_margin(margins, content["table2"]["labels"])
    if distributed.is_main():
        results = _facts(data, output, trainers[0], timings, environment) | content
        write_json(folder / "results.json", results)
        print(f"report: {page.write_report(results, folder)}")


def _released(folder: Path | None, preset: Preset) -> tuple[Weights, Preset]:
    """Read the weights that networks start from, and fit the inputs' range to them."""
    if folder is None:
        return NO_WEIGHTS, preset
    return read_weights(folder, preset), dataclasses.replace(preset, rgb_gain=1.0, flow_gain=1.0)


def _trainer(
    seed: int, dataset: Dataset, caches: Mapping[str, VideoCache], preset: Preset, folder: Path, weights: Weights
) -> Trainer:
    chosen = dataclasses.replace(preset, seed=seed)
    return Trainer(dataset, caches, chosen, Workspace(folder / f"seed-{seed}"), distributed.device(), weights)


def _open(data: Path | None, output: Path, preset: Preset, split: mpii.Split | None) -> Dataset:
    if data is None:
        kitchen.make_kitchen(output / "kitchen", preset.kitchen, preset.seed)
    return open_dataset(data or output / "kitchen", split)


def _content(
    trainers: Sequence[Trainer], described: Sequence[tuple[StreamFeatures, StreamFeatures]], folder: Path
) -> dict[str, Any]:
    """Put together what ranks have computed, and what seeds have."""
    preset = trainers[0].preset
    scores, compared = [], []
    for trainer, clips in zip(trainers, described, strict=True):
        scores.append(tables.decision_values(trainer, *clips, preset.poolings[0]))
        cells = [scores[-1][[tables.CELLS.index(tables.POOLED)]]]
        cells += [tables.decision_values(trainer, *clips, kind, [tables.POOLED]) for kind in preset.poolings[1:]]
        compared.append(np.concatenate(cells))
    found = [tables.table_3(*each) for each in zip(trainers, scores, strict=True)]
    accuracies, variants = ([table(trainer) for trainer in trainers] for table in (tables.table_2, tables.variants))
    answers = [[*table["cells"], *more] for table, more in zip(accuracies, variants, strict=True)]
    return {
        "table2": seeds.merge_table_2(accuracies),
        "table3": seeds.merge_table_3(found, scores),
        "poolings": seeds.merge_poolings(preset.poolings, compared, found[0]["labels"]),
        "variants": seeds.merge_accuracies(variants),
        "variant_claims": seeds.compare_variants(answers, accuracies[0]["labels"], preset.main_localizer),
        "overlap": seeds.merge_overlaps([tables.overlap(trainer) for trainer in trainers]),
        "curves": [curve for trainer in trainers for curve in tables.curves(trainer)],
        "looks": tables.looks(trainers[0], folder),
    }


def _facts(
    data: Path | None, output: Path, trainer: Trainer, timings: provenance.Timings, environment: Mapping[str, Any]
) -> dict[str, Any]:
    dataset = provenance.describe_dataset(
        trainer.dataset, data or output / "kitchen", trainer.caches, synthetic=data is None
    )
    return {
        "schema": 2,
        "preset": trainer.preset.name,
        "seeds": trainer.preset.seeds,
        "margin_seeds": trainer.preset.margin_seeds,
        "command": shlex.join(["python", *sys.argv]),
        "settings": dataclasses.asdict(trainer.preset),
        "weights": origins(trainer.preset, trainer.weights),
        "dataset": dataset,
        "levels": provenance.describe_levels(trainer.preset, dataset["frame_size"]),
        "environment": environment,
        "timings": timings.rows(),
        "timings_total": timings.total(),
        "files": {
            "checkpoints": "seed-*/models",
            "features": "seed-*/features",
            "cache": os.path.relpath(output / "cache", trainer.workspace.root.parent),
            "results": "results.json",
        },
    }


if __name__ == "__main__":
    tyro.cli(main)
