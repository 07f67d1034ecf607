"""Which window an arm is tested on, how many frames at once, and how guided windows overlap those of most motion."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_up_samples import CLASSES, GENERAL, MIDDLE, PRESET, arm_of, made_up

from examples.mpii_cooking import features
from examples.mpii_cooking.clips import Clip
from examples.mpii_cooking.config import PRESETS, levels
from examples.mpii_cooking.samples import FrameSamples
from examples.mpii_cooking.streams import Run, build
from examples.mpii_cooking.workspace import Workspace
from supervised_st.geometry import window_iou, window_to_theta

CENTRE = [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]


@pytest.mark.parametrize(("run", "window"), [
    (Run("recognise", "spatial", MIDDLE), lambda networks, batch: torch.tensor(CENTRE).expand(4, 2, 3)),
    (Run("baseline", "spatial", MIDDLE, arm="centre"), lambda networks, batch: torch.tensor(CENTRE).expand(4, 2, 3)),
    (Run("baseline", "spatial", MIDDLE, arm="R_h"), lambda networks, batch: batch.theta),
    (arm_of("frozen", MIDDLE), lambda networks, batch: networks["transformer"].localize(batch.image)),
], ids=lambda run: getattr(run, "name", ""))  # fmt: skip
def test_every_arm_is_tested_on_the_window_it_stands_for(run, window):
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(4, MIDDLE)
    _, looks_at = features._looker(SimpleNamespace(trained=lambda run: networks), run)
    assert torch.equal(looks_at(batch), window(networks, batch))


def test_the_overlap_is_that_of_the_guided_window_with_the_one_of_most_motion(tmp_path, monkeypatch):
    networks, batch = build(Run("guide", "spatial", GENERAL, "vgg-16", "SSTN"), CLASSES, PRESET).eval(), made_up(3)
    batch.confidence[1] = 0
    trainer = SimpleNamespace(
        preset=PRESET,
        workspace=Workspace(tmp_path),
        unit=lambda run: SimpleNamespace(fingerprint=run.name),
        trained=lambda run: networks,
    )
    networks["transformer"].head.bias.data = batch.theta[0].flatten()  # so that there is something to overlap with
    monkeypatch.setattr(features, "_test_frames", lambda trainer, run: [batch])
    monkeypatch.setattr(features, "_scores", lambda trainer, samples, network: map(network, samples))
    monkeypatch.setattr(features, "levels", lambda preset: [GENERAL])
    monkeypatch.setattr(features, "MODALITIES", ["spatial"])
    (cell,) = features.overlaps(trainer)
    expected = window_iou(networks["transformer"].localize(batch.image), batch.theta).tolist()
    corner = (GENERAL.height - PRESET.glimpse) / 2
    middle = window_to_theta(torch.tensor([[corner, corner, PRESET.glimpse, PRESET.glimpse]]), (GENERAL.height,) * 2)
    centre = window_iou(middle.expand_as(batch.theta), batch.theta).tolist()
    assert cell == {
        "modality": "spatial",
        "level": "general",
        "localiser": "vgg-16",
        "iou": [pytest.approx(expected[0]), None, pytest.approx(expected[2])],
        "centre": [pytest.approx(centre[0]), None, pytest.approx(centre[2])],
    }
    assert 0.5 < expected[0] < 1


@pytest.mark.parametrize(("name", "modality", "count"), [
    ("quick", "temporal", 64),  # four sub-batches, 64 MB
    ("paper", "spatial", 27),  # 260 MB
    ("paper", "temporal", 4),  # 257 MB
])  # fmt: skip
def test_evaluation_takes_as_many_samples_at_once_as_memory_holds(monkeypatch, name, modality, count):
    preset = PRESETS[name]
    samples = FrameSamples(
        [Clip("s", 0, 100, label=0)], {}, levels(preset)[-1], modality, replace(preset, feature_stride=1)
    )
    monkeypatch.setattr(features, "batches", lambda samples, indices: map(len, indices))
    assert next(features.evaluation_batches(samples)) == count
