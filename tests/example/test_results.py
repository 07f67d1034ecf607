"""What follows from a run's answers and scores, against brute force; and what its files say when they do not fit."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from examples.mpii_cooking import paper
from examples.mpii_cooking.data import mpii
from examples.mpii_cooking.evaluation import schema, significance
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, POOLING_CELL, ClipCell, FrameCell
from examples.mpii_cooking.evaluation.measures import LESS_THAN_HALF, SHARES, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.scores import labels
from examples.mpii_cooking.evaluation.stored import ResultsError
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Modality, Region, Variant
from tests.helpers.made_up import CLASSES, CUES, TEST_CLIPS, made_up_results

SSTN, STN = (FrameCell(variant, "detail", "vgg-16") for variant in (Variant.SSTN, Variant.STN))


@pytest.fixture(scope="module")
def results():
    return made_up_results(3, more_seeds=2)


def answers_of(results, cell):
    return np.array([row.answers for row in results.frame_answers if row.cell == cell])


def test_an_accuracy_is_the_mean_over_seeds_with_both_intervals(results):
    cell = FrameCell(Variant.HARD_CODED, "middle", None)
    (found,) = results.accuracies([cell]).values()
    hits = answers_of(results, cell) == results.labels
    assert found.correct == tuple(hits.sum(1))
    assert found.by_seed == pytest.approx(100 * hits.mean(1))
    assert found.mean.value == pytest.approx(100 * hits.mean())
    assert found.mean.clips == pytest.approx(significance.wilson(hits.mean() * TEST_CLIPS, TEST_CLIPS))
    assert found.mean.seeds == pytest.approx(significance.seed_interval(found.by_seed))


def test_every_question_is_answered_from_the_seeds_that_have_all_of_its_cells(results):
    assert results.seeds == (0, 1, 2)
    other = FrameCell(Variant.HARD_CODED, "detail", None)
    assert [len(found.correct) for found in results.accuracies([SSTN, STN]).values()] == [5, 5]
    assert [len(found.correct) for found in results.accuracies([SSTN, other]).values()] == [3, 3]
    assert results.compare([(SSTN, STN)]).seeds == (0, 1, 2, 3, 4)
    assert results.compare([(SSTN, STN), (SSTN, other)]).seeds == (0, 1, 2)
    missing = FrameCell(Variant.CENTER, "general", None)
    assert not results.has([SSTN, missing])
    with pytest.raises(KeyError, match="no seed has results for all of FrameCell"):
        results.accuracies([SSTN, missing])


def right_things(results, answers):
    """Where the thing is right, in the clips of which the window shows less than a third: the first twenty."""
    thing = np.array(CUES["thing"])
    return (thing[answers] == thing[results.labels])[..., :20]


def test_a_measure_counts_its_cue_in_its_clips(results):
    measure = Measure(THING, SHARES[0])
    assert results.clips(measure).tolist() == [*range(20)]
    (found,) = results.accuracies([SSTN], measure).values()
    hits = right_things(results, answers_of(results, SSTN))
    assert found.correct == tuple(hits.sum(1))
    assert found.mean.value == pytest.approx(100 * hits.mean())
    assert found.mean.clips == pytest.approx(significance.wilson(20 * hits.mean(), 20))
    worse = right_things(results, answers_of(results, STN))
    difference = results.compare([(SSTN, STN)], measure).mean
    assert difference == significance.paired(hits, worse, significance.draw(20))


def test_shares_divide_the_clips_and_none_count_where_they_are_not_known(results):
    everywhere = replace(results, shown=(0.0, 1 / 3, 0.5, 2 / 3, 1.0) * 12)
    parts = [everywhere.clips(Measure(THING, share)).tolist() for share in SHARES]
    assert sorted(itertools.chain(*parts)) == [*range(TEST_CLIPS)]
    assert [part[:2] for part in parts] == [[0, 5], [1, 2], [3, 4]]
    assert everywhere.clips(Measure(THING, LESS_THAN_HALF)).tolist() == [i for i in range(60) if i % 5 < 2]
    assert len(replace(results, shown=()).clips(Measure(THING, SHARES[0]))) == 0


def test_clips_are_right_by_a_cue_if_their_highest_score_has_it(results):
    pair = tuple(results.pooled(ClipCell("detail", "spatial", region)) for region in Region)
    answers = [np.array([results.scores[seed, cell].argmax(1) for seed in results.seeds]) for cell in pair]
    found = results.compare([pair], Measure(THING, SHARES[0])).mean
    assert found == significance.paired(*(right_things(results, each) for each in answers), significance.draw(20))


def test_networks_that_give_one_answer_only_are_counted(results):
    rows = [replace(row, answers=np.zeros_like(row.answers)) if row.seed else row for row in results.frame_answers]
    found = replace(results, frame_answers=tuple(rows)).accuracies([SSTN])[SSTN]
    assert found.constant == 4


def test_a_precision_is_that_of_scikit_learn_with_the_bootstrap_s_interval(results):
    pooled = results.pooled(ClipCell("detail", "S+T", Region.LEARNED))
    (found,) = results.precisions([pooled]).values()
    scores = [results.scores[seed, pooled] for seed in results.seeds]
    tested = range(len(CLASSES) - 1)
    expected = 100 * np.array(
        [[average_precision_score(results.labels == k, seed[:, k]) for k in tested] for seed in scores]
    )
    assert found.by_seed == pytest.approx(expected.mean(1))
    assert found.mean.value == pytest.approx(expected.mean())
    assert found.per_class[:-1] == pytest.approx(tuple(expected.mean(0)))
    assert found.per_class[-1] is None
    assert found.trained == pytest.approx(np.delete(expected, 1, axis=1).mean())
    np.testing.assert_array_equal(found.answers, np.argmax(scores, axis=2))
    draws = significance.draw(TEST_CLIPS)
    resampled = [100 * significance.bootstrap_map(seed, results.labels, draws) for seed in scores]
    spread = np.ptp(np.percentile(np.mean(resampled, axis=0), [2.5, 97.5]))
    assert np.ptp(found.mean.clips) == pytest.approx(spread)
    assert found.mean.seeds == pytest.approx(significance.seed_interval(found.by_seed))


def test_a_class_without_training_clips_counts_in_one_mean_and_not_in_the_other():
    pooled = made_up_results().pooled(POOLING_CELL)
    scores = {(0, pooled): np.array([[2.0, 1, 0], [0, 2, 0], [0, 0, 0], [1, 0, 0]], np.float32)}
    dataset = replace(made_up_results().dataset, classes=("a", "b", "c"), train_clips=(1, 1, 0))
    small = made_up_results(dataset=dataset, labels=np.array([0, 1, 2, 2]), scores=scores)
    (found,) = small.precisions([pooled]).values()
    assert small.untrained == (2,)
    assert found.per_class == pytest.approx((100, 100, 50))
    assert found.mean.value == pytest.approx(250 / 3)
    assert found.trained == pytest.approx(100)
    (found,) = replace(small, labels=np.array([2, 2, 2, 2])).precisions([pooled]).values()
    assert found.trained is None


def test_accuracies_are_compared_pair_by_pair_and_seed_by_seed(results):
    pairs = [
        (FrameCell(Variant.SSTN, level, "vgg-m"), FrameCell(Variant.STN, level, "vgg-m"))
        for level in ("general", "detail")
    ]
    found = results.compare(pairs)
    hits = [[answers_of(results, cell) == results.labels for cell in pair] for pair in pairs]
    for (better, worse), difference in zip(hits, found.pairs, strict=True):
        assert difference.better == pytest.approx(100 * better.mean(1))
        assert difference.mean.value == pytest.approx(100 * (better.mean() - worse.mean()))
        assert difference.mean.p == pytest.approx(significance.mcnemar(better, worse))
    by_seed = [np.mean([d.better[seed] - d.worse[seed] for d in found.pairs]) for seed in results.seeds]
    assert found.mean.value == pytest.approx(np.mean(by_seed))
    assert found.mean.seeds == pytest.approx(significance.seed_interval(by_seed))


def test_precisions_are_compared_on_the_same_resamples(results):
    learned, hard_coded = (results.pooled(ClipCell("middle", "temporal", region)) for region in Region)
    fused = results.pooled(POOLING_CELL)
    found = results.compare([(learned, hard_coded), (fused, learned)])
    maps = {cell: np.array(it.by_seed) for cell, it in results.precisions([learned, hard_coded, fused]).items()}
    by_seed = np.array([maps[learned] - maps[hard_coded], maps[fused] - maps[learned]])
    assert [difference.mean.value for difference in found.pairs] == pytest.approx(by_seed.mean(1))
    assert found.mean.value == pytest.approx(by_seed.mean())
    assert found.mean.seeds == pytest.approx(significance.seed_interval(by_seed.mean(0)))
    draws = significance.draw(TEST_CLIPS)
    resampled = {
        cell: [significance.bootstrap_map(results.scores[s, cell], results.labels, draws) for s in results.seeds]
        for cell in maps
    }
    mean = np.mean([np.mean(resampled[fused], axis=0), -np.mean(resampled[hard_coded], axis=0)], axis=0)
    assert np.ptp(found.mean.clips) == pytest.approx(np.ptp(np.percentile(100 * mean, [2.5, 97.5])))
    assert found.mean.p is None


def test_accuracies_of_clips_in_groups_have_the_interval_of_their_means(results):
    names = tuple("abcdefghij"[clip % 10] for clip in range(TEST_CLIPS))
    grouped = replace(results, dataset=replace(results.dataset, groups=names))
    found = grouped.accuracies([SSTN])[SSTN].mean
    hits = (answers_of(results, SSTN) == results.labels).mean(0)
    by_group = 100 * hits.reshape(-1, 10).mean(0)
    low, high = stats.ttest_1samp(by_group, 0).confidence_interval(0.95)
    assert found.value == results.accuracies([SSTN])[SSTN].mean.value
    assert np.ptp(found.clips) == pytest.approx(high - low, rel=0.1)
    alike = replace(results, dataset=replace(results.dataset, groups=("a",) * TEST_CLIPS))
    assert alike.accuracies([SSTN])[SSTN].mean == results.accuracies([SSTN])[SSTN].mean, "one group tells nothing"


def test_one_seed_says_nothing_about_others():
    one = made_up_results()
    means = [it.mean for it in one.accuracies([SSTN, STN]).values()]
    means += [it.mean for it in one.precisions([one.pooled(cell) for cell in CLIP_CELLS]).values()]
    means += [one.compare([(SSTN, STN)]).mean]
    assert all(mean.seeds is None and mean.interval == mean.clips for mean in means)


def test_overlaps_are_means_over_seeds_unless_nothing_moved():
    def found(*guided):
        rows = [schema.Overlap(seed, Modality.SPATIAL, "detail", ious, center=0.2) for seed, ious in enumerate(guided)]
        return made_up_results(overlaps=tuple(rows)).overlap(Modality.SPATIAL, "detail")

    moved = found((0.3, None, 0.5), (0.8, 0.8, None))
    assert moved.by_seed == pytest.approx((0.4, 0.8))
    assert (moved.mean, moved.above_half) == pytest.approx((0.6, 0.5))
    assert (moved.moved, moved.total) == (2, 3)
    assert moved.interval == pytest.approx(significance.seed_interval([0.4, 0.8]))
    once = found((0.4, None), (None, None))
    assert (once.mean, once.interval, once.by_seed) == (0.4, None, (0.4, None))
    assert found((None,), (None,)).mean is None


def test_overlaps_are_from_the_seeds_that_have_all_streams():
    results = made_up_results(2)
    one_stream = schema.Overlap(2, Modality.SPATIAL, "detail", (0.0,) * TEST_CLIPS, 0.0)
    more = replace(results, overlaps=(*results.overlaps, one_stream))
    assert more.overlap(Modality.SPATIAL, "detail") == results.overlap(Modality.SPATIAL, "detail")


def test_always_answering_the_largest_training_class_has_an_accuracy():
    dataset = replace(made_up_results().dataset, train_clips=(3, 0, 7, 7, 1, 1, 1, 1))
    found = made_up_results(dataset=dataset)
    assert found.majority == 2
    assert found.majority_accuracy == pytest.approx(100 * np.mean(found.labels == 2))


def test_what_was_trained_is_read_off_the_answers(results):
    assert results.localizers == ("vgg-f", "vgg-m", "vgg-16")
    assert results.variant_levels == ("detail",)
    assert results.variants == tuple(Variant)
    few = [row for row in results.frame_answers if row.cell.localizer in (None, "vgg-16")]
    few = [row for row in few if row.cell.variant in (Variant.STN, Variant.SSTN, Variant.HARD_CODED)]
    small = replace(results, frame_answers=tuple(few))
    assert (small.localizers, small.variant_levels) == (("vgg-16",), ())
    assert small.variants == (Variant.HARD_CODED, Variant.STN, Variant.SSTN)


def test_saved_results_are_loaded_as_they_were(results, tmp_path):
    whole = replace(results, probe_frames=(schema.ProbeFrames("detail", ("a.png",), (0,), (12,), np.eye(2, 3)[None]),))
    whole.save(tmp_path)
    loaded = Results.load(tmp_path)
    assert encode(replace(loaded, scores={})) == encode(replace(whole, scores={}))
    assert loaded.scores.keys() == whole.scores.keys()
    assert all(np.array_equal(loaded.scores[key], whole.scores[key]) for key in whole.scores)
    assert loaded.scores[0, whole.pooled(POOLING_CELL)].dtype == np.float32
    assert len((tmp_path / "results.json").read_text().splitlines()) > len(whole.frame_answers)  # a row a line


@pytest.fixture
def spoiled(tmp_path):
    """Returns a folder whose results.json was changed."""

    def folder(change):
        made_up_results().save(tmp_path)
        content = json.loads((tmp_path / "results.json").read_text())
        del content["digest"]  # as version 0.3.0 wrote it
        change(content)
        (tmp_path / "results.json").write_text(json.dumps(content))
        return tmp_path

    return folder


def drop(content, name):
    del content[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=2), "has schema 2, expected 4.*run the same command again"),
        (lambda content: drop(content, "schema"), "has schema None, expected 4"),
        (lambda content: content.update(extra=[]), "extra: Unexpected"),
        (lambda content: drop(content, "labels"), "labels: Field required"),
        (
            lambda content: content["overlaps"][3].update(modality="sound"),
            r"overlaps\.3\.modality: Input should be 'spatial' or 'temporal'",
        ),
        (lambda content: content["dataset"]["cues"]["thing"].pop(), "thing must have 8 values, got 7"),
        (lambda content: content["shown"].pop(), "shown must have 60 shares, got 59"),
        (lambda content: content["labels"].pop(), r"must have shape \(59,\) and classes below 8"),
        (
            lambda content: content["frame_answers"][0]["answers"].__setitem__(0, 8),
            r"must have shape \(60,\) and classes below 8",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused_by_name(spoiled, change, message):
    with pytest.raises(ResultsError, match=message):
        Results.load(spoiled(change))


def test_results_that_were_changed_are_refused(spoiled):
    path = spoiled(lambda content: content.update(digest="0"))
    with pytest.raises(ResultsError, match=r"results\.json was changed since it was written; run the same command"):
        Results.load(path)


def test_scores_that_were_changed_are_refused(tmp_path):
    made_up_results().save(tmp_path)
    path = tmp_path / "scores.npz"
    content = path.read_bytes()
    for position in range(0, len(content), len(content) // 50):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ResultsError, match=r"scores\.npz was changed since it was written; run the same command"):
            Results.load(tmp_path)
    path.write_bytes(content)
    Results.load(tmp_path)


def test_missing_files_and_scores_of_another_shape_are_refused_by_name(tmp_path):
    with pytest.raises(ResultsError, match=r"results\.json is missing: a run writes it at its end"):
        Results.load(tmp_path)
    results = made_up_results()
    results.save(tmp_path)
    (tmp_path / "scores.npz").unlink()
    with pytest.raises(ResultsError, match=r"scores\.npz is missing: it belongs to the results\.json"):
        Results.load(tmp_path)
    replace(results, scores={key: scores[:, :3] for key, scores in results.scores.items()}).save(tmp_path)
    with pytest.raises(ResultsError, match=r"rbf/general/spatial/R_d must be finite numbers of shape \(60, 8\)"):
        Results.load(tmp_path)


def test_always_answering_the_largest_training_class_is_the_paper_s_worst_baseline(mpii_folder, monkeypatch):
    """130/2033 = 6.39 %, the STN of VGG-16 at detail level."""
    monkeypatch.setattr(mpii, "_find_videos", lambda *_: {})
    real = mpii.read_dataset(mpii_folder)
    counts = np.bincount(labels(real.train), minlength=len(real.classes))
    dataset = replace(made_up_results().dataset, classes=real.classes, train_clips=tuple(counts.tolist()))
    found = made_up_results(dataset=dataset, labels=labels(real.test))
    assert real.classes[found.majority] == "take out from drawer"
    assert f"{found.majority_accuracy:.2f}" == paper.TABLE_2["vgg-16", "detail", Variant.STN]
