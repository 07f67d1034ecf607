"""What a run will take: every stage is measured on a few frames and scaled up."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset
from examples.mpii_cooking.data.preparation import MEMORY, VideoCache, prepare_video, video_unit
from examples.mpii_cooking.data.samples import ClipSamples, Sample
from examples.mpii_cooking.durations import duration
from examples.mpii_cooking.training.networks import Classifier, Networks, autocast
from examples.mpii_cooking.training.objectives import make_objective
from examples.mpii_cooking.training.runs import Run, build, planned_runs
from examples.mpii_cooking.training.train import TrainingDivergedError, backward, make_optimizer, sub_batches
from examples.mpii_cooking.training.weights import NO_WEIGHTS, Weights, origins
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant
from examples.mpii_cooking.workspace import Workspace
from supervised_st import affine_sample

EXCERPT = "excerpt"
EXCERPT_FRAMES = 12
"""Frames of the one clip on which everything is measured: enough for one stack of flows."""
SAMPLES = 1
"""Samples per measured backward pass, so that a plan takes a minute or two, even without a GPU."""
FLOAT32, FLOAT16, FLOAT64 = 4, 2, 8
GIGABYTE = 1e9


class NotEnoughDiskError(RuntimeError):
    """The output folder's disk cannot hold what the run will write."""


class Cost(NamedTuple):
    """Time and disk that one stage takes."""

    stage: str
    amount: str
    seconds: float
    bytes: float


class StepCost(NamedTuple):
    """Time that training takes."""

    per_step: float
    """Seconds for the update of the weights, whatever the batch."""
    per_sample: float
    """Seconds for loading a sample and for its forward and backward pass."""


