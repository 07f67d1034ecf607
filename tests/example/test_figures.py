"""The report's figures: regions lie where they were sampled, and lines, cells and labels show what was counted."""

import numpy as np
import pytest
import torch

from examples.mpii_cooking import paper
from examples.mpii_cooking.report import figures_style, figures_tables, figures_training, figures_windows
from tests.helpers.made_up import made_up_results


def test_confusions_are_shares_of_each_true_class_over_all_seeds():
    cell = {"row": paper.FUSION, "stream": "S+T", "variant": "R_d"}
    other = cell | {"variant": "R_h", "seeds": [{"predictions": [4, 4, 4, 4]}]}
    cell["seeds"] = [{"predictions": [0, 2, 2, 5]}, {"predictions": [0, 0, 2, 2]}]
    classes, shares = figures_tables.confusions({"table3": {"labels": [0, 0, 2, 2], "cells": [other, cell]}})
    assert classes == [0, 2, 5]
    np.testing.assert_array_equal(shares, [[75, 25, 0], [0, 75, 25], [np.nan] * 3])


@pytest.mark.parametrize(("classes", "texts"), [(20, 20), (21, 0), (64, 0)])
def test_a_confusion_matrix_has_numbers_in_its_cells_only_where_they_can_be_read(classes, texts):
    labels = list(range(classes))
    cell = {"row": paper.FUSION, "stream": "S+T", "variant": "R_d", "seeds": [{"predictions": labels}]}
    dataset = {"classes": [f"class {label}" for label in labels]}
    figure = figures_tables.confusion({"table3": {"labels": labels, "cells": [cell]}, "dataset": dataset}, None)
    assert len(figure.axes[0].texts) == texts
    assert len(figure.axes[0].get_yticklabels()) == classes


def test_an_infinite_ratio_is_a_gap_in_its_line():
    run = {"distortion": [{"anisotropy": 1.0}, {"anisotropy": None}, {"anisotropy": 3.0}]}
    np.testing.assert_array_equal(figures_training.path_of(run, "anisotropy"), [1, np.nan, 3])


def test_distortion_is_drawn_for_both_transformers_of_each_level_and_seed(tmp_path):
    figure = figures_training.distortion(made_up_results(tmp_path, count=2), tmp_path)
    styles = [[line.get_linestyle() for line in axes.lines] for axes in figure.axes]
    assert styles == [["--", "-", ":", "-", ":"]] * 12


def test_names_are_cut_to_their_place():
    assert figures_style.shortened("take out from drawer", 12) == "take out…"
    assert figures_style.shortened("supercalifragilistic", 8) == "superca…"


def test_quadrilaterals_are_drawn_at_pixel_edges():
    window = [[0.25, 0, -0.75], [0, 0.25, 0.75]]  # 28 px of 112, left and bottom
    expected = [[0, 84], [28, 84], [28, 112], [0, 112]]
    np.testing.assert_allclose(figures_windows.quadrilateral(window, 112), expected, atol=1e-12)


def test_a_glimpse_is_the_window_and_gray_outside():
    picture = torch.rand(56, 56, 3).numpy()
    window = [[0.5, 0, -0.5], [0, 0.5, -0.5]]
    np.testing.assert_allclose(figures_windows.glimpse(picture, window, 28), picture[:28, :28], atol=1e-5)
    outside = [[0.1, 0, 5.0], [0, 0.1, 5.0]]
    assert (figures_windows.glimpse(picture, outside, 28) == 0.5).all()


def test_drift_is_measured_in_window_sides():
    target = [[[0.25, 0, 0], [0, 0.25, 0]]]
    moved = [[[0.25, 0, 0.5], [0, 0.25, 0]]]  # by one window's side to the right
    look = {"target": target, "SSTN": [target, moved]}
    np.testing.assert_allclose(figures_windows.drift(look), [[0], [100]])
