"""What is not finite never reaches the weights: steps are left out, samples named, and in the end training stops."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from examples.mpii_cooking.config import PhaseSettings
from examples.mpii_cooking.training import steps, train
from examples.mpii_cooking.training.checkpoints import load_history
from examples.mpii_cooking.training.objectives import Outcome
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Workspace
from tests.example.test_train import fitted, without_time
from tests.helpers.made_up_samples import CLASSES, DETAIL, PRESET, changed, made_up


def broken(*rows, value=float("nan")):
    """Four samples, of which some have a pixel that is no number."""
    batch = made_up(4)
    batch.image[list(rows), 0, 5, 5] = value
    return batch


def last_weights(unit):
    return load_file(unit.file(load_history(unit).weights_name))


def test_training_takes_the_course_that_it_takes_without_a_step_that_is_not_finite(tmp_path, caplog):
    first, last = made_up(4), made_up(4)._replace(clip=torch.arange(20, 24))
    unit = fitted(tmp_path / "with", lambda epoch: [first, *[broken(1, 3)] * (epoch == 1), last])
    without = fitted(tmp_path / "without", lambda epoch: [first, last])
    torch.testing.assert_close(last_weights(unit), last_weights(without), rtol=0, atol=0)
    what = "the loss is nan in epoch 2, step 2: of 4 samples, from row 5, row 7"
    history = load_history(unit)
    assert history.skipped == (what,)
    assert without_time(dataclasses.replace(history, skipped=())) == without_time(load_history(without))
    run = "run joint-spatial-general-vgg-16-sstn"
    assert caplog.messages == [f"{run}: {what}; the step is left out, 1 of at most 3"]


def test_a_run_ends_after_too_many_such_steps_and_its_last_checkpoint_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    preset = changed(PRESET, joint=PhaseSettings(epochs=6, rate=1e-3))
    whole = fitted(tmp_path / "whole", lambda epoch: [made_up(4)], preset=changed(preset, joint=PhaseSettings(3, 1e-3)))

    def ends():
        with pytest.raises(train.TrainingDivergedError) as problem:
            fitted(tmp_path / "broken", lambda epoch: [made_up(4), broken(0)], preset=preset)
        return str(problem.value)

    message = ends()
    assert message.startswith(
        "run joint-spatial-general-vgg-16-sstn: the loss is nan in epoch 4, step 2: of 4 samples, from row 4. "
        "3 steps were left out before, which is the most. The last checkpoint is kept."
    )
    unit = Workspace(tmp_path / "broken").unit("run", {})
    history = load_history(unit)
    assert history.epochs == len(history.skipped) == 3
    kept, expected = last_weights(unit), last_weights(whole)
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert ends() == message, "the steps that were left out still count for the next start"


def test_an_epoch_without_any_step_ends_training(tmp_path):
    with pytest.raises(train.TrainingDivergedError, match=r"no step of epoch 1 was made. the loss is nan in epoch 1"):
        fitted(tmp_path, lambda epoch: [broken(2)])


def test_many_samples_are_named_by_a_few_and_a_count(tmp_path, caplog):
    preset = changed(PRESET, batch=8, sub_batch=8)
    fitted(tmp_path, lambda epoch: [made_up(8)] + [broken(0, 1, 2, 3)] * 2 * (epoch == 0), preset=preset)
    assert "of 8 samples, from row 8, row 9, row 10, row 11, row 12 and 3 more; the step" in caplog.text


def parameter_step(loss):
    """One step on a parameter of zeros whose loss is ``loss(parameter)``."""
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    return parameter, steps.train_step(optimizer, lambda part: Outcome(loss(parameter), torch.ones(1)), [None], 1)


@pytest.mark.parametrize(("loss", "flaw"), [
    (lambda it: it.sum().sqrt(), "the norm of the gradient is inf"),
    (lambda it: it.square().sum().sqrt(), "the norm of the gradient is nan"),
    (lambda it: it.sum() / 0, "the loss is nan"),
    (lambda it: 1 / it.sum(), "the loss is inf"),
    (lambda it: (it * 3e38).sum(), "the norm of the gradient is inf"),  # each number is finite
], ids=["inf gradient", "nan gradient", "nan loss", "inf loss", "overflow"])  # fmt: skip
def test_a_step_with_a_loss_or_gradient_that_is_not_finite_is_not_made(loss, flaw):
    parameter, step = parameter_step(loss)
    assert step.flaw == flaw
    assert parameter.tolist() == [0, 0]


def test_a_finite_step_is_made():
    parameter, step = parameter_step(lambda it: 3 * it[0] + 4 * it[1] + 2)
    assert step == (2.0, 1.0, 5.0, False)
    assert step.flaw is None
    assert parameter.tolist() == [-3, -4]


def test_weights_that_overflow_are_never_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    settings = PhaseSettings(epochs=3, rate=1e38, decays=True)  # Adam moves each weight by the rate in its first step
    monkeypatch.setattr(PhaseSettings, "pace", lambda self, epoch: [0.0, 10.0][epoch])
    with pytest.raises(train.TrainingDivergedError, match="sstn: a weight is not finite after epoch 2"):
        fitted(tmp_path, lambda epoch: [made_up(4)], preset=changed(PRESET, joint=settings))
    unit = Workspace(tmp_path).unit("run", {})
    assert load_history(unit).epochs == 1
    assert all(tensor.isfinite().all() for tensor in last_weights(unit).values())


@pytest.mark.parametrize(("bias", "says"), [
    ([0.5, 0, 0, 0, 0.5, 0], None),
    ([0.5, 0, 1.4, 0, 0.5, 0], "100 % lie more than half outside, and 0 % are narrower than a pixel"),
    ([0.005, 0, 0, 0, 0.5, 0], "0 % lie more than half outside, and 100 % are narrower than a pixel"),
], ids=["sound", "outside", "narrow"])  # fmt: skip
def test_guidance_that_has_collapsed_is_reported(caplog, bias, says):
    run = Run(Phase.GUIDANCE, Modality.TEMPORAL, DETAIL, "vgg-m", Variant.SSTN)
    networks = build(run, CLASSES, PRESET)
    networks.transformer.head.weight.data.zero_()
    networks.transformer.head.bias.data = torch.tensor(bias)
    train.warn_of_collapse(run, networks, made_up(4, DETAIL, Modality.TEMPORAL).image)
    messages = [f"run {run.name}: guidance has collapsed. Of its windows in 4 test frames, {says}."] if says else []
    assert [message.partition(" Joint")[0] for message in caplog.messages] == messages
