"""Folders with one folder of clips per class, their groups, and folders that hold no data."""

import os
import sys
from itertools import chain

import pytest

from examples.mpii_cooking.data import frames
from examples.mpii_cooking.data.class_folders import Choices, group_names
from examples.mpii_cooking.data.dataset import DataError, Framing
from examples.mpii_cooking.data.readers import open_dataset
from tests.helpers.small_videos import moving_patch, write, write_images

SEQUENCES = Choices(groups=r"seq\d+")


def test_classes_are_split_in_natural_order(dataset):
    assert dataset.classes == ("left", "right")
    assert [clip.video for clip in dataset.train] == ["left/1.avi", "left/2.avi", "right/1.avi", "right/2.avi"]
    assert [clip.video for clip in dataset.test] == ["left/10.avi", "right/10.avi"]
    assert [len(clip) for clip in dataset.train + dataset.test] == [12, 13, 12, 13, 12, 12]
    assert "(4 clips)" in dataset.protocol
    assert not dataset.has_paper_protocol


def test_the_gesture_videos_open(clips_folder):
    dataset = open_dataset(clips_folder)
    assert (len(dataset.classes), len(dataset.train), len(dataset.test)) == (10, 80, 40)
    assert dataset.protocol.endswith("; 9.996 frames a second, taken from 9.996 to 30 frames a second")
    clip = dataset.test[0]
    assert sum(1 for _ in frames.decode(dataset.videos[clip.video], dataset.framing)) == len(clip)


def test_the_interaction_clips_have_ten_groups_and_shapes_that_tell_the_class(interactions_folder):
    choices = Choices(groups=r"set1_seq\d+", fold="set1_seq06", without=("point",), aspect="narrowest")
    dataset = open_dataset(interactions_folder, None, choices)
    assert (len(group_names(interactions_folder, choices)), len(dataset.train), len(dataset.test)) == (10, 46, 4)
    assert {clip.group for clip in dataset.test} == {"set1_seq06"}
    assert "punch" not in {dataset.classes[clip.label] for clip in dataset.test}, "this sequence has none"
    assert dataset.framing == Framing(aspect=244 / 240)
    sizes = {path: frames.size(path) for path in interactions_folder.glob("*/*.mp4")}
    upright = {path.parent.name for path, (width, height) in sizes.items() if width < height}
    assert upright == {"point"}


def test_a_clip_is_a_video_or_a_folder_of_images(tmp_path, caplog):
    for label in ("left", "right"):
        write(tmp_path / label / "2.avi", moving_patch(3, 2))
        write_images(tmp_path / label / "1", moving_patch(4, 1), "{}.png")
        write_images(tmp_path / label / "10", moving_patch(5, 1), "{}.jpg")
    (tmp_path / "left" / "10" / "notes.txt").touch()
    (tmp_path / "left" / "11").mkdir()
    dataset = open_dataset(tmp_path)
    assert [clip.video for clip in dataset.train] == ["left/1", "left/2.avi", "right/1", "right/2.avi"]
    assert [(clip.video, len(clip)) for clip in dataset.test] == [("left/10", 5), ("right/10", 5)]
    assert caplog.messages[0].endswith(": left/10/notes.txt, left/11")


def write_sequences(folder, **numbers):
    """Clips of some sequences for every class."""
    for label, sequences in numbers.items():
        for place, sequence in enumerate(sequences):
            write(folder / label / f"seq{sequence}_{place}.avi", moving_patch(3, sequence))


def test_a_group_is_never_in_both_training_and_test(tmp_path):
    write_sequences(tmp_path, hug=(1, 2, 2, 3, 10), kick=(1, 10, 2))
    assert group_names(tmp_path, SEQUENCES) == ("seq1", "seq2", "seq3", "seq10")
    dataset = open_dataset(tmp_path, None, SEQUENCES)
    assert [clip.group for clip in dataset.train] == ["seq1", "seq2", "seq2", "seq3", "seq1", "seq2"]
    assert [clip.video for clip in dataset.test] == ["hug/seq10_4.avi", "kick/seq10_1.avi"]
    divided = "of 4 groups, by number, the first two thirds train (6 clips) and the rest test (2 clips)"
    assert dataset.protocol == f"8 videos in 2 classes; {divided}"


