"""What a container says about its own length: a file that was cut off is shorter than that."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = (0, 0xFFFFFFFF)  # lengths of a file whose writer did not know, or say, where it would end
_ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
_TRANSPORT_SYNC = 0x47
_TRANSPORT_PACKETS = {188: 0, 192: 4, 204: 0}
"""Bytes of a packet of a transport stream, and how many come before its sync byte. All beyond 188 are no video."""


class CutOffError(ValueError):
    """The file is shorter than it says, or has something else where a part of it must begin."""


def avi_chunks(path: Path, stream: int, watch: Callable[[], None]) -> int:
    """Return the number of chunks of a video stream in an AVI file, empty ones too; each is shown for one frame.

    ``watch`` is called after each chunk: to find all of them in a large file on a slow disk takes time.
    """
    numbered, count = f"{stream:02}d".encode(), 0
    with path.open("rb") as file:
        for name in _riff_chunks(file, path.stat().st_size):
            count += name.startswith(numbered)
            watch()
    return count


def check_length(path: Path, container: str) -> None:
    """Raise a ``CutOffError`` if a file is shorter than it says; ``container`` is FFmpeg's name for its format."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if container == "mpegts":
            packet = _transport_packet(file.read(max(_TRANSPORT_PACKETS) + 4))
            if size % packet:
                raise CutOffError(f"must hold whole packets of {packet} bytes, and the last one has {size % packet}")
            return
        needed = _end_of_boxes(file, size) if "mp4" in container else _stated_in_asf(file) if container == "asf" else 0
        if needed > size:
            raise CutOffError(f"must have at least {needed} bytes, and has {size}")


def _transport_packet(head: bytes) -> int:
    """Return the size of packets: those that have a sync byte in the first and in the second; 1 if none has."""
    fits = (size for size, at in _TRANSPORT_PACKETS.items() if head[at::size][:2] == bytes([_TRANSPORT_SYNC] * 2))
    return next(fits, 1)


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last box of an MP4 or QuickTime file ends."""
    end = 0
    while end + 8 <= size:
        file.seek(end)
        length, _, long = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        if length == 0:  # it reaches to the end of the file
            return size
        end += max(8, long if length == 1 else length)
    return end if end >= size else end + 8  # at the end is less than the head of another box


def _stated_in_asf(file: BinaryIO) -> int:
    """Return the size that a Windows Media file states, 0 if it states none."""
    head = file.read(65_536)
    at = head.find(_ASF_PROPERTIES)
    return int(struct.unpack_from("<Q", head, at + 40)[0]) if 0 <= at <= len(head) - 48 else 0


def _riff_chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the names of all chunks of an AVI file in their order, whatever lists they are in."""
    end = 0
    while file.tell() + 8 <= size:
        start = file.tell()
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"RIFF":  # larger files have several, one after the other
            end = size if length in _UNKNOWN else start + 8 + length
        elif start >= end:
            return  # what follows the last one is no part of the video
        if not name.translate(None, b" _").isalnum():
            raise CutOffError(f"must have a chunk at byte {start}, and has something else")
        if length not in _UNKNOWN and start + 8 + length > size:
            raise CutOffError(f"must have at least {start + 8 + length} bytes, and has {size}")
        yield name
        # The chunks of a list follow its kind, of four bytes. Chunks begin at even places.
        file.seek(start + 12 if name in (b"RIFF", b"LIST") else start + 8 + length + length % 2)
    if file.tell() < end - 1:
        raise CutOffError(f"must have {end} bytes, and has {size}")
