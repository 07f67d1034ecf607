"""Which window a variant is tested on, how many frames at once, and how guided windows overlap those of most motion."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from examples.mpii_cooking.config import PRESETS, levels
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.samples import FrameSamples
from examples.mpii_cooking.evaluation import features
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.workspace import Workspace
from supervised_st.geometry import window_iou, window_to_theta
from tests.helpers.made_up_samples import CLASSES, GENERAL, MIDDLE, PRESET, made_up, variant_of

CENTER = [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]


@pytest.mark.parametrize(("run", "window"), [
    (Run("recognize", "spatial", MIDDLE), lambda networks, batch: torch.tensor(CENTER).expand(4, 2, 3)),
    (Run("baseline", "spatial", MIDDLE, variant="center"),
     lambda networks, batch: torch.tensor(CENTER).expand(4, 2, 3)),
    (Run("baseline", "spatial", MIDDLE, variant="R_h"), lambda networks, batch: batch.theta),
    (variant_of("frozen", MIDDLE), lambda networks, batch: networks["transformer"].localize(batch.image)),
], ids=lambda run: getattr(run, "name", ""))  # fmt: skip
def test_every_variant_is_tested_on_the_window_it_stands_for(run, window):
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
    center = window_iou(middle.expand_as(batch.theta), batch.theta).tolist()
    assert cell == {
        "modality": "spatial",
        "level": "general",
        "localizer": "vgg-16",
        "iou": [pytest.approx(expected[0]), None, pytest.approx(expected[2])],
        "center": [pytest.approx(center[0]), None, pytest.approx(center[2])],
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
