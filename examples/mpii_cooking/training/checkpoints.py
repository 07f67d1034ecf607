"""What is stored of a run: weights, the optimizer's state while there is more to train, and what training noted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.mpii_cooking.workspace import Unit, written_aside

Thetas = list[list[list[float]]]
"""Theta of several frames."""


@dataclass(frozen=True)
class History:
    """What training noted after every epoch.

    Attributes:
        loss: mean training loss of each epoch.
        measure: fraction of right classes, in the guidance phase the mean overlap with the target window.
        windows: theta on a few fixed frames, before the first epoch and after each; empty for most runs.
        seconds: time that training took.
        is_finished: whether training is over.
    """

    loss: tuple[float, ...] = ()
    measure: tuple[float, ...] = ()
    windows: tuple[Thetas, ...] = ()
    seconds: float = 0.0
    is_finished: bool = False

    @property
    def epochs(self) -> int:
        """How many epochs were made."""
        return len(self.loss)


def save(unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer | None, history: History) -> None:
    """Commit a checkpoint, which replaces the one before.

    Args:
        unit: of the run.
        networks: their weights are saved.
        optimizer: its state is saved too; None at the end of training.
        history: is saved as the unit's facts.
    """
    weights = {name: tensor.contiguous() for name, tensor in networks.state_dict().items()}
    state = {} if optimizer is None else optimizer.state_dict()["state"]
    moments = {f"optimizer.{i}.{name}": tensor for i, slots in state.items() for name, tensor in slots.items()}
    name = weights_name(history)
    with written_aside(unit.path(name)) as path:
        save_file(weights | moments, path)
    unit.commit(name, **asdict(history))


def load_history(unit: Unit) -> History:
    """Return what training noted up to the last checkpoint.

    Raises:
        NotDoneError: if there is no checkpoint.
    """
    facts = unit.facts
    sequences = {name: tuple(facts[name]) for name in ("loss", "measure", "windows")}
    return History(**sequences, seconds=facts["seconds"], is_finished=facts["is_finished"])


def load_weights(unit: Unit, networks: nn.Module) -> None:
    """Load the last checkpoint's weights into ``networks``.

    Raises:
        NotDoneError: if there is no checkpoint.
    """
    weights, _ = _read(unit.file(weights_name(load_history(unit))))
    networks.load_state_dict(weights)


def restore(unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer) -> History:
    """Load the last checkpoint into ``networks`` and ``optimizer``. Without one, leave them as they are.

    Returns:
        What training noted so far.
    """
    if not unit.done:
        return History()
    history = load_history(unit)
    weights, state = _read(unit.file(weights_name(history)))
    networks.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return history


def weights_name(history: History) -> str:
    """Return the name of the file with the weights after the last epoch."""
    return f"epoch-{history.epochs:04d}.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    """Return the weights by name, and the optimizer's state by parameter and slot."""
    weights: dict[str, Tensor] = {}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(path).items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            state.setdefault(int(index), {})[slot] = tensor
        else:
            weights[name] = tensor
    return weights, state
