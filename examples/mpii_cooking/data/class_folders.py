"""A folder per class; each clip in it is a video file or a folder of images."""

import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from examples.mpii_cooking.data import frames
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset, Framing, Lost, Split
from examples.mpii_cooking.data.findings import VIDEO_CURE, Findings, check_names, listed
from examples.mpii_cooking.storage import visible

log = logging.getLogger(__name__)

SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm"),
    ".wmv",
)
_ONE_FRAME_CURE = "use clips of at least two frames, since motion is what changes from one to the next"


@dataclass(frozen=True)
class Choices:
    """What a user may choose about such a folder, as an option of ``run_all.py`` each."""

    groups: str | None = None  # regular expression; what it finds in a clip's name is the clip's group
    fold: str | None = None  # the group that is tested; all others train
    without: tuple[str, ...] = ()  # classes that are left out
    rate: float | Literal["keep"] | None = None  # frames per second; None: the lowest, if rates differ
    aspect: str | None = None  # "W:H" or "narrowest"

    def __post_init__(self) -> None:
        """Check what can be checked without the clips."""
        if isinstance(self.rate, float) and not math.isfinite(self.rate):
            raise DataError(f"rate must be a number of frames per second, or keep, got {self.rate}")


NO_CHOICES = Choices()

Item = TypeVar("Item")
Classes = Mapping[str, Sequence[Path]]  # the clips of each class


def class_clips(folder: Path) -> dict[str, list[Path]]:
    """Return the clips in each sub-folder that has some, in natural order: 2 before 10."""
    folders = (path for path in visible(folder) if path.is_dir())
    found = {path.name: sorted(filter(_is_clip, visible(path)), key=frames.natural_order) for path in folders}
    return {name: clips for name, clips in found.items() if clips}


def group_names(folder: Path, choices: Choices, *, skip_broken: bool = False) -> tuple[str, ...]:
    """Return the groups of the clips in natural order, with ``skip_broken`` of those that can be read.

    A ``DataError`` lists the clips that have none.
    """
    classes = _chosen_classes(folder, choices)
    if skip_broken:
        classes = _without(folder, classes, _broken(folder, classes))
    return tuple(dict.fromkeys(_groups(classes, choices).values()))


def read_dataset(
    folder: Path, split: Split | None = None, choices: Choices = NO_CHOICES, *, skip_broken: bool = False
) -> Dataset:
    """Read one sub-folder per class.

    Of each class, the first two thirds of the clips, in natural order, train; if clips have groups, the first two
    thirds of the groups, or all groups but ``choices.fold``.
    """
    if split is not None:
        raise DataError(f"split {split.name} needs an annotation file (*.csv) that names subjects, {folder} has none")
    classes = _chosen_classes(folder, choices)
    if len(classes) < 2:
        raise DataError(
            f"{folder} must hold at least two class folders with videos ({', '.join(SUFFIXES)}) or folders of images "
            f"({', '.join(frames.IMAGE_SUFFIXES)}), got {len(classes)}"
        )
    _warn_of_ignored(folder, classes, choices)
    lost = tuple(_broken(folder, classes)) if skip_broken else ()
    classes = _without(folder, classes, lost)
    _check(folder, classes, lost)
    paths = [path for clips in classes.values() for path in clips]
    rate, rate_note = _common_rate(paths, choices)
    framing = Framing(rate, _common_aspect(paths, choices))
    groups = _groups(classes, choices)
    tested, split_note = _divided(classes, groups, choices)
    findings = Findings()
    train: list[Clip] = []
    test: list[Clip] = []
    for label, clips in enumerate(classes.values()):
        for path in clips:
            key = path.relative_to(folder).as_posix()
            clip = Clip(key, 0, frames.count(path, framing), label, key, groups.get(path, ""))
            (test if path in tested else train).append(clip)
            if len(clip) < 2:
                findings.add(f"{path} is left with one frame at the common rate", _ONE_FRAME_CURE)
    findings.complain(str(folder))
    notes = [
        f"{len(paths)} videos in {len(classes)} classes",
        split_note.format(train=f"({len(train)} clips)", test=f"({len(test)} clips)"),
        *rate_note,
        *([f"cut to {framing.aspect:.4g}:1"] if framing.aspect else []),
    ]
    return Dataset(
        name=folder.resolve().name,
        videos={path.relative_to(folder).as_posix(): path for path in paths},
        classes=tuple(classes),
        train=tuple(train),
        test=tuple(test),
        protocol="; ".join(notes),
        has_paper_protocol=False,
        framing=framing,
        lost=lost,
    )


def _chosen_classes(folder: Path, choices: Choices) -> dict[str, list[Path]]:
    classes = class_clips(folder)
    unknown = [name for name in choices.without if name not in classes]
    if unknown:
        raise DataError(f"without must name classes of {folder} ({', '.join(classes)}), got {', '.join(unknown)}")
    return {name: clips for name, clips in classes.items() if name not in choices.without}


def _broken(folder: Path, classes: Classes) -> Iterator[Lost]:
    for path in (path for clips in classes.values() for path in clips):
        if problem := frames.broken(path):
            yield Lost(path.relative_to(folder).as_posix(), 1, problem)


def _without(folder: Path, classes: Classes, lost: Iterable[Lost]) -> dict[str, list[Path]]:
    gone = {folder / each.video for each in lost}
    return {name: [path for path in clips if path not in gone] for name, clips in classes.items()}


