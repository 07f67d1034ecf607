"""The decision values behind Table 3, from features over pooled clips to linear SVMs and their late fusion."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking import paper
from examples.mpii_cooking.config import Level
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.evaluation import svm
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, CLIP_ROWS, POOLING_CELL, ClipCell
from examples.mpii_cooking.evaluation.features import Stream, described_streams, features_content, load_features
from examples.mpii_cooking.evaluation.svm import Gram, Labels
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.stages import make_missing
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.variants import Modality, Region
from examples.mpii_cooking.workspace import Unit, fingerprint

Scores = NDArray[np.float32]  # (clips, classes) decision values


class Descriptors(NamedTuple):
    """The clips' descriptors of one modality at one level."""

    pooling: str
    region: Region
    stream: Stream


class Machine(NamedTuple):
    """SVMs on the clips' descriptors, one at each level, and their late fusion: four cells of Table 3."""

    pooling: str
    stream: str
    region: Region

    def descriptors(self, level: Level) -> list[Descriptors]:
        """Return the descriptors that the SVM of a level reads; it reads them concatenated."""
        modalities = list(Modality) if self.stream == "S+T" else [Modality(self.stream)]
        return [Descriptors(self.pooling, self.region, Stream(modality, level)) for modality in modalities]


def labels(clips: Sequence[Clip]) -> Labels:
    """Return the true class of each clip."""
    return np.array([clip.label for clip in clips], dtype=np.int64)


def compute_scores(experiment: Experiment) -> None:
    """Store the decision values of all cells of Table 3, and those of the other poolings for one cell.

    Ranks share the descriptors first, then the SVMs. An experiment that did not train all streams has no scores.
    """
    machines, levels = _machines(experiment), experiment.preset.data.levels
    needed = dict.fromkeys(each for machine, level in product(machines, levels) for each in machine.descriptors(level))
    units, machine_units = partial(_gram_unit, experiment), partial(_machine_unit, experiment)
    make_missing("pooling", list(needed), units, partial(_make_gram, experiment), "stream")
    make_missing("linear SVMs", machines, machine_units, partial(_make_machine, experiment), "stream")


def load_scores(experiment: Experiment, pooling: str) -> Mapping[ClipCell, Scores]:
    """Return the decision values of one kind of pooling: all cells of Table 3 for the main kind, one for the others."""
    found: dict[ClipCell, Scores] = {}
    for machine in _machines(experiment):
        if machine.pooling == pooling:
            values = np.load(_machine_unit(experiment, machine).file("scores.npy"))
            cells = (ClipCell(row, machine.stream, machine.region) for row in CLIP_ROWS)
            found |= dict(zip(cells, values, strict=True))
    wanted = CLIP_CELLS if pooling == experiment.preset.evaluation.poolings[0] else (POOLING_CELL,)
    return {cell: found[cell] for cell in wanted if cell in found}


def _machines(experiment: Experiment) -> list[Machine]:
    if len(described_streams(experiment)) < len(Modality) * len(experiment.preset.data.levels):
        return []
    main, *others = experiment.preset.evaluation.poolings
    machines = [Machine(main, stream, region) for region in Region for stream in paper.STREAMS]
    return machines + [Machine(other, POOLING_CELL.stream, POOLING_CELL.region) for other in others]


def _gram_unit(experiment: Experiment, descriptors: Descriptors) -> Unit:
    kind, region, stream = descriptors
    settings = {"region": region, "pca": experiment.preset.evaluation.pca, "pooling": kind}
    inputs = features_content(experiment, stream) | settings | made_by(__name__)
    return experiment.workspace.unit(f"gram/{kind}/{region}-{stream.modality}-{stream.level.name}", inputs)


def _make_gram(experiment: Experiment, descriptors: Descriptors, unit: Unit) -> None:
    kind, region, stream = descriptors
    train, test = (load_features(experiment, stream, region, part) for part in ("train", "test"))
    pca = svm.fit_pca(train, experiment.preset.evaluation.pca)
    pooling = svm.make_pooling(kind, train, pca)
    products = svm.gram(svm.describe(train, pca, pooling), svm.describe(test, pca, pooling))
    for name, values in products._asdict().items():
        with written_aside(unit.path(f"{name}.npy")) as aside:
            np.save(aside, values)
    unit.commit(*(f"{name}.npy" for name in Gram._fields))


def _load_gram(experiment: Experiment, descriptors: Descriptors) -> Gram:
    unit = _gram_unit(experiment, descriptors)
    return Gram(*(np.load(unit.file(f"{name}.npy")) for name in Gram._fields))


def _machine_unit(experiment: Experiment, machine: Machine) -> Unit:
    seen = [each for level in experiment.preset.data.levels for each in machine.descriptors(level)]
    inputs = {
        "grams": fingerprint([_gram_unit(experiment, each).content for each in seen]),
        "clips": experiment.dataset_digests["clips"],
        "svm_c": experiment.preset.evaluation.svm_c,
    } | made_by(__name__)
    return experiment.workspace.unit(f"scores/{machine.pooling}/{machine.region}-{machine.stream}", inputs)


def _make_machine(experiment: Experiment, machine: Machine, unit: Unit) -> None:
    truth, classes = labels(experiment.dataset.train), len(experiment.dataset.classes)
    scores = []
    for level in experiment.preset.data.levels:
        products = reduce(Gram.joined, (_load_gram(experiment, each) for each in machine.descriptors(level)))
        scores.append(svm.svm_scores(products, truth, classes, experiment.preset.evaluation.svm_c))
    fused = np.mean(scores, axis=0)  # "average fusion", sec. 4
    with written_aside(unit.path("scores.npy")) as aside:
        np.save(aside, np.stack([*scores, fused]).astype(np.float32))
    unit.commit("scores.npy")
