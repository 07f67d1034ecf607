"""The monitor: exact measures, the right words, one warning, and a training run that does not notice it."""

import dataclasses
import gc
import math
import warnings
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supervised_st.geometry import corners, window_to_theta
from supervised_st.monitor import DistortionMonitor
from supervised_st.transformer import SupervisedSpatialTransformer
from tests.helpers.told import told_layer

IMAGE = (40, 60)
INSIDE = [10, 10, 30, 20]  # x0, y0, width, height
OUTSIDE = [100, 0, 30, 20]


def monitor_of(theta, *, image=IMAGE, size=(20, 30), every=1, **options):
    look = told_layer(theta, size, **options)
    return DistortionMonitor(look, torch.zeros(len(theta), 1, *image), every=every)


def windows(*rows, **options):
    return window_to_theta(torch.tensor(rows), IMAGE, **options)


def turned(angle, side=0.5):
    """Theta of a window that is turned in the pixel grid: A = diag(2/W, 2/H) R diag(w/2, h/2)."""
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    pixels = torch.tensor([IMAGE[1], IMAGE[0]])
    return torch.cat([turn * side * pixels / pixels[:, None], torch.zeros(2, 1)], 1)[None]


def training_model():
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return SupervisedSpatialTransformer(net, (4, 4), features=16, head_init="gaussian")


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_pixel_exact_crop(align_corners):
    theta = windows(INSIDE, align_corners=align_corners)
    (record,) = monitor_of(theta, align_corners=align_corners).history
    side = math.sqrt(29 / 59 * 19 / 39) if align_corners else 0.5
    expected = {"step": 0, "scale": side, "anisotropy": 1, "rotation": 0, "minification": 1}
    expected |= dict.fromkeys(("outside", "motion", "lost", "collapsed", "mirrored"), 0)
    assert dataclasses.asdict(record) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.step = 1


@pytest.mark.parametrize("degrees", [-170, -30, 0, 75])
def test_rotation_is_the_absolute_angle_in_degrees(degrees):
    (record,) = monitor_of(turned(math.radians(degrees))).history
    assert record.rotation == pytest.approx(abs(degrees), abs=1e-4)
    assert record.anisotropy == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("align_corners", "moved"), [(False, 5), (True, 5)])
def test_motion_is_in_pixels_per_step(align_corners, moved):
    """Three pixels right and four down in two steps, then nothing."""
    here, there = (windows([x, y, 30, 20], align_corners=align_corners) for x, y in ((10, 10), (13, 14)))
    monitor = monitor_of(here, align_corners=align_corners, every=2)
    monitor.look.localization.theta = there
    for _ in range(4):
        monitor.step()
    assert [record.step for record in monitor.history] == [0, 2, 4]
    assert [record.motion for record in monitor.history] == pytest.approx([0, moved / 2, 0], abs=1e-5)


def test_corners_count_even_if_the_center_stays():
    """From 30 x 20 to 36 x 28 pixels around the same center, each corner moves by (3, 4)."""
    monitor = monitor_of(windows([15, 10, 30, 20]))
    monitor.look.localization.theta = windows([12, 6, 36, 28])
    monitor.step()
    assert monitor.history[-1].motion == pytest.approx(5, abs=1e-5)


@pytest.mark.filterwarnings("ignore:After 1 optimizer steps:UserWarning")
@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 7))
def test_measures_of_any_windows(seed, count):
    """Against torch's singular values and a dense lattice, on a square image, where theta's steps are the pixels'."""
    before, theta = torch.randn(2, count, 2, 3, generator=torch.Generator().manual_seed(seed))
    monitor = monitor_of(before, image=(24, 24), size=(8, 8))
    monitor.look.localization.theta = theta
    monitor.step()
    record = monitor.history[-1]
    large, small = torch.linalg.svdvals(theta[:, :, :2].double()).unbind(-1)
    assert record.scale == pytest.approx((large * small).sqrt().median().item(), rel=1e-4)
    assert record.anisotropy == pytest.approx((large / small).median().item(), rel=1e-3)
    assert record.minification == pytest.approx(3 * large.median().item(), rel=1e-4)
    assert record.collapsed == pytest.approx((24 * small < 1).double().mean().item())
    assert record.mirrored == pytest.approx((torch.linalg.det(theta[:, :, :2]) < 0).double().mean().item())
    assert record.motion == pytest.approx(
        (12 * (corners(theta) - corners(before))).norm(dim=-1).mean().item(), rel=1e-4
    )
    ticks = torch.linspace(-1, 1, 201)
    x, y = torch.meshgrid(ticks, ticks, indexing="xy")
    points = theta @ torch.stack([x.flatten(), y.flatten(), torch.ones(201**2)])
    outside = (points.abs() > 1).any(1).double().mean(1)
    assert record.outside == pytest.approx(outside.mean().item(), abs=0.05)


