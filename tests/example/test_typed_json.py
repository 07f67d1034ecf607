"""Dataclasses come back from JSON as they were, and what does not fit is named by its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.mpii_cooking.typed_json import MisfitError, decode, encode, laid_out


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Part:
    color: Color
    size: tuple[int, float]


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    table: NDArray[np.float64]
    kind: Literal["a", "b"] = "a"
    note: str | None = None
    more: Mapping[str, int] = field(default_factory=dict)


WHOLE = Whole("w", (Part(Color.RED, (1, 2.0)), Part(Color.BLUE, (3, 0.5))), np.eye(2), note="n", more={"x": 1})


def test_what_was_encoded_is_decoded():
    again = decode(Whole, json.loads(laid_out(encode(WHOLE))), "file")
    assert (again.parts, again.note, again.more) == (WHOLE.parts, WHOLE.note, WHOLE.more)
    np.testing.assert_array_equal(again.table, WHOLE.table)


def test_a_table_has_a_row_a_line():
    assert laid_out({"a": 1, "rows": [{"x": 1}, {"x": [2, 3]}]}).splitlines() == [
        "{", ' "a": 1,', ' "rows": [', '  {"x":1},', '  {"x":[2,3]}', " ]", "}",
    ]  # fmt: skip


def test_missing_fields_take_their_defaults():
    found = decode(Whole, {"name": "w", "parts": [], "table": []}, "file")
    assert (found.kind, found.note, found.more) == ("a", None, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "file.name: expected str, got 3"),
        ({"name": None}, "file.name: expected str, got None"),
        ({"new": 1, "old": 2}, "file: unknown field new, old"),
        ({"parts": {}}, "file.parts: expected tuple"),
        ({"parts": [1]}, r"file.parts\[0\]: expected Part, got 1"),
        ({"parts": [{"color": "red"}]}, r"file.parts\[0\]: missing field size"),
        ({"parts": [{"color": "green", "size": [1, 2]}]}, r"parts\[0\].color: expected one of \['red', 'blue'\]"),
        ({"parts": [{"color": "red", "size": [1]}]}, r"file.parts\[0\].size: expected tuple"),
        ({"parts": [{"color": "red", "size": [True, 2]}]}, r"file.parts\[0\].size\[0\]: expected int, got True"),
        ({"table": [[1, 2], [3]]}, "file.table: expected float64"),
        ({"table": [["a"]]}, "file.table: expected float64"),
        ({"table": "no"}, "file.table: expected ndarray"),
        ({"kind": "c"}, "file.kind: expected Literal"),
        ({"more": {"x": "1"}}, "file.more.x: expected int"),
        ({"more": [1]}, "file.more: expected Mapping"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(change, message):
    with pytest.raises(MisfitError, match=message):
        decode(Whole, encode(WHOLE) | change, "file")
