"""FC6 of every frame of every clip, the features behind Table 3."""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

from examples.mpii_cooking.config import Level
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.samples import FrameSamples, Sample, chunks
from examples.mpii_cooking.evaluation.predictions import evaluated
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import make_missing
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.objectives import evaluation_windows
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant
from examples.mpii_cooking.workspace import Unit, fingerprint
from supervised_st import affine_sample

SHARD = 256  # clips whose features are computed between two commits: the most that a killed run loses


class Stream(NamedTuple):
    """A modality at a zoom level."""

    modality: Modality
    level: Level


class Shard(NamedTuple):
    """Some of the clips, whose features are one unit."""

    name: str
    clips: Sequence[Clip]


def region_runs(experiment: Experiment, stream: Stream) -> dict[Region, Run]:
    """Return the runs whose classifiers describe the frames of a stream, each in its own region."""
    localizer = experiment.preset.scope.main_localizer
    return {
        Region.LEARNED: Run(Phase.JOINT, *stream, localizer, Variant.SSTN),
        Region.HARD_CODED: Run(Phase.BASELINE, *stream, variant=Variant.HARD_CODED),
    }


def described_streams(experiment: Experiment) -> list[Stream]:
    """Return the streams for which the experiment trains the networks of both regions."""
    streams = (Stream(*both) for both in product(Modality, experiment.preset.data.levels))
    return [stream for stream in streams if {*region_runs(experiment, stream).values()} <= {*experiment.runs}]


def shards(experiment: Experiment, part: str) -> list[Shard]:
    """Return all clips of a part, "train" or "test", in shards."""
    parts = chunks(getattr(experiment.dataset, part), SHARD)
    return [Shard(f"{part}-{number:04d}", clips) for number, clips in enumerate(parts)]


def compute_features(experiment: Experiment) -> None:
    """Store FC6 of every ``feature_stride``-th frame of all clips, in both regions. Ranks share streams and shards."""
    for part in ("train", "test"):
        make_missing(
            f"FC6 of {part} clips",
            list(product(described_streams(experiment), shards(experiment, part))),
            lambda item: _unit(experiment, *item),
            lambda item, _: compute_shard(experiment, *item),
            "shard",
        )


def load_features(experiment: Experiment, stream: Stream, region: Region, part: str) -> list[NDArray[np.float16]]:
    """Return the features of each clip of a part, "train" or "test", as memory maps."""
    clips: list[NDArray[np.float16]] = []
    for unit in (_unit(experiment, stream, shard) for shard in shards(experiment, part)):
        features = np.load(unit.file(f"{region}.npy"), mmap_mode="r")
        clips += np.split(features, np.cumsum(unit.facts["lengths"])[:-1])
    return clips


def features_content(experiment: Experiment, stream: Stream) -> dict[str, object]:
    """Return what decides the features that are loaded of a stream."""
    units = [_unit(experiment, stream, shard) for part in ("train", "test") for shard in shards(experiment, part)]
    lengths = {"clips": experiment.dataset_digests["clips"], "stride": experiment.preset.evaluation.feature_stride}
    return {"features": fingerprint([unit.content for unit in units])} | lengths


def compute_shard(experiment: Experiment, stream: Stream, shard: Shard) -> None:
    """Store the features of one shard in one stream, batch by batch, so that memory does not grow with the clips."""
    unit = _unit(experiment, stream, shard)
    runs = region_runs(experiment, stream).values()
    networks = [experiment.trained(run) for run in runs]
    windows = [evaluation_windows(run, each) for run, each in zip(runs, networks, strict=True)]
    classifiers = [each.classifier for each in networks]
    size = (classifiers[0].input_size,) * 2
    samples = FrameSamples(shard.clips, experiment.caches, stream.level, stream.modality, experiment.preset)

    def fc6(sample: Sample) -> Tensor:
        glimpses = (affine_sample(sample.image, looks(sample), size, antialias=True) for looks in windows)
        return torch.stack([each.fc6(glimpse) for each, glimpse in zip(classifiers, glimpses, strict=True)])

    names = [f"{region}.npy" for region in Region]
    layout = {"descr": "<f2", "fortran_order": False, "shape": (len(samples), classifiers[0].width)}
    with ExitStack() as stack:
        asides = [stack.enter_context(written_aside(unit.path(name))) for name in names]
        files = [stack.enter_context(aside.open("wb")) for aside in asides]
        for file in files:
            write_array_header_1_0(file, layout)
        for features in evaluated(experiment, samples, fc6):
            half = features.half()
            if not torch.isfinite(half).all():
                raise OverflowError(f"features of unit {unit.folder} exceed float16's range of 65504")
            for file, values in zip(files, half.numpy(), strict=True):
                file.write(values.astype("<f2").tobytes())
    unit.commit(*names, lengths=samples.lengths)


def _unit(experiment: Experiment, stream: Stream, shard: Shard) -> Unit:
    inputs = {
        "clips": shard.clips,
        "stride": experiment.preset.evaluation.feature_stride,
        "regions": [experiment.seen_by(run) for run in region_runs(experiment, stream).values()],
    } | made_by(__name__)
    name = f"features/{stream.modality}-{stream.level.name}/{shard.name}"
    return experiment.workspace.unit(name, inputs, experiment.check_caches)
