"""The program that reads other people's videos, in a process of its own: no file can crash a run or hang it.

:mod:`video` starts it and asks. A request is a line of JSON on the standard input. The answer is messages on the
standard output. What FFmpeg complains of goes to the standard error, which is a file that is read here.

**How frames are counted.** A frame is a picture that a player shows, upright, in the order in which it shows them. The
first is frame 0, which MPII Cooking's annotations call 1. Pictures that only serve to decode others, or that an edit
list cuts away, are not shown and not counted. In an AVI file, a chunk of the video is a frame. Where it is empty, the
picture before is shown again, so it is repeated. Other containers say when a picture is shown: each is one frame,
however long it is shown.
"""

import errno
import json
import math
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import av
import av.logging
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from examples.mpii_cooking import interrupts
from examples.mpii_cooking.data.containers import CutOffError, avi_chunks, check_length

HEADER = struct.Struct("=cIII")
"""What a message begins with: its kind, the bytes that follow, and of a frame the height and width."""
FRAME = b"F"
RESULT = b"R"  # JSON; the last message of an answer
PROBLEM = b"P"  # text that goes on after the file's name, in place of a result
FAULT = b"M"  # the same, of something that is no fault of the file but of the machine
ALIVE = b"A"  # nothing follows; there is progress, but no answer yet
_ALIVE_EVERY = 0.5  # seconds

Task = Literal["look", "count", "decode"]
Frame = NDArray[np.uint8]  # (height, width, 3) RGB
Packet: TypeAlias = "av.Packet[Any]"
Watch = Callable[[], None]
"""Called whenever there is progress."""

_STDOUT, _STDERR = 1, 2
_OF_THE_MACHINE = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ESTALE)
"""Errors of FFmpeg for want of memory, threads or files, or of a folder that went away."""
_MOST_PIXELS = 2**27  # of a frame; a damaged header may announce more than fits into memory

_STATED = ("matroska", "flv", "asf", "mp4")  # containers whose duration is written in them, not estimated
_SLACK = 0.5  # seconds that a stated duration may be longer than what is there, beside the longest pause between frames


class Look(NamedTuple):
    """What the first frame and the header tell."""

    width: int  # as it is shown
    height: int
    rate: tuple[int, int] | None  # frames per second, on average, as a fraction; None if the file does not say


class _BrokenError(ValueError):
    """The video cannot be used; the message goes on after the file's name."""


class _MachineError(RuntimeError):
    """The machine could not read the video; the message goes on after the file's name."""


