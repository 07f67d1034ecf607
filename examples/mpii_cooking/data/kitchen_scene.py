"""Draw the synthetic kitchen: a still room, and a person who sways while a hand moves a small thing.

All lengths are in pixels of a frame 154 rows high; ``Scene.unit`` scales them to the actual frame. The cues to the
classes have three sizes on purpose: a texture a few pixels fine, a movement of a hand, a lit appliance.
"""

from typing import NamedTuple

import cv2
import numpy as np

FRAME = (204.0, 154.0)
_COUNTER_TOP = 122
_THING_SIDE = 20
_FLATNESS = 1.15  # of the thing: width / height
_WAVES = ((6.5, (0,)), (6.5, (90,)), (5.4, (45,)), (6.5, (0, 90)), (6.5, (0, 60, 120)), (6.5, ()))
"""Period and directions in degrees of the waves on each kind of thing: upright, lying or slanted stripes, checks, a
honeycomb, none. 6.5 pixels are 4.7 at the detail level and 2.4 at the middle level. Where the whole frame is sampled
with 28 pixels, they are 1.2, and averaging leaves a quarter of the waves or less; blotches hide the rest. Slanted ones
are finer, since averages over squares would leave more of them."""
_CONTRAST, _LARGEST_TINT = 80, 110  # standard deviation of the waves, and where they are cut off
_TINT = np.array([1, -0.7036, 1])
"""The color of waves, between magenta and green. It adds nothing to gray (0.299 R + 0.587 G + 0.114 B), so flow follows
gray blotches alone. Else it would tell things apart: moving stripes look still along their direction."""
_BLOTCH, _COVER, _SHADE = 3.0, 40, 15  # radius of blotches; standard deviation of those in this color and in gray
_APPLIANCES = (56.0, 102.0, 148.0)  # their centers along x
_OFF = (150, 150, 150)
_LIT = ((90, 160, 255), (255, 110, 80), (90, 190, 100))
"""Colors of the appliances in use: as bright as one that is off, so that flow, which is gray, cannot see them."""

Point = tuple[float, float]
Color = tuple[float, ...]


class Pose(NamedTuple):
    """Where the person is in one frame; positions are (x, y)."""

    body: Point  # center of the torso
    head: Point
    lean: float  # degrees
    hand: Point
    other_hand: Point
    brightness: float


class Thing(NamedTuple):
    """What is held, as it looks from close by."""

    sprite: np.ndarray  # premultiplied RGBA, float32
    side: float  # in pixels of the frame


