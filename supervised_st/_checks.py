"""Checks of arguments. Every error names the argument, says what it must be, and what it is."""

from collections.abc import Collection, Sequence
from numbers import Integral
from operator import index

import torch
from torch import Tensor

from supervised_st.types import Size

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LONGEST_SIDE = 2**30  # of an image, in pixels; coordinates further out are clamped to it


def check_tensor(name: str, tensor: object) -> None:
    """Raise TypeError unless ``tensor`` is a dense `torch.Tensor`."""
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


def check_integer(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` has an integer dtype; bool does not count."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must have an integer dtype, got {tensor.dtype}")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise ValueError unless every sample ``[batch ...]`` is free of infinite and NaN entries."""
    if tensor.sum().isfinite():  # One fast pass; infinite and NaN entries make the sum so, too.
        return
    broken = ~tensor.isfinite().flatten(1).all(1)
    if broken.any():
        raise ValueError(f"{name} must be finite, got inf or nan in sample {first_true(broken)}")


def check_device(name: str, tensor: Tensor, image: Tensor) -> None:
    """Raise ValueError unless ``tensor`` is on the image's device."""
    if tensor.device != image.device:
        raise ValueError(f"{name} must be on the image's device {image.device}, got {tensor.device}")


def check_shape(name: str, tensor: Tensor, pattern: str, **known: int) -> dict[str, int]:
    """Compare a tensor's shape with a pattern such as ``"batch 2 3"`` and return the sizes of the named axes.

    A pattern has one word per axis: a number is the size itself, a name allows any size, unless ``known``
    gives it. A leading ``...`` allows any number of axes in front.
    """
    check_tensor(name, tensor)
    axes = pattern.split()
    shape = tuple(tensor.shape)
    if axes[0] == "...":
        axes = axes[1:]
        shape = shape[max(len(shape) - len(axes), 0) :]
    sizes = dict(known)
    fits = len(shape) == len(axes)
    for axis, size in zip(axes, shape, strict=False):
        expected = int(axis) if axis.isdigit() else sizes.setdefault(axis, size)
        fits = fits and size == expected
    if not fits:
        words = [str(known.get(word, word)) for word in pattern.split()]
        comma = "," if len(words) == 1 else ""
        raise ValueError(f"{name} must have shape ({', '.join(words)}{comma}), got {tuple(tensor.shape)}")
    return sizes


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_size(name: str, size: Size) -> tuple[int, int]:
    """Return ``(height, width)``; raise unless it is one or two integers between 1 and `LONGEST_SIDE`."""
    wanted = f"{name} must be two integers (height, width), or one for a square"
    sides = (size, size) if isinstance(size, (int, torch.SymInt, Integral)) else size
    try:
        height, width = (n if isinstance(n, (int, torch.SymInt)) else index(n) for n in sides)  # symbolic ones stay so
    except (TypeError, ValueError):
        raise TypeError(f"{wanted}, got {size!r}") from None
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE:
        raise ValueError(f"{wanted}, from 1 to {LONGEST_SIDE}, got {size!r}")
    return height, width


def first_true(flags: Tensor) -> int:
    """Return the index of the first True in ``[batch]``."""
    return int(flags.nonzero()[0])