class _Source:
    """An open video, and what was noticed while its packets were read."""

    def __init__(self, path: Path, container: av.container.InputContainer, watch: Watch) -> None:
        streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
        if not streams:
            raise _BrokenError("has no video stream")
        self.stream = streams[0]
        self.stream.codec_context.options = {"max_pixels": str(_MOST_PIXELS)}
        self._container, self._watch = container, watch
        self._kind = container.format.name
        check_length(path, self._kind)
        self.chunks = avi_chunks(path, self.stream.index, watch) if self._kind == "avi" else None
        self._announced = self.stream.frames  # reading changes it
        self._shown = self._hidden = self._damaged = 0
        self._start = self._end = self._last = self._pause = 0.0

    def packets(self) -> Iterator[Packet]:
        """Yield the packets of the video."""
        for packet in self._container.demux():
            self._watch()
            self._damaged += packet.is_corrupt
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None and packet.time_base is not None:
                self._end = max(self._end, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != self.stream.index:
                continue
            if packet.size > 0:
                self._hidden += packet.is_discard
                self._shown += not packet.is_discard and _is_shown(packet, self.stream.codec.name)
                if packet.dts is not None:
                    now = float(packet.dts * packet.time_base)
                    self._pause, self._last = max(self._pause, now - self._last), now
            yield packet

    @property
    def frames(self) -> int:
        """The number of frames in the packets read so far, or in an AVI file of all of it."""
        return self._shown if self.chunks is None else self.chunks

    def check(self) -> None:
        """Raise an error if the packets do not reach to the end that the container states."""
        complaint = _complaint()
        if self._damaged or complaint:
            complaint = complaint or f"{self._damaged} of its packets are not whole"
            raise _BrokenError(f"is cut off or damaged: {complaint}")
        if self._shown == 0:
            raise _BrokenError("has no frames")
        if "mp4" in self._kind and self._announced:
            # A file that was cut without encoding it again keeps all frames from a key frame on and hides some by an
            # edit list. The header counts these. The index leaves them out, or their packets are marked as hidden.
            announced = min(self._announced, len(self.stream.index_entries)) - self._hidden
            if self._shown < announced:
                raise _BrokenError(f"is truncated: its header announces {announced} frames, {self._shown} are there")
        elif self._container.duration and any(each in self._kind for each in _STATED):
            duration = self._container.duration / av.time_base
            there = self._end - (self._container.start_time or 0) / av.time_base
            if there + self._pause + _SLACK < duration:
                raise _BrokenError(f"is truncated: it must last {duration:.2f} s, but ends after {there:.2f} s")


def look(path: Path, watch: Watch) -> Look:
    """Decode the first frame."""
    with _opened(path, watch) as source:
        source.stream.thread_count = 1  # others would decode frames that nobody asked for
        for packet in source.packets():
            pictures, problem = _decoded(packet)
            if problem := _complaint() or problem:
                raise _BrokenError(f"is cut off or damaged: {problem}")
            for picture in pictures:
                height, width = _upright(np.empty((picture.height, picture.width)), picture).shape
                rate = source.stream.average_rate
                return Look(width, height, rate.as_integer_ratio() if rate else None)
        source.check()
        raise _BrokenError("has no frame that can be decoded")


def count(path: Path, watch: Watch) -> int:
    """Return the number of frames. The whole file is read, but nothing is decoded."""
    with _opened(path, watch) as source:
        for _ in source.packets():
            pass
        source.check()
        return source.frames


def decode(path: Path, watch: Watch) -> Iterator[Frame]:
    """Yield every frame up to the first error, (height, width, 3) uint8 RGB. Errors are counted to the end."""
    place = errors = 0  # frames yielded
    first_slot = None
    frame, first_error = np.empty((0, 0, 3), np.uint8), ""
    reformatter = VideoReformatter()  # keeps its tables from frame to frame
    with _opened(path, watch) as source:
        source.stream.thread_type = "AUTO"
        for packet in source.packets():
            pictures, problem = _decoded(packet)
            complaint = _complaint()  # may come before the picture it is about, from another thread
            errors += bool(problem)
            if (problem or complaint) and not first_error:
                first_error = f"after frame {place}: {complaint or problem}"
            for picture in () if first_error else pictures:
                if source.chunks is not None and picture.dts is not None:
                    # The time of the chunk after which a picture came out. The last ones come out after all chunks.
                    first_slot = picture.dts if first_slot is None else first_slot
                    again = max(0, picture.dts - first_slot - place)
                    yield from repeat(frame, again)
                    place += again
                before = frame
                frame = _upright(reformatter.reformat(picture, format="rgb24").to_ndarray(), picture)
                if place and before.shape[0] * frame.shape[1] != before.shape[1] * frame.shape[0]:
                    sizes = f"{_size(before)} before frame {place} and {_size(frame)} from there on"
                    raise _BrokenError(f"must have one ratio of width to height, but is {sizes}")
                yield frame
                place += 1
        if first_error:
            errors = max(errors, 1)
            raise _BrokenError(f"is cut off or damaged {first_error} ({errors} error{'s' * (errors > 1)} in all)")
        source.check()
        if source.chunks is not None and place:
            yield from repeat(frame, source.chunks - place)
            place = max(place, source.chunks)
        if place != source.frames:
            raise _BrokenError(f"is damaged: it has {source.frames} frames, and {place} can be decoded")


def _decoded(packet: Packet) -> tuple[list[av.VideoFrame], str]:
    """Return the pictures that come out after ``packet`` went in, and what is wrong with it or them, or ""."""
    try:
        pictures = packet.decode()
    except av.FFmpegError as error:
        _blame_the_machine(error)
        return [], str(error.strerror)
    return pictures, "a picture is damaged" if any(picture.is_corrupt for picture in pictures) else ""


def _is_shown(packet: Packet, codec: str) -> bool:
    """Whether the picture of a packet is shown. VP8 has hidden ones, which predict others; its first byte tells."""
    return codec != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _upright(frame: NDArray[Any], picture: av.VideoFrame) -> NDArray[Any]:
    """Turn and mirror a frame as the display matrix of its picture says."""
    matrix = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return frame
    # A pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    a, b, _, c, d, *_ = np.array(matrix).view(np.int32)
    if a and d and not b and not c:
        horizontal, vertical = a, d
    elif b and c and not a and not d:
        frame = frame.swapaxes(0, 1)
        horizontal, vertical = c, b
    else:
        raise _BrokenError("must be turned by a multiple of 90 degrees, but its display matrix says something else")
    return frame[:: 1 if vertical > 0 else -1, :: 1 if horizontal > 0 else -1]


def _size(frame: Frame) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]}"


