"""A folder per class, one video file per clip."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset, Split
from examples.mpii_cooking.workspace import visible

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv"})
TRAIN_FRACTION = 2 / 3


def recognizes(folder: Path) -> bool:
    """Whether ``folder`` has sub-folders with videos."""
    return any(_video_files(path) for path in visible(folder) if path.is_dir())


def read_dataset(folder: Path, split: Split | None = None) -> Dataset:
    """Read every class folder. In each class the first two thirds of the files, in natural order, are for training.

    Folders without videos and files whose suffix is not that of a video are ignored; a warning names them.

    Args:
        folder: holds one sub-folder per class.
        split: must be None, since no subjects are known.

    Raises:
        DataError: if there is a split, there are fewer than two classes, a class has fewer than two videos, or videos
            are broken (all of them are listed).
    """
    if split is not None:
        raise DataError(f"split {split.name} needs an annotation file (*.csv) that names subjects, {folder} has none")
    folders = [path for path in visible(folder) if path.is_dir()]
    classes = {path.name: files for path in folders if (files := _video_files(path))}
    _warn_of_ignored(folder, folders, classes)
    if len(classes) < 2:
        raise DataError(
            f"{folder} must hold at least two class folders with videos ({_suffixes()}), got {len(classes)}"
        )
    problems = [f"class {name} must have at least two videos" for name, files in classes.items() if len(files) < 2]
    clips: dict[str, list[Clip]] = {"train": [], "test": []}
    videos = {}
    for label, files in enumerate(classes.values()):
        for place, path in enumerate(files):
            key = path.relative_to(folder).as_posix()
            videos[key] = path
            try:
                clip = Clip(key, 0, video.count_frames(path), label, key)
            except video.VideoError as problem:
                problems.append(str(problem))
                continue
            clips["train" if place < TRAIN_FRACTION * len(files) and place < len(files) - 1 else "test"].append(clip)
    if problems:
        raise DataError(f"{folder} cannot be used:\n" + "\n".join(f"  {problem}" for problem in problems))
    train, test = tuple(clips["train"]), tuple(clips["test"])
    return Dataset(
        name=folder.resolve().name,
        videos=videos,
        classes=tuple(classes),
        train=train,
        test=test,
        protocol=(
            f"{len(videos)} videos in {len(classes)} classes; in each class, by file number, the first two thirds "
            f"train ({len(train)} clips) and the rest test ({len(test)} clips)"
        ),
        has_paper_protocol=False,
    )


def _warn_of_ignored(folder: Path, folders: Iterable[Path], classes: Mapping[str, Sequence[Path]]) -> None:
    ignored = []
    for path in folders:
        if path.name in classes:
            ignored += [f"{path.name}/{file.name}" for file in visible(path) if file not in classes[path.name]]
        else:
            ignored.append(f"{path.name}/")
    if ignored:
        log.warning("%s: ignored, since they are no videos (%s): %s", folder, _suffixes(), ", ".join(ignored))


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))


def _video_files(folder: Path) -> list[Path]:
    files = (path for path in visible(folder) if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(files, key=_natural_order)


def _natural_order(path: Path) -> tuple[list[int | str], str]:
    """Order 2 before 10. Digits and other text alternate, so numbers are compared with numbers, text with text."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
