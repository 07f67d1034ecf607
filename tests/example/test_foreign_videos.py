"""Videos of others: turned, with empty chunks or hidden frames, cut off or damaged."""

import contextlib
import random
import struct

import cv2
import numpy as np
import pytest

from benchmarks.reliability.made_videos import (
    counting,
    encode,
    hide,
    like,
    number_of,
    numbered,
    set_display_matrix,
    with_cover,
)
from examples.mpii_cooking.data import containers, video
from examples.mpii_cooking.data.dataset import DataError
from tests.helpers.small_videos import moving_patch, write

UPRIGHT = {
    (1, 0, 0, 1): lambda frame: frame,
    (0, 1, -1, 0): lambda frame: np.rot90(frame, -1),  # clockwise, as phones held upright write
    (-1, 0, 0, -1): lambda frame: np.rot90(frame, 2),
    (0, -1, 1, 0): lambda frame: np.rot90(frame, 1),
    (-1, 0, 0, 1): lambda frame: frame[:, ::-1],  # a mirrored front camera
    (1, 0, 0, -1): lambda frame: frame[::-1],
    (0, 1, 1, 0): lambda frame: frame.swapaxes(0, 1),
    (0, -1, -1, 0): lambda frame: frame[::-1, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", UPRIGHT, ids=str)
def test_turned_and_mirrored_videos_are_upright(tmp_path, matrix):
    path = write(tmp_path / "phone.mp4", moving_patch(3, 0))
    stored = list(video.decode(path))
    set_display_matrix(path, *matrix)
    upright = [UPRIGHT[matrix](frame) for frame in stored]
    np.testing.assert_array_equal(list(video.decode(path)), upright)
    assert video.frame_size(path) == upright[0].shape[1::-1]


def test_a_video_that_is_turned_by_half_a_right_angle_is_refused(tmp_path):
    path = write(tmp_path / "phone.mp4", moving_patch(3, 0))
    set_display_matrix(path, 0.7, 0.7, -0.7, 0.7)
    for read in (video.frame_size, lambda path: list(video.decode(path))):
        with pytest.raises(DataError, match=r"phone\.mp4 must be turned by a multiple of 90 degrees"):
            read(path)


@pytest.mark.parametrize("between", [0, 2], ids=["", "B-frames"])
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("without", [(5, 6, 11, 28), (4, 5, 6, 7, 8, 20)], ids=str)
def test_an_empty_chunk_of_an_avi_file_repeats_the_picture_before(tmp_path, codec, between, without):
    path = encode(tmp_path / "a.avi", counting(40, without), codec, between=between)
    shown = np.maximum.accumulate([0 if number in without else number for number in range(40)])
    assert video.count_frames(path) == 40
    assert [number_of(frame) for frame in video.decode(path)] == shown.tolist()


def test_chunks_that_an_encoder_leaves_empty_at_the_beginning_delay_nothing(tmp_path):
    def later(place, packet):
        packet.pts, packet.dts = packet.pts + 2 * (place > 0), packet.dts + 2 * (place > 0)
        return packet

    path = encode(tmp_path / "a.avi", counting(40), "mpeg4", between=2, changed=later)
    assert [number_of(frame) for frame in video.decode(path)] == [*range(40), 39, 39]
    assert video.count_frames(path) == 42


def test_pictures_at_irregular_times_are_a_frame_each_where_a_container_has_times(tmp_path):
    path = encode(tmp_path / "a.mp4", counting(40, without=(5, 6, 11)), "mpeg4")
    assert [number_of(frame) for frame in video.decode(path)] == [n for n in range(40) if n not in (5, 6, 11)]
    assert video.count_frames(path) == 37


def test_hidden_frames_are_not_counted(tmp_path):
    path = encode(tmp_path / "a.webm", counting(40), "libvpx", options={"lag-in-frames": "0"}, changed=hide)
    shown = [number for number in range(40) if number % 5 != 3]
    assert [number_of(frame) for frame in video.decode(path)] == shown
    assert video.count_frames(path) == 32


FORMATS = {
    "a.avi": ("mpeg4", {}),
    "j.avi": ("mjpeg", {}),
    "a.mkv": ("libx264", {}),
    "a.webm": ("libvpx-vp9", {}),
    "a.mts": ("libx264", {"container": "mpegts"}),
    "b.mts": ("mpeg2video", {"container": "mpegts"}),
    "a.mpg": ("mpeg1video", {}),
    "a.wmv": ("wmv2", {}),
    "a.flv": ("flv", {}),
    "a.mp4": ("libx264", {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
}


def read_all(path):
    found = len(list(video.decode(path)))
    assert found == video.count_frames(path)
    return found


@pytest.fixture(scope="module", params=FORMATS)
def whole(request, tmp_path_factory):
    codec, options = FORMATS[request.param]
    path = encode(tmp_path_factory.mktemp("whole") / request.param, counting(40), codec, **options)
    assert read_all(path) == 40
    return path


def test_an_avi_file_may_hold_what_an_editing_program_notes(tmp_path):
    path = encode(tmp_path / "a.avi", counting(40), "mjpeg")
    note = b"_PMX\4\0\0\0<x/>"
    content = bytearray(path.read_bytes() + note)
    struct.pack_into("<I", content, 4, len(content) - 8)
    path.write_bytes(content)
    assert read_all(path) == 40


@pytest.mark.parametrize(("before", "after"), [(b"\x47\1\2\3", b""), (b"", bytes(16))], ids=["time", "checksum"])
def test_packets_of_a_transport_stream_may_have_more_than_188_bytes(tmp_path, before, after):
    content = encode(tmp_path / "a.mts", counting(40), "libx264", container="mpegts").read_bytes()
    packets = [before + content[at : at + 188] + after for at in range(0, len(content), 188)]
    path = tmp_path / "b.mts"
    path.write_bytes(b"".join(packets))
    assert read_all(path) == 40
    path.write_bytes(b"".join(packets)[:-50])
    with pytest.raises(DataError, match=r"must hold whole packets of (192|204) bytes"):
        video.count_frames(path)


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_files_that_were_cut_off_are_named(whole, tmp_path, percent):
    content = whole.read_bytes()
    end = len(content) * percent // 100
    # A transport stream that ends with a packet is a shorter one, and so are whole fragments: nobody can tell.
    end += end % 188 == 0 or content[end + 4 : end + 8] == b"moof"
    cut = tmp_path / whole.name
    cut.write_bytes(content[:end])
    with contextlib.suppress(DataError):
        assert read_all(cut) == 40, "frames are missing, and nobody says so"


@pytest.mark.parametrize("rest", range(1, 8))
def test_the_beginning_of_another_box_is_noticed(tmp_path, rest):
    path = encode(tmp_path / "a.mp4", counting(40), "libx264", movflags="frag_keyframe+empty_moov")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"moof") - 4 + rest])
    with pytest.raises(DataError, match="is cut off or damaged: it must have at least"):
        video.count_frames(path)


@pytest.mark.parametrize("percent", [10, 50, 90])
def test_what_is_missing_is_said_in_one_line(tmp_path, percent):
    path = encode(tmp_path / "a.mkv", counting(40), "libx264")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * percent // 100])
    for read in (video.count_frames, lambda path: list(video.decode(path))):
        with pytest.raises(DataError, match=r"a\.mkv (is cut off or damaged.*|cannot be read as a video): [^\n]+$"):
            read(path)


@pytest.mark.parametrize("name", ["a.avi", "j.avi", "a.mkv", "b.mts", "a.mpg", "a.flv"])
@pytest.mark.parametrize("kind", ["noise", "zeros"])
def test_decoder_errors_are_counted_and_named(tmp_path, name, kind):
    codec, options = FORMATS[name]
    path = encode(tmp_path / name, counting(40), codec, **options)
    content = bytearray(path.read_bytes())
    size, middle = len(content) // 10, len(content) // 2
    content[middle : middle + size] = random.Random(0).randbytes(size) if kind == "noise" else bytes(size)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is cut off or damaged"):
        list(video.decode(path))


def test_errors_are_counted_to_the_end(tmp_path):
    def damaged(place, packet):
        if place % 10 == 5:
            packet.update(bytes(packet)[:20] + bytes(len(bytes(packet)) - 20))
        return packet

    path = encode(tmp_path / "a.mov", counting(40), "png", changed=damaged)
    seen = []
    with pytest.raises(DataError, match=r"a\.mov is cut off or damaged after frame [345]: .* \(4 errors in all\)"):
        seen.extend(number_of(frame) for frame in video.decode(path))
    assert seen in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4])  # threads read ahead


