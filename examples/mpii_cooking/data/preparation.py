"""One pass over every video that caches resized frames, optical flow and the windows with the most motion.

Memory does not grow with a video's length, every video is a resumable unit, and training can read the caches in any
order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from functools import reduce
from itertools import islice, repeat
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import DataSettings, Level
from examples.mpii_cooking.data import flow, frames, sources, video
from examples.mpii_cooking.data.caches import FLOW_NAME, PROFILE, VideoCache, profile_name, resize, rgb_name
from examples.mpii_cooking.data.dataset import AS_STORED, BrokenError, DataError, Dataset, Framing
from examples.mpii_cooking.data.findings import VIDEO_CURE, Findings
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import say_what_no_longer_fits
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st.motion import motion_map, window_profile, window_scores

MEMORY = 1_500_000_000  # bytes of decoded frames that a process keeps

_PARALLEL = 2
"""Videos processed at a time: decoding, flow and encoding release Python's lock, but each video holds buffers."""
_AT_ONCE = 16
"""Frames whose motion is searched at a time."""

_CURE_OF_LENGTH = "copy the whole video, or correct the rows"
_CURE_OF_SHAPE = "in a folder of classes, --aspect cuts all clips to one shape"

PreparedVideo = tuple[Unit, int]  # a video's unit and its number of frames


def prepare(
    dataset: Dataset, settings: DataSettings, workspace: Workspace, *, trust_mtime: bool = False
) -> dict[str, VideoCache]:
    """Prepare the videos that are not prepared yet; ranks share them. Return the caches by the videos' keys.

    Videos are known by their content; ``trust_mtime`` is that of :func:`sources.read_contents`.

    All containers are checked before any video is decoded, which can take days. A ``DataError`` lists all videos that
    are broken, have an unusable shape or end before their clips do.
    """
    return prepare_sound(dataset, settings, workspace, skip_broken=False, trust_mtime=trust_mtime)[1]


def prepare_sound(
    dataset: Dataset, settings: DataSettings, workspace: Workspace, *, skip_broken: bool, trust_mtime: bool = False
) -> tuple[Dataset, dict[str, VideoCache]]:
    """Prepare videos as ``prepare`` does, and return the dataset with them; ``skip_broken`` leaves out broken ones."""

    def checked(key: str) -> PreparedVideo:
        path, unit = dataset.videos[key], units[key]
        if unit.done:
            return unit, unit.facts["frames"]
        with _unless_changed(contents[key]):
            check_shape(path, dataset.framing)
            return unit, frames.count(path, dataset.framing)

    def prepared(key: str) -> PreparedVideo:
        unit, _ = found[key]
        with _unless_changed(contents[key]):
            prepare_video(dataset.videos[key], settings, unit, dataset.framing, bar.update)
        return unit, unit.facts["frames"]

    contents = sources.read_contents(dataset.videos, workspace.root / "sources.json", trust_mtime=trust_mtime)
    units = {
        key: video_unit(key, source.digest, settings, workspace, dataset.framing, source.check)
        for key, source in contents.items()
    }
    say_what_no_longer_fits("prepare", units.values())
    dataset, found = _usable(dataset, checked, list(dataset.videos), skip_broken=skip_broken)
    lengths = {key: length for key, (unit, length) in found.items() if not unit.done}
    missing = sorted(lengths, key=lengths.__getitem__, reverse=True)
    total = sum(lengths[key] for key in distributed.share(missing))
    hidden = not missing or not distributed.is_main()
    with tqdm(total=total, desc="decode, flow, windows", unit="frame", leave=False, disable=hidden) as bar:
        dataset, newly = _usable(dataset, prepared, missing, skip_broken=skip_broken)
    done = {key: unit for key, (unit, _) in (found | newly).items() if key in dataset.videos}
    memory = video.FrameMemory(MEMORY)
    return dataset, {key: VideoCache(unit, settings, memory) for key, unit in done.items()}


@contextmanager
def _unless_changed(source: sources.Source) -> Iterator[None]:
    """Call a video broken only if it is the one whose content was read: it may be replaced, or its disk go away."""
    try:
        yield
    except BrokenError:
        source.check()
        raise


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


def check_shape(path: Path, framing: Framing) -> None:
    """Raise a ``DataError`` if a video is higher than wide, or so wide that its frames have no rows to speak of."""
    width, height = frames.size(path, framing)
    if not height <= width <= frames.WIDEST * height:
        wanted = "at least as wide as high" if width < height else f"at most {frames.WIDEST} times as wide as high"
        raise DataError(f"{path} must be {wanted}, got {width} x {height}", _CURE_OF_SHAPE)


def video_unit(
    key: str,
    content: str,
    settings: DataSettings,
    workspace: Workspace,
    framing: Framing = AS_STORED,
    check: Callable[[], None] | None = None,
) -> Unit:
    """Return where the caches of a video with a digest are kept; ``check`` raises an error if the video has changed."""
    inputs = {"video": content, "settings": settings, "framing": framing} | made_by(__name__)
    return workspace.unit(f"prepare/{key}", inputs, check)


def prepare_video(
    path: Path,
    settings: DataSettings,
    unit: Unit,
    framing: Framing = AS_STORED,
    advance: Callable[[int], object] = lambda frames: None,
) -> None:
    """Write the caches of one video into ``unit``, and call ``advance`` with the number of frames after every few."""
    levels = settings.levels
    names = {(level, part): profile_name(level, part) for level in levels for part in PROFILE}
    with ExitStack() as files:
        rgb = {level: files.enter_context(video.new_video(unit.path(rgb_name(level)), "mjpeg")) for level in levels}
        asides = {key: files.enter_context(written_aside(unit.path(name))) for key, name in names.items()}
        profiles = {key: files.enter_context(aside.open("wb")) for key, aside in asides.items()}
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
    unit.commit(FLOW_NAME, *map(rgb_name, levels), *names.values(), frames=both.frames, widths=widths)


def window_side(settings: DataSettings, level: Level) -> int:
    """Return the side of a level's window in pixels of the flow grid."""
    return round(settings.glimpse * settings.flow_height / level.height)


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
