"""What each phase and variant minimizes: the distance to the target window, the error of classification, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.training.runs import Run
from supervised_st import Glimpse, RegressiveGuidance, affine_sample
from supervised_st.geometry import window_iou


class Outcome(NamedTuple):
    """What an objective says about a sub-batch, or a step about its batch."""

    loss: Tensor
    """Mean loss, a scalar."""
    measure: Tensor
    """1 where the class is right, or the overlap with the target window: (N,) per sample, for a step their mean."""


Objective = Callable[[Sample], Outcome]


def make_objective(run: Run, networks: nn.ModuleDict, guidance: float) -> Objective:
    """Return the loss of the run's phase and variant, and what is measured along the way.

    Args:
        run: decides the loss.
        networks: from ``build``.
        guidance: how strongly guidance pulls, from ``run.guidance``.
    """
    if run.phase == "guide":
        return _guidance_objective(networks["transformer"], guidance)
    if run.phase == "recognize":
        return _window_objective(networks["classifier"], _random_windows)
    if run.variant == "R_h":
        return _window_objective(networks["classifier"], lambda sample, side: sample.theta)
    if run.variant == "center":
        return _window_objective(networks["classifier"], center_windows)
    if run.variant == "frozen":
        return _window_objective(networks["classifier"], _frozen_windows(networks["transformer"]))
    return _joint_objective(networks["transformer"], networks["classifier"], guidance)


def center_windows(sample: Sample, side: int) -> Tensor:
    """Return theta of the center window of ``side`` pixels for each sample."""
    scale = side / sample.image.shape[-1]
    return sample.theta.new_tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]]).expand_as(sample.theta)


def _guidance_objective(transformer: nn.Module, strength: float) -> Objective:
    guidance = RegressiveGuidance("l1", weight=strength)

    def objective(sample: Sample) -> Outcome:
        theta = transformer.localize(sample.image)
        loss = guidance(theta, sample.theta, sample.confidence)
        return Outcome(loss, window_iou(theta.detach(), sample.theta))

    return objective


def _joint_objective(transformer: nn.Module, classifier: nn.Module, strength: float) -> Objective:
    guidance = RegressiveGuidance("l1", weight=strength, joint=True)

    def objective(sample: Sample) -> Outcome:
        hits: list[Tensor] = []

        def recognize(glimpse: Glimpse) -> Tensor:
            scores = classifier(glimpse.image)
            hits.append(_hits(scores, sample.label))
            return F.cross_entropy(scores, sample.label)

        loss = guidance.objective(transformer, sample.image, target=sample, task=recognize)
        return Outcome(loss, hits[0])

    return objective


def _window_objective(classifier: nn.Module, windows: Callable[[Sample, int], Tensor]) -> Objective:
    side = classifier.input_size

    def objective(sample: Sample) -> Outcome:
        scores = classifier(affine_sample(sample.image, windows(sample, side), (side, side)))
        return Outcome(F.cross_entropy(scores, sample.label), _hits(scores, sample.label))

    return objective


def _frozen_windows(transformer: nn.Module) -> Callable[[Sample, int], Tensor]:
    def windows(sample: Sample, side: int) -> Tensor:
        transformer.eval()  # without dropout, as it will look when it is tested
        return transformer.localize(sample.image)

    return windows


def _random_windows(sample: Sample, side: int) -> Tensor:
    return sample.random


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).float()
