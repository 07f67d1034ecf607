"""Laws of theta: exact crops, flips, compositions, families and measures of distortion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st import affine_sample
from supervised_st.geometry import (
    PARAMETERIZATIONS,
    at_scales,
    compose,
    corners,
    distortion,
    flip_theta,
    parameters_from_theta,
    theta_from_parameters,
    theta_to_window,
    window_iou,
    window_to_theta,
)

BOUNDABLE = ("crop4", "crop3", "translation")
FAMILIES = pytest.mark.parametrize(
    ("kind", "bounds"), [*((kind, None) for kind in PARAMETERIZATIONS), *((kind, (0.1, 0.9)) for kind in BOUNDABLE)]
)
CONVENTIONS = pytest.mark.parametrize("align_corners", [False, True])


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sample(image, theta, size, *, align_corners=False, padding_mode="zeros"):
    return affine_sample(
        image, theta, size, align_corners=align_corners, padding_mode=padding_mode, backend="reference"
    )


def rotation_matrix(angle):
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)


def theta_of(matrix, shift=(0.0, 0.0)):
    return torch.cat([matrix.double(), torch.tensor(shift, dtype=torch.float64)[:, None]], -1)[None]


@CONVENTIONS
@settings(max_examples=25)
@given(data=st.data())
def test_a_window_at_its_own_size_is_the_crop(align_corners, data):
    height, width = (data.draw(st.integers(1, 40), label=name) for name in ("height", "width"))
    w, h = data.draw(st.integers(1, width), label="w"), data.draw(st.integers(1, height), label="h")
    x0, y0 = data.draw(st.integers(0, width - w), label="x0"), data.draw(st.integers(0, height - h), label="y0")
    image = noise(1, 2, height, width)
    theta = window_to_theta(torch.tensor([[x0, y0, w, h]]).double(), (height, width), align_corners=align_corners)
    crop = sample(image, theta, (h, w), align_corners=align_corners)
    torch.testing.assert_close(crop, image[..., y0 : y0 + h, x0 : x0 + w], rtol=0, atol=1e-12)


@CONVENTIONS
@pytest.mark.parametrize(("image_side", "side"), [(896, 224), (448, 224), (256, 224), (97, 31)])
def test_the_papers_levels_are_exact_crops_by_torchs_own_sampler(align_corners, image_side, side):
    x0, y0 = image_side - side, (image_side - side) // 3
    image = noise(1, 1, image_side, image_side)
    theta = window_to_theta(
        torch.tensor([[x0, y0, side, side]]).double(), (image_side,) * 2, align_corners=align_corners
    )
    grid = torch.nn.functional.affine_grid(theta, [1, 1, side, side], align_corners=align_corners)
    # Border padding: an outermost center may round to just out of bounds, which zeros would blend away.
    crop = torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=align_corners)
    torch.testing.assert_close(crop, image[..., y0 : y0 + side, x0 : x0 + side], rtol=0, atol=1e-11)


def test_mixing_the_conventions_drifts_by_a_fraction_of_a_pixel():
    """A column ramp reads out the sampled x in pixels, here the paper's detail level read by the wrong convention."""
    ramp = torch.arange(896, dtype=torch.float64).expand(3, 1, 896, 896)
    x0, column = torch.tensor([0, 336, 672], dtype=torch.float64)[:, None], torch.arange(224, dtype=torch.float64)
    window = torch.cat([x0, x0, torch.full_like(x0, 224), torch.full_like(x0, 224)], -1)
    theta = window_to_theta(window, (896, 896), align_corners=True)
    drift = sample(ramp, theta, (224, 224), padding_mode="border")[:, 0, 0] - (x0 + column)
    by_hand = (896 / 895 * (x0 + 223 * (2 * column + 1) / 448) - 0.5).clamp(0, 895) - (x0 + column)
    torch.testing.assert_close(drift, by_hand, rtol=0, atol=1e-10)
    assert drift[1].aminmax() == (pytest.approx(-0.374, abs=1e-3), pytest.approx(0.374, abs=1e-3))
    assert drift.abs().max().item() == pytest.approx(0.749, abs=1e-3)