@settings(max_examples=30)
@given(count=st.integers(1, 12), data=st.data())
def test_a_quarter_of_lost_windows_warns_exactly_once(count, data):
    lost = data.draw(st.integers(0, count))
    monitor = monitor_of(windows(*[INSIDE] * count))
    monitor.look.localization.theta = windows(*[OUTSIDE] * lost, *[INSIDE] * (count - lost))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            monitor.step()
    assert monitor.history[-1].lost == pytest.approx(lost / count)
    assert [(each.category, each.filename) for each in caught] == [(UserWarning, __file__)] * (4 * lost >= count)


def test_the_warning_says_what_to_do():
    monitor = monitor_of(windows(INSIDE), every=5)
    monitor.look.localization.theta = windows(OUTSIDE)
    for _ in range(4):
        monitor.step()
    with pytest.warns(UserWarning, match=r"After 5 optimizer steps: 100% of the windows lie .*free_pace=.*bounds="):
        monitor.step()


def test_half_a_window_may_stick_out():
    assert monitor_of(windows([-15, 10, 30, 20])).history[0].lost == 0
    assert monitor_of(windows([-16, 10, 30, 20])).history[0].lost == 1


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_window_is_collapsed_below_one_pixel_in_any_direction(align_corners):
    def collapsed(width, height):
        sides = torch.tensor([width, height]) / torch.tensor([60 - align_corners, 40 - align_corners])
        theta = torch.cat([sides.diag(), torch.zeros(2, 1)], 1)[None]
        return monitor_of(theta, align_corners=align_corners).history[0].collapsed

    assert [collapsed(1.01, 20), collapsed(0.99, 20), collapsed(30, 1.01), collapsed(30, 0.99)] == [0, 1, 0, 1]
    assert collapsed(0, 0) == 1


@pytest.mark.parametrize(
    ("theta", "words"),
    [
        (windows(INSIDE), "the windows are fine. Their side is 0.50 of the image's, 0% of their area is outside"),
        (windows(INSIDE) * math.nan, "theta is NaN or infinite: training has diverged"),
        (windows(INSIDE, INSIDE, INSIDE, OUTSIDE), "25% of the windows lie more than half outside the image"),
        (10 * torch.eye(2, 3)[None], "100% of the windows lie more than half outside the image"),
        (torch.zeros(1, 2, 3), "100% of the windows are narrower than one pixel of the image. With head_init="),
        (windows([-10, 10, 30, 20]), "34% of the windows' area is outside the image: lower the transformer's rate"),
        (torch.eye(2, 3)[None], "fine"),
        (
            windows([-1, -1, 62, 42]),
            "one step of the output is 2.1 pixels of the image, and pixels between are skipped",
        ),
        (windows([0, 10, 60, 18]), "stretched 2.2 times, turned by 0 degrees, 0% mirrored"),
        (turned(0.8), "stretched 1.0 times, turned by 46 degrees, 0% mirrored"),
        (windows(INSIDE) * torch.tensor([-1.0, 1, 1]), "turned by 0 degrees, 100% mirrored"),
    ],
)
def test_each_case_has_its_words(theta, words):
    monitor = monitor_of(theta)
    assert words in monitor.describe()
    assert ("fine" in monitor.describe()) == ("fine" in words)


