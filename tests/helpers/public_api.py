"""What the library offers, as text: ``python -m tests.helpers.public_api`` writes it to `INVENTORY`.

Public are the names without an underscore in `supervised_st` and in its modules without an underscore, at the shortest
path that leads to them. ``check_*`` functions are what these modules share among themselves.
"""

import ast
from collections.abc import Iterator

from tests.helpers.programs import ROOT

PACKAGE = "supervised_st"
INVENTORY = ROOT / "tests" / "project" / "public_api.txt"
ONE_LINE = 100  # characters of a signature that stays on one line


def inventory() -> str:
    """Return one line per name, parameter and field, in the order of the modules."""
    lines: list[str] = []
    known: set[int] = set()
    for module in (PACKAGE, *sorted(_modules())):
        for name, node in sorted(_names(module).items()):
            if id(node) not in known:
                known.add(id(node))
                lines += described(f"{module}.{name}", node)
    return "\n".join(lines) + "\n"


def _modules() -> Iterator[str]:
    for path in (ROOT / PACKAGE).iterdir():
        if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists()):
            yield f"{PACKAGE}.{path.stem}"


_trees: dict[str, ast.Module] = {}


def _tree(module: str) -> ast.Module:
    if module not in _trees:
        path = ROOT.joinpath(*module.split("."))
        _trees[module] = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    return _trees[module]


def _names(module: str) -> dict[str, ast.stmt]:
    """Return what a module defines and passes on (``import name as name``), by name."""
    found: dict[str, ast.stmt] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.asname == alias.name and not _is_module(f"{node.module}.{alias.name}"):
                    found[alias.name] = _names(node.module)[alias.name]
    return {name: node for name, node in found.items() if not name.startswith(("_", "check_"))}


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def described(path: str, node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return _signature(path, node)
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        lines = [f"class {path}({bases})" if bases else f"class {path}"]
        for part in node.body:
            lines += ["    " + line for line in _member(part)]
        return lines
    if isinstance(node, ast.AnnAssign):
        return [f"{path}: {ast.unparse(node.annotation)}"]
    assert isinstance(node, ast.Assign)
    return [f"{path} = {ast.unparse(node.value)}"]


def _member(node: ast.stmt) -> list[str]:
    """Return a field, a property or a method of a class, and nothing for what is private."""
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
        default = f" = {ast.unparse(node.value)}" if node.value else ""
        return [f"{node.target.id}: {ast.unparse(node.annotation)}{default}"]
    if not isinstance(node, ast.FunctionDef) or node.name.startswith("_") > (node.name in ("__init__", "__call__")):
        return []
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    if "property" in decorators:
        return [f"{node.name}: {ast.unparse(node.returns) if node.returns else '?'} (property)"]
    if f"{node.name}.setter" in decorators:
        return [f"{node.name} can be set"]
    signature = _signature(node.name, node, is_method=not decorators & {"staticmethod", "classmethod"})
    return signature + [f"{name} (attribute)" for name in sorted(_attributes(node)) if node.name == "__init__"]


def _attributes(init: ast.FunctionDef) -> set[str]:
    assigned = (part for part in ast.walk(init) if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store))
    return {part.attr for part in assigned if ast.unparse(part.value) == "self" and not part.attr.startswith("_")}


def _signature(name: str, node: ast.FunctionDef, *, is_method: bool = False) -> list[str]:
    end = f") -> {ast.unparse(node.returns)}" if node.returns else ")"
    parameters = list(_parameters(node.args))[is_method:]
    line = f"{name}({', '.join(parameters)}{end}"
    return [line] if len(line) <= ONE_LINE else [f"{name}(", *(f"    {parameter}" for parameter in parameters), end]


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for index, (parameter, default) in enumerate(zip(positional, defaults, strict=True), 1):
        yield _parameter(parameter, default)
        if index == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(parameter, default)
    if arguments.kwarg:
        yield f"**{ast.unparse(arguments.kwarg)}"


def _parameter(parameter: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(parameter) + (f" = {ast.unparse(default)}" if default else "")


if __name__ == "__main__":
    INVENTORY.write_text(inventory())
