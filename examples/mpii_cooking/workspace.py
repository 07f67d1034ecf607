"""Resumable units of work. A unit is done when its manifest says so and no byte of its files has changed.

Files come first and the manifest last, by an atomic rename: a process that is killed leaves no half-done unit.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
log = logging.getLogger(__name__)


class NotDoneError(RuntimeError):
    """A result was requested that was not computed, or was computed from other inputs."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on a clean exit the file is synced to disk and renamed to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, by which encoders choose a format
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def visible(folder: Path) -> list[Path]:
    """List ``folder`` by name, without hidden files, which killed writers and operating systems leave behind."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as JSON in one atomic step."""
    with written_aside(path) as aside:
        aside.write_text(_to_json(content, indent=1) + "\n", encoding="utf-8")


def fingerprint(inputs: object) -> str:
    """Return the SHA-256 of JSON values, dataclasses and enums."""
    return hashlib.sha256(_to_json(inputs).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class Unit:
    """One piece of work with its own folder."""

    folder: Path
    fingerprint: str  # of its inputs

    @property
    def done(self) -> bool:
        """Whether the unit was committed with the same inputs and all its files are intact."""
        return self._manifest is not None

    @property
    def facts(self) -> dict[str, Any]:
        """The values that were stored at the commit; ``NotDoneError`` if the unit is not done."""
        return dict(self._checked_manifest()["facts"])

    def path(self, name: str) -> Path:
        """Return the path to which the file ``name`` of this unit is written, and make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def file(self, name: str) -> Path:
        """Return the path of a committed file; ``NotDoneError`` if the unit is not done."""
        self._checked_manifest()
        return self.folder / name

    def commit(self, *names: str, **facts: object) -> None:
        """Declare the unit done, with these files and small JSON values. Files that are not named are removed."""
        for name in names:
            _sync(self.folder / name)
        files = {name: sha256(self.folder / name) for name in sorted(names)}
        manifest = {"fingerprint": self.fingerprint, "files": files, "facts": facts}
        write_json(self.folder / MANIFEST, manifest)
        self._manifest = json.loads(_to_json(manifest))
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in (MANIFEST, *names):
                path.unlink()

    def _checked_manifest(self) -> dict[str, Any]:
        if self._manifest is None:
            raise NotDoneError(f"unit {self.folder} is missing, damaged or made from other inputs: run its stage")
        return self._manifest

    @cached_property
    def _manifest(self) -> dict[str, Any] | None:
        """The manifest if it is valid. It is read once per unit object, since hashing large files takes time."""
        try:
            manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            files, inputs, _ = manifest["files"], manifest["fingerprint"], manifest["facts"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            log.warning("%s cannot be read; its unit will be done again", self.folder / MANIFEST)
            return None
        if inputs != self.fingerprint:
            return None
        for name, digest in files.items():
            path = self.folder / name
            if not path.is_file() or sha256(path) != digest:
                log.warning("%s is missing or was changed since it was written; its unit will be done again", path)
                return None
        return manifest


@dataclass(frozen=True)
class Workspace:
    """A folder of units; made when first needed."""

    root: Path

    def unit(self, name: str, inputs: object) -> Unit:
        """Return a unit, which is done again whenever ``inputs`` change. Slashes in its name make sub-folders."""
        return Unit(self.root / name, fingerprint(inputs))


def _to_json(content: object, indent: int | None = None) -> str:
    return json.dumps(content, sort_keys=True, indent=indent, allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"units are described by JSON values, dataclasses and enums, got {type(value).__name__}")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