@pytest.mark.filterwarnings("ignore:windows .* reach out of the image")
@CONVENTIONS
@settings(max_examples=40)
@given(
    window=st.tuples(st.integers(-50, 900), st.integers(-50, 900), st.integers(1, 900), st.integers(1, 900)),
    size=st.tuples(st.integers(2, 1300), st.integers(2, 1700)),
)
def test_window_and_theta_are_inverse(align_corners, window, size):
    window = torch.tensor(window).double()
    back = theta_to_window(
        window_to_theta(window, size, align_corners=align_corners), size, align_corners=align_corners
    )
    torch.testing.assert_close(back, window, rtol=0, atol=1e-9)


def test_windows_become_the_formulas_rounded_once():
    window = torch.tensor([[[336, 100, 224, 192]]])
    theta = window_to_theta(window, (600, 896))
    assert theta.shape == (1, 1, 2, 3)
    expected = torch.tensor([[224 / 896, 0, (2 * 336 + 224) / 896 - 1], [0, 192 / 600, (2 * 100 + 192) / 600 - 1]])
    torch.testing.assert_close(theta[0, 0], expected, rtol=0, atol=1e-7)
    assert theta.dtype == torch.float32
    exact = window_to_theta(window.double(), (600, 896))
    assert exact.dtype == torch.float64
    assert torch.equal(theta, exact.float())


@CONVENTIONS
def test_the_hull_of_a_turned_region(align_corners):
    """A square turned by 45 degrees reaches sqrt(2) times as far."""
    theta = theta_of(0.5 * rotation_matrix(math.pi / 4))
    x0, y0, width, height = theta_to_window(theta, (101, 201), align_corners=align_corners)[0].tolist()
    edge = int(align_corners)
    assert width - edge == pytest.approx((201 - edge) * math.sqrt(0.5))
    assert height - edge == pytest.approx((101 - edge) * math.sqrt(0.5))
    assert (x0 + width / 2, y0 + height / 2) == (pytest.approx(201 / 2), pytest.approx(101 / 2))


@CONVENTIONS
@pytest.mark.parametrize("seed", range(3))
def test_the_flipped_theta_sees_the_mirrored_region(align_corners, seed):
    image, theta = noise(2, 3, 13, 9, seed=seed), noise(2, 2, 3, seed=seed + 10) * 0.6
    seen = sample(image, theta, (5, 7), align_corners=align_corners)
    mirrored = sample(image.flip(-1), flip_theta(theta), (5, 7), align_corners=align_corners)
    torch.testing.assert_close(mirrored.flip(-1), seen, rtol=0, atol=1e-12)
    assert torch.equal(flip_theta(flip_theta(theta)), theta)


def test_flipping_an_upright_window_moves_only_tx():
    theta = window_to_theta(torch.tensor([10, 20, 30, 40]), (100, 200))
    mirrored = window_to_theta(torch.tensor([200 - 10 - 30, 20, 30, 40]), (100, 200))
    torch.testing.assert_close(flip_theta(theta), mirrored, rtol=0, atol=1e-7)


@CONVENTIONS
def test_composition_is_sampling_twice_on_an_image_that_survives_it(align_corners):
    """Bilinear sampling reproduces a plane exactly, so sampling it twice loses nothing."""
    plane = (torch.arange(64, dtype=torch.float64)[:, None] * 3 - torch.arange(48)).expand(4, 1, 64, 48)
    outer = torch.eye(2, 3, dtype=torch.float64) * 0.5 + noise(4, 2, 3) * 0.05
    inner = torch.eye(2, 3, dtype=torch.float64) * 0.5 + noise(4, 2, 3, seed=1) * 0.05
    first = sample(plane, outer, (30, 40), align_corners=align_corners)
    twice = sample(first, inner, (10, 12), align_corners=align_corners)
    once = sample(plane, compose(outer, inner), (10, 12), align_corners=align_corners)
    torch.testing.assert_close(once, twice, rtol=0, atol=1e-10)


