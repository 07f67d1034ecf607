"""What the example trains, in which order, and what each network starts from."""

import dataclasses

import pytest
import torch

from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.runs import Run, all_runs, build, extra_runs, planned_runs
from examples.mpii_cooking.variants import Group, Modality, Phase, Variant, Window
from tests.helpers.made_up_samples import CLASSES, DETAIL, PRESET, made_up, variant_of


@pytest.mark.parametrize(("variant", "side"), [("STN-identity", 1.0), ("STN-level", 0.25)])
def test_heads_that_are_not_random_start_with_the_window_they_name(variant, side):
    transformer = build(variant_of(variant, DETAIL), CLASSES, PRESET).transformer
    window = torch.tensor([[side, 0, 0], [0, side, 0]])
    assert torch.equal(transformer.localize(made_up(2, DETAIL).image), window.expand(2, 2, 3))


@pytest.mark.parametrize(
    "variant",
    ["SSTN", "SSTN-slow", "frozen", "guided", "annealed", "STN-identity", "STN-level", "STN-slow", "STN-fast"],
)
def test_variants_start_from_the_weights_of_the_stn_but_for_heads_that_are_not_random(variant):
    stn, other = (build(variant_of(name, DETAIL), CLASSES, PRESET).state_dict() for name in ("STN", variant))
    head = {"transformer.head.weight", "transformer.head.bias"} if Variant(variant).traits.head != "gaussian" else set()
    assert stn.keys() == other.keys()
    assert {name for name in stn if not torch.equal(stn[name], other[name])} == head


def test_what_follows_guidance_starts_from_the_guided_transformer():
    guide = Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-16", Variant.SSTN)
    runs = extra_runs(PRESETS["standard"])
    guided = {variant for variant in Variant if variant.traits.group is Group.GUIDED}
    assert guided == {Variant(key) for key in ("frozen", "SSTN", "SSTN-slow", "guided", "annealed")}
    assert {run.variant for run in runs} >= guided - {Variant.SSTN}
    for run in runs:
        follows = run.variant in guided
        assert run.origins().get("transformer") == (dataclasses.replace(guide, level=run.level) if follows else None)
        assert run.origins()["classifier"] == Run(Phase.RECOGNITION, Modality.SPATIAL, run.level)


@pytest.mark.parametrize(
    ("name", "behind_tables", "extra"), [("smoke", 45, 4), ("quick", 27, 0), ("standard", 45, 9), ("paper", 45, 27)]
)
def test_every_run_comes_after_those_it_starts_from_and_has_a_unique_name(name, behind_tables, extra):
    runs = all_runs(PRESETS[name])
    for place, run in enumerate(runs):
        assert set(run.origins().values()) <= set(runs[:place])
    assert len(extra_runs(PRESETS[name])) == extra
    assert len({run.name for run in runs}) == len(runs) == behind_tables + extra


def test_a_seed_may_train_one_comparison_and_what_it_starts_from():
    """As the extra seeds of quick do."""
    preset = PRESETS["quick"]
    everything, *few = (planned_runs(preset, plan) for plan in preset.seeds)
    assert everything == all_runs(preset)
    assert [[run.name for run in runs] for runs in few] == 2 * [
        [
            "recognize-spatial-detail",
            "guide-spatial-detail-vgg-16-sstn",
            "joint-spatial-detail-vgg-16-sstn",
            "joint-spatial-detail-vgg-16-stn",
        ]
    ]
    plan = SeedPlan(1, only=((Variant.RANDOM_CROP, "general"),))
    assert [run.name for run in planned_runs(preset, plan)] == ["recognize-spatial-general"]


def test_variants_that_classify_what_a_transformer_shows_have_one():
    for variant in Variant:
        assert (variant.traits.window is Window.TRANSFORMER) == (variant.traits.phase is Phase.JOINT)


def test_runs_keep_the_names_that_seed_their_random_numbers():
    seeds = {run.name: run.seed_name for run in all_runs(PRESETS["standard"])}
    assert seeds["recognize-temporal-middle"] == "recognise-temporal-middle"
    assert seeds["baseline-spatial-detail-center"] == "baseline-spatial-detail-centre"
    assert seeds["baseline-temporal-general-r_h"] == "baseline-temporal-general-r_h"
    assert seeds["joint-spatial-detail-vgg-16-stn-identity"] == "joint-spatial-detail-vgg-16-stn-identity"
