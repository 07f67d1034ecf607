"""The whole paper in one command: videos in, Tables 2 and 3 and Figures 7 and 8 out. ``torchrun`` shares the work.

Every stage keeps what it has finished: after Ctrl-C or a crash, the same command resumes. On the same CPU,
with as many threads, it ends with the same tables. A GPU sums in varying order, so its tables may differ a little.
"""

import logging
import os
import shlex
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.mpii_cooking import interrupts

if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupts.end)  # the imports below take seconds

import torch
import tyro

from examples.mpii_cooking import distributed, plan
from examples.mpii_cooking.config import PRESETS, Preset
from examples.mpii_cooking.data import kitchen, mpii
from examples.mpii_cooking.data.dataset import DataError, Split
from examples.mpii_cooking.data.preparation import prepare
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.evaluation.collect import collect
from examples.mpii_cooking.evaluation.features import compute_features
from examples.mpii_cooking.evaluation.predictions import compute_answers, compute_overlaps
from examples.mpii_cooking.evaluation.scores import compute_scores
from examples.mpii_cooking.report import page, provenance
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.train import TrainingDivergedError, train_all
from examples.mpii_cooking.training.weights import NO_WEIGHTS, read_weights
from examples.mpii_cooking.workspace import Workspace, fingerprint

EXIT_BAD_INPUT = 2


def main(
    data: Path | None = None,
    output: Path | None = None,
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick",
    split: Literal["fixed5", "loso7"] | None = None,
    fold: int | None = None,
    flow: Literal["dis", "tvl1"] | None = None,
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
        preset: smoke (a minute or two), quick (nine minutes), standard (an hour) or paper (days on one GPU).
        split: fixed5, the paper's and the default, or loso7, which leaves one test subject of MPII Cooking out.
        fold: the subject that loso7 leaves out. Every fold has its own folder in the output; all share the caches.
        flow: method that estimates optical flow; the preset's by default.
        precision: dtype of the networks (theta stays float32). bfloat16 is not yet validated on a GPU.
        compile: compile the networks, except where only FC6 is computed. Not yet validated on a GPU.
        weights: folder with ImageNet weights, for the preset paper; docs/reproduction.md names the files.
        plan_only: measure a few steps on one clip, print how long the whole run will take, and stop.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    folder = output or Path("runs") / f"mpii_cooking-{preset}"
    chosen = PRESETS[preset]
    training = replace(chosen.training, precision=precision, compile=compile)
    if weights is not None:
        training = replace(training, rgb_gain=1.0, flow_gain=1.0)  # what released weights were trained on
    chosen = replace(chosen, data=replace(chosen.data, flow=flow or chosen.data.flow), training=training)
    try:
        subjects = None if split is None and fold is None else mpii.choose_split(split or "fixed5", fold)
        with distributed.joined():
            run(data, folder, chosen, subjects, weights, plan_only=plan_only)
    except (DataError, plan.NotEnoughDiskError, TrainingDivergedError, OverflowError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except distributed.OtherRankFailed:
        # torchrun ends all processes as soon as one has ended, but the one that failed has to print its error first.
        time.sleep(5)
        sys.exit(EXIT_BAD_INPUT)


def run(
    data: Path | None, output: Path, preset: Preset, split: Split | None, weights: Path | None, *, plan_only: bool
) -> None:
    """Run every stage in order. What is finished in ``output`` is not done again."""
    folder = output if split in (None, mpii.FIXED5) else output / split.name
    cache = output / "cache"  # the same for every split
    released = NO_WEIGHTS if weights is None else read_weights(weights, preset)
    # More variants, seeds or features on top of the same training are the same job.
    source = str(data.resolve()) if data else [kitchen.VERSION, preset.kitchen]
    digests = {name: file.sha256 for name, file in released.items()}
    timings = provenance.Timings(folder / "timings.json", fingerprint([preset.data, preset.training, source, digests]))
    torch.set_num_threads(preset.training.threads or torch.get_num_threads())
    device = distributed.device()
    environment = provenance.describe_environment(device)  # at the start: a checkout may change later
    with timings.stage("data"):
        videos = data or output / "kitchen"
        if data is None:
            distributed.once(lambda: kitchen.make_kitchen(videos, preset.kitchen, seed=0))
        dataset = distributed.once(lambda: open_dataset(videos, split))
    distributed.once(lambda: print(f"{dataset.name}: {len(dataset.classes)} classes. {dataset.protocol}"))
    if plan_only or preset.data.scale == 1:
        with timings.stage("plan"):
            written = (cache, *folder.glob("seed-*"))
            distributed.once(lambda: print(plan.make(dataset, preset, folder, device, released, written)))
        if plan_only:
            return
    with timings.stage("prepare"):
        caches = prepare(dataset, preset.data, Workspace(cache))
    experiments = [
        Experiment(dataset, caches, preset, each, Workspace(folder / f"seed-{each.seed}"), device, released)
        for each in preset.seeds
    ]
    with timings.stage("train"):
        for experiment in experiments:
            train_all(experiment)
    with timings.stage("features"):
        for experiment in experiments:
            compute_answers(experiment)
            compute_overlaps(experiment)
            compute_features(experiment)
    with timings.stage("classify"):
        for experiment in experiments:
            compute_scores(experiment)
    if distributed.is_main():
        facts = provenance.describe_dataset(dataset, videos, caches, is_synthetic=data is None)
        found = collect(experiments, facts, environment, shlex.join(["python", *sys.argv]), folder)
        files = {
            "checkpoints": "seed-*/models",
            "features": "seed-*/features",
            "cache": os.path.relpath(cache, folder),
            "results": "results.json",
            "decision values": "scores.npz",
        }
        results = replace(found, timings=timings.rows(), files=files)
        results.save(folder)
        print(f"report: {page.write_report(results, folder)}")


if __name__ == "__main__":
    interrupts.stoppable(lambda: tyro.cli(main))
