"""The whole paper in one command: videos in, Tables 2 and 3 and Figures 7 and 8 out. ``torchrun`` shares the work.

Every stage keeps what it has finished: after Ctrl-C, SIGTERM or a crash, the same command resumes. On the same CPU,
with as many threads, it ends with the same tables. A GPU sums in varying order, so its tables may differ a little.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.mpii_cooking import interrupts

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupts.end)  # the imports below take seconds

import torch
import tyro

from examples.mpii_cooking import distributed, plan, storage
from examples.mpii_cooking import study as studies
from examples.mpii_cooking.config import Preset, SeedPlan
from examples.mpii_cooking.data import kitchen, mpii
from examples.mpii_cooking.data.class_folders import NO_CHOICES, Choices
from examples.mpii_cooking.data.dataset import DataError, Split
from examples.mpii_cooking.data.findings import Findings, check_names
from examples.mpii_cooking.data.preparation import prepare_sound
from examples.mpii_cooking.data.readers import group_names, open_dataset
from examples.mpii_cooking.data.stillness import check_motion
from examples.mpii_cooking.evaluation.collect import collect
from examples.mpii_cooking.evaluation.features import compute_features
from examples.mpii_cooking.evaluation.folds import pool
from examples.mpii_cooking.evaluation.predictions import compute_answers, compute_overlaps
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.scores import compute_scores
from examples.mpii_cooking.evaluation.study_results import Kind
from examples.mpii_cooking.evaluation.visibility import compute_shown
from examples.mpii_cooking.formats import show_messages
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.report import page, provenance
from examples.mpii_cooking.training.all_runs import train_all
from examples.mpii_cooking.training.experiment import TRAINING, Experiment
from examples.mpii_cooking.training.train import TrainingDivergedError
from examples.mpii_cooking.training.weights import NO_WEIGHTS, read_weights
from examples.mpii_cooking.training.workers import WorkerLostError
from examples.mpii_cooking.workspace import Workspace, fingerprint

EXIT_BAD_INPUT = 2
ALL = "all"  # in place of a fold: every one, and their pooled results


def main(
    data: Path | None = None,
    output: Path | None = None,
    preset: Literal["smoke", "quick", "standard", "paper"] = "quick",
    split: Literal["fixed5", "loso7"] | None = None,
    fold: str | None = None,
    groups: str | None = None,
    without: tuple[str, ...] = (),
    rate: float | Literal["keep"] | None = None,
    aspect: str | None = None,
    seeds: int | None = None,
    flow: Literal["dis", "tvl1"] | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
    weights: Path | None = None,
    trust_mtime: bool = False,
    skip_broken: bool = False,
    plan_only: bool = False,
    study: Kind | None = None,
) -> None:
    """Train and evaluate every network of the paper, and write a report.

    Args:
        data: folder with the MPII Cooking videos and annotations, or with one sub-folder per class, in which each
            video, or folder of images, is a clip. Without it, a small synthetic kitchen is made.
        output: folder for everything that is written; runs/mpii_cooking-PRESET by default.
        preset: smoke (a minute or two), quick (six minutes), standard (less than an hour) or paper (days on one GPU).
        split: fixed5, the paper's and the default, or loso7, which leaves one test subject of MPII Cooking out.
        fold: the subject that loso7 leaves out, or the group of --groups; or all, for one after the other and their
            pooled results. Every fold has its own folder in the output; all share the caches.
        groups: regular expression for a folder of classes. What it finds in the name of a clip is the clip's group, and
            a group is never in both training and test: without --fold, the first two thirds of the groups train.
        without: classes that a folder of classes has and the run leaves out.
        rate: frames per second that a folder of classes is brought to by leaving out frames, or keep. By default the
            lowest rate of its clips, if their rates differ by more than 5 %.
        aspect: W:H, from 1:1 to 10:1, or narrowest: cut clips of a folder of classes to one shape around their center.
        seeds: train everything from that many seeds: 0, 1 and so on. By default, what the preset says.
        flow: method that estimates optical flow; the preset's by default.
        precision: dtype of the networks (theta stays float32). bfloat16 is not yet validated on a GPU.
        compile: compile the networks, except where only FC6 is computed. Not yet validated on a GPU.
        weights: folder with ImageNet weights, for the preset paper; docs/reproduction.md names the files.
        trust_mtime: take a video whose size and time of modification are as before for the same, without reading it.
            Otherwise, videos are read again after they were copied or moved, since only their content counts.
        skip_broken: go on without videos that are cut off or damaged. The report lists them, and the clips lost.
        plan_only: measure a few steps on one clip, print how long the whole run will take, or its first fold, and stop.
        study: run a study in place of the paper, on kitchens of its own: what learned attention gains by the distance
            between the action and the largest motion, or by the number of training clips. With the preset standard,
            they take about 40 and 25 minutes on two CPU cores.
    """
    _print_any_name()
    show_messages()
    folder = output or Path("runs") / "-".join(filter(None, ("mpii_cooking", preset, study)))
    chosen = PRESETS[preset]
    training = replace(chosen.training, precision=precision, compile=compile)
    if weights is not None:
        training = replace(training, rgb_gain=1.0, flow_gain=1.0)  # what released weights were trained on
    if seeds is not None:
        chosen = replace(chosen, seeds=tuple(SeedPlan(seed) for seed in range(seeds)))
    chosen = replace(chosen, data=replace(chosen.data, flow=flow or chosen.data.flow), training=training)
    try:
        findings = Findings()
        for path in filter(None, (data, folder, weights)):
            real = Path(os.path.realpath(path))  # Path.resolve raises another error for links in a circle
            check_names((real, *real.parents), findings)
        findings.complain("folders")
        given = (data, split, fold, groups, without or None, rate, aspect, seeds, weights)
        is_given = skip_broken or trust_mtime or any(each is not None for each in given)
        if study is not None and is_given:
            raise DataError("a study has its own kitchens and seeds: leave out data, its options, seeds and weights")
        if not chosen.seeds:
            raise DataError(f"seeds must be at least 1, got {seeds}")
        choices = Choices(groups=groups, without=without, rate=rate, aspect=aspect)
        with distributed.joined(), ExitStack() as stack:
            distributed.once(lambda: stack.enter_context(storage.held(folder)))
            if study is not None:
                announce(folder, plan_only=plan_only)
                studies.run(study, folder, chosen, plan_only=plan_only)
                return
            folds = distributed.once(lambda: choose_folds(data, split, fold, choices, skip_broken=skip_broken))
            announce(folder / report_name([fold_name(*each) for each in folds]), plan_only=plan_only)
            common = {"skip_broken": skip_broken, "plan_only": plan_only, "trust_mtime": trust_mtime}
            found = {
                fold_name(*each): run(data, folder, chosen, each[0], weights, choices=each[1], **common)
                for each in (folds[:1] if plan_only else folds)
            }
            report({name: each for name, each in found.items() if each is not None}, folder)
    except (
        DataError,
        plan.NotEnoughDiskError,
        storage.DamagedError,
        storage.InUseError,
        TrainingDivergedError,
        WorkerLostError,
        OverflowError,
    ) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except OSError as problem:
        print(f"error: {storage.explained(problem)}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except distributed.OtherRankFailed:
        # torchrun ends all processes as soon as one has ended, but the one that failed has to print its error first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(5)
        sys.stdout.flush()
        os._exit(EXIT_BAD_INPUT)  # an orderly exit can wait forever for an answer of the rank that is gone


def _print_any_name() -> None:
    """Print letters that the encoding of the standard output lacks as escapes; Python prints errors so by default."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def choose_folds(
    data: Path | None,
    split: Literal["fixed5", "loso7"] | None,
    fold: str | None,
    choices: Choices,
    *,
    skip_broken: bool = False,
) -> list[tuple[Split | None, Choices]]:
    """Return how the clips are divided, once for each fold that is run."""
    if choices.groups is not None and split is None:
        names = group_names(data, choices, skip_broken=skip_broken) if fold == ALL else [fold]
        return [(None, replace(choices, fold=name)) for name in names]
    if split is None and fold is None:
        return [(None, choices)]
    folds = mpii.TEST_SUBJECTS if (split, fold) == ("loso7", ALL) else [fold]
    return [(mpii.choose_split(split or "fixed5", each), choices) for each in folds]


