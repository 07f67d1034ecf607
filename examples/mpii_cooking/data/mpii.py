"""The format of MPII Cooking Activities: one annotation file, one AVI file per recording.

The annotation file has no header and no quoting. Its columns are ``subject, file_name, start_frame, end_frame,
category_id, category_name``. Frames count from 1 and the end is inclusive. Category 1 is background, not a class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset, Split
from examples.mpii_cooking.workspace import visible

BACKGROUND = 1
TRAIN_SUBJECTS = (11, 12, 13, 14, 15)
TEST_SUBJECTS = (8, 10, 16, 17, 18, 19, 20)
PAPER_CLIPS = (1715, 2033)
"""Training and test clips of the split behind the paper's tables: each percentage of its Table 2 is k / 2033."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # a plain name: it must not lead out of the folder


class AnnotationError(DataError):
    """The annotation file cannot be used; the message lists every bad row."""


class MissingVideosError(DataError):
    """Annotated videos are missing or cannot be opened; the message lists all of them."""


FIXED5 = Split("fixed5", TRAIN_SUBJECTS, TEST_SUBJECTS)
"""The paper's split."""


def choose_split(name: Literal["fixed5", "loso7"], fold: int | None = None) -> Split:
    """Return a published split.

    Args:
        name: "fixed5", the paper's, or "loso7" of Rohrbach et al. (CVPR 2012), which leaves one subject out: the five
            training subjects and six of the test subjects train, the seventh is tested.
        fold: the subject that loso7 leaves out.

    Raises:
        DataError: if loso7 has no fold, the fold is not a test subject, or fixed5 has one.
    """
    if name == "fixed5":
        if fold is not None:
            raise DataError(f"only split loso7 has folds, got fold {fold} with fixed5")
        return FIXED5
    if fold not in TEST_SUBJECTS:
        raise DataError(f"split loso7 needs a fold, one of subjects {_listed(TEST_SUBJECTS)}, got {fold}")
    others = (subject for subject in TEST_SUBJECTS if subject != fold)
    return Split(f"loso7-{fold}", tuple(sorted((*TRAIN_SUBJECTS, *others))), (fold,))


class Interval(NamedTuple):
    """One row of the annotation file."""

    row: int
    """Row number, counted from 1."""
    subject: int
    file_name: str
    start: int
    """First frame, counted from 1."""
    end: int
    """Last frame, counted from 1."""
    category: int
    name: str


class _RowError(ValueError):
    pass


