"""What a run consists of: levels, presets and training phases, each number with its source.

"Table 1", "sec. 4" and so on are those of Liu, Wang, Kato, "Supervised Spatial Transformer Networks for Attention
Learning in Fine-grained Action Recognition", VISAPP 2019. "Ours" marks a choice on which the paper is silent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

LEAST_GAIN = 0.01
"""Share of its value by which a loss must have fallen, or it counts as standing still."""

MODALITIES: dict[str, int] = {
    "spatial": 3,  # RGB
    "temporal": 20,  # ten consecutive flows, u and v interleaved, as in two-stream networks
}


@dataclass(frozen=True)
class Level:
    """One zoom level of Table 1."""

    name: Literal["general", "middle", "detail"]
    height: int
    """Height of the resized frame in pixels; the crop is a square of this side."""
    pool: int
    """Side of the max-pool in front of the localization network; 0 stands for an antialiased resize."""


@dataclass(frozen=True)
class Phase:
    """One stretch of training. An epoch visits one random frame of every training clip."""

    epochs: int
    """How many there are; with ``patience``, at most."""
    rate: float
    """Learning rate of the classifier, or of the only network that learns."""
    localization_rate: float | None = None
    """Learning rate of the localization network where it differs."""
    patience: int = 0
    """Epochs whose mean training loss is compared with that of as many epochs before; 0 makes every epoch."""

    def over(self, losses: Sequence[float]) -> bool:
        """Whether training ends after epochs with these mean losses: it made all of them, or it is saturated.

        It is saturated when the mean loss of the last ``patience`` epochs is not below that of the ``patience`` epochs
        before by more than ``LEAST_GAIN`` of it, once it is so below that of the first ``patience``: networks that
        start from scratch stand still at chance for a while before they learn anything, and must not be stopped there.
        Only training losses count, so nothing is held out, nothing is trained twice and no test clip is looked at.
        """
        if len(losses) >= self.epochs:
            return True
        if not self.patience or len(losses) < 2 * self.patience:
            return False
        first, before, last = (
            fmean(part)
            for part in (
                losses[: self.patience],
                losses[-2 * self.patience : -self.patience],
                losses[-self.patience :],
            )
        )
        return (1 - LEAST_GAIN) * before <= last < (1 - LEAST_GAIN) * first


@dataclass(frozen=True)
class KitchenSize:
    """How much synthetic kitchen to make. The classes are objects x movements x places."""

    objects: int
    movements: int
    places: int
    clips: int
    """Clips per class and subject."""
    frames: int
    """Mean frames per clip."""
    width: int = 204  # 1624 / 8, even for the encoder
    height: int = 154  # 1224 / 8, even for the encoder


@dataclass(frozen=True)
class Preset:
    """Everything that decides the outcome of a run, apart from the data."""

    name: str
    scale: int
    """Divides every size of Table 1."""
    width: float
    """Multiplies the channels of every network."""
    optimizer: Literal["sgd", "adam"]
    batch: int
    sub_batch: int
    """Samples per backward pass; gradients are summed over a batch's sub-batches, which ranks share."""
    guide: Phase
    recognize: Phase
    joint: Phase
    baseline: Phase
    flow: Literal["dis", "tvl1", "raft"]
    flow_height: int
    """Height in pixels of the grid on which flow is computed and searched for windows."""
    flow_bound: float
    """Displacement in pixels of that grid at which 8-bit flow saturates."""
    rgb_gain: float
    """Multiplies mean-subtracted RGB."""
    flow_gain: float
    """Multiplies 8-bit flow after 128 is subtracted."""
    classifier: str
    """The classifier of every stream."""
    pca: int
    poolings: tuple[str, ...]
    """Kinds of temporal correlation pooling: the first fills Table 3, the others are compared with it."""
    svm_c: float
    feature_stride: int
    """FC6 is computed for every ``feature_stride``-th frame of a clip."""
    kitchen: KitchenSize
    seeds: tuple[int, ...] = (0,)
    """Everything is trained and tested once for each."""
    margin_seeds: tuple[int, ...] = ()
    """More seeds for one comparison: SSTN against STN at detail level, where the paper's margin is largest."""
    seed: int = 0
    """Of the kitchen, and of the networks at hand: one of the above."""
    workers: int = 0
    """Loader processes; 0 loads in the training process."""
    threads: int = 0
    """Threads of torch on a CPU; 0 leaves the choice to torch."""
    processes: int = 1
    """Networks trained at a time on a CPU, unless ``torchrun`` has started several processes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of what networks compute, apart from theta; parameters are float32."""
    compile: bool = False
    """Whether networks are compiled, except for FC6."""
    stack: int = 10
    """Flows behind one motion map and one temporal input; the two-stream stack."""
    raft_weights: str | None = None
    """File with RAFT's weights, where that is the flow."""
    localizers: tuple[str, ...] = ("vgg-f", "vgg-m", "vgg-16")  # Table 2
    main_localizer: str = "vgg-16"  # Table 3
    variants: tuple[str, ...] = (
        *("STN-identity", "STN-level", "STN-slow", "STN-fast"),
        *("center", "frozen", "SSTN-slow", "guided", "annealed"),
    )
    """Variants that the paper does not have, trained beside its own for the spatial stream and the main localizer."""
    variant_levels: tuple[str, ...] = ("detail",)
    """Levels at which they are trained."""

    @property
    def glimpse(self) -> int:
        """Side in pixels of the window, of the glimpse and of every network's input: 224 at full scale (Table 1)."""
        return 224 // self.scale

    @property
    def networks(self) -> tuple[str, ...]:
        """Every network that the run trains, in whichever place."""
        return tuple(dict.fromkeys((*self.localizers, self.main_localizer, self.classifier)))


