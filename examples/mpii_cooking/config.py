"""What a run consists of: levels, presets and training phases, each number with its source.

"Table 1", "sec. 4" and so on are those of Liu, Wang, Kato, "Supervised Spatial Transformer Networks for Attention
Learning in Fine-grained Action Recognition", VISAPP 2019. "Ours" marks a choice on which the paper is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """Side of the max-pool in front of the localisation network; 0 stands for an antialiased resize."""


@dataclass(frozen=True)
class Phase:
    """One stretch of training. An epoch visits one random frame of every training clip."""

    epochs: int
    rate: float
    """Learning rate of the recogniser, or of the only network that learns."""
    localisation_rate: float | None = None
    """Learning rate of the localisation network where it differs."""


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
    optimiser: Literal["sgd", "adam"]
    batch: int
    sub_batch: int
    """Samples per backward pass; gradients are summed over a batch's sub-batches."""
    guide: Phase
    recognise: Phase
    joint: Phase
    baseline: Phase
    flow: Literal["dis", "tvl1"]
    flow_height: int
    """Height in pixels of the grid on which flow is computed and searched for windows."""
    flow_bound: float
    """Displacement in pixels of that grid at which 8-bit flow saturates."""
    rgb_gain: float
    """Multiplies mean-subtracted RGB."""
    flow_gain: float
    """Multiplies 8-bit flow after 128 is subtracted."""
    recogniser: str
    """The recognition network of every stream."""
    pca: int
    pooling: str
    svm_c: float
    feature_stride: int
    """FC6 is computed for every ``feature_stride``-th frame of a clip."""
    kitchen: KitchenSize
    seed: int = 0
    workers: int = 0
    """Loader processes; 0 loads in the training process."""
    threads: int = 0
    """Threads of torch on a CPU; 0 leaves the choice to torch."""
    processes: int = 1
    """Networks trained at a time on a CPU."""
    stack: int = 10
    """Flows behind one motion map and one temporal input; the two-stream stack."""
    localisers: tuple[str, ...] = ("vgg-f", "vgg-m", "vgg-16")  # Table 2
    main_localiser: str = "vgg-16"  # Table 3

    @property
    def glimpse(self) -> int:
        """Side in pixels of the window, of the glimpse and of every network's input: 224 at full scale (Table 1)."""
        return 224 // self.scale

    @property
    def networks(self) -> tuple[str, ...]:
        """Every network that the run trains, in whichever place."""
        return tuple(dict.fromkeys((*self.localisers, self.main_localiser, self.recogniser)))


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
    optimiser="adam",
    batch=32,
    sub_batch=32,
    # Ours: just enough steps to pass through every stage; nobody should read the accuracies.
    guide=Phase(epochs=2, rate=1e-3),
    recognise=Phase(epochs=2, rate=1e-3),
    joint=Phase(epochs=2, rate=5e-4, localisation_rate=5e-5),
    baseline=Phase(epochs=2, rate=5e-4),
    flow="dis",
    flow_height=112,  # the detail level's own grid
    flow_bound=8.0,  # 20 px at 256 rows (two-stream networks), scaled to 112 rows and rounded
    rgb_gain=1 / 64,  # networks trained from scratch want inputs near unit variance
    flow_gain=1 / 16,
    recogniser="vgg-m",  # ours, see quick
    pca=16,
    pooling="rbf",
    svm_c=1.0,  # liblinear's default
    feature_stride=4,
    kitchen=KitchenSize(objects=2, movements=2, places=1, clips=1, frames=12),
    threads=1,  # networks this small gain nothing from a second thread, and wait long for it on a busy machine
    processes=2,
)

QUICK = Preset(
    name="quick",
    scale=8,
    width=1 / 8,
    optimiser="adam",  # networks start from scratch, not from ImageNet: SGD would need many more steps
    batch=32,
    sub_batch=32,
    guide=Phase(epochs=60, rate=1e-3),
    recognise=Phase(epochs=30, rate=1e-3),
    joint=Phase(epochs=30, rate=1e-3, localisation_rate=1e-4),  # the paper's ratio of 10 between the two rates
    baseline=Phase(epochs=30, rate=1e-3),
    flow="dis",
    flow_height=112,
    flow_bound=8.0,
    rgb_gain=1 / 64,
    flow_gain=1 / 16,
    # Ours: of the three, VGG-M leaves chance soonest. VGG-16, without ImageNet's weights, does not within minutes.
    recogniser="vgg-m",
    pca=32,
    pooling="rbf",
    svm_c=1.0,
    feature_stride=2,
    kitchen=KitchenSize(objects=2, movements=2, places=2, clips=4, frames=16),
    threads=1,
    processes=2,
)

PAPER = Preset(
    name="paper",
    scale=1,
    width=1.0,
    optimiser="sgd",  # MatConvNet's trainer, on which the paper's "sub-batch strategy" rests
    batch=128,  # sec. 4
    sub_batch=16,  # ours: fits a 16 GB accelerator at 896 x 896
    # Rates: sec. 4. Epochs: ours, an upper bound in the manner of two-stream training (10 frames a clip and epoch).
    guide=Phase(epochs=100, rate=1e-3),
    recognise=Phase(epochs=200, rate=1e-4),
    joint=Phase(epochs=100, rate=1e-5, localisation_rate=1e-6),
    baseline=Phase(epochs=100, rate=1e-5),  # goes on from `recognise`, so: 1e-4, then 1e-5
    flow="tvl1",
    flow_height=256,  # two-stream practice; motion maps are searched there and the window is rescaled
    flow_bound=20.0,  # two-stream practice
    # Ours: networks start from scratch here too, and would diverge at the paper's rates on inputs of up to 128. With
    # released weights, --weights, both gains are 1.
    rgb_gain=1 / 64,
    flow_gain=1 / 16,
    recogniser="vgg-16",  # sec. 4
    pca=256,  # sec. 4
    pooling="distance",  # eq. 3
    svm_c=1.0,
    feature_stride=1,
    kitchen=KitchenSize(objects=2, movements=2, places=2, clips=4, frames=100, width=1624, height=1224),
    workers=8,
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (SMOKE, QUICK, PAPER)}
