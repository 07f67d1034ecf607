"""The format of MPII Cooking Activities: one annotation file, one AVI file per recording.

The annotation file is UTF-8 text without a header and without quotes. Its columns are ``subject, file_name,
start_frame, end_frame, category_id, category_name``. Frames count from 1 and the end is inclusive. Category 1 is
background, not a class.

Videos that were made have a file with their cues beside the annotations. Real ones have none.
"""

import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import BrokenError, Clip, Cues, DataError, Dataset, Split
from examples.mpii_cooking.data.findings import VIDEO_CURE, Findings
from examples.mpii_cooking.storage import DamagedError, read_json, visible, write_json

BACKGROUND = 1
TRAIN_SUBJECTS = (11, 12, 13, 14, 15)
TEST_SUBJECTS = (8, 10, 16, 17, 18, 19, 20)
FIXED5 = Split("fixed5", TRAIN_SUBJECTS, TEST_SUBJECTS)  # the paper's split
PAPER_CLIPS = (1715, 2033)
"""Training and test clips of the split behind the paper's tables: each percentage of its Table 2 is k / 2033."""

CUES = "cues.json"
_CUES_SCHEMA = 1
_FILE_CURE = "download the annotation file again"
_ROW_CURE = "write the rows as subject,file_name,start_frame,end_frame,category_id,category_name"
_NUMBER_CURE = "count subjects, frames and categories from 1; the last frame belongs to the interval"
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
    """Read and check every row. A ``DataError`` says which rows are malformed, repeated or contradict another."""
    findings = Findings()
    intervals = _parse(csv, findings)
    findings.complain(str(csv))
    return intervals


def _parse(csv: Path, findings: Findings) -> tuple[LabeledInterval, ...]:
    """Return the rows that are well formed."""
    try:
        content = csv.read_bytes()
    except OSError as error:
        raise DataError(f"{csv} cannot be read ({error.strerror})", _FILE_CURE) from error
    rows = content.removeprefix(BOM_UTF8).rstrip().splitlines()
    if not rows:
        raise DataError(f"{csv} has no rows", _FILE_CURE)
    intervals = []
    for row, line in enumerate(rows, start=1):
        with findings.collected(f"{csv.name} row {row}"):
            intervals.append(_parse_row(row, line))
    for row, problem, cure in _contradictions(intervals):
        findings.add(f"{csv.name} row {row}: {problem}", cure)
    return tuple(intervals)


def _parse_row(row: int, line: bytes) -> LabeledInterval:
    try:
        fields = line.decode().split(",")
    except UnicodeDecodeError:
        raise DataError(f"must be UTF-8, got {line[:100]!r}", "save the file as UTF-8") from None
    if len(fields) != 6:
        raise DataError(f"must have 6 fields, got {len(fields)}: {line[:100]!r}", _ROW_CURE)
    numbers = {"subject": fields[0], "start_frame": fields[2], "end_frame": fields[3], "category_id": fields[4]}
    subject, start, end, category = (_positive(name, text) for name, text in numbers.items())
    if not _FILE_NAME.fullmatch(fields[1]):
        raise DataError(
            f"file_name must be a plain name of letters, digits, '.', '_' and '-', got {fields[1][:100]!r}",
            "rename the video and write its new name without .avi",
        )
    if end < start:
        raise DataError(f"end_frame must not lie before start_frame, got {start} to {end}", _NUMBER_CURE)
    name = fields[5].replace("\\&", "&").strip()
    if not name or '"' in name:
        raise DataError(f"category_name must be a name without quotes, got {fields[5][:100]!r}", _ROW_CURE)
    if category == BACKGROUND and not name.lower().startswith("background"):
        raise DataError(
            f"category {BACKGROUND} is background and no class, got the name {name[:100]!r}",
            f"give the class another category_id, or name category {BACKGROUND} 'Background activity'",
        )
    return LabeledInterval(row, subject, fields[1], start, end, category, name)


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise DataError(f"{name} must be a positive whole number, got {text[:100]!r}", _NUMBER_CURE)
    return int(text)


def _contradictions(intervals: Iterable[LabeledInterval]) -> Iterator[tuple[int, str, str]]:
    """Yield row, problem and cure for every row that repeats an earlier one or contradicts what that one says."""
    seen: dict[tuple[str, int, int], LabeledInterval] = {}
    names: dict[int, LabeledInterval] = {}
    categories: dict[str, LabeledInterval] = {}
    subjects: dict[str, LabeledInterval] = {}
    for each in intervals:
        first = seen.setdefault((each.file_name, each.start, each.end), each)
        if first.category != each.category:
            problem = f"gives this interval category {each.category}, row {first.row} {first.category}"
            yield each.row, problem, "keep one class of each interval"
        elif first is not each and first[1:] == each[1:]:
            yield each.row, f"repeats row {first.row}", "remove the row"
        first = names.setdefault(each.category, each)
        if first.name != each.name:
            problem = f"names category {each.category} {each.name!r}, row {first.row} {first.name!r}"
            yield each.row, problem, "give each category_id one category_name"
        first = categories.setdefault(each.name, each)
        if first.category != each.category:
            problem = f"gives {each.name!r} category {each.category}, row {first.row} {first.category}"
            yield each.row, problem, "give each category_name one category_id"
        first = subjects.setdefault(each.file_name, each)
        if first.subject != each.subject:
            problem = f"gives this video subject {each.subject}, row {first.row} {first.subject}"
            yield each.row, problem, "give each video one subject"


