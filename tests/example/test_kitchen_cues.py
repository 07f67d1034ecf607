"""What tells the kitchen's classes apart is where it should be, and nowhere else."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from examples.mpii_cooking.config import KitchenSize
from examples.mpii_cooking.data import kitchen
from examples.mpii_cooking.data.caches import resize
from examples.mpii_cooking.data.kitchen import MOVEMENTS, THINGS
from examples.mpii_cooking.data.kitchen_scene import Scene, draw_thing
from examples.mpii_cooking.presets import PRESETS
from supervised_st import affine_sample

SIZE = KitchenSize(classes=8, clips=1, frames=16)
DETAIL = PRESETS["quick"].data.levels[2].height
GLIMPSE = PRESETS["quick"].data.glimpse
GRAY = np.array([0.299, 0.587, 0.114])


def told(features, labels):
    """The share of the last third that a support vector machine tells after learning from the others."""
    cut = 2 * len(labels) // 3
    machine = make_pipeline(StandardScaler(), PCA(40 if features.shape[1] > 40 else None, random_state=0), SVC(C=3))
    return machine.fit(features[:cut], labels[:cut]).score(features[cut:], labels[cut:])


@pytest.fixture(scope="module")
def moments():
    """One frame of every clip of 150 kitchens, in each of which things go with any movement and place."""
    found = []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        scene = Scene((204, 154), rng)
        plan = kitchen._plan(SIZE, rng)
        poses = kitchen._poses(plan, SIZE.distance, rng)
        for action in plan:
            pose, thing = poses[rng.integers(action.start, action.stop)], int(rng.integers(len(THINGS)))
            held = draw_thing(thing, rng, scene.unit)
            frame = scene.frame(pose, action.activity.place, held, rng)
            found.append((frame, scene.box(pose, held), action.label, thing))
    return found


def sampled(frame, box):
    """The glimpse of a window at detail level: the whole crop, or the level's window with a box in its center."""
    image = resize(frame, (DETAIL, round(204 * DETAIL / 154)))
    left = (image.shape[1] - DETAIL) // 2
    pixels = torch.from_numpy(image[:, left : left + DETAIL].copy()).permute(2, 0, 1)[None].float()
    theta = torch.eye(2, 3)[None]
    if box is not None:
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        center = torch.tensor([x * DETAIL / 154 - left, y * DETAIL / 154]) * (2 / DETAIL) - 1
        theta = torch.cat([torch.eye(2) * (GLIMPSE / DETAIL), center[:, None]], dim=1)[None]
    return affine_sample(pixels, theta, (GLIMPSE, GLIMPSE), antialias=True)[0].numpy()


def spectrum(glimpse):
    """How much there is of each wave, wherever it is."""
    return np.abs(np.fft.rfft2(glimpse - glimpse.mean((1, 2), keepdims=True))).ravel()


def test_the_whole_frame_does_not_show_the_thing_but_a_window_around_it_does(moments):
    """Both are sampled with as many pixels, averaged over their area; chance is a sixth."""
    things = np.array([thing for *_, thing in moments])
    whole = [sampled(frame, None) for frame, *_ in moments]
    windows = [sampled(frame, box) for frame, box, *_ in moments]
    assert told(np.stack([glimpse.ravel() for glimpse in whole]), things) < 1 / 6 + 0.1
    assert told(np.stack([spectrum(glimpse) for glimpse in whole]), things) < 1 / 6 + 0.1
    assert told(np.stack([spectrum(glimpse) for glimpse in windows]), things) > 0.9


def test_without_thing_and_appliances_a_frame_tells_nothing(moments):
    """Neither does the place where the thing was. With the appliances, the same machine tells more."""
    labels = np.array([label for *_, label, _ in moments])
    masked, lit = [], []
    for frame, box, *_ in moments:
        hidden = frame.copy()
        left, top, width, height = (round(each) for each in box)
        hidden[top - 2 : top + height + 2, left - 2 : left + width + 2] = 128
        lit.append(sampled(hidden, None).ravel())
        hidden[:46] = 128
        masked.append(sampled(hidden, None).ravel())
    assert told(np.stack(masked), labels) < 1 / 8 + 0.06
    assert told(np.stack(lit), labels) > 1 / 8 + 0.1


def test_pose_distance_and_duration_tell_nothing():
    rows, labels = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        plan = kitchen._plan(SIZE, rng)
        poses = kitchen._poses(plan, SIZE.distance, rng)
        for action in plan:
            pose = poses[rng.integers(action.start, action.stop)]
            rows.append([action.stop - action.start, *np.hstack(pose)])
            labels.append(action.label)
    assert told(np.array(rows), np.array(labels)) < 1 / 8 + 0.04


def test_the_hand_is_equally_often_anywhere_whatever_its_movement():
    """In single frames; in each direction it follows the arcsine law, whether it moves that way or not."""
    found = {movement: [] for movement in range(len(MOVEMENTS))}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        plan = kitchen._plan(SIZE, rng)
        poses = kitchen._poses(plan, (20.0, 20.0), rng)
        for action in plan:
            for pose in poses[action.start : action.stop]:
                torso = (np.array(pose.head) - 0.4 * np.array(pose.body) + np.array([0, 24])) / 0.6
                x, y = np.array(pose.hand) - torso
                found[action.activity.movement].append((abs(x) - 20, y - 8))
    chances = np.linspace(0.1, 0.9, 9)
    for offsets in found.values():
        for axis in np.transpose(offsets):
            assert np.quantile(axis, chances) == pytest.approx(7 * np.sin(np.pi * (chances - 0.5)), abs=0.9)


def test_the_distance_moves_the_hand_and_nothing_else():
    def poses(distance):
        rng = np.random.default_rng(0)
        plan = kitchen._plan(SIZE, rng)
        return plan, kitchen._poses(plan, (distance, distance), rng)

    plan, near = poses(10.0)
    _, far = poses(30.0)
    for action in plan:
        for a, b in zip(near[action.start : action.stop], far[action.start : action.stop], strict=True):
            assert np.abs(np.subtract(b.hand, a.hand)) == pytest.approx((20, 0))
            assert a._replace(hand=b.hand) == b


def test_gray_shows_neither_thing_nor_place():
    """So flow, which is computed from gray frames, cannot show them."""
    for seed in range(20):
        things = [draw_thing(kind, np.random.default_rng(seed), 1.0).sprite for kind in range(len(THINGS))]
        for thing in things[1:]:
            assert np.abs((thing - things[0])[..., :3]).max() > 50
            assert np.abs((thing - things[0])[..., :3] @ GRAY).mean() < 1.5
    rooms = Scene((204, 154), np.random.default_rng(0))._rooms
    for room in rooms[1:]:
        assert np.abs(room - rooms[0]).max() > 50
        assert np.abs((room - rooms[0]) @ GRAY).max() < 1
