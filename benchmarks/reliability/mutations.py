"""Faults that can be planted into a module: a wrong comparison, number, sign or branch, or a line left out."""

import ast
from collections.abc import Iterator
from typing import NamedTuple


class Mutation(NamedTuple):
    """A piece of a module's text, and what replaces it. Lines count from 1, columns from 0 and in bytes."""

    line: int
    column: int
    end_line: int
    end_column: int
    replacement: str


COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
OPERATIONS: dict[type[ast.operator], str] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "//", ast.Pow: "*",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip


def mutations(source: str) -> list[Mutation]:
    """Return all faults for a module's source; texts for people, annotations and types are left alone."""
    return sorted(set(_of_node(ast.parse(source), source)))


def planted(source: str, fault: Mutation) -> str:
    """Return the source with a fault."""
    lines = source.encode().splitlines(keepends=True)
    start, end = lines[fault.line - 1][: fault.column], lines[fault.end_line - 1][fault.end_column :]
    lines[fault.line - 1 : fault.end_line] = [start + fault.replacement.encode() + end]
    return b"".join(lines).decode()


def _of_node(node: ast.AST, source: str) -> Iterator[Mutation]:
    yield from _of_expression(node, source)
    yield from _of_statement(node, source)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "bases", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_for_people(child):
                yield from _of_node(child, source)


def _of_expression(node: ast.AST, source: str) -> Iterator[Mutation]:
    def text(part: ast.AST) -> str:
        return ast.get_source_segment(source, part) or ""

    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in COMPARISONS:
            yield _at(node, f"({text(left)} {COMPARISONS[type(operator)]} {text(right)})")
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPERATIONS:
            if not any(isinstance(side, (ast.JoinedStr, ast.Constant)) and _is_text(side) for side in (left, right)):
                yield _at(node, f"(({text(left)}) {OPERATIONS[type(operator)]} ({text(right)}))")
        case ast.BoolOp(op=operator, values=values):
            other = " or " if isinstance(operator, ast.And) else " and "
            yield _at(node, f"({other.join(f'({text(value)})' for value in values)})")
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield _at(node, f"({text(operand)})")
        case ast.Constant(value=bool(value)):
            yield _at(node, str(not value))
        case ast.Constant(value=int(value) | float(value)):
            yield _at(node, repr(value + 1))


def _of_statement(node: ast.AST, source: str) -> Iterator[Mutation]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield _at(test, f"(not ({ast.get_source_segment(source, test)}))")
        case ast.Return(value=ast.AST() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield _at(node, "return None")
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield _at(node, "pass")


def _at(node: ast.AST, replacement: str) -> Mutation:
    assert isinstance(node, ast.expr | ast.stmt)
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return Mutation(node.lineno, node.col_offset, node.end_lineno, node.end_col_offset, replacement)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_for_people(node: ast.AST) -> bool:
    """Whether a node is a message, or concerns type checkers: what is raised or logged, and imports for annotations."""
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name.endswith(("Error", "Exit")) or name in ("warn", "warning", "info", "print", "TypeVar", "cast")
    return False
