"""Theta in pixels: against OpenCV and kornia, round trips, group laws, and points that follow a ramp image."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st import affine_sample
from supervised_st.geometry import (
    Components,
    change_align_corners,
    components_from_theta,
    compose,
    flow_in_glimpse,
    invert,
    matrix_to_theta,
    points_in_glimpse,
    points_in_image,
    theta_from_components,
    theta_to_matrix,
    theta_to_window,
    window_in_glimpse,
    window_in_image,
    window_to_theta,
)

CONVENTIONS = pytest.mark.parametrize("align_corners", [False, True])
SIZES = st.tuples(st.integers(2, 40), st.integers(2, 40))
NUMBERS = st.floats(-2, 2)
IMAGE_SIZE, SIZE = (31, 47), (12, 20)


@st.composite
def thetas(draw):
    """Transforms with an inverse that float64 keeps."""
    theta = torch.tensor(draw(st.lists(NUMBERS, min_size=6, max_size=6)), dtype=torch.float64).reshape(1, 2, 3)
    if torch.linalg.det(theta[..., :2]).abs() < 0.05:
        theta[..., :2] += 3 * torch.eye(2, dtype=torch.float64)
    if torch.linalg.det(theta[..., :2]).abs() < 0.05:
        theta[..., :2] = torch.eye(2, dtype=torch.float64)
    return theta


def ramp(height, width):
    """An image whose two channels hold x and y of each pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y])[None].double()


def grid(height, width):
    return ramp(height, width)[0].flatten(1).T


def close(actual, expected, atol=1e-9):
    torch.testing.assert_close(actual, expected.expand_as(actual), rtol=0, atol=atol)


@CONVENTIONS
def test_a_matrix_does_what_opencv_does_with_it(align_corners):
    cv2 = pytest.importorskip("cv2")
    image = torch.rand(1, 1, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0)).double()
    matrix = torch.tensor([[0.8, -0.3, 4.0], [0.2, 0.9, -2.0]], dtype=torch.float64)
    for direction, flag in (("image_to_glimpse", 0), ("glimpse_to_image", cv2.WARP_INVERSE_MAP)):
        theta = matrix_to_theta(matrix, IMAGE_SIZE, SIZE, direction=direction, align_corners=align_corners)
        sampled = affine_sample(image, theta[None], SIZE, align_corners=align_corners, backend="reference")
        warped = cv2.warpAffine(image[0, 0].numpy(), matrix.numpy(), SIZE[::-1], flags=cv2.INTER_LINEAR | flag)
        # OpenCV rounds positions to 1/32 of a pixel, and pixel values differ by at most 1.
        close(sampled[0, 0], torch.from_numpy(warped), atol=2 / 32)


def test_a_matrix_does_what_kornia_does_with_it():
    transform = pytest.importorskip("kornia.geometry.transform")
    image = torch.rand(2, 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0)).double()
    matrix = torch.tensor([[[0.8, -0.3, 4.0], [0.2, 0.9, -2.0]], [[1.3, 0.1, -7.0], [-0.4, 0.7, 3.0]]]).double()
    warped = transform.warp_affine(image, matrix, SIZE, align_corners=True)
    theta = matrix_to_theta(matrix, IMAGE_SIZE, SIZE, align_corners=True)
    close(affine_sample(image, theta, SIZE, align_corners=True, backend="reference"), warped)


@CONVENTIONS
@settings(max_examples=50)
@given(
    theta=thetas(), image_size=SIZES, size=SIZES, direction=st.sampled_from(["image_to_glimpse", "glimpse_to_image"])
)
def test_matrices_and_thetas_are_inverse(align_corners, theta, image_size, size, direction):
    options = {"direction": direction, "align_corners": align_corners}
    matrix = theta_to_matrix(theta, image_size, size, **options)
    close(matrix_to_theta(matrix, image_size, size, **options), theta)


@CONVENTIONS
@settings(max_examples=50)
@given(theta=thetas())
def test_the_matrix_is_where_the_sampler_reads(align_corners, theta):
    """The image shows its own coordinates."""
    image = ramp(*IMAGE_SIZE)
    options = {"align_corners": align_corners, "padding_mode": "fill", "fill_value": -1e9, "backend": "reference"}
    sampled = affine_sample(image, theta, SIZE, **options).flatten(2)[0].T
    expected = points_in_image(grid(*SIZE), theta[0], IMAGE_SIZE, SIZE, align_corners=align_corners)
    inside = (sampled > -0.5).all(-1)
    close(sampled[inside], expected[inside])


