"""The settings of a run, and what each one means; ``presets.py`` has their values. "Table 1" is the paper's."""

import math
from dataclasses import dataclass
from typing import Literal

from examples.mpii_cooking.variants import PAPER_VARIANTS, Variant


@dataclass(frozen=True)
class Level:
    """One zoom level of Table 1."""

    name: Literal["general", "middle", "detail"]
    height: int  # of the resized frame in pixels; the crop is a square of this side
    pool: int  # side of the max-pool in front of the localization network; 0 means an antialiased resize instead


@dataclass(frozen=True)
class KitchenSize:
    """How much synthetic kitchen to make."""

    classes: int  # the first rows of the table of classes; all eight have the answers that the documentation gives
    clips: int  # per class and subject
    frames: int  # of a clip, on average
    # Smallest and largest distance from the torso's center to the side, at which the hand works. It is drawn evenly
    # for every clip, in pixels of a frame of 154 rows, in which the torso is 30 pixels wide.
    distance: tuple[float, float] = (8.0, 36.0)
    width: int = 204  # 1624 / 8, even for the encoder
    height: int = 154  # 1224 / 8, even for the encoder


@dataclass(frozen=True)
class DataSettings:
    """What the prepared videos depend on."""

    scale: int  # divides every size of Table 1
    flow: Literal["dis", "tvl1"]
    flow_height: int  # of the grid in pixels on which flow is computed and searched for windows
    flow_bound: float  # displacement in pixels of that grid at which 8-bit flow saturates
    stack: int = 10  # flows behind one motion map and one temporal input, as in two-stream networks

    @property
    def glimpse(self) -> int:
        """Side in pixels of the window, of the glimpse and of every network's input: 224 at full scale (Table 1)."""
        return 224 // self.scale

    @property
    def levels(self) -> tuple[Level, Level, Level]:
        """Table 1's levels, from the widest view to the closest."""
        return (
            Level("general", 256 // self.scale, pool=0),
            Level("middle", 448 // self.scale, pool=2),
            Level("detail", 896 // self.scale, pool=4),
        )


@dataclass(frozen=True)
class PhaseSettings:
    """Settings of one phase of training. An epoch visits one random frame of every training clip or part of one."""

    epochs: int  # with patience, the largest number
    rate: float  # learning rate of the classifier, or of the only network that learns
    localization_rate: float | None = None  # learning rate of the localization network, if it differs
    patience: int = 0  # ends training when the mean loss over this many epochs stops falling; 0: never
    span: int | None = None  # frames of a part, to which the parts of a clip come as close as they can; None: no parts
    decays: bool = False  # whether the rates fall to zero, along half a cosine, from the first epoch to the last

    def pace(self, epoch: int) -> float:
        """Return by what the rates are multiplied in an epoch."""
        return (1 + math.cos(math.pi * epoch / self.epochs)) / 2 if self.decays else 1.0


@dataclass(frozen=True)
class TrainingSettings:
    """What trained networks depend on, besides the data."""

    width: float  # multiplies the channels of every network
    classifier: str  # the network that classifies, in every stream
    optimizer: Literal["sgd", "adam"]
    batch: int
    sub_batch: int  # samples per backward pass; ranks share the sub-batches of a batch, and gradients are summed
    # By the names of the phases.
    guide: PhaseSettings
    recognize: PhaseSettings
    joint: PhaseSettings
    baseline: PhaseSettings
    # Ours, for networks that start at random: on inputs of up to 128 they would diverge at the paper's rates.
    rgb_gain: float = 1 / 64  # multiplies RGB in 0..255 minus the mean color
    flow_gain: float = 1 / 16  # multiplies 8-bit flow minus 128
    threads: int = 0  # of torch on a CPU, on which the last bits of sums depend; 0 leaves the choice to torch
    precision: Literal["float32", "bfloat16"] = "float32"  # of the networks; theta and parameters stay float32
    compile: bool = False  # compile the networks, except where only FC6 is computed


@dataclass(frozen=True)
class EvaluationSettings:
    """What the tables depend on, besides the data and the trained networks."""

    feature_stride: int  # FC6 is computed for every such frame of a clip
    pca: int  # principal components that are kept of FC6
    poolings: tuple[str, ...]  # of temporal correlation; the first fills Table 3, the others are compared in one cell
    svm_c: float = 1.0  # liblinear's default


@dataclass(frozen=True)
class Scope:
    """Which networks are trained."""

    localizers: tuple[str, ...] = ("vgg-f", "vgg-m", "vgg-16")  # Table 2
    main_localizer: str = "vgg-16"  # of Table 3 and of the variants below
    # Variants that the paper does not have, trained for the spatial stream at the levels below.
    variants: tuple[Variant, ...] = tuple(variant for variant in Variant if variant not in PAPER_VARIANTS)
    variant_levels: tuple[str, ...] = ("detail",)


@dataclass(frozen=True)
class SeedPlan:
    """What is trained from one seed."""

    seed: int
    # Variants and levels of the spatial stream and the main localization network, and what they start from; (): all.
    only: tuple[tuple[Variant, str], ...] = ()


@dataclass(frozen=True)
class MachineSettings:
    """How the work is shared out. Results do not depend on it."""

    workers: int = 0  # processes that load samples; 0 loads in the training process
    processes: int = 1  # networks that are trained at a time on a CPU, unless torchrun has started several processes


@dataclass(frozen=True)
class Preset:
    """Everything that decides the outcome of a run, apart from the videos."""

    name: str
    kitchen: KitchenSize
    data: DataSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    scope: Scope
    seeds: tuple[SeedPlan, ...] = (SeedPlan(0),)  # the first one trains everything
    machine: MachineSettings = MachineSettings()

    @property
    def networks(self) -> tuple[str, ...]:
        """Every network that is trained, as a localization network or as the classifier."""
        return tuple(dict.fromkeys((*self.scope.localizers, self.scope.main_localizer, self.training.classifier)))


@dataclass(frozen=True)
class StudySettings:
    """What the studies vary. Everything else is as in the preset of the same name."""

    distances: tuple[tuple[float, float], ...]  # ranges of `KitchenSize.distance`, each with a kitchen of its own
    clips: tuple[int, ...]  # training clips of each class and subject; the largest number is that of the kitchen
    clips_distance: tuple[float, float]  # of that kitchen
    seeds: tuple[int, ...]
