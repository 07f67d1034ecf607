"""The report's figures: regions are drawn where they were sampled, and lines and cells show what was counted."""

import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch

from examples.mpii_cooking.evaluation.cells import POOLING_CELL
from examples.mpii_cooking.evaluation.schema import ProbeFrames
from examples.mpii_cooking.evaluation.tables import frame_ceilings
from examples.mpii_cooking.report import figures, figures_style, figures_tables, figures_windows
from examples.mpii_cooking.variants import Variant
from supervised_st import geometry
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


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 6, 8, 12, 64])
@pytest.mark.parametrize("followed", [1, 3, 12])
def test_few_frames_are_shown_and_they_are_of_different_classes(classes, followed):
    """Frames are followed in clips of one class after the other, and then of the first class again."""
    images, clips = ("a.png",) * followed, tuple(range(followed))
    probe = ProbeFrames("detail", images, clips, (0,) * followed, np.zeros((followed, 2, 3)))
    labels = np.arange(max(classes, followed)) % classes
    shown = figures_windows.shown_frames(replace(made_up_results(), probe_frames=(probe,), labels=labels))
    assert len(set(shown)) == len(shown) == min(followed, 4)
    assert len({labels[index] for index in shown}) == min(classes, followed, 4)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of made-up results, as text."""
    folder = tmp_path_factory.mktemp("run")
    results = made_up_results(folder=folder)
    results = replace(results, probe_frames=results.probe_frames[-1:])
    figures.draw_all(results, folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}, results, folder


FIXED = {"#000000", *(color.lower() for color in figures_windows.EPOCH_COLORS.values()), figures_tables.ON_ORANGE}
"""Colors over frames and over the cells of the confusion matrix: the same on light and on dark pages."""
SHADED = {"confusion", "figure-7"}  # have shades between two colors


def test_every_color_is_made_for_dark_pages_or_is_the_same_on_both(drawn):
    made = {color.lower() for color in figures_style.DARK}
    for name, text in drawn[0].items():
        body = text[text.index("</style>") :]
        used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body))
        assert used <= made | FIXED or name in SHADED, name
        for color in used & made:
            assert f'[style*="fill: {color}"]{{fill:{figures_style.DARK[light_of(color)]}!important}}' in text
        assert "<rect" not in body or "#ffffff" not in body.split('<g id="axes', 1)[0], f"{name} has a white ground"


def light_of(color):
    (found,) = (light for light in figures_style.DARK if light.lower() == color)
    return found


def test_no_text_is_black(drawn):
    """Black is invisible on a dark page, and matplotlib writes no color for it."""
    for name, text in drawn[0].items():
        for group in re.findall(r'<g id="text_\d+">\s*<!--.*?-->\s*<g([^>]*)>', text):
            assert "fill: #" in group, name


def test_no_dark_color_is_turned_into_another():
    light, dark = ({color.lower() for color in colors} for colors in (figures_style.DARK, figures_style.DARK.values()))
    assert not light & dark
    assert len(dark) == len(figures_style.DARK)


def test_the_same_figure_is_the_same_file(drawn, tmp_path):
    with mpl.rc_context(figures_style.STYLE):
        figures_style.save(figures_tables.overlap(drawn[1]), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == drawn[0]["overlap"]


def test_a_tile_has_three_windows_over_its_frame_and_what_is_seen_in_each(drawn):
    _, results, folder = drawn
    (probe,) = results.probe_frames
    index = figures_windows.shown_frames(results)[1]
    figure = figures_windows.tile(results, probe, index, folder)
    frame, *panels = figure.axes
    ends = {path.variant: path.thetas[-1, index] for path in results.window_paths if path.level == "detail"}
    thetas = [ends[Variant.STN], ends[Variant.SSTN], probe.target[index]]
    colors = [figures_style.VARIANT_COLORS[it] for it in (Variant.STN, Variant.SSTN, Variant.HARD_CODED)]
    picture = mpl.image.imread(folder / probe.images[index])
    for theta, color, outline, panel in zip(thetas, colors, frame.patches, panels, strict=True):
        corners = (geometry.corners(torch.tensor(theta, dtype=torch.float64)).numpy() + 1) / 2 * len(picture) - 0.5
        np.testing.assert_allclose(outline.get_xy()[:4], corners, atol=1e-9)
        assert mpl.colors.same_color(outline.get_edgecolor(), color)
        np.testing.assert_array_equal(panel.images[0].get_array(), figures_windows.glimpse(picture, theta, 28))
        assert mpl.colors.same_color(panel.spines["left"].get_edgecolor(), color)
        low, high = (np.array(limits) for limits in zip(frame.get_xlim(), sorted(frame.get_ylim()), strict=True))
        assert ((corners >= low) & (corners <= high)).all(), "a window is cut"


@pytest.mark.parametrize(
    ("shift", "room"), [(0.0, 0.02), (0.7, 0.02), (1.0, 0.145), (-1.1, 0.195), (9.0, figures_windows.FARTHEST)]
)
def test_there_is_room_for_regions_that_go_beyond_the_frame_but_not_for_lost_ones(shift, room):
    window = [[0.25, 0, shift], [0, 0.25, 0]]
    inside = [[0.25, 0, 0], [0, 0.25, 0]]
    assert figures_windows.reach([inside, window]) == pytest.approx(room)


def test_how_far_windows_are_from_the_motion_is_in_their_sides(drawn):
    results, (probe,) = drawn[1], drawn[1].probe_frames
    side, found = 28 / 112, figures_windows.offsets(results, probe)
    for variant, distance in zip((Variant.STN, Variant.SSTN), found, strict=True):
        (path,) = (it.thetas[-1] for it in results.window_paths if (it.level, it.variant) == ("detail", variant))
        apart = [np.hypot(*(one - other)) / 2 for one, other in zip(path[..., 2], probe.target[..., 2], strict=True)]
        assert distance == pytest.approx(np.mean(apart) / side)


def test_names_are_cut_to_their_place():
    assert figures_style.shortened("take out from drawer", 12) == "take out…"
    assert figures_style.shortened("supercalifragilistic", 8) == "superca…"


def test_a_glimpse_is_the_window_and_gray_out_of_bounds():
    picture = torch.rand(56, 56, 3).numpy()
    window = [[0.5, 0, -0.5], [0, 0.5, -0.5]]
    np.testing.assert_allclose(figures_windows.glimpse(picture, window, 28), picture[:28, :28], atol=1e-5)
    outside = [[0.1, 0, 5.0], [0, 0.1, 5.0]]
    assert (figures_windows.glimpse(picture, outside, 28) == 0.5).all()
