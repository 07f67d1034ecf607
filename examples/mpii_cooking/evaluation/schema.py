"""What ``results.json`` holds: facts about a run, and rows with what each seed found. Nothing here is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking.evaluation.cells import ClipCell, FrameCell
from examples.mpii_cooking.evaluation.significance import Interval
from examples.mpii_cooking.variants import Modality, Phase, Variant


@dataclass(frozen=True)
class DatasetFacts:
    """The data of a run; ``protocol`` says how the clips were divided, as a sentence."""

    name: str
    protocol: str
    has_paper_protocol: bool
    is_synthetic: bool
    videos: int
    frames: int
    frame_size: tuple[int, int]  # width, height
    classes: tuple[str, ...]
    train_clips: tuple[int, ...]  # of each class
    folder: str | None = None


@dataclass(frozen=True)
class Environment:
    """Versions and machine, without anything that names its user; ``date`` is when the run started (ISO 8601)."""

    python: str
    torch: str
    supervised_st: str
    platform: str
    cpu: str
    cores: int
    threads: int
    device: str
    commit: str | None
    date: str


@dataclass(frozen=True)
class StageTime:
    """Seconds that a stage took, summed over all starts of the run."""

    stage: str
    seconds: float


@dataclass(frozen=True, eq=False)
class FrameAnswers:
    """The class that one network of one seed sees in one frame of each test clip, ``(clips,)``."""

    seed: int
    cell: FrameCell
    answers: NDArray[np.int64]


@dataclass(frozen=True)
class PooledCell:
    """A cell of Table 3 under one kind of temporal correlation pooling."""

    pooling: str
    cell: ClipCell


@dataclass(frozen=True, eq=False)
class ClipOutcome:
    """What one seed's linear classifiers make of whole test clips in one cell.

    ``answers``, ``(clips,)``, are the classes with the highest decision values. ``precisions`` are the average
    precisions of all classes, 0 to 1; None for a class without test clips.
    """

    seed: int
    pooled: PooledCell
    answers: NDArray[np.int64]
    precisions: tuple[float | None, ...]


@dataclass(frozen=True)
class Overlap:
    """How well guidance has taught one seed's main localization network to find the window of most motion.

    Attributes:
        guided: IoU of its window and that of most motion in one frame of each test clip; None where nothing moved.
        center: mean IoU of the center window instead, over the clips where something moved; None without any.
    """

    seed: int
    modality: Modality
    level: str
    guided: tuple[float | None, ...]
    center: float | None


@dataclass(frozen=True)
class Curve:
    """How the training of one network, or pair of networks, went.

    Attributes:
        name: of the training run; no other of this seed has it.
        variant: None in the phase that all variants share.
        loss: mean training loss of each epoch.
        measure: mean over each epoch's training clips: top-1 accuracy, or in guidance IoU with the target, 0 to 1.
    """

    seed: int
    name: str
    phase: Phase
    modality: Modality
    level: str
    localizer: str | None
    variant: Variant | None
    loss: tuple[float, ...]
    measure: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class ProbeFrames:
    """Test frames of one level in which the report shows windows, as the first seed's networks saw them.

    ``target``, ``(frames, 2, 3)``, is theta of the window of most motion.
    """

    level: str
    images: tuple[str, ...]  # files in the run's folder
    clips: tuple[int, ...]  # indices of test clips
    frames: tuple[int, ...]  # indices in the videos
    target: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WindowPath:
    """Where one seed's transformer looks in its probe frames: theta, ``(1 + epochs, frames, 2, 3)``.

    The first is from before joint training, the others from after each of its epochs.
    """

    seed: int
    level: str
    variant: Variant
    thetas: NDArray[np.float64]


@dataclass(frozen=True)
class KeptInterval:
    """The 95 % interval over test clips, in percent, of a mean over ``terms``.

    A term is a mean average precision, or with a second cell the difference of two.
    """

    terms: tuple[tuple[PooledCell, PooledCell | None], ...]
    interval: Interval


@dataclass(frozen=True)
class Kept:
    """What a record for the documentation keeps of decision values, which are large."""

    outcomes: tuple[ClipOutcome, ...]
    intervals: tuple[KeptInterval, ...]