def _check(folder: Path, classes: Classes, lost: Iterable[Lost]) -> None:
    """Raise a ``DataError`` that says which classes have too few clips, and which clips cannot be used."""
    findings = Findings()
    for name, clips in classes.items():
        inside = (path for clip in clips if clip.is_dir() for path in frames.images(clip))
        check_names([folder / name, *clips, *inside], findings)
        if len(clips) < 2:
            few = f"class {name} has {'one clip' if clips else 'no clip that can be read'}"
            findings.add(few, "give each class a clip to train with and another to test")
            for each in lost:
                if Path(each.video).parts[0] == name:
                    findings.add(each.problem, VIDEO_CURE)
        for path in clips:
            with findings.collected(cure=VIDEO_CURE):
                frames.size(path)
                if frames.count(path) < 2:
                    raise DataError(f"{path} has one frame", _ONE_FRAME_CURE)
    findings.complain(str(folder))


def _groups(classes: Classes, choices: Choices) -> dict[Path, str]:
    """Return the group of every clip, in natural order of the groups; nothing if clips have no groups."""
    if choices.groups is None:
        return {}
    try:
        pattern = re.compile(choices.groups)
    except re.error as error:
        raise DataError(f"groups must be a regular expression, got {choices.groups!r}: {error}") from None
    found = {path: pattern.search(path.name) for clips in classes.values() for path in clips}
    missing = [f"{path.parent.name}/{path.name}" for path, match in found.items() if not (match and match.group())]
    if missing:
        raise DataError(f"groups {choices.groups!r} must be found in the name of every clip, not in {listed(missing)}")
    named = {path: match.group() for path, match in found.items() if match}
    return dict(sorted(named.items(), key=lambda item: frames.natural_order(Path(item[1]))))


def _divided(classes: Classes, groups: Mapping[Path, str], choices: Choices) -> tuple[set[Path], str]:
    """Return the clips that are tested, and how they were chosen, with places for the numbers of clips."""
    names = list(dict.fromkeys(groups.values()))
    if len(names) == 1:
        raise DataError(f"groups {choices.groups!r} must find at least two groups, got {names[0]}")
    if choices.fold is not None:
        if choices.fold not in names:
            raise DataError(f"fold must be a group, one of {listed(names) or 'none'}, got {choices.fold}")
        note = f"group {choices.fold} is tested {{test}}, the other {len(names) - 1} groups train {{train}}"
        return {path for path, name in groups.items() if name == choices.fold}, note
    if groups:
        last = _last_third(names)
        note = f"of {len(names)} groups, by number, the first two thirds train {{train}} and the rest test {{test}}"
        return {path for path, name in groups.items() if name in last}, note
    note = "in each class, by file number, the first two thirds train {train} and the rest test {test}"
    return {path for clips in classes.values() for path in _last_third(clips)}, note


def _last_third(items: Sequence[Item]) -> set[Item]:
    """Return what follows the first two thirds, at least the last one."""
    return {item for place, item in enumerate(items) if place >= min(2 / 3 * len(items), len(items) - 1)}


def _common_rate(paths: Iterable[Path], choices: Choices) -> tuple[float | None, list[str]]:
    """Return the rate that clips are brought to, None if they keep theirs, and what to say about it."""
    rates = sorted(filter(None, map(frames.rate, paths)))
    if not rates:
        if choices.rate not in (None, "keep"):
            raise DataError(f"rate must be left out, since no clip has a frame rate, got {choices.rate}")
        return None, []
    slowest, fastest = float(rates[0]), float(rates[-1])
    span = f"{slowest:.4g} to {fastest:.4g} frames a second"
    if choices.rate == "keep":
        return None, [f"clips keep their {span}"] if frames.differ(fastest, slowest) else []
    rate = slowest if choices.rate is None else choices.rate
    if rate <= 0 or frames.differ(rate, slowest):
        raise DataError(f"rate must be above 0 and at most that of the slowest clip, {slowest:.4g}, got {rate:g}")
    if not frames.differ(fastest, rate):
        return None, []
    return rate, [f"{rate:.4g} frames a second, taken from {span}"]


def _common_aspect(paths: Iterable[Path], choices: Choices) -> float | None:
    """Return the width over height that clips are cut to."""
    if choices.aspect is None:
        return None
    if choices.aspect == "narrowest":
        return max(1.0, min(width / height for width, height in map(frames.size, paths)))
    match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", choices.aspect)
    width, height = map(float, match.groups()) if match else (0.0, 1.0)
    if not 0 < height <= width <= frames.WIDEST * height:
        raise DataError(
            f"aspect must be W:H with W from H to {frames.WIDEST} times H, such as 4:3, or narrowest, "
            f"got {choices.aspect}"
        )
    return width / height


def _warn_of_ignored(folder: Path, classes: Classes, choices: Choices) -> None:
    """Name the folders without clips, and what lies beside the clips."""
    known = {*classes, *choices.without}
    ignored = [f"{path.name}/" for path in visible(folder) if path.is_dir() and path.name not in known]
    for name, clips in classes.items():
        ignored += [f"{name}/{path.name}" for path in visible(folder / name) if path not in clips]
        inside = ((clip, path) for clip in clips if clip.is_dir() for path in visible(clip))
        ignored += [f"{name}/{clip.name}/{path.name}" for clip, path in inside if path not in frames.images(clip)]
    if ignored:
        suffixes, names = ", ".join(SUFFIXES), listed(sorted(ignored))
        log.warning("%s: ignored, since they are not videos (%s): %s", folder, suffixes, names)


def _is_clip(path: Path) -> bool:
    return bool(frames.images(path)) if path.is_dir() else path.suffix.lower() in SUFFIXES and path.is_file()
