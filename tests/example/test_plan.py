"""The plan of a run: what it leaves behind, and the disk that it asks for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from examples.mpii_cooking import plan
from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.training.runs import all_runs
from examples.mpii_cooking.training.weights import NO_WEIGHTS
from examples.mpii_cooking.variants import Variant
from tests.helpers.made_up_samples import changed
from tests.helpers.small_videos import PRESET, moving_patch, write


def test_a_plan_leaves_no_class_in_the_data_folder(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(12, number))
    dataset = open_dataset(tmp_path)
    plan.make(dataset, PRESET, tmp_path, torch.device("cpu"), NO_WEIGHTS, [])
    assert list(tmp_path.rglob("excerpt.avi"))
    assert open_dataset(tmp_path) == dataset


def test_a_plan_needs_disk_for_what_is_not_written_yet(dataset, tmp_path, monkeypatch):
    for stage in ("_training_cost", "_feature_cost"):
        monkeypatch.setattr(plan, stage, lambda *_: plan.Cost("", "", 0.0, 2e9))
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e9))
    written = tmp_path / "models"
    written.mkdir()
    with pytest.raises(plan.NotEnoughDiskError, match=r"still needs 4\.0 GB in .*, but its disk has 3\.0 GB"):
        plan.make(dataset, PRESET, tmp_path, torch.device("cpu"), NO_WEIGHTS, [written])
    with (written / "weights").open("wb") as file:
        file.truncate(2 * 10**9)
    assert "total" in plan.make(dataset, PRESET, tmp_path, torch.device("cpu"), NO_WEIGHTS, [written])


def test_a_plan_counts_every_frame_that_an_epoch_visits(dataset, monkeypatch):
    monkeypatch.setattr(plan, "_step_cost", lambda *_: (10.0, 1.0))
    only = SeedPlan(0, only=((Variant.FROZEN, "detail"),))

    def seconds(**changes):
        guide = replace(PRESET.training.guide, epochs=1, **changes)
        preset = changed(PRESET, seeds=(only,), batch=4, guide=guide)
        return plan._training_cost(dataset, preset, NO_WEIGHTS, None, torch.device("cpu")).seconds

    assert len(dataset.train) == 4
    frames = sum(len(clip) for clip in dataset.train)
    assert seconds(span=1) - seconds(span=None) == 10 * (-(-frames // 4) - 1) + frames - 4


def test_a_plan_counts_every_seed(dataset, tmp_path):
    one = SeedPlan(2, only=((Variant.SSTN, "detail"),))
    preset = changed(PRESET, seeds=(SeedPlan(0), SeedPlan(1), one))
    text = plan.make(dataset, preset, tmp_path, torch.device("cpu"), NO_WEIGHTS, [])
    assert f"{2 * len(all_runs(preset)) + 3} runs" in text
    assert f"{2 * 6} streams" in text