def fold_name(split: Split | None, choices: Choices) -> str:
    """Return the name of a fold's folder in the output; "" for a run without folds, which has the output itself."""
    if choices.fold is not None:
        return f"groups-{choices.fold}"
    return "" if split in (None, mpii.FIXED5) else split.name


def report_name(folds: Sequence[str]) -> str:
    """Return the name of the report's folder in the output: the only fold's, or one for the pooled results."""
    return folds[0] if len(folds) == 1 else f"{folds[0].split('-')[0]}-{ALL}"


def announce(folder: Path, *, plan_only: bool) -> None:
    """Say at the start where the report will be."""
    if not plan_only:
        distributed.once(lambda: print(f"the report will be {folder / page.FILE}", flush=True))


def report(results: dict[str, Results], output: Path) -> None:
    """Write the report of a run, or the pooled results of several folds and their report."""
    if len(results) > 1:
        name = report_name([*results])
        results = {name: pool(results)}
        results[name].save(output / name)
    for name, each in results.items():
        print(f"report: {page.write_report(each, output / name)}")


def run(
    data: Path | None,
    output: Path,
    preset: Preset,
    split: Split | None,
    weights: Path | None,
    *,
    choices: Choices = NO_CHOICES,
    skip_broken: bool = False,
    plan_only: bool,
    trust_mtime: bool = False,
) -> Results | None:
    """Run every stage in order and return what was found. What is finished in ``output`` is not done again.

    None is returned by a plan, and by other processes than the first.
    """
    folder = output / fold_name(split, choices)
    cache = output / "cache"  # the same for every split
    released = NO_WEIGHTS if weights is None else read_weights(weights, preset)
    # More variants, seeds or features on top of the same training are the same job.
    source = [os.path.realpath(data), choices] if data else preset.kitchen
    digests = {name: file.sha256 for name, file in released.items()}
    job = fingerprint([preset.data, preset.training, source, digests, made_by(TRAINING)])
    timings = provenance.Timings(folder / "timings.json", job)
    torch.set_num_threads(preset.training.threads or torch.get_num_threads())
    device = distributed.device()
    environment = provenance.describe_environment(device)  # at the start: a checkout may change later
    with timings.stage("data"):
        videos = data or output / "kitchen"
        if data is None:
            distributed.once(lambda: kitchen.make_kitchen(videos, preset.kitchen, seed=0))
        dataset = distributed.once(lambda: open_dataset(videos, split, choices, skip_broken=skip_broken))
    distributed.once(lambda: print(f"{dataset.name}: {len(dataset.classes)} classes. {dataset.protocol}"))
    written = (cache, *folder.glob("seed-*"))
    if plan_only or preset.data.scale == 1:
        with timings.stage("plan"):
            distributed.once(lambda: print(plan.make(dataset, preset, folder, device, released, written)))
        if plan_only:
            return None
    with timings.stage("prepare"):
        distributed.once(lambda: plan.check_disk(dataset, preset, folder, device, written))
        dataset, caches = prepare_sound(
            dataset, preset.data, Workspace(cache), skip_broken=skip_broken, trust_mtime=trust_mtime
        )
        if distributed.is_main():
            print(*(f"left out: {each.problem}" for each in dataset.lost), sep="\n", end="\n" if dataset.lost else "")
        distributed.once(lambda: check_motion(dataset, caches, preset.data.levels[0]))
    experiments = [
        Experiment(dataset, caches, preset, each, Workspace(folder / f"seed-{each.seed}"), device, released)
        for each in preset.seeds
    ]
    with timings.stage("train"):
        train_all(experiments)
    with timings.stage("features"):
        compute_shown(experiments[0])
        for experiment in experiments:
            compute_answers(experiment)
            compute_overlaps(experiment)
            compute_features(experiment)
    with timings.stage("classify"):
        for experiment in experiments:
            compute_scores(experiment)
    if not distributed.is_main():
        return None
    facts = provenance.describe_dataset(dataset, videos, caches, is_synthetic=data is None)
    found = collect(experiments, facts, environment, provenance.command(), folder)
    files = {
        "checkpoints": "seed-*/models",
        "features": "seed-*/features",
        "cache": os.path.relpath(cache, folder),
        "results": "results.json",
        "decision values": "scores.npz",
    }
    results = replace(found, timings=timings.rows(), files=files)
    results.save(folder)
    return results


if __name__ == "__main__":
    interrupts.stoppable(lambda: tyro.cli(main))
