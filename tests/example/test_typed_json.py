"""Dataclasses come back from JSON as they were, and what does not fit is named by its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from examples.mpii_cooking.typed_json import STRICT, array_of, encode, laid_out


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    color: Color
    size: tuple[int, float]


@dataclass(frozen=True)
class Whole:
    __pydantic_config__ = STRICT

    name: str
    parts: tuple[Part, ...]
    table: Annotated[NDArray[np.float64], array_of(np.float64)]
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    more: Mapping[str, int] = field(default_factory=dict)


WHOLE = Whole("w", (Part(Color.RED, (1, 2.0)), Part(Color.BLUE, (3, 0.5))), np.eye(2), note="n", more={"x": 1})


def decode(content):
    return TypeAdapter(Whole).validate_json(json.dumps(content))


def test_what_was_encoded_is_decoded():
    again = decode(json.loads(laid_out(encode(WHOLE))))
    assert (again.parts, again.note, again.more) == (WHOLE.parts, WHOLE.note, WHOLE.more)
    np.testing.assert_array_equal(again.table, WHOLE.table)


def test_a_table_has_one_row_per_line():
    assert laid_out({"a": 1, "rows": [{"x": 1}, {"x": [2, 3]}]}).splitlines() == [
        "{", ' "a": 1,', ' "rows": [', '  {"x":1},', '  {"x":[2,3]}', " ]", "}",
    ]  # fmt: skip


def test_missing_fields_take_their_defaults():
    found = decode({"name": "w", "parts": [], "table": []})
    assert (found.kind, found.note, found.more) == ("a", None, {})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": 3}, ("name",)),
        ({"name": None}, ("name",)),
        ({"new": 1}, ("new",)),
        ({"parts": {}}, ("parts",)),
        ({"parts": [1]}, ("parts", 0)),
        ({"parts": [{"color": "red"}]}, ("parts", 0, "size")),
        ({"parts": [{"color": "green", "size": [1, 2]}]}, ("parts", 0, "color")),
        ({"parts": [{"color": "red", "size": [1]}]}, ("parts", 0, "size", 1)),
        ({"parts": [{"color": "red", "size": [True, 2]}]}, ("parts", 0, "size", 0)),
        ({"table": [[1, 2], [3]]}, ("table",)),
        ({"table": [["a"]]}, ("table",)),
        ({"table": "no"}, ("table",)),
        ({"kind": "c"}, ("kind",)),
        ({"more": {"x": "1"}}, ("more", "x")),
        ({"more": [1]}, ("more",)),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(change, place):
    with pytest.raises(ValidationError) as refused:
        decode(encode(WHOLE) | change)
    assert [problem["loc"] for problem in refused.value.errors()] == [place]
