"""A module's extra state as a tensor, which is what tools expect of everything in a state dict."""

import json
from typing import Any

import torch
from torch import Tensor

_BYTES = 1024  # a multiple of it, so that states of one kind have one shape and can be copied onto each other


def to_tensor(state: dict[str, Any]) -> Tensor:
    """Return a state of numbers, texts, None, and lists and dicts of these, as JSON in a uint8 tensor on the CPU."""
    text = json.dumps(state, default=_refuse).encode()
    padded = text.ljust(-(-len(text) // _BYTES) * _BYTES)
    return torch.tensor(list(padded), dtype=torch.uint8, device="cpu")


def from_tensor(tensor: Tensor) -> dict[str, Any]:
    """Return the state in a tensor, from any device. All dtypes hold bytes exactly, so checkpoints may be in half."""
    try:
        state = json.loads(bytes(tensor.flatten().to(torch.uint8).tolist()))
    except (ValueError, RecursionError):
        state = None
    if not isinstance(state, dict):
        raise ValueError(
            "the state dict must hold the state of guidance as it was saved, got other bytes: tools that average state "
            "dicts must leave out the key that ends with '_extra_state'"
        )
    return state


def _refuse(value: object) -> None:
    raise TypeError(f"the state of a schedule must be numbers by name, got {type(value).__name__} among them")
