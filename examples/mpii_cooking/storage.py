"""Files that are whole or not there: written aside, checked when read back, with one writer for each output folder."""

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from examples.mpii_cooking.typed_json import Json, laid_out

ASIDE = ".aside-"  # starts the name of a file that is being written, or that lives as long as a process
DAMAGED = ".damaged"  # ends the name of a file that is not what was written
LOCK_SECONDS = 1.0
"""How long to wait for another process to let go of a folder, or to have said that it holds it."""
log = logging.getLogger(__name__)


class WriteError(OSError):
    """A file could not be written. What was there before is still there."""


class DamagedError(ValueError):
    """A file is not what was written; the message says which, and what is wrong with it."""


class InUseError(RuntimeError):
    """Another process writes to the same folder; the message says which, and since when."""


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; on a clean exit the file is synced to disk and renamed to ``path``.

    ``WriteError`` names ``path`` if the disk fails; errors with other files, which the block may read, pass through.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The end of the name stays, by which encoders choose a format.
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{path.name}")
    try:
        yield aside
        _sync(aside)
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as problem:
        if problem.filename and Path(os.fsdecode(problem.filename)) not in (aside, path.parent):
            raise
        raise WriteError(problem.errno, problem.strerror or str(problem), str(path)) from problem
    finally:
        with suppress(OSError):  # the next start removes it
            aside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Json], schema: int) -> None:
    """Write ``content``, JSON values by name, with its digest and the version of its schema, in one atomic step."""
    plain = json.loads(json.dumps({"schema": schema, **content}, allow_nan=False))
    with written_aside(path) as aside:
        aside.write_text(laid_out({"digest": _digest(plain), **plain}) + "\n", encoding="utf-8")


def read_json(path: Path, schema: int, *, needs_digest: bool = True) -> dict[str, Json]:
    """Return what :func:`write_json` wrote; ``DamagedError`` if anything of it was changed or the schema is another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as broken:
        raise DamagedError(f"{path} is not whole ({broken})") from None
    found = content.get("schema") if isinstance(content, dict) else None
    if found != schema:
        raise DamagedError(f"{path} has schema {found}, expected {schema}: another version wrote it")
    digest = content.pop("digest", None)
    if digest != _digest(content) and (needs_digest or digest is not None):
        raise DamagedError(f"{path} was changed since it was written")
    return {name: value for name, value in content.items() if name != "schema"}


def read_back(path: Path, schema: int) -> dict[str, Json] | None:
    """Return what :func:`write_json` wrote, to go on from it; None if there is nothing, or it has to be made again."""
    try:
        return read_json(path, schema)
    except FileNotFoundError:
        return None
    except DamagedError as problem:
        set_aside(path, str(problem))
        return None


def set_aside(path: Path, problem: str) -> None:
    """Rename a file that cannot be used, and say so."""
    kept = path.with_name(path.name + DAMAGED)
    with suppress(FileNotFoundError):  # another rank has renamed it
        path.replace(kept)
    log.warning("%s; it is kept as %s, and made again", problem, kept.name)


def is_intact(path: Path, digest: str) -> bool:
    """Whether a file has its SHA-256; if not, say so, and set it aside."""
    try:
        found = sha256(path)
    except FileNotFoundError:
        log.warning("%s is missing; it is made again", path)
        return False
    if found != digest:
        set_aside(path, f"{path} was changed since it was written")
    return found == digest


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def visible(folder: Path) -> list[Path]:
    """List ``folder`` by name, without hidden files, which killed writers and operating systems leave behind."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only process that writes to ``folder``, and remove what killed ones were writing.

    The operating system keeps the lock, so it ends with this process, whatever ends it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(folder / ".lock"), folder / ".holder"
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        holder = note.read_text(encoding="utf-8") if note.is_file() else "another process"
        raise InUseError(f"{folder} is in use by {holder}: wait until it ends, or choose another --output") from None
    try:
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        with written_aside(note) as aside:
            aside.write_text(f"process {os.getpid()} on {socket.gethostname()} since {since}", encoding="utf-8")
        for left in folder.rglob(f"{ASIDE}*"):
            left.unlink()
        yield
    finally:
        with suppress(OSError):  # the next process that holds the folder replaces it
            note.unlink()
        lock.release()


def explained(problem: OSError) -> str:
    """Say in one sentence which file failed and why, how much room is left, and what to do."""
    if not problem.filename:
        return str(problem)
    path = Path(os.fsdecode(problem.filename))
    above = next(folder for folder in path.absolute().parents if os.access(folder, os.F_OK))
    room = f"{shutil.disk_usage(above).free / 1e6:,.0f} MB are free there"
    failed = "written" if isinstance(problem, WriteError) else "used"
    cure = "finished work is kept: when this is mended, the same command goes on"
    return f"{path} cannot be {failed} ({problem.strerror}; {room}); {cure}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a renaming survive a power failure, where folders can be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EBADF, errno.EINVAL):  # a file system without it
            raise
    finally:
        os.close(descriptor)
