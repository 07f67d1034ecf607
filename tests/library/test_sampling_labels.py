"""Masks and labels are looked up; a single image needs no batch axis."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st import affine_sample
from supervised_st._sampler.options import LABEL_DTYPES
from tests.helpers.sampling import BACKENDS

CPU_BACKENDS = BACKENDS[:2]


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@settings(max_examples=30)
@given(
    dtype=st.sampled_from(LABEL_DTYPES),
    padding=st.sampled_from(["zeros", "border", "reflection", "fill"]),
    align_corners=st.booleans(),
    seed=st.integers(0, 2**16),
    transforms=st.sampled_from([(), (3,)]),
)
def test_labels_are_those_of_the_nearest_pixel(backend, dtype, padding, align_corners, seed, transforms):
    """float64 holds these labels, and samples them right."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 2 if dtype == torch.bool else 128, (2, 3, 5, 7), generator=generator).to(dtype)
    theta = torch.randn(2, *transforms, 2, 3, generator=generator)
    options = {"mode": "nearest", "padding_mode": padding, "align_corners": align_corners, "backend": backend}
    if padding == "fill":
        options["fill_value"] = (1.0, 0.0, 1.0)
    sampled = affine_sample(image, theta, (4, 6), **options)
    assert sampled.dtype == dtype
    assert torch.equal(sampled, affine_sample(image.double(), theta, (4, 6), **options).to(dtype))


def test_labels_that_no_float_holds_are_exact():
    labels = torch.tensor([[2**63 - 1, -(2**63), 2**53 + 1, -(2**60) - 7]]).reshape(1, 1, 2, 2)
    sampled = affine_sample(labels, torch.eye(2, 3)[None], (4, 4), mode="nearest")
    assert torch.equal(sampled, labels.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_labels_are_the_fill_where_nothing_is_read():
    theta = torch.tensor([[[float("nan"), 0, 0], [0, 1, 0]], [[1, 0, 5.0], [0, 1, 0]]])
    for options, expected in (({}, 0), ({"padding_mode": "fill", "fill_value": -1}, -1)):
        sampled = affine_sample(torch.ones(2, 1, 3, 3, dtype=torch.int8), theta, 3, mode="nearest", **options)
        assert sampled.unique().tolist() == [expected]


@pytest.mark.parametrize(
    ("image", "theta"), [((0, 3, 4, 5), (0, 2, 3)), ((2, 0, 4, 5), (2, 2, 3)), ((2, 3, 4, 5), (2, 0, 2, 3))]
)
def test_nothing_is_sampled_from_nothing(image, theta):
    sampled = affine_sample(torch.zeros(image, dtype=torch.int32), torch.zeros(theta), (6, 7), mode="nearest")
    assert sampled.shape == (image[0], *theta[1:-2], image[1], 6, 7)


def test_labels_keep_the_memory_layout():
    labels = torch.ones(2, 3, 4, 4, dtype=torch.int32).to(memory_format=torch.channels_last)
    sampled = affine_sample(labels, torch.eye(2, 3).repeat(2, 1, 1), 4, mode="nearest")
    assert sampled.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("dtype", "options", "error", "match"),
    [
        (torch.int64, {}, TypeError, "image must be floating point or uint8 .*; pass mode=.nearest. for labels"),
        (torch.int64, {"mode": "bilinear"}, TypeError, "image must be"),
        (torch.uint16, {"mode": "nearest"}, TypeError, "image must be .* int32 or int64, got torch.uint16"),
        (torch.int8, {"mode": "nearest", "padding_mode": "fill", "fill_value": 200}, ValueError,
         "fill_value must be a label that torch.int8 can hold, got 200"),
        (torch.int8, {"mode": "nearest", "padding_mode": "fill", "fill_value": 0.5}, ValueError, "must be a label"),
        (torch.bool, {"mode": "nearest", "padding_mode": "fill", "fill_value": 2}, ValueError, "must be a label"),
        (torch.int64, {"mode": "nearest", "mean": 1.0}, ValueError, "mean and std are only for uint8 images"),
    ],
)  # fmt: skip
def test_what_labels_cannot_do_is_named(dtype, options, error, match):
    with pytest.raises(error, match=match):
        affine_sample(torch.zeros(1, 1, 3, 3).to(dtype), torch.eye(2, 3)[None], 3, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool])
def test_one_image_needs_no_batch(dtype):
    image, theta = (torch.rand(3, 5, 6) * 2).to(dtype), torch.tensor([[0.5, 0.1, 0.2], [-0.1, 0.6, 0.0]])
    for _ in range(2):  # a repeated call takes another way
        sampled = affine_sample(image, theta, (4, 3), mode="nearest")
        assert torch.equal(sampled, affine_sample(image[None], theta[None], (4, 3), mode="nearest")[0])
