"""Samples with known windows, without any video behind them, and a preset small enough to train on them."""

import dataclasses

import torch

from examples.mpii_cooking.config import PRESETS, Phase, levels
from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.training import train
from examples.mpii_cooking.training.runs import Run
from supervised_st.geometry import window_to_theta

SMOKE = dataclasses.replace(PRESETS["smoke"], batch=4, sub_batch=4)
GENERAL, MIDDLE, DETAIL = levels(SMOKE)
CLASSES = 3
PRESET = dataclasses.replace(SMOKE, joint=Phase(epochs=3, rate=1e-3, localization_rate=1e-4))
JOINT = Run("joint", "spatial", GENERAL, "vgg-16", "SSTN")


def made_up(count, level=GENERAL, modality="spatial", dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    side = 28 / level.height
    shift = (1 - side) * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    channels = {"spatial": 3, "temporal": 20}[modality]
    image = torch.randn(count, channels, level.height, level.height, generator=generator)
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
            row for batch in batches for row in ([batch] if isinstance(batch, BaseException) else train.split(batch, 1))
        ]

    def shuffled(self):
        return list(range(len(self.rows)))

    def __getitems__(self, indices):
        rows = [self.rows[index] for index in indices]
        for row in rows:
            if isinstance(row, BaseException):
                raise row
        return Sample(*map(torch.cat, zip(*rows, strict=True)))


def variant_of(variant, level=GENERAL):
    return Run("joint", "spatial", level, "vgg-16", variant)
