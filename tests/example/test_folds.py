"""Folds: what is pooled of their results, and which of them a command runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from examples.mpii_cooking import run_all
from examples.mpii_cooking.data import mpii
from examples.mpii_cooking.data.class_folders import Choices
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.evaluation import significance
from examples.mpii_cooking.evaluation.cells import POOLING_CELL, FrameCell
from examples.mpii_cooking.evaluation.folds import pool
from examples.mpii_cooking.evaluation.measures import SHARES, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import Overlap, StageTime
from examples.mpii_cooking.variants import Modality, Variant
from tests.helpers.made_up import CLASSES, CUES, TEST_CLIPS, made_up_results
from tests.helpers.small_videos import moving_patch, write

SSTN, STN = (FrameCell(variant, "detail", "vgg-16") for variant in (Variant.SSTN, Variant.STN))
NAMES = ("groups-a", "groups-b", "groups-c")


def part(whole, clips, trained, **changes):
    """Results of some test clips."""
    return replace(
        whole,
        labels=whole.labels[clips],
        frame_answers=tuple(replace(row, answers=row.answers[clips]) for row in whole.frame_answers),
        overlaps=tuple(replace(row, guided=tuple(np.array(row.guided)[clips].tolist())) for row in whole.overlaps),
        shown=tuple(np.array(whole.shown)[clips].tolist()),
        scores={key: values[clips] for key, values in whole.scores.items()},
        dataset=replace(whole.dataset, train_clips=trained),
        **changes,
    )


@pytest.fixture(scope="module")
def whole():
    return made_up_results(2)


@pytest.fixture(scope="module")
def folds(whole):
    pieces = np.split(np.arange(TEST_CLIPS), [15, 40])
    trained = [[9] * len(CLASSES), [8] * len(CLASSES), [9] * len(CLASSES)]
    return {name: part(whole, clips, tuple(counts)) for name, clips, counts in zip(NAMES, pieces, trained, strict=True)}


def test_every_clip_counts_once_with_the_answers_of_its_fold(whole, folds):
    pooled = pool(folds)
    np.testing.assert_array_equal(pooled.labels, whole.labels)
    assert pooled.shown == whole.shown
    for cell, found in whole.accuracies([SSTN, STN]).items():
        assert pooled.accuracies([SSTN, STN])[cell].by_seed == found.by_seed
    cell = whole.pooled(POOLING_CELL)
    expected = [
        100
        * average_precision_score(
            whole.labels == label, np.concatenate([it.scores[0, cell] for it in folds.values()])[:, label]
        )
        for label in whole.tested
    ]
    assert pooled.precisions([cell])[cell].by_seed[0] == pytest.approx(np.mean(expected))
    assert pooled.dataset.train_clips == (9,) * len(CLASSES)
    assert pooled.seeds == whole.seeds


def test_overlaps_are_pooled_over_the_clips_in_which_something_moved(whole):
    stream = (Modality.SPATIAL, "detail")
    rows = [((0.2, None, 0.4), 0.1), ((0.9,), 0.7), ((None,), None)]
    folds = {
        name: replace(whole, overlaps=(Overlap(0, *stream, guided, center),))
        for name, (guided, center) in zip(NAMES, rows, strict=True)
    }
    (row,) = pool(folds).overlaps
    assert row.guided == (0.2, None, 0.4, 0.9, None)
    assert row.center == pytest.approx((0.1 + 0.1 + 0.7) / 3)


def test_intervals_are_over_groups(folds):
    """The mean over three folds of equal size, as Student's t would have it for three values."""
    equal = {name: part(each, slice(0, 15), each.dataset.train_clips) for name, each in folds.items()}
    found = pool(equal).compare([(SSTN, STN)]).mean
    hits = [
        [(row.answers == each.labels).mean() for row in each.frame_answers if row.cell == cell and row.seed == 0]
        + [(row.answers == each.labels).mean() for row in each.frame_answers if row.cell == cell and row.seed == 1]
        for cell in (SSTN, STN)
        for each in equal.values()
    ]
    better, worse = np.array(hits).mean(1).reshape(2, 3)
    error = 100 * (better - worse).std(ddof=1) / np.sqrt(3)
    assert np.ptp(found.clips) == pytest.approx(2 * stats.t.ppf(0.975, 2) * error, rel=0.35)
    assert found.p == pytest.approx(2 / 2**3)  # all three folds on one side


