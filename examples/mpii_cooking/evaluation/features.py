"""What trained networks say about frames: FC6 of every frame (Table 3), the class of one frame per clip (Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import MODALITIES, Level, levels
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.samples import ClipSamples, FrameSamples, Sample, ahead, batches, chunks
from examples.mpii_cooking.evaluation.svm import Frames
from examples.mpii_cooking.training.networks import Classifier
from examples.mpii_cooking.training.objectives import center_windows
from examples.mpii_cooking.training.runs import Run, extra_runs, margin_runs
from examples.mpii_cooking.training.train import Trainer, autocast
from examples.mpii_cooking.workspace import Unit, written_aside
from supervised_st import affine_sample
from supervised_st.geometry import window_iou

Region = Literal["R_d", "R_h"]
REGIONS: tuple[Region, ...] = ("R_d", "R_h")

SHARD = 256
"""Clips whose features are computed between two commits: what a killed run loses at most."""

EVALUATION_BATCH = 4
"""Sub-batches at once where nothing is kept for a backward pass, unless they are larger than ``EVALUATION_BYTES``."""
EVALUATION_BYTES = 2**28
"""Of one batch of inputs; loaders hold several."""

Window = Callable[[Sample], Tensor]


StreamFeatures = Mapping[tuple[Region, str, str], tuple[Frames, ...]]
"""(region, modality, level name) -> shards of clips."""


def frame_features(trainer: Trainer, clips: Sequence[Clip], split: str) -> StreamFeatures:
    """Return FC6 of every ``feature_stride``-th frame of ``clips``.

    R_d is what the SSTN of the main localization network looks at, R_h the window of most motion; each has its own
    classifier. Features are float16 on disk and read through memory maps.
    """
    streams, shards = list(product(MODALITIES, levels(trainer.preset))), list(enumerate(chunks(clips, SHARD)))

    def computed(item: tuple[tuple[str, Level], tuple[int, Sequence[Clip]]]) -> Unit:
        (modality, level), (number, some) = item
        return shard(trainer, modality, level, some, f"{split}-{number:04d}")

    items = list(product(streams, shards))
    units = distributed.map(computed, items, desc=f"FC6 of {split} clips", unit="shard")
    return {
        (region, modality, level.name): tuple(_load(unit, region) for unit in stream_units)
        for (modality, level), stream_units in zip(streams, chunks(units, len(shards)), strict=True)
        for region in REGIONS
    }


def describe(trainer: Trainer) -> tuple[StreamFeatures, StreamFeatures]:
    """Compute what is not stored yet: answers for single frames, and the features, which are returned.

    Returns:
        Those of the training clips and those of the test clips, from ``frame_features``.
    """
    predictions(trainer)
    variant_predictions(trainer)
    overlaps(trainer)
    return frame_features(trainer, trainer.dataset.train, "train"), frame_features(
        trainer, trainer.dataset.test, "test"
    )


def predictions(trainer: Trainer) -> list[dict[str, Any]]:
    """Return Table 2's cells: the class that each variant sees in one frame of every test clip."""
    runs = []
    preset = trainer.preset
    for level in levels(preset):
        runs += [
            Run("joint", "spatial", level, name, variant) for name in preset.localizers for variant in ("STN", "SSTN")
        ]
        runs += [Run("baseline", "spatial", level, variant="R_h"), Run("recognize", "spatial", level)]
    return distributed.map(partial(_cell, trainer), runs, desc="single frames", unit="run")


def variant_predictions(trainer: Trainer) -> list[dict[str, Any]]:
    """Return cells as those of Table 2 for the variants that the paper does not have."""
    runs = extra_runs(trainer.preset)
    return distributed.map(partial(_cell, trainer), runs, desc="single frames, more variants", unit="run")


def margin_predictions(trainer: Trainer) -> list[dict[str, Any]]:
    """Return Table 2's two cells of the main localization network at detail level, SSTN and STN."""
    sstn, stn = (run for run in margin_runs(trainer.preset) if run.phase == "joint")
    return distributed.map(partial(_cell, trainer), [sstn, stn])


def overlaps(trainer: Trainer) -> list[dict[str, Any]]:
    """Return how well guidance has taught the main localization network, in every stream.

    A cell holds the IoU of the window it predicts, in evaluation mode, with the window of most motion, in the frame of
    each test clip that Table 2 is about, and as ``center`` that of the center window, which knows nothing; both are
    None where nothing moved, so that there is no window to find.
    """

    def cell(stream: tuple[str, Level]) -> dict[str, Any]:
        modality, level = stream
        run = Run("guide", modality, level, trainer.preset.main_localizer, "SSTN")
        return {"modality": modality, "level": level.name, "localizer": run.localizer, **_ious(trainer, run)}

    streams = list(product(MODALITIES, levels(trainer.preset)))
    return distributed.map(cell, streams, desc="overlap with R_h", unit="stream")


def _ious(trainer: Trainer, run: Run) -> dict[str, list[float | None]]:
    names = ("iou", "center")
    unit = trainer.workspace.unit(f"overlap/{run.name}", {"run": trainer.unit(run).fingerprint, "names": names})
    if not unit.done:
        transformer = trainer.trained(run)["transformer"]

        def overlap(sample: Sample) -> Tensor:
            windows = transformer.localize(sample.image), center_windows(sample, trainer.preset.glimpse)
            return torch.stack([*(window_iou(window, sample.theta) for window in windows), sample.confidence], dim=1)

        *found, confidence = torch.cat([*_scores(trainer, _test_frames(trainer, run), overlap)]).T.tolist()
        moved = [[iou if sure else None for iou, sure in zip(ious, confidence, strict=True)] for ious in found]
        unit.commit(**dict(zip(names, moved, strict=True)))
    return {name: unit.facts[name] for name in names}


