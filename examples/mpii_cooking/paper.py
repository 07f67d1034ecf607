"""The numbers of the paper, as data: Table 2, Table 3, and what is known to be wrong with its text.

Source: Liu, Wang, Kato, "Supervised Spatial Transformer Networks for Attention Learning in Fine-grained Action
Recognition", VISAPP 2019. The paper prints percentages only. The sixteen two-decimal ones of Table 2 are all
multiples of 1/2033, and 2033 is the number of labeled clips of the seven test subjects, so the counts follow.
"""

from __future__ import annotations

from dataclasses import dataclass

TEST_CLIPS = 2033

LEVELS = ("general", "middle", "detail")
LOCALIZERS = ("vgg-f", "vgg-m", "vgg-16")
STREAMS = ("spatial", "temporal", "S+T")
FUSION = "late fusion"


@dataclass(frozen=True)
class Accuracy:
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
class Table2Cell:
    """A plain transformer and a supervised one, trained alike but for the guidance."""

    stn: Accuracy
    sstn: Accuracy


@dataclass(frozen=True)
class Table3Cell:
    """Mean average precision in percent: learned region ``r_d`` against hard-coded motion window ``r_h``."""

    r_d: float
    r_h: float


@dataclass(frozen=True)
class Erratum:
    """A statement of the paper that does not agree with its own numbers or with itself."""

    where: str
    note: str


def _cell(stn: str, stn_correct: int, sstn: str, sstn_correct: int) -> Table2Cell:
    return Table2Cell(Accuracy(stn, stn_correct), Accuracy(sstn, sstn_correct))


TABLE_2: dict[tuple[str, str], Table2Cell] = {
    ("vgg-f", "detail"): _cell("10.67", 217, "29.91", 608),
    ("vgg-f", "middle"): _cell("25.53", 519, "28.68", 583),
    ("vgg-f", "general"): _cell("29.02", 590, "29.41", 598),
    ("vgg-m", "detail"): _cell("7.97", 162, "31.09", 632),
    ("vgg-m", "middle"): _cell("28.68", 583, "29.91", 608),
    ("vgg-m", "general"): _cell("23.95", 487, "29.46", 599),
    ("vgg-16", "detail"): _cell("6.39", 130, "32.32", 657),
    ("vgg-16", "middle"): _cell("28.38", 577, "30.64", 623),
    ("vgg-16", "general"): _cell("29.1", 592, "30.1", 612),
}

TABLE_3: dict[tuple[str, str], Table3Cell] = {
    ("general", "spatial"): Table3Cell(41.73, 38.98),
    ("general", "temporal"): Table3Cell(54.78, 54.18),
    ("general", "S+T"): Table3Cell(56.51, 56.68),
    ("middle", "spatial"): Table3Cell(50.92, 50.53),
    ("middle", "temporal"): Table3Cell(56.23, 52.87),
    ("middle", "S+T"): Table3Cell(61.02, 58.96),
    ("detail", "spatial"): Table3Cell(52.75, 51.40),
    ("detail", "temporal"): Table3Cell(59.07, 49.18),
    ("detail", "S+T"): Table3Cell(62.01, 58.27),
    (FUSION, "spatial"): Table3Cell(56.08, 55.06),
    (FUSION, "temporal"): Table3Cell(60.83, 57.38),
    (FUSION, "S+T"): Table3Cell(63.16, 60.09),
}

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

# What sec. 4 states, under the names of config.Preset (a phase's, or a place in a tuple, after a dot); the report lists
# where a run departs.
SETTINGS: dict[str, tuple[str, object]] = {
    "scale": ("Frames and windows are divided by", 1),
    "width": ("Channels of every network are multiplied by", 1.0),
    "classifier": ("Classifier", "vgg-16"),
    "batch": ("Batch", 128),
    "guide.rate": ("Learning rate of guidance", 1e-3),
    "recognize.rate": ("Learning rate of recognition on random crops", 1e-4),
    "joint.rate": ("Learning rate of recognition in joint training", 1e-5),
    "joint.localization_rate": ("Learning rate of localization in joint training", 1e-6),
    "baseline.rate": ("Learning rate of recognition on R_h", 1e-5),
    "pca": ("FC6 features are reduced to", 256),
    "poolings.0": ("Temporal correlation pooling", "distance"),
    "feature_stride": ("Step between the frames that are pooled", 1),
}
