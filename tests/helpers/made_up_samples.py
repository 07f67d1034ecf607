"""Samples with known windows, without any video behind them, and a preset small enough to train on them."""

import dataclasses

import torch

from examples.mpii_cooking.config import PhaseSettings
from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.training.steps import sub_batches
from examples.mpii_cooking.variants import Modality, Phase, Variant
from supervised_st.geometry import window_to_theta


def changed(preset, **changes):
    """The preset with other settings, each in the part that has it."""
    parts = {}
    for part in dataclasses.fields(preset):
        value = getattr(preset, part.name)
        names = {each.name for each in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
        if part.name != "kitchen" and names & changes.keys():
            chosen = {name: changes.pop(name) for name in names & changes.keys()}
            parts[part.name] = dataclasses.replace(value, **chosen)
    return dataclasses.replace(preset, **parts, **changes)


SMOKE = changed(PRESETS["smoke"], batch=4, sub_batch=4)
GENERAL, MIDDLE, DETAIL = SMOKE.data.levels
CLASSES = 3
PRESET = changed(SMOKE, joint=PhaseSettings(epochs=3, rate=1e-3, localization_rate=1e-4))
JOINT = Run(Phase.JOINT, Modality.SPATIAL, GENERAL, "vgg-16", Variant.SSTN)


def made_up(count, level=GENERAL, modality=Modality.SPATIAL, dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    side = 28 / level.height
    shift = (1 - side) * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    image = torch.randn(count, modality.channels, level.height, level.height, generator=generator)
    numbers = torch.arange(count)
    confidence = torch.ones(count, dtype=dtype)
    corner = torch.randint(level.height - 28 + 1, (count, 2), generator=generator)
    random = window_to_theta(torch.cat([corner, torch.full_like(corner, 28)], dim=1), (level.height, level.height))
    return Sample(image.to(dtype), theta.to(dtype), confidence, numbers % CLASSES, numbers, numbers, random.to(dtype))


class Epoch:
    """The samples of a list of batches, in their order; an exception in the list is raised where a sample would be."""

    preset = SMOKE

    def __init__(self, batches):
        self.rows = [
            row for batch in batches for row in ([batch] if isinstance(batch, BaseException) else sub_batches(batch, 1))
        ]

    def shuffled(self):
        return list(range(len(self.rows)))

    def name(self, index):
        return f"row {index}"

    def __getitems__(self, indices):
        rows = [self.rows[index] for index in indices]
        for row in rows:
            if isinstance(row, BaseException):
                raise row
        return Sample(*map(torch.cat, zip(*rows, strict=True)))


def variant_of(variant, level=GENERAL):
    return Run(Phase.JOINT, Modality.SPATIAL, level, "vgg-16", Variant(variant))
