"""Triton's interpreter, made faster and stricter. It runs the kernels where there is no GPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor


def poison(dtype: torch.dtype) -> float:
    """What buffers hold before kernels write them: NaN, or an integer that no kernel writes."""
    return float("nan") if dtype.is_floating_point else torch.iinfo(dtype).min


class _Kept:
    """Replaces the interpreter's scope of patches: it undoes them after every launch, and these are kept."""

    def restore(self) -> None:
        """Keep the patches."""


@contextmanager
def patched_once() -> Iterator[None]:
    """Patch ``triton.language`` once per module of kernels.

    The interpreter does so at every launch and again at every call of a device function, for half of its time.
    """
    from triton.runtime import interpreter

    patch_lang, scopes = interpreter._patch_lang, {}

    def once(function: Any) -> _Kept:
        if function.__module__ not in scopes:
            scopes[function.__module__] = patch_lang(function)
        return _Kept()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", once)
        yield
    for scope in reversed(scopes.values()):
        if scope is not None:  # Triton before 3.6 keeps its patches
            scope.restore()


@contextmanager
def fenced() -> Iterator[list[str]]:
    """Kernels read and write the memory of their arguments only. Yields the kernels that tried to use other memory."""
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    fence = _Fence(interpreter.TensorHandle)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "create_masked_load", fence.around(builder.create_masked_load, 1))
        patch.setattr(builder, "create_masked_store", fence.around(builder.create_masked_store, 2))
        patch.setattr(executor, "__call__", fence.launching(executor.__call__))
        # All memory is the CPU's. Copying results back is not needed, and would touch all of a sparse tensor's memory.
        patch.setattr(executor, "_restore_args_dev", lambda *arguments: None)
        yield fence.refused


class _Fence:
    def __init__(self, handle: Callable[..., Any]) -> None:
        self.handle = handle
        self.kernel = ""
        self.allowed: list[tuple[int, int]] = []
        self.refused: list[str] = []

    def launching(self, launch: Callable[..., Any]) -> Callable[..., Any]:
        def fenced_launch(executor: Any, *arguments: Any, **options: Any) -> Any:
            tensors = filter(torch.is_tensor, (*arguments, *options.values()))
            self.kernel = executor.fn.__name__
            self.allowed = [(t.data_ptr(), t.data_ptr() + _last_offset(t) * t.itemsize) for t in tensors]
            return launch(executor, *arguments, **options)

        return fenced_launch

    def around(self, access: Callable[..., Any], mask_at: int) -> Callable[..., Any]:
        def fenced_access(builder: Any, pointers: Any, *rest: Any) -> Any:
            mask = rest[mask_at - 1]
            known = mask.data & False
            for first, last in self.allowed:
                known |= (pointers.data >= first) & (pointers.data <= last)
            if (mask.data & ~known).any():
                self.refused.append(self.kernel)
            rest = (*rest[: mask_at - 1], self.handle(mask.data & known, mask.dtype), *rest[mask_at:])
            return access(builder, pointers, *rest)

        return fenced_access


def _last_offset(tensor: Tensor) -> int:
    return sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
