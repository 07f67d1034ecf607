"""What a run will take: every stage is measured on a few frames and scaled up."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data import frames, sources, video
from examples.mpii_cooking.data.caches import VideoCache
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset
from examples.mpii_cooking.data.preparation import MEMORY, check_shape, prepare_video, video_unit
from examples.mpii_cooking.data.samples import ClipSamples, Sample, parts
from examples.mpii_cooking.formats import duration
from examples.mpii_cooking.stages import made_otherwise
from examples.mpii_cooking.training.networks import Networks, autocast
from examples.mpii_cooking.training.objectives import make_objective
from examples.mpii_cooking.training.runs import Run, build, planned_runs
from examples.mpii_cooking.training.steps import backward, make_optimizer, sub_batches
from examples.mpii_cooking.training.weights import NO_WEIGHTS, Weights, origins
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant
from examples.mpii_cooking.workspace import Workspace
from supervised_st import affine_sample

EXCERPT = "excerpt"
EXCERPT_FRAMES = 12  # of the one clip on which everything is measured: enough for one stack of flows
FLOAT32, FLOAT16, FLOAT64 = 4, 2, 8  # bytes
SLOTS = {"adam": 2, "sgd": 1}  # values that an optimizer keeps of each parameter

Samples = Callable[[Run, int], Sample]  # returns that many samples as a run reads them


class NotEnoughDiskError(RuntimeError):
    """The output folder's disk cannot hold what the run will write."""


class Excerpt(NamedTuple):
    """One short clip, on which everything is measured."""

    samples: Samples
    seconds: float  # that its preparation took
    bytes: float  # of what was prepared


class Cost(NamedTuple):
    """Time and disk that one stage takes."""

    stage: str
    amount: str
    seconds: float
    bytes: float


def make(
    dataset: Dataset, preset: Preset, folder: Path, device: torch.device, weights: Weights, written: Collection[Path]
) -> str:
    """Measure every stage on one short clip and return the plan for the whole dataset as text. One process does it.

    What an earlier start left in the folders ``written`` does not count again.
    """
    total = sum(frames.count(path, dataset.framing) for path in dataset.videos.values())
    scale = total / EXCERPT_FRAMES
    with _excerpt(dataset, preset, folder, device) as excerpt, autocast(preset, device):
        costs = [Cost("prepare", f"{total} frames", scale * excerpt.seconds, scale * excerpt.bytes)]
        costs.append(_training_cost(dataset, preset, weights, excerpt.samples, device))
        costs.append(_feature_cost(dataset, preset, excerpt.samples, device))
    costs.append(Cost("total", "", sum(cost.seconds for cost in costs), sum(cost.bytes for cost in costs)))
    _check_room(costs[-1].bytes, folder, written)
    heading = f"plan (measured on {device.type}, without the linear classifiers):"
    table = [f"  {it.stage:<10}{it.amount:<28}{duration(it.seconds):>12}{it.bytes / 1e9:>10.1f} GB" for it in costs]
    again = made_otherwise(written)
    return "\n".join([*_network_lines(dataset, preset, weights), "", *again, heading, *table])


def check_disk(
    dataset: Dataset, preset: Preset, folder: Path, device: torch.device, written: Iterable[Path], times: int = 1
) -> None:
    """Raise an error if ``times`` such runs do not fit on the disk. One process does it.

    As in ``make``, frames are prepared to see how large they get, but nothing is timed. If no clip can be read, this
    returns: preparation lists them all, and what is wrong with each.
    """
    try:
        with _excerpt(dataset, preset, folder, device) as excerpt:
            bytes_of_a_frame = excerpt.bytes / EXCERPT_FRAMES
    except DataError:
        return
    ends: Counter[str] = Counter()
    for clip in (*dataset.train, *dataset.test):
        ends[clip.video] = max(ends[clip.video], clip.stop)
    prepared = ends.total() * bytes_of_a_frame
    needed = prepared + _training_bytes(dataset, preset) + _feature_bytes(dataset, preset)
    _check_room(times * needed, folder, written)


