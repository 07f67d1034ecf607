"""Checks of arguments. Every error names the argument, says what it must be, and what it is."""

from collections.abc import Collection, Sequence
from numbers import Integral, Real
from operator import index

import torch
from torch import Tensor

from supervised_st.types import Size

FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
LONGEST_SIDE = 2**30  # of an image, in pixels; coordinates further out are clamped to it
_SMALLEST_PHOTO = 16  # pixels of a side


def check_tensor(name: str, tensor: object) -> None:
    """Raise TypeError unless ``tensor`` is a dense `torch.Tensor`."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}{conversion_hint(name, tensor)}")
    if tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{name} must be a dense tensor, got {'nested' if tensor.is_nested else tensor.layout}")


def check_dtype(name: str, tensor: Tensor, dtypes: Sequence[torch.dtype]) -> None:
    """Raise TypeError unless ``tensor`` is a dense tensor of one of ``dtypes``."""
    check_tensor(name, tensor)
    if tensor.dtype not in dtypes:
        *others, last = (str(dtype).removeprefix("torch.") for dtype in dtypes)
        choices = f"{', '.join(others)} or {last}" if others else last
        hint = f"; pass {name}.float()" if torch.float32 in dtypes and not tensor.is_complex() else ""
        raise TypeError(f"{name} must be {choices}, got {tensor.dtype}{hint}")


def check_floating(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` is a float64, float32, float16 or bfloat16 tensor."""
    check_dtype(name, tensor, FLOATING)


def check_integer(name: str, tensor: Tensor) -> None:
    """Raise TypeError unless ``tensor`` has an integer dtype; bool does not count."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must have an integer dtype, got {tensor.dtype}; pass {name}.long()")


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
        raise ValueError(
            f"{name} must be on the image's device {image.device}, got {tensor.device}; pass {name}.to(image.device)"
        )


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
        hint = shape_hint(name, tuple(tensor.shape), words)
        raise ValueError(f"{name} must have shape ({', '.join(words)}{comma}), got {tuple(tensor.shape)}{hint}")
    return sizes


def shape_hint(name: str, shape: tuple[int, ...], wanted: Sequence[str]) -> str:
    """Return a hint: what to pass instead of a tensor of the wrong shape. It is empty if there is no simple answer.

    ``wanted`` has a word per axis: its size, or its name if it may have any.
    """
    is_open = wanted[0] == "..."
    axes = wanted[1:] if is_open else wanted
    if list(wanted[-2:]) == ["2", "3"]:
        if shape[-2:] == (3, 3):
            return f"; pass {name}[..., :2, :]"
        if shape[-1:] == (6,):
            return f"; pass {name}.unflatten(-1, (2, 3))"
        if shape[-1:] == (4,):
            return f"; if these are windows, pass geometry.window_to_theta({name}, image_size)"
    if not is_open and all(axis.isdigit() for axis in axes) and _can_expand(shape, [int(axis) for axis in axes]):
        return f"; pass {name}.expand({', '.join(axes)})"
    if len(shape) == len(axes) - 1 and _fits(shape, axes[1:]) and axes[0] in ("batch", "point"):
        return f"; pass {name}[None]"
    if _has_channels_last(shape, axes):
        return f"; if channels are last, pass {name}.movedim(-1, -3)"
    return ""


def _has_channels_last(shape: tuple[int, ...], axes: Sequence[str]) -> bool:
    is_map = len(axes) > 2 and axes[-3].isdigit() and not axes[-1].isdigit()
    return is_map and len(shape) >= len(axes) and shape[-1] == int(axes[-3])


def _can_expand(shape: tuple[int, ...], wanted: list[int]) -> bool:
    own = wanted[len(wanted) - len(shape) :]
    return len(shape) <= len(wanted) and all(n in (1, size) for n, size in zip(shape, own, strict=True))


def _fits(shape: tuple[int, ...], axes: Sequence[str]) -> bool:
    return all(not axis.isdigit() or int(axis) == size for axis, size in zip(axes, shape, strict=True))


def conversion_hint(name: str, value: object) -> str:
    """Return a hint: how to make a tensor of ``value``. It is empty if there is no simple answer."""
    if fields := getattr(value, "_fields", None):
        return f"; pass one of its fields {', '.join(fields)}"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Tensor):
        return f"; pass torch.stack({name})"
    return f"; pass torch.as_tensor({name})" if isinstance(value, list) or hasattr(value, "__array__") else ""


def check_channels_first(image: Tensor) -> None:
    """Raise ValueError for bytes that are hardly an image, unless they are ``[batch height width channel]``."""
    if torch.compiler.is_compiling():  # a graph is for many sizes
        return
    _, channels, height, width = image.shape
    if isinstance(width, int) and width in (1, 3, 4) and min(channels, height) >= _SMALLEST_PHOTO:
        raise ValueError(
            f"image must be [batch channel height width], got shape {tuple(image.shape)}, which looks like "
            "[batch height width channel]; pass image.movedim(-1, -3)"
        )


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a number, which may be infinite or NaN; True and False do not count."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_whole(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a whole number of an integer type."""
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")


def check_size(name: str, size: Size) -> tuple[int, int]:
    """Return ``(height, width)``; raise unless it is one or two integers between 1 and `LONGEST_SIDE`."""
    wanted = f"{name} must be two integers (height, width), or one for a square"
    sides = (size, size) if isinstance(size, (int, torch.SymInt, Integral)) else size
    try:
        height, width = (n if isinstance(n, (int, torch.SymInt)) else index(n) for n in sides)  # symbolic ones stay so
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{wanted}, got {_described(size)}") from None
    if min(height, width) < 1 or max(height, width) > LONGEST_SIDE:
        raise ValueError(f"{wanted}, from 1 to {LONGEST_SIDE}, got {size!r}")
    return height, width


def _described(size: object) -> str:
    if isinstance(size, Tensor) and size.ndim > 1:
        return f"a tensor of shape {tuple(size.shape)}; pass its shape[-2:]"
    return f"{tuple(size)}; pass shape[-2:]" if isinstance(size, torch.Size) else repr(size)


def first_true(flags: Tensor) -> int:
    """Return the index of the first True in ``[batch]``."""
    return int(flags.nonzero()[0])
