"""What trained networks say about frames: FC6 of every frame (Table 3), the class of one frame per clip (Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from tqdm import tqdm

from examples.mpii_cooking.classify import Frames
from examples.mpii_cooking.clips import Clip
from examples.mpii_cooking.config import MODALITIES, Level, levels
from examples.mpii_cooking.networks import Recogniser
from examples.mpii_cooking.samples import ClipSamples, FrameSamples, Sample, batches
from examples.mpii_cooking.streams import Run
from examples.mpii_cooking.train import Trainer
from examples.mpii_cooking.workspace import Unit, written_aside
from supervised_st import affine_sample

Region = Literal["R_d", "R_h"]
REGIONS: tuple[Region, ...] = ("R_d", "R_h")

SHARD = 256
"""Clips whose features are computed between two commits: what a killed run loses at most."""

EVALUATION_BATCH = 4
"""Sub-batches at once where nothing is kept for a backward pass."""

Window = Callable[[Sample], Tensor]


def frame_features(
    trainer: Trainer, clips: Sequence[Clip], split: str
) -> dict[tuple[Region, str, str], tuple[Frames, ...]]:
    """Return FC6 of every ``feature_stride``-th frame of ``clips``: (region, modality, level name) -> shards.

    R_d is what the SSTN of the main localisation network looks at, R_h the window of most motion; each has its own
    recognition network. Features are float16 on disk and read through memory maps.
    """
    features = {}
    streams = list(product(MODALITIES, levels(trainer.preset)))
    for modality, level in tqdm(streams, desc=f"FC6 of {split} clips", unit="stream", leave=False):
        units = [
            shard(trainer, modality, level, clips[first : first + SHARD], f"{split}-{first // SHARD:04d}")
            for first in range(0, len(clips), SHARD)
        ]
        for region in REGIONS:
            features[region, modality, level.name] = tuple(_load(unit, region) for unit in units)
    return features


def predictions(trainer: Trainer) -> list[dict[str, Any]]:
    """Return Table 2's cells: the class that each arm sees in one random frame of every test clip, spatial stream."""
    cells = []
    preset = trainer.preset
    for level in tqdm(levels(preset), desc="single frames", unit="level", leave=False):
        runs = [Run("joint", "spatial", level, name, arm) for name in preset.localisers for arm in ("STN", "SSTN")]
        runs += [Run("baseline", "spatial", level, arm="R_h"), Run("recognise", "spatial", level)]
        for run in runs:
            arm = run.arm or "random crop"
            cells.append({"localiser": run.localiser, "level": level.name, "arm": arm} | _predicted(trainer, run))
    return cells


def _predicted(trainer: Trainer, run: Run) -> dict[str, Any]:
    unit = trainer.workspace.unit(f"predictions/{run.name}", {"run": trainer.unit(run).fingerprint})
    if not unit.done:
        recogniser, window = _looker(trainer, run)
        samples = ClipSamples(
            trainer.corpus.test, trainer.caches, run.level, run.modality, trainer.preset, augment=False
        )
        scores = _scores(trainer, samples, lambda sample: recogniser(_glimpse(recogniser, window, sample)))
        unit.commit(predictions=torch.cat([*scores]).argmax(1).tolist())
    return {"predictions": unit.facts["predictions"]}


def stream_runs(trainer: Trainer, modality: str, level: Level) -> tuple[Run, Run]:
    """Return the runs whose recognition networks describe a stream's frames, in the order of ``REGIONS``."""
    joint = Run("joint", modality, level, trainer.preset.main_localiser, "SSTN")
    return joint, Run("baseline", modality, level, arm="R_h")


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


def _looker(trainer: Trainer, run: Run) -> tuple[Recogniser, Window]:
    """Return the run's recognition network and where it looks."""
    networks = trainer.trained(run)
    if run.attends:
        return networks["recogniser"], lambda sample: networks["transformer"].localize(sample.image)
    if run.phase == "baseline":
        return networks["recogniser"], lambda sample: sample.theta
    return networks["recogniser"], lambda sample: _centre(sample, networks["recogniser"].input_size)


def _centre(sample: Sample, side: int) -> Tensor:
    scale = side / sample.image.shape[-1]
    return sample.theta.new_tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]]).expand_as(sample.theta)


def _glimpse(recogniser: Recogniser, window: Window, sample: Sample) -> Tensor:
    return affine_sample(sample.image, window(sample), (recogniser.input_size, recogniser.input_size))


def _write_features(
    trainer: Trainer, samples: FrameSamples, lookers: Sequence[tuple[Recogniser, Window]], unit: Unit
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
    for batch in batches(samples, EVALUATION_BATCH * trainer.preset.sub_batch):
        yield network(Sample(*(field.to(trainer.device) for field in batch))).float().cpu()


def _load(unit: Unit, region: Region) -> Frames:
    return Frames(np.load(unit.path(f"{region}.npy"), mmap_mode="r"), np.asarray(unit.facts["lengths"], dtype=np.int64))
