"""Files that claim to be weights, and are made to run code, to crash their reader or to fill its memory."""

import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

Contents = Callable[[], bytes]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        """Return what pickle calls."""
        return Path.touch, (self.mark,)


def corpus(mark: Path) -> Iterator[tuple[str, str, Contents]]:
    """Yield the suffix, a description and the content of each file. Code that runs leaves a file ``mark``."""
    yield from _pickles(mark)
    yield from _archives(mark)
    yield from _safetensors()
    yield from _matlab()


def nested_cells(depth: int) -> bytes:
    """Return a MATLAB file whose variable ``layers`` is a cell in a cell in a cell."""
    matrix = _matrix(6, (1, 1), b"", _tag(9, 8) + bytes(8))  # the number 0
    for level in range(depth):
        matrix = _matrix(1, (1, 1), b"layers" if level == depth - 1 else b"", matrix)
    return _HEAD + matrix


def deflate_bomb(size: int, *, in_cell: bool = False) -> bytes:
    """Return a MATLAB file whose variable ``layers`` has ``size`` bytes, a multiple of 16 MB; the file has few."""
    block = bytes(16_000_000)
    whole = _matrix(9, (2, size // 2), b"" if in_cell else b"layers", _tag(2, size), extra=size)
    if in_cell:
        whole = _matrix(1, (1, 1), b"layers", whole, extra=size)
    packer = zlib.compressobj()
    start = packer.compress(whole) + packer.flush(zlib.Z_FULL_FLUSH)
    repeated = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush, the same bytes every time
    high, low = divmod(zlib.adler32(whole), 2**16)
    checksum = struct.pack(">HH", (high + size * low) % 65521, low)  # of zeros behind the start
    packed = start + repeated * (size // len(block)) + packer.flush()[:-4] + checksum
    return _HEAD + _tag(15, len(packed)) + packed


_HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)


def _tag(kind: int, size: int) -> bytes:
    return struct.pack("<II", kind, size % 2**32)


def _matrix(kind: int, dimensions: tuple[int, ...], name: bytes, content: bytes, *, extra: int = 0) -> bytes:
    """Return a MATLAB array of this class; ``extra`` bytes of its content follow elsewhere."""
    shape = struct.pack(f"<{len(dimensions)}i", *dimensions)
    head = _tag(6, 8) + struct.pack("<II", kind, 0) + _tag(5, len(shape)) + shape
    head += _tag(1, len(name)) + name.ljust(-(-len(name) // 8) * 8, b"\0")
    return _tag(14, len(head) + len(content) + extra) + head + content


def _saved(content: object, **options: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def _pickles(mark: Path) -> Iterator[tuple[str, str, Contents]]:
    nested = b"(" * 200_000 + b"l" * 200_000 + b"."
    doubled = b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n + 1, n, n) for n in range(60)) + b"."
    scripts: list[tuple[str, Contents]] = [
        ("a plain pickle that calls a function", lambda: pickle.dumps(Payload(mark))),
        ("the same in torch's archive", lambda: _saved(Payload(mark))),
        ("the same in torch's old format", lambda: _saved(Payload(mark), _use_new_zipfile_serialization=False)),
        ("the same as one of the tensors", lambda: _saved({"features.0.weight": Payload(mark)})),
        ("a pickle that calls eval", lambda: b"cbuiltins\neval\n(Vopen(%r, 'w')\ntR." % os.fsencode(mark)),
        ("a pickle that calls os.system", lambda: b"cposix\nsystem\n(Vtouch '%s'\ntR." % os.fsencode(mark)),
        ("a whole module", lambda: _saved(torch.nn.Linear(2, 2))),
        ("lists nested 200,000 deep", lambda: nested),
        ("lists that double 60 times", lambda: _zip({"a/data.pkl": doubled, "a/version": b"3\n"})),
        ("a string of 2 GB that is not there", lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**31) + b"x."),
    ]  # fmt: skip
    for what, make in scripts:
        yield ".pth", what, make


def _archives(mark: Path) -> Iterator[tuple[str, str, Contents]]:
    state = {"features.0.weight": torch.ones(4, 4)}
    yield ".pth", "an archive cut in half", lambda: _saved(state)[: len(_saved(state)) // 2]
    yield ".pth", "an archive whose tensor exceeds its storage", lambda: _rebuilt(size=(9999, 1), stride=(9, 1))
    yield ".pth", "an archive whose tensor begins before its storage", lambda: _rebuilt(offset=-8)
    yield ".pth", "an archive whose storage is huge", lambda: _rebuilt(numel=2**40)
    yield ".pth", "an archive of 1.5 GB of zeros in 7 MB", lambda: _rebuilt(numel=375_000_000, zeros=1_500_000_000)
    files: dict[str, bytes | int] = {"a/data.pkl": b"}.", "a/version": b"3\n", f"a/../../{mark.name}": b""}
    yield ".pth", "an archive with a path that leads out", lambda: _zip(files)


def _rebuilt(
    numel: int = 16,
    offset: int = 0,
    size: tuple[int, ...] = (4, 4),
    stride: tuple[int, ...] = (4, 1),
    zeros: int = 64,
) -> bytes:
    """Return torch's archive of one tensor, with these numbers in its pickle."""
    numbers = [b"(" + b"".join(b"J" + struct.pack("<i", n) for n in each) + b"t" for each in (size, stride)]
    script = (
        b"\x80\x02}X\x11\0\0\0features.0.weightctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
        + b"\x8a\x08" + struct.pack("<q", numel) + b"tQJ" + struct.pack("<i", offset) + numbers[0] + numbers[1]
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip
    return _zip({"a/data.pkl": script, "a/byteorder": b"little", "a/data/0": zeros, "a/version": b"3\n"})


def _zip(files: dict[str, bytes | int]) -> bytes:
    """Return a compressed archive; a number stands for so many zeros."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            with archive.open(name, "w") as entry:
                parts = [content] if isinstance(content, bytes) else (bytes(n) for n in _parts(content))
                for part in parts:
                    entry.write(part)
    return file.getvalue()


def _parts(size: int) -> Iterator[int]:
    for start in range(0, size, 16_000_000):
        yield min(16_000_000, size - start)


def _safetensors() -> Iterator[tuple[str, str, Contents]]:
    def header(content: object, data: bytes = b"", length: int | None = None) -> bytes:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def tensor(shape: list[int], offsets: list[int], dtype: str = "F32") -> dict[str, object]:
        return {"features.0.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    contents = {
        "a header of 2^63 bytes": header({}, length=2**63),
        "a header that is longer than the file": header({}, length=1000),
        "a header that is no JSON": header(b"{" * 64),
        "a header nested 200,000 deep": header(b"[" * 200_000),
        "offsets beyond the end": header(tensor([4], [0, 16])),
        "offsets in the wrong order": header(tensor([4], [16, 0]), bytes(16)),
        "a negative side": header(tensor([-4], [0, 16]), bytes(16)),
        "a size that overflows": header(tensor([2**32, 2**32], [0, 16]), bytes(16)),
        "an unknown dtype": header(tensor([4], [0, 16], "PICKLE"), bytes(16)),
    }
    for what, content in contents.items():
        yield ".safetensors", what, partial(bytes, content)


def _matlab() -> Iterator[tuple[str, str, Contents]]:
    yield ".mat", "cells nested 5,000 deep", lambda: nested_cells(5000)
    yield ".mat", "cells nested 20,000 deep", lambda: nested_cells(20_000)
    yield ".mat", "4 GB of zeros in 4 MB", lambda: deflate_bomb(4_000_000_000)
    yield ".mat", "the same within a cell", lambda: deflate_bomb(4_000_000_000, in_cell=True)
    yield (
        ".mat",
        "an array of 2^62 numbers",
        lambda: _HEAD + _matrix(6, (2**31 - 1, 2**31 - 1), b"layers", _tag(9, 8) + bytes(8)),
    )
    yield ".mat", "a function of MATLAB", lambda: _HEAD + _matrix(16, (1, 1), b"layers", _tag(1, 4) + b"evil\0\0\0\0")
