"""One pass over every video that caches resized frames, optical flow and the windows with the most motion.

Memory does not grow with a video's length, every video is a resumable unit, and training can read the caches in any
order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import DataSettings, Level
from examples.mpii_cooking.data import flow, video
from examples.mpii_cooking.data.dataset import DataError, Dataset
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st.motion import WindowProfile, motion_map, window_profile, window_scores

MEMORY = 1_500_000_000
"""Bytes of decoded frames that a process keeps."""

FLOW_NAME = "flow.mkv"
PROFILE = {"score": np.float64, "row": np.int16}
"""What is kept of a window profile, and as what."""

_VERSION = 3
"""Raised when preparation changes, so that no cache of an older version is used."""
_PARALLEL = 2
"""Videos in work at a time: decoding, flow and encoding release Python's lock, but each video holds buffers."""

Array = NDArray[Any]


class VideoCache:
    """What was prepared from one video.

    Args:
        unit: the finished unit.
        settings: the settings it was prepared with.
        memory: keeps decoded frames.
    """

    def __init__(self, unit: Unit, settings: DataSettings, memory: video.FrameMemory) -> None:
        self.frames: int = unit.facts["frames"]
        self._widths: dict[str, int] = unit.facts["widths"]
        self._unit, self._settings, self._memory = unit, settings, memory
        self._profiles: dict[str, tuple[Array, Array]] = {}

    def width(self, level: Level) -> int:
        """Return the width in pixels of a level's frames."""
        return self._widths[level.name]

    def rgb(self, level: Level, frame: int) -> video.Frame:
        """Return one frame at a level's size, (height, width, 3) uint8. It must not be written to."""
        key = self._unit.folder, level.name, "rgb", frame
        return self._memory.get(key, lambda: self._memory.read(self._unit.path(_rgb_name(level)), frame))

    def flow(self, level: Level, frame: int) -> video.Frame:
        """Return one flow resized to a level's size, (2, height, width) uint8. Its values are not rescaled."""
        key = self._unit.folder, level.name, "flow", frame
        return self._memory.get(key, lambda: self._resized_flow(level, frame))

    def stack(self, frame: int) -> list[int]:
        """Return the numbers of the flows around ``frame``. Beyond the video's ends, its first or last flow repeats."""
        first = frame - self._settings.stack // 2
        return [min(max(number, 0), self.frames - 1) for number in range(first, first + self._settings.stack)]

    def profile(self, level: Level, frame: int) -> tuple[Array, Array]:
        """Return (score, row) of the best window for every left column on the flow grid, around ``frame``."""
        if level.name not in self._profiles:
            score, row = (
                np.memmap(self._unit.path(_profile_name(level, part)), dtype, mode="r").reshape(self.frames, -1)
                for part, dtype in PROFILE.items()
            )
            self._profiles[level.name] = score, row
        score, row = self._profiles[level.name]
        return score[frame], row[frame]

    def _resized_flow(self, level: Level, frame: int) -> video.Frame:
        u, v = np.split(self._memory.read(self._unit.path(FLOW_NAME), frame), 2)
        return np.stack([resize(part, (level.height, self.width(level))) for part in (u, v)])


def prepare(dataset: Dataset, settings: DataSettings, workspace: Workspace) -> dict[str, VideoCache]:
    """Prepare every video of the dataset that is not prepared yet. Ranks share the videos.

    Returns:
        The caches, by the videos' keys. They share one memory of decoded frames.

    Raises:
        DataError: if flow cannot be estimated as the settings say, or if videos are broken, are higher than wide or end
            before their clips do. It lists all of them. What the containers say is checked before any is prepared.
    """
    flow.estimator(settings.flow)  # an error comes here, once, and not for every video
    units, frames = _checked(dataset, settings, workspace)
    missing = sorted((key for key, unit in units.items() if not unit.done), key=frames.__getitem__, reverse=True)
    total = sum(frames[key] for key in distributed.share(missing))
    hidden = not missing or not distributed.is_main()
    with (
        tqdm(total=total, desc="decode, flow, windows", unit="frame", leave=False, disable=hidden) as bar,
        ThreadPoolExecutor(min(_PARALLEL, os.cpu_count() or 1)) as pool,
    ):

        def prepared(key: str) -> Unit | str:
            try:
                prepare_video(dataset.videos[key], settings, units[key], bar.update)
            except DataError as problem:
                return str(problem)
            return units[key]

        done = dict(zip(missing, distributed.shared_map(prepared, missing, using=pool.map), strict=True))
    _raise_all(problem for problem in done.values() if isinstance(problem, str))
    units |= {key: unit for key, unit in done.items() if isinstance(unit, Unit)}
    memory = video.FrameMemory(MEMORY)
    caches = {key: VideoCache(unit, settings, memory) for key, unit in units.items()}
    _raise_all(_too_short(dataset, {key: cache.frames for key, cache in caches.items()}))
    return caches


def video_unit(key: str, path: Path, settings: DataSettings, workspace: Workspace) -> Unit:
    """Return where the caches of a video are kept."""
    inputs = {"version": _VERSION, "video": _identity(path), "settings": settings}
    return workspace.unit(f"prepare/{key}", inputs)


