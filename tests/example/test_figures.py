"""The report's figures: regions are drawn where they were sampled, and lines and cells show what was counted."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.mpii_cooking.evaluation.cells import POOLING_CELL
from examples.mpii_cooking.evaluation.schema import ProbeFrames
from examples.mpii_cooking.evaluation.tables import frame_ceilings
from examples.mpii_cooking.report import figures_style, figures_tables, figures_windows
from tests.helpers.made_up import made_up_results


def test_confusions_are_percentages_of_each_true_class_over_all_seeds():
    answers = np.array([[0, 2, 2, 5], [0, 0, 2, 2]])
    classes, percentages = figures_tables.confusions(np.array([0, 0, 2, 2]), answers)
    assert classes == [0, 2, 5]
    np.testing.assert_array_equal(percentages, [[75, 25, 0], [0, 75, 25], [np.nan] * 3])


@pytest.mark.parametrize(("count", "texts"), [(20, 20), (21, 0), (64, 0)])
def test_a_confusion_matrix_has_numbers_in_its_cells_only_where_they_can_be_read(count, texts):
    results = made_up_results()
    pooled = results.pooled(POOLING_CELL)
    names = tuple(f"class {label}" for label in range(count))
    dataset = replace(results.dataset, classes=names, train_clips=(1,) * count)
    scores = {(0, pooled): np.eye(count, dtype=np.float32)}
    figure = figures_tables.confusion(replace(results, dataset=dataset, labels=np.arange(count), scores=scores))
    assert len(figure.axes[0].texts) == texts
    assert len(figure.axes[0].get_yticklabels()) == count


def test_the_best_of_each_level_is_a_dashed_line_where_it_is_known():
    def dashed(results):
        lines = figures_tables.pairs(results).axes[0].collections
        return [line.get_segments()[0][0, 0] for line in lines if line.get_linestyle()[0][1]]

    results = made_up_results()
    best = frame_ceilings(results)
    assert dashed(results) == [best[level] for level in ("detail", "middle", "general")]
    assert dashed(replace(results, dataset=replace(results.dataset, cues={}))) == []


def test_distortion_is_drawn_for_both_transformers_of_each_level_and_seed():
    figure = figures_windows.distortion(made_up_results(2))
    styles = [[line.get_linestyle() for line in axes.lines] for axes in figure.axes]
    assert styles == [["--", ":", "-", ":", "-"]] * 12


def test_an_infinite_ratio_is_a_gap_in_its_line():
    ratios = figures_windows.distortion(made_up_results()).axes[1].lines[1].get_ydata()
    np.testing.assert_array_equal(np.isnan(ratios), [False] * 4 + [True])


@pytest.mark.parametrize(("classes", "shown"), [(2, 4), (4, 4), (6, 6), (12, 12), (13, 4)])
def test_windows_are_shown_for_every_class_that_was_followed(classes, shown):
    probe = ProbeFrames("detail", ("a.png",) * 12, tuple(range(12)), (0,) * 12, np.zeros((12, 2, 3)))
    results = replace(made_up_results(), probe_frames=(probe,), labels=np.arange(classes))
    assert figures_windows.shown_frames(results, 4) == shown
    assert figures_windows.shown_frames(replace(results, probe_frames=(replace(probe, images=("a.png",) * 3),)), 4) == 3


def test_names_are_cut_to_their_place():
    assert figures_style.shortened("take out from drawer", 12) == "take out…"
    assert figures_style.shortened("supercalifragilistic", 8) == "superca…"


def test_quadrilaterals_are_drawn_at_pixel_edges():
    window = [[0.25, 0, -0.75], [0, 0.25, 0.75]]  # 28 px of 112, left and bottom
    expected = [[0, 84], [28, 84], [28, 112], [0, 112]]
    np.testing.assert_allclose(figures_windows.quadrilateral(window, 112), expected, atol=1e-12)


def test_a_glimpse_is_the_window_and_gray_out_of_bounds():
    picture = torch.rand(56, 56, 3).numpy()
    window = [[0.5, 0, -0.5], [0, 0.5, -0.5]]
    np.testing.assert_allclose(figures_windows.glimpse(picture, window, 28), picture[:28, :28], atol=1e-5)
    outside = [[0.1, 0, 5.0], [0, 0.1, 5.0]]
    assert (figures_windows.glimpse(picture, outside, 28) == 0.5).all()
