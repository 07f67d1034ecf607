"""The classifier end of the example, against brute force, scikit-learn and hand-made truths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.evaluation import svm
from examples.mpii_cooking.evaluation.svm import Gram


def clips_of(rng, lengths, channels):
    return [rng.standard_normal((length, channels)).astype(np.float16) for length in lengths]


def raw_svm_scores(train, test, labels, classes, c):
    """One-vs-rest on the descriptors themselves."""
    machines = [LinearSVC(C=c, dual=True, tol=1e-8, max_iter=200_000, random_state=0) for _ in range(classes)]
    return np.stack([m.fit(train, labels == k).decision_function(test) for k, m in enumerate(machines)], axis=1)


@pytest.mark.parametrize("size", [6, 300], ids=["fewer dimensions than clips", "more"])
def test_the_gram_matrix_leads_to_the_same_machine_as_the_descriptors(size):
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((40, size)) / np.sqrt(size), rng.standard_normal((25, size)) / np.sqrt(size)
    labels = np.arange(40) % 4
    got = svm.svm_scores(svm.gram(train, test), labels, classes=4, c=1.0)
    np.testing.assert_allclose(got, raw_svm_scores(train, test, labels, 4, 1.0), atol=2e-5)


def test_joined_grams_are_the_gram_of_concatenated_descriptors():
    rng = np.random.default_rng(1)
    (a, b), (c, d) = rng.standard_normal((2, 7, 5)), rng.standard_normal((2, 7, 3))
    joined = svm.gram(a, b).joined(svm.gram(c, d))
    together = svm.gram(np.hstack([a, c]), np.hstack([b, d]))
    np.testing.assert_allclose(joined.train, together.train, atol=1e-12)
    np.testing.assert_allclose(joined.test, together.test, atol=1e-12)


def test_a_class_without_training_clips_is_never_the_answer_and_its_precision_is_its_fraction():
    rng = np.random.default_rng(2)
    descriptors, labels = rng.standard_normal((30, 8)), np.arange(30) % 3
    scores = svm.svm_scores(svm.gram(descriptors, descriptors), labels, classes=4, c=1.0)
    assert len(np.unique(scores[:, 3])) == 1
    assert 3 not in scores.argmax(1)
    truths = np.where(np.arange(30) < 6, 3, labels)
    assert svm.average_precisions(scores, truths)[3] == pytest.approx(6 / 30)


def test_one_class_alone_gets_constant_scores():
    products = Gram(np.eye(4), np.ones((3, 4)))
    np.testing.assert_array_equal(svm.svm_scores(products, np.zeros(4, dtype=int), 2, 1.0), np.zeros((3, 2)))


def brute_force_average_precision(truth, score):
    """Mean over the positives of the precision among everything that scores at least as high."""
    return np.mean([truth[score >= score[i]].mean() for i in np.flatnonzero(truth)])


@settings(max_examples=100)
@given(data=st.data(), clips=st.integers(1, 30), classes=st.integers(1, 5))
def test_average_precision_is_the_mean_precision_at_each_positive_ties_included(data, clips, classes):
    row = st.lists(st.integers(0, 4), min_size=classes, max_size=classes)
    scores = np.array(data.draw(st.lists(row, min_size=clips, max_size=clips)), dtype=float)
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=clips, max_size=clips)))
    precisions = svm.average_precisions(scores, labels)
    for label, precision in enumerate(precisions):
        truth = labels == label
        if not truth.any():
            assert precision is None
            continue
        assert precision == pytest.approx(brute_force_average_precision(truth, scores[:, label]))
        assert precision == pytest.approx(average_precision_score(truth, scores[:, label]))
    present = [precision for precision in precisions if precision is not None]
    assert svm.mean_average_precision(precisions) == pytest.approx(sum(present) / len(present))


def test_pca_keeps_what_there_is_when_frames_are_few():
    clips = clips_of(np.random.default_rng(4), [2, 1], channels=8)
    assert svm.fit_pca(clips, 32).n_components_ == 2  # three frames lie in a plane


def test_pca_leaves_out_components_that_are_rounding():
    """Poolings took rounding for motion, and their matrices had no logarithm."""
    different = np.random.default_rng(6).normal(3, 1, (4, 8)).astype(np.float16)
    clips = [np.repeat(different[[i]], 10, 0) for i in range(4)]
    pca = svm.fit_pca(clips, 8)
    assert pca.n_components_ == 3
    described = svm.describe(clips, pca, svm.make_pooling("rbf", clips, pca))
    assert np.isfinite(described).all()
    with pytest.raises(DataError, match="the features of all training frames are the same"):
        svm.fit_pca(clips[:1] * 4, 8)


def test_pca_takes_evenly_spaced_frames_from_long_clips(monkeypatch):
    monkeypatch.setattr(svm, "PCA_FRAMES", 6)
    values = np.array([0, 1, 2, 3, 4, 5, 6, 7, 100, 200], dtype=np.float16)
    kept = [0, 4, 7, 100, 200]  # three of eight, evenly spaced (3.5 rounds to even), and both of two
    assert svm.fit_pca([values[:8, None], values[8:, None]], 1).mean_[0] == pytest.approx(np.mean(kept))


def test_trajectories_are_each_clip_s_own_components_in_order(monkeypatch):
    monkeypatch.setattr(svm, "FRAMES_AT_ONCE", 2)
    clips = clips_of(np.random.default_rng(5), [3, 1, 4], channels=5)
    pca = svm.fit_pca(clips, 5)
    found = [[*svm.trajectory(clip, pca)] for clip in clips]
    assert [[len(part) for part in parts] for parts in found] == [[2, 1], [1], [2, 2]]
    for parts, clip in zip(found, clips, strict=True):
        exact = (clip.astype(float) - pca.mean_) @ pca.components_.T
        torch.testing.assert_close(torch.cat(parts), torch.from_numpy(exact), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["distance", "rbf"])
def test_descriptors_are_each_clip_s_however_its_frames_are_read(monkeypatch, kind):
    monkeypatch.setattr(svm, "FRAMES_AT_ONCE", 7)
    clips = clips_of(np.random.default_rng(0), [30, 1, 9, 30, 1, 9], channels=6)
    pca = svm.fit_pca(clips, 4)
    pooling = svm.make_pooling(kind, clips, pca)
    expected = [pooling(torch.from_numpy(pca.transform(clip.astype(float)))[None])[0] for clip in clips]
    np.testing.assert_allclose(svm.describe(clips, pca, pooling), np.stack(expected), atol=1e-9)
