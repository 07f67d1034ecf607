"""The frames of a clip, from a video file or a folder of images, at one rate and cut to one shape."""

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import AS_STORED, BrokenError, Framing
from examples.mpii_cooking.data.video import Frame
from examples.mpii_cooking.storage import visible

WIDEST = 10
"""The most that a clip's width may be of its height. Its frames are resized to a few hundred rows."""
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SAME_RATE = 1.05
"""Rates up to this ratio are the same: 29.97 is 30. Movements per frame differ by that ratio, too."""


def images(folder: Path) -> list[Path]:
    """Return the images in ``folder`` in natural order."""
    found = (path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(found, key=natural_order)


def decode(path: Path, framing: Framing = AS_STORED) -> Iterator[Frame]:
    """Yield the frames in order, (height, width, 3) uint8 RGB; a ``DataError`` says what is broken.

    The frame at ``k / rate`` seconds is the one that a player shows then. Images have no rate: all of them are used.
    """
    stored = _read_images(path) if path.is_dir() else video.decode(path)
    for frame in _kept(stored, _step(path, framing)):
        yield frame if framing.aspect is None else cut(frame, framing.aspect)


def count(path: Path, framing: Framing = AS_STORED) -> int:
    """Return how many frames ``decode`` yields, without decoding any."""
    stored = len(images(path)) if path.is_dir() else video.count_frames(path)
    return math.ceil(stored / _step(path, framing))


def size(path: Path, framing: Framing = AS_STORED) -> tuple[int, int]:
    """Return (width, height) in pixels of the frames that ``decode`` yields."""
    if path.is_dir():
        height, width = _read_image(images(path)[0]).shape[:2]
    else:
        width, height = video.frame_size(path)
    rows, columns = _part(height, width, framing.aspect) if framing.aspect else (slice(0, height), slice(0, width))
    return columns.stop - columns.start, rows.stop - rows.start


def broken(path: Path) -> str:
    """Return what is wrong with a clip that cannot be read, as far as that is seen without decoding it, or ""."""
    try:
        size(path)
        count(path)
    except BrokenError as problem:
        return str(problem)
    return ""


def rate(path: Path) -> Fraction | None:
    """Return the stored frames per second; None for images, and where a video does not say."""
    return None if path.is_dir() else video.frame_rate(path)


def differ(rate: float | Fraction, slower: float | Fraction) -> bool:
    """Whether ``rate`` is so far above ``slower`` that clips have to be thinned."""
    return float(rate) > SAME_RATE * float(slower)


def cut(frame: Frame, aspect: float) -> Frame:
    """Return the largest part around the center whose width is ``aspect`` times its height, to a pixel."""
    rows, columns = _part(frame.shape[0], frame.shape[1], aspect)
    return frame[rows, columns]


def natural_order(path: Path) -> tuple[list[int | str], str]:
    """Return a key by which 2 comes before 10."""
    # Digits and other text alternate, so numbers are compared with numbers, text with text.
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name


def _part(height: int, width: int, aspect: float) -> tuple[slice, slice]:
    """Return the rows and columns of that part."""
    rows, columns = min(height, round(width / aspect)), min(width, round(height * aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _step(path: Path, framing: Framing) -> Fraction:
    """Return how many stored frames there are for one that is used, at least 1."""
    stored = rate(path) if framing.rate is not None else None
    if stored is None or framing.rate is None:
        return Fraction(1)
    rounded = Fraction(framing.rate).limit_denominator(1001)  # a float is no exact 30000 / 1001
    step = stored / (rounded or Fraction(framing.rate))
    return step if differ(stored, framing.rate) else Fraction(1)


def _kept(frames: Iterable[Frame], step: Fraction) -> Iterator[Frame]:
    kept = 0
    for number, frame in enumerate(frames):
        if number == math.floor(kept * step):
            kept += 1
            yield frame


def _read_images(folder: Path) -> Iterator[Frame]:
    first, *others = images(folder)
    frame = _read_image(first)
    yield frame
    for path in others:
        other = _read_image(path)
        if other.shape != frame.shape:
            sizes = [f"{path.name} is {it.shape[1]} x {it.shape[0]}" for path, it in ((first, frame), (path, other))]
            raise BrokenError(f"{folder} must hold images of one size, since it is one clip, but {', '.join(sizes)}")
        yield other


def _read_image(path: Path) -> Frame:
    # Read here, since OpenCV opens no path with other than ASCII letters on Windows.
    content = np.frombuffer(path.read_bytes(), np.uint8)
    found = None
    if content.size:
        with suppress(cv2.error):  # such as for a header that announces more pixels than OpenCV reads
            found = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if found is None:
        raise BrokenError(f"{path} cannot be read as an image")
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
