"""What every reader returns: a dataset of clips; and the error for data that cannot be used."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class DataError(ValueError):
    """The user's data cannot be used; the message says what is wrong and, as the cure, what to change."""

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(": ".join(filter(None, (problem, cure))))
        self.problem, self.cure = problem, cure

    def __reduce__(self) -> tuple[type["DataError"], tuple[str, str]]:
        """Pickle both parts, for other processes."""
        return type(self), (self.problem, self.cure)


class BrokenError(DataError):
    """A clip's file cannot be read; a run may go on without it."""


@dataclass(frozen=True)
class Lost:
    """A video that could not be read, and that a run went on without."""

    video: str  # its key
    clips: int
    problem: str


@dataclass(frozen=True)
class Clip:
    """One labeled interval of one video."""

    video: str
    start: int  # first frame, counted from 0
    stop: int  # one past the last frame
    label: int  # index into the dataset's classes
    origin: str = ""  # where the interval comes from, for messages: a row of a file, or a file
    group: str = ""  # of the clips that training and test must not share, such as one recording; "" if unknown

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.stop - self.start


class Split(NamedTuple):
    """Which subjects' clips train and which are tested."""

    name: str
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Framing:
    """What all videos of a dataset are brought to; None leaves them as they are stored."""

    rate: float | None = None  # frames per second
    aspect: float | None = None  # width over height, at least 1


AS_STORED = Framing()


@dataclass(frozen=True)
class Cues:
    """What tells the classes apart, and where the thing is. This is known of videos that were made, not filmed."""

    values: Mapping[str, tuple[int, ...]]
    """The value of each class, by the name of the cue: "thing", "movement" or "place"."""
    boxes: Mapping[str, NDArray[np.float32]]
    """By the video's key, (frames, 4): the thing's left and upper edge, width and height, in pixels of the video.

    A frame without a thing has NaN.
    """


@dataclass(frozen=True)
class Dataset:
    """Videos with labeled clips, divided into training and test clips."""

    name: str
    videos: Mapping[str, Path]  # every video the clips need, by its key: a file, or a folder of images
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    protocol: str  # how the clips were divided, as a sentence for the report
    has_paper_protocol: bool  # whether the paper's numbers were measured on these clips
    framing: Framing = AS_STORED
    cues: Cues | None = None  # None where nobody knows them
    lost: tuple[Lost, ...] = ()

    def without(self, broken: Mapping[str, str]) -> "Dataset":
        """Return the dataset without some videos and their clips; their keys are given, and what is wrong with them.

        A ``DataError`` says if no clip to test remains, or no clip to train a class.
        """
        clips = Counter(clip.video for clip in self.train + self.test)
        lost = tuple(Lost(key, clips[key], problem) for key, problem in sorted(broken.items()))
        train, test = (tuple(clip for clip in part if clip.video not in broken) for part in (self.train, self.test))
        untrained = {clip.label for clip in self.train} - {clip.label for clip in train}
        if untrained or not test:
            what = ", ".join(self.classes[label] for label in sorted(untrained)) or "any class"
            problems = "".join(f"\n  {each.problem}" for each in lost)
            raise DataError(
                f"without the broken videos, no clip of {what} is left to {'train' if untrained else 'test'}:{problems}"
            )
        videos = {key: path for key, path in self.videos.items() if key not in broken}
        return replace(self, videos=videos, train=train, test=test, lost=self.lost + lost)
