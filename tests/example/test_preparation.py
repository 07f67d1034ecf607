"""Preparation: caches and profiles against what they were made from."""

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, DataError
from examples.mpii_cooking.data.preparation import prepare, window_side
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.workspace import Workspace
from supervised_st.motion import MotionWindowTarget
from tests.helpers.small_videos import PRESET, moving_patch, stack_of, truncate, write


def test_caches_hold_every_frame_at_every_level(dataset, caches):
    key = "left/2.avi"
    cache, frames = caches[key], list(video.decode(dataset.videos[key]))
    assert cache.frames == len(frames) == 13
    for level in PRESET.data.levels:
        assert cache.rgb(level, 12).shape == (level.height, cache.width(level), 3)
        assert cache.flow(level, 12).shape == (2, level.height, cache.width(level))
        large = cv2.resize(frames[12], (cache.width(level), level.height), interpolation=cv2.INTER_AREA)
        assert np.abs(cache.rgb(level, 12).astype(int) - large).mean() < 6


def test_prepared_profiles_equal_a_search_in_the_cached_flow(caches):
    for cache in caches.values():
        for level in PRESET.data.levels:
            search = MotionWindowTarget(window_side(PRESET.data, level), bound=PRESET.data.flow_bound)
            stacks = torch.stack([stack_of(cache, frame) for frame in range(cache.frames)])
            direct = search.profile(stacks)
            score, row = zip(*(cache.profile(level, frame) for frame in range(cache.frames)), strict=True)
            np.testing.assert_array_equal(score, direct.score.numpy())
            np.testing.assert_array_equal(row, direct.row.numpy())


def test_prepared_scores_are_sums_over_windows_one_by_one(caches):
    cache = caches["left/10.avi"]
    stored = video.FrameCache(cache._unit.path("flow.mkv"))
    raw = np.stack([stored[number] for number in range(cache.frames)])
    flows = (raw.reshape(cache.frames, 2, PRESET.data.flow_height, -1) - 128.0) * 2 * PRESET.data.flow_bound / 255
    level = PRESET.data.levels[0]
    side = window_side(PRESET.data, level)
    for frame in (0, 6, cache.frames - 1):
        around = np.clip(np.arange(frame - 5, frame + 5), 0, cache.frames - 1)
        motion = (flows[around] ** 2).sum(1).mean(0)
        height, width = motion.shape
        sums = np.array(
            [
                [motion[y : y + side, x : x + side].sum() for x in range(width - side + 1)]
                for y in range(height - side + 1)
            ]
        )
        score, row = cache.profile(level, frame)
        np.testing.assert_allclose(score, sums.max(0), rtol=1e-10)  # maps are rounded to 2^-52 of their sum
        np.testing.assert_allclose(sums[row, np.arange(len(row))], sums.max(0), rtol=1e-10)


def test_flow_is_resized_while_its_values_stay_displacements_of_the_flow_grid(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number, size=(48, 96)))
    general, _, detail = PRESET.data.levels
    preset = replace(PRESET.data, flow_height=2 * general.height)
    cache = prepare(open_dataset(tmp_path), preset, Workspace(tmp_path / "work"))["left/1.avi"]
    raw = video.FrameCache(cache._unit.path("flow.mkv"))[1].reshape(1, 2, preset.flow_height, -1)
    assert np.ptp(raw) > 20, "with values scaled by the zoom this test would fail"
    raw = torch.from_numpy(raw).float()
    smaller = torch.nn.functional.avg_pool2d(raw, 2)[0]
    larger = torch.nn.functional.interpolate(raw, (detail.height, cache.width(detail)), mode="bilinear")[0]
    for level, expected in ((general, smaller), (detail, larger)):
        torch.testing.assert_close(torch.from_numpy(cache.flow(level, 1)).float(), expected, rtol=0, atol=1)


def test_preparation_keeps_nothing_of_the_frames_it_is_past(tmp_path, monkeypatch):
    for name, number in product(("left", "right"), (1, 2)):
        write(tmp_path / name / f"{number}.avi", moving_patch(104 if (name, number) == ("left", 1) else 3, 0))
    held = []

    def counted(path: Path, decode=video.decode) -> Iterator[np.ndarray]:
        for count, frame in enumerate(decode(path)):
            if count in (30, 94):  # a multiple of the frames that are searched at a time lies between
                gc.collect()
                tensors = sum(type(thing) is torch.Tensor for thing in gc.get_objects())
                held.append((tensors, tracemalloc.get_traced_memory()[0]))
            yield frame

    monkeypatch.setattr(video, "decode", counted)
    monkeypatch.setattr("examples.mpii_cooking.data.preparation._PARALLEL", 1)
    tracemalloc.start()
    prepare(open_dataset(tmp_path), PRESET.data, Workspace(tmp_path / "work"))
    tracemalloc.stop()
    (tensors, memory), (later_tensors, later_memory) = held
    assert later_tensors == tensors
    assert later_memory - memory < 64 * 256  # bytes, of all frames in between


