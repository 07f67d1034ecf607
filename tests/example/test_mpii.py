"""The annotations of MPII Cooking: what they hold, their splits, and every row that is wrong."""

from collections import Counter

import pytest

from examples.mpii_cooking.data import mpii
from examples.mpii_cooking.data.dataset import Clip, DataError
from examples.mpii_cooking.data.readers import open_dataset
from tests.helpers.small_videos import moving_patch, write


def test_the_real_annotations_are_counted_as_published(mpii_folder):
    intervals = mpii.parse_annotations(mpii_folder / "detectionGroundtruth-1-0.csv")
    assert mpii.summary(intervals) == (
        "5609 intervals, 3748 labeled in 64 classes, 1861 background, 1715 train and 2033 test clips"
    )
    labeled = [interval for interval in intervals if interval.category != mpii.BACKGROUND]
    assert Counter(interval.subject for interval in labeled) == {
        **dict(zip(mpii.TEST_SUBJECTS, (326, 312, 151, 433, 152, 345, 314), strict=True)),
        **dict(zip(mpii.TRAIN_SUBJECTS, (362, 371, 349, 252, 381), strict=True)),
    }
    names = {interval.name for interval in intervals}
    assert "take & put in fridge" in names
    assert all(name == name.strip() and "\\" not in name for name in names)


@pytest.fixture
def real_dataset(mpii_folder, monkeypatch):
    """Read the real annotations as if their videos were here."""
    monkeypatch.setattr(mpii, "_find_videos", lambda folder, names, context: dict.fromkeys(names, folder))
    return lambda split=None: open_dataset(mpii_folder, split)


def test_the_majority_class_scores_what_the_collapsed_network_of_the_paper_scored(real_dataset):
    dataset = real_dataset()
    train, test = (Counter(dataset.classes[clip.label] for clip in clips) for clips in (dataset.train, dataset.test))
    ((constant, most),) = train.most_common(1)
    assert (constant, most, train.total()) == ("take out from drawer", 128, 1715)
    assert (test[constant], test.total()) == (130, 2033)
    assert real_dataset(mpii.choose_split("fixed5")) == dataset
    assert dataset.has_paper_protocol
    assert dataset.protocol.endswith(
        "fixed5: trained on subjects 11, 12, 13, 14, 15, tested on 8, 10, 16, 17, 18, 19, 20"
    )


@pytest.mark.parametrize(
    ("fold", "test_clips"), [(8, 326), (10, 312), (16, 151), (17, 433), (18, 152), (19, 345), (20, 314)]
)
def test_a_fold_trains_on_everyone_but_its_subject(real_dataset, fold, test_clips):
    dataset = real_dataset(mpii.choose_split("loso7", fold))
    assert (len(dataset.train), len(dataset.test)) == (3748 - test_clips, test_clips)
    assert 3315 <= len(dataset.train) <= 3597
    assert {clip.video[:4] for clip in dataset.test} == {f"s{fold:02d}-"}
    assert len({clip.video[:4] for clip in dataset.train} - {f"s{fold:02d}-"}) == 11
    assert f"{3748 - test_clips} train and {test_clips} test clips; loso7-{fold}: trained on" in dataset.protocol
    assert dataset.protocol.endswith(f"tested on {fold}")
    assert not dataset.has_paper_protocol
    assert dataset.classes == real_dataset().classes
    assert dataset.videos == real_dataset().videos, "one preparation serves every split"


@pytest.mark.parametrize(("name", "fold", "match"), [
    ("loso7", None, "needs a fold, one of subjects 8, 10, 16, 17, 18, 19, 20, got None"),
    ("loso7", 11, "needs a fold, one of subjects 8, 10, 16, 17, 18, 19, 20, got 11"),
    ("fixed5", 8, "only split loso7 has folds, got fold 8 with fixed5"),
])  # fmt: skip
def test_a_fold_and_its_split_must_fit(name, fold, match):
    with pytest.raises(DataError, match=match):
        mpii.choose_split(name, fold)


