"""The example's training loop: what each phase trains, sub-batches, checkpoints, divergence."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from examples.mpii_cooking import train
from examples.mpii_cooking.config import PRESETS, Phase, levels
from examples.mpii_cooking.samples import Sample
from examples.mpii_cooking.streams import Run, all_runs, build
from examples.mpii_cooking.workspace import Workspace
from supervised_st import affine_sample
from supervised_st.geometry import theta_to_window

SMOKE = dataclasses.replace(PRESETS["smoke"], batch=4, sub_batch=4)
GENERAL, MIDDLE, DETAIL = levels(SMOKE)
CLASSES = 3


def made_up(count, level=GENERAL, modality="spatial", dtype=torch.float32):
    generator = torch.Generator().manual_seed(count)
    side = 28 / level.height
    shift = (1 - side) * (2 * torch.rand(count, 2, generator=generator) - 1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = shift
    channels = {"spatial": 3, "temporal": 20}[modality]
    image = torch.randn(count, channels, level.height, level.height, generator=generator)
    numbers = torch.arange(count)
    confidence = torch.ones(count, dtype=dtype)
    return Sample(image.to(dtype), theta.to(dtype), confidence, numbers % CLASSES, numbers, numbers)


@pytest.fixture(autouse=True)
def _made_up_batches(monkeypatch):
    """An epoch is what ``samples(epoch)`` returned: a list of batches, or of exceptions to raise."""

    class Epoch(list):
        def shuffled(self):
            return range(len(self))

    def batches(samples, batch, *, order):
        for item in samples:
            if isinstance(item, BaseException):
                raise item
            yield item

    monkeypatch.setattr(train, "batches", batches)
    monkeypatch.setattr(train, "ClipSamples", Epoch)


JOINT = Run("joint", "spatial", GENERAL, "vgg-16", "SSTN")
PRESET = dataclasses.replace(SMOKE, joint=Phase(epochs=3, rate=1e-3, localisation_rate=1e-4))


def fitted(folder, samples, *, preset=PRESET, run=JOINT, looks=None):
    unit = Workspace(folder).unit("run", {})
    train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch: train.ClipSamples(samples(epoch)), looks)
    return unit


def without_time(facts):
    return {key: value for key, value in facts.items() if key != "seconds"}


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, optimiser):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    preset = dataclasses.replace(PRESET, optimiser=optimiser)
    looks, epochs = made_up(2).image, [[made_up(4), made_up(3)], [made_up(2)], [made_up(5)]]
    whole = fitted(tmp_path / "whole", lambda epoch: epochs[epoch], preset=preset, looks=looks)
    for stop in (1, 2):  # twice killed, in the second and in the third epoch
        killed = [*epochs[:stop], [epochs[stop][0], KeyboardInterrupt()]]
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "killed", lambda epoch, killed=killed: killed[epoch], preset=preset, looks=looks)
    resumed = fitted(tmp_path / "killed", lambda epoch: epochs[epoch], preset=preset, looks=looks)
    name = "epoch-0003.safetensors"
    assert resumed.path(name).read_bytes() == whole.path(name).read_bytes()
    assert without_time(resumed.facts) == without_time(whole.facts)
    assert len(resumed.facts["looks"]) == 4


def test_what_is_kept_at_the_end_is_the_weights_alone(tmp_path):
    unit = fitted(tmp_path, lambda epoch: [made_up(4)])
    assert set(load_file(unit.path("epoch-0003.safetensors"))) == set(build(JOINT, CLASSES, PRESET).state_dict())


def test_divergence_is_an_error_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    broken = made_up(4)
    broken.image[0, 0, 5, 5] = float("nan")
    epochs = [[made_up(4)], [broken]]
    with pytest.raises(
        train.TrainingDivergedError, match=r"joint-spatial-general-vgg-16-sstn: the loss is nan in epoch 2"
    ):
        fitted(tmp_path, lambda epoch: epochs[epoch])
    assert Workspace(tmp_path).unit("run", {}).facts["epoch"] == 1


@pytest.mark.parametrize("run", [
    Run("guide", "spatial", MIDDLE, "vgg-16", "SSTN"),
    Run("joint", "temporal", GENERAL, "vgg-16", "SSTN"),
    Run("baseline", "spatial", DETAIL, arm="R_h"),
], ids=lambda run: run.name)  # fmt: skip
def test_a_step_on_sub_batches_is_the_step_on_the_whole_batch(run):
    batch = made_up(10, run.level, run.modality, torch.float64)
    steps = []
    for sub_batch in (10, 3):
        networks = build(run, CLASSES, PRESET).double().eval()  # dropout would differ by nature
        optimiser = torch.optim.SGD(networks.parameters(), lr=0.1)
        outcome = train.train_step(optimiser, train.make_objective(run, networks), batch, sub_batch)
        steps.append((networks.state_dict(), outcome))
    (whole, outcome), (parts, other) = steps
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other.loss, outcome.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.measure, outcome.measure, rtol=1e-12, atol=0)


PAPER = PRESETS["paper"]


@pytest.mark.parametrize("run", [
    Run("guide", "spatial", levels(PAPER)[0], "vgg-f", "SSTN"),
    Run("baseline", "spatial", levels(PAPER)[0], arm="R_h"),  # VGG-16
], ids=lambda run: run.name)  # fmt: skip
def test_at_full_size_sub_batches_add_up_to_the_rounding_of_float32(run):
    """Not for joint training: a glimpse's slope jumps at every pixel, so theta's last bit can decide its gradient."""
    networks, batch = build(run, CLASSES, PAPER).eval(), made_up(3, run.level)
    optimiser, objective = torch.optim.SGD(networks.parameters(), lr=0.0), train.make_objective(run, networks)
    gradients = []
    for sub_batch in (3, 2):
        train.train_step(optimiser, objective, batch, sub_batch)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in networks.parameters()]))
    whole, parts = gradients
    assert (parts - whole).norm() <= 4e-6 * whole.norm()  # about 1e-6


def test_the_guidance_loss_is_the_distance_summed_over_theta_and_averaged_over_samples():
    run = Run("guide", "spatial", DETAIL, "vgg-f", "SSTN")
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = train.make_objective(run, networks)(batch)
    theta = networks["transformer"].localize(batch.image)
    torch.testing.assert_close(outcome.loss, (batch.theta - theta).abs().sum((1, 2)).mean())


def test_joint_training_moves_both_networks_by_classification_alone():
    networks, batch = build(JOINT, CLASSES, PRESET), made_up(4)
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    optimiser, objective = train.make_optimiser(JOINT, networks, PRESET), train.make_objective(JOINT, networks)
    no_target = batch._replace(theta=torch.full_like(batch.theta, float("nan")))
    for _ in range(2):  # the head's weights start at zero, so the convolutions behind it move from the second step on
        assert torch.isfinite(train.train_step(optimiser, objective, no_target, 4).loss)
    moved = {name for name, tensor in networks.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {
        "transformer.head.weight",
        "transformer.localisation.features.0.weight",
        "recogniser.features.0.weight",
    } <= moved


def test_recognition_windows_are_whole_pixel_windows_anywhere_in_the_crop():
    torch.manual_seed(0)
    sample = made_up(64, MIDDLE)
    theta = train._random_windows(sample, 28)
    windows = theta_to_window(theta.double(), (56, 56))
    corners = windows[:, :2].round().int()
    torch.testing.assert_close(windows[:, :2], corners.double(), rtol=0, atol=1e-4)
    assert corners.min() >= 0
    assert corners.max() <= 28
    assert len(corners.unique(dim=0)) > 50
    glimpses = affine_sample(sample.image, theta, (28, 28))
    crops = [image[:, y : y + 28, x : x + 28] for image, (x, y) in zip(sample.image, corners.tolist(), strict=True)]
    torch.testing.assert_close(glimpses, torch.stack(crops), rtol=0, atol=1e-4)


def test_biases_learn_at_twice_the_rate_and_without_decay_under_sgd():
    preset = PRESETS["paper"]
    with torch.device("meta"):
        networks = build(Run("joint", "spatial", levels(preset)[0], "vgg-f", "SSTN"), 64, preset)
    groups = train.make_optimiser(
        Run("joint", "spatial", levels(preset)[0], "vgg-f", "SSTN"), networks, preset
    ).param_groups
    rates = [(group["lr"], group["weight_decay"], group["momentum"]) for group in groups]
    assert rates == [(1e-6, 5e-4, 0.9), (2e-6, 0.0, 0.9), (1e-5, 5e-4, 0.9), (2e-5, 0.0, 0.9)]
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in networks.parameters()
    )


def test_stn_and_sstn_differ_by_guidance_alone():
    stn, sstn = (
        build(Run("joint", "spatial", DETAIL, "vgg-m", arm), CLASSES, PRESET).state_dict() for arm in ("STN", "SSTN")
    )
    assert all(torch.equal(stn[name], sstn[name]) for name in stn | sstn)


def test_every_run_comes_after_those_it_goes_on_from_and_has_a_name_of_its_own():
    runs = all_runs(SMOKE)
    for place, run in enumerate(runs):
        assert set(run.origins().values()) <= set(runs[:place])
    assert len({run.name for run in runs}) == len(runs) == 45
