"""Pictures: what is drawn is where theta says, and matplotlib is as it was before."""

import io
import math
import sys

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import nn

from supervised_st import Glimpse, SupervisedSpatialTransformer, plot
from supervised_st.geometry import Components, points_in_image, theta_from_components, window_to_theta
from supervised_st.monitor import DistortionMonitor
from tests.helpers.told import told_layer

SIZE = HEIGHT, WIDTH = 30, 40
IMAGE = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
CORNERS = torch.tensor([[-0.5, -0.5], [5.5, -0.5], [5.5, 3.5], [-0.5, 3.5]], dtype=torch.float64)  # of a 4 x 6 glimpse


@pytest.fixture(autouse=True)
def _matplotlib_is_left_alone():
    """Every test is also one of this."""
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    assert pyplot.get_fignums() == []


def turned(*, x=20.0, y=12.0):
    middle = torch.tensor([x, y])
    parts = Components(angle=torch.tensor(0.6), scale=torch.tensor([2.0, 3]), shear=torch.tensor(0.3), center=middle)
    return theta_from_components(parts, SIZE, (4, 6))


def boxes(*rows):
    return window_to_theta(torch.tensor(rows, dtype=torch.float64), SIZE)


def outlines(axes):
    return [torch.from_numpy(patch.get_xy()[:-1]) for patch in axes.patches if isinstance(patch, Polygon)]


def holds(axes, points):
    (left, right), (top, bottom) = axes.get_xbound(), axes.get_ybound()
    low, high = points.flatten(0, -2).aminmax(dim=0)
    return left < low[0] and high[0] < right and top < low[1] and high[1] < bottom


