"""The example's training loop: what each phase trains, sub-batches, checkpoints, divergence."""

import dataclasses
import math

import pytest
import torch
from safetensors.torch import load_file

from examples.mpii_cooking.config import PRESETS, Phase, levels
from examples.mpii_cooking.training import train
from examples.mpii_cooking.training.objectives import make_objective
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.workspace import Workspace
from supervised_st import affine_sample
from tests.helpers.made_up_samples import CLASSES, DETAIL, GENERAL, JOINT, MIDDLE, PRESET, Epoch, made_up, variant_of


def fitted(folder, samples, *, preset=PRESET, run=JOINT, looks=None):
    unit = Workspace(folder).unit("run", {})
    train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch: Epoch(samples(epoch)), looks)
    return unit


def without_time(facts):
    return {key: value for key, value in facts.items() if key != "seconds"}


def moved_by(run, batch, *, epoch=0, steps=2):
    """Names of the numbers that a few steps change; a random head hides what is behind it from the first one."""
    networks = build(run, CLASSES, PRESET)
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    optimizer = train.make_optimizer(run, networks, PRESET)
    objective = make_objective(run, networks, run.guidance(PRESET, epoch))
    for _ in range(steps):
        assert torch.isfinite(train.train_step(optimizer, objective, [batch], 4).loss)
    return {name for name, tensor in networks.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("optimizer", "variant"), [("adam", "SSTN"), ("sgd", "SSTN"), ("adam", "annealed"), ("sgd", "frozen")]
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, optimizer, variant):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    preset, run = dataclasses.replace(PRESET, optimizer=optimizer), variant_of(variant)
    looks, epochs = made_up(2).image, [[made_up(4), made_up(3)], [made_up(2)], [made_up(5)]]
    whole = fitted(tmp_path / "whole", lambda epoch: epochs[epoch], preset=preset, run=run, looks=looks)
    for stop in (1, 2):  # twice killed, in the second and in the third epoch
        killed = [*epochs[:stop], [epochs[stop][0], KeyboardInterrupt()]]
        with pytest.raises(KeyboardInterrupt):
            fitted(tmp_path / "killed", lambda epoch, killed=killed: killed[epoch], preset=preset, run=run, looks=looks)
    resumed = fitted(tmp_path / "killed", lambda epoch: epochs[epoch], preset=preset, run=run, looks=looks)
    name = "epoch-0003.safetensors"
    assert resumed.path(name).read_bytes() == whole.path(name).read_bytes()
    assert without_time(resumed.facts) == without_time(whole.facts)
    assert len(resumed.facts["looks"]) == 4


SATURATING = Phase(epochs=9, rate=1e-3, patience=2)


@pytest.mark.parametrize(("losses", "over"), [
    ([3, 3, 3, 3, 3, 3, 3, 3], False),  # has not begun to learn
    ([3, 3, 2, 1, 1, 1], False),  # (1 + 1) / 2 is below (2 + 1) / 2
    ([3, 3, 2, 1, 1, 1, 1], True),
    ([3, 3, 1, 1, 0.992, 0.992], True),  # by less than a hundredth
    ([3, 3, 1, 1, 0.988, 0.988], False),
    ([3, 1, 1], False),  # too few to compare
    ([3, 2, 2, 2.5, 2.5, 2.5], False),  # no lower than at the start
    ([9, 8, 7, 6, 5, 4, 3, 2, 1], True),  # the last epoch
], ids=str)  # fmt: skip
def test_training_is_over_when_the_loss_that_fell_stands_still(losses, over):
    assert SATURATING.over(losses) == over


def test_without_patience_every_epoch_is_made():
    phase = Phase(epochs=9, rate=1e-3)
    assert [phase.over([3.0, *[1.0] * count]) for count in range(9)] == [False] * 8 + [True]


