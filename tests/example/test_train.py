"""The example's training loop: what each phase trains, sub-batches, checkpoints, divergence."""

import dataclasses
import math
import signal

import pytest
import torch
from safetensors.torch import load_file

from examples.mpii_cooking import interrupts
from examples.mpii_cooking.config import PhaseSettings, SeedPlan
from examples.mpii_cooking.data.dataset import Dataset
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training import steps, train
from examples.mpii_cooking.training.checkpoints import load_history
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.objectives import make_objective
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import NotDoneError, Workspace
from supervised_st import affine_sample
from tests.helpers.made_up_samples import (
    CLASSES,
    DETAIL,
    GENERAL,
    JOINT,
    MIDDLE,
    PRESET,
    Epoch,
    changed,
    made_up,
    variant_of,
)


def fitted(folder, samples, *, preset=PRESET, run=JOINT, frames=None, seed=0):
    unit = Workspace(folder).unit("run", {})
    networks = build(run, CLASSES, preset, seed=seed)
    train.fit(run, networks, preset, unit, lambda epoch: Epoch(samples(epoch)), seed=seed, frames=frames)
    return unit


def without_time(history):
    return dataclasses.replace(history, seconds=0.0)


def experiment_of(folder, preset=PRESET):
    dataset = Dataset("none", {}, ("a", "b", "c"), (), (), "", has_paper_protocol=False)
    return Experiment(dataset, {}, preset, SeedPlan(0), Workspace(folder), torch.device("cpu"))


def moved_by(run, batch, *, epoch=0):
    """Names of the tensors that a few steps change; the first step may not reach what lies behind a random head."""
    networks = build(run, CLASSES, PRESET)
    before = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    optimizer = steps.make_optimizer(run, networks, PRESET)
    objective = make_objective(run, networks, run.guidance(PRESET, epoch))
    for _ in range(2):
        assert steps.train_step(optimizer, objective, [batch], 4).flaw is None
    return {name for name, tensor in networks.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize(
    ("optimizer", "variant", "decays"),
    [("adam", "SSTN", True), ("sgd", "SSTN", False), ("adam", "annealed", False), ("sgd", "frozen", True)],
)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch, optimizer, variant, decays):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    joint = dataclasses.replace(PRESET.training.joint, decays=decays)
    preset, run = changed(PRESET, optimizer=optimizer, joint=joint), variant_of(variant)
    frames, epochs = made_up(2).image, [[made_up(4), made_up(3)], [made_up(2)], [made_up(5)]]
    whole = fitted(tmp_path / "whole", lambda epoch: epochs[epoch], preset=preset, run=run, frames=frames)
    for stop in (1, 2):  # twice killed, in the second and in the third epoch
        killed = [*epochs[:stop], [epochs[stop][0], KeyboardInterrupt()]]
        with pytest.raises(KeyboardInterrupt):
            fitted(
                tmp_path / "killed", lambda epoch, killed=killed: killed[epoch], preset=preset, run=run, frames=frames
            )
    resumed = fitted(tmp_path / "killed", lambda epoch: epochs[epoch], preset=preset, run=run, frames=frames)
    name = "epoch-0003.safetensors"
    assert resumed.path(name).read_bytes() == whole.path(name).read_bytes()
    assert without_time(load_history(resumed)) == without_time(load_history(whole))
    assert len(load_history(resumed).windows) == 4


class EpochWithSigterm(Epoch):
    """SIGTERM comes whenever samples are loaded."""

    def __getitems__(self, indices):
        signal.raise_signal(signal.SIGTERM)
        return super().__getitems__(indices)


@pytest.fixture
def noting_sigterm():
    """The handler of SIGTERM that a process has which does nothing but train."""
    before = signal.signal(signal.SIGTERM, interrupts.note_sigterm)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("noting_sigterm")
