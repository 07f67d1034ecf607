"""Read and write video files. Only this module uses PyAV.

Source videos are read from front to back, since containers such as AVI with B-frames have no exact random access.
:class:`FrameCache` has random access to files that :class:`VideoWriter` wrote with every frame a key frame.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.storage import written_aside

CACHE_RATE = 25
"""Frames per second of every cache: a frame takes 40 ticks of Matroska's millisecond clock, so its time is exact."""
_TICKS = 1000 // CACHE_RATE
_MOST_OPEN = 256
"""Caches that a process keeps open. Systems commonly allow 1024 files."""

Frame = NDArray[Any]  # one picture, uint8: (height, width, 3) RGB or (height, width) gray
Codec = Literal["mpeg4", "mjpeg", "ffv1"]


_ENCODINGS: dict[Codec, dict[str, Any]] = {
    "mpeg4": {"pix_fmt": "yuv420p", "gop_size": 12, "options": {"qmin": "2", "qmax": "2"}},
    # Full chroma, since color is detail when small, and every frame a key frame.
    "mjpeg": {"pix_fmt": "yuvj444p", "gop_size": 1, "options": {"qmin": "2", "qmax": "2"}},
    "ffv1": {"pix_fmt": "gray", "gop_size": 1},  # lossless
}


def decode(path: Path) -> Iterator[Frame]:
    """Yield every frame in display order, (height, width, 3) uint8 RGB; a ``DataError`` says if the file is broken."""
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
            _check_count(path, container, count, hidden)
    except av.FFmpegError as error:
        raise DataError(f"{path} is broken after frame {count}: {error.strerror}") from error


def count_frames(path: Path) -> int:
    """Return the number of frames that a player would show. Only the container is read, which takes milliseconds."""
    with _opened(path) as container:
        packets = container.demux(_video_stream(container, path))
        hidden = Counter(packet.is_discard for packet in packets if packet.size > 0)
        _check_count(path, container, hidden[False], hidden[True])
    return hidden[False]


def frame_size(path: Path) -> tuple[int, int]:
    """Return (width, height) from the header. A ``DataError`` says if the file cannot be opened or has no video."""
    with _opened(path) as container:
        stream = _video_stream(container, path)
        return stream.width, stream.height


def frame_rate(path: Path) -> Fraction | None:
    """Return the frames per second, on average, or None if the file does not say."""
    with _opened(path) as container:
        return _video_stream(container, path).average_rate


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be read as a video: {error.strerror}") from error


def _check_count(path: Path, container: av.container.InputContainer, count: int, hidden: int) -> None:
    """Compare the number of frames that were decoded with the container's own, if it gives one.

    An MP4 file that was cut without encoding it again keeps all frames from a key frame on and hides some by an edit
    list. The header counts the hidden frames. The index leaves them out, or their packets are marked for discarding.
    """
    stream = container.streams.video[0]
    listed = min(stream.frames, len(stream.index_entries)) if "mp4" in container.format.name else stream.frames
    if count == 0:
        raise DataError(f"{path} has no frames")
    if count < listed - hidden:
        raise DataError(f"{path} is truncated: its header announces {listed - hidden} frames, {count} could be read")


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    if not container.streams.video:
        raise DataError(f"{path} has no video stream")
    return container.streams.video[0]


class VideoWriter:
    """Encodes frames one after the other; :func:`new_video` makes one."""

    def __init__(self, container: av.container.OutputContainer, codec: Codec, rate: int) -> None:
        self._container, self._codec, self._rate = container, codec, rate
        self.stream: av.VideoStream | None = None
        self.frames = 0
        self.width = 0

    def write(self, frame: Frame) -> None:
        """Append one frame; all must have the size of the first."""
        if self.stream is None:
            height, self.width = frame.shape[:2]
            size = {"width": self.width, "height": height}
            # One thread each: encoding several videos in parallel is faster than threads within one.
            self.stream = self._container.add_stream(
                self._codec, rate=self._rate, thread_count=1, **size, **_ENCODINGS[self._codec]
            )
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="gray" if frame.ndim == 2 else "rgb24")
        picture.pts, picture.time_base = self.frames, Fraction(1, self._rate)
        self._container.mux(self.stream.encode(picture))
        self.frames += 1


@contextmanager
def new_video(path: Path, codec: Codec, rate: int = CACHE_RATE) -> Iterator[VideoWriter]:
    """Yield a writer for ``path``, whose suffix chooses the container. The file gets its name when it is complete.

    The same frames make the same bytes.
    """
    exact = {"fflags": "bitexact"}  # or Matroska would give each file a random number
    with written_aside(path) as aside, av.open(str(aside), mode="w", options=exact) as container:
        writer = VideoWriter(container, codec, rate)
        yield writer
        if writer.stream is None:
            raise ValueError("a video must have at least one frame, got none")
        container.mux(writer.stream.encode(None))  # what the encoder still holds


class FrameCache:
    """Exact random access to a file that :func:`new_video` wrote as "mjpeg" or "ffv1" at the rate of caches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.thread_count = 1  # threads would add delay to every seek
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._next = -1
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

    def __getitem__(self, index: int) -> Frame:
        """Decode frame ``index``: (height, width, 3) RGB or (height, width) gray, uint8."""
        if index != self._next:
            self._container.seek(index * _TICKS, stream=self._stream)
            self._frames = self._container.decode(self._stream)
        frame = next(self._frames, None)
        if frame is None or frame.pts != index * _TICKS:
            self._next = -1
            raise IndexError(f"{self.path} has no frame {index}")
        self._next = index + 1
        if frame.format.name != "gray":
            # One thread, since threads would stay for every open cache.
            frame = self._reformatter.reformat(frame, format="rgb24", threads=1)
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
        if key not in self._frames:
            self._frames[key] = load()
            self.held += self._frames[key].nbytes
            while self.held > self.capacity and len(self._frames) > 1:
                self.held -= self._frames.popitem(last=False)[1].nbytes
        self._frames.move_to_end(key)
        return self._frames[key]

    def read(self, path: Path, index: int) -> Frame:
        """Read one frame of a cache. A forked process opens its own file, since a shared file has only one position."""
        return self._reader(path, os.getpid())[index]

    def __reduce__(self) -> tuple[type["FrameMemory"], tuple[int]]:
        """Pickle without the frames."""
        return FrameMemory, (self.capacity,)
