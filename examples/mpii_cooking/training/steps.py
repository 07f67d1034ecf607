"""One step of training: the gradient over sub-batches and ranks, and whether it may be used."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from examples.mpii_cooking import distributed, interrupts
from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data.samples import Sample
from examples.mpii_cooking.training.networks import Networks
from examples.mpii_cooking.training.objectives import Objective
from examples.mpii_cooking.training.runs import Run

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # MatConvNet's trainer
BIAS_RATE = 2.0  # MatConvNet trains biases at twice the rate and without decay


class Step(NamedTuple):
    """What a step found in the whole batch, the same on every rank."""

    loss: float  # mean over the samples
    measures: float  # sum over the samples, see ``Outcome``
    norm: float  # of the gradient
    is_last: bool  # whether SIGTERM has come to a rank

    @property
    def flaw(self) -> str | None:
        """Why the step must not be made, if it must not."""
        if not math.isfinite(self.loss):
            return f"the loss is {self.loss}"
        return None if math.isfinite(self.norm) else f"the norm of the gradient is {self.norm}"

    @classmethod
    def of(cls, summands: Sequence[Tensor]) -> "Step":
        """Return what there is in the sums that ``backward`` describes."""
        sums, *gradient = summands
        norm = torch.nn.utils.get_total_norm(gradient)
        loss, measures, sigterms, norm_value = torch.cat([sums, norm.reshape(1)]).tolist()  # waits for the device
        return cls(loss, measures, norm_value, is_last=sigterms > 0)


def make_optimizer(run: Run, networks: Networks, preset: Preset) -> Optimizer:
    """Return the preset's optimizer, with a rate for each network."""
    settings = run.settings(preset)
    rates = {"classifier": settings.rate, "transformer": settings.localization_rate or settings.rate}
    if preset.training.optimizer == "adam":
        groups = [{"params": [*part.parameters()], "lr": rates[name]} for name, part in networks.named_children()]
        return torch.optim.Adam(groups, fused=True)
    groups = []
    for name, part in networks.named_children():
        weights = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups.append({"params": weights, "lr": rates[name]})
        groups.append({"params": biases, "lr": BIAS_RATE * rates[name], "weight_decay": 0.0})
    return torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_step(optimizer: Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> Step:
    """Make one step if its loss and gradient are finite on every rank.

    ``parts`` are the sub-batches of this rank, maybe none; ``size`` counts the samples of all ranks. The gradient is
    the sum over sub-batches and ranks, which is exact: no layer mixes samples. What is not finite on one rank is not
    finite in the sum, so all ranks take the same decision.
    """
    summands = backward(optimizer, objective, parts, size)
    distributed.add_up(summands)
    step = Step.of(summands)
    if step.flaw is None:
        optimizer.step()
    return step


def backward(optimizer: Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> list[Tensor]:
    """Return what ranks add up: (loss, sum of the measures, whether SIGTERM has come), then every parameter's gradient.

    The first of these tensors has these three numbers.
    """
    optimizer.zero_grad()
    learning = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    sums = learning[0].new_zeros(3)
    for part in parts:
        loss, measure = objective(part)
        fraction = loss * (len(measure) / size)
        torch.autograd.backward(fraction)
        sums[:2] += torch.stack([fraction.detach(), measure.sum()])
    sums[2] = interrupts.has_sigterm()
    for parameter in learning:
        if parameter.grad is None:  # on a rank without parts
            parameter.grad = torch.zeros_like(parameter)
    return [sums, *(parameter.grad for parameter in learning)]


def sub_batches(batch: Sample, size: int) -> list[Sample]:
    """Divide a batch into sub-batches of ``size`` samples; the last one may be smaller."""
    return [Sample(*part) for part in zip(*(torch.split(field, size) for field in batch), strict=True)]
