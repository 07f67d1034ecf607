"""Which windows are followed, and how they change: their shape and their drift."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.report.figures_windows import drift, shapes
from examples.mpii_cooking.training.experiment import Experiment


@pytest.mark.parametrize(("labels", "expected"), [
    ([0, 0, 0, 1, 1, 1, 2, 2, 2], {0: 3, 1: 3, 2: 3}),
    ([*range(12)] * 5, dict.fromkeys(range(12), 1)),
    ([0] * 30 + [1] * 2 + [2] * 30, {0: 4, 1: 2, 2: 4}),
    ([3] + [7] * 40, {3: 1, 7: 6}),
    ([5], {5: 1}),
], ids=str)  # fmt: skip
def test_windows_are_followed_in_clips_of_every_class(labels, expected):
    test = [Clip("a", 0, 1, label) for label in labels]
    followed = Experiment.followed_clips.fget(SimpleNamespace(dataset=SimpleNamespace(test=test)))
    assert len(set(followed)) == len(followed)
    assert Counter(labels[clip] for clip in followed) == expected


def test_of_many_classes_some_are_followed_from_the_first_to_the_last():
    test = [Clip("a", 0, 1, label) for label in range(64)]
    followed = Experiment.followed_clips.fget(SimpleNamespace(dataset=SimpleNamespace(test=test)))
    assert (len(followed), followed[0], followed[-1]) == (12, 0, 58)


def test_shapes_of_known_windows_are_what_they_were_made_with():
    window = [[0.25, 0.0, 0.0], [0.0, 0.25, 0.0]]
    half_outside = [[0.25, 0.0, 1.0], [0.0, 0.25, 0.0]]
    half, root = 0.5 * 0.25, 0.75**0.5 * 0.25
    turned, turned_back = [[root, -half, 0.0], [half, root, 0.0]], [[root, half, 0.0], [-half, root, 0.0]]  # 30 degrees
    stretched = [[0.5, 0.0, 0.0], [0.0, 0.125, 0.0]]
    line = [[0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    moments = [[window] * 3, [window, half_outside, half_outside], [turned, turned_back, turned]]
    moments += [[window, stretched, stretched], [line] * 3]
    found = shapes(np.array(moments), crop=112, glimpse=28)
    assert found["scale"] == pytest.approx([0.25, 0.25, 0.25, 0.25, 0])
    assert found["anisotropy"] == pytest.approx([1, 1, 1, 4, np.inf])
    assert found["rotation"][:4] == pytest.approx([0, 0, 30, 0])
    assert found["outside"][:4] == pytest.approx([0, 1 / 3, 0, 0])


def test_drift_is_measured_in_window_sides():
    target = [[[0.25, 0, 0], [0, 0.25, 0]]]
    moved = [[[0.25, 0, 0.5], [0, 0.25, 0]]]  # by one window's side to the right
    np.testing.assert_allclose(drift(np.array([target, moved]), side=0.25), [[0], [100]])
