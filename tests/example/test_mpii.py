"""The annotations of MPII Cooking: what they hold, their splits, and every row that is wrong."""

import re
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
    monkeypatch.setattr(mpii, "_find_videos", lambda folder, names, findings, broken: dict.fromkeys(names, folder))
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


def test_the_splits_are_those_of_the_papers():
    assert mpii.choose_split("fixed5") == mpii.FIXED5
    assert mpii.FIXED5[1:] == ((11, 12, 13, 14, 15), (8, 10, 16, 17, 18, 19, 20))
    assert mpii.choose_split("loso7", "16")[1:] == ((8, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20), (16,))


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
    with pytest.raises(DataError, match=r"1715 train and 2033 test clips cannot be used \(43 findings\)") as caught:
        open_dataset(tmp_path)
    message = str(caught.value)
    assert message.count("is missing") == 20
    assert "  and 22 more of this kind\n    what to do: put the videos into" in message
    assert "s08-d04-cam-002.avi cannot be read as a video" in message
    assert "s08-d02" not in message


BAD_ROWS = {
    "8,s08,1,10,2": "must have 6 fields, got 5: b'8,s08,1,10,2'",
    "8,../s08,1,10,2,cut": "file_name must be a plain name",
    "8,s08,0,10,2,cut": "start_frame must be a positive whole number, got '0'",
    "8,s08,5,4,2,cut": "end_frame must not lie before start_frame, got 5 to 4",
    "x,s08,1,10,2,cut": "subject must be a positive whole number, got 'x'",
    "8,s08,1,10,3, ": "category_name must be a name without quotes, got ' '",
    '8,s08,1,10,3,"stir"': "category_name must be a name without quotes, got '\"stir\"'",
    "8,s08,20,30,2,peel": "names category 2 'peel', row 1 'cut'",
    "9,s08,40,50,2,cut": "gives this video subject 9, row 1 8",
    " ": "must have 6 fields, got 1",
    "8,s08,60,70,4,cut": "gives 'cut' category 4, row 1 2",
    "8,s08,1,10,5,stir": "gives this interval category 5, row 1 2",
    "8,s08,80,90,1,wash": "category 1 is background and no class, got the name 'wash'",
    "8,s08,80,90,6,k\xe4se": "must be UTF-8, got b'8,s08,80,90,6,k\\xe4se'",
    "\ufeff8,s08,80,90,6,bake": "subject must be a positive whole number, got '\\ufeff8'",
    "8,s08,1,10,2,cut": "repeats row 1",
}
"""Rows of a file, and what is wrong with them. The last one is the first one again."""


def test_every_bad_row_is_listed_with_its_number_and_a_cure(tmp_path):
    rows = [row.encode("latin-1" if "\xe4" in row else "utf-8") for row in ["8,s08,1,10,2,cut", *BAD_ROWS]]
    (tmp_path / "rows.csv").write_bytes(b"\n".join(rows))
    with pytest.raises(DataError, match=r"cannot be used \(16 findings\)") as caught:
        mpii.parse_annotations(tmp_path / "rows.csv")
    lines = str(caught.value).splitlines()[1:]
    found = {line for line in lines if line.startswith("  rows.csv row")}
    cures = [line for line in lines if line.startswith("    what to do: ")]
    for row, problem in enumerate(BAD_ROWS.values(), start=2):
        assert any(line.startswith(f"  rows.csv row {row}: {problem}") for line in found)
    assert len(found) == 16
    assert len(cures) == len(set(cures)) == 10
    assert len(lines) == 26


@pytest.mark.parametrize("name", ["../up", "/root", "C:\\x", "a/b", "..", "", "a\0b", "x" * 200, ".hidden", "ä"])
def test_a_file_name_cannot_lead_out_of_the_folder(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_text(f"8,{name},1,10,2,cut\n")
    with pytest.raises(DataError, match="file_name must be a plain name"):
        mpii.parse_annotations(path)


def test_a_million_bad_rows_are_counted_and_twenty_listed(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"8,s08\n" * 1_000_000)
    with pytest.raises(DataError, match=r"cannot be used \(1000000 findings\)") as caught:
        mpii.parse_annotations(tmp_path / "rows.csv")
    lines = str(caught.value).splitlines()
    assert len(lines) == 23
    assert lines[20].startswith("  rows.csv row 20: must have 6 fields, got 2")
    assert lines[21] == "  and 999980 more of this kind"


@pytest.mark.parametrize(
    "ends", ["{}", "\ufeff{}", "{}\n\n \r\n"], ids=["plain", "byte order mark", "blank lines at the end"]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=repr)
def test_how_editors_save_text_changes_nothing(tmp_path, ends, newline):
    rows = ["8,s08,1,10,2,cut", "8,s08,11,12,3,säubern\x85\u2028"]
    (tmp_path / "rows.csv").write_bytes(ends.format(newline.join(rows)).encode())
    first, second = mpii.parse_annotations(tmp_path / "rows.csv")
    assert first == (1, 8, "s08", 1, 10, 2, "cut")
    assert second == (2, 8, "s08", 11, 12, 3, "säubern")


def test_subjects_of_no_part_are_counted_and_named(tmp_path):
    (tmp_path / "rows.csv").write_text("8,a,1,10,2,cut\n9,b,1,10,2,cut\n7,c,1,9,2,cut\n7,c,10,11,1, Background\n")
    counts = mpii.summary(mpii.parse_annotations(tmp_path / "rows.csv"))
    assert counts == (
        "4 intervals, 3 labeled in 1 classes, 1 background, 0 train and 1 test clips, "
        "2 of other subjects (7, 9) are not used"
    )


@pytest.mark.parametrize("content", [b"", b"\n \n", None], ids=["empty", "blank", "link to nowhere"])
def test_an_annotation_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "rows.CSV"
    path.symlink_to(tmp_path / "nowhere") if content is None else path.write_bytes(content)
    problem = r"cannot be read \(No such file or directory\)" if content is None else "has no rows"
    with pytest.raises(DataError, match=rf"rows.CSV {problem}: download the annotation file again"):
        open_dataset(tmp_path)


def test_a_folder_is_no_annotation_file(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(DataError, match="holds neither"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"values": {"thing": ["a"]}, "boxes": {}}', "\udcff"], ids=repr)
def test_broken_cues_are_found_together_with_missing_videos(tmp_path, content):
    (tmp_path / "rows.csv").write_text("8,s08,1,10,2,cut\n11,s11,1,10,2,cut\n")
    (tmp_path / "cues.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"cannot be used \(3 findings\)") as caught:
        open_dataset(tmp_path)
    assert re.search(r"cues\.json (cannot be read|is not whole|has schema None|was changed)", str(caught.value))


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
