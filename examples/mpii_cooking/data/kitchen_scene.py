"""Draw the synthetic kitchen: a still room, and a person who sways while a hand moves a small object.

All lengths are in pixels of a frame 154 rows high; ``Scene.unit`` scales them to the actual frame. The cues to the
classes have three sizes on purpose: stripes eight pixels apart, a movement of a hand, a lit appliance.
"""

from typing import NamedTuple

import cv2
import numpy as np

FRAME = (204.0, 154.0)
_COUNTER_TOP = 104
_OBJECT_SIDE = 20
_PERIOD = 8.0
"""Period of the object's stripes: 5.8 pixels at the detail level and 2.9 at the middle level, so that windows that lie
between pixels keep at least a third of their contrast. At the general level it is 1.7, on an object four pixels across:
whole-pixel windows keep half of the contrast, aliased, and windows between pixels almost none."""

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


class Scene:
    """One subject's kitchen in frames of ``size`` (width, height), with random colors and clutter, perhaps mirrored."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.size, self.unit = size, size[1] / FRAME[1]
        self.place_x = (144.0, 60.0) if rng.random() < 0.5 else (60.0, 144.0)
        self._shirt = _shirt(rng, self.unit)
        self._skin = _color(rng, (205, 160, 130), 18)
        self._head = _head(self._skin, _color(rng, (70, 50, 40), 25), self.unit)
        dark = self._room(rng)
        self._rooms = [self._with_light(dark, place) for place in (0, 1)]
        self._noise = rng.normal(0, 4, (size[1] + 32, size[0] + 32, 1)).astype(np.float32)

    def frame(self, pose: Pose, place: int, held: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
        """Draw one frame, (height, width, 3) uint8 RGB, with noise.

        The appliance at ``place`` is in use. ``held`` is from :func:`draw_object`, or None between the actions.
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
            self._paste(canvas, held, (pose.hand[0], pose.hand[1] + 3), 0.0)
        dy, dx = rng.integers(0, 32, 2)
        canvas = canvas * pose.brightness + self._noise[dy : dy + self.size[1], dx : dx + self.size[0]]
        return np.clip(canvas, 0, 255).astype(np.uint8)

    def _room(self, rng: np.random.Generator) -> np.ndarray:
        """Wall, shelves with clutter, tiles and the counter."""
        width, height = self.size
        board = _color(rng, (200, 170, 130), 15)
        room = np.full((height, width, 3), _color(rng, (150, 150, 145), 30), np.float32)
        room += _blotches(rng, (height, width), 25 * self.unit, 14)[..., None]
        for tile in range(0, 204, 12):
            self._box(room, (tile, 44), (tile + 0.6, 104), _color(rng, (120, 120, 120), 5))
        for _ in range(26):
            x, y = rng.uniform(-5, 200), rng.choice([58.0, 78.0, 98.0])
            self._box(room, (x, y - rng.uniform(5, 14)), (x + rng.uniform(3, 11), y), _color(rng, (130, 120, 110), 60))
        counter = _color(rng, (140, 115, 90), 20)
        self._box(room, (0, _COUNTER_TOP), (204, 154), counter)
        self._box(room, (0, 132), (204, 154), tuple(0.6 * c for c in counter))
        for center in self.place_x:
            self._box(room, (center - 24, 107), (center + 24, 119), board)
        room += _blotches(rng, (height, width), 1.5 * self.unit, 4)[..., None]
        return room

    def _with_light(self, dark: np.ndarray, place: int) -> np.ndarray:
        """Hang both appliances on the wall, far above the hands; the one in use is lit."""
        room = dark.copy()
        window, hood = self.place_x
        pane = (205, 225, 250) if place == 0 else (45, 55, 75)
        self._box(room, (window - 18, 3), (window + 18, 33), (235, 235, 230))
        for x in (window - 16, window + 1):
            self._box(room, (x, 5), (x + 15, 31), pane)
        self._box(room, (hood - 18, 3), (hood + 18, 33), (70, 70, 75))
        self._box(room, (hood - 15, 12), (hood + 15, 31), (255, 150, 40) if place == 1 else (35, 30, 30))
        return room

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


def draw_object(kind: int, rng: np.random.Generator, unit: float) -> np.ndarray:
    """Draw the object of an action, premultiplied RGBA float32; ``unit`` is in pixels.

    The kinds differ in their stripes alone, not in mean color, shape or size: 0 has upright stripes, 1 has lying
    stripes, 2 has none.
    """
    side = _OBJECT_SIDE * unit * rng.uniform(0.92, 1.08)
    y, x = _grid(side)
    slant, phase = rng.uniform(-0.35, 0.35), rng.uniform(0, 2 * np.pi)
    directions = ((np.cos(slant), np.sin(slant)), (-np.sin(slant), np.cos(slant)))
    stripes = np.zeros_like(x)
    if kind < len(directions):
        dx, dy = directions[kind]
        stripes = 95 * np.sin(2 * np.pi / (_PERIOD * unit) * (x * dx + y * dy) + phase)
    pixels = np.clip(np.array(_color(rng, (140, 125, 110), 25)) + stripes[..., None], 0, 255)
    return _masked(pixels, np.hypot(x, 1.15 * y) < side / 2)


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
