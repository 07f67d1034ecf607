"""Resumable units of work. A unit is done when its manifest says so and no byte of its files has changed.

Files come first and the manifest last, each in one step: a process that is killed leaves no half-done unit.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from examples.mpii_cooking.storage import DAMAGED, is_intact, read_back, sha256, write_json

MANIFEST = "manifest.json"
EARLIER = "manifest-before.json"
SCHEMA = 1  # of manifests

Manifest = dict[str, Any]  # "inputs", "files" with their digests, and "facts"


class NotDoneError(RuntimeError):
    """A result was requested that was not computed, or was computed from other inputs."""


def fingerprint(inputs: object) -> str:
    """Return the SHA-256 of JSON values, dataclasses and enums."""
    return hashlib.sha256(_to_json(inputs).encode()).hexdigest()


def stamp(path: Path) -> tuple[int, int, int, int]:
    """Return the size, the time of modification, the inode and its time of change of a file.

    A copy in place can set the time of modification back, but not that of the inode.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns


@dataclass
class Unit:
    """One piece of work with its own folder."""

    folder: Path
    inputs: object
    """JSON values of everything that decides what the unit holds."""
    check: Callable[[], None] | None = None
    """Raises an error if what the unit is made from has changed; it is called before each commit."""

    @property
    def done(self) -> bool:
        """Whether the unit was committed with the same inputs and all its files are intact."""
        return self._manifest is not None

    @property
    def facts(self) -> dict[str, Any]:
        """The values that were stored at the commit; ``NotDoneError`` if the unit is not done."""
        return dict(self._checked_manifest()["facts"])

    @property
    def content(self) -> str | None:
        """A digest of the committed files, which are not read; None if nothing was committed from the same inputs."""
        return None if self.fitting is None else fingerprint(self.fitting["files"])

    @property
    def fitting(self) -> Manifest | None:
        """The manifest of the newest commit from the same inputs; its files may be damaged."""
        return next(self._commits(), None)

    @cached_property
    def kept(self) -> Manifest | None:
        """The manifest of the last commit, from whatever inputs; its files may be damaged."""
        return read_back(self.folder / MANIFEST, SCHEMA)

    def path(self, name: str) -> Path:
        """Return the path to which the file ``name`` of this unit is written, and make its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / name

    def file(self, name: str) -> Path:
        """Return the path of a committed file; ``NotDoneError`` if the unit is not done."""
        self._checked_manifest()
        return self.folder / name

    def commit(self, *names: str, **facts: object) -> None:
        """Declare the unit done, with these files, written aside, and small JSON values.

        What was committed before from the same inputs stays, and counts if this commit gets damaged. All other files
        are removed.
        """
        if self.check is not None:
            self.check()
        files = {name: sha256(self.folder / name) for name in sorted(names)}
        manifest = json.loads(_to_json({"inputs": self.inputs, "files": files, "facts": facts}))
        stay = {MANIFEST, *files}
        before = next((commit for commit in self._commits() if self._outlives(commit, files)), None)
        if before is not None:
            write_json(self.folder / EARLIER, before, SCHEMA)
            stay |= {EARLIER, *before["files"]}
        write_json(self.folder / MANIFEST, manifest, SCHEMA)
        self.kept = self._manifest = manifest
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in stay and path.suffix != DAMAGED:
                path.unlink()

    def _checked_manifest(self) -> Manifest:
        if self._manifest is None:
            raise NotDoneError(f"unit {self.folder} is missing, damaged or made from other inputs: run its stage")
        return self._manifest

    @cached_property
    def _manifest(self) -> Manifest | None:
        """The newest valid manifest. It is read once per unit object, since hashing large files takes time."""
        return next(filter(self._is_intact, self._commits()), None)

    def _commits(self) -> Iterator[Manifest]:
        """Yield the manifests of commits from the same inputs, the newest first; their files may be damaged."""
        for name in (MANIFEST, EARLIER):
            manifest = self.kept if name == MANIFEST else read_back(self.folder / name, SCHEMA)
            if manifest is not None and manifest["inputs"] == self.inputs:
                yield manifest

    def _is_intact(self, manifest: Manifest) -> bool:
        """Whether all files of a commit are as they were; those that are not are set aside."""
        return all(is_intact(self.folder / name, digest) for name, digest in manifest["files"].items())

    def _outlives(self, manifest: Manifest, new: Mapping[str, str]) -> bool:
        """Whether a commit still has all its files after ``new`` ones were written."""
        names = manifest["files"].keys()
        return names.isdisjoint(new) and all((self.folder / name).is_file() for name in names)


@dataclass(frozen=True)
class Workspace:
    """A folder of units; made when first needed."""

    root: Path

    def unit(self, name: str, inputs: object, check: Callable[[], None] | None = None) -> Unit:
        """Return a unit, which is done again whenever ``inputs`` change. Slashes in its name make sub-folders."""
        return Unit(self.root / name, json.loads(_to_json(inputs)), check)


def _to_json(content: object) -> str:
    return json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"units are described by JSON values, dataclasses and enums, got {type(value).__name__}")
