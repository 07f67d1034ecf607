"""Digests of the videos' content. Each file is read once; its digest is kept beside what shows that it was changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.mpii_cooking import distributed
from examples.mpii_cooking.data import frames
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.storage import read_back, sha256, write_json
from examples.mpii_cooking.workspace import fingerprint, stamp

SCHEMA = 1  # of the file with the digests


@dataclass(frozen=True)
class Source:
    """A video whose content was read."""

    path: Path
    digest: str
    seen_by: str  # by which stamp it is known
    stamp: str

    def check(self) -> None:
        """Raise DataError if the video was changed since."""
        if _stamps(self.path)[self.seen_by] != self.stamp:
            raise DataError(f"{self.path} was changed while it was prepared", "start again when it is complete")


def read_contents(videos: Mapping[str, Path], note: Path, *, trust_mtime: bool = False) -> dict[str, Source]:
    """Read the content of each video; ranks share the reading. Return what was read by the videos' keys.

    Digests are kept in the file ``note``, with the sizes, times and inodes of all files. A video whose files have
    others is read again; with ``trust_mtime``, only one with another size or time of modification.
    """
    known: dict[str, Any] = (read_back(note, SCHEMA) or {"videos": {}})["videos"]
    trusted = "dated" if trust_mtime else "exact"

    def read(key: str) -> dict[str, str]:
        was: dict[str, str] = known.get(key, {})
        now = _stamps(videos[key])
        if was.get(trusted) == now[trusted]:
            return was
        digest = content(videos[key])
        if _stamps(videos[key]) != now:
            raise DataError(f"{videos[key]} was changed while it was read: start again when it is complete")
        return now | {"content": digest}

    read_now = distributed.shared_map(read, list(videos), desc="read videos", unit="video")
    found = dict(zip(videos, read_now, strict=True))
    if not found.items() <= known.items():
        distributed.once(lambda: write_json(note, {"videos": known | found}, SCHEMA))
    return {key: Source(videos[key], entry["content"], trusted, entry[trusted]) for key, entry in found.items()}


def content(path: Path) -> str:
    """Return the SHA-256 of a video file, or that of the names and contents of a folder's images."""
    if path.is_dir():
        return fingerprint([[image.name, sha256(image)] for image in frames.images(path)])
    return sha256(path)


def _stamps(path: Path) -> dict[str, str]:
    """Return digests of what changes with a clip's files: "dated" of size and time, "exact" also of the inode's own."""
    files = frames.images(path) if path.is_dir() else [path]
    stamps = [(file.name, *stamp(file)) for file in files]
    return {"dated": fingerprint([each[:3] for each in stamps]), "exact": fingerprint(stamps)}
