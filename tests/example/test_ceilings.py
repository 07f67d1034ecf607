"""The best that a stream allows, against every way to answer and to rank."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from examples.mpii_cooking import paper
from examples.mpii_cooking.data.kitchen import ACTIVITIES, Activity
from examples.mpii_cooking.evaluation import ceilings
from examples.mpii_cooking.evaluation.cells import CLIP_ROWS, ClipCell
from examples.mpii_cooking.evaluation.measures import SHARES, Measure
from examples.mpii_cooking.evaluation.tables import clip_ceilings, frame_ceilings
from examples.mpii_cooking.variants import Region, Variant
from tests.helpers.made_up import made_up_results


def test_levels_and_streams_show_the_cues_that_they_were_made_for():
    found = {(row, stream): set(ceilings.shown_cues(row, stream)) for row, stream in product(CLIP_ROWS, paper.STREAMS)}
    still = {"general": {"place"}, "middle": {"thing"}, "detail": {"thing"}, "late fusion": {"thing", "place"}}
    expected = {(row, "spatial"): cues for row, cues in still.items()}
    expected |= {(row, "temporal"): {"movement"} for row in still}
    expected |= {(row, "S+T"): cues | {"movement"} for row, cues in still.items()}
    assert found == expected


@pytest.mark.parametrize("seed", range(5))
def test_the_best_accuracy_is_that_of_the_best_of_all_ways_to_answer(seed):
    rng = np.random.default_rng(seed)
    groups, truth = rng.integers(0, 4, 30).tolist(), rng.integers(0, 3, 30).tolist()
    ways = product(range(3), repeat=4)
    right = (np.mean([way[group] == label for group, label in zip(groups, truth, strict=True)]) for way in ways)
    assert ceilings.best_accuracy(groups, truth) == pytest.approx(100 * max(right))


@pytest.mark.parametrize("seed", range(5))
def test_the_best_precision_is_that_of_the_best_of_all_ways_to_rank(seed):
    rng = np.random.default_rng(seed)
    group_of = rng.integers(0, 3, 5)  # of each class
    labels = np.concatenate([np.arange(5), rng.integers(0, 5, 25)])
    groups = group_of[labels]
    present = np.unique(groups)
    ranks = [dict(zip(present, way, strict=True)) for way in permutations(range(len(present)))]
    best = [
        max(average_precision_score(labels == label, [rank[group] for group in groups]) for rank in ranks)
        for label in range(5)
    ]
    assert ceilings.best_precision(groups.tolist(), labels.tolist()) == pytest.approx(100 * np.mean(best))


def test_the_kitchen_allows_what_its_documentation_says():
    """Every class as often as the others: three quarters by the thing, three eighths by the place, half by flow."""
    cues = dict(zip(Activity._fields, zip(*ACTIVITIES, strict=True), strict=True))
    names = tuple(activity.name for activity in ACTIVITIES)
    made = made_up_results()
    dataset = replace(made.dataset, classes=names, cues=cues, train_clips=(7,) * len(names))
    results = replace(made, dataset=dataset, labels=np.arange(8).repeat(7))
    assert frame_ceilings(results) == {"general": 37.5, "middle": 75, "detail": 75}
    found = clip_ceilings(results)
    assert [found[row]["spatial"] for row in CLIP_ROWS] == [37.5, 75, 75, 87.5]
    assert {found[row]["temporal"] for row in CLIP_ROWS} == {50}
    assert found["detail"]["S+T"] == 87.5
    assert found["late fusion"]["S+T"] == 100


def test_a_ceiling_is_weighted_by_the_test_clips_that_count():
    results = made_up_results(labels=np.array([0] * 5 + [1] * 2 + [4] * 3), shown=(0.9,) * 4 + (0.1,) * 6)
    cell = results.cell(Variant.SSTN, "detail")
    assert ceilings.ceiling(results, cell) == 80  # classes 0 and 1 are the same thing; 5 + 3 of 10 are right
    assert ceilings.ceiling(results, cell, Measure("thing")) == 100
    assert ceilings.ceiling(results, cell, Measure("movement")) == 80  # of thing 0, five of seven move in one way
    assert ceilings.ceiling(results, cell, Measure("place")) == 100  # each of these things has one place
    assert ceilings.ceiling(results, cell, Measure(None, SHARES[0])) == pytest.approx(100 * 5 / 6)
    pooled = results.pooled(ClipCell("detail", "spatial", Region.LEARNED))
    assert ceilings.ceiling(results, pooled) == pytest.approx(100 * (5 / 7 + 2 / 7 + 1) / 3)
    assert ceilings.ceiling(results, pooled, Measure(None, SHARES[0])) == pytest.approx(100 * 5 / 6)


def test_without_known_cues_there_are_no_ceilings():
    made = made_up_results()
    results = replace(made, dataset=replace(made.dataset, cues={}))
    assert frame_ceilings(results) == {}
    assert clip_ceilings(results) == {}