def test_a_second_preparation_only_reads(dataset, tmp_path, monkeypatch):
    prepare(dataset, PRESET.data, Workspace(tmp_path))
    monkeypatch.setattr(video, "decode", lambda path: pytest.fail(f"{path} was decoded again"))
    prepare(dataset, PRESET.data, Workspace(tmp_path))


def test_a_video_that_changes_while_it_is_prepared_is_an_error(tmp_path, monkeypatch):
    for name, number in product(("left", "right"), (1, 2)):
        write(tmp_path / name / f"{number}.avi", moving_patch(3, number))
    dataset = open_dataset(tmp_path)

    def exchanged(path: Path, decode=video.decode) -> Iterator[np.ndarray]:
        if path == tmp_path / "left" / "1.avi":
            write(path, moving_patch(3, 7))
        return decode(path)

    monkeypatch.setattr(video, "decode", exchanged)
    first = (tmp_path / "left" / "1.avi").read_bytes()
    with pytest.raises(
        DataError, match=r"finding\):\n  .*left/1\.avi was changed while it was prepared\n.*start again"
    ):
        prepare(dataset, PRESET.data, Workspace(tmp_path / "work"))
    monkeypatch.undo()
    (tmp_path / "left" / "1.avi").write_bytes(first)
    caches = prepare(dataset, PRESET.data, Workspace(tmp_path / "work"))
    expected = prepare(dataset, PRESET.data, Workspace(tmp_path / "undisturbed"))
    assert {key: cache.content for key, cache in caches.items()} == {
        key: cache.content for key, cache in expected.items()
    }, "nothing of the other content was kept under the digest of this one"


def test_a_profile_that_was_cut_off_is_an_error(dataset, tmp_path):
    cache, level = prepare(dataset, PRESET.data, Workspace(tmp_path))["left/1.avi"], PRESET.data.levels[0]
    last = cache.frames - 1
    assert len(cache.profile(level, last)[0]) == len(cache.profile(level, 0)[0])
    path = cache._unit.file("windows-general-score.bin")
    path.write_bytes(path.read_bytes()[:-1])
    assert len(cache.profile(level, 0)[0])
    with pytest.raises(DataError, match=r"left/1\.avi was changed while it was read: start again"):
        cache.profile(level, last)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_profiles_leave_no_file_open(caches):
    """There may be more videos than a process may have open files, which is 1024 on many machines."""
    before = len([*Path("/proc/self/fd").iterdir()])
    rows = [cache.profile(level, 1) for cache in caches.values() for level in PRESET.data.levels]
    assert len(rows) == 18
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_all_unusable_videos_are_named_before_any_is_prepared(tmp_path, monkeypatch):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(60, number))
    dataset = open_dataset(tmp_path)
    truncate(tmp_path / "left" / "2.avi")
    write(tmp_path / "right" / "1.avi", moving_patch(4, 0, size=(64, 48)))
    write(tmp_path / "right" / "2.avi", moving_patch(4, 0))
    monkeypatch.setattr(video, "decode", lambda path: pytest.fail(f"{path} was decoded"))
    with pytest.raises(DataError, match=r"cannot be used \(3 findings\)") as caught:
        prepare(dataset, PRESET.data, Workspace(tmp_path / "work"))
    assert "left/2.avi is cut off" in str(caught.value)
    assert "right/1.avi must be at least as wide as high, got 48 x 64" in str(caught.value)
    assert "right/2.avi has 4 frames, but its clip of frames 1 to 60 (right/2.avi) needs more" in str(caught.value)


def test_clips_beyond_the_end_of_their_video_are_listed(dataset, caches, tmp_path):
    beyond = tuple(Clip("left/1.avi", 5, stop, 0, f"rows.csv row {stop}") for stop in (12, 13, 14))
    with pytest.raises(DataError, match=r"cannot be used \(2 findings\)") as caught:
        prepare(replace(dataset, train=beyond), PRESET.data, Workspace(tmp_path))
    assert "has 12 frames, but its clip of frames 6 to 13 (rows.csv row 13) needs more" in str(caught.value)
    assert "row 14" in str(caught.value)