def levels(preset: Preset) -> tuple[Level, Level, Level]:
    """Return Table 1's levels at the preset's scale, from the widest view to the closest."""
    return (
        Level("general", 256 // preset.scale, pool=0),
        Level("middle", 448 // preset.scale, pool=2),
        Level("detail", 896 // preset.scale, pool=4),
    )


SMOKE = Preset(
    name="smoke",
    scale=8,
    width=1 / 16,
    optimizer="adam",
    batch=32,
    sub_batch=10,  # half of the kitchen's training clips, so that a step has sub-batches to add up
    # Ours: just enough steps to pass through every stage; nobody should read the accuracies.
    guide=Phase(epochs=2, rate=1e-3),
    recognize=Phase(epochs=2, rate=1e-3),
    joint=Phase(epochs=2, rate=5e-4, localization_rate=5e-5),
    baseline=Phase(epochs=2, rate=5e-4),
    flow="dis",
    flow_height=112,  # the detail level's own grid
    flow_bound=8.0,  # 20 px at 256 rows (two-stream networks), scaled to 112 rows and rounded
    rgb_gain=1 / 64,  # networks trained from scratch want inputs near unit variance
    flow_gain=1 / 16,
    classifier="vgg-m",  # ours, see quick
    pca=16,
    poolings=("rbf", "distance"),
    svm_c=1.0,  # liblinear's default
    feature_stride=4,
    kitchen=KitchenSize(objects=2, movements=2, places=1, clips=1, frames=12),
    threads=1,  # networks this small gain nothing from a second thread, and wait long for it on a busy machine
    processes=2,
    variants=(
        "STN-level",
        "center",
        "frozen",
        "annealed",
    ),  # one for each way in which a variant can differ, but for rates
)

QUICK = Preset(
    name="quick",
    scale=8,
    width=1 / 8,
    optimizer="adam",  # networks start from scratch, not from ImageNet: SGD would need many more steps
    batch=16,
    sub_batch=16,
    guide=Phase(epochs=40, rate=1e-3),
    recognize=Phase(epochs=12, rate=1e-3),
    joint=Phase(epochs=30, rate=1e-3, localization_rate=1e-4),  # the paper's ratio of 10 between the two rates
    baseline=Phase(epochs=30, rate=1e-3),
    flow="dis",
    flow_height=112,
    flow_bound=8.0,
    rgb_gain=1 / 64,
    flow_gain=1 / 16,
    # Ours: of the three, VGG-M leaves chance soonest. VGG-16, without ImageNet's weights, does not within minutes.
    classifier="vgg-m",
    pca=32,
    poolings=("rbf", "distance"),
    svm_c=1.0,
    feature_stride=2,
    kitchen=KitchenSize(objects=3, movements=2, places=2, clips=3, frames=16),
    threads=1,
    processes=2,
    margin_seeds=(1, 2),
    localizers=("vgg-16",),
    variants=(),
)

# Ours: as quick, for longer, for every localization network and variant, and for three seeds.
STANDARD = replace(
    QUICK,
    name="standard",
    guide=Phase(epochs=90, rate=1e-3),
    recognize=Phase(epochs=16, rate=1e-3),
    joint=Phase(epochs=40, rate=1e-3, localization_rate=1e-4),
    baseline=Phase(epochs=40, rate=1e-3),
    seeds=(0, 1, 2),
    margin_seeds=(),
    localizers=Preset.localizers,
    variants=Preset.variants,
)

PAPER = Preset(
    name="paper",
    scale=1,
    width=1.0,
    optimizer="sgd",  # MatConvNet's trainer, on which the paper's "sub-batch strategy" rests
    batch=128,  # sec. 4
    sub_batch=16,  # ours: fits a 16 GB accelerator at 896 x 896
    # Rates: sec. 4, as is stopping "when the training saturates". Epochs: ours, an upper bound in the manner of
    # two-stream training, whose epochs have 10 frames of a clip; patience: one such epoch.
    guide=Phase(epochs=100, rate=1e-3, patience=10),
    recognize=Phase(epochs=200, rate=1e-4, patience=10),
    joint=Phase(epochs=100, rate=1e-5, localization_rate=1e-6, patience=10),
    baseline=Phase(epochs=100, rate=1e-5, patience=10),  # goes on from `recognize`, so: 1e-4, then 1e-5
    flow="tvl1",
    flow_height=256,  # two-stream practice; motion maps are searched there and the window is rescaled
    flow_bound=20.0,  # two-stream practice
    # Ours: networks start from scratch here too, and would diverge at the paper's rates on inputs of up to 128. With
    # released weights, --weights, both gains are 1.
    rgb_gain=1 / 64,
    flow_gain=1 / 16,
    classifier="vgg-16",  # sec. 4
    pca=256,  # sec. 4
    poolings=("distance", "rbf"),  # eq. 3, and the kernel of the pooling it simplifies (Cherian, Gould)
    svm_c=1.0,
    feature_stride=1,
    kitchen=KitchenSize(objects=2, movements=2, places=2, clips=4, frames=100, width=1624, height=1224),
    workers=8,
    variant_levels=("general", "middle", "detail"),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (SMOKE, QUICK, STANDARD, PAPER)}
