"""The mathematics of Table 3: PCA, temporal correlation pooling, linear SVMs, late fusion, average precision."""

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

from examples.mpii_cooking.data.dataset import DataError
from supervised_st import TemporalCorrelationPooling
from supervised_st.pooling import median_gamma

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Frames = NDArray[np.floating]  # (frames, channels) features of one clip; may be a memory map

PCA_FRAMES = 50_000  # PCA is fitted to about this many at most; in float64 with 4096 channels they take 1.6 GB
FRAMES_AT_ONCE = 1024  # frames reduced and pooled in one step, so that memory does not grow with a clip's length
GAMMA_CLIPS = 16  # clips that determine the width of a pooling, if its kind has one
GAMMA_SPAN = 256  # these clips are spread over the first so many


class Gram(NamedTuple):
    """Inner products of clip descriptors. The Gram matrix of concatenated descriptors is the sum of theirs."""

    train: Floats  # (train clips, train clips)
    test: Floats  # (test clips, train clips)

    def joined(self, other: "Gram") -> "Gram":
        """Return the inner products of the concatenated descriptors."""
        return Gram(self.train + other.train, self.test + other.test)


def fit_pca(clips: Sequence[Frames], components: int) -> PCA:
    """Fit a PCA to about ``PCA_FRAMES`` frames, spread over every clip; to all components if there are fewer.

    Components along which frames differ by no more than rounding do not count: pooling compares trajectories on the
    scale of the median pair, which must not be rounding. A ``DataError`` says if fewer than two are left.
    """
    per_clip = -(-PCA_FRAMES // len(clips))
    sample = np.concatenate([clip[_spread(len(clip), per_clip)].astype(np.float64) for clip in clips])
    with np.errstate(invalid="ignore"):  # scikit-learn divides by the variance of frames that are all the same
        pca = PCA(min(components, *sample.shape), svd_solver="covariance_eigh").fit(sample)
    rounding = max(sample.shape) * np.finfo(np.float64).eps * np.square(sample).sum(1).mean()
    known = int((pca.explained_variance_ > rounding).sum())
    if known < min(2, components):
        raise DataError("the features of all training frames are the same: nothing differs in them, or training failed")
    return pca if known == pca.n_components_ else PCA(known, svd_solver="covariance_eigh").fit(sample)


def make_pooling(kind: str, clips: Sequence[Frames], pca: PCA) -> TemporalCorrelationPooling:
    """Return the pooling of one stream. If the kind has a width, it is the median over a few training clips."""
    if kind not in ("rbf", "laplacian"):
        return TemporalCorrelationPooling(kind)
    # Spread out, since clips may be sorted by class.
    few = [torch.cat([*trajectory(clips[i], pca)]) for i in _spread(min(len(clips), GAMMA_SPAN), GAMMA_CLIPS)]
    lengths = torch.tensor([len(clip) for clip in few])
    return TemporalCorrelationPooling(kind, gamma=median_gamma(pad_sequence(few, batch_first=True), lengths, kind=kind))


def describe(clips: Sequence[Frames], pca: PCA, pooling: TemporalCorrelationPooling) -> Floats:
    """Return one descriptor per clip, (clips, descriptor size), from its frames' principal components."""
    descriptors = []
    for clip in clips:
        running = pooling.accumulate()
        for part in trajectory(clip, pca):
            running.add(part)
        descriptors.append(running.descriptor().numpy())
    return np.stack(descriptors)


def trajectory(clip: Frames, pca: PCA) -> Iterator[Tensor]:
    """Yield a clip's principal components, (frames, components), some frames at a time."""
    for start in range(0, len(clip), FRAMES_AT_ONCE):
        yield torch.from_numpy(pca.transform(clip[start : start + FRAMES_AT_ONCE].astype(np.float64)))


def gram(train: Floats, test: Floats) -> Gram:
    """Return the inner products of the clips' descriptors, (clips, size) each."""
    return Gram(train @ train.T, test @ train.T)


def svm_scores(products: Gram, labels: Labels, classes: int, c: float) -> Floats:
    """Return the decision values, (test clips, classes), of one linear SVM per class against the rest.

    The loss is the squared hinge, with L2 and a regularized bias. A linear SVM's weights lie in the span of the
    training descriptors (representer theorem). So it is trained on coordinates in that span, which has the same
    optimum, however long the descriptors are. A class without training clips gets a constant score below every other
    score, so that it is never the answer.
    """
    train, test = _span_coordinates(products)
    scores = np.full((len(test), classes), -np.inf)
    present = [label for label in range(classes) if 0 < (labels == label).sum() < len(labels)]
    for label in present:
        machine = LinearSVC(C=c, dual=False, tol=1e-6, max_iter=10_000).fit(train, labels == label)
        scores[:, label] = machine.decision_function(test)
    known = scores[:, present]
    scores[np.isneginf(scores)] = known.min() - 1 if known.size else 0.0
    return scores


def average_precisions(scores: NDArray[np.floating], labels: Labels) -> list[float | None]:
    """Return each class's non-interpolated average precision, None without clips; equal scores are one step."""
    truths = labels[:, None] == np.arange(scores.shape[1])
    return [
        float(average_precision_score(truth, score)) if truth.any() else None
        for truth, score in zip(truths.T, scores.T, strict=True)
    ]


def mean_average_precision(precisions: Sequence[float | None]) -> float:
    """Return the mean over the classes that have test clips."""
    return float(np.mean([precision for precision in precisions if precision is not None]))


def _spread(length: int, count: int) -> NDArray[np.int64]:
    """Return up to ``count`` indices, evenly spaced."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(np.int64)


def _span_coordinates(products: Gram) -> tuple[Floats, Floats]:
    """Return coordinates of the train and test descriptors in the span of the train descriptors."""
    values, vectors = np.linalg.eigh(products.train)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    basis = vectors[:, kept] / np.sqrt(values[kept])
    return products.train @ basis, products.test @ basis
