"""What tables are made from: distortion along training, overlap with the window of most motion."""

from types import SimpleNamespace

import pytest

from examples.mpii_cooking.evaluation import tables
from examples.mpii_cooking.variants import Modality
from tests.helpers.made_up_samples import DETAIL, MIDDLE, PRESET


def test_distortion_of_known_windows_is_what_they_were_made_with():
    window = [[0.25, 0.0, 0.0], [0.0, 0.25, 0.0]]
    half_outside = [[0.25, 0.0, 1.0], [0.0, 0.25, 0.0]]
    half, root = 0.5 * 0.25, 0.75**0.5 * 0.25
    turned, turned_back = [[root, -half, 0.0], [half, root, 0.0]], [[root, half, 0.0], [-half, root, 0.0]]  # 30 degrees
    stretched = [[0.5, 0.0, 0.0], [0.0, 0.125, 0.0]]
    line = [[0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    upright, outside, rotated, wide, flat = tables.distortion(
        [[window] * 3, [window, half_outside], [turned, turned_back], [window, stretched, stretched], [line, line]],
        DETAIL,
        PRESET,
    )
    assert upright == pytest.approx({"scale": 0.25, "anisotropy": 1, "rotation": 0, "outside": 0})
    assert outside == pytest.approx({"scale": 0.25, "anisotropy": 1, "rotation": 0, "outside": 0.25})
    assert rotated == pytest.approx({"scale": 0.25, "anisotropy": 1, "rotation": 30, "outside": 0})
    assert wide == pytest.approx({"scale": 0.25, "anisotropy": 4, "rotation": 0, "outside": 0})
    assert (flat["scale"], flat["anisotropy"]) == (0, None)


def test_overlap_counts_only_clips_where_something_moved(monkeypatch):
    cells = {DETAIL: ((0.25, None, 0.75, 0.8), (0.1, None, 0.2, 0.3)), MIDDLE: ((None,), (None,))}
    monkeypatch.setattr(tables, "overlap_streams", lambda experiment: [(Modality.SPATIAL, level) for level in cells])
    monkeypatch.setattr(tables, "load_overlaps", lambda experiment, modality, level: cells[level])
    found, nothing = tables.overlap(SimpleNamespace(preset=PRESET))
    assert (found["mean"], found["above_half"], found["center"]) == pytest.approx((0.6, 2 / 3, 0.2))
    assert (nothing["mean"], nothing["above_half"], nothing["center"]) == (None, None, None)
