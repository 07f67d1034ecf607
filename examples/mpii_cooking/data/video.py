"""Read and write video files. Only this module uses PyAV.

Source videos are read from front to back, since containers such as AVI with B-frames have no exact random access.
:class:`FrameCache` has random access to files that :class:`VideoWriter` wrote with every frame a key frame.
"""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.workspace import written_aside

CACHE_RATE = 25
"""Frames per second of every cache: a frame takes 40 ticks of Matroska's millisecond clock, so its time is exact."""
_TICKS = 1000 // CACHE_RATE
_MOST_OPEN = 256
"""Caches that a process keeps open. Systems commonly allow 1024 files."""

Frame = NDArray[Any]
"""One picture, uint8: (height, width, 3) RGB or (height, width) gray."""
Codec = Literal["mpeg4", "mjpeg", "ffv1"]


class VideoError(DataError):
    """A video file cannot be used."""


class _Encoding(NamedTuple):
    array_format: str
    pixel_format: str
    key_frame_every: int
    options: dict[str, str]


_ENCODINGS: dict[str, _Encoding] = {
    "mpeg4": _Encoding("rgb24", "yuv420p", 12, {"qmin": "2", "qmax": "2"}),
    "mjpeg": _Encoding("rgb24", "yuvj444p", 1, {"qmin": "2", "qmax": "2"}),  # full chroma: color is detail when small
    "ffv1": _Encoding("gray", "gray", 1, {}),
}


def decode(path: Path) -> Iterator[Frame]:
    """Yield every frame in display order.

    Yields:
        arrays of shape (height, width, 3), uint8 RGB.

    Raises:
        VideoError: if the file cannot be opened or decoded, has no frames, or ends before its header says.
    """
    count = hidden = 0
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            stream.thread_type = "AUTO"
            reformatter = VideoReformatter()
            for packet in container.demux(stream):
                hidden += packet.is_discard
                for frame in packet.decode():
                    count += 1
                    yield reformatter.reformat(frame, format="rgb24").to_ndarray()
            announced = _announced(container, stream) - hidden
    except av.FFmpegError as error:
        raise VideoError(f"{path} is broken after frame {count}: {error.strerror}") from error
    _check_count(path, count, announced)


def count_frames(path: Path) -> int:
    """Return the number of coded frames that are shown. Only the container is read, which takes milliseconds.

    Raises:
        VideoError: if the file cannot be read, has no frames, or ends before its header says.
    """
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            hidden = Counter(packet.is_discard for packet in container.demux(stream) if packet.size > 0)
            announced = _announced(container, stream) - hidden[True]
    except av.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror}") from error
    count = hidden[False]
    _check_count(path, count, announced)
    return count


def frame_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels from the header, without decoding.

    Raises:
        VideoError: if the file cannot be opened or has no video stream.
    """
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(container, path)
            return stream.width, stream.height
    except av.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror}") from error


def announced_frames(path: Path) -> int:
    """Return the number of frames from the header, 0 if it is not there, without decoding.

    Raises:
        VideoError: if the file cannot be opened or has no video stream.
    """
    try:
        with av.open(str(path)) as container:
            return _video_stream(container, path).frames
    except av.FFmpegError as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror}") from error


def _announced(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Return how many frames the container should have, 0 if it does not say.

    An MP4 file that was cut without encoding it again keeps all frames from a key frame on and hides some by an edit
    list. The header counts the hidden frames. The index leaves them out, or their packets are marked for discarding.
    """
    return min(stream.frames, len(stream.index_entries)) if "mp4" in container.format.name else stream.frames


def _check_count(path: Path, count: int, announced: int) -> None:
    if count == 0:
        raise VideoError(f"{path} has no frames")
    if count < announced:
        raise VideoError(f"{path} is truncated: its header announces {announced} frames, {count} could be read")


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise VideoError(f"{path} has no video stream")
    return container.streams.video[0]


