"""Videos as others make them: in any container, with frames left out, hidden, turned or of another size."""

import struct
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (48, 64)  # height, width
RATE = 25


def numbered(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame that shows its number, below 64, in bits: six bars, black or white."""
    bars = [255 * (number >> bit & 1) for bit in range(6)]
    row = np.repeat(np.array(bars, np.uint8), -(-size[1] // 6))[: size[1]]
    return np.broadcast_to(row[None, :, None], (*size, 3)).copy()


def number_of(frame: np.ndarray) -> int:
    """The number that a frame shows."""
    centers = [(2 * bit + 1) * frame.shape[1] // 12 for bit in range(6)]
    return sum(int(frame[:, center].mean() > 128) << bit for bit, center in enumerate(centers))


def encode(
    path: Path,
    frames: Iterable[tuple[int, np.ndarray]],
    codec: str,
    *,
    between: int = 0,
    container: str | None = None,
    options: dict[str, str] | None = None,
    changed: Callable[[int, av.Packet], av.Packet | None] = lambda place, packet: packet,
    pixels: str | None = None,
    **container_options: str,
) -> Path:
    """Write frames at the times given with them, with up to ``between`` B-frames in a row; packets may be changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container, options=container_options) as file:
        stream = None
        place = 0
        for time, frame in frames:
            if stream is None:
                stream = file.add_stream(codec, rate=RATE, options=options or {})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixels or av.codec.Codec(codec, "w").video_formats[0].name
                stream.codec_context.max_b_frames, stream.codec_context.gop_size = between, 12
                stream.codec_context.thread_count = 1
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, RATE)
            for packet in stream.encode(picture):
                place = _mux(file, place, packet, changed)
        for packet in stream.encode(None):
            place = _mux(file, place, packet, changed)
    return path


def _mux(file, place: int, packet: av.Packet, changed) -> int:
    packet = changed(place, packet)
    if packet is not None:
        file.mux(packet)
    return place + 1


def counting(count: int, without: Sequence[int] = (), size: tuple[int, int] = SIZE) -> list[tuple[int, np.ndarray]]:
    """Frames that show their numbers, at the times of these; some are left out."""
    return [(number, numbered(number, size)) for number in range(count) if number not in without]


def set_display_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    """Let an MP4 file say that the pixel (x, y) is shown at (a x + c y, b x + d y)."""
    content = bytearray(path.read_bytes())
    fixed = [round(65536 * value) for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, *fixed, 1 << 30)
    path.write_bytes(content)


def hide(place: int, packet: av.Packet) -> av.Packet:
    """Hide every fifth picture of VP8: others are predicted from it, but nobody sees it."""
    if place % 5 != 3:
        return packet
    content = bytearray(bytes(packet))
    content[0] &= ~0x10
    return like(packet, bytes(content))


def like(packet: av.Packet, content: bytes) -> av.Packet:
    """A packet of the same time with other content."""
    other = av.Packet(content)
    other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, packet.stream
    other.is_keyframe = packet.is_keyframe
    return other
