"""Which networks are trained, in which order, and what each starts from.

A *stream* is a modality at a level. Each stream has one classifier, pre-trained on random windows, from which
every variant goes on. Tested as it is, on the center window, it is the variant "random crop". The others:

STN           transformer with a random head, trained jointly by the classification loss alone; the paper's baseline
STN-identity  the same, but its head starts with the whole crop, as Jaderberg et al. advise
STN-level     the same, but its head starts with the center window of the level's size
STN-slow      as STN, but localization learns at a tenth of its rate
STN-fast      as STN, but localization learns at ten times its rate
center        no transformer: the classifier trained further on the center window
R_h           no transformer: the classifier trained further on the window of most motion
frozen        guided transformer that stays as it is, while the classifier is trained on what it shows
SSTN          guided transformer, then joint training with guidance off; the paper's method
SSTN-slow     the same, but localization learns at a tenth of its rate in joint training
guided        as SSTN, but guidance stays on beside the classification loss
annealed      the same, but guidance fades linearly, from the first epoch of joint training to its last
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import torch
from torch import nn

from examples.mpii_cooking.config import MODALITIES, Level, Phase, Preset, levels
from examples.mpii_cooking.training.networks import Classifier, transformer
from examples.mpii_cooking.training.weights import NO_WEIGHTS, Weights, start
from supervised_st import LinearAnneal

Variant = Literal[
    "STN",
    "STN-identity",
    "STN-level",
    "STN-slow",
    "STN-fast",
    "center",
    "R_h",
    "frozen",
    "SSTN",
    "SSTN-slow",
    "guided",
    "annealed",
]
AFTER_GUIDANCE = ("frozen", "SSTN", "SSTN-slow", "guided", "annealed")
HEADS = {"STN-identity": "identity", "STN-level": "level"}
"""How heads start that do not start at random."""
PACES = {"STN-slow": 0.1, "STN-fast": 10.0, "SSTN-slow": 0.1}
"""Multipliers of the localization network's rate in joint training."""


@dataclass(frozen=True)
class Run:
    """One network, or pair of networks, trained in one phase."""

    phase: Literal["guide", "recognize", "joint", "baseline"]
    modality: str
    level: Level
    localizer: str | None = None
    variant: Variant | None = None

    @property
    def name(self) -> str:
        """A name that no other run has."""
        parts = (self.phase, self.modality, self.level.name, self.localizer, self.variant)
        return "-".join(part.lower() for part in parts if part is not None)

    @property
    def seed_name(self) -> str:
        """The run's name in version 0.2. It seeds dropout, so runs keep their random numbers and their results."""
        return self.name.replace("recognize", "recognise").replace("center", "centre")  # codespell:ignore

    @property
    def attends(self) -> bool:
        """Whether the run has a localization network."""
        return self.localizer is not None

    @property
    def recognizes(self) -> bool:
        """Whether the run has a classifier."""
        return self.phase != "guide"

    def settings(self, preset: Preset) -> Phase:
        """Return the epochs and rates of the run's phase."""
        phase = {
            "guide": preset.guide,
            "recognize": preset.recognize,
            "joint": preset.joint,
            "baseline": preset.baseline,
        }[self.phase]
        if self.variant in PACES:
            phase = replace(phase, localization_rate=PACES[self.variant] * (phase.localization_rate or phase.rate))
        # Guidance fades over a number of epochs that is known beforehand, and takes its share of the loss with it.
        return replace(phase, patience=0) if self.variant == "annealed" else phase

    def guidance(self, preset: Preset, epoch: int) -> float:
        """Return how strongly guidance pulls beside the task in an epoch of joint training, 1 in the guidance phase.

        It depends on the epoch alone, which every checkpoint knows: a resumed run needs no other state.
        """
        if self.variant == "annealed":
            return LinearAnneal(hold=0, until=preset.joint.epochs - 1).factor(epoch)
        return 1.0 if self.phase == "guide" or self.variant == "guided" else 0.0

    def backbones(self, preset: Preset) -> tuple[str, ...]:
        """Return the names of the run's networks."""
        return (self.localizer,) * self.attends + (preset.classifier,) * self.recognizes

    def origins(self) -> dict[str, Run]:
        """Return the runs whose results this one goes on from: part ("transformer", "classifier") -> run."""
        origins = {}
        if self.phase in ("joint", "baseline"):
            origins["classifier"] = Run("recognize", self.modality, self.level)
        if self.phase == "joint" and self.variant in AFTER_GUIDANCE:
            origins["transformer"] = Run("guide", self.modality, self.level, self.localizer, "SSTN")
        return origins


def extra_runs(preset: Preset) -> tuple[Run, ...]:
    """Return the runs of the variants that the paper does not have, at the levels the preset has them for."""
    chosen = [level for level in levels(preset) if level.name in preset.variant_levels]
    return tuple(
        Run("baseline", "spatial", level, variant=variant)
        if variant == "center"
        else Run("joint", "spatial", level, preset.main_localizer, variant)
        for level, variant in product(chosen, preset.variants)
    )


def all_runs(preset: Preset) -> tuple[Run, ...]:
    """Return every run behind Tables 2 and 3 and every extra variant, each after those it goes on from."""
    runs = []
    for modality, level in product(MODALITIES, levels(preset)):
        runs += [Run("recognize", modality, level), Run("baseline", modality, level, variant="R_h")]
        for localizer in preset.localizers if modality == "spatial" else (preset.main_localizer,):
            runs += [Run("guide", modality, level, localizer, "SSTN"), Run("joint", modality, level, localizer, "SSTN")]
            if modality == "spatial":
                runs.append(Run("joint", modality, level, localizer, "STN"))
        runs += [run for run in extra_runs(preset) if (run.modality, run.level) == (modality, level)]
    return tuple(runs)


def margin_runs(preset: Preset) -> tuple[Run, ...]:
    """Return the runs behind the main localization network's SSTN and STN at detail level, each after its origins."""
    level, localizer = levels(preset)[-1], preset.main_localizer
    return (
        Run("recognize", "spatial", level),
        Run("guide", "spatial", level, localizer, "SSTN"),
        Run("joint", "spatial", level, localizer, "SSTN"),
        Run("joint", "spatial", level, localizer, "STN"),
    )


def build(run: Run, classes: int, preset: Preset, weights: Weights = NO_WEIGHTS) -> nn.ModuleDict:
    """Return the run's networks as they are before any training: "transformer" and "classifier", where it has them.

    The random numbers depend on the seed, the stream and the localization network only, so all variants start from the
    same weights, but for the heads that do not start at random.
    """
    networks = nn.ModuleDict()
    if run.attends:
        torch.manual_seed(seed_of(preset, run.modality, run.level.name, run.localizer))
        head = HEADS.get(run.variant, "gaussian")  # sec. 4: "random", for the guided and the plain transformer alike
        networks["transformer"] = transformer(run.localizer, run.level, run.modality, preset, head)
        if run.localizer in weights:
            start(networks["transformer"].localization, weights[run.localizer])
        networks["transformer"].requires_grad_(run.variant != "frozen")
    if run.recognizes:
        torch.manual_seed(seed_of(preset, run.modality, run.level.name))
        networks["classifier"] = Classifier(classes, run.modality, preset)
        if preset.classifier in weights:
            start(networks["classifier"], weights[preset.classifier])
    return networks


def seed_of(preset: Preset, *words: object) -> int:
    """Return a seed that depends on the preset's seed and on ``words`` and on nothing else."""
    text = "/".join(map(str, (preset.seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
