"""Read and write video files. Only this module and :mod:`decoder` use PyAV.

Source videos are read from front to back, since containers such as AVI with B-frames have no exact random access. They
may come from anywhere, so a process of its own reads them. :class:`FrameCache` has random access to files that
:class:`VideoWriter` wrote with every frame a key frame.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cache, lru_cache
from io import FileIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from examples.mpii_cooking.data import decoder
from examples.mpii_cooking.data.dataset import BrokenError, DataError
from examples.mpii_cooking.data.decoder import Look, Task
from examples.mpii_cooking.storage import written_aside

if sys.platform == "linux":
    import fcntl

CACHE_RATE = 25
"""Frames per second of every cache: a frame takes 40 ticks of Matroska's millisecond clock, so its time is exact."""
_TICKS = 1000 // CACHE_RATE
PATIENCE = 60
"""Seconds after which a video that makes no progress is given up; on Windows, never."""
_CRASHES = {getattr(signal, name, None) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV")}
"""Signals by which a decoder ends when a file makes it fail. All others are no fault of the file."""
_PIPE = 2**20  # bytes on the way from a decoder; the fewer, the more often it waits
_SECONDS_TO_END = 5.0  # of a decoder that was killed
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
    """Yield every frame in display order, (height, width, 3) uint8 RGB; a ``BrokenError`` says if the file is broken.

    :mod:`decoder` says what a frame is. All of them are upright and have one ratio of width to height.
    """
    with _borrowed() as process:
        process.ask("decode", path)
        while isinstance(frame := process.receive(), np.ndarray):
            yield frame


def count_frames(path: Path) -> int:
    """Return the number of frames that ``decode`` yields. The whole file is read, but nothing is decoded."""
    return int(_result("count", path, _stamp(path)))


def frame_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the first frame, upright. A ``BrokenError`` says if it cannot be decoded."""
    look = _look(path)
    return look.width, look.height


def frame_rate(path: Path) -> Fraction | None:
    """Return the frames per second, on average, or None if the file does not say."""
    rate = _look(path).rate
    return None if rate is None else Fraction(*rate)


def _look(path: Path) -> Look:
    return Look(*json.loads(_result("look", path, _stamp(path))))


@cache
def _result(task: Task, path: Path, stamp: tuple[int, ...]) -> str:
    """Return a result as JSON. It is found once for each ``stamp``, which changes with the file."""
    with _borrowed() as process:
        process.ask(task, path)
        return str(process.receive())


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat() if path.exists() else None
    return () if stat is None else (stat.st_size, stat.st_mtime_ns, stat.st_ino)


class _Decoder:
    """A process that runs :mod:`decoder`."""

    def __init__(self) -> None:
        self._complaints = TemporaryFile()  # noqa: SIM115 - it stays open as long as the process
        root = str(Path(__file__).resolve().parents[3])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", decoder.__name__, str(os.getpid())],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))},
        )
        self._requests = cast(FileIO, self._process.stdin)
        self._messages = cast(FileIO, self._process.stdout)
        if sys.platform == "linux":
            with suppress(OSError):  # a user has so many bytes in pipes, and smaller ones only cost time
                fcntl.fcntl(self._messages, fcntl.F_SETPIPE_SZ, _PIPE)
        self.pid = self._process.pid
        self._path = Path()
        self.is_idle = True  # not in the middle of an answer
        self._has_started = False

    def ask(self, task: Task, path: Path) -> None:
        """Send a request."""
        self.is_idle, self._path = False, path
        with suppress(OSError):  # if the process has ended, reading the answer reports it
            self._requests.write(json.dumps([task, str(path)]).encode() + b"\n")

    def receive(self) -> Frame | str:
        """Return the next frame, or after the last one the result as JSON."""
        kind = decoder.ALIVE
        while kind == decoder.ALIVE:
            kind, size, height, width = decoder.HEADER.unpack(bytes(self._read(decoder.HEADER.size)))
            self._has_started = True
        if kind not in (decoder.FRAME, decoder.RESULT, decoder.PROBLEM, decoder.FAULT):  # after SIGSTOP and SIGCONT
            raise self._fault("was not read to the end: bytes were lost on the way from its decoder")
        content = self._read(size)
        if kind == decoder.FRAME:
            return content.reshape(height, width, 3)
        self.is_idle = True
        if kind == decoder.FAULT:
            raise self._fault(bytes(content).decode())
        if kind == decoder.PROBLEM:
            raise BrokenError(f"{self._path} {bytes(content).decode()}")
        return bytes(content).decode()

    def end(self) -> None:
        """End the process. When Python itself ends, its files may be closed already."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # of a disk that does not answer, not even to the system
            self._process.wait(_SECONDS_TO_END)
        self._requests.close()
        self._messages.close()
        self._complaints.close()

    def _read(self, size: int) -> NDArray[np.uint8]:
        content = np.empty(size, np.uint8)
        left = content.data
        while left:
            self._wait()
            count = self._messages.readinto(left)
            if not count:
                raise self._failure()
            left = left[count:]
        return content

    def _wait(self) -> None:
        """Wait until there is something to read. Seconds are counted one by one: those of SIGSTOP do not count."""
        if not hasattr(select, "poll"):
            return
        waiting = select.poll()
        waiting.register(self._messages)
        if not any(waiting.poll(1000) for _ in range(PATIENCE)):
            raise BrokenError(f"{self._path} cannot be read: nothing happened for {PATIENCE} s")

    def _failure(self) -> DataError:
        """Return why the process has ended."""
        code = self._process.wait()
        self._complaints.seek(0)
        last = self._complaints.read().decode(errors="replace").splitlines()[-1:]
        if not self._has_started:
            return self._fault(": ".join(["was not read: its decoder could not start", *last]))
        if code < 0 and -code not in _CRASHES:
            return self._fault("was not read to the end: its decoder was killed, perhaps because memory ran out")
        return BrokenError(": ".join([f"{self._path} cannot be read: its decoder ended with exit code {code}", *last]))

    def _fault(self, what: str) -> DataError:
        """Return an error for what is no fault of the file: a run must not go on without it."""
        return DataError(f"{self._path} {what}", "start again, the same command goes on")


_decoders: dict[int, list[_Decoder]] = {}
"""Those that wait for work, by the process that started them: a fork must not use them."""


@contextmanager
def _borrowed() -> Iterator[_Decoder]:
    waiting = _decoders.setdefault(os.getpid(), [])
    try:
        process = waiting.pop()
    except IndexError:
        process = _Decoder()
    try:
        yield process
    finally:
        if process.is_idle:
            waiting.append(process)
        else:
            process.end()


def decoders() -> list[int]:
    """Return the processes that wait to read another video."""
    return [process.pid for process in _decoders.get(os.getpid(), [])]


@atexit.register
def _end_decoders() -> None:
    for process in _decoders.pop(os.getpid(), []):
        process.end()


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
