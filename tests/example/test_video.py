"""Videos: exact and bounded reading, and damaged files are named."""

import random
import struct
from pathlib import Path

import av
import numpy as np
import pytest

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import DataError
from tests.helpers.small_videos import moving_patch, truncate, write


def test_a_lossless_cache_is_exact_in_any_order(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (31, 47), dtype=np.uint8) for _ in range(40)]
    cache = video.FrameCache(write(tmp_path / "flow.mkv", frames, "ffv1"))
    for index in random.Random(0).choices(range(40), k=100):
        np.testing.assert_array_equal(cache[index], frames[index])
    with pytest.raises(IndexError, match="has no frame 40"):
        cache[40]
    np.testing.assert_array_equal(cache[39], frames[39])


def test_a_picture_cache_reads_the_same_in_any_order(tmp_path):
    frames = moving_patch(20, 3)
    path = write(tmp_path / "rgb.mkv", frames, "mjpeg")
    in_order = list(video.decode(path))
    cache = video.FrameCache(path)
    for index in random.Random(0).choices(range(20), k=60):
        np.testing.assert_array_equal(cache[index], in_order[index])
    assert np.abs(in_order[0].astype(int) - frames[0]).mean() < 5  # noise is the worst case


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (truncate, r"cut\.avi is cut off or damaged: it must have at least \d+ bytes, and has \d+"),
        (lambda path: path.write_bytes(b""), r"cut\.avi cannot be read as a video: Invalid data"),
        (lambda path: path.write_bytes(b"x" * 1000), r"cut\.avi cannot be read as a video: Invalid data"),
        (lambda path: path.unlink(), r"cut\.avi cannot be read as a video: No such file"),
    ],
    ids=["truncated", "empty", "other", "missing"],
)
def test_a_damaged_video_is_named(tmp_path, damage, match):
    path = write(tmp_path / "cut.avi", moving_patch(60, 0))
    damage(path)
    with pytest.raises(DataError, match=match):
        list(video.decode(path))


def cut_without_coding(path: Path, first: int, target: Path) -> Path:
    """Let ``target`` begin at frame ``first``: an edit list hides the frames before it."""
    with av.open(str(path)) as whole, av.open(str(target), mode="w") as part:
        source = whole.streams.video[0]
        stream = part.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.size > 0:
                earlier = round(first / source.average_rate / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - earlier, packet.dts - earlier, stream
                part.mux(packet)
    return target


@pytest.mark.parametrize("first", [5, 17])
@pytest.mark.parametrize("frames", [20, None], ids=["both ends", "start"])
def test_frames_hidden_by_a_cut_are_not_missed(tmp_path, first, frames):
    whole = write(tmp_path / "whole.mp4", [np.full((48, 64, 3), 4 * now, np.uint8) for now in range(60)])
    path = cut_without_coding(whole, first, tmp_path / "cut.mp4")
    if frames is not None:
        content = bytearray(path.read_bytes())
        milliseconds = content.index(b"elst") + 12  # the first entry's duration
        struct.pack_into(">I", content, milliseconds, 40 * frames)
        path.write_bytes(content)
    found, shown = list(video.decode(path)), list(video.decode(whole))[first:][:frames]
    assert video.count_frames(path) == len(found) == len(shown)
    np.testing.assert_array_equal(found, shown)


def test_a_video_in_the_making_is_not_there(tmp_path):
    def fail_half_way():
        with video.new_video(tmp_path / "a.avi", "mpeg4") as writer:
            writer.write(moving_patch(1, 0)[0])
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    with pytest.raises(ValueError, match="at least one frame"):
        write(tmp_path / "b.avi", [])
    assert list(tmp_path.iterdir()) == []


def test_the_memory_of_frames_is_bounded_and_drops_the_oldest():
    memory = video.FrameMemory(capacity=30)
    loads = []

    def load(key: int) -> np.ndarray:
        return memory.get(key, lambda: loads.append(key) or np.zeros(10, np.uint8))

    for key in (0, 1, 2, 0, 3, 0, 1):
        load(key)
    assert loads == [0, 1, 2, 3, 1]
    assert memory.held == 30
