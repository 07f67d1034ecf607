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
from supervised_st.geometry import window_to_theta

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
    corner = torch.randint(level.height - 28 + 1, (count, 2), generator=generator)
    random = window_to_theta(torch.cat([corner, torch.full_like(corner, 28)], dim=1), (level.height, level.height))
    return Sample(image.to(dtype), theta.to(dtype), confidence, numbers % CLASSES, numbers, numbers, random.to(dtype))


class Epoch:
    """The samples of a list of batches, in their order; an exception in the list is raised where a sample would be."""

    preset = SMOKE

    def __init__(self, batches):
        self.rows = [
            row for batch in batches for row in ([batch] if isinstance(batch, BaseException) else train.split(batch, 1))
        ]

    def shuffled(self):
        return list(range(len(self.rows)))

    def __getitems__(self, indices):
        rows = [self.rows[index] for index in indices]
        for row in rows:
            if isinstance(row, BaseException):
                raise row
        return Sample(*map(torch.cat, zip(*rows, strict=True)))


JOINT = Run("joint", "spatial", GENERAL, "vgg-16", "SSTN")
PRESET = dataclasses.replace(SMOKE, joint=Phase(epochs=3, rate=1e-3, localisation_rate=1e-4))


def fitted(folder, samples, *, preset=PRESET, run=JOINT, looks=None):
    unit = Workspace(folder).unit("run", {})
    train.fit(run, build(run, CLASSES, preset), preset, unit, lambda epoch: Epoch(samples(epoch)), looks)
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
    Run("recognise", "temporal", MIDDLE),
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
        outcome = train.train_step(optimiser, train.make_objective(run, networks), train.split(batch, sub_batch), 10)
        steps.append((networks.state_dict(), outcome))
    (whole, outcome), (parts, other) = steps
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other.loss, outcome.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.measure, outcome.measure, rtol=1e-12, atol=0)


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
        assert torch.isfinite(train.train_step(optimiser, objective, [no_target], 4).loss)
    moved = {name for name, tensor in networks.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {
        "transformer.head.weight",
        "transformer.localisation.features.0.weight",
        "recogniser.features.0.weight",
    } <= moved


def test_recognition_is_trained_on_the_random_windows():
    run = Run("recognise", "spatial", DETAIL)
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(6, DETAIL)
    outcome = train.make_objective(run, networks)(batch)
    scores = networks["recogniser"](affine_sample(batch.image, batch.random, (28, 28)))
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
    for part in (transformer.localisation, transformer.head):
        part.register_forward_hook(lambda module, inputs, output: dtypes.update({module: output.dtype}))
    preset = dataclasses.replace(PRESET, precision="bfloat16", guide=Phase(1, 1e-3), joint=Phase(1, 1e-3))
    train.fit(run, networks, preset, Workspace(tmp_path).unit("run", {}), lambda epoch: Epoch([batch]))
    assert dtypes == {transformer.localisation: torch.bfloat16, transformer.head: torch.float32}
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
        loss = train.make_objective(JOINT, networks)(batch).loss
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in networks.named_parameters()}
        answers.append((loss, gradients, networks.state_dict()))
    assert len(graphs) == 2, "both networks, and none without the option"
    torch.testing.assert_close(*answers)


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
