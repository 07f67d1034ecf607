"""The whole paper in one command: videos in, Tables 2 and 3 and Figures 7 and 8 out.

python examples/mpii_cooking/run_all.py                        a synthetic kitchen, made on the spot
python examples/mpii_cooking/run_all.py --data FOLDER          MPII Cooking, or a folder of videos per class
python examples/mpii_cooking/run_all.py --preset paper --data FOLDER --plan-only
torchrun --standalone --nproc-per-node N examples/mpii_cooking/run_all.py   N processes, with a GPU each where there are

Every stage keeps what it has finished: started again, a run goes on where it was stopped. On the same CPU,
with as many threads, it ends with the same tables; a GPU adds up in varying order, so there they may differ a little.
"""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.mpii_cooking import distributed, plan, provenance, report, tables
from examples.mpii_cooking.config import PRESETS, Preset
from examples.mpii_cooking.corpus import Corpus, DataError, open_corpus
from examples.mpii_cooking.features import frame_features, predictions
from examples.mpii_cooking.prepare import prepare
from examples.mpii_cooking.synthetic import make_kitchen
from examples.mpii_cooking.train import Trainer, TrainingDivergedError
from examples.mpii_cooking.workspace import Workspace, fingerprint, write_json

EXIT_BAD_INPUT = 2
GRACE_SECONDS = 5


def main(
    data: Path | None = None,
    output: Path | None = None,
    preset: Literal["smoke", "quick", "paper"] = "quick",
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
    plan_only: bool = False,
) -> None:
    """Train and evaluate every network of the paper, and write a report.

    Args:
        data: folder with the MPII Cooking videos and annotations, or with one sub-folder of videos per class.
            Without it, a small synthetic kitchen is made.
        output: folder for everything that is written; runs/mpii_cooking-PRESET by default.
        preset: smoke (under a minute), quick (under ten minutes) or paper (the paper's sizes: days on one GPU).
        precision: bfloat16 has networks, apart from theta, compute with 8 bits of precision. Not the default, for that
            it leaves the tables as they are has not been shown on a GPU.
        compile: compile the networks, except where only their FC6 is asked for. Not the default, for the same reason.
        plan_only: measure a few steps on one clip, print what the whole run will take, and stop.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    folder = output or Path("runs") / f"mpii_cooking-{preset}"
    chosen = dataclasses.replace(PRESETS[preset], precision=precision, compile=compile)
    try:
        with distributed.joined():
            run(data, folder, chosen, plan_only=plan_only)
    except (DataError, plan.NotEnoughDiskError, TrainingDivergedError, OverflowError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except distributed.ElsewhereError:
        time.sleep(
            GRACE_SECONDS
        )  # torchrun ends all processes when one has ended, and the one that failed has to speak
        sys.exit(EXIT_BAD_INPUT)


def run(data: Path | None, folder: Path, preset: Preset, *, plan_only: bool) -> None:
    """Run every stage in order; finished work in ``folder`` is not done again."""
    timings = provenance.Timings(folder / "timings.json", job=fingerprint([preset, data and data.resolve()]))
    if preset.threads:
        torch.set_num_threads(preset.threads)
    with timings.stage("data"):
        corpus = distributed.once(lambda: _open(data, folder, preset))
    if distributed.is_main():
        print(f"{corpus.name}: {len(corpus.classes)} classes. {corpus.split}")
    if plan_only or preset.scale == 1:
        with timings.stage("plan"):
            text = distributed.once(lambda: plan.make(corpus, preset, folder, distributed.device()))
        if distributed.is_main():
            print(text)
        if plan_only:
            return
    with timings.stage("prepare"):
        caches = prepare(corpus, preset, Workspace(folder / "cache"))
    trainer = Trainer(corpus, caches, preset, Workspace(folder), distributed.device())
    with timings.stage("train"):
        trainer.train_all()
    with timings.stage("features"):
        train, test = (frame_features(trainer, getattr(corpus, split), split) for split in ("train", "test"))
        predictions(trainer)
    with timings.stage("classify"):
        tables.pool(trainer, train, test)
        content = distributed.once(lambda: _content(trainer, train, test, folder))
    if distributed.is_main():
        results = _facts(data, folder, trainer, timings) | content
        write_json(folder / "results.json", results)
        print(f"report: {report.write_report(results, folder)}")


def _content(
    trainer: Trainer, train: tables.StreamFeatures, test: tables.StreamFeatures, folder: Path
) -> dict[str, Any]:
    """Put together what ranks have computed."""
    return {
        "table2": tables.table_2(trainer),
        "table3": tables.table_3(trainer, train, test),
        "curves": tables.curves(trainer),
        "looks": tables.looks(trainer, folder),
    }


def _open(data: Path | None, folder: Path, preset: Preset) -> Corpus:
    if data is not None:
        return open_corpus(data)
    make_kitchen(folder / "kitchen", preset.kitchen, preset.seed)
    return open_corpus(folder / "kitchen")


def _facts(data: Path | None, folder: Path, trainer: Trainer, timings: provenance.Timings) -> dict[str, Any]:
    corpus = provenance.describe_corpus(
        trainer.corpus, data or folder / "kitchen", trainer.caches, synthetic=data is None
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
        "files": {"checkpoints": "models", "features": "features", "cache": "cache", "results": "results.json"},
    }


if __name__ == "__main__":
    tyro.cli(main)
