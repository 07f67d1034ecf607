"""Dataclasses as JSON, and back by their annotations. What does not fit is named by its place in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

Json = Any
"""What ``json`` reads and writes."""
Kind = Any
"""An annotation."""


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


def decode(kind: Kind, value: Json, place: str) -> object:
    """Return a JSON value as ``kind`` has it; the inverse of ``encode``.

    Args:
        kind: a dataclass, an enum, a number, a string or a flag, a literal, an array, a tuple or mapping of those, or
            one of them or None.
        value: what ``json`` has read.
        place: where it was read, for messages.

    Raises:
        MisfitError: if the value does not fit. A field that is missing takes its default where it has one.
    """
    origin: Kind = get_origin(kind)
    arguments = get_args(kind)
    if is_dataclass(kind):
        return _decode_fields(kind, value, place)
    if origin in (Union, UnionType):
        (known,) = (each for each in arguments if each is not NoneType)
        return None if value is None else decode(known, value, place)
    if origin is tuple:
        return _decode_tuple(arguments, value, place)
    if origin is np.ndarray:
        return _decode_array(get_args(arguments[1])[0], value, place)
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        _expect(isinstance(value, dict), "an object", value, place)
        return {key: decode(arguments[1], each, f"{place}.{key}") for key, each in value.items()}
    known = [*arguments] if origin is Literal else [each.value for each in kind] if issubclass(kind, Enum) else None
    if known is not None:
        _expect(value in known, f"one of {known}", value, place)
        return value if origin is Literal else kind(value)
    if kind is float and type(value) is int:
        return float(value)
    _expect(type(value) is kind, kind.__name__, value, place)
    return value


def laid_out(value: Json, depth: int = 0) -> str:
    """Return JSON with a line for each field, and for each row of a table."""
    start, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict) and depth < 2:
        parts = [f"{json.dumps(name)}: {laid_out(each, depth + 1)}" for name, each in value.items()]
        return f"{{{start}{f',{start}'.join(parts)}{end}}}"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[{start}{f',{start}'.join(map(_compact, value))}{end}]"
    return _compact(value)


def _decode_fields(kind: Kind, value: Json, place: str) -> object:
    _expect(isinstance(value, dict), "an object", value, place)
    types, known = get_type_hints(kind), [field for field in fields(kind) if field.init]
    unknown = sorted(set(value) - {field.name for field in known})
    missing = [f.name for f in known if f.name not in value and f.default is MISSING and f.default_factory is MISSING]
    for problem, names in (("unknown", unknown), ("missing", missing)):
        if names:
            raise MisfitError(f"{place}: {problem} field {', '.join(names)}")
    return kind(**{name: decode(types[name], each, f"{place}.{name}") for name, each in value.items()})


def _decode_tuple(kinds: tuple[Kind, ...], value: Json, place: str) -> tuple[object, ...]:
    _expect(isinstance(value, list), "a list", value, place)
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(value)
    _expect(len(value) == len(kinds), f"a list of {len(kinds)}", value, place)
    return tuple(decode(kind, each, f"{place}[{i}]") for i, (kind, each) in enumerate(zip(kinds, value, strict=True)))


def _decode_array(dtype: type[np.generic], value: Json, place: str) -> object:
    try:
        found = np.array(value)
    except ValueError:  # rows of different lengths
        found = np.array(None)
    fits = found.size == 0 or np.can_cast(found.dtype, dtype, "safe")
    _expect(isinstance(value, list) and fits, f"a list of {np.dtype(dtype)}", value, place)
    return found.astype(dtype)


def _expect(fits: bool, expected: str, value: Json, place: str) -> None:
    if not fits:
        raise MisfitError(f"{place}: expected {expected}, got {value!r:.60}")


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