def summary(intervals: Iterable[LabeledInterval], split: Split = FIXED5) -> str:
    """Count intervals, classes and clips in one line."""
    counts = Counter(_part_of(interval, split) for interval in intervals)
    labeled = counts.total() - counts["background"]
    classes = len({interval.category for interval in intervals} - {BACKGROUND})
    others = sorted({each.subject for each in intervals if _part_of(each, split) == "unused"})
    unused = [f"{counts['unused']} of other subjects ({_listed(others)}) are not used"] if others else []
    parts = [
        f"{counts.total()} intervals",
        f"{labeled} labeled in {classes} classes",
        f"{counts['background']} background",
        f"{counts['train']} train and {counts['test']} test clips",
        *unused,
    ]
    return ", ".join(parts)


def _part_of(interval: LabeledInterval, split: Split) -> str:
    if interval.category == BACKGROUND:
        return "background"
    if interval.subject in split.train:
        return "train"
    return "test" if interval.subject in split.test else "unused"


def annotation_files(folder: Path) -> list[Path]:
    """Return the annotation files in ``folder``: one, if it has this format."""
    return [path for path in visible(folder) if path.suffix.lower() == ".csv" and not path.is_dir()]


def read_dataset(folder: Path, split: Split | None = None, *, skip_broken: bool = False) -> Dataset:
    """Read the annotation file and find its videos, in ``folder/videos`` or in ``folder``.

    With ``skip_broken``, the videos that cannot be opened are left out.
    """
    csv, *others = annotation_files(folder)
    if others:
        names = ", ".join(path.name for path in (csv, *others))
        raise DataError(f"data must hold one annotation file, got {1 + len(others)} in {folder}: {names}")
    split = split or FIXED5
    findings = Findings()
    intervals = _parse(csv, findings)
    classes = dict(sorted({each.category: each.name for each in intervals if each.category != BACKGROUND}.items()))
    label_of = {category: label for label, category in enumerate(classes)}

    def clips(part: str) -> tuple[Clip, ...]:
        chosen = (interval for interval in intervals if _part_of(interval, split) == part)
        return tuple(
            Clip(each.file_name, each.start - 1, each.end, label_of[each.category], f"{csv.name} row {each.row}")
            for each in chosen
        )

    train, test = clips("train"), clips("test")
    if not findings and not (train and test):
        raise DataError(
            f"{csv} must have clips of training subjects {_listed(split.train)} and of test subjects "
            f"{_listed(split.test)}, got {len(train)} and {len(test)}"
        )
    counts = summary(intervals, split)
    broken: dict[str, str] | None = {} if skip_broken else None
    videos = _find_videos(folder, sorted({clip.video for clip in train + test}), findings, broken)
    cues = None
    with findings.collected():
        cues = _read_cues(folder)
    findings.complain(f"{folder} with {counts}")
    return Dataset(
        name=folder.resolve().name,
        videos=videos,
        classes=tuple(classes.values()),
        train=train,
        test=test,
        protocol=f"{counts}; {split.name}: trained on subjects {_listed(split.train)}, tested on {_listed(split.test)}",
        has_paper_protocol=(len(train), len(test)) == PAPER_CLIPS,
        cues=cues,
    ).without(broken or {})


def write_cues(folder: Path, cues: Cues) -> None:
    """Write the cues of videos that were made into their folder. A frame without a thing has null for its box."""
    boxes = {key: [None if np.isnan(box).any() else box.tolist() for box in rows] for key, rows in cues.boxes.items()}
    write_json(folder / CUES, {"values": cues.values, "boxes": boxes}, _CUES_SCHEMA)


def _read_cues(folder: Path) -> Cues | None:
    try:
        stored = read_json(folder / CUES, _CUES_SCHEMA)
    except FileNotFoundError:
        return None
    except DamagedError as problem:
        raise DataError(str(problem)) from None
    nowhere = [np.nan] * 4
    try:
        values = {cue: tuple(map(int, values)) for cue, values in stored["values"].items()}
        boxes = {key: np.array([box or nowhere for box in rows], np.float32) for key, rows in stored["boxes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{folder / CUES} cannot be read ({type(error).__name__}: {error})", "make the videos anew"
        ) from error
    return Cues(values, boxes)


def _find_videos(
    folder: Path, names: Sequence[str], findings: Findings, broken: dict[str, str] | None
) -> dict[str, Path]:
    """Return the videos' paths, and add those that are missing or cannot be opened to the findings.

    Those that cannot be opened are put into ``broken`` instead, if it is given, with what is wrong with them.
    """
    found = {}
    for name in names:
        inside, outside = folder / "videos" / f"{name}.avi", folder / f"{name}.avi"
        found[name] = inside if inside.is_file() else outside
        if not found[name].is_file():
            findings.add(f"{name}.avi is missing", f"put the videos into {folder / 'videos'}")
            continue
        try:
            video.frame_size(found[name])
        except DataError as error:
            if broken is None or not isinstance(error, BrokenError):
                findings.add(error.problem, error.cure or VIDEO_CURE)
            else:
                broken[name] = str(error)
    return found


def _listed(subjects: Iterable[int]) -> str:
    return ", ".join(map(str, subjects))
