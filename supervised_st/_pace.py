"""How far a transformer moves per optimizer step: usual steps are measured under guidance, free ones are shortened."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

_MEMORY = 0.98  # the usual length of a step is an average over about the last 1 / (1 - 0.98) = 50


class Pace:
    """Shortens the optimizer's steps with a transformer to ``fraction`` of their length, or of the usual one.

    A step is the change of all parameters that require grad, of all transformers that share the guidance; its length is
    the Euclidean norm. Usual is what was usual under guidance. For SGD, Adam and AdamW, a shorter step is what a lower
    rate would have given.
    """

    def __init__(self) -> None:
        self.fraction = 1.0
        self._has_guided = False
        # Of the lengths of guided steps: their decaying sum, and that of their weights.
        self._lengths: tuple[Tensor | float, Tensor | float] = (0.0, 0.0)
        # By transformer and name: the parameters, and the values that they had before the optimizer's step.
        # And their versions, which count changes in place.
        self._before: dict[nn.Module, dict[str, tuple[nn.Parameter, Tensor, int]]] = {}
        self.still_steps = 0  #: in a row, before which no parameter was changed

    def remember(self, transformer: object, *, is_guided: bool) -> None:
        """Keep the parameters of a module until its step is made, if that is going to be measured or shortened.

        The last call before the step counts. An earlier one may have had no step, because something interrupted it, and
        a checkpoint may have been loaded since.
        """
        if not isinstance(transformer, nn.Module) or self.fraction == 1:
            return
        if (is_guided or self._has_guided) and torch.is_grad_enabled():
            learning = {name: it for name, it in transformer.named_parameters() if it.requires_grad}
            self._before[transformer] = {name: (it, it.detach().clone(), _version(it)) for name, it in learning.items()}

    @torch.no_grad()
    def measure(self) -> None:
        """Count a step under guidance."""
        self._has_guided = True
        if values := self._remembered():
            # Tensors throughout, so that nothing waits for the device. A gradient scaler may have skipped the step, and
            # one that diverged must not spoil the average.
            length, (total, weight) = _length(values).nan_to_num(0, posinf=0), self._lengths
            share = (1 - _MEMORY) * (length > 0)
            self._lengths = (1 - share) * total + share * length, (1 - share) * weight + share

    @torch.no_grad()
    def shorten(self) -> None:
        """Shorten a step without guidance, if there was guidance before."""
        if values := self._remembered():
            length = _length(values)
            total, weight = (torch.as_tensor(part, device=length.device) for part in self._lengths)
            usual = torch.where(weight > 0, total / weight, torch.inf)
            kept = self.fraction * torch.where(length > usual, usual / length, 1.0)
            for parameter, value in values:
                parameter.lerp_(value, (1 - kept).to(parameter))

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"has_guided": self._has_guided, "lengths": tuple(map(float, self._lengths))}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        total, weight = map(float, state["lengths"])
        self._has_guided, self._lengths, self._before = bool(state["has_guided"]), (total, weight), {}

    def _remembered(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Return each parameter with its value before the step, and forget them."""
        before, self._before = self._before, {}
        found: dict[nn.Parameter, Tensor] = {}  # transformers may share parameters
        is_still = True
        for transformer, values in before.items():
            now = dict(transformer.named_parameters())
            for name, (parameter, value, version) in values.items():
                if now.get(name) is not parameter:
                    raise RuntimeError(
                        f"free_pace={self.fraction} needs the same parameters in objective and step, but {name} was "
                        "replaced: set free_pace=1 and give the optimizer the transformer's parameter_groups"
                    )
                found.setdefault(parameter, value)
                is_still &= version == _version(parameter)
        self.still_steps = self.still_steps + 1 if found and is_still else 0
        return [*found.items()]


def _version(parameter: nn.Parameter) -> int:
    """Return how often a parameter was changed in place; compiled code does not ask."""
    return -1 if torch.compiler.is_compiling() else parameter._version


def _length(values: list[tuple[nn.Parameter, Tensor]]) -> Tensor:
    return get_total_norm([parameter - value for parameter, value in values]).float()