def _check_room(needed: float, folder: Path, written: Iterable[Path]) -> None:
    missing, free = needed - sum(map(_size, written)), shutil.disk_usage(folder).free
    if missing > free:
        raise NotEnoughDiskError(
            f"the run still needs {missing / 1e9:.1f} GB in {folder}, but its disk has {free / 1e9:.1f} GB "
            "left: make room, or choose another --output or another --preset"
        )


def training_seconds(dataset: Dataset, preset: Preset, folder: Path, device: torch.device) -> float:
    """Measure a few steps, and return what training all runs takes, one after another. One process does it."""
    with _excerpt(dataset, preset, folder, device) as excerpt, autocast(preset, device):
        return _training_cost(dataset, preset, NO_WEIGHTS, excerpt.samples, device).seconds


@contextmanager
def _excerpt(dataset: Dataset, preset: Preset, folder: Path, device: torch.device) -> Iterator[Excerpt]:
    """Cut a short clip, and prepare it. Its files are removed in the end: no other start reads them."""
    scratch = folder / ".plan"  # hidden, so that it is no class of videos if the output goes into the data folder
    try:
        path = scratch / "excerpt.avi"
        clip = _write_excerpt(dataset, path)
        started = time.monotonic()
        unit = video_unit(EXCERPT, sources.content(path), preset.data, Workspace(scratch))
        prepare_video(path, preset.data, unit)
        seconds = time.monotonic() - started
        caches = {EXCERPT: VideoCache(unit, preset.data, video.FrameMemory(MEMORY))}

        def samples(run: Run, count: int) -> Sample:
            loaded = ClipSamples((clip,) * count, caches, run.level, run.modality, preset, seed=0, augment=True)
            return Sample(*(field.to(device) for field in loaded.__getitems__(range(count))))

        yield Excerpt(samples, seconds, _size(unit.folder))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_excerpt(dataset: Dataset, path: Path) -> Clip:
    """Write a video of the first frames of a training clip that can be read, and return it as a clip.

    Of these, it is the one that starts earliest in its video. A ``DataError`` says if there is none.
    """
    problem = DataError(f"{dataset.name} has no training clip")
    for clip in sorted(dataset.train, key=lambda clip: (clip.start, clip.video)):
        try:
            excerpt = _first_frames(dataset, clip)
        except DataError as error:
            problem = error
            continue
        with video.new_video(path, "mpeg4") as writer:
            for frame in excerpt + excerpt[-1:] * (EXCERPT_FRAMES - len(excerpt)):
                writer.write(frame)
        return Clip(EXCERPT, 0, EXCERPT_FRAMES, clip.label, clip.origin)
    raise problem


def _first_frames(dataset: Dataset, clip: Clip) -> list[video.Frame]:
    """Return at least one frame; a ``DataError`` says why there is none."""
    path = dataset.videos[clip.video]
    check_shape(path, dataset.framing)
    film = frames.decode(path, dataset.framing)
    found = list(islice(film, clip.start, clip.start + EXCERPT_FRAMES))
    if not found:
        raise DataError(f"{path} has no frame {clip.start}, where {clip.origin} starts")
    return found


def _training_cost(dataset: Dataset, preset: Preset, weights: Weights, samples: Samples, device: torch.device) -> Cost:
    """Measure one kind of run after the other at the detail level, whose crops are the largest."""
    measured: dict[tuple[Phase, str | None], tuple[float, float]] = {}
    seconds = 0.0
    # The temporal detail stream comes last, and has the largest inputs.
    runs = [run for plan in preset.seeds for run in reversed(planned_runs(preset, plan))]
    for run in runs:
        kind = (run.phase, run.localizer)
        if kind not in measured:
            networks = build(run, len(dataset.classes), preset, weights).to(device)
            measured[kind] = _step_cost(run, networks, preset, samples)
        per_step, per_sample = measured[kind]
        settings = run.settings(preset)
        count = sum(parts(clip, settings.span) for clip in dataset.train)
        steps = math.ceil(count / preset.training.batch)
        seconds += settings.epochs * (steps * per_step + count * per_sample)
    return Cost("train", f"{len(runs)} runs, at most", seconds, _training_bytes(dataset, preset))


