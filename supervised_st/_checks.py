"""Checks of arguments: one pattern language for shapes, one form of message for everything."""

from collections.abc import Collection
from operator import index

import torch
from torch import Tensor


def check_tensor(name: str, tensor: object) -> None:
    """Raise TypeError unless ``tensor`` is a tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")


def check_shape(name: str, tensor: Tensor, pattern: str, **known: int) -> dict[str, int]:
    """Hold a tensor's shape against a pattern such as ``"batch 2 3"`` and return the sizes it names.

    Args:
        name: what the caller calls the tensor.
        tensor: the tensor.
        pattern: one word per axis: a number is the size itself, a name stands for any size.
        **known: sizes that named axes must have.

    Raises:
        TypeError: if ``tensor`` is not a tensor.
        ValueError: if the shape does not fit.
    """
    check_tensor(name, tensor)
    axes = pattern.split()
    sizes = dict(known)
    fits = tensor.ndim == len(axes)
    if fits:
        for axis, size in zip(axes, tensor.shape, strict=True):
            expected = int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
            fits = fits and size == expected
    if not fits:
        given = f" with {known}" if known else ""
        raise ValueError(f"{name} must have shape ({pattern}){given}, got {tuple(tensor.shape)}")
    return sizes


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a float64, float32, float16 or bfloat16 tensor."""
    check_tensor(name, tensor)
    if tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        raise TypeError(f"{name} must be float64, float32, float16 or bfloat16, got {tensor.dtype}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)``; raise unless it is two positive integers."""
    try:
        height, width = (n if isinstance(n, torch.SymInt) else index(n) for n in size)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two integers (height, width), got {size!r}") from None
    if height < 1 or width < 1:
        raise ValueError(f"{name} must be two positive integers (height, width), got {size!r}")
    return height, width