def test_a_measure_of_some_clips_resamples_their_groups(folds):
    """The window shows less than a third of the thing in the first fold's 15 clips and in 5 of the second's."""
    pooled, measure, groups = pool(folds), Measure(THING, SHARES[0]), np.repeat([0, 1], [15, 5])
    thing = np.array(CUES[THING])
    better, worse = (
        np.array([thing[row.answers] == thing[pooled.labels] for row in pooled.frame_answers if row.cell == cell])
        for cell in (SSTN, STN)
    )
    expected = significance.paired(better[:, :20], worse[:, :20], significance.draw_groups(groups), groups)
    assert pooled.compare([(SSTN, STN)], measure).mean == expected
    assert pooled.accuracies([SSTN], measure)[SSTN].correct == tuple(better[:, :20].sum(1))


def test_the_windows_shown_are_those_of_a_fold_with_the_most_classes(tmp_path):
    for name in NAMES[:2]:
        (tmp_path / name / "frames").mkdir(parents=True)
    few, many = (made_up_results(2, folder=tmp_path / name) for name in NAMES[:2])
    few = part(few, few.labels < 3, few.dataset.train_clips)
    pooled = pool({NAMES[0]: few, NAMES[1]: many})
    assert pooled.window_paths == many.window_paths
    for probe, original in zip(pooled.probe_frames, many.probe_frames, strict=True):
        assert probe.images == tuple(f"../{NAMES[1]}/{image}" for image in original.images)
        shown = [pooled.labels[clip] for clip in probe.clips]
        assert shown == [many.labels[clip] for clip in original.clips]


def test_pooled_results_are_written_read_and_reported(tmp_path, folds):
    (tmp_path / NAMES[0] / "frames").mkdir(parents=True)
    shown = made_up_results(2, folder=tmp_path / NAMES[0])
    first = replace(folds[NAMES[0]], probe_frames=shown.probe_frames, timings=(StageTime("train", 1.0),))
    run_all.report({**folds, NAMES[0]: first}, tmp_path)
    loaded = Results.load(tmp_path / "groups-all")
    assert (tmp_path / "groups-all" / "figure-7.svg").is_file()
    assert StageTime("train", 1.0 + 2 * 220.4) in loaded.timings
    assert loaded.dataset.groups == ("groups-a",) * 15 + ("groups-b",) * 25 + ("groups-c",) * 20
    text = (tmp_path / "groups-all" / "report.html").read_text()
    assert "3 folds, each tested on what it left out" in text


def test_all_folds_are_run_one_after_the_other(tmp_path, monkeypatch):
    for label in ("hug", "kick"):
        for number in (1, 2, 10):
            write(tmp_path / "data" / label / f"seq{number}.avi", moving_patch(3, number))
    runs, reports = [], []

    def run(data, output, preset, split, weights, *, choices, **others):
        runs.append((split and split.name, choices.fold))
        return f"results of {run_all.fold_name(split, choices)}"

    monkeypatch.setattr(run_all, "run", run)
    monkeypatch.setattr(run_all, "report", lambda results, output: reports.append(results))
    run_all.main(tmp_path / "data", tmp_path, groups=r"seq\d+", fold="all")
    assert runs == [(None, "seq1"), (None, "seq2"), (None, "seq10")]
    run_all.main(tmp_path / "data", tmp_path, groups=r"seq\d+", fold="seq2")
    run_all.main(tmp_path / "data", tmp_path, groups=r"seq\d+")
    assert runs[3:] == [(None, "seq2"), (None, None)]
    runs.clear()
    run_all.main(None, tmp_path, split="loso7", fold="all")
    assert runs == [(f"loso7-{subject}", None) for subject in mpii.TEST_SUBJECTS]
    assert list(reports[0]) == ["groups-seq1", "groups-seq2", "groups-seq10"]
    assert [list(each) for each in reports[1:3]] == [["groups-seq2"], [""]]


@pytest.mark.parametrize(("options", "match"), [
    ({"groups": "a", "fold": "all"}, "data must be an existing folder of classes, if clips have groups, got None"),
    ({"fold": "all"}, "only split loso7 has folds, got fold all with fixed5"),
    ({"split": "loso7", "fold": "x"}, "split loso7 needs a fold, one of subjects .*, got x"),
], ids=str)  # fmt: skip
def test_folds_of_nothing_are_refused(options, match):
    with pytest.raises(DataError, match=match):
        run_all.choose_folds(None, options.get("split"), options.get("fold"), Choices(groups=options.get("groups")))
    assert Path("groups-all").exists() is False
