"""The whole paper in one command: videos in, Tables 2 and 3 and Figures 7 and 8 out.

python examples/mpii_cooking/run_all.py                        a synthetic kitchen, made on the spot
python examples/mpii_cooking/run_all.py --data FOLDER          MPII Cooking, or a folder of videos per class
python examples/mpii_cooking/run_all.py --preset paper --data FOLDER --plan-only
python examples/mpii_cooking/run_all.py --data FOLDER --split loso7 --fold 8

Every stage keeps what it has finished: started again, a run goes on where it was stopped. On the same CPU,
with as many threads, it ends with the same tables; a GPU adds up in varying order, so there they may differ a little.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.mpii_cooking import mpii, plan, provenance, report, seeds, tables
from examples.mpii_cooking.config import PRESETS, Preset
from examples.mpii_cooking.corpus import DataError, open_corpus
from examples.mpii_cooking.features import frame_features
from examples.mpii_cooking.prepare import prepare
from examples.mpii_cooking.synthetic import make_kitchen
from examples.mpii_cooking.train import Trainer, TrainingDivergedError
from examples.mpii_cooking.workspace import Workspace, fingerprint, write_json

EXIT_BAD_INPUT = 2


def main(
    data: Path | None = None,
    output: Path | None = None,
    preset: Literal["smoke", "quick", "paper"] = "quick",
    split: Literal["fixed5", "loso7"] | None = None,
    fold: int | None = None,
    flow: Literal["dis", "tvl1", "raft"] | None = None,
    raft_weights: Path | None = None,
    plan_only: bool = False,
) -> None:
    """Train and evaluate every network of the paper, and write a report.

    Args:
        data: folder with the MPII Cooking videos and annotations, or with one sub-folder of videos per class.
            Without it, a small synthetic kitchen is made.
        output: folder for everything that is written; runs/mpii_cooking-PRESET by default.
        preset: smoke (under a minute), quick (under ten minutes) or paper (the paper's sizes: days on one GPU).
        split: of MPII Cooking's subjects: fixed5 is the paper's and the default, loso7 leaves one test subject out.
        fold: the subject that loso7 leaves out; a fold has its own folder in the output, and all share the caches.
        flow: how optical flow is estimated, if not as in the preset.
        raft_weights: file with torchvision's weights of RAFT, for that flow.
        plan_only: measure a few steps on one clip, print what the whole run will take, and stop.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    folder = output or Path("runs") / f"mpii_cooking-{preset}"
    try:
        subjects = None if split is None and fold is None else mpii.choose_split(split or "fixed5", fold)
        weights = None if raft_weights is None else str(raft_weights)
        chosen = dataclasses.replace(PRESETS[preset], flow=flow or PRESETS[preset].flow, raft_weights=weights)
        run(data, folder, chosen, subjects, plan_only=plan_only)
    except (DataError, plan.NotEnoughDiskError, TrainingDivergedError, OverflowError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


def run(data: Path | None, output: Path, preset: Preset, split: mpii.Split | None, *, plan_only: bool) -> None:
    """Run every stage in order; finished work in ``output`` is not done again."""
    folder = output if split in (None, mpii.FIXED5) else output / split.name
    cache = output / "cache"  # the same for every split
    timings = provenance.Timings(folder / "timings.json", job=fingerprint([preset, data and data.resolve()]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if preset.threads:
        torch.set_num_threads(preset.threads)
    with timings.stage("data"):
        if data is None:
            make_kitchen(output / "kitchen", preset.kitchen, preset.seed)
        corpus = open_corpus(data or output / "kitchen", split)
    print(f"{corpus.name}: {len(corpus.classes)} classes. {corpus.split}")
    if plan_only or preset.scale == 1:
        with timings.stage("plan"):
            written = (cache, folder / "models", folder / "features")
            text = plan.make(corpus, preset, folder, device, written=written)
        print(text)
        if plan_only:
            return
    with timings.stage("prepare"):
        caches = prepare(corpus, preset, Workspace(cache))
    trainer = Trainer(corpus, caches, preset, Workspace(folder), device)
    with timings.stage("train"):
        trainer.train_all()
    with timings.stage("features"):
        train, test = (frame_features(trainer, getattr(corpus, split), split) for split in ("train", "test"))
    with timings.stage("classify"):
        main, *others = preset.poolings
        scores = tables.decision_values(trainer, train, test, main)
        compared = [scores[[tables.CELLS.index(tables.POOLED)]]]
        compared += [tables.decision_values(trainer, train, test, kind, [tables.POOLED]) for kind in others]
        table_2, table_3 = tables.table_2(trainer), tables.table_3(trainer, scores)
        content = {
            "table2": seeds.merge_table_2([table_2]),
            "table3": seeds.merge_table_3([table_3], [scores]),
            "poolings": seeds.merge_poolings(preset.poolings, [np.concatenate(compared)], table_3["labels"]),
        }
        content |= {"arms": seeds.merge_accuracies([tables.arms(trainer)]), "overlap": tables.overlap(trainer)}
        content |= {"curves": tables.curves(trainer), "looks": tables.looks(trainer, folder)}
    results = _facts(data, output, trainer, timings) | content
    write_json(folder / "results.json", results)
    print(f"report: {report.write_report(results, folder)}")


def _facts(data: Path | None, output: Path, trainer: Trainer, timings: provenance.Timings) -> dict[str, Any]:
    corpus = provenance.describe_corpus(
        trainer.corpus, data or output / "kitchen", trainer.caches, synthetic=data is None
    )
    return {
        "schema": 1,
        "preset": trainer.preset.name,
        "seed": trainer.preset.seed,
        "command": shlex.join(["python", *sys.argv]),
        "settings": dataclasses.asdict(trainer.preset),
        "corpus": corpus,
        "levels": provenance.describe_levels(trainer.preset, corpus["frame_size"]),
        "environment": provenance.describe_environment(trainer.device),
        "timings": timings.rows(),
        "timings_total": timings.total(),
        "files": {
            "checkpoints": "models",
            "features": "features",
            "cache": os.path.relpath(output / "cache", trainer.workspace.root),
            "results": "results.json",
        },
    }


if __name__ == "__main__":
    tyro.cli(main)
