"""Which window a variant is tested on, how many frames at once, and how guided windows overlap those of most motion."""

import pytest
import torch

from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.samples import FrameSamples
from examples.mpii_cooking.evaluation import features, predictions
from examples.mpii_cooking.evaluation.features import Shard, Stream
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.objectives import evaluation_windows
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant
from examples.mpii_cooking.workspace import NotDoneError, Workspace
from supervised_st.geometry import window_iou, window_to_theta
from tests.helpers.made_up_samples import CLASSES, GENERAL, MIDDLE, PRESET, changed, made_up, variant_of

GUIDE = Run(Phase.GUIDANCE, Modality.SPATIAL, GENERAL, "vgg-16", Variant.SSTN)
CENTER = [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]


@pytest.mark.parametrize(("run", "window"), [
    (Run(Phase.RECOGNITION, Modality.SPATIAL, MIDDLE), lambda networks, batch: torch.tensor(CENTER).expand(4, 2, 3)),
    (Run(Phase.BASELINE, Modality.SPATIAL, MIDDLE, variant=Variant.CENTER),
     lambda networks, batch: torch.tensor(CENTER).expand(4, 2, 3)),
    (Run(Phase.BASELINE, Modality.SPATIAL, MIDDLE, variant=Variant.HARD_CODED), lambda networks, batch: batch.theta),
    (variant_of("frozen", MIDDLE), lambda networks, batch: networks.transformer.localize(batch.image)),
], ids=lambda run: getattr(run, "name", ""))  # fmt: skip
def test_every_variant_is_tested_on_its_own_window(run, window):
    networks, batch = build(run, CLASSES, PRESET).eval(), made_up(4, MIDDLE)
    assert torch.equal(evaluation_windows(run, networks)(batch), window(networks, batch))


def experiment_of(folder, monkeypatch, networks, batch):
    """An experiment that has one guided network and one batch of test frames."""
    experiment = Experiment({}, {}, PRESET, SeedPlan(0), Workspace(folder), torch.device("cpu"))
    monkeypatch.setattr(Experiment, "runs", (GUIDE,))
    monkeypatch.setattr(Experiment, "seen_by", lambda self, run: {"run": run.name})
    monkeypatch.setattr(Experiment, "trained", lambda self, run: networks)
    monkeypatch.setattr(Experiment, "test_samples", lambda self, modality, level: batch)
    monkeypatch.setattr(predictions, "evaluation_batches", lambda samples: iter([samples]))
    return experiment


def test_the_overlap_is_that_of_the_guided_window_with_the_one_of_most_motion(tmp_path, monkeypatch):
    networks, batch = build(GUIDE, CLASSES, PRESET).eval(), made_up(3)
    batch.confidence[1] = 0
    networks.transformer.head.bias.data = batch.theta[0].flatten()  # so that there is something to overlap with
    experiment = experiment_of(tmp_path, monkeypatch, networks, batch)
    expected = window_iou(networks.transformer.localize(batch.image), batch.theta).tolist()
    corner, side = (GENERAL.height - PRESET.data.glimpse) / 2, PRESET.data.glimpse
    middle = window_to_theta(torch.tensor([[corner, corner, side, side]]), (GENERAL.height,) * 2)
    center = window_iou(middle.expand_as(batch.theta), batch.theta).tolist()
    assert predictions.guidance_runs(experiment) == [GUIDE]
    predictions.compute_overlaps(experiment)
    found = predictions.load_overlaps(experiment, GUIDE)
    assert found == (
        (pytest.approx(expected[0]), None, pytest.approx(expected[2])),
        (pytest.approx(center[0]), None, pytest.approx(center[2])),
    )
    assert 0.5 < expected[0] < 1


def test_what_was_not_computed_is_not_loaded(tmp_path, monkeypatch):
    experiment = experiment_of(tmp_path, monkeypatch, None, None)
    stream = Stream(Modality.SPATIAL, GENERAL)
    monkeypatch.setattr(features, "shards", lambda experiment, part: [Shard(part, [])])
    loads = (
        lambda: predictions.load_overlaps(experiment, GUIDE),
        lambda: predictions.load_answers(experiment, Run(Phase.RECOGNITION, *stream)),
        lambda: features.load_features(experiment, stream, Region.LEARNED, "test"),
    )
    for load in loads:
        with pytest.raises(NotDoneError, match="run its stage"):
            load()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "modality", "count"), [
    ("quick", Modality.TEMPORAL, 16),  # a sub-batch, 16 MB
    ("paper", Modality.SPATIAL, 16),  # a sub-batch, 154 MB
    ("paper", Modality.TEMPORAL, 4),  # 257 MB
])  # fmt: skip
def test_evaluation_takes_a_sub_batch_at_once_or_what_memory_holds(monkeypatch, name, modality, count):
    preset = changed(PRESETS[name], feature_stride=1)
    samples = FrameSamples([Clip("s", 0, 100, label=0)], {}, preset.data.levels[-1], modality, preset)
    monkeypatch.setattr(predictions, "batches", lambda samples, indices: map(len, indices))
    assert next(predictions.evaluation_batches(samples)) == count
