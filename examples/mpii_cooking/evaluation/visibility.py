"""How much of the thing the hard-coded window shows in each test clip, where data says where the thing is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import Level
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Cues
from examples.mpii_cooking.data.samples import FrameSamples
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.variants import Modality
from examples.mpii_cooking.workspace import Unit

Boxes = NDArray[np.float64]  # (frames, 4): x, y, width, height in pixels


def compute_shown(experiment: Experiment) -> None:
    """Store how much of the thing is in the window of most motion at detail level, on average over a clip's frames.

    The frames are those behind Table 3. Frames without the thing are left out; a clip without it shows nothing of it.
    """
    unit, cues = _unit(experiment), experiment.dataset.cues
    if cues is not None:
        distributed.once(lambda: None if unit.done else unit.commit(shown=_shown(experiment, cues)))


def load_shown(experiment: Experiment) -> tuple[float, ...]:
    """Return that part, between 0 and 1, for each test clip; nothing where the data does not say where things are."""
    return () if experiment.dataset.cues is None else tuple(_unit(experiment).facts["shown"])


def share_inside(boxes: Boxes, windows: Boxes) -> NDArray[np.float64]:
    """Return the part of each box's area that lies in the window of the same row, NaN for a box of NaN."""
    low = np.maximum(boxes[:, :2], windows[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], windows[:, :2] + windows[:, 2:])
    shares: NDArray[np.float64] = (high - low).clip(0).prod(1) / boxes[:, 2:].prod(1)
    return shares


def _unit(experiment: Experiment) -> Unit:
    preset = experiment.preset
    inputs = [experiment.dataset_fingerprint, preset.data, preset.evaluation.feature_stride]
    return experiment.workspace.unit("shown", inputs)


def _shown(experiment: Experiment, cues: Cues) -> list[float]:
    clips, level = experiment.dataset.test, experiment.preset.data.levels[-1]
    samples = FrameSamples(clips, experiment.caches, level, Modality.SPATIAL, experiment.preset)
    zooms = {key: _zoom(experiment, key, level) for key in {clip.video for clip in clips}}
    views = [samples.view(index) for index in range(len(samples))]
    videos = [clips[view.clip].video for view in views]
    boxes = np.stack([cues.boxes[key][view.frame] * zooms[key] for key, view in zip(videos, views, strict=True)])
    boxes[:, 0] -= [view.column for view in views]  # now in pixels of the crop, as windows are
    shares = share_inside(boxes, samples.windows(views).window.double().numpy())
    return [_mean(part.tolist()) for part in np.split(shares, np.cumsum(samples.lengths)[:-1])]


def _zoom(experiment: Experiment, key: str, level: Level) -> NDArray[np.float64]:
    """Return what takes a box from pixels of a video to pixels of a level."""
    width, height = video.frame_size(experiment.dataset.videos[key])
    return np.tile([experiment.caches[key].width(level) / width, level.height / height], 2)


def _mean(shares: Sequence[float]) -> float:
    known = [share for share in shares if not np.isnan(share)]
    return round(float(np.mean(known)), 4) if known else 0.0
