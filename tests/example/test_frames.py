"""The frames of clips: folders of images, clips of different rates, and clips cut to one shape."""

import struct
import zlib
from fractions import Fraction
from itertools import product

import cv2
import numpy as np
import pytest
import torch

from examples.mpii_cooking import plan
from examples.mpii_cooking.data import frames, sources, video
from examples.mpii_cooking.data.class_folders import Choices
from examples.mpii_cooking.data.dataset import DataError, Framing
from examples.mpii_cooking.data.preparation import prepare, video_unit
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.workspace import Workspace, fingerprint
from tests.helpers.small_videos import DETAIL, PRESET, moving_patch, write, write_images


def numbered(count, rate, path):
    """A video whose frames are as bright as their numbers."""
    with video.new_video(path, "ffv1", rate) as writer:
        for number in range(count):
            writer.write(np.full((16, 24), number, np.uint8))
    return path


def test_images_of_a_folder_are_the_frames_of_a_clip_in_natural_order(tmp_path):
    film = moving_patch(11, 0)
    folder = write_images(tmp_path / "clip", film, "{}.png")
    (folder / "notes.txt").touch()
    np.testing.assert_array_equal(list(frames.decode(folder)), film)
    assert (frames.count(folder), frames.size(folder), frames.rate(folder)) == (11, (64, 48), None)


@pytest.mark.parametrize("suffix", frames.IMAGE_SUFFIXES)
def test_every_named_format_is_read(tmp_path, suffix):
    picture = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    folder = write_images(tmp_path / "clip", [picture], "{}" + suffix.upper())
    (found,) = frames.decode(folder)
    assert np.abs(found.astype(int) - picture).max() <= 4


def test_gray_images_are_read_as_colors(tmp_path):
    (tmp_path / "clip").mkdir()
    cv2.imwrite(str(tmp_path / "clip" / "1.png"), np.full((4, 6), 7, np.uint8))
    np.testing.assert_array_equal(list(frames.decode(tmp_path / "clip")), np.full((1, 4, 6, 3), 7))


def test_images_of_two_sizes_are_no_clip(tmp_path):
    write_images(tmp_path / "clip", moving_patch(3, 0), "a{}.png")
    write_images(tmp_path / "clip", moving_patch(1, 0, size=(40, 64)), "b{}.png")
    with pytest.raises(DataError, match=r"clip must hold images of one size.*a0\.png is 64 x 48, b0\.png is 64 x 40"):
        list(frames.decode(tmp_path / "clip"))


def huge():
    """A PNG file whose header announces 100,000 x 100,000 pixels."""
    content = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()
    header = content[12:16] + struct.pack(">II", 100_000, 100_000) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@pytest.mark.parametrize("content", [b"", b"no image", huge()], ids=["empty", "text", "huge"])
def test_a_damaged_image_is_named(tmp_path, content):
    write_images(tmp_path / "clip", moving_patch(1, 0), "{}.png")
    (tmp_path / "clip" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        list(frames.decode(tmp_path / "clip"))


@pytest.mark.parametrize(("stored", "wanted", "expected"), [
    (60, 15, [0, 4, 8, 12, 16, 20]),
    (30, 25, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 18, 19, 20]),
    (25, 24, list(range(21))),  # 4 % apart: the same rate
    (15, 15, list(range(21))),
], ids=str)  # fmt: skip
def test_a_faster_clip_shows_what_a_player_shows_at_the_slower_rate(tmp_path, stored, wanted, expected):
    path = numbered(21, stored, tmp_path / "a.mkv")
    framing = Framing(rate=wanted)
    assert [int(frame[0, 0, 0]) for frame in frames.decode(path, framing)] == expected
    assert frames.count(path, framing) == len(expected)


def test_images_have_no_rate_and_are_all_used(tmp_path):
    folder = write_images(tmp_path / "clip", moving_patch(7, 0), "{}.png")
    assert frames.count(folder, Framing(rate=5)) == len(list(frames.decode(folder, Framing(rate=5)))) == 7