def test_windows_that_do_not_move_are_named_after_the_first_step():
    monitor = monitor_of(windows(INSIDE))
    assert "move by 0 pixels" in monitor.describe()
    monitor.step()
    assert "After 1 optimizer steps: the windows do not move. Unless" in monitor.describe()
    monitor.look.localization.theta = windows([11, 10, 30, 20])
    monitor.step()
    assert "they move by 1 pixels per step" in monitor.describe()


def test_skipped_pixels_are_no_matter_with_antialiasing():
    assert "fine" in monitor_of(windows([-1, -1, 62, 42]), antialias=True).describe()


def test_several_things_can_be_wrong_at_once():
    monitor = monitor_of(turned(0.8), size=(5, 7))
    monitor.step()
    assert all(words in monitor.describe() for words in ("antialias=True", "distorted", "do not move"))


def train(*, watched):
    """The state after five steps with dropout and batch statistics."""
    look = training_model()
    images = torch.rand(4, 1, 8, 8)
    monitor = DistortionMonitor(look, images, every=2) if watched else None
    optimizer = torch.optim.Adam(look.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        look(images).image.square().sum().backward()
        optimizer.step()
        if monitor:
            monitor.step()
    return look.state_dict(), torch.rand(1)


def test_training_takes_the_same_course_with_and_without_a_monitor():
    (state, number), (other, same_number) = train(watched=True), train(watched=False)
    assert all(torch.equal(state[name], other[name]) for name in other)
    assert torch.equal(number, same_number)


def test_localizing_the_probes_keeps_no_graph():
    modes = []
    look = training_model()
    look.localization.register_forward_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    DistortionMonitor(look, torch.rand(1, 1, 8, 8), every=1).step()
    assert modes == [False, False]


@settings(max_examples=20)
@given(flags=st.lists(st.booleans(), min_size=9, max_size=9))
def test_each_submodule_gets_its_own_mode_back(flags):
    look = training_model()
    parts = list(look.modules())
    assert len(parts) == len(flags)
    for part, flag in zip(parts, flags, strict=True):
        part.training = flag
    monitor = DistortionMonitor(look, torch.zeros(1, 1, 8, 8), every=1)
    monitor.step()
    assert [part.training for part in parts] == flags
    monitor.images = torch.zeros(1, 2, 8, 8)
    with pytest.raises(RuntimeError, match="channels"):
        monitor.step()
    assert [part.training for part in parts] == flags


def test_the_start_of_the_papers_head_is_no_reason_to_warn():
    """Its windows are points until guidance has widened them."""
    look = training_model()
    DistortionMonitor(look, torch.rand(4, 1, 8, 8), every=1).step()


def test_it_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        monitor = monitor_of(windows(INSIDE))
        monitor.step()
        monitor.describe()
        alive = weakref.ref(monitor)
        del monitor
        assert alive() is None
    finally:
        gc.enable()


def test_repr_shows_settings_and_state():
    monitor = monitor_of(windows(INSIDE, INSIDE), every=3)
    for _ in range(4):
        monitor.step()
    assert repr(monitor) == "DistortionMonitor(every=3, images=(2, 1, 40, 60), steps=4, records=2)"
    assert repr(monitor_of(windows(INSIDE), every=10)) == "DistortionMonitor(images=(1, 1, 40, 60), steps=0, records=1)"


@pytest.mark.parametrize(
    ("look", "images", "every", "error", "match"),
    [
        (nn.Identity(), torch.zeros(1, 1, 8, 8), 1, TypeError, "look must be a SupervisedSpatialTransformer, got Iden"),
        (None, torch.zeros(1, 8, 8), 1, ValueError, r"images must have shape \(batch, channel, height, width\), got"),
        (None, None, 1, TypeError, r"images must be a torch\.Tensor, got NoneType"),
        (
            None,
            torch.zeros(0, 1, 8, 8),
            1,
            ValueError,
            r"images must hold at least one image, got shape \(0, 1, 8, 8\)",
        ),
        (None, torch.zeros(1, 1, 8, 8), 0, ValueError, "every must be positive, got 0"),
    ],
)
def test_bad_arguments_are_named(look, images, every, error, match):
    with pytest.raises(error, match=match):
        DistortionMonitor(look or training_model(), images, every=every)