def parse_annotations(csv: Path) -> tuple[Interval, ...]:
    """Read and check every row.

    Raises:
        AnnotationError: if any row is malformed, repeated or contradicts another; lists all of them.
    """
    intervals, problems = [], []
    for row, line in enumerate(csv.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            intervals.append(_parse_row(row, line))
        except _RowError as problem:
            problems.append((row, str(problem)))
    problems += _contradictions(intervals)
    if problems:
        listed = "\n".join(f"  row {row}: {problem}" for row, problem in sorted(problems))
        raise AnnotationError(f"{csv} has {len(problems)} bad rows:\n{listed}")
    if not intervals:
        raise AnnotationError(f"{csv} has no rows")
    return tuple(intervals)


def _parse_row(row: int, line: str) -> Interval:
    fields = line.split(",")
    if len(fields) != 6:
        raise _RowError(f"must have 6 fields, got {len(fields)}: {line[:100]!r}")
    subject, start, end, category = (
        _positive(name, fields[place])
        for place, name in {0: "subject", 2: "start_frame", 3: "end_frame", 4: "category_id"}.items()
    )
    if not _FILE_NAME.fullmatch(fields[1]):
        raise _RowError(f"file_name must be a plain name of letters, digits, '.', '_' and '-', got {fields[1][:100]!r}")
    if end < start:
        raise _RowError(f"end_frame must not lie before start_frame, got {start} to {end}")
    name = fields[5].replace("\\&", "&").strip()
    if not name:
        raise _RowError("category_name must not be empty")
    return Interval(row, subject, fields[1], start, end, category, name)


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise _RowError(f"{name} must be a positive whole number, got {text[:100]!r}")
    return int(text)


def _contradictions(intervals: Sequence[Interval]) -> Iterator[tuple[int, str]]:
    """Yield a problem for every row that repeats an earlier one or contradicts what one says of a category or video."""
    seen: dict[tuple[object, ...], Interval] = {}
    names: dict[int, Interval] = {}
    subjects: dict[str, Interval] = {}
    for interval in intervals:
        first = seen.setdefault(interval[1:], interval)
        if first is not interval:
            yield interval.row, f"repeats row {first.row}"
        first = names.setdefault(interval.category, interval)
        if first.name != interval.name:
            yield interval.row, f"names category {interval.category} {interval.name!r}, row {first.row} {first.name!r}"
        first = subjects.setdefault(interval.file_name, interval)
        if first.subject != interval.subject:
            yield interval.row, f"gives this video subject {interval.subject}, row {first.row} {first.subject}"


def summary(intervals: Iterable[Interval], split: Split = FIXED5) -> str:
    """Count intervals, classes and clips in one line."""
    counts = Counter(_part_of(interval, split) for interval in intervals)
    labeled = counts.total() - counts["background"]
    classes = len({interval.category for interval in intervals} - {BACKGROUND})
    return (
        f"{counts.total()} intervals, {labeled} labeled in {classes} classes, {counts['background']} background, "
        f"{counts['train']} train and {counts['test']} test clips"
    )


def _part_of(interval: Interval, split: Split) -> str:
    if interval.category == BACKGROUND:
        return "background"
    if interval.subject in split.train:
        return "train"
    return "test" if interval.subject in split.test else "unused"


def recognizes(folder: Path) -> bool:
    """Whether ``folder`` holds an annotation file."""
    return bool(_annotation_files(folder))


def read_dataset(folder: Path, split: Split | None = None) -> Dataset:
    """Read the annotation file and find its videos, in ``folder/videos`` or in ``folder``.

    Args:
        folder: holds one annotation file.
        split: which subjects train and which are tested; the paper's split by default.

    Raises:
        AnnotationError: if there are several annotation files, or the only one cannot be used.
        MissingVideosError: if a video that the clips need is missing or cannot be opened.
    """
    csv, *others = _annotation_files(folder)
    if others:
        names = ", ".join(path.name for path in (csv, *others))
        raise AnnotationError(f"data must hold one annotation file, got {1 + len(others)} in {folder}: {names}")
    split = split or FIXED5
    intervals = parse_annotations(csv)
    categories = {interval.category: interval.name for interval in intervals if interval.category != BACKGROUND}
    label_of = {category: label for label, category in enumerate(sorted(categories))}
    parts: dict[str, list[Clip]] = {"train": [], "test": []}
    for interval in intervals:
        if (part := _part_of(interval, split)) in parts:
            origin = f"{csv.name} row {interval.row}"
            clip = Clip(interval.file_name, interval.start - 1, interval.end, label_of[interval.category], origin)
            parts[part].append(clip)
    train, test = tuple(parts["train"]), tuple(parts["test"])
    if not train or not test:
        raise AnnotationError(
            f"{csv} must have clips of training subjects {_listed(split.train)} and of test subjects "
            f"{_listed(split.test)}, got {len(train)} and {len(test)}"
        )
    counts = summary(intervals, split)
    return Dataset(
        name=folder.resolve().name,
        videos=_find_videos(folder, sorted({clip.video for clip in train + test}), counts),
        classes=tuple(categories[category] for category in sorted(categories)),
        train=train,
        test=test,
        protocol=f"{counts}; {split.name}: trained on subjects {_listed(split.train)}, tested on {_listed(split.test)}",
        has_paper_protocol=(len(train), len(test)) == PAPER_CLIPS,
    )


def _annotation_files(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix == ".csv"]


def _find_videos(folder: Path, names: Sequence[str], context: str) -> dict[str, Path]:
    found, problems = {}, []
    for name in names:
        places = (folder / "videos" / f"{name}.avi", folder / f"{name}.avi")
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            problems.append(f"{name}.avi is missing")
            continue
        found[name] = path
        try:
            video.announced_frames(path)
        except video.VideoError as problem:
            problems.append(str(problem))
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise MissingVideosError(
            f"{context}, but {len(problems)} of {len(names)} videos cannot be used; "
            f"put them into {folder / 'videos'}:\n{listed}"
        )
    return found


def _listed(subjects: Iterable[int]) -> str:
    return ", ".join(map(str, subjects))