@pytest.mark.parametrize(("optimizer", "variant"), [("adam", "SSTN"), ("sgd", "annealed")])
def test_sigterm_ends_training_after_its_step_and_it_resumes_to_the_same_bits(
    tmp_path, monkeypatch, optimizer, variant
):
    preset, run, frames = changed(PRESET, optimizer=optimizer), variant_of(variant), made_up(2).image
    batches = [made_up(4), made_up(4), made_up(2)]
    stopping = EpochWithSigterm(batches)
    whole = fitted(tmp_path / "whole", lambda epoch: batches, preset=preset, run=run, frames=frames)
    for starts in range(1, 10):  # three epochs of three steps
        monkeypatch.setattr(interrupts, "_has_sigterm", False)
        unit = Workspace(tmp_path / "stopped").unit("run", {})
        with pytest.raises(interrupts.Stopped):
            train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch: stopping, frames=frames)
        history = load_history(Workspace(tmp_path / "stopped").unit("run", {}))
        assert 3 * history.epochs + history.steps == starts
    name = "epoch-0003.safetensors"
    assert unit.path(name).read_bytes() == whole.path(name).read_bytes()
    assert without_time(history) == without_time(load_history(whole))


SATURATING = PhaseSettings(epochs=9, rate=1e-3, patience=2)


@pytest.mark.parametrize(("losses", "over"), [
    ([3, 3, 3, 3, 3, 3, 3, 3], False),  # has not begun to learn
    ([3, 3, 2.98, 2.98, 2.98, 2.98], False),  # has fallen by less than a hundredth
    ([3, 3, 2.96, 2.96, 2.96, 2.96], True),
    ([3, 3, 2, 1, 1, 1], False),  # (1 + 1) / 2 is below (2 + 1) / 2
    ([3, 3, 2, 1, 1, 1, 1], False),  # half of a comparison
    ([3, 3, 2, 1, 1, 1, 1, 1], True),
    ([3, 3, 1, 1, 0.999, 0.999], False),  # still falls
    ([3, 1, 1], False),  # too few to compare
    ([3, 3, 2, 2, 2.5, 2.5], True),  # rises again
    ([3, 2, 2, 2.5, 2.5, 2.5], False),  # no lower than at the start
    ([9, 8, 7, 6, 5, 4, 3, 2, 1], True),  # the last epoch
], ids=str)  # fmt: skip
def test_training_is_over_when_the_loss_that_fell_no_longer_falls(losses, over):
    assert train.is_over(SATURATING, losses) == over


def test_without_patience_every_epoch_is_trained():
    settings = PhaseSettings(epochs=9, rate=1e-3)
    assert [train.is_over(settings, [3.0, *[1.0] * count]) for count in range(9)] == [False] * 8 + [True]


@pytest.mark.parametrize(("decays", "paces"), [(True, [1.0, 0.75, 0.25]), (False, [1.0, 1.0, 1.0])])
def test_rates_fall_along_half_a_cosine_where_the_settings_say_so(tmp_path, monkeypatch, decays, paces):
    rates, whole_epoch = [], train._epoch

    def epoch_with_noted_rates(run, networks, optimizer, *arguments):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return whole_epoch(run, networks, optimizer, *arguments)

    monkeypatch.setattr(train, "_epoch", epoch_with_noted_rates)
    joint = dataclasses.replace(PRESET.training.joint, decays=decays)
    fitted(tmp_path, lambda epoch: [made_up(4)], preset=changed(PRESET, joint=joint))
    both = sorted([joint.rate, joint.localization_rate])
    assert [sorted(groups) for groups in rates] == [pytest.approx([pace * rate for rate in both]) for pace in paces]


