"""What ``results.json`` holds: facts about a run, and rows with what each seed found. Nothing here is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking.data.dataset import Lost
from examples.mpii_cooking.evaluation.cells import FrameCell, PooledCell
from examples.mpii_cooking.evaluation.significance import Interval
from examples.mpii_cooking.typed_json import array_of
from examples.mpii_cooking.variants import Modality, Phase, Variant

Classes = Annotated[NDArray[np.int64], array_of(np.int64)]  # (clips,)
Thetas = Annotated[NDArray[np.float64], array_of(np.float64)]  # (..., 2, 3)


@dataclass(frozen=True)
class DatasetFacts:
    """The data of a run."""

    name: str
    protocol: str  # a sentence that says how the clips were divided
    has_paper_protocol: bool
    is_synthetic: bool
    videos: int
    frames: int
    frame_size: tuple[int, int]  # width, height
    classes: tuple[str, ...]
    train_clips: tuple[int, ...]  # of each class
    folder: str | None = None
    groups: tuple[str, ...] = ()  # of each test clip; () if none are known
    cues: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # name -> value for each class, where known
    lost: tuple[Lost, ...] = ()


@dataclass(frozen=True)
class Environment:
    """Versions and machine, without anything that names its user."""

    python: str
    torch: str
    supervised_st: str
    platform: str
    cpu: str
    cores: int
    threads: int
    device: str
    commit: str | None
    date: str  # when the run started (ISO 8601)


@dataclass(frozen=True)
class StageTime:
    """Seconds that a stage took, summed over all starts of the run."""

    stage: str
    seconds: float


@dataclass(frozen=True, eq=False)
class FrameAnswers:
    """The class that one network of one seed predicts for one frame of each test clip."""

    seed: int
    cell: FrameCell
    answers: Classes


@dataclass(frozen=True, eq=False)
class ClipOutcome:
    """What one seed's linear classifiers make of whole test clips in one cell."""

    seed: int
    pooled: PooledCell
    answers: Classes  # those with the highest decision values
    precisions: tuple[float | None, ...]  # average precision of each class, 0 to 1; None without test clips


@dataclass(frozen=True)
class Overlap:
    """How well guidance has taught one seed's main localization network to find the window of most motion."""

    seed: int
    modality: Modality
    level: str
    guided: tuple[float | None, ...]  # IoU in one frame of each test clip; None where nothing moved
    center: float | None  # mean IoU of the center window instead, over the clips where something moved


@dataclass(frozen=True)
class Curve:
    """How the training of one network, or pair of networks, went."""

    seed: int
    name: str  # no other run of this seed has it
    phase: Phase
    modality: Modality
    level: str
    localizer: str | None
    variant: Variant | None  # None in the phase that all variants share
    loss: tuple[float, ...]  # mean training loss of each epoch
    measure: tuple[float, ...]  # mean over each epoch's clips: top-1 accuracy, or in guidance IoU with the target
    seconds: float


@dataclass(frozen=True, eq=False)
class ProbeFrames:
    """Test frames of one level in which the report shows windows, as the first seed's networks saw them."""

    level: str
    images: tuple[str, ...]  # files in the run's folder
    clips: tuple[int, ...]  # indices of test clips
    frames: tuple[int, ...]  # indices in the videos
    target: Thetas  # (frames, 2, 3): the window of most motion


@dataclass(frozen=True, eq=False)
class WindowPath:
    """Where one seed's transformer looks in its probe frames, before joint training and after each of its epochs."""

    seed: int
    level: str
    variant: Variant
    thetas: Thetas  # (1 + epochs, frames, 2, 3)


@dataclass(frozen=True)
class KeptInterval:
    """The 95 % interval over test clips, in percent, of a mean over terms."""

    terms: tuple[tuple[PooledCell, PooledCell | None], ...]  # mean average precisions, or with two cells differences
    interval: Interval


@dataclass(frozen=True)
class Kept:
    """What a record for the documentation keeps of decision values, which are large."""

    outcomes: tuple[ClipOutcome, ...]
    intervals: tuple[KeptInterval, ...]
