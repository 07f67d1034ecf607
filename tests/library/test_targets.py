"""Targets: score maps against brute force, points and boxes against exact crops, and what is missing is ignored."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supervised_st import MotionWindowTarget, RegressiveGuidance, SupervisedSpatialTransformer, affine_sample, targets
from supervised_st.geometry import at_scales, points_in_glimpse, theta_to_window, window_to_theta
from supervised_st.motion import best_window, motion_map, window_profile, window_scores

SIZE = HEIGHT, WIDTH = 30, 40
NAN = math.nan


def best_by_brute_force(score_map, height, width):
    """(x0, y0, width, height) of the first best window in row-major order, and all sums."""
    rows, columns = score_map.shape
    sums = {
        (x0, y0): int(score_map[y0 : y0 + height, x0 : x0 + width].sum())
        for y0 in range(rows - height + 1) for x0 in range(columns - width + 1)
    }  # fmt: skip
    x0, y0 = max(sums, key=lambda corner: (sums[corner], -corner[1], -corner[0]))
    return [x0, y0, width, height], sums


class TestFromMap:
    @settings(max_examples=60)
    @given(st.data())
    def test_finds_what_brute_force_finds(self, data):
        """Few different values, so that ties and plateaus are common."""
        rows, columns = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
        height, width = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
        generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
        score_map = torch.randint(0, data.draw(st.sampled_from([1, 2, 5])), (rows, columns), generator=generator)
        found = targets.from_map(score_map, (height, width))

        window, sums = best_by_brute_force(score_map.numpy(), height, width)
        tells = len(set(sums.values())) > 1
        if not tells:
            window = [(columns - width) // 2, (rows - height) // 2, width, height]
        assert found.window.tolist() == window
        assert found.score.item() == max(sums.values())
        assert found.confidence.item() == tells
        assert torch.equal(found.theta, window_to_theta(found.window, (rows, columns)))

    @pytest.mark.parametrize("fallback", ["center", "invalid"])
    @pytest.mark.parametrize("align_corners", [False, True])
    def test_of_motion_is_the_target_of_motion(self, fallback, align_corners):
        flow = torch.randn(4, 3, 2, 9, 12) * torch.tensor([1.0, 0, 1e-3, 1]).view(4, 1, 1, 1, 1)
        options = {"fallback": fallback, "align_corners": align_corners}
        found = targets.from_map(motion_map(flow), (4, 5), **options)
        for got, expected in zip(found, MotionWindowTarget((4, 5), **options)(flow), strict=True):
            assert torch.equal(got, expected)

    def test_each_map_of_any_batch_is_searched_alone(self):
        maps = torch.rand(2, 3, 6, 7) * torch.tensor([1e-6, 1, 1e6])[:, None, None]
        together = targets.from_map(maps, (2, 3))
        for n, k in np.ndindex(2, 3):
            alone = targets.from_map(maps[n, k], (2, 3))
            assert all(torch.equal(a, t[n, k]) for a, t in zip(alone, together, strict=True))
        assert [field.shape for field in targets.from_map(maps[:0], 2)] == [(0, 3, 2, 3), (0, 3, 4), (0, 3), (0, 3)]

    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16])
    def test_takes_masks_and_numbers_of_any_type(self, dtype):
        maps = torch.randint(0, 2, (3, 9, 9)) * (1 if dtype == torch.bool else 200)
        for got, expected in zip(targets.from_map(maps.to(dtype), 3), targets.from_map(maps.double(), 3), strict=True):
            assert torch.equal(got, expected)

    @pytest.mark.parametrize("map_of", [torch.zeros, torch.ones, lambda *size: 1 + 1e-8 * torch.rand(size).double()])
    def test_a_map_that_tells_nothing_has_no_confidence(self, map_of):
        found = targets.from_map(map_of(1, 12, 20), 4)
        assert found.window.tolist() == [[8, 4, 4, 4]]
        assert found.confidence.tolist() == [0]
        assert targets.from_map(map_of(1, 12, 20), 4, fallback="center").confidence.tolist() == [1]

    def test_on_a_plateau_the_topmost_then_leftmost_is_taken(self):
        score_map = torch.zeros(10, 12)
        score_map[3:9, 4:11] = 0.7
        assert targets.from_map(score_map, (2, 3)).window.tolist() == [4, 3, 3, 2]

    def test_a_small_map_leads_to_the_same_region_of_the_large_image(self):
        score_map = torch.zeros(7, 7)
        score_map[2:4, 5] = 1
        theta = targets.from_map(score_map, 2).theta
        assert torch.equal(theta_to_window(theta, (224, 224)).round(decimals=3), torch.tensor([128.0, 64, 64, 64]))

    def test_keeps_no_graph(self):
        assert not targets.from_map(torch.rand(4, 4, requires_grad=True), 2).theta.requires_grad

    @pytest.mark.parametrize(
        ("score_map", "size", "error", "match"),
        [
            (
                torch.tensor([[0.0, -0.25]]),
                1,
                ValueError,
                r"score_map must not be negative, got -0\.25; pass score_map",
            ),
            (torch.tensor([[[0.0]], [[NAN]]]), 1, ValueError, "score_map must be finite, got inf or nan in sample 1"),
            (torch.tensor([[0.0, math.inf]]), 1, ValueError, "score_map must be finite"),
            (torch.zeros(4, 6), 5, ValueError, r"size must be at most the map's .* \(4, 6\), got \(5, 5\)"),
            (torch.zeros(4), 1, ValueError, r"score_map must have shape \(\.\.\., height, width\), got \(4,\)"),
            (torch.zeros(4, 4).cfloat(), 1, TypeError, "score_map must be real, got torch.complex64"),
            (np.zeros((4, 4)), 1, TypeError, "score_map must be a torch.Tensor, got ndarray"),
        ],
    )
    def test_refuses(self, score_map, size, error, match):
        with pytest.raises(error, match=match):
            targets.from_map(score_map, size)

    def test_the_search_refuses_sizes_that_are_not_the_profiles(self):
        profile = window_profile(window_scores(torch.rand(1, 6, 8), 3))
        with pytest.raises(ValueError, match=r"must be those of the profile with 6 columns, got \(3, 3\) and \(6, 9\)"):
            best_window(profile, 3, (6, 9))


class TestFromBoxes:
    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64])
    def test_both_formats_are_the_windows(self, dtype, align_corners):
        xywh = torch.tensor([[[7, 5, 10, 8], [0, 0, 40, 30]], [[3, 2, 4, 9], [20, 1, 1, 1]]])
        xyxy = torch.cat([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], -1)
        expected = window_to_theta(xywh.to(dtype), SIZE, align_corners=align_corners)
        for boxes, format in ((xywh, "xywh"), (xyxy, "xyxy")):
            found = targets.from_boxes(boxes.to(dtype), SIZE, format=format, align_corners=align_corners)
            assert torch.equal(found.theta, expected)
            assert found.confidence.tolist() == [[1, 1], [1, 1]]

    def test_missing_boxes_may_be_anything(self):
        there = [7.0, 5, 10, 8]
        boxes = torch.tensor([there, [NAN] * 4, [0, 0, 0, 0], [-1] * 4, [math.inf] * 4, [1, 2, NAN, 4], there])
        found = targets.from_boxes(boxes, SIZE, confidence=torch.tensor([1, NAN, 0, 0, 0, 1, 0.25]))
        assert found.confidence.tolist() == [1, 0, 0, 0, 0, 0, 0.25]
        assert torch.equal(found.theta[[0, 6]], window_to_theta(boxes[[0, 6]], SIZE))
        assert found.theta[1:6].isnan().all()

    def test_confidence_may_be_a_mask(self):
        boxes = torch.tensor([[7, 5, 10, 8], [0, 0, 0, 0]])
        found = targets.from_boxes(boxes, SIZE, confidence=torch.tensor([True, False]))
        assert found.confidence.tolist() == [1, 0]
        assert found.confidence.dtype == torch.float32

    @pytest.mark.parametrize(
        ("box", "is_seen"),
        [
            *[([-3, 0, 4, 2], 1), ([-4, 0, 4, 2], 0), ([8, 0, 2, 2], 1), ([9, 0, 2, 2], 0), ([0, 0, 1, 1], 1)],
            *[([0, -2, 3, 3], 1), ([0, -3, 3, 3], 0), ([0, 6, 3, 3], 1), ([0, 7, 3, 3], 0)],
        ],
    )
    def test_boxes_that_show_nothing_of_the_image_are_missing(self, box, is_seen):
        found = targets.from_boxes(torch.tensor([box]), (7, 9))
        assert found.confidence.tolist() == [is_seen]
        assert found.theta.isnan().any().item() != is_seen

    def test_warns_of_the_other_format_by_the_boxes_that_are_there(self):
        boxes = torch.tensor([[20.0, 10, 38, 28], *[[NAN] * 4] * 5])
        with pytest.warns(UserWarning, match=r"windows \(x0, y0, width, height\) reach out of the image") as told:
            targets.from_boxes(boxes, SIZE)
        assert told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            targets.from_boxes(boxes, SIZE, format="xyxy")

    @pytest.mark.parametrize(
        ("boxes", "options", "error", "match"),
        [
            ([[7, 5, 10, 0]], {}, ValueError, r"boxes must have positive width and height, .* got \[7, 5, 10, 0\]"),
            ([[7, 5, 7, 9]], {"format": "xyxy"}, ValueError, "boxes must have x1 > x0 and y1 > y0"),
            ([[7, 5, 7]], {}, ValueError, r"boxes must have shape \(\.\.\., 4\), got \(1, 3\)"),
            ([[True] * 4], {}, TypeError, "boxes must be integer or floating point, got torch.bool"),
            ([[7, 5, 7, 9]], {"format": "cxcywh"}, ValueError, "format must be one of 'xywh', 'xyxy', got 'cxcywh'"),
            ([[7, 5, 7, 9]], {"confidence": torch.ones(2)}, ValueError, r"confidence must have shape \(1,\), got \(2,"),
            ([[7, 5, 7, 9]], {"confidence": -torch.ones(1)}, ValueError, "confidence must be finite and not negative"),
            ([[7, 5, 7, 9]], {"confidence": [1.0]}, TypeError, "confidence must be a torch.Tensor, got list"),
            ([[7, 5, 7, 9]], {"confidence": torch.ones(1, device="meta")}, ValueError, "confidence must be on the dev"),
        ],
    )
    def test_refuses(self, boxes, options, error, match):
        with pytest.raises(error, match=match):
            targets.from_boxes(torch.tensor(boxes), SIZE, **options)


class TestFromPoints:
    def test_an_odd_window_is_the_pixels_around_the_point_exactly(self):
        image = torch.rand(1, 3, *SIZE)
        theta = targets.from_points(torch.tensor([[20, 12]]), SIZE, (5, 9)).theta
        crop = affine_sample(image, theta, (5, 9), backend="reference")
        assert torch.equal(crop, image[:, :, 10:15, 16:25])

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_the_point_is_in_the_middle_of_the_glimpse(self, align_corners):
        points = torch.rand(3, 2, 2, dtype=torch.float64) * torch.tensor([WIDTH - 1, HEIGHT - 1])
        found = targets.from_points(points, SIZE, (6, 9), align_corners=align_corners)
        middle = points_in_glimpse(points[..., None, :], found.theta, SIZE, (6, 9), align_corners=align_corners)
        expected = torch.tensor([4.0, 2.5]).double().expand(3, 2, 1, 2)
        torch.testing.assert_close(middle, expected, rtol=0, atol=1e-10)
        sides = theta_to_window(found.theta, SIZE, align_corners=align_corners)[..., 2:]
        torch.testing.assert_close(sides, torch.tensor([9.0, 6]).double().expand(3, 2, 2))

    def test_points_that_are_not_in_the_image_are_missing(self):
        points = [[-0.5, -0.5], [39.5, 29.5], [-0.6, 3], [3, 29.6], [40, 3], [NAN, 3], [3, NAN], [math.inf, 3], [5, 5]]
        found = targets.from_points(torch.tensor(points), SIZE, 8, confidence=torch.tensor([1.0, *[2.0] * 7, 0]))
        assert found.confidence.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0]
        assert found.theta.isnan().all(-1).all(-1).tolist() == [False, False, *[True] * 7]

    def test_fractions_of_the_sides_are_noticed(self):
        missing = torch.tensor([NAN, NAN])
        with pytest.warns(
            UserWarning, match=r"points are in pixels, but these lie within one pixel .* subtract 0\.5"
        ) as told:
            targets.from_points(torch.stack([torch.tensor([0.3, 1.0]), missing]), SIZE, 5)
        assert told[0].filename == __file__
        with warnings.catch_warnings(action="error"):
            for points in ([[0.0, 1.0]], [[0.3, 0.5], [7.0, 0.5]], []):
                targets.from_points(torch.tensor(points).reshape(-1, 2), SIZE, 5)

    @pytest.mark.parametrize(
        ("points", "size", "error", "match"),
        [
            (torch.zeros(2, 3), 5, ValueError, r"points must have shape \(\.\.\., 2\), got \(2, 3\)"),
            (torch.zeros(2, 2), 31, ValueError, r"size must be at most image_size \(30, 40\), got \(31, 31\)"),
            (torch.zeros(2, 2).bool(), 5, TypeError, "points must be integer or floating point, got torch.bool"),
        ],
    )
    def test_refuses(self, points, size, error, match):
        with pytest.raises(error, match=match):
            targets.from_points(points, SIZE, size)


class Told(nn.Module):
    """Returns parameters of its own, whatever the image shows."""

    def __init__(self, batch, features):
        super().__init__()
        self.told = nn.Parameter(torch.zeros(batch, features))

    def forward(self, image):
        return self.told


def looking(*, batch, regions):
    """A transformer whose thetas are free parameters; all start with the middle."""
    features = 6 * (regions or 1)
    look = SupervisedSpatialTransformer(Told(batch, features), (3, 4), features=features, regions=regions, scale=0.3)
    with torch.no_grad():
        look.head.weight.copy_(torch.eye(features))
    return look


class TestGuidedByThem:
    @pytest.mark.parametrize("regions", [None, 2])
    def test_each_region_goes_to_its_target_and_those_without_stay(self, regions):
        frames = torch.rand(2, 1, *SIZE)
        boxes = torch.tensor([[[7.0, 5, 10, 8], [NAN] * 4], [[0, 0, 0, 0], [20, 10, 15, 15]]])
        target = targets.from_boxes(boxes, SIZE, confidence=torch.tensor([[1.0, 1], [0, 1]]))
        if regions is None:
            target = targets.Target(target.theta[0], target.confidence[0])
        look, guidance = looking(batch=2, regions=regions), RegressiveGuidance("grid_mse")
        start = look.localize(frames)
        optimizer = torch.optim.SGD([look.localization.told], lr=1.0)
        for _ in range(60):
            optimizer.zero_grad()
            guidance.objective(look, frames, target=target, task=lambda glimpse: glimpse.image.sum()).backward()
            optimizer.step()
        there = target.confidence > 0
        assert there.sum() == (regions or 1)
        torch.testing.assert_close(look.localize(frames)[there], target.theta[there], rtol=0, atol=1e-3)
        assert torch.equal(look.localize(frames)[~there], start[~there])

    def test_regions_of_feature_maps_are_sampled_in_the_task(self):
        """What is guided is where to look in the image; the backbone runs only when the task does."""
        frames, features = torch.rand(2, 1, *SIZE), torch.rand(2, 5, 15, 20)
        look, guidance = looking(batch=2, regions=3), RegressiveGuidance()
        target = targets.from_points(torch.rand(2, 3, 2) * 29, SIZE, 9)

        def task(glimpse):
            return look.sample(features, glimpse.theta).square().mean()

        guided = guidance.objective(look, frames, target=target, task=task)
        assert guided == guidance(look.localize(frames), target.theta)
        guidance.off()
        assert (
            guidance.objective(look, frames, target=target, task=task) == look(frames, features).image.square().mean()
        )

    @pytest.mark.parametrize("regions", [None, 2])
    def test_several_scales_of_one_center_are_guided_by_their_own_targets(self, regions):
        look, frames = looking(batch=2, regions=regions), torch.rand(2, 1, *SIZE)
        theta = at_scales(look.localize(frames), (0.5, 1, 2))
        centers = torch.tensor([[12.0, 9], [25, 15]])
        centers = centers if regions is None else centers[:, None].expand(2, regions, 2)
        target = targets.from_points(centers, SIZE, 12)
        loss = RegressiveGuidance("grid_mse")(theta, at_scales(target.theta, (0.5, 1, 2)))
        loss.backward()
        difference = (look.localize(frames) - target.theta).detach()
        matrix, shift = difference[..., :2].square().sum((-2, -1)), difference[..., 2].square().sum(-1)
        expected = (matrix * (0.25 + 1 + 4) / 3 / 3 + shift).mean()
        torch.testing.assert_close(loss.detach(), expected)
        assert look.localization.told.grad.isfinite().all()
        seen = look.sample(frames, theta.flatten(1, -3))
        for n, factor in enumerate((0.5, 1, 2)):
            alone = look.sample(frames, at_scales(look.localize(frames), (factor,)).flatten(1, -3))
            torch.testing.assert_close(seen[:, n::3], alone)
