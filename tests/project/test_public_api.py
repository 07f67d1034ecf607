"""What the library offers is what the committed inventory says. A change of it is seen, and meant."""

import ast
import difflib
import importlib
import inspect
import re
from importlib.util import find_spec
from types import ModuleType

import pytest

import supervised_st
from tests.helpers import public_api

PATHS = re.findall(r"^(?:class )?(supervised_st[\w.]+)", public_api.INVENTORY.read_text(), re.M)
AT_THE_TOP = [path for path in PATHS if path.count(".") == 1]
RECORDS = {"Glimpse", "MotionWindow", "WindowProfile", "Plateau"}  # their fields have an order


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_inventory_is_that_of_the_code():
    committed, now = public_api.INVENTORY.read_text().splitlines(), public_api.inventory().splitlines()
    changes = list(difflib.unified_diff(committed, now, "committed", "now", lineterm=""))
    assert not changes, "\n".join(
        ["the public API has changed; if that is meant, run `python -m tests.helpers.public_api`", *changes]
    )


def test_every_name_of_the_inventory_can_be_imported():
    assert len(PATHS) > 50
    here = [path for path in PATHS if find_spec("lightning") or "lightning" not in path]  # for users of Lightning
    assert all(found(path) is not None for path in here)


def test_nothing_else_can_be_imported_from_the_top():
    names = {name for name, thing in vars(supervised_st).items() if not isinstance(thing, ModuleType)}
    assert {name for name in names if not name.startswith("_")} == {path.rpartition(".")[2] for path in AT_THE_TOP}


@pytest.mark.parametrize("path", AT_THE_TOP)
def test_public_names_keep_the_house_rules(path):
    thing, name = found(path), path.rpartition(".")[2]
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if name in RECORDS:
        return
    for parameter in list(inspect.signature(thing).parameters.values())[1:]:
        optional = parameter.default is not parameter.empty
        assert not optional or parameter.kind is parameter.KEYWORD_ONLY, f"{name}({parameter.name}=) is positional"


CODE = """
def plain(a, /, b: int = 1, *rest: float, c=None, **more) -> None: ...
def long(first_argument_with_a_long_name: int, second_argument_with_a_long_name: str, *, third: bool = False): ...
class Record(Base):
    size: int = 3
    _hidden: int
    def __init__(self, size):
        self.size, self._other = size, 0
    def _private(self): ...
    @property
    def side(self) -> float: ...
    @side.setter
    def side(self, value): ...
    @staticmethod
    def make(size): ...
"""


def test_every_part_of_a_signature_is_listed():
    lines = [line for node in ast.parse(CODE).body for line in public_api.described(node.name, node)]
    assert lines == [
        "plain(a, /, b: int = 1, *rest: float, c = None, **more) -> None",
        "long(",
        "    first_argument_with_a_long_name: int",
        "    second_argument_with_a_long_name: str",
        "    *",
        "    third: bool = False",
        ")",
        "class Record(Base)",
        "    size: int = 3",
        "    __init__(size)",
        "    size (attribute)",
        "    side: float (property)",
        "    side can be set",
        "    make(size)",
    ]
