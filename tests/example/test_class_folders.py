"""Folders with one folder of videos per class, and folders that hold no data."""

import pytest

from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.readers import open_dataset
from tests.helpers.small_videos import moving_patch, write


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
    clip = dataset.test[0]
    assert sum(1 for _ in video.decode(dataset.videos[clip.video])) == len(clip)


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
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "1.gif").touch()
    assert "left/3.M4V" in open_dataset(tmp_path).videos
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(": right/3.raw, up/")


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
    assert "class right must have at least two videos" in str(caught.value)
