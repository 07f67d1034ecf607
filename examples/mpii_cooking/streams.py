"""Which networks are trained, in which order, and what each starts from.

A *stream* is a modality at a level. Each stream has one recognition network, pre-trained on random windows, from which
every arm goes on. Tested as it is, on the centre window, it is the arm "random crop". The others:

STN           transformer with a random head, trained jointly by the classification loss alone; the paper's baseline
STN-identity  the same, but its head starts with the whole crop, as Jaderberg et al. advise
STN-level     the same, but its head starts with the centre window of the level's size
STN-slow      as STN, but localisation learns at a tenth of its rate
STN-fast      as STN, but localisation learns at ten times its rate
centre        no transformer: the recogniser trained further on the centre window
R_h           no transformer: the recogniser trained further on the window of most motion
frozen        guided transformer that stays as it is, while the recogniser is trained on what it shows
SSTN          guided transformer, then joint training with guidance off; the paper's method
SSTN-slow     the same, but localisation learns at a tenth of its rate in joint training
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
from examples.mpii_cooking.networks import Recogniser, transformer
from examples.mpii_cooking.weights import NO_WEIGHTS, Weights, start
from supervised_st.guidance import LinearAnneal

Arm = Literal[
    "STN",
    "STN-identity",
    "STN-level",
    "STN-slow",
    "STN-fast",
    "centre",
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
"""Multipliers of the localisation network's rate in joint training."""


@dataclass(frozen=True)
class Run:
    """One network, or pair of networks, trained in one phase."""

    phase: Literal["guide", "recognise", "joint", "baseline"]
    modality: str
    level: Level
    localiser: str | None = None
    arm: Arm | None = None

    @property
    def name(self) -> str:
        """A name that no other run has."""
        parts = (self.phase, self.modality, self.level.name, self.localiser, self.arm)
        return "-".join(part.lower() for part in parts if part is not None)

    @property
    def attends(self) -> bool:
        """Whether the run has a localisation network."""
        return self.localiser is not None

    @property
    def recognises(self) -> bool:
        """Whether the run has a recognition network."""
        return self.phase != "guide"

    def settings(self, preset: Preset) -> Phase:
        """Return the epochs and rates of the run's phase."""
        phase = {
            "guide": preset.guide,
            "recognise": preset.recognise,
            "joint": preset.joint,
            "baseline": preset.baseline,
        }[self.phase]
        if self.arm in PACES:
            phase = replace(phase, localisation_rate=PACES[self.arm] * (phase.localisation_rate or phase.rate))
        # Guidance fades over a number of epochs that is known beforehand, and takes its share of the loss with it.
        return replace(phase, patience=0) if self.arm == "annealed" else phase

    def guidance(self, preset: Preset, epoch: int) -> float:
        """Return how strongly guidance pulls beside the task in an epoch of joint training, 1 in the guidance phase.

        It depends on the epoch alone, which every checkpoint knows: a resumed run needs no other state.
        """
        if self.arm == "annealed":
            return LinearAnneal(hold=0, until=preset.joint.epochs - 1).factor(epoch)
        return 1.0 if self.phase == "guide" or self.arm == "guided" else 0.0

    def backbones(self, preset: Preset) -> tuple[str, ...]:
        """Return the names of the run's networks."""
        return (self.localiser,) * self.attends + (preset.recogniser,) * self.recognises

    def origins(self) -> dict[str, Run]:
        """Return the runs whose results this one goes on from: part ("transformer", "recogniser") -> run."""
        origins = {}
        if self.phase in ("joint", "baseline"):
            origins["recogniser"] = Run("recognise", self.modality, self.level)
        if self.phase == "joint" and self.arm in AFTER_GUIDANCE:
            origins["transformer"] = Run("guide", self.modality, self.level, self.localiser, "SSTN")
        return origins


def extra_runs(preset: Preset) -> tuple[Run, ...]:
    """Return the runs of the arms that the paper does not have, at the levels the preset has them for."""
    chosen = [level for level in levels(preset) if level.name in preset.arm_levels]
    return tuple(
        Run("baseline", "spatial", level, arm=arm)
        if arm == "centre"
        else Run("joint", "spatial", level, preset.main_localiser, arm)
        for level, arm in product(chosen, preset.arms)
    )


def all_runs(preset: Preset) -> tuple[Run, ...]:
    """Return every run behind Tables 2 and 3 and every extra arm, each after those it goes on from."""
    runs = []
    for modality, level in product(MODALITIES, levels(preset)):
        runs += [Run("recognise", modality, level), Run("baseline", modality, level, arm="R_h")]
        for localiser in preset.localisers if modality == "spatial" else (preset.main_localiser,):
            runs += [Run("guide", modality, level, localiser, "SSTN"), Run("joint", modality, level, localiser, "SSTN")]
            if modality == "spatial":
                runs.append(Run("joint", modality, level, localiser, "STN"))
        runs += [run for run in extra_runs(preset) if (run.modality, run.level) == (modality, level)]
    return tuple(runs)


def margin_runs(preset: Preset) -> tuple[Run, ...]:
    """Return the runs behind the main localisation network's SSTN and STN at detail level, each after its origins."""
    level, localiser = levels(preset)[-1], preset.main_localiser
    return (
        Run("recognise", "spatial", level),
        Run("guide", "spatial", level, localiser, "SSTN"),
        Run("joint", "spatial", level, localiser, "SSTN"),
        Run("joint", "spatial", level, localiser, "STN"),
    )


def build(run: Run, classes: int, preset: Preset, weights: Weights = NO_WEIGHTS) -> nn.ModuleDict:
    """Return the run's networks as they are before any training: "transformer" and "recogniser", where it has them.

    The random numbers depend on the seed, the stream and the localisation network only, so all arms start from the
    same weights, but for the heads that do not start at random.
    """
    networks = nn.ModuleDict()
    if run.attends:
        torch.manual_seed(seed_of(preset, run.modality, run.level.name, run.localiser))
        head = HEADS.get(run.arm, "gaussian")  # sec. 4: "random", for the guided and the plain transformer alike
        networks["transformer"] = transformer(run.localiser, run.level, run.modality, preset, head)
        if run.localiser in weights:
            start(networks["transformer"].localisation, weights[run.localiser])
        networks["transformer"].requires_grad_(run.arm != "frozen")
    if run.recognises:
        torch.manual_seed(seed_of(preset, run.modality, run.level.name))
        networks["recogniser"] = Recogniser(classes, run.modality, preset)
        if preset.recogniser in weights:
            start(networks["recogniser"], weights[preset.recogniser])
    return networks


def seed_of(preset: Preset, *words: object) -> int:
    """Return a seed that depends on the preset's seed and on ``words`` and on nothing else."""
    text = "/".join(map(str, (preset.seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
