"""Annotation files of MPII Cooking's format: as they should be, saved by other editors, and wrong."""

import random
from codecs import BOM_UTF8
from collections.abc import Iterator

_LINES = (
    "8,s08-d02-cam-002,120,303,56,take out from fridge",
    "8,s08-d02-cam-002,358,438,21,open/close fridge",
    "11,s11-d01-cam-002,1,60,50,take \\& put in fridge",
    "11,s11-d01-cam-002,61,61,24,peel",
    "11,s11-d01-cam-002,70,99,1, Background activity",
)
ROWS = "\n".join(_LINES).encode() + b"\n"

HARMLESS = {
    "no newline at the end": ROWS[:-1],
    "blank lines at the end": ROWS + b"\n \n\t\n",
    "newlines of Windows": ROWS.replace(b"\n", b"\r\n"),
    "newlines of old Macs": ROWS.replace(b"\n", b"\r"),
    "a byte order mark": BOM_UTF8 + ROWS,
    "all of it": BOM_UTF8 + ROWS.replace(b"\n", b"\r\n") + b"\r\n\r\n",
    "spaces behind the names": ROWS.replace(b"\n", b"  \n"),
}


def wrong() -> Iterator[tuple[str, int, bytes]]:
    """Yield a description, the row that is wrong, counted from 1, and the file."""
    first = _LINES[0].split(",")
    fields = ("subject", "file_name", "start_frame", "end_frame", "category_id", "category_name")
    numbers = ("0", "-1", "1.0", "1e3", " 8", "", "x", "0x10", "٣", "\uff19", "1" * 10, "1" * 5000, "NaN")
    names = ("", "../up", "/root", "C:\\x", "a/b", "..", ".hidden", "a\0b", "ä", "x" * 200)
    for place, field in enumerate(fields):
        values = {1: names, 5: ("", " ", '"peel"', "\t")}.get(place, numbers)
        for value in values:
            row = [*first[:place], value, *first[place + 1 :]]
            yield f"{field} {value[:20]!r}", 2, _with(",".join(row).encode())
    rows = {
        "a header": ",".join(fields).encode(),
        "five fields": b"8,s08-d02-cam-002,120,303,56",
        "seven fields": b"8,s08-d02-cam-002,120,303,56,take,out",
        "other separators": b"8;s08-d02-cam-002;120;303;56;peel",
        "quotes": b'"8","s08-d02-cam-002","120","303","56","peel"',
        "a blank line": b"",
        "the end before the start": b"8,s08-d02-cam-002,5,4,24,peel",
        "a repeated row": _LINES[0].encode(),
        "another name for a category": b"8,s08-d02-cam-002,500,600,56,cut",
        "another category for a name": b"8,s08-d02-cam-002,500,600,57,take out from fridge",
        "two classes for one interval": b"8,s08-d02-cam-002,120,303,24,peel",
        "another subject for a video": b"9,s08-d02-cam-002,500,600,24,peel",
        "category 1 for a class": b"8,s08-d02-cam-002,500,600,1,peel",
        "Latin-1": b"8,s08-d02-cam-002,500,600,30,sch\xe4len",
        "UTF-16": "8,s08-d02-cam-002,500,600,30,peel".encode("utf-16-be"),
        "zeros": bytes(100),
        "noise": random.Random(0).randbytes(1000).replace(b"\n", b"").replace(b"\r", b""),
        "a row of 10 MB": b"x" * 10_000_000,
        "a byte order mark in the middle": BOM_UTF8 + b"8,s08-d02-cam-002,500,600,24,peel",
    }
    for what, content in rows.items():
        yield what, 2, _with(content)
    yield "a million bad rows", 20, b"8,s08\n" * 1_000_000


def damaged(chance: random.Random) -> bytes:
    """Return the rows with some bytes changed, lost or repeated."""
    content = bytearray(ROWS)
    for _ in range(chance.randint(1, 8)):
        start = chance.randrange(len(content))
        stop = start + chance.choice((0, 1, 1, 4, 64))
        content[start:stop] = chance.choice(
            (b"", chance.randbytes(1), chance.randbytes(8), content[start:stop] * 2, b"\n")
        )
    return bytes(content)


def _with(row: bytes) -> bytes:
    """Return the rows with another one in second place; what it contradicts is in the first one."""
    first, *others = ROWS.splitlines(keepends=True)
    return first + row + b"\n" + b"".join(others)