class TestWindows:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_vertices_are_the_corners_of_the_glimpse_in_pixels_of_the_image(self, dtype):
        theta = turned().to(dtype).requires_grad_()
        (drawn,) = outlines(plot.windows(IMAGE, theta))
        expected = points_in_image(CORNERS, theta.detach().double(), SIZE, (4, 6))
        torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-12)

    def test_a_window_in_pixels_has_its_edges_between_them(self):
        (drawn,) = outlines(plot.windows(IMAGE, boxes([7, 5, 10, 8])))
        assert drawn.round(decimals=9).tolist() == [[6.5, 4.5], [16.5, 4.5], [16.5, 12.5], [6.5, 12.5]]

    def test_with_align_corners_vertices_are_centers_of_pixels(self):
        theta = window_to_theta(torch.tensor([7.0, 5, 10, 8]).double(), SIZE, align_corners=True)
        (drawn,) = outlines(plot.windows(IMAGE, theta, align_corners=True))
        assert drawn.round(decimals=9).tolist() == [[7, 5], [16, 5], [16, 12], [7, 12]]

    @pytest.mark.parametrize("x", [-200.0, 20.0, 1e30])
    def test_axes_grow_until_they_hold_the_image_and_every_window(self, x):
        axes = plot.windows(IMAGE, torch.stack([boxes([30, 20, 30, 5])[0], turned(x=x)]))
        edges = torch.tensor([[-0.5, -0.5], [WIDTH - 0.5, HEIGHT - 0.5]], dtype=torch.float64)
        assert holds(axes, torch.cat([edges, *outlines(axes)]))
        assert axes.yaxis_inverted()
        axes.figure.savefig(io.BytesIO(), dpi=20)  # can be drawn

    def test_windows_by_name_are_in_the_legend_each_in_one_color(self):
        axes = plot.windows(IMAGE, {"target": boxes([1, 2, 3, 4]), "guided": boxes([5, 2, 3, 4], [9, 2, 3, 4])})
        legend = {text.get_text() for text in axes.get_legend().get_texts()}
        assert legend == {"target", "guided"}
        assert [to_hex(patch.get_edgecolor()).upper() for patch in axes.patches] == [
            plot.COLORS[0], plot.COLORS[1], plot.COLORS[1],
        ]  # fmt: skip

    def test_a_legend_has_as_many_columns_as_fit(self):
        names = {"target": MOMENTS[0], "guided": MOMENTS[1], "set free": MOMENTS[2]}
        for width, columns in ((6, 3), (2.6, 2), (1, 1)):
            axes = Figure(figsize=(width, 2)).subplots()
            legend = plot.windows(IMAGE, names, axes=axes).get_legend()
            assert legend._ncols == columns
            assert columns == 1 or legend.get_window_extent().width <= axes.get_window_extent().width

    def test_a_legend_may_be_left_to_the_figure(self):
        axes = plot.windows(IMAGE, {"target": MOMENTS[0], "guided": MOMENTS[1]}, legend=False)
        assert axes.get_legend() is None
        assert axes.get_legend_handles_labels() == ([axes.patches[0], axes.patches[2]], ["target", "guided"])

    def test_windows_that_are_not_finite_are_left_out(self):
        theta = torch.stack([turned(), turned() * math.inf, turned()])
        theta[2, 0, 2] = math.nan
        assert len(outlines(plot.windows(IMAGE, theta))) == 1
        assert outlines(plot.windows(IMAGE, {"lost": theta[1:]})) == []
        assert outlines(plot.windows(IMAGE, theta[:0])) == []

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8])
    @pytest.mark.parametrize("shape", [SIZE, (1, *SIZE), (3, *SIZE), (4, *SIZE)])
    def test_shows_the_pixels(self, dtype, shape):
        image = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0))
        image = image.to(dtype) if dtype == torch.uint8 else (image / 256).to(dtype)
        axes = plot.windows(image, turned())
        shown = torch.from_numpy(axes.images[0].get_array().data)
        expected = image.double() / (255 if dtype == torch.uint8 else 1)
        expected = expected if expected.ndim == 2 else expected[0] if shape[0] == 1 else expected.movedim(0, -1)
        assert torch.equal(shown, expected)

    def test_black_and_white_reach_as_far_as_the_values(self):
        image = torch.tensor([[-2.0, math.nan], [0, math.inf]])[None].expand(1, 2, 2)
        shown = plot.windows(image, turned()).images[0].get_array()
        torch.testing.assert_close(torch.from_numpy(shown.data), torch.tensor([[0.0, 0], [2 / 3, 1]]).double())
        shown = plot.windows(image, turned(), limits=(-1, 1)).images[0].get_array()
        assert shown.tolist() == [[0, 0], [0.5, 1]]

    def test_draws_into_axes(self):
        axes = Figure().subplots()
        assert plot.windows(IMAGE, turned(), axes=axes) is axes

    @pytest.mark.parametrize(
        ("image", "theta", "options", "error", "match"),
        [
            (IMAGE[None], turned(), {}, ValueError, r"image must be one image .* pass image\[0\] of a batch"),
            (IMAGE.movedim(0, -1), turned(), {}, ValueError, r"got shape \(30, 40, 3\); .* image.movedim\(-1, 0\)"),
            (IMAGE.numpy(), turned(), {}, TypeError, "image must be a torch.Tensor, got ndarray"),
            (IMAGE.long(), turned(), {}, TypeError, "image must be float64, .* got torch.int64"),
            (IMAGE, torch.zeros(4), {}, ValueError, r"theta must have shape \(\.\.\., 2, 3\), got \(4,\)"),
            (IMAGE, {"a": torch.zeros(4)}, {}, ValueError, r"theta must have shape \(\.\.\., 2, 3\), got \(4,\)"),
            (IMAGE, turned(), {"limits": 1}, TypeError, r"limits must be two numbers \(low, high\), got 1"),
            (IMAGE, turned(), {"limits": (1, 0)}, ValueError, "limits must be finite, and the second larger"),
            (IMAGE, turned(), {"align_corners": 1}, TypeError, "align_corners must be True or False, got 1"),
        ],
    )
    def test_refuses(self, image, theta, options, error, match):
        with pytest.raises(error, match=match):
            plot.windows(image, theta, **options)


