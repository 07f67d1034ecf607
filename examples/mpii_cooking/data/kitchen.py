"""A small synthetic kitchen, written as files in the format of MPII Cooking.

Each of twelve subjects prepares a dish. A class is a thing in the hand (its fine texture shows which), a movement of
the hand (only flow shows it, a single frame does not) and a place in the room (the appliance in use shows it, far from
the hands). The body has the largest motion: the window with the most motion shows the person, and how much it shows of
the thing depends on how far off the hand works. Nothing else depends on the class: where the person stands, colors,
positions, light and clutter are random.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mpii_cooking.config import KitchenSize
from examples.mpii_cooking.data import mpii, video
from examples.mpii_cooking.data.dataset import Cues
from examples.mpii_cooking.data.kitchen_scene import FRAME, Pose, Scene, draw_thing
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import say_what_no_longer_fits
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.workspace import Workspace

THINGS = ("leek", "salami", "cheese", "cabbage", "fish", "onion")
MOVEMENTS = ("hold", "slice", "chop", "stir")  # which moves along x, y: neither, x, y, both
PLACES = ("at window", "at stove", "at fridge")


class Activity(NamedTuple):
    """One class: indices into the names of things, movements and places."""

    thing: int
    movement: int
    place: int

    @property
    def name(self) -> str:
        """Return the name of the class."""
        return f"{MOVEMENTS[self.movement]} {THINGS[self.thing]} {PLACES[self.place]}"


ACTIVITIES = (
    Activity(0, 1, 0),  # these two differ in the movement alone
    Activity(0, 2, 0),
    Activity(1, 3, 2),  # these two in the place alone
    Activity(1, 3, 1),
    Activity(2, 0, 1),  # a thing of their own each, but no movement and place
    Activity(3, 0, 1),
    Activity(4, 1, 0),
    Activity(5, 2, 2),
)
"""The table of classes. The thing decides three quarters of them, the movement half, the place three eighths."""

_ANNOTATIONS = "detectionGroundtruth-1-0.csv"
_FILE_NAME = "s{:02d}-d01-cam-002"  # by the subject's number
_IDLE = 5  # frames before the first action and between two actions


class Action(NamedTuple):
    """One interval of frames in which the person does one activity."""

    start: int  # first frame, counted from 0
    stop: int
    label: int  # index into the activities
    annotated_stop: int  # one past the last annotated frame; a few annotations reach into the next action

    @property
    def activity(self) -> Activity:
        """Return what is done."""
        return ACTIVITIES[self.label]


def make_kitchen(folder: Path, size: KitchenSize, seed: int) -> None:
    """Write ``folder/videos/*.avi``, their cues and the annotation file, unless they are there and whole."""
    unit = Workspace(folder.parent).unit(folder.name, {"size": size, "seed": seed} | made_by(__name__))
    say_what_no_longer_fits("kitchen", [unit])
    if unit.done:
        return
    plans = {
        subject: _plan(size, np.random.default_rng((seed, subject, 0)))
        for subject in sorted(mpii.TRAIN_SUBJECTS + mpii.TEST_SUBJECTS)
    }
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda subject: _film(folder, subject, plans[subject], size, seed), plans)
        boxes = list(tqdm(made, total=len(plans), desc="synthetic kitchen", unit="video"))
    values = dict(zip(Activity._fields, zip(*ACTIVITIES[: size.classes], strict=True), strict=True))
    mpii.write_cues(folder, Cues(values, dict(zip(map(_FILE_NAME.format, plans), boxes, strict=True))))
    with written_aside(folder / _ANNOTATIONS) as aside:
        rows = (row for subject, actions in plans.items() for row in _rows(subject, actions))
        aside.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    unit.commit(_ANNOTATIONS, mpii.CUES, *map(_video_name, plans))


def _plan(size: KitchenSize, rng: np.random.Generator) -> list[Action]:
    """Order the actions."""
    actions, now = [], _IDLE
    for label in rng.permutation(np.arange(size.classes).repeat(size.clips)).tolist():
        stop = now + round(size.frames * rng.uniform(0.85, 1.15))
        hurried = rng.random() < 0.1
        actions.append(Action(now, stop, label, stop + 2 * hurried))
        now = stop if hurried else stop + _IDLE
    actions[-1] = actions[-1]._replace(annotated_stop=actions[-1].stop)
    return actions


def _rows(subject: int, actions: list[Action]) -> list[str]:
    """Annotate one video: its actions, then the background between them."""
    prefix = f"{subject},{_FILE_NAME.format(subject)}"
    rows = []
    for action in actions:
        category = mpii.BACKGROUND + 1 + action.label
        rows.append(f"{prefix},{action.start + 1},{action.annotated_stop},{category},{action.activity.name}")
    ends = [0, *(action.stop for action in actions[:-1])]
    for end, action in zip(ends, actions, strict=True):
        if action.start > end:
            rows.append(f"{prefix},{end + 1},{action.start},{mpii.BACKGROUND}, Background activity")
    return rows


def _film(folder: Path, subject: int, actions: list[Action], size: KitchenSize, seed: int) -> NDArray[np.float32]:
    """Write one video, and return the boxes of its things, (frames, 4)."""
    rng = np.random.default_rng((seed, subject, 1))
    scene = Scene((size.width, size.height), rng)
    poses = _poses(actions, size.distance, rng)
    things = [draw_thing(action.activity.thing, rng, scene.unit) for action in actions]
    current = _current_action(actions)
    held = [things[index] if now >= actions[index].start else None for now, index in enumerate(current)]
    with video.new_video(folder / _video_name(subject), "mjpeg", rate=15) as writer:
        for pose, index, thing in zip(poses, current, held, strict=True):
            writer.write(scene.frame(pose, actions[index].activity.place, thing, rng))
    return np.array([scene.box(pose, thing) for pose, thing in zip(poses, held, strict=True)], np.float32)


def _video_name(subject: int) -> str:
    return f"videos/{_FILE_NAME.format(subject)}.avi"


def _poses(actions: list[Action], distance: tuple[float, float], rng: np.random.Generator) -> list[Pose]:
    """Move the person: sway throughout, a new stance for every action, and the action's movement of the hand."""
    current = _current_action(actions)
    time, count = np.arange(len(current)), len(actions)
    stances = np.array([FRAME[0] / 2 + rng.uniform(-16, 16), 104.0]) + rng.normal(0, (4, 2), (count, 2))
    stance = _glide(stances, actions, time)
    sides = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    rests = stances + np.column_stack([sides * rng.uniform(*distance, count), np.full(count, 8.0)])
    hand = _glide(rests, actions, time) + rng.normal(0, 0.25, (len(time), 2))
    for action in actions:
        frames, reach = slice(action.start, action.stop), rng.uniform(6.5, 7.5)
        for axis in (0, 1):
            wave, still = _wave(time[frames], rng.uniform(6, 8), rng), np.sin(rng.uniform(0, 2 * np.pi))
            # As far off if it is still: where the hand is in one frame says nothing about the movement.
            hand[frames, axis] += reach * (wave if action.activity.movement >> axis & 1 else still)
    body = stance + np.column_stack([8.0 * _wave(time, 11.0, rng), 0.7 * _wave(time, 9.0, rng)])
    body += np.column_stack([1.5 * _wave(time, 7.3, rng), 0.8 * _wave(time, 5.7, rng)])
    other = stance + np.column_stack([-sides[current] * 17.0, np.full(len(time), 15.0)])
    head = stance + 0.4 * (body - stance) - (0.0, 24.0)  # held steadier than the body, as it watches the hands
    lean = 3.0 * _wave(time, 13.0, rng)
    brightness = 1 + 0.08 * _wave(time, 60.0, rng) + rng.normal(0, 0.01, len(time))
    tracks = (track.tolist() for track in (body, head, lean, hand, other, brightness))
    return [Pose(*moment) for moment in zip(*tracks, strict=True)]


def _glide(positions: np.ndarray, actions: list[Action], time: np.ndarray) -> np.ndarray:
    """Hold one position during each action and move evenly to the next one in between."""
    when = np.array([moment for action in actions for moment in (action.start, action.stop - 1)])
    return np.stack([np.interp(time, when, np.repeat(track, 2)) for track in positions.T], axis=1)


def _wave(time: np.ndarray, period: float, rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * (time / (period * rng.uniform(0.9, 1.1)) + rng.random()))


def _current_action(actions: list[Action]) -> np.ndarray:
    """Return, for every frame, the index of the action under way or, in between, of the next one."""
    return np.searchsorted([action.stop for action in actions], np.arange(actions[-1].stop), side="right")
