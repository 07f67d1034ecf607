"""From frame features to Table 3: PCA, temporal correlation pooling, linear SVMs, late fusion, average precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from supervised_st import TemporalCorrelationPooling
from supervised_st.pooling import median_gamma

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

PCA_FRAMES = 50_000
"""Frames to which PCA is fitted, about, where there are more: in float64 and with 4096 channels they take 1.6 GB."""
CLIPS_AT_ONCE = 16
"""Clips pooled in one batch: bounds the memory for the padded trajectories."""


class Frames(NamedTuple):
    """Frame features of a shard of clips, one clip after the other."""

    features: NDArray[np.floating]
    """(frames, channels); may be a memory map."""
    lengths: NDArray[np.int64]
    """(clips,) frames of each clip."""


class Gram(NamedTuple):
    """Inner products of clip descriptors. The Gram matrix of concatenated descriptors is the sum of theirs."""

    train: Floats
    """(train clips, train clips)."""
    test: Floats
    """(test clips, train clips)."""

    def joined(self, other: Gram) -> Gram:
        """Return the inner products of the two descriptors laid end to end."""
        return Gram(self.train + other.train, self.test + other.test)


def fit_pca(shards: Sequence[Frames], components: int) -> PCA:
    """Fit a PCA to at most ``PCA_FRAMES`` frames, spread evenly over every clip.

    Where there are fewer frames or channels than ``components``, as many components are kept as there can be.
    """
    share = -(-PCA_FRAMES // sum(len(shard.lengths) for shard in shards))
    sample = np.concatenate([_spread(shard, share) for shard in shards])
    return PCA(min(components, *sample.shape), svd_solver="covariance_eigh").fit(sample)


def trajectories(shard: Frames, pca: PCA) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a few clips' principal components at a time: (clips, frames, components), padded, and (clips,) lengths."""
    stops = np.cumsum(shard.lengths)
    for first in range(0, len(stops), CLIPS_AT_ONCE):
        lengths = torch.as_tensor(shard.lengths[first : first + CLIPS_AT_ONCE])
        start, stop = stops[first] - shard.lengths[first], stops[first + len(lengths) - 1]
        components = torch.from_numpy(pca.transform(shard.features[start:stop].astype(np.float64)))
        yield pad_sequence(components.split(lengths.tolist()), batch_first=True), lengths


def make_pooling(kind: str, shards: Sequence[Frames], pca: PCA) -> TemporalCorrelationPooling:
    """Return the pooling of one stream; where the kind has a width, it is the median of a few training clips."""
    if kind not in ("rbf", "laplacian"):
        return TemporalCorrelationPooling(kind)
    padded, lengths = next(trajectories(_few(shards[0]), pca))
    return TemporalCorrelationPooling(kind, gamma=median_gamma(padded, lengths, kind=kind))


def _few(shard: Frames) -> Frames:
    """Return as many clips as are pooled at once, spread over the shard, in which they may stand class by class."""
    chosen = np.linspace(0, len(shard.lengths) - 1, min(CLIPS_AT_ONCE, len(shard.lengths))).round().astype(np.int64)
    stops = np.cumsum(shard.lengths)
    rows = np.concatenate([np.arange(stops[i] - shard.lengths[i], stops[i]) for i in chosen])
    return Frames(shard.features[rows], shard.lengths[chosen])


def describe(shards: Sequence[Frames], pca: PCA, pooling: TemporalCorrelationPooling) -> Floats:
    """Return one descriptor per clip, (clips, descriptor size), from its frames' principal components."""
    clips = (clips for shard in shards for clips in trajectories(shard, pca))
    return np.concatenate([pooling(padded, lengths).numpy() for padded, lengths in clips])


def gram(train: Floats, test: Floats) -> Gram:
    """Return the inner products of the clips' descriptors, (clips, size) each."""
    return Gram(train @ train.T, test @ train.T)


def svm_scores(products: Gram, labels: Labels, classes: int, c: float) -> Floats:
    """Train one linear SVM (squared hinge, L2, bias regularised) per class against the rest and score the test clips.

    A linear SVM's weights lie in the span of the training descriptors (representer theorem), so it is trained on
    coordinates in that span: same optimum as on the descriptors, however long those are. A class without training clips
    gets a constant score below every other score, so that it is never the answer.

    Returns:
        (test clips, classes) decision values.
    """
    train, test = _span_coordinates(products)
    scores = np.full((len(test), classes), -np.inf)
    present = [label for label in range(classes) if 0 < (labels == label).sum() < len(labels)]
    for label in present:
        machine = LinearSVC(C=c, dual=False, tol=1e-6, max_iter=10_000).fit(train, labels == label)
        scores[:, label] = machine.decision_function(test)
    if len(present) < classes:
        known = scores[:, present]
        scores[:, np.setdiff1d(np.arange(classes), present)] = known.min() - 1 if known.size else 0.0
    return scores


def late_fusion(scores: Sequence[Floats]) -> Floats:
    """Return the mean of the decision values of several machines ("average fusion", sec. 4)."""
    return np.mean(scores, axis=0)


def average_precisions(scores: Floats, labels: Labels) -> list[float | None]:
    """Return the non-interpolated average precision of each class, or None where no clip has the class.

    Clips with equal scores are one step of the ranking, so a constant score has the class's share as its precision.

    Args:
        scores: (clips, classes).
        labels: (clips,) true class of each clip.
    """
    truths = labels[:, None] == np.arange(scores.shape[1])
    return [
        float(average_precision_score(truth, score)) if truth.any() else None
        for truth, score in zip(truths.T, scores.T, strict=True)
    ]


def mean_average_precision(precisions: Sequence[float | None]) -> float:
    """Return the mean over the classes that have test clips."""
    return float(np.mean([precision for precision in precisions if precision is not None]))


def _spread(shard: Frames, share: int) -> Floats:
    """Return up to ``share`` frames of each clip, evenly spaced."""
    starts = np.cumsum(shard.lengths) - shard.lengths
    chosen = [
        start + np.linspace(0, length - 1, min(length, share)).round().astype(np.int64)
        for start, length in zip(starts, shard.lengths, strict=True)
    ]
    return shard.features[np.concatenate(chosen)].astype(np.float64)


def _span_coordinates(products: Gram) -> tuple[Floats, Floats]:
    """Return coordinates of the train and test descriptors in the span of the train descriptors."""
    values, vectors = np.linalg.eigh(products.train)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    basis = vectors[:, kept] / np.sqrt(values[kept])
    return products.train @ basis, products.test @ basis