def test_a_saturated_run_stops_and_a_killed_one_stops_at_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    losses = [3.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    whole_epoch = train._epoch

    def epoch_with_given_loss(*arguments):
        history, is_stopped = whole_epoch(*arguments)
        return dataclasses.replace(history, loss=(*losses[: history.epochs],)), is_stopped

    monkeypatch.setattr(train, "_epoch", epoch_with_given_loss)
    preset = changed(PRESET, joint=SATURATING)
    whole = fitted(tmp_path / "whole", lambda epoch: [made_up(4)], preset=preset)
    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path / "killed", lambda epoch: [KeyboardInterrupt() if epoch == 5 else made_up(4)], preset=preset)
    resumed = fitted(tmp_path / "killed", lambda epoch: [made_up(4)], preset=preset)
    assert load_history(whole).loss == (*losses[:8],)
    assert load_history(whole).is_finished
    assert resumed.path("epoch-0008.safetensors").read_bytes() == whole.path("epoch-0008.safetensors").read_bytes()
    assert without_time(load_history(resumed)) == without_time(load_history(whole))
    assert set(load_file(whole.path("epoch-0008.safetensors"))) == set(build(JOINT, CLASSES, PRESET).state_dict())
    assert variant_of("annealed").settings(preset).patience == 0, "guidance that fades needs the epochs it fades over"


def test_only_a_run_that_is_trained_to_its_end_can_be_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    experiment = experiment_of(tmp_path)
    with pytest.raises(NotDoneError, match="missing, damaged or made from other inputs"):
        experiment.history(JOINT)
    networks, unit = build(JOINT, CLASSES, PRESET), experiment.unit(JOINT)
    epochs = [[made_up(4)], [KeyboardInterrupt()]]
    with pytest.raises(KeyboardInterrupt):
        train.fit(JOINT, networks, PRESET, unit, lambda epoch: Epoch(epochs[epoch]))
    assert not experiment.is_finished(JOINT)
    for load in (experiment.history, experiment.trained):
        with pytest.raises(NotDoneError, match="joint-spatial-general-vgg-16-sstn is not trained to its end"):
            load(JOINT)
    train.fit(JOINT, networks, PRESET, experiment.unit(JOINT), lambda epoch: Epoch([made_up(4)]))
    assert experiment.is_finished(JOINT)
    assert experiment.history(JOINT).epochs == 3
    torch.testing.assert_close(experiment.trained(JOINT).state_dict(), networks.state_dict(), rtol=0, atol=0)


def test_what_is_kept_at_the_end_is_the_weights_alone(tmp_path):
    unit = fitted(tmp_path, lambda epoch: [made_up(4)])
    assert set(load_file(unit.path("epoch-0003.safetensors"))) == set(build(JOINT, CLASSES, PRESET).state_dict())


@pytest.mark.parametrize("run", [
    Run(Phase.RECOGNITION, Modality.TEMPORAL, MIDDLE),
    Run(Phase.GUIDANCE, Modality.SPATIAL, MIDDLE, "vgg-16", Variant.SSTN),
    Run(Phase.JOINT, Modality.TEMPORAL, GENERAL, "vgg-16", Variant.SSTN),
    Run(Phase.JOINT, Modality.SPATIAL, GENERAL, "vgg-16", Variant.GUIDED),
    Run(Phase.BASELINE, Modality.SPATIAL, DETAIL, variant=Variant.HARD_CODED),
], ids=lambda run: run.name)  # fmt: skip
def test_a_step_on_sub_batches_is_the_step_on_the_whole_batch(run):
    batch = made_up(10, run.level, run.modality, torch.float64)
    made = []
    for sub_batch in (10, 3):
        networks = build(run, CLASSES, PRESET).double().eval()  # dropout would differ by nature
        optimizer = torch.optim.SGD(networks.parameters(), lr=0.1)
        objective = make_objective(run, networks, run.guidance(PRESET, 0))
        outcome = steps.train_step(optimizer, objective, steps.sub_batches(batch, sub_batch), 10)
        made.append((networks.state_dict(), outcome))
    (whole, outcome), (parts, other) = made
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    assert other == pytest.approx(outcome, rel=1e-12)


PAPER = PRESETS["paper"]