def prepare_video(path: Path, settings: DataSettings, unit: Unit, advance: Callable[[], object] = lambda: None) -> None:
    """Write the caches of one video into ``unit``, and call ``advance`` after every frame."""
    levels = settings.levels
    with ExitStack() as files:
        rgb = {level: files.enter_context(video.new_video(unit.path(_rgb_name(level)), "mjpeg")) for level in levels}
        profiles = {level: files.enter_context(_new_profiles(unit, level)) for level in levels}
        both = files.enter_context(video.new_video(unit.path(FLOW_NAME), "ffv1"))
        gray = _write_levels(video.decode(path), rgb, settings.flow_height, advance)
        method = flow.estimator(settings.flow)
        flows = _written(flow.flows(gray, method, settings.flow_bound), both)
        for motion in _motion(flows, settings):
            for level, append in profiles.items():
                side = window_side(settings, level)
                append(window_profile(window_scores(motion, (side, side))))
    names = [_rgb_name(level) for level in levels]
    names += [_profile_name(level, part) for level in levels for part in PROFILE]
    widths = {level.name: writer.width for level, writer in rgb.items()}
    unit.commit(FLOW_NAME, *names, frames=both.frames, widths=widths)


def window_side(settings: DataSettings, level: Level) -> int:
    """Return the side of a level's window in pixels of the flow grid."""
    return round(settings.glimpse * settings.flow_height / level.height)


def resize(image: video.Frame, size: tuple[int, int]) -> video.Frame:
    """Resize to ``size``, (height, width) in pixels, without aliasing."""
    height, width = size
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _identity(path: Path) -> list[object]:
    """Return what changes when a file is replaced or written to, without reading it."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _rgb_name(level: Level) -> str:
    return f"rgb-{level.name}.mkv"


def _profile_name(level: Level, part: str) -> str:
    return f"windows-{level.name}-{part}.bin"


@contextmanager
def _new_profiles(unit: Unit, level: Level) -> Iterator[Callable[[WindowProfile], None]]:
    """Lend a function that appends one frame's profile to the files of a level, row after row, without a header."""
    with ExitStack() as files:
        score, row = (files.enter_context(unit.path(_profile_name(level, part)).open("wb")) for part in PROFILE)

        def append(profile: WindowProfile) -> None:
            score.write(profile.score.numpy().astype(PROFILE["score"]).tobytes())
            row.write(profile.row.numpy().astype(PROFILE["row"]).tobytes())

        yield append


def _write_levels(
    frames: Iterable[video.Frame],
    rgb: Mapping[Level, video.VideoWriter],
    flow_height: int,
    advance: Callable[[], object],
) -> Iterator[video.Frame]:
    """Write each frame at every level's size, and yield it in gray at the size of the flow grid."""
    for frame in frames:
        height, width = frame.shape[:2]
        for level, writer in rgb.items():
            writer.write(resize(frame, (level.height, round(width * level.height / height))))
        advance()
        yield cv2.cvtColor(resize(frame, (flow_height, round(width * flow_height / height))), cv2.COLOR_RGB2GRAY)


def _written(flows: Iterable[video.Frame], writer: video.VideoWriter) -> Iterator[video.Frame]:
    """Pass flows on after writing them, u above v."""
    for uv in flows:
        writer.write(np.concatenate(uv))
        yield uv


def _motion(flows: Iterable[video.Frame], settings: DataSettings) -> Iterator[torch.Tensor]:
    """Yield every frame's motion map, [1 height width]: the mean over the stack around it, whose ends repeat.

    Each flow's own map is computed once, and added up in the order of the stack; the result equals the map of the
    whole stack bit for bit.
    """
    after = settings.stack - settings.stack // 2 - 1
    recent: deque[torch.Tensor] = deque(maxlen=settings.stack)
    singles = (motion_map(torch.from_numpy(uv)[None, None], bound=settings.flow_bound) for uv in flows)
    for single in _ends_repeated(singles, settings.stack // 2, after):
        recent.append(single)
        if len(recent) == settings.stack:
            yield reduce(torch.add, recent) / settings.stack


def _ends_repeated(items: Iterable[torch.Tensor], before: int, after: int) -> Iterator[torch.Tensor]:
    items = iter(items)
    last = next(items)
    yield from repeat(last, before + 1)
    for last in items:
        yield last
    yield from repeat(last, after)


def _checked(dataset: Dataset, settings: DataSettings, workspace: Workspace) -> tuple[dict[str, Unit], dict[str, int]]:
    """Return every video's unit and number of frames.

    Raises:
        DataError: lists all problems that are found without decoding, which can take days.
    """

    def checked(key: str) -> tuple[Unit, int | str]:
        path = dataset.videos[key]
        unit = video_unit(key, path, settings, workspace)
        try:
            return unit, unit.facts["frames"] if unit.done else _count_landscape(path)
        except DataError as problem:
            return unit, str(problem)

    checks = dict(zip(dataset.videos, distributed.shared_map(checked, list(dataset.videos)), strict=True))
    frames = {key: count for key, (_, count) in checks.items() if isinstance(count, int)}
    problems = [problem for _, problem in checks.values() if isinstance(problem, str)]
    _raise_all([*problems, *_too_short(dataset, frames)])
    return {key: unit for key, (unit, _) in checks.items()}, frames


def _count_landscape(path: Path) -> int:
    width, height = video.frame_size(path)
    if width < height:
        raise DataError(f"{path} must be at least as wide as high, got {width} x {height}")
    return video.count_frames(path)


def _too_short(dataset: Dataset, frames: Mapping[str, int]) -> Iterator[str]:
    """Yield a problem for every clip that goes on after the end of its video, if the video's length is known."""
    for clip in dataset.train + dataset.test:
        if clip.video in frames and clip.stop > frames[clip.video]:
            yield (
                f"{dataset.videos[clip.video]} has {frames[clip.video]} frames, "
                f"but its clip of frames {clip.start + 1} to {clip.stop} ({clip.origin}) needs more"
            )


def _raise_all(problems: Iterable[str]) -> None:
    listed = sorted(problems)

    def complain() -> None:
        if listed:
            raise DataError(f"{len(listed)} problems with the videos:\n" + "\n".join(f"  {line}" for line in listed))

    distributed.once(complain)  # all ranks know the problems, but only one prints them