def test_a_saturated_run_stops_and_a_killed_one_stops_at_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    losses = [3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    whole_epoch = train._epoch

    def epoch_with_given_loss(*arguments):
        return losses[arguments[-1]], whole_epoch(*arguments)[1]

    monkeypatch.setattr(train, "_epoch", epoch_with_given_loss)
    preset = dataclasses.replace(PRESET, joint=SATURATING)
    whole = fitted(tmp_path / "whole", lambda epoch: [made_up(4)], preset=preset)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "killed", lambda epoch: [KeyboardInterrupt() if epoch == 5 else made_up(4)], preset=preset)
    resumed = fitted(tmp_path / "killed", lambda epoch: [made_up(4)], preset=preset)
    assert whole.facts["epoch"] == 7
    assert whole.facts["loss"] == losses[:7]
    assert resumed.path("epoch-0007.safetensors").read_bytes() == whole.path("epoch-0007.safetensors").read_bytes()
    assert without_time(resumed.facts) == without_time(whole.facts)
    assert set(load_file(whole.path("epoch-0007.safetensors"))) == set(build(JOINT, CLASSES, PRESET).state_dict())
    trainer = train.Trainer(None, {}, preset, Workspace(tmp_path), torch.device("cpu"))
    assert trainer.finished(JOINT, resumed), "a run is finished where its training stopped, not after every epoch"
    assert not trainer.finished(variant_of("annealed"), resumed), "guidance that fades needs the epochs it fades over"


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
    Run("recognize", "temporal", MIDDLE),
    Run("guide", "spatial", MIDDLE, "vgg-16", "SSTN"),
    Run("joint", "temporal", GENERAL, "vgg-16", "SSTN"),
    Run("joint", "spatial", GENERAL, "vgg-16", "guided"),
    Run("baseline", "spatial", DETAIL, variant="R_h"),
], ids=lambda run: run.name)  # fmt: skip
def test_a_step_on_sub_batches_is_the_step_on_the_whole_batch(run):
    batch = made_up(10, run.level, run.modality, torch.float64)
    steps = []
    for sub_batch in (10, 3):
        networks = build(run, CLASSES, PRESET).double().eval()  # dropout would differ by nature
        optimizer = torch.optim.SGD(networks.parameters(), lr=0.1)
        objective = make_objective(run, networks, run.guidance(PRESET, 0))
        outcome = train.train_step(optimizer, objective, train.split(batch, sub_batch), 10)
        steps.append((networks.state_dict(), outcome))
    (whole, outcome), (parts, other) = steps
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other.loss, outcome.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.measure, outcome.measure, rtol=1e-12, atol=0)


PAPER = PRESETS["paper"]


@pytest.mark.parametrize("run", [
    Run("guide", "spatial", levels(PAPER)[0], "vgg-f", "SSTN"),
    Run("baseline", "spatial", levels(PAPER)[0], variant="R_h"),  # VGG-16
], ids=lambda run: run.name)  # fmt: skip
def test_at_full_size_sub_batches_add_up_to_the_rounding_of_float32(run):
    """Not for joint training: a glimpse's slope jumps at every pixel, so theta's last bit can decide its gradient."""
    networks, batch = build(run, CLASSES, PAPER).eval(), made_up(3, run.level)
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.0)
    objective = make_objective(run, networks, run.guidance(PAPER, 0))
    gradients = []
    for sub_batch in (3, 2):
        train.train_step(optimizer, objective, train.split(batch, sub_batch), 3)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in networks.parameters()]))
    whole, parts = gradients
    assert (parts - whole).norm() <= 4e-6 * whole.norm()  # about 1e-6


def test_the_guidance_loss_is_the_distance_summed_over_theta_and_averaged_over_samples():
    run = Run("guide", "spatial", DETAIL, "vgg-f", "SSTN")
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = make_objective(run, networks, run.guidance(PRESET, 0))(batch)
    theta = networks["transformer"].localize(batch.image)
    torch.testing.assert_close(outcome.loss, (batch.theta - theta).abs().sum((1, 2)).mean())