class Scene:
    """One subject's kitchen in frames of ``size`` (width, height), with random colors, clutter and order of places."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.size, self.unit = size, size[1] / FRAME[1]
        self._shirt = _shirt(rng, self.unit)
        self._skin = _color(rng, (205, 160, 130), 18)
        self._head = _head(self._skin, _color(rng, (70, 50, 40), 25), self.unit)
        self._rooms = self._lit(self._room(rng), rng.permutation(_APPLIANCES).tolist())
        self._noise = rng.normal(0, 4, (size[1] + 32, size[0] + 32, 1)).astype(np.float32)

    def frame(self, pose: Pose, place: int, held: Thing | None, rng: np.random.Generator) -> np.ndarray:
        """Draw one frame, (height, width, 3) uint8 RGB, with noise.

        The appliance at ``place`` is in use. ``held`` is from :func:`draw_thing`, or None between the actions.
        """
        canvas = self._rooms[place].copy()
        (x, y), u = pose.body, self.unit
        self._paste(canvas, self._head, pose.head, pose.lean)
        self._paste(canvas, self._shirt, (x, y + 4), pose.lean)
        counter = round(_COUNTER_TOP * u)
        canvas[counter:] = self._rooms[place][counter:]
        for shoulder, hand in zip((-13, 13), sorted((pose.hand, pose.other_hand)), strict=True):
            start, end = _fixed((x + shoulder, y - 8), u), _fixed(hand, u)
            cv2.line(canvas, start, end, self._skin, max(1, round(4 * u)), cv2.LINE_AA, 4)
            cv2.circle(canvas, end, round(3.2 * u * 16), self._skin, cv2.FILLED, cv2.LINE_AA, 4)
        if held is not None:
            self._paste(canvas, held.sprite, _grip(pose), 0.0)
        dy, dx = rng.integers(0, 32, 2)
        canvas = canvas * pose.brightness + self._noise[dy : dy + self.size[1], dx : dx + self.size[0]]
        return np.clip(canvas, 0, 255).astype(np.uint8)

    def box(self, pose: Pose, held: Thing | None) -> tuple[float, float, float, float]:
        """Return (left, top, width, height) of the thing in pixels of the frame; NaN without one."""
        if held is None:
            return (np.nan,) * 4
        (x, y), height = _grip(pose), held.side / _FLATNESS
        return x * self.unit - held.side / 2, y * self.unit - height / 2, held.side, height

    def _room(self, rng: np.random.Generator) -> np.ndarray:
        """Wall, shelves with clutter, tiles and the counter."""
        width, height = self.size
        room = np.full((height, width, 3), _color(rng, (150, 150, 145), 30), np.float32)
        room += _blotches(rng, (height, width), 25 * self.unit, 14)[..., None]
        for tile in range(0, 204, 12):
            self._box(room, (tile, 54), (tile + 0.6, _COUNTER_TOP), _color(rng, (120, 120, 120), 5))
        for _ in range(26):
            x, y = rng.uniform(-5, 200), rng.choice([70.0, 90.0, 110.0])
            self._box(room, (x, y - rng.uniform(5, 14)), (x + rng.uniform(3, 11), y), _color(rng, (130, 120, 110), 60))
        counter = _color(rng, (140, 115, 90), 20)
        self._box(room, (0, _COUNTER_TOP), (204, 154), counter)
        self._box(room, (0, 144), (204, 154), tuple(0.6 * c for c in counter))
        room += _blotches(rng, (height, width), 1.5 * self.unit, 4)[..., None]
        return room

    def _lit(self, room: np.ndarray, centers: list[float]) -> list[np.ndarray]:
        """Hang the appliances on the wall, far above the hands; return one room for each of them in use."""
        rooms = []
        for lit, color in enumerate(_LIT):
            rooms.append(room.copy())
            for place, center in enumerate(centers):
                self._box(rooms[-1], (center - 18, 14), (center + 18, 44), (70, 70, 75))
                self._box(rooms[-1], (center - 15, 17), (center + 15, 41), color if place == lit else _OFF)
        return rooms

    def _box(self, canvas: np.ndarray, low: Point, high: Point, color: Color) -> None:
        (x0, y0), (x1, y1) = (tuple(max(0, round(c * self.unit)) for c in corner) for corner in (low, high))
        canvas[y0:y1, x0 : max(x1, x0 + 1)] = color

    def _paste(self, canvas: np.ndarray, sprite: np.ndarray, center: Point, angle: float) -> None:
        """Blend ``sprite`` (premultiplied RGBA) into ``canvas`` at a sub-pixel position."""
        x, y = (c * self.unit - 0.5 for c in center)
        height, width = sprite.shape[:2]
        reach = int(np.hypot(height, width) / 2) + 2
        left, top = max(0, round(x) - reach), max(0, round(y) - reach)
        region = canvas[top : round(y) + reach + 1, left : round(x) + reach + 1]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        matrix[:, 2] += (x - left - (width - 1) / 2, y - top - (height - 1) / 2)
        warped = cv2.warpAffine(sprite, matrix, region.shape[1::-1], flags=cv2.INTER_LINEAR)
        region *= 1 - warped[..., 3:]
        region += warped[..., :3]


def draw_thing(kind: int, rng: np.random.Generator, unit: float) -> Thing:
    """Draw the thing of an action; ``unit`` is in pixels.

    The kinds differ in the directions of fine waves alone, not in shape, size, mean color or any shade of gray.
    """
    side = _THING_SIDE * unit * rng.uniform(0.92, 1.08)
    y, x = _grid(side)
    color = np.array(_color(rng, (140, 125, 110), 25))
    shade, tint = (_blotches(rng, x.shape, 4 * _BLOTCH * unit, each) for each in (_SHADE, _COVER))
    slant = rng.uniform(-0.2, 0.2) + rng.choice((0, np.pi / 2)) * (kind == 2)  # training mirrors its samples
    period, directions = _WAVES[kind]
    for direction in np.radians(directions):
        along = np.cos(slant + direction) * x + np.sin(slant + direction) * y
        wave = np.sin(2 * np.pi / (period * unit) * along + rng.uniform(0, 2 * np.pi))
        tint += _CONTRAST * (2 / len(directions)) ** 0.5 * wave
    pixels = color + shade[..., None] + tint.clip(-_LARGEST_TINT, _LARGEST_TINT)[..., None] * _TINT
    return Thing(_masked(np.clip(pixels, 0, 255), np.hypot(x, _FLATNESS * y) < side / 2), side)


def _grip(pose: Pose) -> Point:
    """Return the center of what is held."""
    return pose.hand[0], pose.hand[1] + 3


def _shirt(rng: np.random.Generator, unit: float) -> np.ndarray:
    y, x = _grid(48 * unit)
    pixels = np.array(_color(rng, (120, 90, 110), 60)) + _blotches(rng, x.shape, 2.5 * unit, 28)[..., None]
    shoulders = np.hypot(x, y + 4 * unit) < 19 * unit
    return _masked(np.clip(pixels, 0, 255), (np.abs(x) < 15 * unit) & (shoulders | (y > 0)))


def _head(skin: Color, hair: Color, unit: float) -> np.ndarray:
    y, x = _grid(22 * unit)
    pixels = np.where((y < -3 * unit)[..., None], hair, skin)
    eyes = (np.abs(np.abs(x) - 3 * unit) < unit) & (np.abs(y) < unit)
    return _masked(np.where(eyes[..., None], 30.0, pixels), np.hypot(1.25 * x, y) < 10 * unit)


def _grid(side: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (y, x) of a square's pixels from its center, four times as fine as the frame."""
    half = np.arange(4 * round(side)) - (4 * round(side) - 1) / 2
    return np.meshgrid(half / 4, half / 4, indexing="ij")


def _masked(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a sprite at the frame's resolution, averaged over 4 x 4 finer pixels."""
    sprite = np.concatenate([pixels * mask[..., None], mask[..., None]], axis=2).astype(np.float32)
    return cv2.resize(sprite, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


def _blotches(rng: np.random.Generator, shape: tuple[int, ...], blur: float, contrast: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), blur)
    blotches: np.ndarray = noise * (contrast / noise.std())
    return blotches


def _color(rng: np.random.Generator, mean: Color, spread: float) -> Color:
    return tuple(float(c) for c in np.clip(mean + rng.normal(0, spread / 2, 3), 0, 255))


def _fixed(point: Point, unit: float) -> tuple[int, int]:
    """Return a point in sixteenths of a pixel, for sub-pixel drawing."""
    x, y = (round((c * unit - 0.5) * 16) for c in point)
    return x, y
