"""Files and bytes that were damaged at random: each is read as it was, or refused with a message that names it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import torch
from hypothesis import strategies as st

from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.mpii import parse_annotations
from examples.mpii_cooking.storage import DamagedError, read_json, write_json
from examples.mpii_cooking.workspace import MANIFEST, Workspace
from supervised_st import HardSwitch, RegressiveGuidance

SCHEMA = 1
Read = TypeVar("Read")
PIECES = (
    b"", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b",", b'"', b"'", b"{", b"}", b"[", b"]", b":", b"\\",
    b"-1", b"0", b"1e999", b"9" * 30, b"NaN", b"null", b"true", b"../", b"\xc3\xa9", b"\xed\xa0\x80", b"[" * 3000,
)  # fmt: skip


class Edit(NamedTuple):
    """At a place, so many bytes are replaced; then a bit of the next byte is flipped, unless it is 0."""

    place: int
    removed: int
    piece: bytes
    flipped: int


DAMAGE = st.lists(
    st.builds(
        Edit,
        st.integers(0, 2**16),
        st.sampled_from((0, 0, 0, 1, 2, 50)),
        st.sampled_from(PIECES),
        st.sampled_from((0, 1, 2, 4, 8, 16, 32, 64, 128)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content: bytes, edits: list[Edit]) -> bytes:
    """Return what the edits leave of some bytes."""
    for edit in edits:
        place = edit.place % (len(content) + 1)
        end = content[place + edit.removed :]
        content = content[:place] + edit.piece + bytes([end[0] ^ edit.flipped] if end else []) + end[1:]
    return content


ANNOTATIONS = b"""8,s08-d02,12,60,5,cut slices
8,s08-d02,61,99,1,Background activity
11,s11-d05,1,1,5,cut slices
11,s11-d05,2,47,14,take out from drawer
20,s20-d10,5,2048,33,wash objects
"""


def check_annotations(edits: list[Edit]) -> None:
    """What is read is in order; what is not is refused by the file's name."""
    path = _folder() / "detection.csv"
    path.write_bytes(damaged(ANNOTATIONS, edits))
    rows = _read(lambda: parse_annotations(path), DataError, path.name)
    if rows is None:
        return
    assert rows, "no rows"
    for row in rows:
        assert 1 <= row.start <= row.end, f"frames of {row}"
        assert min(row.subject, row.category) >= 1, f"numbers of {row}"
        assert Path(row.file_name).name == row.file_name, f"the name of {row} leads out of the folder"


def check_state(edits: list[Edit]) -> None:
    """The state of guidance in a state dict is restored, or refused."""
    guidance = RegressiveGuidance(schedule=HardSwitch(3))
    content = bytes(guidance.get_extra_state().tolist())
    broken = torch.tensor(list(damaged(content, edits)), dtype=torch.uint8)
    _read(lambda: guidance.load_state_dict({"_extra_state": broken}), ValueError, "state")
    assert 0 <= guidance.strength <= 1, f"strength {guidance.strength}"


CONTENT: dict[str, Any] = {"losses": [0.5, 1e-30, 3.0], "names": {"a": "cut", "é": None}, "n": 7, "whole": True}


def check_json(edits: list[Edit]) -> None:
    """A stored file is what was written, or it is refused by its name."""
    path = _folder() / "stored.json"
    path.write_bytes(damaged(_stored(), edits))
    found = _read(lambda: read_json(path, SCHEMA), DamagedError, path.name)
    assert found in (None, CONTENT), f"{found} was not written"


def check_manifest(edits: list[Edit]) -> None:
    """A unit whose manifest was damaged has the facts that were stored, or has to be done again."""
    unit = Workspace(_folder()).unit("unit", 1)
    unit.path(MANIFEST).write_bytes(damaged(_manifest(), edits))
    assert not unit.done or unit.facts == CONTENT, f"{unit.facts} was not stored"


def _read(read: Callable[[], Read], refusal: type[Exception], name: str) -> Read | None:
    """Return what is read, or None if it is refused by a short message that names it."""
    try:
        return read()
    except refusal as problem:
        message = str(problem)
    assert name in message, f"the message {message} does not name {name}"
    assert len(message) < 10_000, "the message is long"
    return None


@cache
def _place() -> TemporaryDirectory[str]:
    return TemporaryDirectory()  # removed when the process ends


def _folder() -> Path:
    return Path(_place().name)


@cache
def _stored() -> bytes:
    path = _folder() / "sound.json"
    write_json(path, CONTENT, SCHEMA)
    return path.read_bytes()


@cache
def _manifest() -> bytes:
    unit = Workspace(_folder()).unit("sound", 1)
    unit.commit(**CONTENT)
    return (unit.folder / MANIFEST).read_bytes()


PARSERS: dict[str, tuple[st.SearchStrategy[list[Edit]], Callable[[list[Edit]], None]]] = {
    "damaged annotations": (DAMAGE, check_annotations),
    "damaged state of guidance": (DAMAGE, check_state),
    "damaged stored files": (DAMAGE, check_json),
    "damaged manifests": (DAMAGE, check_manifest),
}
"""By figure: the cases, and what must hold."""
