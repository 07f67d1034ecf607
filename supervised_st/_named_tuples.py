"""Named tuples that programs from ``torch.export`` may take and return."""

from typing import TypeVar

import torch
from torch.utils._pytree import _register_namedtuple

_NamedTupleT = TypeVar("_NamedTupleT", bound=tuple[object, ...])


def serializable(cls: type[_NamedTupleT]) -> type[_NamedTupleT]:
    """Let `torch.export.save` store a named tuple, and `torch.load` load it where its class is imported."""
    _register_namedtuple(cls, serialized_type_name=f"{cls.__module__}.{cls.__qualname__}")
    torch.serialization.add_safe_globals([cls])
    return cls
