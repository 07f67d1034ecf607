"""The synthetic kitchen: a folder like the real one, the same every time, whose cues are where they should be."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from examples.mpii_cooking.config import PRESETS, KitchenSize
from examples.mpii_cooking.data import kitchen, kitchen_scene, mpii, preparation, video
from examples.mpii_cooking.data.readers import open_dataset

TINY = KitchenSize(objects=2, movements=2, places=2, clips=1, frames=6)


def test_the_kitchen_is_an_mpii_folder(tmp_path):
    kitchen.make_kitchen(tmp_path, TINY, seed=0)
    dataset = open_dataset(tmp_path)
    assert len(dataset.videos) == 12
    assert dataset.classes[0] == "slice leek at window"
    assert dataset.classes[-1] == "chop salami at stove"
    assert Counter(clip.label for clip in dataset.train) == dict.fromkeys(range(8), 5)
    assert Counter(clip.label for clip in dataset.test) == dict.fromkeys(range(8), 7)
    last = {}
    for clip in dataset.train + dataset.test:
        last[clip.video] = max(last.get(clip.video, 0), clip.stop)
    for key, path in dataset.videos.items():
        frames = list(video.decode(path))
        assert len(frames) == last[key]
        assert frames[0].shape == (154, 204, 3)


def test_each_fold_of_the_kitchen_tests_one_subject(tmp_path):
    kitchen.make_kitchen(tmp_path, TINY, seed=0)
    for fold in mpii.TEST_SUBJECTS:
        dataset = open_dataset(tmp_path, mpii.choose_split("loso7", fold))
        assert Counter(clip.label for clip in dataset.train) == dict.fromkeys(range(8), 11)
        assert Counter((clip.video, clip.label) for clip in dataset.test) == {
            (f"s{fold:02d}-d01-cam-002", label): 1 for label in range(8)
        }


def test_the_kitchen_is_the_same_every_time_and_resumes_where_it_stopped(tmp_path):
    def made(folder: str, seed: int = 0) -> dict[str, bytes]:
        size = replace(TINY, places=1, frames=3)
        kitchen.make_kitchen(tmp_path / folder, size, seed)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).rglob("*") if path.is_file()}

    first = made("a")
    kept, lost = (tmp_path / "a" / "videos" / f"s{subject}-d01-cam-002.avi" for subject in (11, 12))
    lost.unlink()
    written = kept.stat().st_mtime_ns
    assert made("a") == first == made("b")
    assert kept.stat().st_mtime_ns == written
    assert made("b", seed=1)[kept.name] != first[kept.name]


def test_a_kitchen_opens_after_its_writer_was_killed_and_is_not_written_again(tmp_path):
    size = replace(TINY, places=1, frames=3)
    kitchen.make_kitchen(tmp_path, size, seed=0)
    rows = tmp_path / "detectionGroundtruth-1-0.csv"
    (tmp_path / f".123.{rows.name}").write_bytes(rows.read_bytes()[:50])
    written = rows.stat()
    kitchen.make_kitchen(tmp_path, size, seed=0)
    assert (rows.stat().st_ino, rows.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert len(open_dataset(tmp_path).videos) == 12


def test_the_objects_differ_in_the_direction_of_fine_stripes_alone():
    def gray(kind: int, seed: int) -> np.ndarray:
        return kitchen_scene.draw_object(kind, np.random.default_rng(seed), 1.0)[5:15, 5:15, :3].mean(2)

    upright, lying, plain = (np.stack([gray(kind, seed) for seed in range(300)]) for kind in range(3))
    assert upright.mean() == pytest.approx(plain.mean(), rel=0.01)
    assert lying.mean() == pytest.approx(plain.mean(), rel=0.01)
    assert upright.std(axis=(1, 2)).mean() == pytest.approx(lying.std(axis=(1, 2)).mean(), rel=0.02)
    assert plain.std(axis=(1, 2)).mean() < 1e-3
    across, along = (np.abs(np.diff(upright, axis=axis)).mean() for axis in (2, 1))
    assert across > 2.5 * along


def test_stripes_survive_windows_between_pixels_at_the_closer_levels_alone():
    """A learned window lies anywhere; what only whole-pixel windows show is no cue to learn from."""

    def stripes(kind: int, height: int, shift: float) -> np.ndarray:
        objects = []
        for seed in range(100):
            frame = np.zeros((154, 154, 3), np.float32)
            sprite = kitchen_scene.draw_object(kind, np.random.default_rng(seed), 1.0)
            side = sprite.shape[0]
            frame[67 : 67 + side, 67 : 67 + side] = sprite[..., :3]
            small = preparation.resize(frame, (height, height)).mean(2)
            blended = (1 - shift) * small[:, :-1] + shift * small[:, 1:]
            middle, reach = 77 * height // 154, 5 * height // 154  # inside the object
            objects.append(blended[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1])
        return np.stack(objects)

    def kept(level: str, shift: float) -> float:
        height = next(each.height for each in PRESETS["quick"].data.levels if each.name == level)
        return (stripes(0, height, shift) - stripes(2, height, shift)).std() / (95 / 2**0.5)

    assert kept("detail", 0.5) > 0.7
    assert kept("middle", 0.5) > 1 / 3
    assert kept("general", 0.5) < 0.2
    assert kept("general", 0.0) < 0.5


def test_one_frame_does_not_show_where_the_hand_is_going():
    """Slicing and chopping hands are equally often at any distance from their resting place."""
    size = replace(TINY, frames=16, clips=60)
    rng = np.random.default_rng(0)
    room = kitchen_scene.Scene((204, 154), rng)
    plan = kitchen._plan(size, rng)
    hands = np.array([pose.hand for pose in kitchen._poses(plan, room, rng)])
    reach = {0: [], 1: []}
    for action in plan:
        centered = hands[action.start : action.stop] - np.array([room.place_x[action.place], 100.0])
        reach[action.movement].append(centered)
    slicing, chopping = (np.concatenate(reach[movement]) for movement in (0, 1))
    for axis in (0, 1):
        spread = [np.std(np.abs(part[:, axis] - part[:, axis].mean())) for part in (slicing, chopping)]
        assert spread[0] == pytest.approx(spread[1], rel=0.15)
