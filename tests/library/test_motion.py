"""Motion windows: the search against brute force, and every choice that the definition leaves open."""

from fractions import Fraction
from itertools import pairwise

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st.geometry import flip_theta, theta_to_window, window_to_theta
from supervised_st.motion import MotionWindowTarget, WindowProfile, motion_map, window_profile, window_scores


def brute_force_scores(motion, height, width):
    """Sum every window pixel by pixel, in exact rational arithmetic."""
    rows, columns = len(motion) - height + 1, len(motion[0]) - width + 1
    return [
        [
            sum((Fraction(motion[y0 + y][x0 + x]) for y in range(height) for x in range(width)), Fraction(0))
            for x0 in range(columns)
        ]
        for y0 in range(rows)
    ]


def first_best(scores):
    """(x0, y0) of the largest entry, the first in row-major order."""
    places = [(x0, y0) for y0, row in enumerate(scores) for x0, _ in enumerate(row)]
    return max(places, key=lambda place: scores[place[1]][place[0]])


def whole_numbered_flow(seed, batch, fields, height, width, values=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-values, values + 1, (batch, fields, 2, height, width), generator=generator).float()


def flow_at(*places, height=12, width=20):
    """One still frame per place, but for one moving pixel there (x, y); None is a frame without motion."""
    flow = torch.zeros(len(places), 1, 2, height, width)
    for sample, place in enumerate(places):
        if place is not None:
            flow[sample, 0, 0, place[1], place[0]] = 3
    return flow


class TestMotionMap:
    def test_is_the_mean_squared_length(self):
        flow = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).view(1, 2, 2, 1, 1)
        assert motion_map(flow).item() == (25 + 1) / 2

    def test_8_bit_flow_means_the_same_as_its_decoded_values(self):
        flow = torch.randint(0, 256, (2, 3, 2, 5, 6), dtype=torch.uint8)
        decoded = (flow.double() - 128) * 2 * 20 / 255
        torch.testing.assert_close(motion_map(flow, bound=20), motion_map(decoded), rtol=1e-14, atol=0)

    def test_128_is_no_motion(self):
        assert motion_map(torch.full((1, 2, 2, 3, 3), 128, dtype=torch.uint8), bound=20).count_nonzero() == 0

    def test_half_precision_flow_does_not_overflow(self):
        assert motion_map(torch.full((1, 1, 2, 1, 1), 60000.0, dtype=torch.float16)).item() == 2 * 60000.0**2

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_names_the_sample_that_is_not_finite(self, value):
        flow = torch.zeros(3, 2, 2, 4, 4)
        flow[1, 1, 0, 2, 2] = value
        with pytest.raises(ValueError, match="flow must be finite, got inf or nan in sample 1"):
            motion_map(flow)

    @pytest.mark.parametrize(
        ("flow", "bound", "error", "match"),
        [
            (torch.zeros(1, 2, 4, 4), None, ValueError, r"flow must have shape \(batch, field, 2, height, width\)"),
            (torch.zeros(1, 0, 2, 4, 4), None, ValueError, "flow must hold at least one field"),
            (torch.zeros(1, 1, 2, 4, 4).int(), None, TypeError, "flow must be float64"),
            (torch.zeros(1, 1, 2, 4, 4).byte(), None, ValueError, "bound must be the displacement .* got None"),
            (torch.zeros(1, 1, 2, 4, 4).byte(), 0.0, ValueError, r"bound must be the displacement .* got 0\.0"),
            (torch.zeros(1, 1, 2, 4, 4), 20.0, ValueError, "bound must be None for floating-point flow"),
        ],
    )
    def test_refuses(self, flow, bound, error, match):
        with pytest.raises(error, match=match):
            motion_map(flow, bound=bound)


