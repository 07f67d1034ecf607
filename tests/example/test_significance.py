"""Intervals and paired tests, against enumeration, scipy, scikit-learn and their own promise to cover the truth."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score

from examples.mpii_cooking.evaluation import significance
from examples.mpii_cooking.evaluation.significance import Estimate, Verdict


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (61, 224), (657, 2033)])
def test_wilson_interval_is_that_of_scipy(correct, total):
    expected = stats.binomtest(correct, total).proportion_ci(0.95, method="wilson")
    assert significance.wilson(correct, total) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-10)


def test_mcnemar_counts_only_the_clips_that_differ():
    ours, theirs = np.zeros(50, bool), np.zeros(50, bool)
    ours[:6], theirs[5:7] = True, True
    # Five wins against one loss; the clip that both have and the 43 that neither has say nothing: 2 (1 + 6) / 2^6.
    assert significance.mcnemar(ours, theirs) == pytest.approx(14 / 64)
    assert significance.mcnemar(ours, ours) == 1.0


@settings(max_examples=50)
@given(wins=st.integers(0, 300), losses=st.integers(0, 300))
def test_mcnemar_is_the_binomial_test_of_wins_against_losses(wins, losses):
    ours = np.arange(wins + losses + 3) < wins
    theirs = (np.arange(wins + losses + 3) >= wins) & (np.arange(wins + losses + 3) < wins + losses)
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert significance.mcnemar(ours, theirs) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), seeds=st.integers(1, 4))
def test_mcnemar_of_several_seeds_flips_the_signs_of_a_clip_together(seed, seeds):
    better, worse = np.random.default_rng(seed).random((2, seeds, 9)) < np.array([0.7, 0.4])[:, None, None]
    sums = better.sum(0) - worse.sum(0)
    turned = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=9)]
    assert significance.mcnemar(better, worse) == pytest.approx(np.mean(np.array(turned) >= abs(sums.sum())))


def test_seed_interval_is_student_s():
    values = [61.0, 64.0, 62.5, 60.0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert significance.seed_interval(values) == pytest.approx((expected.low, expected.high))
    assert significance.seed_interval([61.0]) is None
    assert significance.seed_interval([61.0, 61.0]) == (61.0, 61.0)


def naive_map(scores, truth, chosen):
    present = np.unique(truth[chosen])
    return np.mean([average_precision_score(truth[chosen] == k, scores[chosen, k]) for k in present])


@settings(max_examples=25)
@given(seed=st.integers(0, 2**16), clips=st.integers(2, 25), classes=st.integers(1, 5), ties=st.booleans())
def test_bootstrap_is_resampling_with_scikit_learn_s_average_precision(seed, clips, classes, ties):
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(3, clips, classes)).round(0 if ties else 9).astype(np.float32)
    truth = rng.integers(0, classes, clips)
    draws = significance.draw(clips, resamples=5, seed=seed)
    chosen = [np.repeat(np.arange(clips), counts.astype(int)) for counts in draws.T]
    for cell in cells:
        expected = [naive_map(cell, truth, those) for those in chosen]
        np.testing.assert_allclose(significance.bootstrap_map(cell, truth, draws), expected, rtol=1e-12)


def test_every_resample_has_as_many_clips_as_there_are():
    draws = significance.draw(40, resamples=200, seed=1)
    assert draws.shape == (40, 200)
    assert (draws.sum(0) == 40).all()
    assert draws.mean(1) == pytest.approx(np.ones(40), abs=5 / math.sqrt(200))
    assert (significance.draw(40, 200, 1) == draws).all()


def test_the_interval_lies_around_the_value_though_resamples_lift_rare_classes():
    """One clip per class, ranked third: drawn twice it is the first two of four, so resamples average more than 1/3."""
    scores, truth = np.zeros((60, 60), np.float32), np.arange(60)
    scores[truth, truth] = 1
    for step in (1, 2):
        scores[(truth + step) % 60, truth] = 2
    maps = significance.bootstrap_map(scores, truth, significance.draw(60))
    assert np.percentile(maps, 2.5) > 1 / 3
    assert sum(significance.bootstrap_interval(1 / 3, maps)) / 2 == pytest.approx(1 / 3, abs=0.01)


def test_intervals_over_clips_cover_the_truth_as_often_as_they_claim():
    """1000 test sets of 150 clips, on which one variant is truly 15 points better: 950 of them, give or take 18."""
    rng = np.random.default_rng(0)
    draws = significance.draw(150, resamples=400)
    covered = 0
    for _ in range(1000):
        better, worse = rng.random((2, 1, 150)) < np.array([0.7, 0.55])[:, None, None]
        low, high = significance.paired(better, worse, draws).clips
        covered += low <= 15 <= high
    assert abs(covered - 950) <= 18


def test_the_clips_of_a_group_are_drawn_and_turned_together():
    groups = np.array([0, 1, 1, 2, 0])
    np.testing.assert_array_equal(significance.draw_groups(groups), significance.draw(3)[groups])
    better, worse = np.array([[1, 1, 1, 0, 1], [0, 0, 0, 1, 0]], bool)
    sums = np.array([2, 2, -1])
    turned = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=3)]
    expected = np.mean(np.array(turned) >= abs(sums.sum()))
    assert significance.mcnemar(better, worse, groups) == pytest.approx(expected)


def test_intervals_over_groups_cover_the_truth_as_often_as_they_claim():
    """1000 times ten groups of six clips, which are right or wrong together: 950, where single clips cover 570."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 6)
    covered = {"groups": 0, "clips": 0}
    for _ in range(1000):
        better = np.repeat(rng.normal(0.15, 1, 10), 6)[None] > 0
        worse = np.zeros_like(better)
        truth = 100 * stats.norm.cdf(0.15)
        together = significance.paired(better, worse, significance.draw_groups(groups), groups)
        alone = significance.paired(better, worse, significance.draw(60))
        for name, (low, high) in (("groups", together.clips), ("clips", alone.clips)):
            covered[name] += low <= truth <= high
    assert 930 <= covered["groups"] <= 985
    assert covered["clips"] < 700


