"""The loss of every phase and variant: distance to the target window, classification error, or both."""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.training.networks import Classifier, Networks
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.variants import Phase, Window
from supervised_st import Glimpse, RegressiveGuidance, affine_sample
from supervised_st.geometry import window_iou


class Outcome(NamedTuple):
    """The outcome of an objective on a sub-batch."""

    loss: Tensor
    """Mean loss, a scalar."""
    measure: Tensor
    """1 if the class is right, or the overlap with the target window: (N,)."""


Objective = Callable[[Sample], Outcome]
Windows = Callable[[Sample], Tensor]  # samples -> theta of the window in each of them, (N, 2, 3)


def make_objective(run: Run, networks: Networks, guidance: float) -> Objective:
    """Return the loss of the run, and what is measured along the way. ``guidance`` is from ``run.guidance``."""
    if run.phase is Phase.GUIDANCE:
        return _guidance_objective(networks, guidance)
    if run.phase is Phase.RECOGNITION:
        return _window_objective(networks.classifier, lambda sample: sample.random)
    if run.phase is Phase.JOINT and not run.tested_variant.traits.is_frozen:
        return _joint_objective(networks, guidance)
    return _window_objective(networks.classifier, evaluation_windows(run, networks))


def evaluation_windows(run: Run, networks: Networks) -> Windows:
    """Return the windows that the run's classifier sees when it is tested."""
    window = run.tested_variant.traits.window
    if window is Window.CENTER:
        return lambda sample: center_windows(sample, networks.classifier.input_size)
    if window is Window.MOST_MOTION:
        return lambda sample: sample.theta
    return lambda sample: networks.transformer.eval().localize(sample.image)  # eval: without dropout


def center_windows(sample: Sample, side: int) -> Tensor:
    """Return theta of the center window of ``side`` pixels for each sample."""
    scale = side / sample.image.shape[-1]
    return sample.theta.new_tensor([[scale, 0.0, 0.0], [0.0, scale, 0.0]]).expand_as(sample.theta)


def _guidance_objective(networks: Networks, strength: float) -> Objective:
    guidance = RegressiveGuidance("l1", weight=strength)

    def objective(sample: Sample) -> Outcome:
        theta = networks.transformer.localize(sample.image)
        loss = guidance(theta, sample.theta, sample.confidence)
        return Outcome(loss, window_iou(theta.detach(), sample.theta))

    return objective


def _joint_objective(networks: Networks, strength: float) -> Objective:
    guidance = RegressiveGuidance("l1", weight=strength, joint=True)

    def objective(sample: Sample) -> Outcome:
        outcomes: list[Outcome] = []

        def classification(glimpse: Glimpse) -> Tensor:
            outcomes.append(_classify(networks.classifier(glimpse.image), sample.label))
            return outcomes[0].loss

        loss = guidance.objective(networks.transformer, sample.image, target=sample, task=classification)
        return Outcome(loss, outcomes[0].measure)

    return objective


def _window_objective(classifier: Classifier, windows: Windows) -> Objective:
    size = (classifier.input_size, classifier.input_size)

    def objective(sample: Sample) -> Outcome:
        glimpse = affine_sample(sample.image, windows(sample), size, antialias=True)
        return _classify(classifier(glimpse), sample.label)

    return objective


def _classify(scores: Tensor, labels: Tensor) -> Outcome:
    return Outcome(F.cross_entropy(scores, labels), (scores.argmax(1) == labels).float())
