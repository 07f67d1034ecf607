"""The plan of a run: what it leaves behind, and the disk that it asks for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from examples.mpii_cooking import plan
from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import History
from examples.mpii_cooking.training.runs import Run, all_runs, build
from examples.mpii_cooking.training.train import make_optimizer
from examples.mpii_cooking.training.weights import NO_WEIGHTS
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Workspace
from tests.helpers.made_up_samples import changed
from tests.helpers.small_videos import PRESET, moving_patch, write, write_images


def test_a_plan_makes_no_class_in_the_data_folder(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / name / f"{number}.avi", moving_patch(12, number))
    dataset = open_dataset(tmp_path)
    with plan._excerpt(dataset, PRESET, tmp_path, torch.device("cpu")):
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


def test_every_run_needs_disk_for_what_it_will_write(dataset, tmp_path, monkeypatch):
    """Without the plan's measurements, but for as much."""
    asked = []
    monkeypatch.setattr(plan, "_check_room", lambda needed, *_: asked.append(needed))
    monkeypatch.setattr(plan, "_step_cost", lambda *_: (1.0, 1.0))
    arguments = dataset, PRESET, tmp_path, torch.device("cpu")
    plan.make(*arguments, NO_WEIGHTS, [])
    plan.check_disk(*arguments, [])
    plan.check_disk(*arguments, [], times=3)
    assert [*tmp_path.iterdir()] == []
    assert asked[1] == pytest.approx(asked[0], rel=0.01)
    assert asked[2] == 3 * asked[1]


def test_a_plan_is_measured_on_a_clip_that_can_be_read(tmp_path):
    """Preparation finds out which clips cannot, and lists them all or goes on without them."""
    for name in ("left", "right"):
        write_images(tmp_path / name / "1", moving_patch(3, 1), "{}.png")
        (tmp_path / name / "1" / "2.png").write_bytes(b"no image")
        for number in (2, 3):
            write_images(tmp_path / name / str(number), moving_patch(3, number), "{}.png")
    dataset = open_dataset(tmp_path)
    with plan._excerpt(dataset, PRESET, tmp_path, torch.device("cpu")) as excerpt:
        assert excerpt.bytes > 0
    broken = replace(dataset, train=[clip for clip in dataset.train if clip.video.endswith("/1")])
    with pytest.raises(DataError, match=r"/1/2\.png cannot be read as an image"):
        plan.make(broken, PRESET, tmp_path, torch.device("cpu"), NO_WEIGHTS, [])
    plan.check_disk(broken, PRESET, tmp_path, torch.device("cpu"), [])


def test_a_plan_counts_what_two_checkpoints_take(dataset, tmp_path, monkeypatch):
    run = Run(Phase.RECOGNITION, Modality.SPATIAL, PRESET.data.levels[0])
    networks = build(run, len(dataset.classes), PRESET)
    optimizer = make_optimizer(run, networks, PRESET)
    for parameter in networks.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    unit = Workspace(tmp_path).unit("run", {})
    for history in (History((1.0,), (1.0,)), History((1.0, 1.0), (1.0, 1.0), is_finished=True)):
        checkpoints.save(unit, networks, optimizer, history)
    with monkeypatch.context() as patched:
        patched.setattr(plan, "planned_runs", lambda *_: [run])
        assert plan._training_bytes(dataset, PRESET) == pytest.approx(plan._size(unit.folder), rel=0.05)
    each = [plan._parameters(run, dataset, PRESET) for run in all_runs(PRESET)]
    assert plan._training_bytes(dataset, PRESET) == 4 * (2 + 2) * sum(each)  # of float32; Adam keeps two values of each


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