def of_two_sizes(path, first, second):
    """Five frames of each size."""

    def replaced(place, packet):
        return packet if place < 5 else like(packet, cv2.imencode(".jpg", numbered(place, second))[1].tobytes())

    return encode(path, counting(10, size=first), "mjpeg", changed=replaced)


def test_a_shape_that_changes_on_the_way_is_refused(tmp_path):
    path = of_two_sizes(tmp_path / "a.avi", (48, 64), (64, 64))
    with pytest.raises(DataError, match=r"a\.avi must have one ratio .* 64 x 48 before frame 5 and 64 x 64 from there"):
        list(video.decode(path))


def test_a_size_that_changes_on_the_way_is_accepted(tmp_path):
    frames = list(video.decode(of_two_sizes(tmp_path / "a.avi", (48, 64), (96, 128))))
    assert [number_of(frame) for frame in frames] == list(range(10))
    assert [frame.shape for frame in frames] == 5 * [(48, 64, 3)] + 5 * [(96, 128, 3)]


def test_cover_art_is_no_video(tmp_path):
    path = with_cover(tmp_path / "sound.mp4")
    for read in (video.frame_size, video.count_frames, lambda path: list(video.decode(path))):
        with pytest.raises(DataError, match=r"sound\.mp4 has no video stream"):
            read(path)


def test_a_film_with_cover_art_is_the_film(tmp_path):
    path = with_cover(tmp_path / "film.mp4", counting(25))
    assert [number_of(frame) for frame in video.decode(path)] == list(range(25))
    assert (video.count_frames(path), video.frame_size(path)) == (25, (64, 48))


@pytest.mark.parametrize("length", [0, 2**32 - 1])
def test_an_avi_file_whose_writer_did_not_say_its_length_is_read_to_its_end(tmp_path, length):
    path = encode(tmp_path / "a.avi", counting(7), "mjpeg")
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack("<I", length) + content[8:])
    assert (video.count_frames(path), len(list(video.decode(path)))) == (7, 7)


def test_a_stream_of_no_known_packets_may_have_any_length(tmp_path):
    for size in (300, 301):
        (tmp_path / "a.ts").write_bytes(bytes(size))
        containers.check_length(tmp_path / "a.ts", "mpegts")
