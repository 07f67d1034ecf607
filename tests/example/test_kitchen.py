"""The synthetic kitchen: a folder like the real one, the same every time, whose cues are where they should be."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.mpii_cooking.config import KitchenSize
from examples.mpii_cooking.data import kitchen, mpii, video
from examples.mpii_cooking.data.kitchen import ACTIVITIES, MOVEMENTS, PLACES, THINGS
from examples.mpii_cooking.data.kitchen_scene import Scene, draw_thing
from examples.mpii_cooking.data.readers import open_dataset

TINY = KitchenSize(classes=8, clips=1, frames=6)
SMALL = KitchenSize(classes=4, clips=1, frames=3)


def test_the_kitchen_is_an_mpii_folder(tmp_path):
    kitchen.make_kitchen(tmp_path, TINY, seed=0)
    dataset = open_dataset(tmp_path)
    assert len(dataset.videos) == 12
    assert dataset.classes[0] == "slice leek at window"
    assert dataset.classes[-1] == "chop onion at fridge"
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kitchen")
    kitchen.make_kitchen(folder, SMALL, seed=0)
    return folder


def test_the_kitchen_is_the_same_every_time_and_is_written_once(tmp_path, small):
    kitchen.make_kitchen(tmp_path, SMALL, seed=0)
    assert contents(tmp_path) == contents(small)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    kitchen.make_kitchen(tmp_path, SMALL, seed=0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == written


def flip_a_bit(path: Path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero_a_block(path: Path):
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(200) + content[300:])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("videos/s12-d01-cam-002.avi", flip_a_bit),
        ("videos/s12-d01-cam-002.avi", zero_a_block),
        ("videos/s12-d01-cam-002.avi", Path.unlink),
        ("cues.json", flip_a_bit),
        ("detectionGroundtruth-1-0.csv", zero_a_block),
        ("manifest.json", lambda path: path.write_bytes(b"")),
    ],
)
def test_what_was_damaged_in_a_kitchen_is_made_again(tmp_path, small, name, damage):
    shutil.copytree(small, tmp_path / "kitchen")
    damage(tmp_path / "kitchen" / name)
    kitchen.make_kitchen(tmp_path / "kitchen", SMALL, seed=0)
    made = contents(tmp_path / "kitchen")
    assert {name: content for name, content in made.items() if not name.endswith(".damaged")} == contents(small)


def test_a_kitchen_whose_writer_was_killed_is_made_again_with_another_seed(tmp_path, small):
    shutil.copytree(small, tmp_path / "killed")
    (tmp_path / "killed" / "manifest.json").unlink()
    for name in ("killed", "new"):
        kitchen.make_kitchen(tmp_path / name, SMALL, seed=1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "new") != contents(small)


def test_how_much_each_cue_says_of_the_class():
    """The best answer from some cues is right once for every combination of their values."""
    rows = np.array(ACTIVITIES)
    assert rows.max(axis=0).tolist() == [len(THINGS) - 1, len(MOVEMENTS) - 1, len(PLACES) - 1]
    thing, movement, place = 0, 1, 2
    told = {
        cues: len(np.unique(rows[:, cues], axis=0))
        for cues in [(thing,), (movement,), (place,), (thing, movement), (thing, place), (movement, place), (0, 1, 2)]
    }
    assert list(told.values()) == [6, 4, 3, 7, 7, 6, 8]


def test_the_folder_says_what_tells_the_classes_apart(tmp_path):
    kitchen.make_kitchen(tmp_path, TINY, seed=0)
    dataset = open_dataset(tmp_path)
    for label, name in enumerate(dataset.classes):
        thing, movement, place = (dataset.cues.values[cue][label] for cue in ("thing", "movement", "place"))
        assert name == f"{MOVEMENTS[movement]} {THINGS[thing]} {PLACES[place]}"
    assert list(dataset.cues.boxes) == list(dataset.videos)


def test_the_boxes_are_where_the_things_are():
    """Between the frames with a thing and the same frames without it, nothing differs but in the boxes."""
    size = replace(TINY, frames=8, width=408, height=308)
    rng = np.random.default_rng(0)
    actions = kitchen._plan(size, rng)
    scene = Scene((size.width, size.height), rng)
    poses = kitchen._poses(actions, size.distance, rng)
    for action in actions:
        thing = draw_thing(action.activity.thing, rng, scene.unit)
        pose = poses[action.start]
        left, top, width, height = scene.box(pose, thing)
        with_thing, without = (
            scene.frame(pose, 0, held, np.random.default_rng(1)).astype(int) for held in (thing, None)
        )
        rows, columns = np.nonzero(np.abs(with_thing - without).max(2) > 8)
        assert (left, top) == pytest.approx((columns.min(), rows.min()), abs=1.5)
        assert (left + width, top + height) == pytest.approx((columns.max() + 1, rows.max() + 1), abs=1.5)
        assert np.isnan(scene.box(pose, None)).all()


def test_frames_between_actions_have_no_box(tmp_path):
    kitchen.make_kitchen(tmp_path, SMALL, seed=0)
    dataset = open_dataset(tmp_path)
    for key, path in dataset.videos.items():
        boxes = dataset.cues.boxes[key]
        assert boxes.shape == (video.count_frames(path), 4)
        labeled = np.zeros(len(boxes), bool)
        for clip in dataset.train + dataset.test:
            if clip.video == key:
                labeled[clip.start : clip.stop] = True
        assert not np.isnan(boxes[labeled][:, 0]).all()
        assert np.isnan(boxes[: kitchen._IDLE]).all()
