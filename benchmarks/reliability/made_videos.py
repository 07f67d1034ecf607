"""Videos as others make them: in any container, with frames left out, hidden or turned, or with a cover."""

import struct
from collections.abc import Callable, Collection, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

SIZE = (48, 64)  # height, width
RATE = 25
_BITS = 6
_PIXELS = ("yuvj420p", "yuv420p", "yuv422p", "yuv422p10le", "rgb24", "bgr24", "bgr0")  # the first that a codec knows

Frame = NDArray[np.uint8]
Packet: TypeAlias = "av.Packet[Any]"
Timed = tuple[int, Frame]  # a frame, and when it is shown


def numbered(number: int, size: tuple[int, int] = SIZE) -> Frame:
    """Return a frame that shows its number, below 64: a black or white bar for each bit."""
    bars = np.array([255 * (number >> bit & 1) for bit in range(_BITS)], np.uint8)
    row = np.repeat(bars, -(-size[1] // _BITS))[: size[1]]
    return np.broadcast_to(row[None, :, None], (*size, 3)).copy()


def number_of(frame: NDArray[Any]) -> int:
    """Return the number that a frame shows."""
    centers = [(2 * bit + 1) * frame.shape[1] // (2 * _BITS) for bit in range(_BITS)]
    return sum(int(frame[:, center].mean() > 128) << bit for bit, center in enumerate(centers))


def counting(count: int, without: Collection[int] = (), size: tuple[int, int] = SIZE) -> list[Timed]:
    """Return frames that show their numbers, at the times of these; some are left out."""
    return [(number, numbered(number, size)) for number in range(count) if number not in without]


def encode(
    path: Path,
    frames: Iterable[Timed],
    codec: str,
    *,
    between: int = 0,
    container: str | None = None,
    options: dict[str, str] | None = None,
    pixels: str | None = None,
    changed: Callable[[int, Packet], Packet] = lambda place, packet: packet,
    **container_options: str,
) -> Path:
    """Write frames with up to ``between`` B-frames in a row; ``changed`` may change packets, which it gets numbered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = list(frames)
    height, width = frames[0][1].shape[:2]
    with av.open(str(path), "w", format=container, options=container_options) as file:
        stream = cast(av.VideoStream, file.add_stream(codec, rate=RATE, options=options or {}))
        stream.height, stream.width = height, width
        known = [each.name for each in av.codec.Codec(codec, "w").video_formats or ()]
        stream.pix_fmt = pixels or next((each for each in _PIXELS if each in known), _PIXELS[0])
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = between, 12
        stream.codec_context.thread_count = 1
        packets: list[Packet] = []
        for time, frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, RATE)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        for place, packet in enumerate(packets):
            file.mux(changed(place, packet))
    return path


def like(packet: Packet, content: bytes) -> Packet:
    """Return a packet of the same time with other content."""
    other: Packet = av.Packet(content)
    other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    other.is_keyframe = packet.is_keyframe
    return other


def hide(place: int, packet: Packet) -> Packet:
    """Hide every fifth picture of VP8: others are predicted from it, but nobody sees it."""
    if place % 5 != 3:
        return packet
    content = bytearray(bytes(packet))
    content[0] &= ~0x10
    return like(packet, bytes(content))


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Let an MP4 file say that the pixel (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    fixed = [round(65536 * value) for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *fixed, 1 << 30)
    path.write_bytes(content)
    return path


def with_cover(path: Path, film: Iterable[Timed] = ()) -> Path:
    """Write a sound with a picture on its cover; a film may follow."""
    film = list(film)
    with av.open(str(path), "w") as file:
        cover = file.add_stream("mjpeg", rate=RATE, width=32, height=32, pix_fmt="yuvj420p")
        cover.disposition = Disposition.attached_pic
        sound = file.add_stream("aac", rate=44_100)
        shown = file.add_stream("mpeg4", rate=RATE, width=SIZE[1], height=SIZE[0], pix_fmt="yuv420p") if film else None
        picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")
        file.mux([*cover.encode(picture), *cover.encode(None)])
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44_100
        file.mux([*sound.encode(silence), *sound.encode(None)])
        if shown is not None:
            for _, frame in film:
                file.mux(shown.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            file.mux(shown.encode(None))
    return path
