"""``benchmarks/attention.py``: scenes show what they should, all ways start from one state, the table counts right."""

import itertools

import pytest
import torch

from benchmarks import attention, records, tables
from benchmarks.attention import Setting, Training
from benchmarks.attention_scenes import GLIMPSE, TASKS
from benchmarks.attention_tables import attention_table
from supervised_st import affine_sample
from supervised_st.geometry import theta_to_window, window_iou

SETTING = Setting("digits", "crop3", "medium", "SGD", 0)


@pytest.fixture
def short(monkeypatch):
    """A tiny version of the benchmark."""
    small = {"GUIDED": 3, "FREE": 2, "TRAINING_SCENES": 40, "TEST_SCENES": 20, "TUNING_SEEDS": range(100, 101)}
    for name, value in small.items():
        monkeypatch.setattr(attention, name, value)
    for cached in (attention.scenes, attention.best_recipe):
        cached.cache_clear()
    yield
    for cached in (attention.scenes, attention.best_recipe):
        cached.cache_clear()


def made(task, count=60, *, is_training=True):
    return TASKS[task].make(count, torch.Generator().manual_seed(3), is_training)


@pytest.mark.parametrize("task", TASKS)
def test_the_right_window_shows_the_class(task):
    """Without noise around it, the same class looks the same in its window: its mean picture tells it."""
    train, test = made(task, 1500), made(task, 300, is_training=False)
    seen = [affine_sample(it.image, it.truth, (GLIMPSE, GLIMPSE)).flatten(1) for it in (train, test)]
    means = torch.stack([seen[0][train.label == label].mean(0) for label in range(TASKS[task].classes)])
    # Each corner of a held tile is a quarter of the window; digits vary more.
    nearest = torch.cdist(seen[1], means).argmin(1)
    assert (nearest == test.label).double().mean() > 0.75
    # The test can fail: the center of the image tells nothing.
    center = torch.tensor([[TASKS[task].scale, 0, 0], [0, TASKS[task].scale, 0]]).expand(len(test.label), 2, 3)
    missed = affine_sample(test.image, center, (GLIMPSE, GLIMPSE)).flatten(1)
    assert (torch.cdist(missed, means).argmin(1) == test.label).double().mean() < 0.6


def test_boxes_fit_their_digits_and_the_image():
    for task in ("digits", "digits of two sizes", "digits in wide images"):
        scenes = made(task)
        window = theta_to_window(scenes.truth, TASKS[task].size)
        height, width = TASKS[task].size
        sides = {12, 24} if "two" in task else {16}
        assert {round(side) for side in window[:, 2:].flatten().tolist()} == sides
        assert window[:, :2].min() > -1e-3
        assert (window[:, 0] + window[:, 2]).max() < width + 1e-3
        assert (window[:, 1] + window[:, 3]).max() < height + 1e-3


def test_motion_shows_a_corner_of_the_tile_and_not_all_of_it():
    scenes = made("held tiles, by motion")
    overlap = window_iou(scenes.target, scenes.truth)
    assert overlap.min() > 0
    assert overlap.max() < 0.7


def test_training_and_test_scenes_share_no_digit():
    seen = [affine_sample(it.image, it.truth, (8, 8)) for it in (made("digits"), made("digits", is_training=False))]
    assert torch.cdist(seen[0].flatten(1), seen[1].flatten(1)).min() > 0.5


def test_all_ways_go_on_from_one_state_and_leave_it_alone(short):
    training, _ = attention.scenes("digits")
    guided = Training.start(SETTING).run(training, 3)
    before = {name: value.clone() for name, value in guided.model.state_dict().items()}
    one, same, full = guided.fork(), guided.fork(), guided.fork(free_pace=1)
    for way in (one, same, full):
        way.run(training, 2)
    after = [way.model.state_dict() for way in (one, same, full)]
    assert all(torch.equal(after[0][name], after[1][name]) for name in before)
    assert all(torch.equal(guided.model.state_dict()[name], before[name]) for name in before)
    moved = [(state["look.head.bias"] - before["look.head.bias"]).norm() for state in after]
    assert 0 < moved[0] < 0.2 * moved[2]


def test_a_fixed_window_trains_the_classifier_alone(short):
    training, _ = attention.scenes("digits")
    guided = Training.start(SETTING).run(training, 3)
    frozen = guided.fork(free_pace=1).run_fixed(training, training.truth, 2)
    for name, value in guided.model.state_dict().items():
        assert torch.equal(frozen.model.state_dict()[name], value) == name.startswith("look."), name


