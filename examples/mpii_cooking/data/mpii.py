"""The format of MPII Cooking Activities: one annotation file, one AVI file per recording.

The annotation file has no header and no quoting. Its columns are ``subject, file_name, start_frame, end_frame,
category_id, category_name``. Frames count from 1 and the end is inclusive. Category 1 is background, not a class.

Videos that were made have a file with their cues beside the annotations. Real ones have none.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, Cues, DataError, Dataset, Split
from examples.mpii_cooking.workspace import visible, write_json

BACKGROUND = 1
TRAIN_SUBJECTS = (11, 12, 13, 14, 15)
TEST_SUBJECTS = (8, 10, 16, 17, 18, 19, 20)
FIXED5 = Split("fixed5", TRAIN_SUBJECTS, TEST_SUBJECTS)  # the paper's split
PAPER_CLIPS = (1715, 2033)
"""Training and test clips of the split behind the paper's tables: each percentage of its Table 2 is k / 2033."""

_CUES = "cues.json"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # a plain name: it must not lead out of the folder


def choose_split(name: Literal["fixed5", "loso7"], fold: int | str | None = None) -> Split:
    """Return the paper's split, or that of Rohrbach et al. (CVPR 2012), which leaves one subject, ``fold``, out.

    With loso7, the five training subjects and six of the test subjects train; the seventh is tested.
    """
    if name == "fixed5":
        if fold is not None:
            raise DataError(f"only split loso7 has folds, got fold {fold} with fixed5")
        return FIXED5
    left_out = {str(subject): subject for subject in TEST_SUBJECTS}.get(str(fold))
    if left_out is None:
        raise DataError(f"split loso7 needs a fold, one of subjects {_listed(TEST_SUBJECTS)}, got {fold}")
    others = {*TRAIN_SUBJECTS, *TEST_SUBJECTS} - {left_out}
    return Split(f"loso7-{left_out}", tuple(sorted(others)), (left_out,))


class LabeledInterval(NamedTuple):
    """One row of the annotation file. Rows and frames are counted from 1."""

    row: int
    subject: int
    file_name: str
    start: int
    end: int
    category: int
    name: str


