"""The words every data source shares: a clip, a dataset of clips, and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class DataError(ValueError):
    """The data given by the user cannot be used; the message says what to change."""


@dataclass(frozen=True)
class Clip:
    """One labeled interval of one video."""

    video: str
    start: int
    """First frame, counted from 0."""
    stop: int
    """One past the last frame."""
    label: int
    """Index into the dataset's classes."""
    origin: str = ""
    """Where the interval is written down, for messages: a row of a file, or a file."""

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.stop - self.start


@dataclass(frozen=True)
class Dataset:
    """Videos with labeled clips, divided into training and test clips."""

    name: str
    videos: Mapping[str, Path]
    """Every video the clips need, by its key."""
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    test: tuple[Clip, ...]
    split: str
    """How the clips were divided, as a sentence for the report."""
    has_paper_protocol: bool
    """Whether the paper's numbers were measured on these clips."""