class VideoWriter:
    """Encodes frames one after the other; :func:`new_video` makes one."""

    def __init__(self, container: av.container.OutputContainer, codec: Codec, rate: Fraction) -> None:
        self._container, self._codec, self._rate = container, codec, rate
        self._stream: av.VideoStream | None = None
        self.frames = 0
        self.width = 0

    def write(self, frame: Frame) -> None:
        """Append one frame; all must have the size of the first."""
        encoding = _ENCODINGS[self._codec]
        if self._stream is None:
            self._stream = self._container.add_stream(self._codec, rate=self._rate, options=encoding.options)
            self._stream.height, self._stream.width = frame.shape[:2]
            self.width = frame.shape[1]
            self._stream.pix_fmt = encoding.pixel_format
            self._stream.gop_size = encoding.key_frame_every
            self._stream.thread_count = (
                1  # several videos are encoded in parallel, which is faster than threads within one
            )
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=encoding.array_format)
        picture.pts, picture.time_base = self.frames, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is None:
            raise ValueError("a video must have at least one frame, got none")
        self._container.mux(self._stream.encode(None))


@contextmanager
def new_video(path: Path, codec: Codec, rate: Fraction | int = CACHE_RATE) -> Iterator[VideoWriter]:
    """Lend a writer for ``path``. The file gets its name only when it is complete.

    Args:
        path: the file; its suffix chooses the container.
        codec: "mpeg4" or "mjpeg" for (height, width, 3) RGB, "ffv1" (lossless) for (height, width) gray; all uint8.
        rate: frames per second.
    """
    with written_aside(path) as aside, av.open(str(aside), mode="w") as container:
        writer = VideoWriter(container, codec, Fraction(rate))
        yield writer
        writer.finish()


class FrameCache:
    """Exact random access to a file that :func:`new_video` wrote as "mjpeg" or "ffv1" at the rate of caches.

    Args:
        path: the file.

    Raises:
        VideoError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._container = av.open(str(path))
        except av.FFmpegError as error:
            raise VideoError(f"{path} cannot be read as a video: {error.strerror}") from error
        self._stream = _video_stream(self._container, path)
        self._stream.thread_count = 1  # threads would add delay to every seek
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = -1
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

    def __getitem__(self, index: int) -> Frame:
        """Decode frame ``index``: (height, width, 3) RGB or (height, width) gray, uint8.

        Raises:
            IndexError: if there is no such frame.
            VideoError: if the file is broken.
        """
        try:
            if index != self._next:
                self._container.seek(index * _TICKS, stream=self._stream)
                self._frames = self._container.decode(self._stream)
            frame = next(self._frames, None)
        except av.FFmpegError as error:
            raise VideoError(f"{self.path} is broken at frame {index}: {error.strerror}") from error
        if frame is None or frame.pts != index * _TICKS:
            self._next = -1
            raise IndexError(f"{self.path} has no frame {index}")
        self._next = index + 1
        if frame.format.name != "gray":
            frame = self._reformatter.reformat(
                frame, format="rgb24", threads=1
            )  # threads would stay for every open cache
        return frame.to_ndarray()


class FrameMemory:
    """Open caches, and the frames that were last read from them, up to a number of bytes.

    Serves one thread at a time. A copy that is sent to another process starts empty.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0
        self._frames: OrderedDict[object, Frame] = OrderedDict()
        self._reader = lru_cache(maxsize=_MOST_OPEN)(lambda path, process: FrameCache(path))

    def get(self, key: object, load: Callable[[], Frame]) -> Frame:
        """Return the frame ``key``, and load it if it is not held. The result must not be written to."""
        frame = self._frames.get(key)
        if frame is not None:
            self._frames.move_to_end(key)
            return frame
        frame = self._frames[key] = load()
        self.held += frame.nbytes
        while self.held > self.capacity and len(self._frames) > 1:
            self.held -= self._frames.popitem(last=False)[1].nbytes
        return frame

    def read(self, path: Path, index: int) -> Frame:
        """Read one frame of a cache. A forked process opens its own file, since a shared file has only one position."""
        return self._reader(path, os.getpid())[index]

    def __reduce__(self) -> tuple[type[FrameMemory], tuple[int]]:
        """Pickle without the frames."""
        return FrameMemory, (self.capacity,)
