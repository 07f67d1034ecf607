"""Which networks are trained, in which order, and what each starts from.

A *stream* is a modality at a level. Each stream has one recognition network, pre-trained on random windows, from which
every arm goes on: the SSTN (guided localisation first, then joint training with guidance off), the STN (joint training
from a random head, classification loss only) and R_h (the hard-coded window of most motion, no localisation network).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import nn

from examples.mpii_cooking.config import MODALITIES, Level, Phase, Preset, levels
from examples.mpii_cooking.networks import Recogniser, transformer
from examples.mpii_cooking.weights import NO_WEIGHTS, Weights, start

Arm = Literal["SSTN", "STN", "R_h"]


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
        return {
            "guide": preset.guide,
            "recognise": preset.recognise,
            "joint": preset.joint,
            "baseline": preset.baseline,
        }[self.phase]

    def backbones(self, preset: Preset) -> tuple[str, ...]:
        """Return the names of the run's networks."""
        return (self.localiser,) * self.attends + (preset.recogniser,) * self.recognises

    def origins(self) -> dict[str, Run]:
        """Return the runs whose results this one goes on from: part ("transformer", "recogniser") -> run."""
        origins = {}
        if self.phase in ("joint", "baseline"):
            origins["recogniser"] = Run("recognise", self.modality, self.level)
        if self.phase == "joint" and self.arm == "SSTN":
            origins["transformer"] = Run("guide", self.modality, self.level, self.localiser, "SSTN")
        return origins


def all_runs(preset: Preset) -> tuple[Run, ...]:
    """Return every run behind Tables 2 and 3, each after those it goes on from."""
    runs = []
    for modality, level in product(MODALITIES, levels(preset)):
        runs += [Run("recognise", modality, level), Run("baseline", modality, level, arm="R_h")]
        for localiser in preset.localisers if modality == "spatial" else (preset.main_localiser,):
            runs += [Run("guide", modality, level, localiser, "SSTN"), Run("joint", modality, level, localiser, "SSTN")]
            if modality == "spatial":
                runs.append(Run("joint", modality, level, localiser, "STN"))
    return tuple(runs)


def build(run: Run, classes: int, preset: Preset, weights: Weights = NO_WEIGHTS) -> nn.ModuleDict:
    """Return the run's networks as they are before any training: "transformer" and "recogniser", where it has them.

    The random numbers depend on the seed, the stream and the localisation network only, so STN and SSTN start from the
    same weights.
    """
    networks = nn.ModuleDict()
    if run.attends:
        torch.manual_seed(seed_of(preset, run.modality, run.level.name, run.localiser))
        networks["transformer"] = transformer(run.localiser, run.level, run.modality, preset)
        if run.localiser in weights:
            start(networks["transformer"].localisation, weights[run.localiser])
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
