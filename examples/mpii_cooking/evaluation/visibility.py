"""How much of the thing the hard-coded window shows in each test clip, where data says where the thing is."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking.config import Level
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Cues
from examples.mpii_cooking.data.samples import FrameSamples
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import make_missing
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.variants import Modality
from examples.mpii_cooking.workspace import Unit

Boxes = NDArray[np.float64]  # (frames, 4): x, y, width, height in pixels


def compute_shown(experiment: Experiment) -> None:
    """Store how much of the thing is in the window of most motion at detail level, on average over a clip's frames.

    The frames are those behind Table 3. Frames without the thing are left out; a clip without it shows nothing of it.
    """
    cues = experiment.dataset.cues
    if cues is not None:
        unit, make = partial(_unit, experiment), partial(_make_shown, experiment)
        make_missing("how much of the thing is shown", [cues], unit, make, "kitchen")


def load_shown(experiment: Experiment) -> tuple[float, ...]:
    """Return that part, between 0 and 1, for each test clip; nothing where the data does not say where things are."""
    cues = experiment.dataset.cues
    return () if cues is None else tuple(_unit(experiment, cues).facts["shown"])


def share_inside(boxes: Boxes, windows: Boxes) -> NDArray[np.float64]:
    """Return the part of each box's area that lies in the window of the same row, NaN for a box of NaN."""
    low = np.maximum(boxes[:, :2], windows[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], windows[:, :2] + windows[:, 2:])
    shares: NDArray[np.float64] = (high - low).clip(0).prod(1) / boxes[:, 2:].prod(1)
    return shares


def _unit(experiment: Experiment, cues: Cues) -> Unit:
    preset = experiment.preset
    tested = {clip.video for clip in experiment.dataset.test}
    inputs: dict[str, object] = {
        "data": preset.data,
        "stride": preset.evaluation.feature_stride,
        "boxes": {key: sha256(cues.boxes[key].tobytes()).hexdigest() for key in tested},
        "sizes": {key: video.frame_size(experiment.dataset.videos[key]) for key in tested},
    }
    everything = inputs | experiment.dataset_digests | made_by(__name__)
    return experiment.workspace.unit("shown", everything, experiment.check_caches)


def _make_shown(experiment: Experiment, cues: Cues, unit: Unit) -> None:
    clips, level = experiment.dataset.test, experiment.preset.data.levels[-1]
    samples = FrameSamples(clips, experiment.caches, level, Modality.SPATIAL, experiment.preset)
    zooms = {key: _zoom(experiment, key, level) for key in {clip.video for clip in clips}}
    views = [samples.view(index) for index in range(len(samples))]
    videos = [clips[view.clip].video for view in views]
    boxes = np.stack([cues.boxes[key][view.frame] * zooms[key] for key, view in zip(videos, views, strict=True)])
    boxes[:, 0] -= [view.column for view in views]  # now in pixels of the crop, as windows are
    shares = share_inside(boxes, samples.windows(views).window.double().numpy())
    unit.commit(shown=[_mean(part.tolist()) for part in np.split(shares, np.cumsum(samples.lengths)[:-1])])


def _zoom(experiment: Experiment, key: str, level: Level) -> NDArray[np.float64]:
    """Return what takes a box from pixels of a video to pixels of a level."""
    width, height = video.frame_size(experiment.dataset.videos[key])
    return np.tile([experiment.caches[key].width(level) / width, level.height / height], 2)


def _mean(shares: Sequence[float]) -> float:
    known = [share for share in shares if not np.isnan(share)]
    return round(float(np.mean(known)), 4) if known else 0.0