@pytest.mark.parametrize("run", [
    Run(Phase.GUIDANCE, Modality.SPATIAL, PAPER.data.levels[0], "vgg-f", Variant.SSTN),
    Run(Phase.BASELINE, Modality.SPATIAL, PAPER.data.levels[0], variant=Variant.HARD_CODED),  # VGG-16
], ids=lambda run: run.name)  # fmt: skip
def test_at_full_size_sub_batches_add_up_to_the_rounding_of_float32(run):
    """Not for joint training: a glimpse's slope jumps at every pixel, so theta's last bit can decide its gradient."""
    networks, batch = build(run, CLASSES, PAPER).eval(), made_up(3, run.level)
    optimizer = torch.optim.SGD(networks.parameters(), lr=0.0)
    objective = make_objective(run, networks, run.guidance(PAPER, 0))
    gradients = []
    for sub_batch in (3, 2):
        steps.train_step(optimizer, objective, steps.sub_batches(batch, sub_batch), 3)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in networks.parameters()]))
    whole, parts = gradients
    assert (parts - whole).norm() <= 4e-6 * whole.norm()  # about 1e-6


def test_the_guidance_loss_is_the_distance_summed_over_theta_and_averaged_over_samples():
    run = Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-f", Variant.SSTN)
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = make_objective(run, networks, run.guidance(PRESET, 0))(batch)
    theta = networks.transformer.localize(batch.image)
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
    networks.classifier.eval()
    networks.transformer.train()  # as the loop leaves it
    loss = make_objective(run, networks, run.guidance(PRESET, 0))(batch).loss
    scores = networks.classifier(networks.transformer.eval()(batch.image).image)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, batch.label))


@pytest.mark.parametrize(("variant", "epoch", "strength"), [
    ("guided", 0, 1.0),
    ("guided", 2, 1.0),
    ("annealed", 0, 1.0),
    ("annealed", 1, 0.5),
    ("annealed", 2, 0.0),
    ("SSTN", 0, 0.0),
], ids=str)  # fmt: skip
def test_guidance_in_joint_training_adds_its_weighted_distance(variant, epoch, strength):
    run, batch = variant_of(variant), made_up(4)
    networks = build(run, CLASSES, PRESET).eval()
    loss = make_objective(run, networks, run.guidance(PRESET, epoch))(batch).loss
    glimpse = networks.transformer(batch.image)
    task = torch.nn.functional.cross_entropy(networks.classifier(glimpse.image), batch.label)
    torch.testing.assert_close(loss, task + strength * (batch.theta - glimpse.theta).abs().sum((1, 2)).mean())


def test_every_epoch_has_its_own_strength_of_guidance(tmp_path, monkeypatch):
    asked, make = [], make_objective
    monkeypatch.setattr(
        train, "make_objective", lambda run, networks, guidance: asked.append(guidance) or make(run, networks, guidance)
    )
    fitted(tmp_path, lambda epoch: [made_up(4)], run=variant_of("annealed"))
    assert asked == [1.0, 0.5, 0.0]


def test_the_center_variant_sees_the_center_window_alone():
    run, batch = Run(Phase.BASELINE, Modality.SPATIAL, MIDDLE, variant=Variant.CENTER), made_up(4, MIDDLE)
    networks = build(run, CLASSES, PRESET).eval()
    loss = make_objective(run, networks, run.guidance(PRESET, 0))(batch).loss
    scores = networks.classifier(batch.image[:, :, 14:42, 14:42])
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(scores, batch.label))


def test_recognition_is_trained_on_the_random_windows():
    run = Run(Phase.RECOGNITION, Modality.SPATIAL, DETAIL)
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = make_objective(run, networks, run.guidance(PRESET, 0))(batch)
    scores = networks.classifier(affine_sample(batch.image, batch.random, (28, 28)))
    torch.testing.assert_close(outcome.loss, torch.nn.functional.cross_entropy(scores, batch.label))


