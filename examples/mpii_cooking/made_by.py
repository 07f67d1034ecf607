"""What makes a unit of work: the code that it depends on, and the versions of the packages that compute.

The code of a module is its own and that of every module that it imports from the example and the library, as syntax
trees: comments and docstrings do not count.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

OURS = ("examples.mpii_cooking", "supervised_st")
COMPUTING = {"av": "av", "cv2": "opencv", "numpy": "numpy", "sklearn": "scikit-learn", "torch": "torch"}
"""Packages that decide results, by the names under which they are imported."""
KEEPERS = {
    f"examples.mpii_cooking.{name}"
    for name in ("interrupts", "made_by", "stages", "storage", "training.progress", "workspace")
}
"""Modules that keep results, stop work or show how it goes on, and make none. Digests check what is kept."""


class _Module(NamedTuple):
    digest: str
    imports: frozenset[str]  # modules of ours, and the names of other packages


@cache
def made_by(module: str) -> dict[str, dict[str, str]]:
    """Return digests of the modules that ``module`` depends on, by name, and versions of Python and of packages.

    Code is read at the first call in a process: a checkout may change while a run goes on.
    """
    found, waiting = {module}, [module]
    while waiting:
        new = _module(waiting.pop()).imports - found - KEEPERS
        found |= new
        waiting += new & _sources().keys()
    packages = {known for name, known in COMPUTING.items() if name in found}
    return {
        "code": {name: _module(name).digest for name in found & _sources().keys()},
        "version": {name: _versions()[name] for name in {"Python", *packages}},
    }


def made_now(before: dict[str, dict[str, str]]) -> dict[str, dict[str, str | None]]:
    """Return what ``made_by`` gave before with the digests and versions of now, None for modules that are gone."""
    digests = {name: _module(name).digest if name in _sources() else None for name in before.get("code", {})}
    found = {"code": digests, "version": {name: _versions().get(name) for name in before.get("version", {})}}
    return {part: found[part] for part in before}


@cache
def _versions() -> dict[str, str]:
    packages = {known: import_module(name).__version__ for name, known in COMPUTING.items()}
    return {"Python": "{}.{}".format(*sys.version_info)} | packages


@cache
def _sources() -> dict[str, bytes]:
    """Read all modules of ours."""
    sources = {}
    for package in OURS:
        root = Path(find_spec(package).submodule_search_locations[0])  # type: ignore[union-attr, index]
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            sources[".".join((package, *parts)).removesuffix(".__init__")] = path.read_bytes()
    return sources


@cache
def _tree(module: str) -> ast.Module:
    """Return a module's syntax tree without docstrings."""
    tree = ast.parse(_sources()[module])
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)]
    return tree


@cache
def _module(name: str) -> _Module:
    tree = _tree(name)
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, anywhere in its code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [_origin(str(node.module), alias.name) for alias in node.names]
        else:
            continue
        yield from (name if name in _sources() else name.partition(".")[0] for name in names)


def _origin(module: str, name: str) -> str:
    """Return the module that ``from module import name`` depends on; packages of ours pass on names of others."""
    if f"{module}.{name}" in _sources():
        return f"{module}.{name}"
    for node in _tree(module).body if module in _sources() else ():
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and str(node.module).startswith(f"{module}."):
                    return _origin(str(node.module), alias.name)
    return module


def _is_text(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
