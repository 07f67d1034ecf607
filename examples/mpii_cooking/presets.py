"""The presets, each number with its source: "Table 1", "sec. 4" and so on are the paper's.

"Ours" marks a choice that the paper does not state. ``paper.py`` names the paper.
"""

from dataclasses import replace

from examples.mpii_cooking.config import (
    DataSettings,
    EvaluationSettings,
    KitchenSize,
    MachineSettings,
    PhaseSettings,
    Preset,
    Scope,
    SeedPlan,
    StudySettings,
    TrainingSettings,
)
from examples.mpii_cooking.variants import Variant

_MARGIN = ((Variant.SSTN, "detail"), (Variant.STN, "detail"))  # the comparison with the paper's largest margin

QUICK = Preset(
    name="quick",
    kitchen=KitchenSize(classes=8, clips=4, frames=16),
    data=DataSettings(
        scale=8,
        flow="dis",
        flow_height=112,  # the detail level's own grid
        flow_bound=8.0,  # 20 px at 256 rows (two-stream networks), scaled to 112 rows and rounded
    ),
    training=TrainingSettings(
        width=1 / 8,
        # Ours: VGG-M leaves chance soonest of the three. Without ImageNet's weights, VGG-16 does not within minutes.
        classifier="vgg-m",
        optimizer="adam",  # networks start at random, not from ImageNet: SGD would need many more steps
        batch=16,
        sub_batch=16,
        guide=PhaseSettings(epochs=20, rate=2e-3, span=8, decays=True),
        recognize=PhaseSettings(epochs=12, rate=1e-3),
        joint=PhaseSettings(epochs=30, rate=1e-3, localization_rate=1e-4),  # the paper's ratio of 10 between the rates
        baseline=PhaseSettings(epochs=30, rate=1e-3),
        threads=1,  # networks this small gain nothing from a second thread, and wait long for it on a busy machine
    ),
    evaluation=EvaluationSettings(feature_stride=2, pca=32, poolings=("rbf", "distance")),
    scope=Scope(localizers=("vgg-16",), variants=()),
    seeds=(SeedPlan(0), SeedPlan(1, only=_MARGIN), SeedPlan(2, only=_MARGIN)),
    machine=MachineSettings(processes=2),
)

# Ours: just enough steps to pass through every stage. The accuracies mean nothing.
SMOKE = replace(
    QUICK,
    name="smoke",
    kitchen=KitchenSize(classes=4, clips=1, frames=12),
    training=replace(
        QUICK.training,
        width=1 / 16,
        batch=20,
        sub_batch=10,  # half of a batch: with more than two, several processes would sum in another order
        guide=PhaseSettings(epochs=2, rate=1e-3, span=8, decays=True),
        recognize=PhaseSettings(epochs=2, rate=1e-3),
        joint=PhaseSettings(epochs=2, rate=5e-4, localization_rate=5e-5),
        baseline=PhaseSettings(epochs=2, rate=5e-4),
    ),
    evaluation=replace(QUICK.evaluation, feature_stride=4, pca=16),
    # One variant for each way in which variants can differ, except for rates.
    scope=Scope(variants=(Variant.STN_LEVEL, Variant.CENTER, Variant.FROZEN, Variant.ANNEALED)),
    seeds=(SeedPlan(0),),
)

# Ours: as quick, for longer, for every localization network and variant, and three seeds of everything.
STANDARD = replace(
    QUICK,
    name="standard",
    training=replace(
        QUICK.training,
        guide=PhaseSettings(epochs=45, rate=2e-3, span=8, decays=True),
        recognize=PhaseSettings(epochs=16, rate=1e-3),
        joint=PhaseSettings(epochs=40, rate=1e-3, localization_rate=1e-4),
        baseline=PhaseSettings(epochs=40, rate=1e-3),
    ),
    scope=Scope(),
    seeds=(SeedPlan(0), SeedPlan(1), SeedPlan(2)),
)

PAPER = Preset(
    name="paper",
    kitchen=KitchenSize(classes=8, clips=4, frames=100, width=1624, height=1224),
    data=DataSettings(
        scale=1,
        flow="tvl1",
        flow_height=256,  # two-stream practice; motion maps are searched there and the window is rescaled
        flow_bound=20.0,  # two-stream practice
    ),
    training=TrainingSettings(
        width=1.0,
        classifier="vgg-16",  # sec. 4
        optimizer="sgd",  # MatConvNet's trainer, on which the paper's "sub-batch strategy" rests
        batch=128,  # sec. 4
        sub_batch=16,  # ours: fits a 16 GB accelerator at 896 x 896
        # Rates: sec. 4, as is stopping "when the training saturates". Epochs: ours, an upper bound in the manner of
        # two-stream training, whose epochs have 10 frames of a clip; patience: one such epoch.
        guide=PhaseSettings(epochs=100, rate=1e-3, patience=10),
        recognize=PhaseSettings(epochs=200, rate=1e-4, patience=10),
        joint=PhaseSettings(epochs=100, rate=1e-5, localization_rate=1e-6, patience=10),
        baseline=PhaseSettings(epochs=100, rate=1e-5, patience=10),  # continues from `recognize`, so: 1e-4, then 1e-5
    ),
    evaluation=EvaluationSettings(
        feature_stride=1,
        pca=256,  # sec. 4
        poolings=("distance", "rbf"),  # eq. 3, and the kernel of the pooling it simplifies (Cherian, Gould)
    ),
    scope=Scope(variant_levels=("general", "middle", "detail")),
    machine=MachineSettings(workers=8),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (SMOKE, QUICK, STANDARD, PAPER)}

# Ours: the window of most motion shows about 77, 67, 49, 28 and 15 % of the thing there.
_STUDY = StudySettings(
    distances=((8.0, 10.0), (14.0, 16.0), (21.0, 23.0), (28.0, 30.0), (34.0, 36.0)),
    clips=(1, 2, 4, 8),
    clips_distance=(28.0, 30.0),
    seeds=(0, 1, 2, 3, 4),
)
STUDIES: dict[str, StudySettings] = {
    "smoke": replace(_STUDY, distances=((8.0, 10.0), (34.0, 36.0)), clips=(1, 2), seeds=(0, 1)),
    "quick": _STUDY,
    "standard": _STUDY,
}
"""By the preset's name. At the paper's sizes, hundreds of networks would take too long."""
