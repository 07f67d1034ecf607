"""How much of the thing the hard-coded window shows: against counted pixels, on prepared videos."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Cues
from examples.mpii_cooking.data.samples import FrameSamples
from examples.mpii_cooking.evaluation import visibility
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.variants import Modality
from examples.mpii_cooking.workspace import NotDoneError, Workspace
from supervised_st.geometry import theta_to_window
from tests.helpers.small_videos import DETAIL, PRESET


def inside(box, window):
    """The part of a box's pixels that a window has; both have whole numbers."""
    x, y, width, height = (int(value) for value in box)
    left, top, side, _ = (round(value) for value in window)
    pixels = [(i, j) for i in range(x, x + width) for j in range(y, y + height)]
    return np.mean([left <= i < left + side and top <= j < top + side for i, j in pixels])


def test_a_share_is_that_of_the_box_s_pixels():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.integers(-5, 20, (40, 2)), rng.integers(1, 12, (40, 2))]).astype(float)
    windows = np.column_stack([rng.integers(0, 15, (40, 2)), np.full((40, 2), 10)]).astype(float)
    found = visibility.share_inside(boxes, windows)
    assert found == pytest.approx([inside(*each) for each in zip(boxes, windows, strict=True)])
    assert {0.0, 1.0} < set(found)


def experiment_of(dataset, caches, folder, boxes):
    cues = None if boxes is None else Cues({"thing": (0, 1)}, boxes)
    known = replace(dataset, cues=cues)
    return Experiment(known, caches, PRESET, SeedPlan(0), Workspace(folder), torch.device("cpu"))


@pytest.fixture
def boxes(dataset, caches):
    """The thing's box in every frame, at whole pixels of the detail level."""
    rng = np.random.default_rng(1)
    found = {}
    for key, path in dataset.videos.items():
        width, height = video.frame_size(path)
        zoom = caches[key].width(DETAIL) / width, DETAIL.height / height
        count = caches[key].frames
        corners, sides = rng.integers(10, 100, (count, 2)), rng.integers(5, 30, (count, 2))
        found[key] = (np.column_stack([corners, sides]) / np.tile(zoom, 2)).astype(np.float32)
    return found


def test_a_clip_shows_the_mean_over_its_frames_of_the_thing_in_the_window_of_most_motion(
    dataset, caches, boxes, tmp_path
):
    experiment = experiment_of(dataset, caches, tmp_path, boxes)
    visibility.compute_shown(experiment)
    samples = FrameSamples(dataset.test, caches, DETAIL, Modality.SPATIAL, PRESET)
    seen = samples.__getitems__(range(len(samples)))
    shares = {}
    for clip, frame, theta in zip(seen.clip.tolist(), seen.frame.tolist(), seen.theta, strict=True):
        key = dataset.test[clip].video
        width, height = video.frame_size(dataset.videos[key])
        box = boxes[key][frame] * np.tile([caches[key].width(DETAIL) / width, DETAIL.height / height], 2)
        crop = (caches[key].width(DETAIL) - DETAIL.height) // 2
        in_crop = np.round(box - (crop, 0, 0, 0))
        window = theta_to_window(theta.double(), (DETAIL.height,) * 2).tolist()
        shares.setdefault(clip, []).append(inside(in_crop, window))
    expected = [np.mean(shares[clip]) for clip in range(len(dataset.test))]
    assert visibility.load_shown(experiment) == pytest.approx(expected, abs=1e-4)
    assert max(expected) > 0


def test_frames_without_the_thing_are_left_out_and_a_clip_without_it_shows_nothing(dataset, caches, boxes, tmp_path):
    everything = {key: np.tile(np.float32([-100, -100, 1000, 1000]), (len(each), 1)) for key, each in boxes.items()}
    first, second = (clip.video for clip in dataset.test[:2])
    everything[first][::4] = np.nan  # every frame that is looked at but one
    everything[first][4] = (-100, -100, 1000, 1000)
    everything[second][:] = np.nan
    experiment = experiment_of(dataset, caches, tmp_path, everything)
    visibility.compute_shown(experiment)
    some, none = visibility.load_shown(experiment)[:2]
    assert 0 < some < 1
    assert none == 0


def test_data_that_was_filmed_says_nothing(dataset, caches, tmp_path):
    experiment = experiment_of(dataset, caches, tmp_path, None)
    visibility.compute_shown(experiment)
    assert visibility.load_shown(experiment) == ()
    assert not list(tmp_path.iterdir())


def test_what_was_not_computed_is_not_loaded(dataset, caches, boxes, tmp_path):
    with pytest.raises(NotDoneError):
        visibility.load_shown(experiment_of(dataset, caches, tmp_path, boxes))