def test_composition_has_an_identity_is_associative_and_broadcasts():
    a, b, c = noise(3, 5, 2, 3), noise(5, 2, 3, seed=1), noise(2, 3, seed=2)
    identity = torch.eye(2, 3, dtype=torch.float64)
    assert torch.equal(compose(a, identity), a)
    assert torch.equal(compose(identity, a), a)
    torch.testing.assert_close(compose(compose(a, b), c), compose(a, compose(b, c)), rtol=1e-12, atol=1e-12)
    assert compose(a.float(), b.half()).dtype == torch.float32


def test_scales_keep_the_center_and_multiply_the_sides():
    windows = torch.tensor([[[20, 30, 8, 4], [18, 29, 12, 6], [16, 28, 16, 8], [12, 26, 24, 12]]], dtype=torch.float64)
    thetas = window_to_theta(windows, (64, 80))
    torch.testing.assert_close(at_scales(thetas[:, 0], (1, 1.5, 2, 3)), thetas, rtol=0, atol=1e-15)
    turned = torch.randn(2, 3, 2, 3, dtype=torch.float64)
    scaled = at_scales(turned, (0.5, 7))
    assert torch.equal(scaled[:, :, 0, :, :2], turned[..., :2] / 2)
    assert torch.equal(scaled[:, :, 1, :, :2], turned[..., :2] * 7)
    assert torch.equal(scaled[..., 2], turned[..., None, :, 2].expand(2, 3, 2, 2))
    assert at_scales(turned.half(), (1,)).dtype == torch.float32


@pytest.mark.parametrize("factors", [(), (0,), (1, -1), (math.inf,), (math.nan,)])
def test_impossible_factors_are_named(factors):
    with pytest.raises(ValueError, match="factors must"):
        at_scales(torch.eye(2, 3), factors)


def test_corners_are_where_theta_sends_the_square():
    theta = noise(2, 2, 3)
    square = torch.tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], dtype=torch.float64)
    torch.testing.assert_close(corners(theta), (theta @ square.T).mT)
    upright = corners(window_to_theta(torch.tensor([0, 0, 50, 25]), (100, 100)))
    assert upright.tolist() == [[-1, -1], [0, -1], [0, -0.5], [-1, -0.5]]


@settings(max_examples=40)
@given(windows=st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2), min_size=2, max_size=2))
def test_iou_counts_pixels(windows):
    masks = torch.zeros(2, 24, 24, dtype=torch.bool)
    for mask, (x0, y0, width, height) in zip(masks, windows, strict=True):
        mask[y0 : y0 + height, x0 : x0 + width] = True
    counted = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    thetas = window_to_theta(torch.tensor(windows).double(), (24, 24))
    assert window_iou(*thetas).item() == pytest.approx(counted.item(), abs=1e-6)
    assert window_iou(thetas[0], flip_theta(flip_theta(thetas[0]))).item() == pytest.approx(1)


