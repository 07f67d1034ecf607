"""What is stored of a run: weights, the optimizer's state while there is more to train, and the history of training."""

import errno
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.workspace import Unit

ThetaLists = list[list[list[float]]]  # theta of several frames


@dataclass(frozen=True)
class History:
    """What training logged after every epoch."""

    loss: tuple[float, ...] = ()  # mean training loss of each epoch
    measure: tuple[float, ...] = ()
    """Fraction of right classes, in the guidance phase the mean overlap with the target window."""
    windows: tuple[ThetaLists, ...] = ()
    """Theta on a few fixed frames, before the first epoch and after each; empty for most runs."""
    seconds: float = 0.0
    is_finished: bool = False  # whether training is over
    steps: int = 0
    """Steps of the epoch that is under way; 0 but for a run that SIGTERM has stopped."""
    sums: tuple[float, float, int] = (0.0, 0.0, 0)
    """Over the samples of that epoch so far: loss, measure and their number."""
    skipped: tuple[str, ...] = ()
    """The steps that were not made, since a loss or a gradient was not finite: which, and from what samples."""

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return len(self.loss)

    @property
    def weights_name(self) -> str:
        """Name of the file with the weights."""
        step = f"-step-{self.steps:05d}" if self.steps else ""
        return f"epoch-{self.epochs:04d}{step}.safetensors"


def save(unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer, history: History) -> None:
    """Commit a checkpoint; the one before stays. At the end of training it has no optimizer state."""
    tensors = {name: tensor.contiguous() for name, tensor in networks.state_dict().items()}
    if not history.is_finished:
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": tensor for slot, tensor in slots.items()}
    with written_aside(unit.path(history.weights_name)) as path:
        try:
            save_file(tensors, path)
        except SafetensorError as problem:  # what it makes of a full disk
            raise OSError(errno.EIO, str(problem)) from problem
    unit.commit(history.weights_name, **asdict(history))


def load_history(unit: Unit) -> History:
    """Return what training logged up to the last checkpoint. Without one, this raises NotDoneError."""
    facts: dict[str, Any] = {name: tuple(fact) if isinstance(fact, list) else fact for name, fact in unit.facts.items()}
    return History(**facts)


def load_weights(unit: Unit, networks: nn.Module) -> None:
    """Load the weights of a finished run."""
    networks.load_state_dict(load_file(unit.file(load_history(unit).weights_name)))


def restore(unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer) -> History:
    """Load the last checkpoint, and return what training logged so far. Without one, leave everything as it is."""
    if not unit.done:
        return History()
    history = load_history(unit)
    tensors = load_file(unit.file(history.weights_name))
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, index, slot = name.split(".")
        state[int(index)][slot] = tensors.pop(name)
    networks.load_state_dict(tensors)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return history