def _training_bytes(dataset: Dataset, preset: Preset) -> float:
    """Return the size of two checkpoints of each run, the last of which needs no optimizer."""
    sizes: dict[tuple[object, ...], int] = {}
    parameters = 0
    for run in (run for plan in preset.seeds for run in planned_runs(preset, plan)):
        kind = (run.modality, run.localizer, run.has_classifier)  # building networks takes time
        sizes[kind] = sizes.get(kind) or _parameters(run, dataset, preset)
        parameters += sizes[kind]
    return FLOAT32 * parameters * (2 + SLOTS[preset.training.optimizer])


def _step_cost(run: Run, networks: Networks, preset: Preset, samples: Samples) -> tuple[float, float]:
    """Return the seconds of an update and of each sample: a step on two samples takes one sample longer than on one."""
    networks.train()
    optimizer, objective = make_optimizer(run, networks, preset), make_objective(run, networks, run.guidance(preset, 0))

    def step(count: int) -> None:
        (loss, *_), *_ = backward(optimizer, objective, sub_batches(samples(run, count), 1), count)
        optimizer.step()
        loss.item()  # waits for the GPU

    one, two = _seconds(lambda: step(1)), _seconds(lambda: step(2))
    per_sample = max(two - one, one / 2)
    return max(one - per_sample, 0.0), per_sample


def _feature_cost(dataset: Dataset, preset: Preset, samples: Samples, device: torch.device) -> Cost:
    """Measure FC6 of both regions at the temporal detail level and multiply by the streams."""
    run = _described_run(preset)
    networks = build(run, len(dataset.classes), preset).to(device).eval()
    size = (preset.data.glimpse, preset.data.glimpse)

    @torch.inference_mode()
    def both_regions() -> None:
        sample = samples(run, 1)
        for theta in (networks.transformer.localize(sample.image), sample.theta):
            networks.classifier.fc6(affine_sample(sample.image, theta, size, antialias=True)).sum().item()

    described, streams = _described(dataset, preset)
    seconds = streams * described * _seconds(both_regions)
    return Cost("features", f"{described} frames, {streams} streams", seconds, _feature_bytes(dataset, preset))


def _described_run(preset: Preset) -> Run:
    return Run(Phase.JOINT, Modality.TEMPORAL, preset.data.levels[-1], preset.scope.main_localizer, Variant.SSTN)


def _described(dataset: Dataset, preset: Preset) -> tuple[int, int]:
    """Return the number of frames of which features are computed, and in how many streams."""
    clips = (*dataset.train, *dataset.test)
    described = sum(math.ceil(len(clip) / preset.evaluation.feature_stride) for clip in clips)
    return described, sum(not plan.only for plan in preset.seeds) * len(Modality) * len(preset.data.levels)


def _feature_bytes(dataset: Dataset, preset: Preset) -> float:
    described, streams = _described(dataset, preset)
    with torch.device("meta"):
        width = build(_described_run(preset), len(dataset.classes), preset).classifier.width
    features = described * len(Region) * width * FLOAT16
    grams = len(Region) * (len(dataset.train) + len(dataset.test)) * len(dataset.train) * FLOAT64
    return streams * (features + grams)


def _seconds(work: Callable[[], object]) -> float:
    """Time the second of two calls; the first one allocates memory."""
    work()
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _parameters(run: Run, dataset: Dataset, preset: Preset) -> int:
    with torch.device("meta"):  # a network without values is enough to count its parameters
        return sum(parameter.numel() for parameter in build(run, len(dataset.classes), preset).parameters())


def _network_lines(dataset: Dataset, preset: Preset, weights: Weights) -> Iterator[str]:
    first, level, classifier = origins(preset, weights), preset.data.levels[0], preset.training.classifier
    yield "networks (parameters, first weights):"
    for name in preset.scope.localizers:
        run = Run(Phase.GUIDANCE, Modality.SPATIAL, level, name, Variant.SSTN)
        yield f"  localization, {name:<8} {_parameters(run, dataset, preset):>13,}  {first[name]}"
    count = _parameters(Run(Phase.RECOGNITION, Modality.SPATIAL, level), dataset, preset)
    yield f"  classifier, {classifier:<11}{count:>13,}  {first[classifier]}, {len(dataset.classes)} classes"
