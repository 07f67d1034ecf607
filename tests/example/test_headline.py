"""The sentence about a run: for each outcome, with the numbers it rests on, and never better than the verdicts."""

from dataclasses import replace

import numpy as np
import pytest

from examples.mpii_cooking.evaluation.measures import LESS_THAN_HALF, THING, Measure
from examples.mpii_cooking.report.headline import headline
from examples.mpii_cooking.variants import Region, Variant
from tests.helpers.made_up import CLASSES, TEST_CLIPS, made_up_results

FAR = TEST_CLIPS // 2  # the motion window shows less than half of the thing in so many clips, the first ones
PAID, PAID_NOT = "Learned attention paid: ", "Learned attention did not pay: "
UNKNOWN = "This run cannot tell whether learned attention pays: "


def seen(results, **right):
    """The results with the thing right at detail level in the first clips of some variants, and wrong in the others."""
    of = {results.cell(Variant(name), "detail"): count for name, count in right.items()}
    wrong = (results.labels + 2) % len(CLASSES)  # another thing
    rows = [
        replace(row, answers=np.where(np.arange(TEST_CLIPS) < of[row.cell], results.labels, wrong))
        if row.cell in of
        else row
        for row in results.frame_answers
    ]
    return replace(results, frame_answers=tuple(rows))


def without_cues(results):
    return replace(results, dataset=replace(results.dataset, cues={}), shown=())


@pytest.fixture(scope="module")
def results():
    return made_up_results(3)


@pytest.mark.parametrize(
    ("learned", "hard_coded", "opening"),
    [(24, 12, PAID), (12, 24, PAID_NOT), (24, 21, UNKNOWN), (21, 24, UNKNOWN), (24, 24, UNKNOWN)],
)
def test_the_verdict_where_the_motion_window_shows_little_comes_first(results, learned, hard_coded, opening):
    found = headline(seen(results, SSTN=learned, R_h=hard_coded))
    assert found.sentence == (
        f"{opening}where the motion window shows less than half of the thing, the guided-then-free transformer tells "
        f"the thing right in {100 * learned / FAR:.0f} % of single frames, the hard-coded window in "
        f"{100 * hard_coded / FAR:.0f} %."
    )
    low, high = (
        seen(results, SSTN=learned, R_h=hard_coded)
        .compare(
            [(results.cell(Variant.SSTN, "detail"), results.cell(Variant.HARD_CODED, "detail"))],
            Measure(THING, LESS_THAN_HALF),
        )
        .mean.interval
    )
    points = 100 * (learned - hard_coded) / FAR
    assert found.details.startswith(
        f"The difference is {points:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}, in 30 of 60 test clips. "
    )


@pytest.mark.parametrize(
    ("frozen", "verdict", "percent"),
    [
        (9, "Setting it free helped", 30),
        (30, "Setting it free did harm", 100),
        (20, "It is not clear whether setting it free helped", 67),
    ],
)
def test_what_setting_free_added_is_said_for_itself(results, frozen, verdict, percent):
    words = f"{verdict}: at detail level the thing is right in 70 % of single frames, and in {percent} % if"
    assert words in headline(seen(results, SSTN=21, frozen=frozen)).details


def test_a_gain_in_other_clips_does_not_make_the_headline(results):
    """Right wherever the window shows the thing, but no better where it does not."""
    assert headline(seen(results, SSTN=60, R_h=30)).sentence.startswith(UNKNOWN)


def test_all_clips_count_where_distances_are_not_known(results):
    found = headline(seen(replace(results, shown=()), SSTN=48, R_h=30))
    assert found.sentence == (
        f"{PAID}the guided-then-free transformer tells the thing right in 80 % of single frames, the hard-coded window "
        "in 50 %."
    )
    assert ", in 60 test clips." in found.details


def swapped(region):
    return Region.HARD_CODED if region is Region.LEARNED else Region.LEARNED


@pytest.mark.parametrize(
    ("source", "opening"),
    [(lambda region: region, PAID), (swapped, PAID_NOT), (lambda region: Region.LEARNED, UNKNOWN)],
    ids=["holds", "fails", "inconclusive"],
)
def test_clips_that_were_filmed_are_judged_by_the_claim_about_their_regions(results, source, opening):
    scores = {
        (seed, pooled): results.scores[
            seed, replace(pooled, cell=replace(pooled.cell, region=source(pooled.cell.region)))
        ]
        for seed, pooled in results.scores
        if pooled.pooling == results.settings.evaluation.poolings[0]
    }
    found = headline(without_cues(replace(results, scores=scores)))
    assert found.sentence.startswith(f"{opening}on average over levels and streams, mean average precision is ")
    assert "the class is right in" in found.details


def test_a_run_without_the_frozen_window_says_nothing_of_setting_free(results):
    rows = [row for row in results.frame_answers if row.cell.variant is not Variant.FROZEN]
    found = headline(without_cues(replace(results, frame_answers=tuple(rows))))
    assert found.details.endswith(", in 60 test clips.")
