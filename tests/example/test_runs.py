"""What the example trains, in which order, and what each network starts from."""

import dataclasses

import pytest
import torch

from examples.mpii_cooking.config import PRESETS
from examples.mpii_cooking.training.runs import AFTER_GUIDANCE, HEADS, Run, all_runs, build, extra_runs
from tests.helpers.made_up_samples import CLASSES, DETAIL, PRESET, made_up, variant_of


@pytest.mark.parametrize(("variant", "side"), [("STN-identity", 1.0), ("STN-level", 0.25)])
def test_heads_that_are_not_random_start_with_the_window_they_say(variant, side):
    transformer = build(variant_of(variant, DETAIL), CLASSES, PRESET)["transformer"]
    window = torch.tensor([[side, 0, 0], [0, side, 0]])
    assert torch.equal(transformer.localize(made_up(2, DETAIL).image), window.expand(2, 2, 3))


@pytest.mark.parametrize(
    "variant",
    ["SSTN", "SSTN-slow", "frozen", "guided", "annealed", "STN-identity", "STN-level", "STN-slow", "STN-fast"],
)
def test_variants_start_from_the_weights_of_the_stn_but_for_heads_that_are_not_random(variant):
    stn, other = (build(variant_of(name, DETAIL), CLASSES, PRESET).state_dict() for name in ("STN", variant))
    head = {"transformer.head.weight", "transformer.head.bias"} if variant in HEADS else set()
    assert stn.keys() == other.keys()
    assert {name for name in stn if not torch.equal(stn[name], other[name])} == head


def test_what_follows_guidance_goes_on_from_the_guided_transformer():
    guide = Run("guide", "spatial", DETAIL, "vgg-16", "SSTN")
    runs = extra_runs(PRESETS["standard"])
    assert {run.variant for run in runs} >= {*AFTER_GUIDANCE} - {"SSTN"}
    for run in runs:
        follows = run.variant in ("frozen", "SSTN-slow", "guided", "annealed")
        assert run.origins().get("transformer") == (dataclasses.replace(guide, level=run.level) if follows else None)
        assert run.origins()["classifier"] == Run("recognize", "spatial", run.level)


@pytest.mark.parametrize(
    ("name", "behind_tables", "extra"), [("smoke", 45, 4), ("quick", 27, 0), ("standard", 45, 9), ("paper", 45, 27)]
)
def test_every_run_comes_after_those_it_goes_on_from_and_has_a_name_of_its_own(name, behind_tables, extra):
    runs = all_runs(PRESETS[name])
    for place, run in enumerate(runs):
        assert set(run.origins().values()) <= set(runs[:place])
    assert len(extra_runs(PRESETS[name])) == extra
    assert len({run.name for run in runs}) == len(runs) == behind_tables + extra
