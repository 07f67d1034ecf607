"""What is claimed, and which pairs of cells bear on it."""

from dataclasses import replace

import pytest

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.claims import claims
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
    assert len(claims(none)) == 4


def test_localization_networks_that_were_not_trained_are_compared_with_nothing(results):
    rows = tuple(row for row in results.frame_answers if row.cell.localizer in ("vgg-16", None))
    guidance, *_ = claims(replace(results, frame_answers=rows))
    assert [(better.localizer, better.level) for better, _ in guidance.pairs] == [
        ("vgg-16", level) for level in ("detail", "middle", "general")
    ]


def test_more_seeds_of_the_largest_difference_are_a_claim_of_their_own():
    more = claims(made_up_results(more_seeds=2))[-1]
    assert more.title == "SSTN beats STN at detail level with VGG-16, 3 seeds"
    assert more.paper == (pytest.approx(32.32 - 6.39),)
    assert "seeds" not in claims(made_up_results(2))[-1].title
