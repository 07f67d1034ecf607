"""Typed JSON files with a version: what cannot be used is refused with the place and the cure."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from examples.mpii_cooking.storage import DamagedError, read_json, sha256

CURE = "run the same command again, finished work is reused"
BESIDE = "beside"  # the digests of other files with results in the same folder, by their names
Stored = TypeVar("Stored")


class ResultsError(ValueError):
    """Files with results cannot be used; the message says what to do."""


def load(path: Path, kind: type[Stored], schema: int) -> Stored:
    """Read a file with results; ``ResultsError`` if it is missing, was changed or is no ``kind`` of this ``schema``."""
    try:
        content = read_json(path, schema, needs_digest=False)  # version 0.3.0 wrote none
        for name, digest in content.pop(BESIDE, {}).items():
            if (path.parent / name).is_file() and sha256(path.parent / name) != digest:
                raise DamagedError(f"{path.parent / name} was changed since it was written")
        return TypeAdapter(kind).validate_json(json.dumps(content))
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing: a run writes it at its end") from None
    except DamagedError as problem:
        raise ResultsError(f"{problem}; {CURE}") from None
    except ValidationError as misfit:
        first = misfit.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ResultsError(f"{path} does not fit the schema: {place}: {first['msg']}; {CURE}") from misfit