def make(
    dataset: Dataset,
    preset: Preset,
    folder: Path,
    device: torch.device,
    weights: Weights = NO_WEIGHTS,
    *,
    written: Iterable[Path] = (),
) -> str:
    """Measure every stage on one short clip and return the plan for the whole dataset as text. One process does it.

    Args:
        dataset: the run's data.
        preset: the run's settings.
        folder: the run's output folder. The excerpt that is measured goes to its sub-folder ".plan", which is hidden so
            that it is no class of videos if the output goes into the data folder.
        device: where the run will train.
        weights: what the run's networks start from.
        written: folders that the run writes; what an earlier start left there is not counted again.

    Raises:
        NotEnoughDiskError: if the disk has less space left than the run still needs.
    """
    scratch = folder / ".plan"
    excerpt = _excerpt(dataset, scratch)
    started = time.monotonic()
    cache = _prepared(excerpt.videos[EXCERPT], preset, Workspace(scratch))
    seconds_per_frame = (time.monotonic() - started) / EXCERPT_FRAMES
    bytes_per_frame = _size(scratch / "prepare") / EXCERPT_FRAMES
    frames = sum(video.count_frames(path) for path in dataset.videos.values())
    kept = sum(-(-len(clip) // preset.evaluation.feature_stride) for clip in (*dataset.train, *dataset.test))

    def samples(run: Run, count: int) -> Sample:
        clips = excerpt.train * count
        loaded = ClipSamples(clips, {EXCERPT: cache}, run.level, run.modality, preset, seed=0, augment=True)
        return Sample(*(field.to(device) for field in loaded.__getitems__(range(count))))

    costs = [Cost("prepare", f"{frames} frames", frames * seconds_per_frame, frames * bytes_per_frame)]
    with autocast(preset, device):
        costs += [
            _training_cost(dataset, preset, weights, samples, device),
            _feature_cost(dataset, preset, kept, samples, device),
        ]
    _check_disk(folder, sum(cost.bytes for cost in costs) - sum(map(_size, written)))
    return "\n".join([*_network_lines(dataset, preset, weights), "", *_cost_lines(costs, device)])


def _excerpt(dataset: Dataset, folder: Path) -> Dataset:
    """Return a dataset of one clip: the first frames of the clip that starts earliest in its video."""
    clip = min(dataset.train, key=lambda clip: (clip.start, clip.video))
    frames = list(islice(video.decode(dataset.videos[clip.video]), clip.start, clip.start + EXCERPT_FRAMES))
    if not frames:
        raise DataError(f"{dataset.videos[clip.video]} has no frame {clip.start}, where {clip.origin} starts")
    path = folder / "excerpt.avi"
    frames += frames[-1:] * (EXCERPT_FRAMES - len(frames))
    with video.new_video(path, "mpeg4") as writer:
        for frame in frames:
            writer.write(frame)
    short = Clip(EXCERPT, 0, EXCERPT_FRAMES, clip.label, clip.origin)
    return replace(dataset, videos={EXCERPT: path}, train=(short,), test=(short,))


def _prepared(path: Path, preset: Preset, workspace: Workspace) -> VideoCache:
    unit = video_unit(EXCERPT, path, preset.data, workspace)
    prepare_video(path, preset.data, unit)
    return VideoCache(unit, preset.data, video.FrameMemory(MEMORY))


def _training_cost(
    dataset: Dataset, preset: Preset, weights: Weights, samples: Callable[[Run, int], Sample], device: torch.device
) -> Cost:
    """Measure one kind of run after the other at the detail level, whose crops are the largest."""
    measured: dict[tuple[Phase, str | None], StepCost] = {}
    seconds = disk = 0.0
    runs = [run for plan in reversed(preset.seeds) for run in planned_runs(preset, plan)]
    for run in reversed(runs):  # the temporal detail stream comes last, and has the largest inputs
        with torch.device("meta"):  # a network without numbers is enough to count its parameters
            disk += FLOAT32 * _parameters(build(run, len(dataset.classes), preset))
        kind = (run.phase, run.localizer)
        if kind not in measured:
            networks = build(run, len(dataset.classes), preset, weights).to(device)
            measured[kind] = _step_cost(run, networks, preset, samples)
        steps = -(-len(dataset.train) // preset.training.batch)
        epoch = steps * measured[kind].per_step + len(dataset.train) * measured[kind].per_sample
        seconds += run.settings(preset).epochs * epoch
    return Cost("train", f"{len(runs)} runs, at most", seconds, disk)


def _step_cost(run: Run, networks: Networks, preset: Preset, samples: Callable[[Run, int], Sample]) -> StepCost:
    """Time a step on one sub-batch and a step on two: the difference is the samples, the rest is the update."""
    networks.train()
    optimizer, objective = make_optimizer(run, networks, preset), make_objective(run, networks, run.guidance(preset, 0))

    def step(count: int) -> float:
        (loss, _), *_ = backward(optimizer, objective, sub_batches(samples(run, count), SAMPLES), count)
        optimizer.step()
        return float(loss)

    first = step(SAMPLES)  # allocates gradients and momenta
    if not math.isfinite(first):
        raise TrainingDivergedError(f"run {run.name}: the first loss is {first}")
    one, two = (_seconds(partial(step, count)) for count in (SAMPLES, 2 * SAMPLES))
    per_sample = max(two - one, one / 2) / SAMPLES
    return StepCost(max(one - SAMPLES * per_sample, 0.0), per_sample)


def _feature_cost(
    dataset: Dataset, preset: Preset, frames: int, samples: Callable[[Run, int], Sample], device: torch.device
) -> Cost:
    """Measure FC6 of both regions at the temporal detail level and multiply by the streams."""
    run = Run(Phase.JOINT, Modality.TEMPORAL, preset.data.levels[-1], preset.scope.main_localizer, Variant.SSTN)
    networks = build(run, len(dataset.classes), preset).to(device).eval()
    size = (preset.data.glimpse, preset.data.glimpse)

    @torch.inference_mode()
    def both_regions() -> None:
        sample = samples(run, SAMPLES)
        for theta in (networks.transformer.localize(sample.image), sample.theta):
            networks.classifier.fc6(affine_sample(sample.image, theta, size)).sum().item()

    complete = sum(not plan.only for plan in preset.seeds)
    streams = complete * len(Modality) * len(preset.data.levels)
    clips = len(dataset.train) + len(dataset.test)
    features = frames * len(Region) * networks.classifier.width * FLOAT16
    grams = len(Region) * clips * len(dataset.train) * FLOAT64
    seconds = streams * frames * _seconds(both_regions) / SAMPLES
    return Cost("features", f"{frames} frames, {streams} streams", seconds, streams * (features + grams))


def _seconds(work: Callable[[], object]) -> float:
    work()
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _check_disk(folder: Path, missing: float) -> None:
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise NotEnoughDiskError(
            f"the run still needs {missing / GIGABYTE:.1f} GB in {folder}, but its disk has {free / GIGABYTE:.1f} GB "
            "left: choose another --output or another --preset"
        )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _network_lines(dataset: Dataset, preset: Preset, weights: Weights) -> Iterator[str]:
    first = origins(preset, weights)
    yield "networks (parameters, first weights):"
    with torch.device("meta"):
        localizers = {
            name: build(
                Run(Phase.GUIDANCE, Modality.SPATIAL, preset.data.levels[0], name, Variant.SSTN),
                len(dataset.classes),
                preset,
            )
            for name in preset.scope.localizers
        }
        classifier = Classifier(len(dataset.classes), Modality.SPATIAL, preset)
    for name, localizer in localizers.items():
        yield f"  localization, {name:<8} {_parameters(localizer):>13,}  {first[name]}"
    count = f"{_parameters(classifier):>13,}  {first[preset.training.classifier]}, {len(dataset.classes)} classes"
    yield f"  classifier, {preset.training.classifier:<11}{count}"


def _cost_lines(costs: list[Cost], device: torch.device) -> Iterator[str]:
    yield f"plan (measured on {device.type}, without the linear classifiers):"
    total = Cost("total", "", sum(cost.seconds for cost in costs), sum(cost.bytes for cost in costs))
    for cost in (*costs, total):
        yield f"  {cost.stage:<10}{cost.amount:<28}{duration(cost.seconds):>12}{cost.bytes / GIGABYTE:>10.1f} GB"
