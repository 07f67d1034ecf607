"""What was prepared from a video, read back frame by frame."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking.config import DataSettings, Level
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.workspace import Unit, stamp

FLOW_NAME = "flow.mkv"
PROFILE: dict[str, type[np.generic]] = {
    "score": np.float64,
    "row": np.int16,
}  # what is kept of a window profile, and as what


class VideoCache:
    """What was prepared from one video. Decoded frames are kept in ``memory``."""

    def __init__(self, unit: Unit, settings: DataSettings, memory: video.FrameMemory) -> None:
        self.frames: int = unit.facts["frames"]
        self._widths: dict[str, int] = unit.facts["widths"]
        self._unit, self._settings, self._memory = unit, settings, memory
        self._stamps = self._stamps_now()

    @property
    def content(self) -> str | None:
        """A digest of everything that was prepared."""
        return self._unit.content

    def check(self) -> None:
        """Raise DataError if any file was changed since this object was made."""
        if self._stamps_now() != self._stamps:
            raise self._changed()

    def width(self, level: Level) -> int:
        """Return the width in pixels of a level's frames."""
        return self._widths[level.name]

    def rgb(self, level: Level, frame: int) -> video.Frame:
        """Return one frame at a level's size, (height, width, 3) uint8. It must not be written to."""
        key = self._unit.folder, level.name, "rgb", frame
        return self._memory.get(key, lambda: self._memory.read(self._unit.path(rgb_name(level)), frame))

    def flow(self, level: Level, frame: int) -> video.Frame:
        """Return one flow resized to a level's size, (2, height, width) uint8. Its values are not rescaled."""
        key = self._unit.folder, level.name, "flow", frame
        return self._memory.get(key, lambda: self._resized_flow(level, frame))

    def stack(self, frame: int) -> list[int]:
        """Return the numbers of the flows around ``frame``. Beyond the video's ends, its first or last flow repeats."""
        first = frame - self._settings.stack // 2
        return [min(max(number, 0), self.frames - 1) for number in range(first, first + self._settings.stack)]

    def profile(self, level: Level, frame: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (score, row) of the best window for every left column on the flow grid, around ``frame``."""
        score, row = (self._row(profile_name(level, part), dtype, frame) for part, dtype in PROFILE.items())
        return score, row

    def _row(self, name: str, dtype: type[np.generic], frame: int) -> NDArray[Any]:
        """Read what a file holds for one frame. It does not stay open: there may be more videos than open files."""
        size = self._stamps[name][0] // self.frames
        with (self._unit.folder / name).open("rb") as file:
            file.seek(frame * size)
            content = file.read(size)
        if len(content) < size:
            raise self._changed()
        return np.frombuffer(content, dtype)

    def _changed(self) -> DataError:
        return DataError(f"{self._unit.folder} was changed while it was read: start again, and it is checked")

    def _stamps_now(self) -> dict[str, tuple[int, ...]]:
        return {name: stamp(self._unit.path(name)) for name in (self._unit.fitting or {"files": ()})["files"]}

    def _resized_flow(self, level: Level, frame: int) -> video.Frame:
        u, v = np.split(self._memory.read(self._unit.path(FLOW_NAME), frame), 2)
        return np.stack([resize(part, (level.height, self.width(level))) for part in (u, v)])


def resize(image: video.Frame, size: tuple[int, int]) -> video.Frame:
    """Resize to ``size``, (height, width) in pixels, without aliasing."""
    method = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def rgb_name(level: Level) -> str:
    """Return the name of the file with the frames of a level."""
    return f"rgb-{level.name}.mkv"


def profile_name(level: Level, part: str) -> str:
    """Return the name of the file with a part of a level's window profiles."""
    return f"windows-{level.name}-{part}.bin"
