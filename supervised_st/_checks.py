"""Checks of arguments: one pattern language for shapes, one form of message for everything."""

from collections.abc import Collection, Sequence
from operator import index

import torch
from torch import Tensor

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

LONGEST_SIDE = 2**30
"""Pixels of an image along one axis, at most: coordinates beyond it are clamped to it."""


def check_tensor(name: str, tensor: object) -> None:
    """Raise TypeError unless ``tensor`` is a tensor whose numbers lie in memory by strides."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {'nested' if tensor.is_nested else tensor.layout}")


def check_dtype(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype]) -> None:
    """Raise TypeError unless ``tensor`` is a dense tensor of one of ``dtypes``."""
    check_tensor(name, tensor)
    if tensor.dtype not in dtypes:
        *others, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        choices = f"{', '.join(others)} or {last}" if others else last
        raise TypeError(f"{name} must be {choices}, got {tensor.dtype}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a float64, float32, float16 or bfloat16 tensor."""
    check_dtype(name, tensor, FLOATING)


def check_device(name: str, tensor: Tensor, image: Tensor) -> None:
    """Raise ValueError unless ``tensor`` is where the image is."""
    if tensor.device != image.device:
        raise ValueError(f"{name} must be on the image's device {image.device}, got {tensor.device}")


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


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_size(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return ``(height, width)``; raise unless it is two integers between 1 and `LONGEST_SIDE`."""
    try:
        height, width = (n if isinstance(n, torch.SymInt) else index(n) for n in size)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two integers (height, width), got {size!r}") from None
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE:
        raise ValueError(f"{name} must be two integers (height, width) from 1 to {LONGEST_SIDE}, got {size!r}")
    return height, width