def parse_annotations(csv: Path) -> tuple[LabeledInterval, ...]:
    """Read and check every row. A ``DataError`` lists all rows that are malformed, repeated or contradict another."""
    intervals, problems = [], []
    for row, line in enumerate(csv.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        try:
            intervals.append(_parse_row(row, line))
        except DataError as problem:
            problems.append((row, str(problem)))
    problems += _contradictions(intervals)
    if problems:
        listed = "\n".join(f"  row {row}: {problem}" for row, problem in sorted(problems))
        raise DataError(f"{csv} has {len(problems)} bad rows:\n{listed}")
    if not intervals:
        raise DataError(f"{csv} has no rows")
    return tuple(intervals)


def _parse_row(row: int, line: str) -> LabeledInterval:
    fields = line.split(",")
    if len(fields) != 6:
        raise DataError(f"must have 6 fields, got {len(fields)}: {line[:100]!r}")
    numbers = {"subject": fields[0], "start_frame": fields[2], "end_frame": fields[3], "category_id": fields[4]}
    subject, start, end, category = (_positive(name, text) for name, text in numbers.items())
    if not _FILE_NAME.fullmatch(fields[1]):
        raise DataError(f"file_name must be a plain name of letters, digits, '.', '_' and '-', got {fields[1][:100]!r}")
    if end < start:
        raise DataError(f"end_frame must not lie before start_frame, got {start} to {end}")
    name = fields[5].replace("\\&", "&").strip()
    if not name:
        raise DataError("category_name must not be empty")
    return LabeledInterval(row, subject, fields[1], start, end, category, name)


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise DataError(f"{name} must be a positive whole number, got {text[:100]!r}")
    return int(text)


def _contradictions(intervals: Iterable[LabeledInterval]) -> Iterator[tuple[int, str]]:
    """Yield a problem for every row that repeats an earlier one or contradicts the name or subject that one gives."""
    seen: dict[tuple[object, ...], LabeledInterval] = {}
    names: dict[int, LabeledInterval] = {}
    subjects: dict[str, LabeledInterval] = {}
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


def summary(intervals: Iterable[LabeledInterval], split: Split = FIXED5) -> str:
    """Count intervals, classes and clips in one line."""
    counts = Counter(_part_of(interval, split) for interval in intervals)
    labeled = counts.total() - counts["background"]
    classes = len({interval.category for interval in intervals} - {BACKGROUND})
    return (
        f"{counts.total()} intervals, {labeled} labeled in {classes} classes, {counts['background']} background, "
        f"{counts['train']} train and {counts['test']} test clips"
    )


def _part_of(interval: LabeledInterval, split: Split) -> str:
    if interval.category == BACKGROUND:
        return "background"
    if interval.subject in split.train:
        return "train"
    return "test" if interval.subject in split.test else "unused"


def annotation_files(folder: Path) -> list[Path]:
    """Return the annotation files in ``folder``: one, if it has this format."""
    return [path for path in visible(folder) if path.suffix == ".csv"]


def read_dataset(folder: Path, split: Split | None = None, *, skip_broken: bool = False) -> Dataset:
    """Read the annotation file and find its videos, in ``folder/videos`` or in ``folder``.

    With ``skip_broken``, the videos that cannot be opened are left out.
    """
    csv, *others = annotation_files(folder)
    if others:
        names = ", ".join(path.name for path in (csv, *others))
        raise DataError(f"data must hold one annotation file, got {1 + len(others)} in {folder}: {names}")
    split = split or FIXED5
    intervals = parse_annotations(csv)
    classes = dict(sorted({each.category: each.name for each in intervals if each.category != BACKGROUND}.items()))
    label_of = {category: label for label, category in enumerate(classes)}

    def clips(part: str) -> tuple[Clip, ...]:
        chosen = (interval for interval in intervals if _part_of(interval, split) == part)
        return tuple(
            Clip(each.file_name, each.start - 1, each.end, label_of[each.category], f"{csv.name} row {each.row}")
            for each in chosen
        )

    train, test = clips("train"), clips("test")
    if not train or not test:
        raise DataError(
            f"{csv} must have clips of training subjects {_listed(split.train)} and of test subjects "
            f"{_listed(split.test)}, got {len(train)} and {len(test)}"
        )
    counts = summary(intervals, split)
    broken: dict[str, str] | None = {} if skip_broken else None
    videos = _find_videos(folder, sorted({clip.video for clip in train + test}), counts, broken)
    return Dataset(
        name=folder.resolve().name,
        videos=videos,
        classes=tuple(classes.values()),
        train=train,
        test=test,
        protocol=f"{counts}; {split.name}: trained on subjects {_listed(split.train)}, tested on {_listed(split.test)}",
        has_paper_protocol=(len(train), len(test)) == PAPER_CLIPS,
        cues=_read_cues(folder),
    ).without(broken or {})


def write_cues(folder: Path, cues: Cues) -> None:
    """Write the cues of videos that were made into their folder. A frame without a thing has null for its box."""
    boxes = {key: [None if np.isnan(box).any() else box.tolist() for box in rows] for key, rows in cues.boxes.items()}
    write_json(folder / _CUES, {"values": cues.values, "boxes": boxes})


def _read_cues(folder: Path) -> Cues | None:
    if not (folder / _CUES).is_file():
        return None
    stored = json.loads((folder / _CUES).read_text(encoding="utf-8"))
    nowhere = [np.nan] * 4
    return Cues(
        {cue: tuple(values) for cue, values in stored["values"].items()},
        {key: np.array([box or nowhere for box in rows], np.float32) for key, rows in stored["boxes"].items()},
    )


def _find_videos(folder: Path, names: Sequence[str], context: str, broken: dict[str, str] | None) -> dict[str, Path]:
    """Return the videos' paths. A ``DataError`` lists all videos that are missing or cannot be opened.

    Those that cannot be opened are put into ``broken``, if it is given, with what is wrong with them.
    """
    found, problems = {}, []
    for name in names:
        inside, outside = folder / "videos" / f"{name}.avi", folder / f"{name}.avi"
        found[name] = inside if inside.is_file() else outside
        try:
            video.frame_size(found[name])
        except DataError as problem:
            if broken is not None and found[name].is_file():
                broken[name] = str(problem)
            else:
                problems.append(str(problem) if found[name].is_file() else f"{name}.avi is missing")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise DataError(
            f"{context}, but {len(problems)} of {len(names)} videos cannot be used; "
            f"put them into {folder / 'videos'}:\n{listed}"
        )
    return found


def _listed(subjects: Iterable[int]) -> str:
    return ", ".join(map(str, subjects))
