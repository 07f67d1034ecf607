"""What the paper states, as data: Table 2, Table 3, its settings, and where it contradicts itself.

Source: Liu, Wang, Kato, "Supervised Spatial Transformer Networks for Attention Learning in Fine-grained Action
Recognition", VISAPP 2019. The paper prints percentages only. The sixteen two-decimal ones of Table 2 are all
multiples of 1/2033, and 2033 is the number of labeled clips of the seven test subjects, so the counts follow.
"""

from collections.abc import Callable

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.variants import Region, Variant

TEST_CLIPS = 2033

LEVELS = ("general", "middle", "detail")
LOCALIZERS = ("vgg-f", "vgg-m", "vgg-16")
STREAMS = ("spatial", "temporal", "S+T")
FUSION = "late fusion"


TABLE_2 = {
    (localizer, level, variant): printed
    for localizer, row in {
        "vgg-f": (("10.67", "29.91"), ("25.53", "28.68"), ("29.02", "29.41")),
        "vgg-m": (("7.97", "31.09"), ("28.68", "29.91"), ("23.95", "29.46")),
        "vgg-16": (("6.39", "32.32"), ("28.38", "30.64"), ("29.1", "30.1")),
    }.items()
    for level, pair in zip(("detail", "middle", "general"), row, strict=True)
    for variant, printed in zip((Variant.STN, Variant.SSTN), pair, strict=True)
}
"""(localization network, level, variant) -> top-1 accuracy in percent, as printed."""

TABLE_3 = {
    (row, stream, region): percent
    for row, pairs in {
        "general": ((41.73, 38.98), (54.78, 54.18), (56.51, 56.68)),
        "middle": ((50.92, 50.53), (56.23, 52.87), (61.02, 58.96)),
        "detail": ((52.75, 51.40), (59.07, 49.18), (62.01, 58.27)),
        FUSION: ((56.08, 55.06), (60.83, 57.38), (63.16, 60.09)),
    }.items()
    for stream, pair in zip(STREAMS, pairs, strict=True)
    for region, percent in zip((Region.LEARNED, Region.HARD_CODED), pair, strict=True)
}
"""(level or late fusion, stream, region) -> mean average precision in percent."""

ERRATA = {
    "Table 2, metric": "Called one-vs-all accuracy. Every cell is a count of 2033 test clips, so it is top-1 accuracy.",
    "Table 2, STN, VGG-16, detail": (
        "6.39 % = 130/2033 is what always answering the largest training class gives: this baseline never trained."
    ),
    "Table 2, size of the effect": (
        "With 2033 clips, unpaired, only the detail column and general/VGG-M are differences beyond chance at 95 %; "
        "middle/VGG-F is at the border."
    ),
    "Table 3, General S+T": (
        "The text says the learned region wins in all aspects; here it is 56.51 against 56.68 for the fixed window."
    ),
    "theta_2": "Called a rotation matrix; guidance's target is a scale and a translation, its off-diagonals are zero.",
    "Equation 2": "Squares a displacement vector; read here as the squared length, u² + v².",
    "Equation 3": "The matrix of Euclidean distances is called positive definite; its trace is zero, so it is not.",
}
"""Where the paper does not agree with its own numbers or with itself, and how."""
SETTINGS: tuple[tuple[str, object, Callable[[Preset], object]], ...] = (
    ("Frames and windows are divided by", 1, lambda preset: preset.data.scale),
    ("Channels of every network are multiplied by", 1.0, lambda preset: preset.training.width),
    ("Classifier", "vgg-16", lambda preset: preset.training.classifier),
    ("Batch", 128, lambda preset: preset.training.batch),
    ("Learning rate of guidance", 1e-3, lambda preset: preset.training.guide.rate),
    ("Learning rate of recognition on random crops", 1e-4, lambda preset: preset.training.recognize.rate),
    ("Learning rate of recognition in joint training", 1e-5, lambda preset: preset.training.joint.rate),
    ("Learning rate of localization in joint training", 1e-6, lambda it: it.training.joint.localization_rate),
    ("Learning rate of recognition on R_h", 1e-5, lambda preset: preset.training.baseline.rate),
    ("FC6 features are reduced to", 256, lambda preset: preset.evaluation.pca),
    ("Temporal correlation pooling", "distance", lambda preset: preset.evaluation.poolings[0]),
    ("Step between the frames that are pooled", 1, lambda preset: preset.evaluation.feature_stride),
)
"""What sec. 4 states: name, value, and where a preset has it. The report lists where a run departs."""


def correct_clips(printed: str) -> int:
    """Return how many test clips a percentage of Table 2 means; where one decimal is printed, to within one clip."""
    return round(float(printed) * TEST_CLIPS / 100)
