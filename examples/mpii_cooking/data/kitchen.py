"""A small synthetic kitchen, written as files in the format of MPII Cooking.

Each of twelve subjects prepares a dish. A class is an object in the hand (its fine stripes show which), a movement of
the hand (only flow shows it, a single frame does not) and a place in the room (the appliance in use shows it, far from
the hands). The body has the largest motion: the window with the most motion shows the person, and the object lies near
the window's edge. Nothing else depends on the label: colors, positions, light and clutter are random, and a kitchen may
be mirrored.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from examples.mpii_cooking.config import KitchenSize
from examples.mpii_cooking.data import mpii, video
from examples.mpii_cooking.data.kitchen_scene import FRAME, Pose, Scene, draw_object
from examples.mpii_cooking.workspace import write_json, written_aside

OBJECTS = ("leek", "salami", "cheese")
MOVEMENTS = ("slice", "chop")
PLACES = ("at window", "at stove")
VERSION = 4  # raised when the pictures change
_FILE_NAME = "s{:02d}-d01-cam-002"  # by the subject's number
_IDLE = 5  # frames before the first action and between two actions


class Action(NamedTuple):
    """One interval of frames in which the person does one action."""

    start: int  # first frame, counted from 0
    stop: int
    object: int
    movement: int
    place: int
    annotated_stop: int  # one past the last annotated frame; a few annotations reach into the next action


def make_kitchen(folder: Path, size: KitchenSize, seed: int) -> None:
    """Write ``folder/videos/*.avi`` and the annotation file. Complete files are kept if size and seed are the same."""
    note = folder / "recipe.json"
    recipe = {"size": asdict(size), "seed": seed, "version": VERSION}
    if not (note.is_file() and json.loads(note.read_text(encoding="utf-8")) == recipe):
        for old in (*folder.glob("*.csv"), *folder.glob("videos/*.avi")):
            old.unlink()
        write_json(note, recipe)
    plans = {
        subject: _plan(size, np.random.default_rng((seed, subject, 0)))
        for subject in sorted(mpii.TRAIN_SUBJECTS + mpii.TEST_SUBJECTS)
    }
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        made = pool.map(lambda subject: _film(folder, subject, plans[subject], size, seed), plans)
        list(tqdm(made, total=len(plans), desc="synthetic kitchen", unit="video"))
    annotations = folder / "detectionGroundtruth-1-0.csv"
    if not annotations.is_file():
        with written_aside(annotations) as aside:
            rows = (row for subject, actions in plans.items() for row in _rows(subject, actions, size))
            aside.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _plan(size: KitchenSize, rng: np.random.Generator) -> list[Action]:
    """Order the actions: all of one place, then all of the other, as a dish would be prepared."""
    actions, now = [], _IDLE
    for place in rng.permutation(size.places):
        kinds = [*product(range(size.objects), range(size.movements))] * size.clips
        for which in rng.permutation(len(kinds)):
            stop = now + round(size.frames * rng.uniform(0.85, 1.15))
            hurried = rng.random() < 0.1
            handled, movement = kinds[which]
            actions.append(Action(now, stop, handled, movement, int(place), stop + 2 * hurried))
            now = stop if hurried else stop + _IDLE
    actions[-1] = actions[-1]._replace(annotated_stop=actions[-1].stop)
    return actions


def _rows(subject: int, actions: list[Action], size: KitchenSize) -> list[str]:
    """Annotate one video: its actions, then the background between them."""
    prefix = f"{subject},{_FILE_NAME.format(subject)}"
    rows = []
    for action in actions:
        kind = (action.object * size.movements + action.movement) * size.places + action.place
        name = f"{MOVEMENTS[action.movement]} {OBJECTS[action.object]} {PLACES[action.place]}"
        rows.append(f"{prefix},{action.start + 1},{action.annotated_stop},{mpii.BACKGROUND + 1 + kind},{name}")
    ends = [0, *(action.stop for action in actions[:-1])]
    for end, action in zip(ends, actions, strict=True):
        if action.start > end:
            rows.append(f"{prefix},{end + 1},{action.start},{mpii.BACKGROUND}, Background activity")
    return rows


def _film(folder: Path, subject: int, actions: list[Action], size: KitchenSize, seed: int) -> None:
    path = folder / "videos" / f"{_FILE_NAME.format(subject)}.avi"
    if path.is_file():
        return
    rng = np.random.default_rng((seed, subject, 1))
    scene = Scene((size.width, size.height), rng)
    poses = _poses(actions, scene, rng)
    objects = [draw_object(action.object, rng, scene.unit) for action in actions]
    with video.new_video(path, "mpeg4", rate=15) as writer:
        for now, (pose, index) in enumerate(zip(poses, _current_action(actions), strict=True)):
            held = objects[index] if now >= actions[index].start else None
            writer.write(scene.frame(pose, actions[index].place, held, rng))


def _poses(actions: list[Action], scene: Scene, rng: np.random.Generator) -> list[Pose]:
    """Move the person: sway throughout, a new stance for every action, and the action's movement of the hand."""
    current = _current_action(actions)
    time = np.arange(len(current))
    stances = np.array([(scene.place_x[action.place], 86.0) for action in actions])
    stances += rng.normal(0, (6, 2), stances.shape)
    stances[:, 0] = stances[:, 0].clip(30, FRAME[0] - 30)
    stance = _glide(stances, actions, time)
    sides = np.where(rng.random(len(actions)) < 0.5, -1.0, 1.0)
    rests = stances + np.column_stack([sides * 11.0, np.full(len(actions), 14.0)])  # at the edge of the torso's window
    rests += rng.normal(0, 2.0, rests.shape)
    hand = _glide(rests, actions, time) + rng.normal(0, 0.25, (len(time), 2))
    for action in actions:
        frames, reach = slice(action.start, action.stop), rng.uniform(6.5, 7.5)
        hand[frames, action.movement] += reach * _wave(time[frames], rng.uniform(6, 8), rng)
        # As far off along the other axis, but still: where the hand is in one frame says nothing about the movement.
        hand[frames, 1 - action.movement] += reach * np.sin(rng.uniform(0, 2 * np.pi))
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