def _cell(trainer: Trainer, run: Run) -> dict[str, Any]:
    names = {"localizer": run.localizer, "level": run.level.name, "variant": run.variant or "random crop"}
    return names | _predicted(trainer, run)


def _test_frames(trainer: Trainer, run: Run) -> ClipSamples:
    """Return one random frame of every test clip, the same ones for every run of a level."""
    return ClipSamples(trainer.dataset.test, trainer.caches, run.level, run.modality, trainer.preset, augment=False)


def _predicted(trainer: Trainer, run: Run) -> dict[str, Any]:
    unit = trainer.workspace.unit(f"predictions/{run.name}", {"run": trainer.unit(run).fingerprint})
    if not unit.done:
        classifier, window = _looker(trainer, run)
        samples = _test_frames(trainer, run)
        scores = _scores(trainer, samples, lambda sample: classifier(_glimpse(classifier, window, sample)))
        unit.commit(predictions=torch.cat([*scores]).argmax(1).tolist())
    return {"predictions": unit.facts["predictions"]}


def stream_runs(trainer: Trainer, modality: str, level: Level) -> tuple[Run, Run]:
    """Return the runs whose classifiers describe a stream's frames, in the order of ``REGIONS``."""
    joint = Run("joint", modality, level, trainer.preset.main_localizer, "SSTN")
    return joint, Run("baseline", modality, level, variant="R_h")


def shard(trainer: Trainer, modality: str, level: Level, clips: Sequence[Clip], name: str) -> Unit:
    """Return the unit with the features of ``clips`` in one stream, computed unless it is done."""
    runs = stream_runs(trainer, modality, level)
    inputs = {
        "clips": clips,
        "stride": trainer.preset.feature_stride,
        "runs": [trainer.unit(run).fingerprint for run in runs],
    }
    unit = trainer.workspace.unit(f"features/{modality}-{level.name}/{name}", inputs)
    if not unit.done:
        samples = FrameSamples(clips, trainer.caches, level, modality, trainer.preset)
        lookers = [_looker(trainer, run) for run in runs]
        _write_features(trainer, samples, lookers, unit)
    return unit


def _looker(trainer: Trainer, run: Run) -> tuple[Classifier, Window]:
    """Return the run's classifier and where it looks."""
    networks = trainer.trained(run)
    if run.attends:
        return networks["classifier"], lambda sample: networks["transformer"].localize(sample.image)
    if run.variant == "R_h":
        return networks["classifier"], lambda sample: sample.theta
    return networks["classifier"], lambda sample: center_windows(sample, networks["classifier"].input_size)


def _glimpse(classifier: Classifier, window: Window, sample: Sample) -> Tensor:
    return affine_sample(sample.image, window(sample), (classifier.input_size, classifier.input_size))


def _write_features(
    trainer: Trainer, samples: FrameSamples, lookers: Sequence[tuple[Classifier, Window]], unit: Unit
) -> None:
    """Write one file per region, batch by batch, so that memory stays flat however many frames there are."""
    names = [f"{region}.npy" for region in REGIONS]

    def fc6(sample: Sample) -> Tensor:
        return torch.stack([looker.fc6(_glimpse(looker, window, sample)) for looker, window in lookers])

    paths = [unit.path(name) for name in names]
    with written_aside(paths[0]) as aside_d, written_aside(paths[1]) as aside_h:
        width = lookers[0][0].width
        files = [open_memmap(aside, "w+", np.float16, (len(samples), width)) for aside in (aside_d, aside_h)]
        row = 0
        for features in _scores(trainer, samples, fc6):
            half = features.half()
            if not torch.isfinite(half).all():
                raise OverflowError(f"features of unit {unit.folder} exceed float16's range of 65504")
            for file, values in zip(files, half.numpy(), strict=True):
                file[row : row + len(values)] = values
            row += half.shape[1]
        for file in files:
            file.flush()
    unit.commit(*names, lengths=samples.lengths)


@torch.inference_mode()
def _scores(
    trainer: Trainer, samples: ClipSamples | FrameSamples, network: Callable[[Sample], Tensor]
) -> Iterator[Tensor]:
    for batch in ahead(evaluation_batches(samples)):
        with autocast(trainer.preset, trainer.device):
            scores = network(Sample(*(field.to(trainer.device) for field in batch)))
        yield scores.float().cpu()


def evaluation_batches(samples: ClipSamples | FrameSamples) -> Iterator[Sample]:
    """Yield all samples in their order, in batches for networks that keep nothing for a backward pass."""
    size = min(EVALUATION_BATCH * samples.preset.sub_batch, max(1, EVALUATION_BYTES // samples.image_bytes))
    yield from batches(samples, chunks(range(len(samples)), size))


def _load(unit: Unit, region: Region) -> Frames:
    return Frames(np.load(unit.path(f"{region}.npy"), mmap_mode="r"), np.asarray(unit.facts["lengths"], dtype=np.int64))