class TestWindowScores:
    @settings(max_examples=40)
    @given(st.data())
    def test_equal_brute_force_exactly(self, data):
        height, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 7))
        size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        values = st.integers(-(10**6), 10**6).map(float)
        motion = data.draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=height, max_size=height))
        scores = window_scores(torch.tensor([motion], dtype=torch.float64), size)
        assert scores[0].tolist() == [[float(score) for score in row] for row in brute_force_scores(motion, *size)]

    @settings(max_examples=40)
    @given(seed=st.integers(0, 2**16), exponent=st.integers(-300, 250))
    def test_fractions_are_summed_to_the_last_digits(self, seed, exponent):
        motion = torch.rand(1, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2.0**exponent
        exact = [[float(score) for score in row] for row in brute_force_scores(motion[0].tolist(), 3, 2)]
        expected = torch.tensor([exact], dtype=torch.float64)
        torch.testing.assert_close(window_scores(motion, (3, 2)), expected, rtol=1e-13, atol=0)

    def test_at_the_detail_level_against_whole_number_sums(self):
        """1189 x 896 with v = 224, where float32 sums would be off by more than 1."""
        whole = np.random.default_rng(0).integers(0, 2**26, (896, 1189))
        integral = np.zeros((897, 1190), dtype=np.int64)
        integral[1:, 1:] = whole.cumsum(0).cumsum(1)
        sums = integral[224:, 224:] - integral[:-224, 224:] - integral[224:, :-224] + integral[:-224, :-224]
        scores = window_scores(torch.from_numpy(whole / 2**20)[None], (224, 224))
        assert (scores[0].numpy() == sums / 2**20).all()

    def test_windows_with_the_same_motion_in_them_tie_exactly(self):
        """All windows compared hold the one patch and no noise, but the running sums include the noise at the sides."""
        motion = torch.rand(1, 40, 50, dtype=torch.float64)
        motion[0, :, 7:42] = 0
        motion[0, 18:21, 22:27] = torch.rand(3, 5, dtype=torch.float64)
        scores = window_scores(motion, (20, 20))[0, 1:19, 7:23]
        assert (scores == scores[0, 0]).all()

    def test_gives_the_smallest_window_the_map_itself(self):
        motion = torch.randint(-9, 9, (2, 5, 6)).double()
        assert torch.equal(window_scores(motion, (1, 1)), motion)

    def test_of_the_largest_and_the_smallest_numbers(self):
        motion = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]], dtype=torch.float64)
        largest, smallest = motion * 2.0**1020, motion * 2.0**-890
        assert window_scores(largest, (2, 1)).tolist() == [[[4 * 2.0**1020, 6 * 2.0**1020]]]
        assert window_scores(smallest, (2, 1)).tolist() == [[[4 * 2.0**-890, 6 * 2.0**-890]]]
        assert window_scores(motion * 5e-324, (2, 1)).isfinite().all()
        with pytest.raises(ValueError, match="the sum of motion must be finite, got inf or nan in sample 0"):
            window_scores(motion * 2.0**1021, (2, 1))

    def test_of_no_maps_are_none(self):
        assert window_scores(torch.zeros(0, 4, 6), (3, 2)).shape == (0, 2, 5)

    @pytest.mark.parametrize(
        ("motion", "size", "error", "match"),
        [
            (torch.zeros(4, 4), (2, 2), ValueError, r"motion must have shape \(batch, height, width\)"),
            (torch.zeros(1, 4, 4).long(), (2, 2), TypeError, "motion must be float64"),
            (torch.zeros(1, 4, 6), (5, 5), ValueError, r"size must be at most .* \(4, 6\), got \(5, 5\)"),
            (torch.zeros(1, 4, 4) / 0, (2, 2), ValueError, "motion must be finite, got inf or nan in sample 0"),
        ],
    )
    def test_refuses(self, motion, size, error, match):
        with pytest.raises(error, match=match):
            window_scores(motion, size)


class TestWindowProfile:
    def test_keeps_the_topmost_of_the_best(self):
        scores = torch.tensor([[[1.0, 5, 2], [4, 5, 2], [4, 0, 2]]])
        profile = window_profile(scores)
        assert profile.score.tolist() == [[4, 5, 2]]
        assert profile.row.tolist() == [[1, 0, 0]]
        assert profile.lowest.tolist() == [[1, 0, 2]]

    def test_refuses_no_windows(self):
        with pytest.raises(ValueError, match=r"scores must hold at least one window, got shape \(1, 0, 3\)"):
            window_profile(torch.zeros(1, 0, 3))


