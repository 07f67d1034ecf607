"""Faults are planted where they are said to be, each is one edit, and it is found by tests that fail or do not end."""

import ast

import pytest

from benchmarks.reliability import mutants
from benchmarks.reliability.mutations import mutations, planted
from benchmarks.saving import ROOT

SOURCE = '''"""A module."""

import logging

LIMIT: int = 3


def count(items: list[int], strict: bool = True) -> int:
    """Return how many are large."""
    total = 0
    for é, item in enumerate(items):
        if item > LIMIT and not strict:
            total += item * 2
    if total < 0:
        raise ValueError(f"negative {total + 1}")
    logging.info("counted %d", total - 1)
    return -total
'''

EDITS = [
    "LIMIT: int = 4",
    "def count(items: list[int], strict: bool = False) -> int:",
    "    total = 1",
    "        if (not (item > LIMIT and not strict)):",
    "        if ((item > LIMIT) or (not strict)):",
    "        if (item >= LIMIT) and not strict:",
    "        if item > LIMIT and (strict):",
    "            pass",
    "            total += ((item) / (2))",
    "            total += item * 3",
    "    if (not (total < 0)):",
    "    if (total <= 0):",
    "    if total < 1:",
    "        pass",
    "    pass",
    "    return None",
    "    return (total)",
]


def test_every_fault_is_one_edit():
    before, found = SOURCE.splitlines(), []
    for fault in mutations(SOURCE):
        after = planted(SOURCE, fault)
        ast.parse(after)
        changed = [(old, new) for old, new in zip(before, after.splitlines(), strict=True) if old != new]
        assert len(changed) == 1
        found.append(changed[0][1])
    assert sorted(found) == sorted(EDITS)


def test_every_file_has_faults_and_tests():
    for file, tests in mutants.tests_of().items():
        assert all((ROOT / name).is_file() for name in tests), tests
        assert mutants.faults([file], ROOT) or file.endswith("options.py"), file


def test_no_module_of_the_library_is_forgotten():
    package = ROOT / "supervised_st"
    modules = {str(path.relative_to(package).with_suffix("")) for path in package.rglob("*.py")}
    without_code = {name for name in modules if name.endswith(("__init__", "types"))}
    kernels = {name for name in modules if name.startswith("_sampler/kernels/")}
    assert {*mutants.LIBRARY, *mutants.KERNELS} == modules - without_code - kernels - mutants.LEFT_OUT


@pytest.mark.parametrize(("replacement", "is_found", "limit"), [
    ("return None", True, 60), ("(items >= total)", True, 60), ("5", False, 60),
    ("pass", True, 3),  # the loop does not end
])  # fmt: skip
def test_a_fault_is_found_if_tests_fail_or_do_not_end(tmp_path, replacement, is_found, limit):
    code = "def count(items):\n    total, _ = 0, 4\n    while items > total:\n        total += 1\n    return total\n"
    (tmp_path / "code_copy.py").write_text(code)
    (tmp_path / "test_code.py").write_text("from code_copy import count\n\ndef test():\n    assert count(3) == 3\n")
    by_text = {fault.mutation.replacement: fault for fault in mutants.faults(["code_copy.py"], tmp_path)}
    assert 0 < mutants.seconds_of(["test_code.py"], tmp_path, 60) < 60
    assert mutants.is_found(by_text[replacement], tmp_path, ["test_code.py"], limit) == is_found
    assert (tmp_path / "code_copy.py").read_text() == code
