"""What the paper states, as data: Table 2, Table 3, its settings, and where it contradicts itself.

Source: Liu, Wang, Kato, "Supervised Spatial Transformer Networks for Attention Learning in Fine-grained Action
Recognition", VISAPP 2019. The paper prints percentages only. The sixteen two-decimal ones of Table 2 are all
multiples of 1/2033, and 2033 is the number of labeled clips of the seven test subjects, so the counts follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.variants import Region, Variant

TEST_CLIPS = 2033

LEVELS = ("general", "middle", "detail")
LOCALIZERS = ("vgg-f", "vgg-m", "vgg-16")
STREAMS = ("spatial", "temporal", "S+T")
FUSION = "late fusion"


@dataclass(frozen=True)
class PrintedAccuracy:
    """Top-1 accuracy of one cell of Table 2.

    Attributes:
        printed: percent, as the paper prints it ("29.1" has one decimal, so its count is known to within one clip).
        correct: number of test clips this means, of ``TEST_CLIPS``.
    """

    printed: str
    correct: int

    @property
    def percent(self) -> float:
        """The printed percentage as a number."""
        return float(self.printed)


@dataclass(frozen=True)
class Erratum:
    """A statement of the paper that does not agree with its own numbers or with itself."""

    where: str
    note: str


def _pair(
    localizer: str, level: str, stn: tuple[str, int], sstn: tuple[str, int]
) -> dict[tuple[str, str, Variant], PrintedAccuracy]:
    return {
        (localizer, level, Variant.STN): PrintedAccuracy(*stn),
        (localizer, level, Variant.SSTN): PrintedAccuracy(*sstn),
    }


TABLE_2: dict[tuple[str, str, Variant], PrintedAccuracy] = {
    **_pair("vgg-f", "detail", ("10.67", 217), ("29.91", 608)),
    **_pair("vgg-f", "middle", ("25.53", 519), ("28.68", 583)),
    **_pair("vgg-f", "general", ("29.02", 590), ("29.41", 598)),
    **_pair("vgg-m", "detail", ("7.97", 162), ("31.09", 632)),
    **_pair("vgg-m", "middle", ("28.68", 583), ("29.91", 608)),
    **_pair("vgg-m", "general", ("23.95", 487), ("29.46", 599)),
    **_pair("vgg-16", "detail", ("6.39", 130), ("32.32", 657)),
    **_pair("vgg-16", "middle", ("28.38", 577), ("30.64", 623)),
    **_pair("vgg-16", "general", ("29.1", 592), ("30.1", 612)),
}
"""(localization network, level, variant) -> top-1 accuracy."""


def _regions(row: str, stream: str, learned: float, hard_coded: float) -> dict[tuple[str, str, Region], float]:
    return {(row, stream, Region.LEARNED): learned, (row, stream, Region.HARD_CODED): hard_coded}


TABLE_3: dict[tuple[str, str, Region], float] = {
    **_regions("general", "spatial", 41.73, 38.98),
    **_regions("general", "temporal", 54.78, 54.18),
    **_regions("general", "S+T", 56.51, 56.68),
    **_regions("middle", "spatial", 50.92, 50.53),
    **_regions("middle", "temporal", 56.23, 52.87),
    **_regions("middle", "S+T", 61.02, 58.96),
    **_regions("detail", "spatial", 52.75, 51.40),
    **_regions("detail", "temporal", 59.07, 49.18),
    **_regions("detail", "S+T", 62.01, 58.27),
    **_regions(FUSION, "spatial", 56.08, 55.06),
    **_regions(FUSION, "temporal", 60.83, 57.38),
    **_regions(FUSION, "S+T", 63.16, 60.09),
}
"""(level or late fusion, stream, region) -> mean average precision in percent."""

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        "Table 2, metric",
        "Called one-vs-all accuracy. Every cell is a count of 2033 test clips, so it is plain top-1 accuracy.",
    ),
    Erratum(
        "Table 2, STN, VGG-16, detail",
        "6.39 % = 130/2033 is what always answering the largest training class gives: this baseline never trained.",
    ),
    Erratum(
        "Table 2, size of the effect",
        "With 2033 clips, unpaired, only the detail column and general/VGG-M are differences beyond chance at 95 %; "
        "middle/VGG-F is at the border.",
    ),
    Erratum(
        "Table 3, General S+T",
        "The text says the learned region wins in all aspects; here it is 56.51 against 56.68 for the fixed window.",
    ),
    Erratum(
        "theta_2",
        "Called a rotation matrix; the target of guidance is a scale and a translation, its off-diagonals are zero.",
    ),
    Erratum("Equation 2", "Squares a displacement vector; read here as the squared length, u² + v²."),
    Erratum(
        "Equation 3",
        "The matrix of Euclidean distances is called positive definite; its trace is zero, so it cannot be.",
    ),
)


@dataclass(frozen=True)
class Setting:
    """A setting that sec. 4 states.

    Attributes:
        what: its name.
        value: the paper's.
        of: returns a preset's.
    """

    what: str
    value: object
    of: Callable[[Preset], object]


SETTINGS: tuple[Setting, ...] = (
    Setting("Frames and windows are divided by", 1, lambda preset: preset.data.scale),
    Setting("Channels of every network are multiplied by", 1.0, lambda preset: preset.training.width),
    Setting("Classifier", "vgg-16", lambda preset: preset.training.classifier),
    Setting("Batch", 128, lambda preset: preset.training.batch),
    Setting("Learning rate of guidance", 1e-3, lambda preset: preset.training.guide.rate),
    Setting("Learning rate of recognition on random crops", 1e-4, lambda preset: preset.training.recognize.rate),
    Setting("Learning rate of recognition in joint training", 1e-5, lambda preset: preset.training.joint.rate),
    Setting(
        "Learning rate of localization in joint training",
        1e-6,
        lambda preset: preset.training.joint.localization_rate,
    ),
    Setting("Learning rate of recognition on R_h", 1e-5, lambda preset: preset.training.baseline.rate),
    Setting("FC6 features are reduced to", 256, lambda preset: preset.evaluation.pca),
    Setting("Temporal correlation pooling", "distance", lambda preset: preset.evaluation.poolings[0]),
    Setting("Step between the frames that are pooled", 1, lambda preset: preset.evaluation.feature_stride),
)