def test_each_clip_is_tested_in_the_fold_of_its_group(tmp_path):
    write_sequences(tmp_path, hug=(1, 2, 2, 3), kick=(1, 2))
    tested = {}
    for name in group_names(tmp_path, SEQUENCES):
        dataset = open_dataset(tmp_path, None, Choices(groups=SEQUENCES.groups, fold=name))
        tested[name] = [clip.video for clip in dataset.test]
        assert {clip.group for clip in dataset.test} == {name}
        assert name not in {clip.group for clip in dataset.train}
        assert len(dataset.train) + len(dataset.test) == 6
    assert tested["seq2"] == ["hug/seq2_1.avi", "hug/seq2_2.avi", "kick/seq2_1.avi"]
    assert sorted(chain(*tested.values())) == sorted(dataset.videos)
    assert dataset.protocol == (
        "6 videos in 2 classes; group seq3 is tested (1 clips), the other 2 groups train (5 clips)"
    )


def test_classes_are_left_out_and_keep_their_order(tmp_path, caplog):
    write_sequences(tmp_path, hug=(1, 2), kick=(1, 2), point=(1, 2))
    dataset = open_dataset(tmp_path, None, Choices(without=("kick",)))
    assert dataset.classes == ("hug", "point")
    assert {clip.label for clip in dataset.train} == {0, 1}
    assert not caplog.messages


@pytest.mark.parametrize(("choices", "match"), [
    (Choices(groups="seq("), r"groups must be a regular expression, got 'seq\('"),
    (Choices(groups="seq1"), "must be found in the name of every clip, not in hug/seq2_1.avi, kick/seq2_1.avi"),
    (Choices(groups=r"\d*"), "must be found in the name of every clip, not in hug/seq1_0.avi, "),
    (Choices(groups="seq"), "must find at least two groups, got seq"),
    (Choices(groups=r"seq\d", fold="seq7"), "fold must be a group, one of seq1, seq2, got seq7"),
    (Choices(without=("point",)), r"without must name classes of .* \(hug, kick\), got point"),
    (Choices(rate=30), "rate must be above 0 and at most that of the slowest clip, 25, got 30"),
    (Choices(rate=0), "rate must be above 0 and at most that of the slowest clip, 25, got 0"),
    (Choices(rate=1e-4), r"left with one frame at the common rate(.*\n)*.*use clips of at least two frames"),
    (Choices(aspect="3:4"), "aspect must be W:H with W from H to 10 times H, such as 4:3, or narrowest, got 3:4"),
    (Choices(aspect="1000:1"), "aspect must be W:H with W from H to 10 times H"),
    (Choices(aspect="0:0"), "aspect must be W:H"),
    (Choices(aspect="wide"), "aspect must be W:H"),
], ids=str)  # fmt: skip
def test_a_choice_that_does_not_fit_the_clips_is_refused(tmp_path, choices, match):
    write_sequences(tmp_path, hug=(1, 2), kick=(1, 2))
    with pytest.raises(DataError, match=match):
        open_dataset(tmp_path, None, choices)


def test_images_alone_have_no_rate_to_change(tmp_path):
    for label, number in (("a", 1), ("a", 2), ("b", 1), ("b", 2)):
        write_images(tmp_path / label / str(number), moving_patch(3, number), "{}.png")
    assert open_dataset(tmp_path).framing == Framing()
    with pytest.raises(DataError, match="rate must be left out, since no clip has a frame rate, got 10"):
        open_dataset(tmp_path, None, Choices(rate=10))


def test_annotated_videos_have_no_such_choices(tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(DataError, match="groups, without, rate and aspect need a folder of classes"):
        open_dataset(tmp_path, None, SEQUENCES)


def test_names_with_a_dot_are_not_data(tmp_path):
    for name in ("left", "right", ".plan"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number))
    (tmp_path / "left" / "._1.avi").write_bytes(b"a resource fork")
    for name in (".123.rows.csv", "._rows.csv"):
        (tmp_path / name).write_bytes(b"half a row")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("left", "right")
    assert sorted(dataset.videos) == ["left/1.avi", "left/2.avi", "right/1.avi", "right/2.avi"]


def test_what_a_class_folder_leaves_out_is_named(tmp_path, caplog):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, number))
    write(tmp_path / "left" / "3.avi", moving_patch(3, 3)).rename(tmp_path / "left" / "3.M4V")
    (tmp_path / "right" / "3.raw").touch()
    write(tmp_path / "right" / "4.ts", moving_patch(3, 4))
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "1.gif").touch()
    assert {"left/3.M4V", "right/4.ts"} <= open_dataset(tmp_path).videos.keys()
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(": right/3.raw, up/")