@contextmanager
def _opened(path: Path, watch: Watch) -> Iterator[_Source]:
    _complaint()  # forgets what was left of another file
    try:
        with av.open(str(path)) as container:
            yield _Source(path, container, watch)
    except av.FFmpegError as error:
        _blame_the_machine(error)
        raise _BrokenError(f"cannot be read as a video: {_complaint() or error.strerror}") from error
    except CutOffError as error:
        raise _BrokenError(f"is cut off or damaged: it {error}") from error


def _blame_the_machine(error: av.FFmpegError) -> None:
    """Raise _MachineError for an error that is no fault of the file."""
    if error.errno in _OF_THE_MACHINE:
        raise _MachineError(f"could not be read: {error.strerror}") from error


def _complaint() -> str:
    """Return the first complaint of FFmpeg since the last call, or ""; _MachineError if it is about memory."""
    if os.fstat(_STDERR).st_size == 0:
        return ""
    os.lseek(_STDERR, 0, os.SEEK_SET)
    lines = os.read(_STDERR, 4096).decode(errors="replace").splitlines()
    os.lseek(_STDERR, 0, os.SEEK_SET)
    os.ftruncate(_STDERR, 0)
    first = lines[0].rpartition("] ")[2].strip() or "FFmpeg complains"
    if "allocate memory" in first:
        raise _MachineError(f"could not be read: {first}")
    return first


def _answer(task: Task, path: Path, watch: Watch) -> Iterator[tuple[bytes, Frame | bytes]]:
    """Yield the kind and the content of each message."""
    try:
        if task == "decode":
            yield from ((FRAME, frame) for frame in decode(path, watch))
            yield RESULT, b"null"
        else:
            yield RESULT, json.dumps((look if task == "look" else count)(path, watch)).encode()
    except _BrokenError as problem:
        yield PROBLEM, str(problem).encode()
    except _MachineError as problem:
        yield FAULT, str(problem).encode()
    except MemoryError:
        yield FAULT, b"could not be read: there is not enough memory"


def _send(content: bytes | memoryview) -> None:
    """Write to the standard output; its buffer loses bytes when SIGSTOP comes in the middle (Python 3.11)."""
    left = memoryview(content).cast("B")
    while left:
        left = left[os.write(_STDOUT, left) :]


def serve() -> None:
    """Answer requests, a task and a path each, until there are no more. Say now and then that there is progress."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, with which this process ends
    av.logging.restore_default_callback()
    av.logging.set_libav_level(av.logging.ERROR)

    said = -math.inf

    def watch() -> None:
        nonlocal said
        if time.monotonic() > said + _ALIVE_EVERY:
            _send(HEADER.pack(ALIVE, 0, 0, 0))
            said = time.monotonic()

    watch()  # the first message says that the process has started
    for line in sys.stdin:
        task, path = json.loads(line)
        for kind, content in _answer(task, Path(path), watch):
            if isinstance(content, bytes):
                _send(HEADER.pack(kind, len(content), 0, 0) + content)
            else:
                _send(HEADER.pack(kind, content.nbytes, *content.shape[:2]))
                _send(np.ascontiguousarray(content).data)


if __name__ == "__main__":
    interrupts.end_with_parent(int(sys.argv[1]))
    serve()