class TestGlimpses:
    @pytest.mark.parametrize("regions", [None, 3])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
    def test_each_region_has_a_tile_in_its_color(self, regions, dtype):
        net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        look = SupervisedSpatialTransformer(net, (4, 6), features=12, regions=regions, scale=0.4, mean=120.0, std=60.0)
        images = torch.randint(0, 256, (2, 3, *SIZE)).to(torch.uint8)
        images = images if dtype == torch.uint8 else images / 255
        seen = look(images)
        figure = plot.glimpses(images, seen)
        panels = [figure.axes[n::2] for n in range(2)]  # of each image: the image, then a tile for each region
        tiles = seen.image.reshape(2, -1, 3, 4, 6).detach().movedim(2, -1).double()
        low, high = min(0, tiles.min()), max(1, tiles.max())
        thetas = seen.theta.detach().double().reshape(2, -1, 2, 3)
        for n, (frame, *below) in enumerate(panels):
            assert len(below) == (regions or 1)
            torch.testing.assert_close(
                torch.stack(outlines(frame)), points_in_image(CORNERS, thetas[n], SIZE, (4, 6)), rtol=0, atol=1e-6
            )
            for k, tile in enumerate(below):
                shown = torch.from_numpy(tile.images[0].get_array().data)
                torch.testing.assert_close(shown, (tiles[n, k] - low) / (high - low))
                assert to_hex(tile.spines["left"].get_edgecolor()) == to_hex(frame.patches[k].get_edgecolor())

    @pytest.mark.parametrize(
        ("images", "glimpse", "match"),
        [
            (IMAGE, (IMAGE[None], turned()[None]), r"images must have shape \(batch, channel, height, width\)"),
            (IMAGE[None], (IMAGE[None], turned()[None].expand(2, 2, 3)), r"glimpse.theta must have shape \(1, region"),
            (IMAGE[None], (IMAGE[None, None].expand(1, 2, -1, -1, -1), turned()[None]), "glimpse.image must have"),
            (IMAGE[None], (torch.zeros(1, 8, 4, 6), turned()[None]), r"glimpse.image must be one .* got shape \(8, 4"),
            (IMAGE[:0][None][:0], (IMAGE[:0][None][:0], turned()[None][:0]), "images must hold at least one image"),
        ],
    )
    def test_refuses(self, images, glimpse, match):
        with pytest.raises(ValueError, match=match):
            plot.glimpses(images, Glimpse(*glimpse))


def monitor_of(*moments, every=5):
    """A monitor with a record of each of some thetas, ``[image 2 3]``."""
    look = told_layer(moments[0], (4, 6))
    monitor = DistortionMonitor(look, torch.zeros(len(moments[0]), 3, *SIZE), every=every)
    monitor._warned = True  # of lost windows, which are wanted here
    for theta in moments[1:]:
        look.localization.theta = theta.float()
        for _ in range(every):
            monitor.step()
    return monitor


MOMENTS = (
    boxes([0, 0, 10, 9], [20, 5, 10, 9]),
    boxes([3, 4, 10, 9], [20, 5, 10, 9]),
    boxes([3, 16, 10, 9], [20, 5, 2, 1]),
)


class TestDrift:
    def test_is_the_distance_of_the_centers_in_pixels(self):
        axes = plot.drift(monitor_of(*MOMENTS))
        *each, mean = ([round(y, 4) for y in line.get_ydata()] for line in axes.lines)
        assert axes.lines[0].get_xdata().tolist() == [0, 5, 10]
        assert each == [[0, 5, 16.2788], [0, 0, 5.6569]]
        assert mean == [0, 2.5, 10.9678]

    @pytest.mark.parametrize("since", [1, 5])
    def test_may_start_later(self, since):
        axes = plot.drift(monitor_of(*MOMENTS), since=since)
        assert axes.lines[0].get_xdata().tolist() == [5, 10]
        assert axes.lines[0].get_ydata().round(4).tolist() == [0, 12]

    def test_what_is_infinite_leaves_a_gap(self):
        axes = plot.drift(monitor_of(MOMENTS[0], MOMENTS[0] * math.inf, MOMENTS[0]))
        assert [math.isnan(y) for y in axes.lines[0].get_ydata()] == [False, True, False]

    def test_refuses(self):
        with pytest.raises(ValueError, match="since must be at most the last record's step 10, got 11"):
            plot.drift(monitor_of(*MOMENTS), since=11)
        with pytest.raises(TypeError, match="monitor must be a DistortionMonitor, got list"):
            plot.drift([])


def test_distortion_shows_every_measure_of_the_history():
    monitor = monitor_of(*MOMENTS, boxes([100, 0, 0.1, 9], [20, 5, 10, 9]))
    figure = plot.distortion(monitor)
    drawn = [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines]
    names = ["scale", "anisotropy", "rotation", "minification", "motion"]
    shares = ["outside", "lost", "collapsed", "mirrored"]
    expected = [[getattr(record, name) for record in monitor.history] for name in names]
    expected += [[100 * getattr(record, name) for record in monitor.history] for name in shares]
    torch.testing.assert_close(torch.tensor(drawn), torch.tensor(expected))
    assert drawn[6][-1] == drawn[7][-1] == 50  # half of the windows are lost, and half have collapsed
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == [
        "area out of bounds", "lost", "collapsed", "mirrored",
    ]  # fmt: skip


def test_a_default_device_is_not_asked():
    monitor = monitor_of(*MOMENTS)
    with torch.device("meta"):
        plot.distortion(monitor)
        plot.drift(monitor)
        plot.windows(IMAGE, MOMENTS[0])


def test_without_matplotlib_an_error_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: run pip install 'supervised-st\[plot\]'"):
        plot.windows(IMAGE, turned())
