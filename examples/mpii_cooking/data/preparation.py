"""One pass over every video: resized frames, optical flow and the windows with the most motion, as caches.

Memory does not grow with a video's length, each video is a resumable unit, and everything that training reads
afterwards can be read in any order.
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

import cv2
import numpy as np
import torch
from numpy.lib import format as npy
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import Level, Preset, levels
from examples.mpii_cooking.data import flow, video
from examples.mpii_cooking.data.dataset import DataError, Dataset
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st.motion import WindowProfile, motion_map, window_profile, window_scores

MEMORY = 1_500_000_000
"""Bytes of decoded frames that a process keeps."""

_VERSION = 2
_PARALLEL = 2
"""Videos in work at a time: decoding, flow and encoding leave Python's lock, but each video holds buffers."""


class VideoCache:
    """What was prepared from one video.

    Args:
        unit: the finished unit.
        preset: the preset it was prepared for.
        memory: where decoded frames are kept.
    """

    def __init__(self, unit: Unit, preset: Preset, memory: video.FrameMemory) -> None:
        self.frames: int = unit.facts["frames"]
        self._widths: dict[str, int] = unit.facts["widths"]
        self._unit, self._preset, self._memory = unit, preset, memory
        self._profiles: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def width(self, level: Level) -> int:
        """Return the width in pixels of a level's frames."""
        return self._widths[level.name]

    def rgb(self, level: Level, frame: int) -> np.ndarray:
        """Return one frame at a level's size, (height, width, 3) uint8; it must not be written to."""
        key = self._unit.folder, level.name, "rgb", frame
        return self._memory.get(key, lambda: self._memory.read(_rgb_path(self._unit, level), frame))

    def flow(self, level: Level, frame: int) -> np.ndarray:
        """Return one flow at a level's size, (2, height, width) uint8: its map is resized, its values are not."""
        key = self._unit.folder, level.name, "flow", frame
        return self._memory.get(key, lambda: self._resized_flow(level, frame))

    def stack(self, frame: int) -> list[int]:
        """Return the numbers of the flows around ``frame``; at the video's ends the last one there is repeats."""
        first = frame - self._preset.stack // 2
        return [min(max(number, 0), self.frames - 1) for number in range(first, first + self._preset.stack)]

    def profile(self, level: Level, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (score, row) of the best window for every left column on the flow grid, around ``frame``."""
        if level.name not in self._profiles:
            paths = (_profile_path(self._unit, level, part) for part in ("score", "row"))
            score, row = (np.load(path, mmap_mode="r") for path in paths)
            self._profiles[level.name] = score, row
        score, row = self._profiles[level.name]
        return score[frame], row[frame]

    def _resized_flow(self, level: Level, frame: int) -> np.ndarray:
        u, v = np.split(self._memory.read(self._unit.path("flow.mkv"), frame), 2)
        return np.stack([resize(part, (level.height, self.width(level))) for part in (u, v)])


def prepare(dataset: Dataset, preset: Preset, workspace: Workspace) -> dict[str, VideoCache]:
    """Prepare every video of the dataset that is not prepared yet.

    Returns:
        the caches, by the videos' keys; they share one memory of decoded frames.

    Raises:
        DataError: if flow cannot be estimated as the preset says; if videos are broken, are higher than wide or end
            before their clips do. Lists all of them, and what the containers tell is known before any is prepared.
    """
    flow.estimator(preset.flow, preset.raft_weights)  # what it lacks is told here, once, not for every video
    units, frames = _checked(dataset, preset, workspace)
    missing = sorted((key for key, unit in units.items() if not unit.done), key=frames.__getitem__, reverse=True)
    total = sum(frames[key] for key in distributed.share(missing))
    hidden = not missing or not distributed.is_main()
    with (
        tqdm(total=total, desc="decode, flow, windows", unit="frame", disable=hidden) as bar,
        ThreadPoolExecutor(min(_PARALLEL, os.cpu_count() or 1)) as pool,
    ):

        def prepared(key: str) -> Unit | str:
            try:
                _prepare_video(dataset.videos[key], preset, units[key], bar)
            except DataError as problem:
                return str(problem)
            return units[key]

        units |= zip(missing, distributed.map(prepared, missing, using=pool.map), strict=True)
    _raise_all(unit for unit in units.values() if isinstance(unit, str))
    memory = video.FrameMemory(MEMORY)
    caches = {key: VideoCache(unit, preset, memory) for key, unit in units.items()}
    _raise_all(_too_short(dataset, {key: cache.frames for key, cache in caches.items()}))
    return caches


def window_side(preset: Preset, level: Level) -> int:
    """Return the side of a level's window in pixels of the flow grid."""
    return round(preset.glimpse * preset.flow_height / level.height)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to ``size``, (height, width) in pixels, without aliasing."""
    height, width = size
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def _inputs(path: Path, preset: Preset) -> dict[str, object]:
    """Everything that decides what a video's caches hold."""
    return {
        "version": _VERSION,
        "video": _identity(path),
        "levels": [level.height for level in levels(preset)],
        "window": preset.glimpse,
        "flow": [preset.flow, preset.flow_height, preset.flow_bound, preset.stack],
        "flow_weights": None if preset.raft_weights is None else _identity(Path(preset.raft_weights)),
    }


def _identity(path: Path) -> list[object]:
    """What tells one file from another and from its own later contents, without reading it."""
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _prepare_video(path: Path, preset: Preset, unit: Unit, bar: tqdm) -> None:
    with ExitStack() as files:
        rgb = {level: files.enter_context(video.new_video(_rgb_path(unit, level), "mjpeg")) for level in levels(preset)}
        profiles = {level: files.enter_context(_new_profiles(unit, level)) for level in levels(preset)}
        both = files.enter_context(video.new_video(unit.path("flow.mkv"), "ffv1"))
        gray = _write_levels(video.decode(path), rgb, preset.flow_height, bar)
        flows = _written(flow.flows(gray, flow.estimator(preset.flow, preset.raft_weights), preset.flow_bound), both)
        for motion in _motion(flows, preset):
            for level, append in profiles.items():
                side = window_side(preset, level)
                append(window_profile(window_scores(motion, (side, side))))
    written = [_rgb_path(unit, level) for level in rgb]
    written += [_profile_path(unit, level, part) for level in profiles for part in ("score", "row")]
    widths = {level.name: writer.width for level, writer in rgb.items()}
    unit.commit("flow.mkv", *(path.name for path in written), frames=both.frames, widths=widths)


def _rgb_path(unit: Unit, level: Level) -> Path:
    return unit.path(f"rgb-{level.name}.mkv")


def _profile_path(unit: Unit, level: Level, part: str) -> Path:
    return unit.path(f"windows-{level.name}-{part}.npy")


@contextmanager
def _new_profiles(unit: Unit, level: Level) -> Iterator[Callable[[WindowProfile], None]]:
    """Lend a function that appends the profiles of one or more frames to a level's files."""
    score, row = (_profile_path(unit, level, part) for part in ("score", "row"))
    with _new_rows(score) as append_scores, _new_rows(row) as append_rows:

        def append(profile: WindowProfile) -> None:
            append_scores(profile.score.numpy())
            append_rows(profile.row.short().numpy())

        yield append


@contextmanager
def _new_rows(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Lend a function that appends (rows, columns) arrays to the array in ``path``, none of which stays in memory."""
    rows = 0
    with path.open("wb") as file:

        def write_header(like: np.ndarray) -> None:
            header = npy.header_data_from_array_1_0(like) | {"shape": (rows, like.shape[1])}
            file.seek(0)
            npy.write_array_header_1_0(file, header)  # leaves room for rows of more digits, so its length stays
            file.seek(0, os.SEEK_END)

        def append(array: np.ndarray) -> None:
            nonlocal rows
            rows += len(array)
            write_header(array)
            file.write(array.tobytes())

        yield append


def _write_levels(
    frames: Iterable[np.ndarray], rgb: Mapping[Level, video.VideoWriter], flow_height: int, bar: tqdm
) -> Iterator[np.ndarray]:
    """Write each frame at every level's size, and yield it in gray at the flow grid's."""
    for frame in frames:
        height, width = frame.shape[:2]
        for level, writer in rgb.items():
            writer.write(resize(frame, (level.height, round(width * level.height / height))))
        bar.update()
        yield cv2.cvtColor(resize(frame, (flow_height, round(width * flow_height / height))), cv2.COLOR_RGB2GRAY)


def _written(flows: Iterable[np.ndarray], writer: video.VideoWriter) -> Iterator[np.ndarray]:
    """Pass flows on after writing them, u above v."""
    for uv in flows:
        writer.write(np.concatenate(uv))
        yield uv


def _motion(flows: Iterable[np.ndarray], preset: Preset) -> Iterator[torch.Tensor]:
    """Yield every frame's motion map, [1 height width]: the mean over the stack around it, whose ends repeat.

    Each flow's own map is computed once, and added up in the order of the stack; the result equals the map of the
    whole stack bit for bit.
    """
    after = preset.stack - preset.stack // 2 - 1
    recent: deque[torch.Tensor] = deque(maxlen=preset.stack)
    singles = (motion_map(torch.from_numpy(uv)[None, None], bound=preset.flow_bound) for uv in flows)
    for single in _ends_repeated(singles, preset.stack // 2, after):
        recent.append(single)
        if len(recent) == preset.stack:
            yield reduce(torch.add, recent) / preset.stack


def _ends_repeated(items: Iterable[torch.Tensor], before: int, after: int) -> Iterator[torch.Tensor]:
    items = iter(items)
    last = next(items)
    yield from repeat(last, before + 1)
    for last in items:
        yield last
    yield from repeat(last, after)


def _checked(dataset: Dataset, preset: Preset, workspace: Workspace) -> tuple[dict[str, Unit], dict[str, int]]:
    """Return every video's unit, which knows whether it is done, and number of frames.

    Raises:
        DataError: lists all problems that show without decoding, which can take days.
    """

    def checked(key: str) -> tuple[Unit, int | str]:
        path = dataset.videos[key]
        unit = workspace.unit(f"prepare/{key}", _inputs(path, preset))
        try:
            return unit, unit.facts["frames"] if unit.done else _count_landscape(path)
        except DataError as problem:
            return unit, str(problem)

    checks = dict(zip(dataset.videos, distributed.map(checked, list(dataset.videos)), strict=True))
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

    distributed.once(complain)  # all ranks know, one is enough to say it
