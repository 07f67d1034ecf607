"""What trained networks predict for one frame of every test clip: its class, and the window."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from examples.mpii_cooking.data.samples import ClipSamples, FrameSamples, Sample, ahead, batches, chunks
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import make_missing
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import autocast
from examples.mpii_cooking.training.objectives import center_windows, evaluation_windows
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.variants import Modality, Phase
from examples.mpii_cooking.workspace import Unit
from supervised_st import affine_sample
from supervised_st.geometry import window_iou

EVALUATION_BYTES = 2**28  # the most of a batch, since loaders hold several

Overlaps = tuple[float | None, ...]  # IoU with the window of most motion in each test clip; None where nothing moved


def answered_runs(experiment: Experiment) -> list[Run]:
    """Return the runs that classify RGB."""
    return [run for run in experiment.runs if run.has_classifier and run.modality is Modality.SPATIAL]


def compute_answers(experiment: Experiment) -> None:
    """Store the class that each of the tested runs predicts for one frame of every test clip. Ranks share the runs."""
    units, make = partial(_unit, experiment, "predictions"), partial(_make_answers, experiment)
    make_missing("single frames", answered_runs(experiment), units, make, "run")


def load_answers(experiment: Experiment, run: Run) -> list[int]:
    """Return the class that ``run`` predicts for one frame of every test clip."""
    answers: list[int] = _unit(experiment, "predictions", run).facts["answers"]
    return answers


def guidance_runs(experiment: Experiment) -> list[Run]:
    """Return the runs that guide the main localization network, one for each stream."""
    localizer = experiment.preset.scope.main_localizer
    return [run for run in experiment.runs if run.phase is Phase.GUIDANCE and run.localizer == localizer]


def compute_overlaps(experiment: Experiment) -> None:
    """Store how well guidance has taught the main localization network. Ranks share the streams."""
    units, make = partial(_unit, experiment, "overlap"), partial(_make_overlaps, experiment)
    make_missing("overlap with the window of most motion", guidance_runs(experiment), units, make, "stream")


def load_overlaps(experiment: Experiment, run: Run) -> tuple[Overlaps, Overlaps]:
    """Return the overlaps of the window that guidance has taught, and of the center window, for comparison."""
    facts = _unit(experiment, "overlap", run).facts
    return tuple(facts["guided"]), tuple(facts["center"])


@torch.inference_mode()
def evaluated(
    experiment: Experiment, samples: ClipSamples | FrameSamples, network: Callable[[Sample], Tensor]
) -> Iterator[Tensor]:
    """Yield what ``network`` returns for all samples, batch by batch, as float32 on the CPU."""
    for batch in ahead(evaluation_batches(samples)):
        with autocast(experiment.preset, experiment.device):
            values = network(Sample(*(field.to(experiment.device) for field in batch)))
        yield values.float().cpu()


def evaluation_batches(samples: ClipSamples | FrameSamples) -> Iterator[Sample]:
    """Yield all samples in their order, in batches of the size of a sub-batch in training.

    Larger ones would make the first batch, during which nothing else is done, and the memory for each new one, larger.
    """
    size = min(samples.preset.training.sub_batch, max(1, EVALUATION_BYTES // samples.image_bytes))
    yield from batches(samples, chunks(range(len(samples)), size))


def _unit(experiment: Experiment, kind: str, run: Run) -> Unit:
    inputs = experiment.seen_by(run) | made_by(__name__)
    return experiment.workspace.unit(f"{kind}/{run.name}", inputs, experiment.check_caches)


def _make_answers(experiment: Experiment, run: Run, unit: Unit) -> None:
    networks = experiment.trained(run)
    classifier, windows = networks.classifier, evaluation_windows(run, networks)
    size = (classifier.input_size, classifier.input_size)

    def scores(sample: Sample) -> Tensor:
        values: Tensor = classifier(affine_sample(sample.image, windows(sample), size, antialias=True))
        return values

    samples = experiment.test_samples(run.modality, run.level)
    unit.commit(answers=torch.cat([*evaluated(experiment, samples, scores)]).argmax(1).tolist())


def _make_overlaps(experiment: Experiment, run: Run, unit: Unit) -> None:
    transformer, side = experiment.trained(run).transformer, experiment.preset.data.glimpse

    def overlap(sample: Sample) -> Tensor:
        windows = transformer.localize(sample.image), center_windows(sample, side)
        return torch.stack([*(window_iou(window, sample.theta) for window in windows), sample.confidence], dim=1)

    samples = experiment.test_samples(run.modality, run.level)
    guided, center, confidence = torch.cat([*evaluated(experiment, samples, overlap)]).T.tolist()
    moved = [[iou if sure else None for iou, sure in zip(ious, confidence, strict=True)] for ious in (guided, center)]
    unit.commit(guided=moved[0], center=moved[1])
