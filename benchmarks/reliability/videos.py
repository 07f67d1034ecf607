"""Read videos of many formats, public test videos, and videos that were cut off; watch memory over many decodes.

    PUBLIC_VIDEOS=FOLDER python benchmarks/reliability/videos.py [--short]

Videos that are made here show their numbers, so it is known which frames must come out, and which way up. The public
ones are no part of the project: of them there is a table of what OpenCV's reader counts. Without the folder they are
left out.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability import figures
from benchmarks.reliability.made_videos import counting, encode, hide, number_of, set_display_matrix, with_cover
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import BrokenError

FRAMES = 20
SMALLEST = (144, 176)  # height, width: what H.263 and some others take
DECODES, SHORT_DECODES = 10_000, 50
GROWTH = 4_000_000  # bytes that are noise

Options = dict[str, Any]

FORMATS: dict[str, Sequence[tuple[str, Options]]] = {
    ".avi": [
        *((codec, {}) for codec in ("mpeg4", "mjpeg", "libx264", "ffv1", "huffyuv", "utvideo", "magicyuv", "msmpeg4")),
        *((codec, {}) for codec in ("wmv1", "wmv2", "mpeg2video", "asv1", "zmbv", "rawvideo")),
        ("mpeg4", {"between": 2}),
        ("libx264", {"between": 2}),
    ],
    ".mkv": [
        *((codec, {}) for codec in ("libx264", "ffv1", "mpeg4", "mjpeg", "mpeg2video", "prores_ks", "libvpx")),
        ("libx264", {"between": 2}),
        ("ffv1", {"pixels": "yuv420p10le"}),
        ("libx264", {"options": {"x264-params": "interlaced=1"}}),
    ],
    ".mp4": [
        *((codec, {}) for codec in ("libx264", "libx265", "libsvtav1", "mpeg4", "mjpeg", "mpeg2video")),
        ("libx264", {"between": 2}),
        ("libx264", {"movflags": "faststart"}),
        ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    ],
    ".mov": [*((codec, {}) for codec in ("prores_ks", "qtrle", "mjpeg")), ("png", {}), ("png", {"pixels": "rgba"})],
    ".webm": [("libvpx", {}), ("libvpx-vp9", {}), ("libvpx-vp9", {"pixels": "yuva420p"})],
    ".mts": [(codec, {"container": "mpegts"}) for codec in ("libx264", "libx265", "mpeg2video")],
    ".mpg": [("mpeg1video", {}), ("mpeg2video", {"container": "vob"})],
    ".wmv": [("wmv1", {}), ("wmv2", {})],
    ".flv": [("flv", {}), ("libx264", {})],
    ".3gp": [("h263", {}), ("mpeg4", {})],
}
CUT = {".avi": 0, ".mkv": 0, ".mp4": 0, ".mov": 0, ".webm": 1, ".mts": 0, ".mpg": 0, ".wmv": 1, ".flv": 0}
"""Of each container, which format is cut off."""

PUBLIC: dict[str, tuple[int, tuple[int, int]] | None] = {
    "carphone_d.mp4": (120, (176, 144)),
    "decord_corrupted.mp4": None,
    "mm_part0.mp4": (32, (340, 256)),
    "mm_test.avi": (164, (320, 240)),
    "mp_bitmap.mp4": (5, (1, 1)),
    "mp_example.mp4": (50, (640, 480)),
    "mp_no_duration.webm": (74, (1280, 720)),
    "mp_smpte-2997.mp4": (251, (1920, 1080)),
    "mp_transparent.webm": (150, (200, 200)),
    "mp_zero.webm": None,
    "pancake.mkv": (310, (426, 240)),
    "rot0.mov": (3, (568, 320)),
    "rot180.mov": (3, (568, 320)),
    "rot90.mov": (3, (320, 568)),
    "tc_av1_video.mkv": (125, (640, 360)),
    "tc_h264_10bits.mp4": (30, (200, 200)),
    "tc_h265_video.mp4": (10, (128, 128)),
    "unordered.mov": (4, (50, 50)),
}
"""Frames, width and height as they are shown; None for files that must be refused: an empty one and a broken one."""


def measure(short: bool) -> Iterator[figures.Figure]:
    """Read every format, every public video and every cut, then decode over and over."""
    with TemporaryDirectory() as name:
        yield _formats(Path(name), short=short)
        if folder := os.environ.get("PUBLIC_VIDEOS"):
            yield _public(Path(folder))
        yield _cuts(Path(name), short=short)
        if Path("/proc/self/status").exists():
            yield _growth(Path(name), short=short)


def _formats(folder: Path, *, short: bool) -> figures.Figure:
    made = {
        f"{suffix[1:]} {codec} {options}": (suffix, codec, options)
        for suffix, formats in FORMATS.items()
        for codec, options in formats
    }
    failures = []
    names = list(made)[:: 12 if short else 1]
    for place, name in enumerate(names):
        suffix, codec, options = made[name]
        path = encode(folder / f"{place}{suffix}", counting(FRAMES, size=SMALLEST), codec, **options)
        failures += _wrong(name, path, list(range(FRAMES)))
    failures += _kinds(folder)
    return figures.Figure(
        "videos of one format or kind each: every frame, in order and upright", len(names) + 6 - len(failures),
        len(names) + 6, failures=tuple(failures),
    )  # fmt: skip


def _kinds(folder: Path) -> list[str]:
    """Return what is wrong with videos that are special in other ways than by their codec."""
    every = list(range(FRAMES))
    gaps = {5, 6, 11}
    turned = set_display_matrix(encode(folder / "t.mp4", counting(FRAMES), "libx264"), -1, 0, 0, 1)
    hidden = encode(folder / "h.webm", counting(FRAMES), "libvpx", options={"lag-in-frames": "0"}, changed=hide)
    return [
        *_wrong("mirrored", turned, [int(f"{number:06b}"[::-1], 2) for number in every]),
        *_wrong("hidden frames", hidden, [number for number in every if number % 5 != 3]),
        *_wrong(
            "empty chunks", encode(folder / "e.avi", counting(FRAMES, gaps), "mpeg4", between=2),
            [max(n for n in range(number + 1) if n not in gaps) for number in every],
        ),
        *_wrong(
            "variable rate", encode(folder / "v.mp4", counting(FRAMES, gaps), "libx264"),
            [number for number in every if number not in gaps],
        ),
        *_wrong("film with a cover", with_cover(folder / "c.mp4", counting(FRAMES)), every),
        *_wrong("odd size", encode(folder / "o.mkv", counting(FRAMES, size=(47, 63)), "ffv1", pixels="bgr0"), every),
    ]  # fmt: skip


def _wrong(name: str, path: Path, expected: list[int]) -> list[str]:
    try:
        counted, size = video.count_frames(path), video.frame_size(path)
        frames = list(video.decode(path))
    except BrokenError as problem:
        return [f"{name}: {problem}"]
    found = [number_of(frame) for frame in frames]
    shapes = {frame.shape[1::-1] for frame in frames}
    right = found == expected and counted == len(found) and shapes == {size}
    return [] if right else [f"{name}: {found} of {shapes}, {counted} of {size} were announced"]


def _public(folder: Path) -> figures.Figure:
    failures = []
    for name, expected in PUBLIC.items():
        found = None
        try:
            found = video.count_frames(folder / name), video.frame_size(folder / name)
            if sum(1 for _ in video.decode(folder / name)) != found[0]:
                failures.append(f"{name}: other frames than announced")
        except BrokenError as problem:
            if str(folder / name) not in str(problem):
                failures.append(f"{name}: {problem}")
        if found != expected:
            failures.append(f"{name}: {found}")
    return figures.Figure(
        "public test videos (torchcodec, decord, mmaction2, moviepy): frames and size as in OpenCV, or refused",
        len(PUBLIC) - len(failures), len(PUBLIC), failures=tuple(failures),
    )  # fmt: skip


def _cuts(folder: Path, *, short: bool) -> figures.Figure:
    failures, tried, harmless = [], 0, 0
    for suffix, place in list(CUT.items())[:: 4 if short else 1]:
        codec, options = FORMATS[suffix][place]
        whole = encode(folder / f"whole{suffix}", counting(FRAMES, size=SMALLEST), codec, **options).read_bytes()
        for percent in range(1, 100, 33 if short else 1):
            cut = folder / f"cut{suffix}"
            cut.write_bytes(whole[: len(whole) * percent // 100])
            tried += 1
            try:
                counted, found = video.count_frames(cut), [number_of(frame) for frame in video.decode(cut)]
            except BrokenError as problem:
                if not re.search(rf"{cut.name} (is|has|cannot)", str(problem)):
                    failures.append(f"{suffix} {percent} %: {problem}")
                continue
            harmless += found == list(range(FRAMES))
            if found != list(range(FRAMES)):
                failures.append(f"{suffix} {percent} %: {len(found)} frames, {counted} announced")
    return figures.Figure(
        "videos cut off at 1 to 99 %: refused, or no frame is missing", tried - len(failures), tried,
        detail=f"{harmless} miss no frame", failures=tuple(failures), goal=0.99,
        why_below="a transport or program stream that ends between two packets looks whole",
    )  # fmt: skip


def _growth(folder: Path, *, short: bool) -> figures.Figure:
    """Decode good and bad files in turns, with one decoder."""
    good = encode(folder / "good.mp4", counting(5), "libx264")
    bad = folder / "bad.mkv"
    content = encode(folder / "good.mkv", counting(5), "mjpeg").read_bytes()
    bad.write_bytes(content[: len(content) * 2 // 3])
    tries = SHORT_DECODES if short else DECODES
    refused, held = 0, []
    for turn in range(tries):
        for _ in video.decode(good):
            pass
        try:
            for _ in video.decode(bad):
                pass
        except BrokenError:
            refused += 1
        if turn + 1 in (tries // 4, tries):
            held.append(sum(map(_resident, (os.getpid(), *video.decoders()))))
    grown = held[1] - held[0]
    return figures.Figure(
        "decodes of good and of bad videos in turns: no growth of memory", 2 * tries * (grown < GROWTH), 2 * tries,
        detail=f"{grown / 1e6:.1f} MB more after the last three quarters",
        failures=() if refused == tries else (f"{refused} of {tries} bad ones were refused",),
    )  # fmt: skip


def _resident(process: int) -> int:
    """Return the bytes of memory that a process has."""
    status = Path(f"/proc/{process}/status").read_text()
    return 1024 * int(re.findall(r"VmRSS:\s*(\d+)", status)[0])


if __name__ == "__main__":
    sys.exit(figures.run(__file__, figures.Part.INPUT, measure))