def test_iou_of_regions_without_area_is_zero():
    assert window_iou(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0


@pytest.mark.parametrize("side", [1e-200, 1e155, 1e307])
def test_iou_of_windows_whose_areas_float64_cannot_hold(side):
    window = torch.tensor([[side, 0, 0], [0, side, 0]], dtype=torch.float64)
    assert window_iou(window, window).item() == 1
    assert window_iou(window, window / 2).item() == pytest.approx(1 / 4)
    assert window_iou(window, torch.eye(2, 3)).item() == pytest.approx(0, abs=1e-300)


@settings(max_examples=40)
@given(
    angle=st.floats(-3.1, 3.1),
    sides=st.tuples(st.floats(0.05, 2), st.floats(0.05, 2)),
    mirror=st.booleans(),
    seed=st.integers(0, 99),
)
def test_distortion_against_torchs_svd(angle, sides, mirror, seed):
    """A = R(angle) times a symmetric stretch, mirrored in x or not, on a square image and output."""
    turn = rotation_matrix(seed / 7.0)
    stretch = turn @ torch.diag(torch.tensor(sides, dtype=torch.float64)) @ turn.T
    matrix = rotation_matrix(angle) @ stretch @ torch.diag(torch.tensor([-1.0 if mirror else 1.0, 1.0])).double()
    measured = distortion(theta_of(matrix), (90, 90), (30, 30))
    largest, smallest = torch.linalg.svdvals(matrix).tolist()
    assert measured.scale.item() == pytest.approx(math.sqrt(sides[0] * sides[1]))
    assert measured.anisotropy.item() == pytest.approx(largest / smallest)
    assert measured.minification.item() == pytest.approx(3 * largest)
    assert measured.reflected.item() is mirror
    turned_back = measured.rotation.item() - angle
    assert math.cos(turned_back) == pytest.approx(1)


@CONVENTIONS
def test_a_pixel_exact_crop_is_undistorted_in_any_image(align_corners):
    window = torch.tensor([[700, 10, 224, 200]])
    theta = window_to_theta(window, (600, 1189), align_corners=align_corners)
    measured = distortion(theta, (600, 1189), (200, 224), align_corners=align_corners)
    assert [measured.anisotropy.item(), measured.minification.item()] == [pytest.approx(1), pytest.approx(1)]
    assert [measured.rotation.item(), measured.outside.item(), measured.reflected.item()] == [0, 0, False]


@pytest.mark.parametrize("angle", [0.3, -2.0])
def test_a_turn_in_pixels_is_a_turn_in_any_image(angle):
    """Steps of 1.5 px, turned in the pixel grid: ``A = diag(1/W, 1/H) 1.5 R diag(w, h)``."""
    step = 1.5 * rotation_matrix(angle)
    matrix = step / torch.tensor([[300.0], [70.0]]) * torch.tensor([20.0, 50.0])
    measured = distortion(theta_of(matrix), (70, 300), (50, 20))
    values = [measured.anisotropy.item(), measured.rotation.item(), measured.minification.item()]
    assert values == [pytest.approx(1), pytest.approx(angle), pytest.approx(1.5)]


def test_extreme_anisotropy_keeps_its_digits():
    """The difference of the two hypotenuses would be zero here."""
    theta = theta_of(rotation_matrix(0.0) * torch.tensor([0.5, 0.5e-18]))
    assert distortion(theta, (10, 10), (10, 10)).anisotropy.item() == pytest.approx(1e18)


def test_a_shift_far_larger_than_the_region_changes_none_of_its_proportions():
    """Products of such sides, or of sides relative to the shift, are zero."""
    theta = torch.tensor([[2e-200, 0, 0.5], [0, 1e-200, 0.5]], dtype=torch.float64)
    assert distortion(theta, (10, 10), (10, 10)).anisotropy.item() == pytest.approx(2)


@pytest.mark.parametrize(("x0", "outside"), [(0, 0.0), (-25, 0.25), (75, 0.5), (100, 1.0), (-400, 1.0)])
def test_the_fraction_out_of_bounds(x0, outside):
    width = 100 if x0 < 0 else 50
    theta = window_to_theta(torch.tensor([x0, 20, width, 40]), (100, 100))
    assert distortion(theta, (100, 100), (10, 10)).outside.item() == outside


def test_degenerate_regions_have_defined_measures():
    point, line = torch.zeros(2, 3), torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    measured = distortion(torch.stack([point, line]), (10, 10), (10, 10))
    assert measured.scale.tolist() == [0, 0]
    assert measured.anisotropy.tolist() == [1, math.inf]
    assert measured.rotation.tolist() == [0, 0]
    assert measured.minification.tolist() == [0, 1]


@settings(max_examples=60)
@given(entries=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_no_measure_of_a_finite_theta_is_nan(entries):
    theta = torch.tensor(entries, dtype=torch.float64).view(2, 3)
    for name, value in distortion(theta, (7, 300), (40, 5))._asdict().items():
        assert not value.isnan().any(), name


@FAMILIES
def test_parameters_and_theta_are_inverse(kind, bounds):
    parameters = noise(4, 3, PARAMETERIZATIONS[kind])
    theta = theta_from_parameters(parameters, kind, scale=0.3, bounds=bounds)
    assert theta.shape == (4, 3, 2, 3)
    torch.testing.assert_close(parameters_from_theta(theta, kind, bounds=bounds), parameters, rtol=1e-9, atol=1e-9)


def test_each_family_is_what_its_name_says():
    def rows(kind, *numbers):
        return theta_from_parameters(torch.tensor(numbers), kind, scale=7.0).tolist()

    assert rows("affine", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0) == [[1, 2, 3], [4, 5, 6]]
    assert rows("similarity", 1.0, 2.0, 3.0, 4.0) == [[1, -2, 3], [2, 1, 4]]
    assert rows("crop4", 1.0, 2.0, 3.0, 4.0) == [[1, 0, 3], [0, 2, 4]]
    assert rows("crop3", 1.0, 2.0, 3.0) == [[1, 0, 2], [0, 1, 3]]
    assert rows("translation", 1.0, 2.0) == [[7, 0, 1], [0, 7, 2]]


@pytest.mark.parametrize("kind", ["similarity", *BOUNDABLE])
def test_a_theta_outside_the_family_is_projected(kind):
    """The residual is orthogonal to the family, whose tangent vectors are the columns of its (constant) Jacobian."""
    theta = noise(2, 3)
    parameters = parameters_from_theta(theta, kind)
    nearest = theta_from_parameters(parameters, kind, scale=0.5)
    tangent = torch.autograd.functional.jacobian(lambda p: theta_from_parameters(p, kind, scale=0.5), parameters)
    along = torch.einsum("ij,ijk->k", theta - nearest, tangent)
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", BOUNDABLE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bounded_window_never_leaves_the_image(kind, dtype):
    parameters = (noise(2000, PARAMETERIZATIONS[kind]) * 20).to(dtype)
    theta = theta_from_parameters(parameters, kind, scale=0.4, bounds=(0.2, 0.7))
    assert corners(theta).abs().max().item() <= 1 + 2 * torch.finfo(dtype).eps
    sides = theta[:, [0, 1], [0, 1]]
    assert sides.min().item() >= 0.2 - 1e-7
    assert sides.max().item() <= 0.7 + 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", BOUNDABLE)
def test_the_inverse_is_finite_at_the_bounds(kind, dtype):
    theta = torch.tensor(
        [[[1.0, 0, 0], [0, 1, 0]], [[0.1, 0, 0.9], [0, 0.1, -0.9]], [[3, 0, 5], [0, 0, 5]]], dtype=dtype
    )
    parameters = parameters_from_theta(theta, kind, bounds=(0.1, 1.0))
    assert parameters.isfinite().all()
    reached = theta_from_parameters(parameters[:2], kind, scale=0.1, bounds=(0.1, 1.0))[1]
    torch.testing.assert_close(reached, theta[1], rtol=0, atol=3e-6)


def test_half_parameters_give_single_theta():
    parameters = torch.tensor([0.1, 0.2], dtype=torch.bfloat16)
    theta = theta_from_parameters(parameters, "translation", scale=1 / 3)
    assert theta.dtype == torch.float32
    assert theta[0, 0].item() == torch.tensor(1 / 3).item()
    assert parameters_from_theta(theta.bfloat16(), "affine").dtype == torch.float32


@FAMILIES
def test_gradients_reach_image_and_parameters_through_every_family(kind, bounds):
    image = noise(2, 1, 5, 6).requires_grad_()
    parameters = (noise(2, PARAMETERIZATIONS[kind], seed=3) * 0.3 + 0.1).requires_grad_()

    def look(image, parameters):
        theta = theta_from_parameters(parameters, kind, scale=0.45, bounds=bounds)
        return sample(image, theta, (3, 4))

    assert torch.autograd.gradcheck(look, (image, parameters))


@pytest.mark.parametrize(
    ("function", "arguments", "error", "match"),
    [
        (window_to_theta, (torch.zeros(3), (4, 4)), ValueError, r"window must have shape \(\.\.\., 4\), got \(3,\)"),
        (window_to_theta, ([0, 0, 1, 1], (4, 4)), TypeError, "window must be a torch.Tensor, got list"),
        (
            window_to_theta,
            (torch.zeros(4) * 1j, (4, 4)),
            TypeError,
            "window must be integer or .*, got torch.complex64",
        ),
        (window_to_theta, (torch.ones(4).bool(), (4, 4)), TypeError, "window must be integer or .*, got torch.bool"),
        (
            window_to_theta,
            (torch.zeros(4), (0, 4)),
            ValueError,
            r"image_size must be two integers .* \(0, 4\)",
        ),
        (
            theta_to_window,
            (torch.zeros(3, 2), (4, 4)),
            ValueError,
            r"theta must have shape \(\.\.\., 2, 3\), got \(3, 2\)",
        ),
        (theta_to_window, (torch.zeros(2, 3), (4, -1)), ValueError, "image_size must be two integers"),
        (flip_theta, (torch.zeros(2, 3).int(),), TypeError, "theta must be .*, got torch.int32"),
        (corners, (torch.zeros(6),), ValueError, r"theta must have shape \(\.\.\., 2, 3\), got \(6,\)"),
        (compose, (torch.zeros(2, 3), torch.zeros(3)), ValueError, r"inner must have shape .*, got \(3,\)"),
        (compose, (torch.zeros(3), torch.zeros(2, 3)), ValueError, r"outer must have shape .*, got \(3,\)"),
        (window_iou, (torch.zeros(2, 3), torch.zeros(3)), ValueError, r"other must have shape .*, got \(3,\)"),
        (distortion, (torch.zeros(2, 3), (4, 4), (0, 1)), ValueError, r"size must be two integers .*\(0, 1\)"),
        (theta_from_parameters, (torch.zeros(3), "crop5"), ValueError, "kind must be one of 'affine', .*, got 'crop5'"),
        (theta_from_parameters, (torch.zeros(3), "crop4"), ValueError, r"parameters must have shape \(\.\.\., 4\)"),
        (theta_from_parameters, (torch.zeros(3).long(), "crop3"), TypeError, "parameters must be .*, got torch.int64"),
        (parameters_from_theta, (torch.zeros(2, 3), "crop"), ValueError, "kind must be one of"),
    ],
)
def test_bad_arguments_are_named(function, arguments, error, match):
    with pytest.raises(error, match=match):
        function(*arguments)


@pytest.mark.parametrize(
    ("kind", "scale", "bounds", "match"),
    [
        (
            "affine",
            1.0,
            (0.1, 0.9),
            "bounds must be None unless the parameterization is one of 'crop4', .*, got 'affine'",
        ),
        ("crop3", 1.0, (0.9, 0.1), r"bounds must be \(s0, s1\) with 0 < s0 < s1 <= 1, got \(0.9, 0.1\)"),
        ("crop3", 1.0, (0.5, 1.5), "bounds must be"),
        ("translation", 1.0, (0.1, 0.9), r"scale must lie within bounds=\(0.1, 0.9\) .*, got 1.0"),
    ],
)
def test_impossible_bounds_are_named(kind, scale, bounds, match):
    with pytest.raises(ValueError, match=match):
        theta_from_parameters(torch.zeros(PARAMETERIZATIONS[kind]), kind, scale=scale, bounds=bounds)


@pytest.mark.parametrize("bounds", [None, (0.1, 0.9)])
@pytest.mark.parametrize("kind", ["crop3", "translation"])
def test_windows_with_square_pixels_in_an_image_that_is_not_square(kind, bounds):
    """The window (37, 20, 28, 28) of a 112 x 149 image is reached; with one number for both axes it is not."""
    image_size, window = (112, 149), torch.tensor([37.0, 20.0, 28.0, 28.0], dtype=torch.float64)
    theta, scale = window_to_theta(window, image_size), (28 / 112, 28 / 149)
    parameters = parameters_from_theta(theta, kind, scale=scale, bounds=bounds)
    torch.testing.assert_close(theta_from_parameters(parameters, kind, scale=scale, bounds=bounds), theta)
    stretched = theta_from_parameters(parameters_from_theta(theta, kind), kind, scale=0.25)
    assert window_iou(stretched, theta) < 0.77


@pytest.mark.parametrize(
    ("scale", "error"), [((1.0, 2.0, 3.0), TypeError), ("ab", TypeError), ((0.5, 0.0), ValueError), (-1.0, ValueError)]
)
def test_impossible_scales_are_named(scale, error):
    with pytest.raises(error, match=r"scale must be one positive number, or two, \(along height, along width\), got"):
        theta_from_parameters(torch.zeros(2), "translation", scale=scale)
