"""Dataclasses as JSON, and back by their annotations; Pydantic's errors name the place of what does not fit."""

import json
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, PlainValidator
from pydantic_core import to_jsonable_python

Json = Any
STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)
"""The ``__pydantic_config__`` of a dataclass that is read: no value is converted, no unknown field is ignored."""

encode = partial(to_jsonable_python, fallback=np.ndarray.tolist)
"""Return a value as JSON data: dataclasses and mappings are objects, sequences and arrays are lists."""


def array_of(dtype: type[np.generic]) -> PlainValidator:
    """Return the annotation of an array field, which refuses rows of different lengths and numbers of another kind."""

    def read(rows: Json) -> NDArray[Any]:
        found = np.array(rows)
        if found.size and not np.can_cast(found.dtype, dtype, "safe"):
            raise ValueError(f"expected {dtype.__name__}")
        return found.astype(dtype)

    return PlainValidator(read)


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