def test_of_many_files_that_are_left_out_twenty_are_named(tmp_path, caplog):
    for name in ("left", "right"):
        for number in (1, 2):
            write_images(tmp_path / name / str(number), moving_patch(2, number), "{}.png")
    for number in range(25):
        (tmp_path / "left" / f"{number:02d}.raw").touch()
    open_dataset(tmp_path)
    assert caplog.messages[0].endswith("left/18.raw, left/19.raw, and 5 more")


def test_a_folder_of_neither_form_is_refused(tmp_path):
    with pytest.raises(DataError, match="must be an existing folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match="must hold an annotation file"):
        open_dataset(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"got 2 in .*: a\.csv, b\.csv"):
        open_dataset(tmp_path)


def test_all_broken_videos_of_the_classes_are_listed(tmp_path):
    for name in ("left", "right"):
        write(tmp_path / name / "1.avi", moving_patch(3, 0))
    (tmp_path / "left" / "2.avi").touch()
    with pytest.raises(DataError, match="cannot be used") as caught:
        open_dataset(tmp_path)
    assert "left/2.avi cannot be read as a video" in str(caught.value)
    assert "class right has one clip" in str(caught.value)
    assert str(caught.value).count("what to do: ") == 2


def test_a_class_of_which_too_little_can_be_read_names_what_cannot(tmp_path):
    for name, sound in (("left", 1), ("middle", 0), ("right", 2)):
        for number in range(3):
            write(tmp_path / name / f"{number}.avi", moving_patch(3, 0))
            if number >= sound:
                (tmp_path / name / f"{number}.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"cannot be used \(7 findings\)") as caught:
        open_dataset(tmp_path, skip_broken=True)
    assert "class left has one clip\n" in str(caught.value)
    assert "class middle has no clip that can be read\n" in str(caught.value)
    named = [f"{tmp_path}/{name}.avi cannot be read" in str(caught.value) for name in ("left/1", "middle/0", "right/2")]
    assert named == [True, True, False]


def test_a_group_without_a_clip_that_can_be_read_is_no_fold(tmp_path):
    write_sequences(tmp_path, hug=(1, 2, 3), kick=(2, 3))
    (tmp_path / "hug" / "seq1_0.avi").write_bytes(b"no video")
    assert group_names(tmp_path, SEQUENCES) == ("seq1", "seq2", "seq3")
    assert group_names(tmp_path, SEQUENCES, skip_broken=True) == ("seq2", "seq3")


def test_one_frame_is_no_clip(tmp_path):
    """Without motion, the temporal streams of all networks would see nothing."""
    for name in ("left", "right"):
        for number, length in ((1, 3), (2, 1)):
            write(tmp_path / name / f"{number}.avi", moving_patch(length, number))
    write_images(tmp_path / "left" / "3", moving_patch(1, 0), "{}.png")
    with pytest.raises(DataError, match=r"cannot be used \(3 findings\)") as caught:
        open_dataset(tmp_path)
    for name in ("left/2.avi", "left/3", "right/2.avi"):
        assert f"{tmp_path / name} has one frame\n" in str(caught.value)


def test_a_clip_can_lose_all_but_one_frame_to_the_common_rate(tmp_path):
    for name, rate in (("left", 25), ("right", 5)):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(4, number), rate=rate)
    with pytest.raises(DataError, match=r"left/1.avi is left with one frame at the common rate"):
        open_dataset(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_are_shown_byte_by_byte(tmp_path):
    for name in ("left", "right"):
        write(tmp_path / name / "1.avi", moving_patch(2, 1))
        write_images(tmp_path / name / "2", moving_patch(2, 2), "{}.png")
    for old, new in (("left/2/0.png", b"left/2/\xff.png"), ("left/1.avi", b"left/\xfe.avi"), ("right", b"k\xe4se")):
        (tmp_path / old).rename(tmp_path / os.fsdecode(new))
    with pytest.raises(DataError, match=r"cannot be used \(3 findings\)") as caught:
        open_dataset(tmp_path)
    for name in (r"left/2/\xff.png", r"left/\xfe.avi", r"k\xe4se"):
        assert f"{name}' has a name that is not UTF-8\n" in str(caught.value)
    str(caught.value).encode()
