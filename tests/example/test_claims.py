"""What is claimed, and which pairs of cells bear on it."""

from dataclasses import replace
from itertools import product

import pytest

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.claims import claims, cue_views, distance_views
from examples.mpii_cooking.evaluation.measures import LESS_THAN_HALF, SHARES, Measure
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.variants import Variant
from tests.helpers.made_up import made_up_results


@pytest.fixture(scope="module")
def results():
    return made_up_results()


def without(results, *variants):
    rows = [row for row in results.frame_answers if row.cell.variant not in variants]
    return replace(results, frame_answers=tuple(rows))


def test_clear_results_hold(results):
    found = claims(results)
    assert [len(claim.pairs) for claim in found] == [9, 12, 6, 16, 2, 2, 1, 1, 1]
    assert [results.compare(claim.pairs).mean.verdict for claim in found[:4]] == [Verdict.HOLDS] * 4


def test_the_paper_s_differences_are_those_of_its_tables(results):
    printed = {pair: value for claim in claims(results) for pair, value in zip(claim.pairs, claim.paper, strict=True)}
    guidance, region, _, streams, *parts = claims(results)
    assert dict(zip(guidance.pairs, guidance.paper, strict=True))[
        results.cell(Variant.SSTN, "detail"), results.cell(Variant.STN, "detail")
    ] == pytest.approx(32.32 - 6.39)
    assert region.paper[2] == pytest.approx(56.51 - 56.68)  # general, S+T
    assert streams.paper[-2] == pytest.approx(60.09 - 55.06)  # late fusion, R_h, against the spatial stream
    assert {value for part in parts for value in part.paper} == {None}
    assert sum(value is not None for value in printed.values()) == 9 + 12 + 6 + 16


def test_fusion_is_compared_with_the_best_level(results):
    for fused, best in claims(results)[2].pairs:
        levels = [replace(best, cell=replace(best.cell, row=level)) for level in paper.LEVELS]
        means = {cell: found.mean.value for cell, found in results.precisions(levels).items()}
        assert means[best] == max(means.values())
        assert fused.cell == replace(best.cell, row=paper.FUSION)


def test_each_part_of_the_method_is_compared_with_the_variants_that_lack_it(results):
    against = [[worse.variant for _, worse in claim.pairs] for claim in claims(results)[4:]]
    assert against == [
        [Variant.STN_IDENTITY, Variant.STN_LEVEL],
        [Variant.STN_SLOW, Variant.STN_FAST],
        [Variant.FROZEN],
        [Variant.HARD_CODED],
        [Variant.GUIDED],
    ]
    for claim in claims(results)[4:]:
        assert claim.title.endswith("at detail level")
        assert {better for better, _ in claim.pairs} == {results.cell(Variant.SSTN, "detail")}


def test_variants_that_were_not_trained_are_compared_with_nothing(results):
    few = without(results, Variant.STN_IDENTITY, Variant.STN_SLOW, Variant.STN_FAST)
    assert [len(claim.pairs) for claim in claims(few)[4:]] == [1, 1, 1, 1]
    none = without(few, *results.settings.scope.variants)
    assert [claim.title for claim in claims(none)[4:]] == [
        "The learned window (SSTN) beats the hard-coded one in single frames (R_h), at detail level"
    ]


def test_localization_networks_that_were_not_trained_are_compared_with_nothing(results):
    rows = tuple(row for row in results.frame_answers if row.cell.localizer in ("vgg-16", None))
    guidance, *_ = claims(replace(results, frame_answers=rows))
    assert [(better.localizer, better.level) for better, _ in guidance.pairs] == [
        ("vgg-16", level) for level in ("detail", "middle", "general")
    ]


def test_a_claim_is_judged_by_each_cue_on_the_pairs_that_show_it(results):
    found = {
        claim.title: {view.measure.cue: view.pairs for view in cue_views(results, claim)} for claim in claims(results)
    }
    guidance, regions, fusion, streams, *parts = found.values()
    assert {cue: [better.level for better, _ in pairs] for cue, pairs in guidance.items()} == {
        "thing": ["detail", "middle"] * 3,
        "place": ["general"] * 3,
    }
    assert {cue: {(it.cell.row, it.cell.stream) for it, _ in pairs} for cue, pairs in regions.items()} == {
        "thing": set(product(("middle", "detail", "late fusion"), ("spatial", "S+T"))),
        "movement": set(product((*paper.LEVELS, "late fusion"), ("temporal", "S+T"))),
        "place": set(product(("general", "late fusion"), ("spatial", "S+T"))),
    }
    assert {worse.cell.row for _, worse in fusion["thing"]} <= {"middle", "detail"}
    assert {worse.cell.stream for _, worse in streams["movement"]} == {"temporal"}
    assert [{*part} for part in parts] == [{"thing"}] * 5


def test_only_claims_about_distance_are_judged_at_each_on_the_pairs_at_detail_level(results):
    found = [list(distance_views(results, claim)) for claim in claims(results)]
    assert [len(views) for views in found] == [4, 4, 0, 0, 4, 0, 4, 4, 4]
    for view in found[0]:
        assert [better.localizer for better, _ in view.pairs] == ["vgg-f", "vgg-m", "vgg-16"]
    assert {(it.cell.row, it.cell.stream) for it, _ in found[1][0].pairs} == {("detail", "spatial"), ("detail", "S+T")}
    assert [view.measure for view in found[2 + 2]] == [Measure("thing", it) for it in (*SHARES, LESS_THAN_HALF)]
    near = replace(results, shown=(0.9,) * len(results.labels))
    assert [view.measure.share for view in distance_views(near, claims(near)[0])] == [SHARES[2]]


def test_without_known_cues_a_claim_is_judged_by_the_paper_s_measure_alone(results):
    filmed = replace(results, dataset=replace(results.dataset, cues={}), shown=())
    views = [view for claim in claims(filmed) for of in (cue_views, distance_views) for view in of(filmed, claim)]
    assert views == []


def test_more_seeds_of_the_largest_difference_are_a_claim_of_their_own():
    more = claims(made_up_results(more_seeds=2))[-1]
    assert more.title == "SSTN beats STN at detail level with VGG-16, 3 seeds"
    assert more.paper == (pytest.approx(32.32 - 6.39),)
    assert "seeds" not in claims(made_up_results(2))[-1].title
