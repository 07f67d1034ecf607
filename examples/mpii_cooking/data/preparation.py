"""One pass over every video that caches resized frames, optical flow and the windows with the most motion.

Memory does not grow with a video's length, every video is a resumable unit, and training can read the caches in any
order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from functools import reduce
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import DataSettings, Level
from examples.mpii_cooking.data import flow, frames, video
from examples.mpii_cooking.data.dataset import AS_STORED, BrokenError, DataError, Dataset, Framing
from examples.mpii_cooking.data.findings import VIDEO_CURE, Findings
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st.motion import motion_map, window_profile, window_scores

MEMORY = 1_500_000_000  # bytes of decoded frames that a process keeps

FLOW_NAME = "flow.mkv"
PROFILE = {"score": np.float64, "row": np.int16}  # what is kept of a window profile, and as what

_VERSION = 3  # raised when preparation changes, so that no cache of an older version is used
_PARALLEL = 2
"""Videos processed at a time: decoding, flow and encoding release Python's lock, but each video holds buffers."""
_AT_ONCE = 16
"""Frames whose motion is searched at a time."""

_CURE_OF_LENGTH = "copy the whole video, or correct the rows"
_CURE_OF_HEIGHT = "in a folder of classes, --aspect cuts all clips to one shape"

PreparedVideo = tuple[Unit, int]  # a video's unit and its number of frames


class VideoCache:
    """What was prepared from one video. Decoded frames are kept in ``memory``."""

    def __init__(self, unit: Unit, settings: DataSettings, memory: video.FrameMemory) -> None:
        self.frames: int = unit.facts["frames"]
        self._widths: dict[str, int] = unit.facts["widths"]
        self._unit, self._settings, self._memory = unit, settings, memory
        self._profiles: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

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

    def profile(self, level: Level, frame: int) -> tuple[NDArray[Any], NDArray[Any]]:
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
    """Prepare the videos that are not prepared yet; ranks share them. Return the caches by the videos' keys.

    All containers are checked before any video is decoded, which can take days. A ``DataError`` lists all videos that
    are broken, are higher than wide or end before their clips do.
    """
    return prepare_sound(dataset, settings, workspace, skip_broken=False)[1]


def prepare_sound(
    dataset: Dataset, settings: DataSettings, workspace: Workspace, *, skip_broken: bool
) -> tuple[Dataset, dict[str, VideoCache]]:
    """Prepare videos as ``prepare`` does, and return the dataset with them; ``skip_broken`` leaves out broken ones."""

    def checked(key: str) -> PreparedVideo:
        path = dataset.videos[key]
        unit = video_unit(key, path, settings, workspace, dataset.framing)
        if unit.done:
            return unit, unit.facts["frames"]
        width, height = frames.size(path, dataset.framing)
        if width < height:
            raise DataError(f"{path} must be at least as wide as high, got {width} x {height}", _CURE_OF_HEIGHT)
        return unit, frames.count(path, dataset.framing)

    def prepared(key: str) -> PreparedVideo:
        unit, _ = found[key]
        prepare_video(dataset.videos[key], settings, unit, dataset.framing, bar.update)
        return unit, unit.facts["frames"]

    dataset, found = _usable(dataset, checked, list(dataset.videos), skip_broken=skip_broken)
    lengths = {key: length for key, (unit, length) in found.items() if not unit.done}
    missing = sorted(lengths, key=lengths.__getitem__, reverse=True)
    total = sum(lengths[key] for key in distributed.share(missing))
    hidden = not missing or not distributed.is_main()
    with tqdm(total=total, desc="decode, flow, windows", unit="frame", leave=False, disable=hidden) as bar:
        dataset, newly = _usable(dataset, prepared, missing, skip_broken=skip_broken)
    units = {key: unit for key, (unit, _) in (found | newly).items() if key in dataset.videos}
    memory = video.FrameMemory(MEMORY)
    return dataset, {key: VideoCache(unit, settings, memory) for key, unit in units.items()}


def _usable(
    dataset: Dataset, work: Callable[[str], PreparedVideo], keys: Sequence[str], *, skip_broken: bool
) -> tuple[Dataset, dict[str, PreparedVideo]]:
    """Return what ``work`` finds for every video, or raise an error with all problems.

    With ``skip_broken``, the dataset that is returned has no broken videos.
    """

    def attempt(key: str) -> PreparedVideo | DataError:
        try:
            return work(key)
        except DataError as problem:
            return problem

    with ThreadPoolExecutor(_PARALLEL) as pool:
        results = dict(zip(keys, distributed.shared_map(attempt, keys, using=pool.map), strict=True))
    found = {key: result for key, result in results.items() if not isinstance(result, DataError)}
    failed = {key: result for key, result in results.items() if isinstance(result, DataError)}
    if skip_broken:
        broken = {key: str(failed.pop(key)) for key in list(failed) if isinstance(failed[key], BrokenError)}
        dataset = dataset.without(broken)
    findings = Findings()
    for _, problem in sorted(failed.items()):
        findings.add(problem.problem, problem.cure or VIDEO_CURE)
    for clip in dataset.train + dataset.test:
        if clip.video in found and clip.stop > found[clip.video][1]:
            findings.add(
                f"{dataset.videos[clip.video]} has {found[clip.video][1]} frames, "
                f"but its clip of frames {clip.start + 1} to {clip.stop} ({clip.origin}) needs more",
                _CURE_OF_LENGTH,
            )
    # All ranks know the findings, but only one prints them.
    distributed.once(lambda: findings.complain(f"the videos of {dataset.name}"))
    return dataset, found


