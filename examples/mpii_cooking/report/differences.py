"""Where a run departs from what the paper states."""

from typing import NamedTuple

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.training.networks import CLASSIFIER_DROPOUT, LOCALIZER_DROPOUT, SMALL_DROPOUT
from examples.mpii_cooking.training.weights import RANDOM


class Departure(NamedTuple):
    """Something that the paper did one way and a run another."""

    what: str
    paper: str
    here: str


def is_comparable(results: Results) -> bool:
    """Whether a run tested the paper's clips at the paper's sizes, whatever its networks started from."""
    dataset = results.dataset
    same_clips = dataset.has_paper_protocol and not dataset.is_synthetic and len(results.labels) == paper.TEST_CLIPS
    return same_clips and results.settings.data.scale == 1


def departures(results: Results) -> list[Departure]:
    """List where a run departs from what the paper states."""
    dataset, settings = results.dataset, results.settings
    found = []
    if dataset.is_synthetic or not dataset.has_paper_protocol:
        clips = f"{sum(dataset.train_clips)} training and {len(results.labels)} test clips"
        here = f"{dataset.name}: {len(dataset.classes)} classes, {clips}"
        found.append(Departure("Data", "MPII Cooking: 64 classes, 1715 training and 2033 test clips", here))
    random = [network for network, origin in results.weights.items() if origin == RANDOM]
    if random:
        found.append(Departure("Start of the networks", "trained on ImageNet", f"random weights: {', '.join(random)}"))
    if results.localizers != paper.LOCALIZERS:
        found.append(Departure("Localization networks", ", ".join(paper.LOCALIZERS), ", ".join(results.localizers)))
    settled = [(what, theirs, of(settings)) for what, theirs, of in paper.SETTINGS]
    found += [Departure(what, _plain(theirs), _plain(ours)) for what, theirs, ours in settled if ours != theirs]
    if settings.data.scale != 1:
        dropout = ", ".join(f"{rate:g} {modality}" for modality, rate in CLASSIFIER_DROPOUT.items())
        found.append(Departure("Dropout of the classifiers", dropout, _plain(SMALL_DROPOUT)))
        theirs = f"FC7, with dropout {_plain(LOCALIZER_DROPOUT)}"
        found.append(Departure("Localization networks end in", theirs, "mean positions on finer maps, without dropout"))
    if settings.training.guide.decays:
        found.append(Departure("Rate during guidance", "constant", "falls to zero"))
    if settings.training.optimizer != "sgd":
        found.append(Departure("Optimizer", "stochastic gradient descent", settings.training.optimizer.capitalize()))
    return [
        *found,
        Departure("Sampling of every window", "bilinear", "also averaged over the area of each sample"),
        Departure("First stage of R_h", "on windows of most motion", "on random crops, shared by all variants"),
        Departure("Rows of Table 2", "STN and SSTN", "also R_h, the center window, and constant answers"),
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
