"""One pass over every video: resized frames, optical flow and the windows with the most motion, as caches.

Memory does not grow with a video's length, each video is a resumable unit, and everything that training reads
afterwards can be read in any order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import reduce
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from examples.mpii_cooking import flow, video
from examples.mpii_cooking.clips import Corpus, DataError
from examples.mpii_cooking.config import Level, Preset, levels
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st.motion import WindowProfile, motion_map, window_profile, window_scores

MEMORY = 1_500_000_000
"""Bytes of decoded frames that a process keeps."""

_VERSION = 1
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
            paths = (_profile_path(self._unit, level.name, part) for part in ("score", "row"))
            score, row = (np.load(path, mmap_mode="r") for path in paths)
            self._profiles[level.name] = score, row
        score, row = self._profiles[level.name]
        return score[frame], row[frame]

    def _resized_flow(self, level: Level, frame: int) -> np.ndarray:
        u, v = np.split(self._memory.read(self._unit.path("flow.mkv"), frame), 2)
        return np.stack([resize(part, (level.height, self.width(level))) for part in (u, v)])


def prepare(corpus: Corpus, preset: Preset, workspace: Workspace) -> dict[str, VideoCache]:
    """Prepare every video of the corpus that is not prepared yet.

    Returns:
        the caches, by the videos' keys; they share one memory of decoded frames.

    Raises:
        DataError: if flow cannot be estimated as the preset says; if videos are broken, are higher than wide or end
            before their clips do. Lists all of them, and what the containers tell is known before any is prepared.
    """
    flow.estimator(preset.flow, preset.raft_weights)  # what it lacks is told here, once, not for every video
    units = {key: workspace.unit(f"prepare/{key}", _inputs(path, preset)) for key, path in corpus.videos.items()}
    missing = [key for key, unit in units.items() if not unit.done]
    frames = _checked_frames(corpus, units)
    total = sum(frames[key] for key in missing)
    problems = []
    with tqdm(total=total, desc="decode, flow, windows", unit="frame", disable=not missing) as bar:

        def work(key: str) -> None:
            try:
                _prepare_video(corpus.videos[key], preset, units[key], bar)
            except DataError as problem:
                problems.append(str(problem))

        with ThreadPoolExecutor(min(_PARALLEL, os.cpu_count() or 1)) as pool:
            list(pool.map(work, missing))
    _raise_all(problems)
    memory = video.FrameMemory(MEMORY)
    caches = {key: VideoCache(unit, preset, memory) for key, unit in units.items()}
    _raise_all(_too_short(corpus, {key: cache.frames for key, cache in caches.items()}))
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
    profiles: dict[str, list[WindowProfile]] = {level.name: [] for level in levels(preset)}
    with ExitStack() as files:
        rgb = {level: files.enter_context(video.new_video(_rgb_path(unit, level), "mjpeg")) for level in levels(preset)}
        both = files.enter_context(video.new_video(unit.path("flow.mkv"), "ffv1"))
        gray = _write_levels(video.decode(path), rgb, preset.flow_height, bar)
        flows = _written(flow.flows(gray, flow.estimator(preset.flow, preset.raft_weights), preset.flow_bound), both)
        for motion in _motion(flows, preset):
            for level in rgb:
                side = window_side(preset, level)
                profiles[level.name].append(window_profile(window_scores(motion, (side, side))))
    for name, frames in profiles.items():
        np.save(_profile_path(unit, name, "score"), torch.cat([frame.score for frame in frames]).numpy())
        np.save(_profile_path(unit, name, "row"), torch.cat([frame.row for frame in frames]).short().numpy())
    written = [_rgb_path(unit, level) for level in rgb]
    written += [_profile_path(unit, name, part) for name in profiles for part in ("score", "row")]
    widths = {level.name: writer.width for level, writer in rgb.items()}
    unit.commit("flow.mkv", *(path.name for path in written), frames=both.frames, widths=widths)


def _rgb_path(unit: Unit, level: Level) -> Path:
    return unit.path(f"rgb-{level.name}.mkv")


def _profile_path(unit: Unit, level_name: str, part: str) -> Path:
    return unit.path(f"windows-{level_name}-{part}.npy")


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


def _checked_frames(corpus: Corpus, units: Mapping[str, Unit]) -> dict[str, int]:
    """Count every video's frames, and raise all problems that show without decoding: decoding can take days."""
    frames, problems = {}, []
    for key, unit in units.items():
        try:
            frames[key] = unit.facts["frames"] if unit.done else _count_landscape(corpus.videos[key])
        except DataError as problem:
            problems.append(str(problem))
    _raise_all([*problems, *_too_short(corpus, frames)])
    return frames


def _count_landscape(path: Path) -> int:
    width, height = video.frame_size(path)
    if width < height:
        raise DataError(f"{path} must be at least as wide as high, got {width} x {height}")
    return video.count_frames(path)


def _too_short(corpus: Corpus, frames: Mapping[str, int]) -> Iterator[str]:
    """Yield a problem for every clip that goes on after the end of its video, if the video's length is known."""
    for clip in corpus.train + corpus.test:
        if clip.video in frames and clip.stop > frames[clip.video]:
            yield (
                f"{corpus.videos[clip.video]} has {frames[clip.video]} frames, "
                f"but its clip of frames {clip.start + 1} to {clip.stop} ({clip.origin}) needs more"
            )


def _raise_all(problems: Iterable[str]) -> None:
    if listed := sorted(problems):
        raise DataError(f"{len(listed)} problems with the videos:\n" + "\n".join(f"  {line}" for line in listed))