def test_what_a_sub_batch_drops_depends_on_nothing_that_was_computed_before(tmp_path):
    preset = changed(PRESET, joint=PhaseSettings(epochs=1, rate=0.0))
    alone, after = (
        load_history(fitted(tmp_path / str(len(batches)), lambda epoch, batches=batches: batches, preset=preset)).loss[
            0
        ]
        for batches in ([made_up(4)], [made_up(4), made_up(4)])
    )
    assert after == pytest.approx(alone, rel=1e-6)  # at rate zero, the same clips lose the same again
    other = fitted(tmp_path / "other", lambda epoch: [made_up(4)], preset=preset, seed=1)
    assert load_history(other).loss[0] != pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(
    "run", [Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-m", Variant.SSTN), JOINT], ids=lambda run: run.name
)
def test_at_half_precision_networks_compute_coarsely_but_theta_does_not(run, tmp_path):
    networks, batch = build(run, CLASSES, PRESET), made_up(4, run.level)
    transformer, dtypes = networks.transformer, {}
    for part in (transformer.localization.features, transformer.head):
        part.register_forward_hook(lambda module, inputs, output: dtypes.update({module: output.dtype}))
    once = PhaseSettings(epochs=1, rate=1e-3)
    preset = changed(PRESET, precision="bfloat16", guide=once, joint=once)
    train.fit(run, networks, preset, Workspace(tmp_path).unit("run", {}), lambda epoch: Epoch([batch]))
    assert dtypes == {transformer.localization.features: torch.bfloat16, transformer.head: torch.float32}
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
    for preset in (PRESET, changed(PRESET, compile=True)):
        networks = experiment_of(tmp_path, preset).placed(build(JOINT, CLASSES, preset)).eval()
        loss = make_objective(JOINT, networks, JOINT.guidance(preset, 0))(batch).loss
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in networks.named_parameters()}
        answers.append((loss, gradients, networks.state_dict()))
    assert len(graphs) == 2, "both networks, and none without the option"
    torch.testing.assert_close(*answers)


def test_biases_learn_at_twice_the_rate_and_without_decay_under_sgd():
    preset = PRESETS["paper"]
    with torch.device("meta"):
        networks = build(Run(Phase.JOINT, Modality.SPATIAL, preset.data.levels[0], "vgg-f", Variant.SSTN), 64, preset)
    groups = steps.make_optimizer(
        Run(Phase.JOINT, Modality.SPATIAL, preset.data.levels[0], "vgg-f", Variant.SSTN), networks, preset
    ).param_groups
    rates = [(group["lr"], group["weight_decay"], group["momentum"]) for group in groups]
    assert rates == [(1e-6, 5e-4, 0.9), (2e-6, 0.0, 0.9), (1e-5, 5e-4, 0.9), (2e-5, 0.0, 0.9)]
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in networks.parameters()
    )


def test_a_network_depends_on_the_data_and_on_training_and_on_nothing_else(tmp_path):
    def key(preset):
        return experiment_of(tmp_path, preset).unit(JOINT).inputs

    same = changed(PRESET, variants=(Variant.STN_LEVEL,), seeds=(SeedPlan(0), SeedPlan(1)), svm_c=10.0, workers=3)
    assert key(same) == key(PRESET)
    for other in ({"joint": PhaseSettings(epochs=4, rate=1e-3)}, {"flow_bound": 4.0}, {"width": 0.5}, {"threads": 2}):
        assert key(changed(PRESET, **other)) != key(PRESET)


@pytest.mark.parametrize(
    ("variant", "pace"), [("STN", 1), ("SSTN", 1), ("STN-slow", 0.1), ("SSTN-slow", 0.1), ("STN-fast", 10)]
)
def test_variants_may_learn_where_to_look_at_another_rate(variant, pace):
    run = variant_of(variant)
    transformer, classifier = steps.make_optimizer(run, build(run, CLASSES, PRESET), PRESET).param_groups
    assert transformer["lr"] == pytest.approx(pace * PRESET.training.joint.localization_rate)
    assert classifier["lr"] == PRESET.training.joint.rate