@pytest.mark.parametrize("variant", ["STN", "STN-identity", "STN-level", "SSTN"])
def test_joint_training_moves_both_networks_by_classification_alone(variant):
    batch = made_up(4)
    no_target = batch._replace(theta=torch.full_like(batch.theta, math.nan))
    assert {
        "transformer.head.weight",
        "transformer.localization.features.0.weight",
        "classifier.features.0.weight",
    } <= moved_by(variant_of(variant), no_target)


def test_a_frozen_transformer_never_moves_while_its_classifier_learns():
    batch = made_up(4)
    no_target = batch._replace(theta=torch.full_like(batch.theta, math.nan))
    moved = moved_by(variant_of("frozen"), no_target)
    assert "classifier.features.0.weight" in moved
    assert not [name for name in moved if name.startswith("transformer")]


def test_a_frozen_transformer_shows_what_it_looks_at_in_evaluation():
    run, batch = variant_of("frozen"), made_up(4)
    networks = build(run, CLASSES, PRESET)
    networks["classifier"].eval()
    networks["transformer"].train()  # as the loop leaves it
    loss = make_objective(run, networks, run.guidance(PRESET, 0))(batch).loss
    scores = networks["classifier"](networks["transformer"].eval()(batch.image).image)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, batch.label))


@pytest.mark.parametrize(("variant", "epoch", "strength"), [
    ("guided", 0, 1.0),
    ("guided", 2, 1.0),
    ("annealed", 0, 1.0),
    ("annealed", 1, 0.5),
    ("annealed", 2, 0.0),
    ("SSTN", 0, 0.0),
], ids=str)  # fmt: skip
def test_guidance_beside_the_task_adds_its_share_of_the_distance(variant, epoch, strength):
    run, batch = variant_of(variant), made_up(4)
    networks = build(run, CLASSES, PRESET).eval()
    loss = make_objective(run, networks, run.guidance(PRESET, epoch))(batch).loss
    glimpse = networks["transformer"](batch.image)
    task = torch.nn.functional.cross_entropy(networks["classifier"](glimpse.image), batch.label)
    torch.testing.assert_close(loss, task + strength * (batch.theta - glimpse.theta).abs().sum((1, 2)).mean())


def test_a_run_asks_for_guidance_anew_in_every_epoch(tmp_path, monkeypatch):
    asked, make = [], make_objective
    monkeypatch.setattr(
        train, "make_objective", lambda run, networks, guidance: asked.append(guidance) or make(run, networks, guidance)
    )
    fitted(tmp_path, lambda epoch: [made_up(4)], run=variant_of("annealed"))
    assert asked == [1.0, 0.5, 0.0]


def test_the_center_variant_sees_the_center_window_alone():
    run, batch = Run("baseline", "spatial", MIDDLE, variant="center"), made_up(4, MIDDLE)
    networks = build(run, CLASSES, PRESET).eval()
    loss = make_objective(run, networks, run.guidance(PRESET, 0))(batch).loss
    scores = networks["classifier"](batch.image[:, :, 14:42, 14:42])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, batch.label))


def test_recognition_is_trained_on_the_random_windows():
    run = Run("recognize", "spatial", DETAIL)
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = make_objective(run, networks, run.guidance(PRESET, 0))(batch)
    scores = networks["classifier"](affine_sample(batch.image, batch.random, (28, 28)))
    torch.testing.assert_close(outcome.loss, torch.nn.functional.cross_entropy(scores, batch.label))