class TestMotionWindowTarget:
    @settings(max_examples=60)
    @given(st.data())
    def test_finds_what_brute_force_finds_in_every_crop(self, data):
        """Few different values, so that ties are common."""
        height, width = data.draw(st.integers(2, 7)), data.draw(st.integers(2, 7))
        crop_height, crop_width = data.draw(st.integers(2, height)), data.draw(st.integers(2, width))
        size = data.draw(st.integers(1, crop_height - 1)), data.draw(st.integers(1, crop_width - 1))
        x, y = data.draw(st.integers(0, width - crop_width)), data.draw(st.integers(0, height - crop_height))
        flow = whole_numbered_flow(data.draw(st.integers(0, 2**16)), 1, 2, height, width, values=1)
        found = MotionWindowTarget(size)(flow, crop=(x, y, crop_width, crop_height))

        motion = flow.square().sum(2).mean(1)[0, y : y + crop_height, x : x + crop_width].tolist()
        scores = brute_force_scores(motion, *size)
        x0, y0 = first_best(scores)
        if min(map(min, scores)) == scores[y0][x0]:
            x0, y0 = (crop_width - size[1]) // 2, (crop_height - size[0]) // 2
        assert found.window.tolist() == [[x0, y0, size[1], size[0]]]
        assert found.score.item() == scores[y0][x0]
        assert torch.equal(found.theta, window_to_theta(found.window, (crop_height, crop_width)))

    @pytest.mark.parametrize("fallback", ["center", "invalid"])
    @settings(max_examples=20)
    @given(seed=st.integers(0, 2**16), values=st.sampled_from([0, 1, 3]), crop_width=st.integers(4, 11))
    def test_a_profile_gives_exactly_the_direct_answer(self, fallback, seed, values, crop_width):
        target = MotionWindowTarget((3, 4), fallback=fallback)
        flow = whole_numbered_flow(seed, 5, 1, 6, 11, values) * torch.tensor([1, 0, 0.3, 1, 0]).view(5, 1, 1, 1, 1)
        crop_x = torch.randint(0, 11 - crop_width + 1, (5,), generator=torch.Generator().manual_seed(seed))
        crops = torch.stack([crop_x, crop_x * 0, crop_x * 0 + crop_width, crop_x * 0 + 6], 1)
        direct = target(flow, crop=crops)
        later = target.from_profile(target.profile(flow), crop_x=crop_x, crop_size=(6, crop_width))
        for got, expected in zip(later, direct, strict=True):
            assert torch.equal(got, expected)

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_the_mirrored_flow_has_the_mirrored_window(self, align_corners):
        flow = torch.randn(8, 2, 2, 9, 13)
        mirrored = flow.flip(-1) * torch.tensor([-1, 1]).view(2, 1, 1)
        target = MotionWindowTarget((4, 5), align_corners=align_corners)
        torch.testing.assert_close(target(mirrored).theta, flip_theta(target(flow).theta), rtol=0, atol=1e-7)

    def test_does_not_depend_on_batch_mates(self):
        flow = torch.randn(3, 2, 2, 9, 9) * torch.tensor([1e6, 1, 1e-6]).view(3, 1, 1, 1, 1)
        target = MotionWindowTarget(4)
        together = target(flow)
        for sample in range(3):
            alone = target(flow[sample : sample + 1])
            assert all(torch.equal(a[0], t[sample]) for a, t in zip(alone, together, strict=True))

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_theta_is_the_window_relative_to_the_crop(self, align_corners):
        found = MotionWindowTarget(4, align_corners=align_corners)(flow_at((10, 6)), crop=(5, 2, 12, 9))
        assert found.window.tolist() == [[2, 1, 4, 4]]
        window = theta_to_window(found.theta, (9, 12), align_corners=align_corners)
        torch.testing.assert_close(window, found.window.float(), rtol=0, atol=1e-5)

    def test_crops_may_differ_in_place(self):
        crops = torch.tensor([[0, 0, 10, 8], [6, 3, 10, 8]])
        found = MotionWindowTarget(3)(flow_at((9, 5), (9, 5)), crop=crops)
        assert found.window.tolist() == [[7, 3, 3, 3], [1, 0, 3, 3]]

    @pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 7.3], ids="speed={}".format)
    def test_uniform_motion_is_no_motion(self, scale):
        flow = torch.full((1, 3, 2, 12, 20), scale) * (1 + 1e-7 * torch.randn(1, 3, 2, 12, 20))
        found = MotionWindowTarget(4, fallback="invalid")(flow)
        assert found.window.tolist() == [[8, 4, 4, 4]]
        assert found.confidence.tolist() == [0]

    def test_one_moving_pixel_is_motion_however_slow(self):
        found = MotionWindowTarget(4, fallback="invalid")(flow_at((19, 11)) * 1e-12)
        assert found.window.tolist() == [[16, 8, 4, 4]]
        assert found.confidence.tolist() == [1]

    def test_center_is_that_of_the_crop_and_taken_with_confidence(self):
        found = MotionWindowTarget(4)(flow_at(None), crop=(7, 3, 10, 8))
        assert found.window.tolist() == [[3, 2, 4, 4]]
        assert found.confidence.tolist() == [1]

    def test_a_profile_without_its_lowest_scores_still_knows_stillness(self):
        target = MotionWindowTarget(4)
        score, row, _ = target.profile(flow_at(None, (19, 11)))
        found = target.from_profile(WindowProfile(score, row), crop_x=torch.tensor([0, 0]), crop_size=(12, 20))
        assert found.window[:, :2].tolist() == [[8, 4], [16, 8]]

    def test_an_empty_batch_is_an_empty_answer(self):
        target = MotionWindowTarget(4)
        flow = torch.zeros(0, 1, 2, 8, 8)
        assert target(flow, crop=(0, 0, 6, 6)).theta.shape == (0, 2, 3)
        later = target.from_profile(target.profile(flow), crop_x=torch.zeros(0, dtype=torch.int64), crop_size=(8, 6))
        assert later.window.shape == (0, 4)

    def test_keeps_no_graph(self):
        found = MotionWindowTarget(2)(torch.randn(1, 1, 2, 4, 4, requires_grad=True))
        assert not found.theta.requires_grad
        assert not found.score.requires_grad

    @pytest.mark.parametrize(
        ("crop", "error", "match"),
        [
            ((0, 0, 3, 8), ValueError, r"size of the window must be at most the crop's .* \(8, 3\), got \(4, 4\)"),
            ((1, 0, 8, 8), ValueError, r"crop must lie in the frame .* got \(x0, y0\) \(1, 0\) .* in sample 0"),
            ((0, -1, 8, 8), ValueError, r"crop must lie in the frame .* got \(x0, y0\) \(0, -1\)"),
            ((0, 0, 8), ValueError, r"crop must have shape \(2, 4\), got \(2, 3\)"),
            ((0.0, 0.0, 8.0, 8.0), TypeError, "crop must have an integer dtype, got torch.float32"),
            ("abc", TypeError, r"crop must be \(x0, y0, width, height\), or an integer tensor .*, got 'abc'"),
            (("0", 0, 8, 8), TypeError, r"crop must be \(x0, y0, width, height\), .* got \('0', 0, 8, 8\)"),
            (8, TypeError, r"crop must be \(x0, y0, width, height\), .* got 8"),
            (torch.tensor([[0, 0, 8, 8]]), ValueError, r"crop must have shape \(2, 4\), got \(1, 4\)"),
            (torch.tensor([[0, 0, 8, 8], [0, 0, 7, 8]]), ValueError, r"crop must have one \(width, height\)"),
            (torch.tensor([[0, 0, 7, 8], [2, 0, 7, 8]]), ValueError, "crop must lie in the frame .* in sample 1"),
        ],
    )
    def test_refuses_crops(self, crop, error, match):
        with pytest.raises(error, match=match):
            MotionWindowTarget(4)(torch.zeros(2, 1, 2, 8, 8), crop=crop)

    @pytest.mark.parametrize(
        ("crop_x", "crop_size", "error", "match"),
        [
            ([0.0], (8, 8), TypeError, "crop_x must have an integer dtype"),
            ([0, 0], (8, 8), ValueError, r"crop_x must have shape \(1,\), got \(2,\)"),
            ([3], (8, 8), ValueError, "crop must lie in the frame"),
            ([0], (7, 8), ValueError, r"crop_size must have the height .* got \(7, 8\) .* end at row 8"),
            ([0], (8, 3), ValueError, "size of the window must be at most the crop's"),
        ],
    )
    def test_refuses_profiles(self, crop_x, crop_size, error, match):
        target = MotionWindowTarget(4)
        profile = target.profile(flow_at((9, 7), height=8, width=10))
        with pytest.raises(error, match=match):
            target.from_profile(profile, crop_x=torch.tensor(crop_x), crop_size=crop_size)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"size": 0}, "size must be two integers"),
            ({"fallback": "none"}, "fallback must be one of 'center', 'invalid', got 'none'"),
            ({"bound": 0.0}, r"bound must be a positive number of pixels, got 0\.0"),
        ],
    )
    def test_refuses_options(self, options, match):
        with pytest.raises(ValueError, match=match):
            MotionWindowTarget(**{"size": 4, **options})


@pytest.mark.parametrize("clip", ["circlecc/01.mp4", "left/07.mp4", "tick/12.mp4"])
def test_real_flow_against_another_integral_image(clip, clips_folder):
    with av.open(str(clips_folder / clip)) as video:
        gray = [frame.to_ndarray(format="gray") for frame, _ in zip(video.decode(video=0), range(6), strict=False)]
    gray = [cv2.resize(frame, (170, 128), interpolation=cv2.INTER_AREA) for frame in gray]
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.stack([search.calc(before, after, None) for before, after in pairwise(gray)]).astype(np.float64)

    integral = cv2.integral((flow**2).sum(-1).mean(0), sdepth=cv2.CV_64F)
    scores = integral[32:, 32:] - integral[:-32, 32:] - integral[32:, :-32] + integral[:-32, :-32]
    y0, x0 = np.unravel_index(scores.argmax(), scores.shape)
    found = MotionWindowTarget(32)(torch.from_numpy(flow).movedim(-1, 1)[None])
    assert found.window.tolist() == [[x0, y0, 32, 32]]
    assert found.score.item() == pytest.approx(scores.max(), rel=1e-12)