def video_unit(
    key: str, path: Path, settings: DataSettings, workspace: Workspace, framing: Framing = AS_STORED
) -> Unit:
    """Return where the caches of a video are kept. A video that was replaced or changed gets new ones."""
    identity = [str(path.resolve()), *frames.stamp(path)]
    inputs = {"version": _VERSION, "video": identity, "settings": settings, "framing": framing}
    return workspace.unit(f"prepare/{key}", inputs)


def prepare_video(
    path: Path,
    settings: DataSettings,
    unit: Unit,
    framing: Framing = AS_STORED,
    advance: Callable[[int], object] = lambda frames: None,
) -> None:
    """Write the caches of one video into ``unit``, and call ``advance`` with the number of frames after every few."""
    levels = settings.levels
    names = {(level, part): _profile_name(level, part) for level in levels for part in PROFILE}
    with ExitStack() as files:
        rgb = {level: files.enter_context(video.new_video(unit.path(_rgb_name(level)), "mjpeg")) for level in levels}
        profiles = {key: files.enter_context(unit.path(name).open("wb")) for key, name in names.items()}
        both = files.enter_context(video.new_video(unit.path(FLOW_NAME), "ffv1"))
        gray = _write_levels(frames.decode(path, framing), rgb, settings.flow_height, framing.aspect)
        flows = _written(flow.flows(gray, flow.estimator(settings.flow), settings.flow_bound), both)
        for motion in _motion(flows, settings):
            advance(len(motion))
            for level in levels:
                side = window_side(settings, level)
                profile = window_profile(window_scores(motion, (side, side)))
                for part, dtype in PROFILE.items():
                    profiles[level, part].write(getattr(profile, part).numpy().astype(dtype).tobytes())
    widths = {level.name: writer.width for level, writer in rgb.items()}
    unit.commit(FLOW_NAME, *map(_rgb_name, levels), *names.values(), frames=both.frames, widths=widths)


def window_side(settings: DataSettings, level: Level) -> int:
    """Return the side of a level's window in pixels of the flow grid."""
    return round(settings.glimpse * settings.flow_height / level.height)


def resize(image: video.Frame, size: tuple[int, int]) -> video.Frame:
    """Resize to ``size``, (height, width) in pixels, without aliasing."""
    method = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def _rgb_name(level: Level) -> str:
    return f"rgb-{level.name}.mkv"


def _profile_name(level: Level, part: str) -> str:
    return f"windows-{level.name}-{part}.bin"


def _write_levels(
    pictures: Iterable[video.Frame], rgb: Mapping[Level, video.VideoWriter], flow_height: int, aspect: float | None
) -> Iterator[video.Frame]:
    """Write each frame at every level's size, and yield it in gray at the size of the flow grid.

    With a common ``aspect``, widths follow from it. Those of the cut frames, rounded to a pixel, could tell the class.
    """
    heights = {flow_height, *(level.height for level in rgb)}
    for picture in pictures:
        height, width = picture.shape[:2]
        shape = aspect or Fraction(width, height)
        resized = {height: resize(picture, (height, round(shape * height))) for height in heights}
        for level, writer in rgb.items():
            writer.write(resized[level.height])
        yield cv2.cvtColor(resized[flow_height], cv2.COLOR_RGB2GRAY)


def _written(flows: Iterable[video.Frame], writer: video.VideoWriter) -> Iterator[video.Frame]:
    """Pass flows on after writing them, u above v."""
    for uv in flows:
        writer.write(np.concatenate(uv))
        yield uv


def _motion(flows: Iterable[video.Frame], settings: DataSettings) -> Iterator[torch.Tensor]:
    """Yield the motion maps of some frames at a time, [frame height width]: means over the stacks around them.

    Each flow's own map is computed once, and added up in the order of the stack; the result equals the map of the
    whole stack bit for bit. Small maps take as long one by one as some at a time.
    """
    before = settings.stack // 2
    flows = _ends_repeated(flows, before, settings.stack - before - 1)
    singles = torch.empty(0, dtype=torch.float64)
    for chunk in iter(lambda: list(islice(flows, _AT_ONCE)), []):
        new = motion_map(torch.from_numpy(np.stack(chunk))[:, None], bound=settings.flow_bound)
        singles = torch.cat([singles, new])
        count = len(singles) - settings.stack + 1
        if count > 0:
            around = (singles[place : place + count] for place in range(settings.stack))
            yield reduce(torch.add, around) / settings.stack
            singles = singles[count:]


def _ends_repeated(items: Iterable[video.Frame], before: int, after: int) -> Iterator[video.Frame]:
    """Yield the items, the first one ``before`` more times and the last one ``after`` more times."""
    items = iter(items)
    last = next(items)
    yield from repeat(last, before + 1)
    for last in items:
        yield last
    yield from repeat(last, after)
