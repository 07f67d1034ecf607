"""A folder per class, one video file per clip."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset, Split
from examples.mpii_cooking.workspace import visible

log = logging.getLogger(__name__)

SUFFIXES = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv")


def class_videos(folder: Path) -> dict[str, list[Path]]:
    """Return the videos in each sub-folder that has some, in natural order: 2 before 10."""
    folders = (path for path in visible(folder) if path.is_dir())
    found = {path.name: sorted(filter(_is_video, visible(path)), key=_natural_order) for path in folders}
    return {name: files for name, files in found.items() if files}


def read_dataset(folder: Path, split: Split | None = None) -> Dataset:
    """Read one sub-folder per class. Of each class, the first two thirds of the files, in natural order, train."""
    if split is not None:
        raise DataError(f"split {split.name} needs an annotation file (*.csv) that names subjects, {folder} has none")
    classes = class_videos(folder)
    _warn_of_ignored(folder, classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder} must hold at least two class folders with videos ({', '.join(SUFFIXES)}), got {len(classes)}"
        )
    problems = [f"class {name} must have at least two videos" for name, files in classes.items() if len(files) < 2]
    videos: dict[str, Path] = {}
    train: list[Clip] = []
    test: list[Clip] = []
    for label, files in enumerate(classes.values()):
        for place, path in enumerate(files):
            key = path.relative_to(folder).as_posix()
            videos[key] = path
            try:
                clip = Clip(key, 0, video.count_frames(path), label, key)
            except DataError as problem:
                problems.append(str(problem))
                continue
            part = train if place < 2 / 3 * len(files) and place < len(files) - 1 else test
            part.append(clip)
    if problems:
        raise DataError(f"{folder} cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems))
    return Dataset(
        name=folder.resolve().name,
        videos=videos,
        classes=tuple(classes),
        train=tuple(train),
        test=tuple(test),
        protocol=(
            f"{len(videos)} videos in {len(classes)} classes; in each class, by file number, the first two thirds "
            f"train ({len(train)} clips) and the rest test ({len(test)} clips)"
        ),
        has_paper_protocol=False,
    )


def _warn_of_ignored(folder: Path, classes: Mapping[str, Sequence[Path]]) -> None:
    """Name the folders without videos, and the files without the suffix of a video."""
    ignored = [f"{path.name}/" for path in visible(folder) if path.is_dir() and path.name not in classes]
    for name, files in classes.items():
        ignored += [f"{name}/{path.name}" for path in visible(folder / name) if path not in files]
    if ignored:
        suffixes, names = ", ".join(SUFFIXES), ", ".join(sorted(ignored))
        log.warning("%s: ignored, since they are not videos (%s): %s", folder, suffixes, names)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _natural_order(path: Path) -> tuple[list[int | str], str]:
    # Digits and other text alternate, so numbers are compared with numbers, text with text.
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
