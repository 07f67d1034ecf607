"""Released weights in a run: which files a folder may hold, what the plan says of them, and what is trained again."""

import hashlib
from functools import partial

import pytest
import torch
import tyro

from examples.mpii_cooking import plan, run_all
from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data.dataset import DataError, Dataset
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training import weights
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import Networks
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Workspace
from tests.helpers.released_weights import GENERAL, MEANS, NARROW, WIDTH, read, released_layers, written


@pytest.fixture
def _files_are_narrow(monkeypatch):
    """Full-size networks have half a gigabyte each; which layers are asked for does not depend on their width."""
    monkeypatch.setattr(weights, "read", partial(weights.read, width=WIDTH))


@pytest.mark.usefixtures("_files_are_narrow")
def test_a_folder_may_have_some_of_the_files_and_says_which(tmp_path):
    for name in ("vgg-f", "vgg-m"):
        written(tmp_path / f"imagenet-{name}.mat", released_layers(name), MEANS[name])
    found = weights.read_weights(tmp_path, PRESETS["paper"])
    assert set(found) == {"vgg-f", "vgg-m"}
    said = weights.origins(PRESETS["paper"], found)
    assert said["vgg-16"] == "random"
    digest = hashlib.sha256((tmp_path / "imagenet-vgg-m.mat").read_bytes()).hexdigest()
    assert said["vgg-m"] == f"imagenet-vgg-m.mat, SHA-256 {digest}"


@pytest.mark.usefixtures("_files_are_narrow")
def test_a_folder_without_weights_or_with_too_many_is_refused(tmp_path):
    with pytest.raises(DataError, match=f"must be an existing folder, got {tmp_path}/none"):
        weights.read_weights(tmp_path / "none", PRESETS["paper"])
    with pytest.raises(DataError, match=r"imagenet-vgg-f\.mat, .* got none in"):
        weights.read_weights(tmp_path, PRESETS["paper"])
    for name in ("vgg16.pth", "imagenet-vgg-verydeep-16.mat"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"one file of vgg-16, got 2 .*: imagenet-vgg-verydeep-16.mat, vgg16.pth"):
        weights.read_weights(tmp_path, PRESETS["paper"])


class _StoppedError(Exception):
    """Raised where the test ends."""


@pytest.mark.usefixtures("_files_are_narrow")
def test_plan_and_training_of_a_run_get_its_weights_and_inputs_in_pixels(tmp_path, monkeypatch):
    written(tmp_path / "imagenet-vgg-f.mat", released_layers("vgg-f"), MEANS["vgg-f"])
    planned = []

    def stop(experiments):
        raise _StoppedError(experiments[0].preset, experiments[0].weights)

    monkeypatch.setattr(
        run_all, "open_dataset", lambda *_, **others: Dataset("none", {}, (), (), (), "", has_paper_protocol=False)
    )
    monkeypatch.setattr(run_all.plan, "make", lambda *handed: planned.append(handed) or "")
    monkeypatch.setattr(run_all, "prepare_sound", lambda dataset, *_, **others: (dataset, {}))
    monkeypatch.setattr(run_all, "check_motion", lambda *_: None)
    monkeypatch.setattr(run_all, "train_all", stop)
    for folder, gains, files in ((tmp_path, (1, 1), {"vgg-f"}), (None, (1 / 64, 1 / 16), set())):
        with pytest.raises(_StoppedError) as stopped:
            run_all.main(data=tmp_path, output=tmp_path / "output", preset="paper", weights=folder)
        preset, released = stopped.value.args
        assert (preset.training.rgb_gain, preset.training.flow_gain) == gains
        assert set(released) == files
        _, same, *_, handed, _ = planned.pop()
        assert same == preset
        assert handed is released


def test_the_plan_says_what_each_network_starts_from():
    dataset = Dataset("none", {}, ("cut", "peel"), (), (), "", has_paper_protocol=False)
    released = {"vgg-16": weights.Released("vgg16.pth", "0a1b", {}, None)}
    lines = [*plan._network_lines(dataset, PRESETS["paper"], released)]
    ends = {"vgg-f": "random", "vgg-16": "vgg16.pth, SHA-256 0a1b"}
    assert all(
        any(f"localization, {name} " in line and line.endswith(end) for line in lines) for name, end in ends.items()
    )
    assert lines[-1].endswith("vgg16.pth, SHA-256 0a1b, 2 classes")


def test_the_plan_measures_networks_with_their_weights(monkeypatch):
    """Random networks may not stay finite on inputs of that size."""
    dataset = Dataset("none", {}, ("cut", "peel"), (), (), "", has_paper_protocol=False)
    released, built = {}, []

    def build(_run, _classes, _preset, weights=weights.NO_WEIGHTS):
        built.append(weights)
        return Networks()

    monkeypatch.setattr(plan, "build", build)
    monkeypatch.setattr(plan, "_step_cost", lambda *_: (0, 0))
    plan._training_cost(dataset, PRESETS["paper"], released, None, torch.device("cpu"))
    assert any(weights is released for weights in built)


def test_runs_are_trained_again_when_the_weights_of_their_own_networks_change(tmp_path):
    def units(**digests):
        found = {name.replace("_", "-"): weights.Released("a", digest, {}, None) for name, digest in digests.items()}
        dataset = Dataset("none", {}, (), (), (), "", has_paper_protocol=False)
        experiment = Experiment(
            dataset, {}, PRESETS["paper"], SeedPlan(0), Workspace(tmp_path), torch.device("cpu"), found
        )
        level = PRESETS["paper"].data.levels[0]
        runs = {
            "guide": Run(Phase.GUIDANCE, Modality.SPATIAL, level, "vgg-f", Variant.SSTN),
            "joint": Run(Phase.JOINT, Modality.SPATIAL, level, "vgg-f", Variant.SSTN),
            "recognize": Run(Phase.RECOGNITION, Modality.SPATIAL, level),
        }
        return {name: experiment.unit(run).inputs for name, run in runs.items()}

    def changes(before, after):
        return {name for name in before if before[name] != after[name]}

    assert changes(units(), units(vgg_f="1")) == {"guide", "joint"}
    assert changes(units(vgg_f="1"), units(vgg_f="2")) == {"guide", "joint"}
    assert changes(units(), units(vgg_16="1")) == {"joint", "recognize"}
    assert changes(units(), units(vgg_m="1")) == set()


def test_training_begins_at_the_weights(tmp_path):
    path = written(tmp_path / "network.mat", released_layers("vgg-f"), MEANS["vgg-f"])
    released = {"vgg-f": read(path, "vgg-f")}
    dataset = Dataset("none", {}, ("cut", "peel"), (), (), "", has_paper_protocol=False)
    experiment = Experiment(dataset, {}, NARROW, SeedPlan(0), Workspace(tmp_path), torch.device("cpu"), released)
    run = Run(Phase.GUIDANCE, Modality.SPATIAL, GENERAL, "vgg-f", Variant.SSTN)
    begun = experiment.untrained(run).transformer.localization
    assert torch.equal(begun.classifier[0].weight, released["vgg-f"].state["classifier.0.weight"])


def test_small_presets_take_no_weights_and_say_why(tmp_path, capsys):
    output = tmp_path / "output"
    with pytest.raises(SystemExit) as ended:
        tyro.cli(run_all.main, args=["--preset", "smoke", "--weights", str(tmp_path), "--output", str(output)])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: weights must be for the networks as published")
    assert "preset smoke has 28 px and 0.0625 of the channels" in message
    assert not [path.name for path in output.iterdir() if not path.name.startswith(".")], "only the lock"
