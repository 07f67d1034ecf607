"""Dataclasses as JSON, and back by their annotations. What does not fit is named by its place in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

Json = Any
"""What ``json`` reads and writes."""
Kind = Any
"""An annotation: a dataclass, enum, number, str, bool, literal, array, tuple or mapping, or one of them or None."""


class MisfitError(ValueError):
    """A JSON value does not fit the type that is expected in its place."""


def encode(value: object) -> Json:
    """Return ``value`` as JSON has it: dataclasses and mappings are objects, sequences and arrays are lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: encode(each) for key, each in value.items()}
    return [encode(each) for each in value] if isinstance(value, (tuple, list)) else value


def decode(kind: Kind, value: Json, place: str) -> Any:  # noqa: ANN401 - of the type that kind says
    """Return a JSON value as ``kind`` has it; the inverse of ``encode``.

    Args:
        kind: of the result.
        value: what ``json`` has read.
        place: where it was read, for messages.

    Raises:
        MisfitError: if the value does not fit. A field that is missing takes its default if it has one.
    """
    origin: Kind = get_origin(kind)
    arguments = get_args(kind)
    if NoneType in arguments:
        return None if value is None else decode(arguments[0], value, place)
    if is_dataclass(kind) and isinstance(value, dict):
        return _decode_fields(kind, value, place)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            return tuple(decode(*each, f"{place}[{i}]") for i, each in enumerate(zip(kinds, value, strict=True)))
    if origin is Mapping and isinstance(value, dict):
        return {key: decode(arguments[1], each, f"{place}.{key}") for key, each in value.items()}
    if origin is np.ndarray and isinstance(value, list):
        return _decode_array(get_args(arguments[1])[0], value, place)
    if _is_enum(kind) and value in [each.value for each in kind]:
        return kind(value)
    if (origin is Literal and value in arguments) or type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise _misfit(kind, value, place)


def laid_out(value: Json, depth: int = 0) -> str:
    """Return JSON with a line for each field, and for each row of a table."""
    start, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict) and depth < 2:
        parts = [f"{json.dumps(name)}: {laid_out(each, depth + 1)}" for name, each in value.items()]
        return f"{{{start}{f',{start}'.join(parts)}{end}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[{start}{f',{start}'.join(map(_compact, value))}{end}]"
    return _compact(value)


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _decode_fields(kind: Kind, value: Json, place: str) -> object:
    types, names = get_type_hints(kind), {field.name for field in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    for problem, found in (("unknown", set(value) - names), ("missing", needed - set(value))):
        if found:
            raise MisfitError(f"{place}: {problem} field {', '.join(sorted(found))}")
    return kind(**{name: decode(types[name], each, f"{place}.{name}") for name, each in value.items()})


def _decode_array(dtype: type[np.generic], value: Json, place: str) -> object:
    try:
        found = np.array(value)
    except ValueError:  # rows of different lengths
        raise _misfit(dtype, value, place) from None
    if found.size and not np.can_cast(found.dtype, dtype, "safe"):
        raise _misfit(dtype, value, place)
    return found.astype(dtype)


def _is_enum(kind: Kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _misfit(kind: Kind, value: Json, place: str) -> MisfitError:
    expected = f"one of {[each.value for each in kind]}" if _is_enum(kind) else getattr(kind, "__name__", kind)
    return MisfitError(f"{place}: expected {expected}, got {value!r:.60}")