@CONVENTIONS
@settings(max_examples=50)
@given(theta=thetas(), image_size=SIZES, size=SIZES)
def test_points_come_back(align_corners, theta, image_size, size):
    points = grid(*size)
    moved = points_in_image(points, theta, image_size, size, align_corners=align_corners)
    close(points_in_glimpse(moved, theta, image_size, size, align_corners=align_corners), points[None], atol=1e-7)


@settings(max_examples=50)
@given(theta=thetas(), other=thetas())
def test_transforms_are_a_group(theta, other):
    identity = torch.eye(2, 3, dtype=torch.float64)[None]
    close(compose(theta, invert(theta)), identity)
    close(compose(invert(theta), theta), identity)
    close(invert(invert(theta)), theta, atol=1e-8)
    close(invert(compose(theta, other)), compose(invert(other), invert(theta)), atol=1e-6)


@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_the_inverse_of_huge_and_tiny_transforms_is_finite(factor):
    theta = torch.tensor([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.4, -0.2, 0.0], [-0.2, 0.6, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(invert(theta * factor), expected / factor, rtol=1e-12, atol=0)


def test_a_region_without_area_has_no_inverse():
    assert not invert(torch.tensor([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])).isfinite().any()
    assert not invert(torch.zeros(2, 3)).isfinite().any()


@pytest.mark.parametrize("to", [False, True])
@settings(max_examples=50)
@given(theta=thetas(), image_size=SIZES, size=SIZES)
def test_changing_the_convention_changes_no_pixel(to, theta, image_size, size):
    changed = change_align_corners(theta, image_size, size, to=to)
    points = grid(*size)
    close(
        points_in_image(points, changed, image_size, size, align_corners=to),
        points_in_image(points, theta, image_size, size, align_corners=not to),
    )
    close(change_align_corners(changed, image_size, size, to=not to), theta)


@CONVENTIONS
def test_a_window_of_the_glimpse_is_the_window_of_its_own_theta(align_corners):
    """A window in a glimpse of a window is a window of the image: both ways there agree."""
    theta = window_to_theta(torch.tensor([10.0, 4.0, 30.0, 20.0]).double(), IMAGE_SIZE, align_corners=align_corners)
    inner = torch.tensor([2.0, 3.0, 5.0, 6.0], dtype=torch.float64)
    moved = window_in_image(inner, theta, IMAGE_SIZE, (40, 60), align_corners=align_corners)
    if not align_corners:
        close(moved, torch.tensor([11.0, 5.5, 2.5, 3.0]).double())
    back = window_in_glimpse(moved, theta, IMAGE_SIZE, (40, 60), align_corners=align_corners)
    close(back, inner)
    if not align_corners:  # only then does theta of the glimpse's pixels not depend on their number
        nested = compose(theta, window_to_theta(inner, (40, 60)))
        close(theta_to_window(nested, IMAGE_SIZE), moved)


def test_a_turned_window_gets_the_window_around_it():
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    window = torch.tensor([0.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    # A quarter turn of a square image: the glimpse's top left is the image's top right.
    assert window_in_image(window, quarter, 8, 8).tolist() == [7.0, 0.0, 1.0, 2.0]


@CONVENTIONS
def test_flow_is_the_motion_of_points_seen_in_the_glimpse(align_corners):
    generator = torch.Generator().manual_seed(0)
    theta = torch.tensor([[0.5, 0.2, 0.1], [-0.1, 0.25, -0.2]], dtype=torch.float64)
    flow = torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=generator)
    vectors = flow.flatten(2).mT
    options = {"align_corners": align_corners}
    start = torch.zeros_like(vectors)
    seen = points_in_glimpse(vectors, theta, IMAGE_SIZE, SIZE, **options) - points_in_glimpse(
        start, theta, IMAGE_SIZE, SIZE, **options
    )
    close(flow_in_glimpse(flow, theta, IMAGE_SIZE, SIZE, **options).flatten(2).mT, seen)
    # Twice as large: twice as fast.
    zoom = window_to_theta(torch.tensor([4.0, 4.0, 10.0, 6.0]).double(), IMAGE_SIZE)
    close(flow_in_glimpse(flow, zoom, IMAGE_SIZE, (12, 20)), 2 * flow)


@CONVENTIONS
@settings(max_examples=50)
@given(
    angle=st.floats(-3.1, 3.1),
    scale=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)),
    mirror=st.booleans(),
    shear=st.floats(-2, 2),
    center=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_components_and_thetas_are_inverse(align_corners, angle, scale, mirror, shear, center):
    numbers = (angle, (scale[0], -scale[1] if mirror else scale[1]), shear, center)
    given_components = Components(*(torch.tensor(number, dtype=torch.float64) for number in numbers))
    theta = theta_from_components(given_components, IMAGE_SIZE, SIZE, align_corners=align_corners)
    found = components_from_theta(theta, IMAGE_SIZE, SIZE, align_corners=align_corners)
    for value, expected in zip(found, given_components, strict=True):
        close(value, expected, atol=1e-8)


def test_components_are_what_opencv_calls_rotation_and_scale():
    cv2 = pytest.importorskip("cv2")
    angle, scale, center = 0.4, 1.7, (20.0, 9.0)
    rotation = torch.from_numpy(cv2.getRotationMatrix2D(center, math.degrees(angle), scale))
    expected = matrix_to_theta(rotation, IMAGE_SIZE, IMAGE_SIZE)
    # OpenCV enlarges the image and turns it counterclockwise about its center; so the glimpse turns clockwise in it.
    middle = points_in_image(torch.tensor([[23.0, 15.0]]).double(), expected, IMAGE_SIZE, IMAGE_SIZE)[0]
    numbers = (angle, [1 / scale] * 2, 0.0, middle.tolist())
    parts = Components(*(torch.tensor(number, dtype=torch.float64) for number in numbers))
    close(theta_from_components(parts, IMAGE_SIZE, IMAGE_SIZE), expected)


def test_a_clockwise_angle_looks_clockwise():
    """One pixel to the right in the glimpse is one pixel down in the image, after a quarter turn."""
    parts = Components(torch.tensor(math.pi / 2), torch.ones(2), torch.tensor(0.0), torch.tensor([23.0, 15.0]))
    theta = theta_from_components(parts, IMAGE_SIZE, SIZE).double()
    here, right = points_in_image(torch.tensor([[3.0, 4.0], [4.0, 4.0]]).double(), theta, IMAGE_SIZE, SIZE)
    close(right - here, torch.tensor([0.0, 1.0]).double(), atol=1e-5)


def test_formats_of_windows():
    xywh, xyxy = torch.tensor([3.0, 4.0, 10.0, 6.0]), torch.tensor([3.0, 4.0, 13.0, 10.0])
    assert torch.equal(window_to_theta(xyxy, IMAGE_SIZE, format="xyxy"), window_to_theta(xywh, IMAGE_SIZE))
    close(theta_to_window(window_to_theta(xywh.double(), IMAGE_SIZE), IMAGE_SIZE, format="xyxy"), xyxy.double())


@pytest.mark.parametrize(
    ("window", "options", "match"),
    [
        ([3, 4, 0, 6], {}, r"window must have positive width and height.*got \[3, 4, 0, 6\] in window 0"),
        ([3, 4, 5, -6], {}, "window must have positive width and height"),
        ([3, 4, 2, 6], {"format": "xyxy"}, "x1 > x0 and y1 > y0"),
        ([3.0, 4.0, float("nan"), 6.0], {}, "window must have positive width and height"),
        ([3, 4, 5, 6], {"format": "cxcywh"}, "format must be one of 'xywh', 'xyxy', got 'cxcywh'"),
    ],
)
def test_impossible_windows_are_refused(window, options, match):
    with pytest.raises(ValueError, match=match):
        window_to_theta(torch.tensor(window), IMAGE_SIZE, **options)


def test_windows_that_only_fit_as_corners_give_a_warning():
    boxes = torch.tensor([[30, 5, 44, 20], [28, 18, 40, 30]])
    with pytest.warns(UserWarning, match="pass format='xyxy'"):
        window_to_theta(boxes, IMAGE_SIZE)


@pytest.mark.parametrize(("box", "has_warning"), [
    ([30, 0, 44, 20], True), ([0, 20, 40, 31], True),  # at the edges of the image
    ([30, 20, 44, 20], False), ([30, 5, 30, 20], False),  # as corners they have no area
    ([30, 5, 48, 20], False), ([30, 20, 44, 32], False),  # as corners they reach out of the image, too
])  # fmt: skip
def test_only_windows_that_fit_as_corners_give_that_warning(box, has_warning):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        window_to_theta(torch.tensor([box]), IMAGE_SIZE)
    assert [str(each.message).endswith("pass format='xyxy' if they are that") for each in told] == [True] * has_warning


def test_windows_in_fractions_of_the_sides_give_a_warning():
    whole_and_half = torch.tensor([[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]])
    with pytest.warns(UserWarning, match="these lie within the first pixel .* multiply x and width") as told:
        window_to_theta(whole_and_half, IMAGE_SIZE)
    assert told[0].filename == __file__
    with warnings.catch_warnings(action="error"):
        for windows in ([[0.0, 0, 1, 1]], [[0.25, 0.25, 0.5, 0.5], [0, 0, 2, 0.5]]):
            window_to_theta(torch.tensor(windows), IMAGE_SIZE)