def test_a_pause_holds_the_transformer_still(short, monkeypatch):
    monkeypatch.setitem(attention.RECIPES, "pause", (0.1, 2))
    training, _ = attention.scenes("digits")
    guided = Training.start(Setting("digits", "affine", "narrow", "SGD", 0)).run(training, 3)
    held = attention.by_hand(guided, training, "pause").model.look.state_dict()
    # Momentum moves nothing at a rate of zero.
    assert all(torch.equal(held[name], value) for name, value in guided.model.look.state_dict().items())


@pytest.mark.parametrize(("shift", "is_lost"), [(0.0, False), (1.0, False), (1.3, True), (50.0, True)])
def test_a_window_is_lost_when_more_than_half_of_it_is_out_of_bounds(short, shift, is_lost):
    model = Training.start(SETTING).model
    _, test = attention.scenes("digits")
    theta = torch.tensor([[0.5, 0, shift], [0, 0.5, 0]]).expand(len(test.label), 2, 3)
    found = attention.tested(model, lambda _: theta, test)
    assert found["is_lost"] == is_lost
    assert found["outside"] == pytest.approx(min(max(shift - 0.5, 0), 1), abs=1 / 32)


def test_settings_cross_everything_once():
    every = attention.settings(is_quick=False)
    assert len(set(every)) == len(every) == 4 * 3 * 5 * (5 + 2 + 2)
    assert {setting.task for setting in every} == set(TASKS)
    assert len(attention.settings(is_quick=True)) == 4 * 3


def test_a_row_has_every_way_and_resumes(short, tmp_path):
    row = attention.run(SETTING)
    assert {*row["found"]} == {"guided", "free", "frozen", "free at full rate", "hand-tuned", "oracle"}
    narrow = attention.run(Setting("digits", "affine", "narrow", "Adam", 1))
    assert {*narrow["found"]} == {"guided", "free", "frozen"}
    plan = attention.settings(is_quick=False)
    header = records.provenance("cpu", 1) | {"steps": {"guided": 3, "free": 2, "batch": 32}}
    measured = records.Measured(tmp_path / "a.json", header, plan, fresh=True)
    measured.add(narrow)
    measured.add(row)
    again = records.Measured(tmp_path / "a.json", header, plan, fresh=False)
    assert len(again.missing(plan)) == len(plan) - 2
    assert [entry["case"]["seed"] for entry in again.results["rows"]] == [0, 1]
    with pytest.raises(SystemExit, match=r"was measured with .* pass --fresh"):
        records.Measured(tmp_path / "a.json", header | {"threads": 2}, plan, fresh=False)


def test_the_table_is_means_differences_and_counts():
    """Made-up answers: free is better than frozen by 4 and 8 points in two seeds, and one of four runs is lost."""
    ways = {"guided": 0.0, "frozen": 50.0, "hand-tuned": 55.0, "free at full rate": 10.0, "oracle": 90.0}
    rows = []
    for seed, kind in itertools.product((0, 1), ("affine", "crop3")):
        measures = {"iou": 0.5, "anisotropy": 1.25, "outside": 0.25, "is_lost": False}
        found = {name: {"accuracy": accuracy, **measures} for name, accuracy in ways.items()}
        found["free"] = measures | {"accuracy": 54.0 + 4 * seed, "is_lost": seed == 0 and kind == "affine"}
        found["free at full rate"]["is_lost"] = True
        case = {"task": "digits", "parameterization": kind, "network": "medium", "optimizer": "Adam", "seed": seed}
        rows.append({"case": case, "failed": "", "found": found})
    header = records.provenance("cpu", 1) | {"date": "2026-11-29", "command": "python benchmarks/attention.py"}
    printed = attention_table(header | {"steps": {"guided": 3, "free": 2, "batch": 32}, "rows": rows})
    # Two seeds: the mean is 6, and Student's t with one degree of freedom reaches 12.7 standard errors of 2 points.
    assert "| digits | Adam | 50.0 | 56.0 | 55.0 | 10.0 | 90.0 | +6.0 (-19.4 to +31.4) | 25% | 100% |" in printed
    assert "| affine | medium | 0.50, 0.50 | 1.25, 1.25 | 25.0%, 25.0% | 1 of 2 | +6.0 (-19.4 to +31.4) |" in printed
    assert tables.TABLES["attention"]