def test_a_paired_difference_is_taken_seed_by_seed_and_clip_by_clip():
    rng = np.random.default_rng(2)
    better, worse = rng.random((2, 2, 3, 80)) < np.array([0.8, 0.4])[:, None, None, None]  # 2 networks, 3 seeds
    found = significance.paired(better, worse, significance.draw(80))
    by_seed = 100 * (better.mean((0, 2)) - worse.mean((0, 2)))
    assert found.value == pytest.approx(by_seed.mean())
    assert found.seeds == pytest.approx(significance.seed_interval(by_seed))
    clip_error = 100 * (better.mean((0, 1)) - worse.mean((0, 1))).std() / math.sqrt(80)
    assert found.clips == pytest.approx((found.value - 1.96 * clip_error, found.value + 1.96 * clip_error), abs=1)
    assert found.p == significance.mcnemar(better, worse)


@pytest.mark.parametrize(
    ("clips", "seeds", "p", "verdict"),
    [
        ((1, 5), None, None, Verdict.HOLDS),
        ((1, 5), (0.5, 6), 0.01, Verdict.HOLDS),
        ((1, 5), (-1, 7), 0.01, Verdict.INCONCLUSIVE),
        ((-1, 5), (2, 4), 0.2, Verdict.INCONCLUSIVE),
        ((1, 5), None, 0.05, Verdict.INCONCLUSIVE),
        ((0, 5), None, None, Verdict.INCONCLUSIVE),
        ((-5, -1), (-6, -1), 0.01, Verdict.FAILS),
        ((-5, -1), (-6, 1), 0.01, Verdict.INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_every_interval_on_one_side_and_the_test(clips, seeds, p, verdict):
    assert Estimate(3.0, clips, seeds, p).verdict is verdict


def test_three_wins_and_no_loss_are_not_beyond_chance():
    """No resample has a difference below zero, but three coins may well fall on one side."""
    found = significance.paired(np.ones((1, 3), bool), np.zeros((1, 3), bool), significance.draw(3))
    assert found.clips == (100, 100)
    assert found.p == pytest.approx(0.25)
    assert found.verdict is Verdict.INCONCLUSIVE


def test_the_interval_of_an_estimate_covers_both_of_its_intervals():
    assert Estimate(3.0, (1, 5), (2, 6)).interval == (1, 6)
    assert Estimate(3.0, (1, 5), None).interval == (1, 5)


def test_intervals_end_where_values_do():
    assert Estimate(3.0, (-1, 5), (2, 106)).within(0) == Estimate(3.0, (0, 5), (2, 100))
    assert Estimate(3.0, (-1, 5), None).within(-100) == Estimate(3.0, (-1, 5), None)