@pytest.mark.parametrize("split", [mpii.FIXED5, mpii.choose_split("loso7", 8)], ids=lambda split: split.name)
def test_without_subjects_there_is_nothing_to_split_by(dataset, split):
    folder = dataset.videos["left/1.avi"].parents[1]
    with pytest.raises(DataError, match=f"split {split.name} needs an annotation file .* has none"):
        open_dataset(folder, split)


def test_all_missing_videos_are_listed_at_once(mpii_folder, tmp_path):
    csv = tmp_path / "detectionGroundtruth-1-0.csv"
    csv.write_bytes((mpii_folder / csv.name).read_bytes())
    write(tmp_path / "videos" / "s08-d02-cam-002.avi", moving_patch(3, 0))
    (tmp_path / "s08-d04-cam-002.avi").write_bytes(b"no video")
    with pytest.raises(DataError, match="1715 train and 2033 test clips, but 43 of 44 videos") as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    assert message.count("is missing") == 42
    assert "s08-d04-cam-002.avi cannot be read as a video" in message
    assert "s08-d02" not in message


def test_every_bad_row_is_listed_with_its_number(tmp_path):
    rows = {
        "8,s08,1,10,2,cut": None,
        "8,s08,1,10,2": "must have 6 fields, got 5",
        "8,../s08,1,10,2,cut": "file_name must be a plain name",
        "8,s08,0,10,2,cut": "start_frame must be a positive whole number, got '0'",
        "8,s08,5,4,2,cut": "end_frame must not lie before start_frame, got 5 to 4",
        "x,s08,1,10,2,cut": "subject must be a positive whole number, got 'x'",
        "8,s08,1,10,3, ": "category_name must not be empty",
        "8,s08,20,30,2,peel": "names category 2 'peel', row 1 'cut'",
        "9,s08,40,50,2,cut": "gives this video subject 9, row 1 8",
        " ": "must have 6 fields, got 1",
    }
    path = tmp_path / "rows.csv"
    path.write_text("".join(f"{row}\n" for row in [*rows, "8,s08,1,10,2,cut"]))
    with pytest.raises(DataError, match="has 10 bad rows") as caught:
        open_dataset(tmp_path)
    listed = str(caught.value).splitlines()[1:]
    problems = [(row, text) for row, text in enumerate([*rows.values(), "repeats row 1"], start=1) if text]
    for line, (row, text) in zip(listed, problems, strict=True):
        assert line.startswith(f"  row {row}: {text}")


@pytest.mark.parametrize("name", ["../up", "/root", "C:\\x", "a/b", "..", "", "a\0b", "x" * 200, ".hidden", "ä"])
def test_a_file_name_cannot_lead_out_of_the_folder(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_text(f"8,{name},1,10,2,cut\n")
    with pytest.raises(DataError, match="file_name must be a plain name"):
        mpii.parse_annotations(path)


def test_an_empty_annotation_file_is_refused(tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(DataError, match="has no rows"):
        open_dataset(tmp_path)


def test_training_and_test_subjects_must_both_be_there(tmp_path):
    (tmp_path / "rows.csv").write_text("8,s08,1,10,2,cut\n8,s08,11,12,1, Background activity\n")
    with pytest.raises(DataError, match="got 0 and 1"):
        open_dataset(tmp_path)


def test_frames_are_counted_from_zero_and_background_is_no_class(tmp_path):
    for name in ("s08", "s11"):
        write(tmp_path / "videos" / f"{name}.avi", moving_patch(12, 0))
    rows = ("8,s08,1,10,7,take \\& put", "11,s11,3,3,5,cut", "8,s08,11,12,1, Background activity", "9,s09,1,2,5,cut")
    (tmp_path / "rows.csv").write_text("".join(f"{row}\n" for row in rows))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cut", "take & put")
    assert dataset.test == (Clip("s08", 0, 10, 1, "rows.csv row 1"),)
    assert dataset.train == (Clip("s11", 2, 3, 0, "rows.csv row 2"),)
    assert set(dataset.videos) == {"s08", "s11"}
