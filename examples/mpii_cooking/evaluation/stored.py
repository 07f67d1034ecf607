"""Typed JSON files with a version: what cannot be used is refused with the place and the cure."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from examples.mpii_cooking.typed_json import Json, laid_out
from examples.mpii_cooking.workspace import written_aside

CURE = "run the same command again, finished work is reused"
Stored = TypeVar("Stored")


class ResultsError(ValueError):
    """Files with results cannot be used; the message says what to do."""


def load(path: Path, kind: type[Stored], schema: int) -> Stored:
    """Read what ``save`` has written; ``ResultsError`` if the file is missing or is no ``kind`` of this ``schema``."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing: a run writes it at its end") from None
    except ValueError as broken:
        raise ResultsError(f"{path} is not whole ({broken}); {CURE}") from None
    version = content.pop("schema", None) if isinstance(content, dict) else None
    if version != schema:
        raise ResultsError(f"{path} has schema {version}, expected {schema}: another version wrote it; {CURE}")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except ValidationError as misfit:
        first = misfit.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultsError(f"{path} does not fit the schema: {place}: {first['msg']}; {CURE}") from misfit


def save(path: Path, content: dict[str, Json], schema: int) -> None:
    """Write the fields of a dataclass as JSON."""
    with written_aside(path) as aside:
        aside.write_text(laid_out({"schema": schema, **content}) + "\n", encoding="utf-8")
