"""Samples: the window, the picture and the order that training and testing get."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.preparation import prepare
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.data.samples import (
    ClipSamples,
    FrameSamples,
    Sample,
    Samples,
    View,
    ahead,
    batches,
    chunks,
    parts,
)
from examples.mpii_cooking.variants import Modality
from examples.mpii_cooking.workspace import Workspace
from supervised_st.geometry import flip_theta, theta_to_window, window_to_theta
from supervised_st.motion import MotionWindowTarget
from supervised_st.sampling import affine_sample
from tests.helpers.made_up_samples import changed
from tests.helpers.small_videos import DETAIL, PRESET, moving_patch, stack_of, write


class OneView(Samples):
    """A single, given view."""

    chosen: View

    def view(self, index: int) -> View:
        return self.chosen


def sample_of(dataset, caches, view: View, modality: Modality, level=DETAIL, preset=PRESET) -> Sample:
    samples = OneView(dataset.train, caches, level, modality, preset)
    samples.chosen = view
    return samples.__getitems__([0])


def same(one: Sample, other: Sample) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("column", [0, 7, 37])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_target_is_the_window_with_the_most_motion_in_the_crop(dataset, caches, column, flipped):
    view = View(clip=1, frame=6, column=column, flipped=flipped)
    cache = caches[dataset.train[1].video]
    crop = (column, 0, DETAIL.height, DETAIL.height)
    direct = MotionWindowTarget(PRESET.data.glimpse, bound=PRESET.data.flow_bound)(stack_of(cache, 6)[None], crop=crop)
    expected = flip_theta(direct.theta) if flipped else direct.theta
    assert torch.equal(sample_of(dataset, caches, view, Modality.SPATIAL).theta, expected)


@pytest.mark.parametrize("level", PRESET.data.levels, ids=lambda level: level.name)
@pytest.mark.parametrize("modality", [Modality.SPATIAL, Modality.TEMPORAL])
def test_mirroring_a_sample_mirrors_what_its_window_shows(dataset, caches, level, modality):
    view = View(clip=0, frame=5, column=3, flipped=False)
    plain, mirrored = (
        sample_of(dataset, caches, view._replace(flipped=flip), modality, level) for flip in (False, True)
    )
    size = (PRESET.data.glimpse, PRESET.data.glimpse)
    expected = affine_sample(plain.image, plain.theta, size).flip(-1)
    if modality == Modality.TEMPORAL:
        expected[:, 0::2] *= -1
    glimpse = affine_sample(mirrored.image, mirrored.theta, size)
    torch.testing.assert_close(glimpse, expected, rtol=0, atol=1e-4)


def test_images_are_the_cached_frames_about_their_mean(dataset, caches):
    view = View(clip=0, frame=5, column=3, flipped=False)
    cache = caches[dataset.train[0].video]
    spatial = sample_of(dataset, caches, view, Modality.SPATIAL).image[0] / PRESET.training.rgb_gain
    mean = torch.tensor([123.68, 116.779, 103.939])[:, None, None]
    pixels = torch.from_numpy(cache.rgb(DETAIL, 5)).permute(2, 0, 1)[..., 3 : 3 + DETAIL.height]
    torch.testing.assert_close(spatial + mean, pixels.float(), rtol=0, atol=1e-3)
    temporal = sample_of(dataset, caches, view, Modality.TEMPORAL).image[0] / PRESET.training.flow_gain + 128
    assert torch.equal(temporal, stack_of(cache, 5).flatten(0, 1)[..., 3 : 3 + DETAIL.height].float())


@pytest.mark.parametrize("zoom", [2, 4])
def test_a_window_from_a_coarser_flow_grid_is_scaled_up(dataset, tmp_path, zoom):
    preset = changed(PRESET, flow_height=112 // zoom)
    caches = prepare(dataset, preset.data, Workspace(tmp_path))
    side = PRESET.data.glimpse // zoom
    numbers = np.clip(np.arange(1, 11), 0, 11).tolist()
    cache = caches["left/1.avi"]
    flows = [cache._memory.read(cache._unit.path("flow.mkv"), number) for number in numbers]
    stack = torch.from_numpy(np.stack(flows).reshape(1, 10, 2, preset.data.flow_height, -1))
    crop = (zoom, 0, 112 // zoom, 112 // zoom)
    direct = MotionWindowTarget(side, bound=preset.data.flow_bound)(stack, crop=crop)
    view = View(clip=0, frame=6, column=zoom * zoom, flipped=False)
    expected = window_to_theta(direct.window * zoom, (112, 112))
    assert torch.equal(sample_of(dataset, caches, view, Modality.SPATIAL, preset=preset).theta, expected)


@pytest.mark.parametrize("seed", range(8))
def test_from_a_finer_flow_grid_the_best_window_of_each_column_counts(dataset, caches, monkeypatch, seed):
    level, column, side = PRESET.data.levels[0], seed % 6, PRESET.data.glimpse
    cache = caches[dataset.train[0].video]
    rng = np.random.default_rng(seed)
    score, row = rng.integers(0, 9, 52) / 8, rng.integers(0, 15, 52)  # few values, hence ties
    monkeypatch.setattr(cache, "profile", lambda level, frame: (score, row))
    zoom, room = level.height / PRESET.data.flow_height, level.height - side
    best: dict[int, tuple[float, int]] = {}
    for left in range(len(score)):
        x = min(round(left * zoom), cache.width(level) - side) - column
        if 0 <= x <= room and score[left] > best.get(x, (-1.0, 0))[0]:
            best[x] = score[left], min(round(row[left] * zoom), room)
    _, y, x = min((-value, y, x) for x, (value, y) in best.items())
    expected = window_to_theta(torch.tensor([[x, y, side, side]]), (level.height, level.height))
    view = View(clip=0, frame=6, column=column, flipped=False)
    assert torch.equal(sample_of(dataset, caches, view, Modality.SPATIAL, level).theta, expected)


def test_without_motion_the_window_is_central_and_not_trusted(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(1, number) * 2)
    dataset = open_dataset(tmp_path)
    samples = ClipSamples(
        dataset.train,
        prepare(dataset, PRESET.data, Workspace(tmp_path / "work")),
        DETAIL,
        Modality.TEMPORAL,
        PRESET,
        seed=0,
        augment=True,
    )
    sample = samples.__getitems__([0])
    assert torch.equal(sample.theta, torch.tensor([[[0.25, 0, 0], [0, 0.25, 0]]]))
    assert sample.confidence.tolist() == [0]
    assert not sample.image.any()


def test_samples_depend_on_seed_epoch_and_index_alone(dataset, caches):
    clips = dataset.train * 8

    def drawn(seed: int = 0, epoch: int = 0) -> list[View]:
        samples = ClipSamples(clips, caches, DETAIL, Modality.SPATIAL, PRESET, seed=seed, augment=True, epoch=epoch)
        torch.rand(3)
        return [samples.view(index) for index in reversed(range(len(samples)))][::-1]

    views = drawn()
    assert views == drawn()
    assert views != drawn(seed=1)
    assert views != drawn(epoch=1)
    assert {view.flipped for view in views} == {True, False}
    assert all(clips[view.clip].start <= view.frame < clips[view.clip].stop for view in views)
    assert all(0 <= view.column <= 37 for view in views)
    assert len({view.corner for view in views}) > 16


@pytest.mark.parametrize(
    ("length", "span", "count"), [(16, 8, 2), (11, 8, 1), (13, 8, 2), (3, 8, 1), (100, 8, 12), (16, None, 1)]
)
def test_a_clip_has_as_many_parts_as_fit_into_it(length, span, count):
    assert parts(Clip("video", 5, 5 + length, 0), span) == count


def test_an_epoch_shows_one_frame_of_every_part(dataset, caches):
    clips = [replace(dataset.train[0], start=2, stop=12), replace(dataset.train[1], start=0, stop=2)]
    where = (caches, DETAIL, Modality.SPATIAL, PRESET)
    seen = {}
    for epoch in range(40):
        samples = ClipSamples(clips, *where, seed=0, augment=True, epoch=epoch, span=3)
        assert sorted(samples.shuffled()) == [0, 1, 2, 3]
        for index in range(4):
            view = samples.view(index)
            seen.setdefault((index, view.clip), set()).add(view.frame)
    assert seen == {(0, 0): {2, 3, 4}, (1, 0): {5, 6, 7}, (2, 0): {8, 9, 10, 11}, (3, 1): {0, 1}}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_processes_change_nothing(dataset, caches):
    def loaded(workers: int) -> list[Sample]:
        preset = changed(PRESET, workers=workers)
        samples = ClipSamples(dataset.train, caches, DETAIL, Modality.TEMPORAL, preset, seed=0, augment=True)
        return list(batches(samples, chunks(samples.shuffled(), 3)))

    state = torch.get_rng_state()
    alone, together = loaded(0), loaded(2)
    assert [len(batch.label) for batch in alone] == [3, 1]
    assert all(same(*pair) for pair in zip(alone, together, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_loader_processes_outlive_sigterm_so_that_a_step_can_be_finished(dataset, caches):
    preset = changed(PRESET, workers=1)
    samples = ClipSamples(dataset.train, caches, DETAIL, Modality.SPATIAL, preset, seed=0, augment=True)
    loaded = batches(samples, [[0]] * 5)
    first = next(loaded)
    for loader in multiprocessing.active_children():
        loader.terminate()
    rest = list(loaded)
    assert len(rest) == 4
    assert all(same(first, batch) for batch in rest)


def test_a_sample_is_named_by_its_frame_counted_from_one(dataset, caches):
    clip = replace(dataset.train[1], start=4, stop=5)
    samples = ClipSamples([clip], caches, DETAIL, Modality.SPATIAL, PRESET, seed=0, augment=True)
    assert samples.name(0) == f"frame 5 of {clip.video}"


def loaded_in_order(folder: Path, work: Path, epoch: int) -> list[Sample]:
    dataset = open_dataset(folder)
    caches = prepare(dataset, PRESET.data, Workspace(work))
    samples = ClipSamples(dataset.train, caches, DETAIL, Modality.TEMPORAL, PRESET, seed=0, augment=True, epoch=epoch)
    return list(batches(samples, chunks(samples.shuffled(), 3)))


def test_a_restart_changes_nothing(dataset, caches):
    """A new process starts with the second epoch, without the first."""
    first = dataset.videos["left/1.avi"]
    work = caches["left/1.avi"]._unit.folder.parents[2]
    here = [loaded_in_order(first.parents[1], work, epoch) for epoch in (0, 1)][1]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        there = pool.submit(loaded_in_order, first.parents[1], work, 1).result()
    assert all(same(*pair) for pair in zip(here, there, strict=True))


def test_random_windows_are_whole_pixel_windows_anywhere_in_the_crop(dataset, caches):
    level, side = PRESET.data.levels[1], PRESET.data.glimpse
    samples = ClipSamples(dataset.train * 16, caches, level, Modality.SPATIAL, PRESET, seed=0, augment=True)
    batch = samples.__getitems__(range(len(samples)))
    windows = theta_to_window(batch.random.double(), (level.height, level.height))
    corners = windows[:, :2].round().int()
    torch.testing.assert_close(windows[:, :2], corners.double(), rtol=0, atol=1e-4)
    assert corners.min() == 0
    assert corners.max() == level.height - side
    assert len(corners.unique(dim=0)) > 50
    glimpses = affine_sample(batch.image, batch.random, (side, side))
    crops = [image[:, y : y + side, x : x + side] for image, (x, y) in zip(batch.image, corners.tolist(), strict=True)]
    torch.testing.assert_close(glimpses, torch.stack(crops), rtol=0, atol=1e-4)


def test_where_nothing_is_drawn_the_window_is_the_center(dataset, caches):
    samples = ClipSamples(dataset.train, caches, DETAIL, Modality.SPATIAL, PRESET, seed=0, augment=False)
    assert torch.equal(samples.__getitems__([0]).random, torch.tensor([[[0.25, 0, 0], [0, 0.25, 0]]]))


def test_an_order_is_a_permutation_of_its_own_epoch(dataset, caches):
    orders = [
        ClipSamples(
            dataset.train * 8, caches, DETAIL, Modality.SPATIAL, PRESET, seed=0, augment=True, epoch=epoch
        ).shuffled()
        for epoch in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == list(range(32))


def test_frame_samples_visit_every_clip_in_order(dataset, caches):
    samples = FrameSamples(dataset.test + dataset.train, caches, DETAIL, Modality.SPATIAL, PRESET)
    batch = samples.__getitems__(range(len(samples)))
    assert samples.lengths == [3, 3, 3, 4, 3, 4]
    assert batch.clip.tolist() == np.repeat(range(6), samples.lengths).tolist()
    assert batch.frame.tolist() == [0, 4, 8] * 3 + [0, 4, 8, 12] + [0, 4, 8] + [0, 4, 8, 12]
    center = (caches["left/10.avi"].width(DETAIL) - DETAIL.height) // 2
    assert same(
        samples.__getitems__([1]),
        sample_of(replace(dataset, train=dataset.test), caches, View(0, 4, center, False), Modality.SPATIAL),
    )


def test_the_next_item_is_made_while_the_last_is_used_and_no_more():
    made, second = [], threading.Event()

    def items():
        for number in range(4):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    coming = ahead(items())
    assert next(coming) == 0
    assert second.wait(timeout=60)
    assert made == [0, 1]
    assert list(coming) == [1, 2, 3]


def test_what_goes_wrong_with_an_item_is_raised_where_that_item_would_be_used():
    def items():
        yield 0
        raise OSError("cannot be read")

    coming = ahead(items())
    assert next(coming) == 0
    with pytest.raises(OSError, match="cannot be read"):
        next(coming)


def test_a_caller_that_stops_early_leaves_no_thread_behind():
    before = threading.enumerate()
    coming = ahead(iter(range(3)))
    assert next(coming) == 0
    coming.close()
    assert threading.enumerate() == before
