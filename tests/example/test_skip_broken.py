"""Broken videos: a run ends with all of their names, or goes on without them and says what was lost."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reliability.made_videos import counting, encode
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import BrokenError, Clip, DataError, Lost
from examples.mpii_cooking.data.preparation import prepare, prepare_sound
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.report import page
from examples.mpii_cooking.workspace import Workspace
from tests.helpers.made_up import made_up_results
from tests.helpers.small_videos import PRESET, moving_patch, truncate, write


@pytest.fixture
def folder(tmp_path):
    """Two classes of four clips. One is cut off; another shows only when it is decoded that it is damaged."""
    for name in ("left", "right"):
        for number in range(4):
            write(tmp_path / "data" / name / f"{number}.avi", moving_patch(5, number))
    truncate(write(tmp_path / "data" / "left" / "1.avi", moving_patch(60, 1)))
    damaged = encode(tmp_path / "data" / "right" / "2.avi", counting(20), "mjpeg")
    content = bytearray(damaged.read_bytes())
    inside = (
        content.index(b"\xff\xda", len(content) // 2) + 14
    )  # in the pixels of a picture, where no length is written
    content[inside : inside + 100] = random.Random(0).randbytes(100)
    damaged.write_bytes(content)
    return tmp_path / "data"


def test_without_the_option_the_first_error_names_every_file_it_can(folder, tmp_path):
    with pytest.raises(DataError, match=r"left/1\.avi is cut off"):
        open_dataset(folder)
    write(folder / "left" / "1.avi", moving_patch(5, 1))
    with pytest.raises(
        DataError, match=r"cannot be used \(1 finding\):\n  .*right/2\.avi is cut off or damaged after frame"
    ):
        prepare(open_dataset(folder), PRESET.data, Workspace(tmp_path / "work"))


def test_with_the_option_only_broken_videos_are_left_out(folder, tmp_path):
    opened = open_dataset(folder, skip_broken=True)
    assert [each.video for each in opened.lost] == ["left/1.avi"]
    dataset, caches = prepare_sound(opened, PRESET.data, Workspace(tmp_path / "work"), skip_broken=True)
    assert [(each.video, each.clips) for each in dataset.lost] == [("left/1.avi", 1), ("right/2.avi", 1)]
    sound = {"left/0.avi", "left/2.avi", "left/3.avi", "right/0.avi", "right/1.avi", "right/3.avi"}
    assert set(caches) == set(dataset.videos) == {clip.video for clip in dataset.train + dataset.test} == sound
    assert all(str(folder / each.video) in each.problem and "damaged" in each.problem for each in dataset.lost)


@pytest.mark.parametrize("function", ["decode", "count_frames"])
@pytest.mark.parametrize(("change", "problem"), [
    (Path.unlink, FileNotFoundError),  # its disk went away
    (lambda path: path.write_bytes(path.read_bytes()[:-50]), DataError),  # it is being copied
], ids=["gone", "changed"])  # fmt: skip
def test_a_video_that_is_gone_or_changes_is_not_left_out_as_broken(tmp_path, monkeypatch, function, change, problem):
    for name in ("left", "right"):
        for number in range(3):
            write(tmp_path / "data" / name / f"{number}.avi", moving_patch(5, number))
    opened, last = open_dataset(tmp_path / "data", skip_broken=True), tmp_path / "data" / "right" / "2.avi"
    original = getattr(video, function)

    def changed(path):
        if path == last and path.exists() and not last.with_suffix(".done").exists():
            last.with_suffix(".done").touch()
            change(path)
        return original(path)

    monkeypatch.setattr(video, function, changed)
    with pytest.raises(problem, match=r"right/2\.avi") as caught:
        prepare_sound(opened, PRESET.data, Workspace(tmp_path / "work"), skip_broken=True)
    assert not isinstance(caught.value, BrokenError)


def test_a_video_whose_decoder_was_killed_is_not_left_out(tmp_path, monkeypatch):
    """Whether it is one of MPII's or in a folder of classes: another start can read it."""
    folder = tmp_path / "mpii"
    write(folder / "s11-d01.avi", moving_patch(5, 1))
    write(folder / "s08-d01.avi", moving_patch(5, 1))
    (folder / "rows.csv").write_text("11,s11-d01,1,5,2,cut\n8,s08-d01,1,5,2,cut\n")

    def killed(path):
        raise DataError(f"{path} was not read to the end: its decoder was killed")

    monkeypatch.setattr(video, "frame_size", killed)
    with pytest.raises(DataError, match=r"s11-d01\.avi was not read to the end"):
        open_dataset(folder, skip_broken=True)


def test_a_clip_that_ends_after_its_video_is_an_error_all_the_same(folder, tmp_path):
    opened = open_dataset(folder, skip_broken=True)
    beyond = replace(opened, train=(*opened.train, Clip("left/0.avi", 0, 6, 0, "row 7")))
    with pytest.raises(DataError, match=r"cannot be used \(1 finding\):\n.*has 5 frames, but its clip"):
        prepare_sound(beyond, PRESET.data, Workspace(tmp_path / "work"), skip_broken=True)


def test_a_class_must_keep_a_clip_to_train_with(folder):
    dataset = open_dataset(folder, skip_broken=True)
    gone = {clip.video: f"{clip.video} is broken" for clip in dataset.train if clip.label == 1}
    with pytest.raises(DataError, match=r"no clip of right is left to train:\n  right/0\.avi is broken\n"):
        dataset.without(gone)
    with pytest.raises(DataError, match="no clip of any class is left to test"):
        dataset.without({clip.video: "broken" for clip in dataset.test})


def test_the_report_lists_what_was_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(page.figures, "draw_all", lambda results, folder: {})
    results = made_up_results()
    lost = (Lost("s8.avi", 3, "s8.avi is cut off"), Lost("<s9>.avi", 1, "<s9>.avi has no frames"))
    lossy = replace(results, dataset=replace(results.dataset, lost=lost))
    words = page.write_report(lossy, tmp_path).read_text(encoding="utf-8")
    assert 'Left out, since they cannot be read: 2 videos with 4 clips. <a href="#lost">' in words
    assert "<code>s8.avi</code>, 3 clips: s8.avi is cut off" in words
    assert "<code>&lt;s9&gt;.avi</code>, 1 clip: &lt;s9&gt;.avi has no frames" in words


def test_results_remember_what_was_lost(tmp_path):
    results = made_up_results()
    lost = (Lost("s8.avi", 3, "s8.avi is cut off"),)
    replace(results, dataset=replace(results.dataset, lost=lost)).save(tmp_path)
    assert type(results).load(tmp_path).dataset.lost == lost