def test_what_a_sub_batch_drops_depends_on_nothing_that_was_computed_before(tmp_path):
    preset = dataclasses.replace(PRESET, joint=Phase(epochs=1, rate=0.0))
    alone, after = (
        fitted(tmp_path / str(len(batches)), lambda epoch, batches=batches: batches, preset=preset).facts["loss"][0]
        for batches in ([made_up(4)], [made_up(4), made_up(4)])
    )
    assert after == pytest.approx(alone, rel=1e-6)  # at rate zero, the same clips lose the same again
    other = fitted(tmp_path / "other", lambda epoch: [made_up(4)], preset=dataclasses.replace(preset, seed=1))
    assert other.facts["loss"][0] != pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("run", [Run("guide", "spatial", DETAIL, "vgg-m", "SSTN"), JOINT], ids=lambda run: run.name)
def test_at_half_precision_networks_compute_coarsely_but_theta_does_not(run, tmp_path):
    networks, batch = build(run, CLASSES, PRESET), made_up(4, run.level)
    transformer, dtypes = networks["transformer"], {}
    for part in (transformer.localization, transformer.head):
        part.register_forward_hook(lambda module, inputs, output: dtypes.update({module: output.dtype}))
    preset = dataclasses.replace(PRESET, precision="bfloat16", guide=Phase(1, 1e-3), joint=Phase(1, 1e-3))
    train.fit(run, networks, preset, Workspace(tmp_path).unit("run", {}), lambda epoch: Epoch([batch]))
    assert dtypes == {transformer.localization: torch.bfloat16, transformer.head: torch.float32}
    assert {parameter.dtype for parameter in networks.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's compiler
def test_compiled_networks_are_the_same_networks(monkeypatch, tmp_path):
    graphs = []

    def noted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_in_place(module, backend=noted))
    answers, batch = [], made_up(4)
    for preset in (PRESET, dataclasses.replace(PRESET, compile=True)):
        trainer = train.Trainer(None, {}, preset, Workspace(tmp_path), torch.device("cpu"))
        networks = trainer.placed(build(JOINT, CLASSES, preset)).eval()
        loss = make_objective(JOINT, networks, JOINT.guidance(preset, 0))(batch).loss
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in networks.named_parameters()}
        answers.append((loss, gradients, networks.state_dict()))
    assert len(graphs) == 2, "both networks, and none without the option"
    torch.testing.assert_close(*answers)


def test_biases_learn_at_twice_the_rate_and_without_decay_under_sgd():
    preset = PRESETS["paper"]
    with torch.device("meta"):
        networks = build(Run("joint", "spatial", levels(preset)[0], "vgg-f", "SSTN"), 64, preset)
    groups = train.make_optimizer(
        Run("joint", "spatial", levels(preset)[0], "vgg-f", "SSTN"), networks, preset
    ).param_groups
    rates = [(group["lr"], group["weight_decay"], group["momentum"]) for group in groups]
    assert rates == [(1e-6, 5e-4, 0.9), (2e-6, 0.0, 0.9), (1e-5, 5e-4, 0.9), (2e-5, 0.0, 0.9)]
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in networks.parameters()
    )


def test_more_variants_and_seeds_are_the_same_training_and_more_epochs_are_not():
    more = dataclasses.replace(PRESET, variants=("STN-level",), seeds=(0, 1), svm_c=10.0)
    longer = dataclasses.replace(PRESET, joint=Phase(epochs=4, rate=1e-3))
    assert train.settings_of_training(more) == train.settings_of_training(PRESET)
    assert train.settings_of_training(longer) != train.settings_of_training(PRESET)


@pytest.mark.parametrize(
    ("variant", "pace"), [("STN", 1), ("SSTN", 1), ("STN-slow", 0.1), ("SSTN-slow", 0.1), ("STN-fast", 10)]
)
def test_variants_may_learn_where_to_look_at_another_rate(variant, pace):
    run = variant_of(variant)
    transformer, classifier = train.make_optimizer(run, build(run, CLASSES, PRESET), PRESET).param_groups
    assert transformer["lr"] == pytest.approx(pace * PRESET.joint.localization_rate)
    assert classifier["lr"] == PRESET.joint.rate