def drifting(rate):
    """Two seconds of one texture that drifts by 12 pixels a second."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 128), dtype=np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    moves = (np.float32([[1, 0, -12 * number / rate], [0, 1, 0]]) for number in range(2 * rate))
    return [cv2.warpAffine(texture, move, (64, 48), flags=cv2.INTER_LINEAR) for move in moves]


def test_one_motion_filmed_at_two_rates_is_prepared_alike(tmp_path):
    for label, rate in product(("a", "b"), (15, 60)):
        write(tmp_path / "data" / label / f"{rate}.mkv", drifting(rate), "ffv1", rate)
    dataset, as_stored = (open_dataset(tmp_path / "data", None, Choices(rate=rate)) for rate in (None, "keep"))
    assert dataset.framing == Framing(rate=15)
    assert dataset.protocol.endswith("; 15 frames a second, taken from 15 to 60 frames a second")
    assert [len(clip) for clip in dataset.train + dataset.test] == [30] * 4
    assert as_stored.protocol.endswith("; clips keep their 15 to 60 frames a second")
    caches = prepare(dataset, PRESET.data, Workspace(tmp_path / "brought to 15"))
    stored = prepare(as_stored, PRESET.data, Workspace(tmp_path / "as stored"))
    for number in range(30):
        for cached in ("rgb", "flow"):
            slow, fast = (getattr(caches[f"a/{rate}.mkv"], cached)(DETAIL, number) for rate in (15, 60))
            np.testing.assert_array_equal(slow, fast)

    def speed(cache):
        return np.mean([cache.flow(DETAIL, number)[0].astype(float) - 128 for number in range(5, 25)])

    assert speed(caches["a/60.mkv"]) == pytest.approx(4 * speed(stored["a/60.mkv"]), rel=0.1)


def test_a_frame_is_cut_around_its_center():
    frame = np.arange(6 * 11).reshape(6, 11)
    np.testing.assert_array_equal(frames.cut(frame, 1.0), frame[:, 2:8])
    np.testing.assert_array_equal(frames.cut(frame, 11 / 4), frame[1:5])


def test_the_size_of_cut_clips_does_not_tell_their_class(tmp_path):
    shapes = {"hug": (48, 49), "kick": (40, 83), "point": (83, 48), "push": (31, 64)}  # height, width
    for name, (height, width) in shapes.items():
        for number in (1, 2):
            write_images(tmp_path / name / str(number), moving_patch(3, number, size=(height, width)), "{}.png")
    for aspect, expected in (("4:3", 4 / 3), ("narrowest", 1)):
        dataset = open_dataset(tmp_path, None, Choices(aspect=aspect))
        assert dataset.framing.aspect == pytest.approx(expected)
        caches = prepare(dataset, PRESET.data, Workspace(tmp_path / aspect.replace(":", "-")))
        for level in PRESET.data.levels:
            width = round(expected * level.height)
            assert {cache.rgb(level, 0).shape for cache in caches.values()} == {(level.height, width, 3)}
            assert {cache.flow(level, 0).shape for cache in caches.values()} == {(2, level.height, width)}
            assert len({cache.profile(level, 0)[0].shape for cache in caches.values()}) == 1
    with pytest.raises(DataError, match=r"point/1 must be at least as wide as high, got 48 x 83\n(.*\n)*.*--aspect"):
        prepare(open_dataset(tmp_path), PRESET.data, Workspace(tmp_path / "none"))


def test_clips_without_rows_to_speak_of_are_refused_before_any_is_prepared(tmp_path):
    """Enlarged to the height of the networks, a strip takes more memory than there is."""
    for name, size in {"strip": (2, 40), "usual": (48, 64)}.items():
        for number in (1, 2):
            write_images(tmp_path / name / str(number), [np.full((*size, 3), 7, np.uint8)] * 3, "{}.png")
    dataset = open_dataset(tmp_path)
    plan.check_disk(dataset, PRESET, tmp_path / "output", torch.device("cpu"), [])
    with pytest.raises(
        DataError, match=r"2 findings\):\n.*strip/1 must be at most 10 times as wide as high, got 40 x 2"
    ):
        prepare(dataset, PRESET.data, Workspace(tmp_path / "work"))


def test_the_narrowest_clip_decides(tmp_path):
    for number, width in enumerate((64, 60, 80)):
        for name in ("a", "b"):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number, size=(48, width)))
    dataset = open_dataset(tmp_path, None, Choices(aspect="narrowest"))
    assert dataset.framing == Framing(aspect=60 / 48)
    assert dataset.protocol.endswith("; cut to 1.25:1")
    assert {frames.size(path, dataset.framing) for path in dataset.videos.values()} == {(60, 48)}


def test_caches_depend_on_rate_shape_and_every_image(tmp_path):
    folder = write_images(tmp_path / "clip", moving_patch(3, 0), "{}.png")

    def key(*framing):
        content = sources.content(folder)
        return fingerprint(video_unit("clip", content, PRESET.data, Workspace(tmp_path), Framing(*framing)).inputs)

    keys = [key(), key(15.0), key(None, 1.0)]
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())
    keys.append(key())
    (folder / "2.png").unlink()
    assert len({*keys, key()}) == 5


def test_the_rate_is_that_of_the_container(tmp_path):
    assert frames.rate(numbered(3, 15, tmp_path / "a.mkv")) == Fraction(15)
