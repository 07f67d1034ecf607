"""Calls with tensors of a kind seen before are checked once; on a CPU they take a shorter way to the same bits."""

import itertools

import pytest
import torch
from torch.overrides import TorchFunctionMode

from supervised_st._sampler.calls import call_of
from supervised_st.sampling import affine_sample
from tests.helpers.sampling import INF, NAN, gradients, leaf

DEFAULTS = ("bilinear", "zeros", False, 0.0, "auto")  # mode, padding, convention, fill and backend of a call


class Watch(TorchFunctionMode):
    """Sees every function of torch, so nothing may be left out."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def observed(*arguments, **options):
    with Watch():
        return affine_sample(*arguments, **options)


def inputs(dtype=torch.float32, theta_dtype=torch.float32, memory_format=torch.contiguous_format, transforms=()):
    g = torch.Generator().manual_seed(4)
    image = torch.randn(2, 3, 6, 5, generator=g).to(dtype).contiguous(memory_format=memory_format)
    return image, torch.randn(2, *transforms, 2, 3, dtype=theta_dtype, generator=g) * 0.7


def same(got, want):
    return (
        got.stride() == want.stride()
        and torch.equal(got.isnan(), want.isnan())
        and got.nan_to_num().equal(want.nan_to_num())
    )


@pytest.mark.parametrize("transforms", [(), (3,)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("theta_dtype", [torch.float64, torch.float32], ids=str)
def test_a_remembered_call_gives_the_bits_of_an_observed_one(theta_dtype, dtype, memory_format, transforms):
    image, theta = inputs(dtype, theta_dtype, memory_format, transforms)
    for mode, padding_mode, align_corners in itertools.product(
        ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)
    ):
        options = {"mode": mode, "padding_mode": padding_mode, "align_corners": align_corners}
        affine_sample(image, theta, (4, 7), **options)
        assert call_of(image, theta, 4, 7, *options.values(), 0.0, "auto").sample is not None
        assert same(affine_sample(image, theta, (4, 7), **options), observed(image, theta, (4, 7), **options))
        both = leaf(image), leaf(theta)
        of_remembered = gradients(affine_sample(*both, (4, 7), **options), both)
        of_observed = gradients(observed(*both, (4, 7), **options), both)
        assert all(torch.equal(*pair) for pair in zip(of_remembered, of_observed, strict=True))


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30, -1e30])
def test_the_numbers_of_a_remembered_call_are_checked_each_time(value, padding_mode, batch):
    image, theta = torch.randn(batch, 2, 6, 5), torch.eye(2, 3).repeat(batch, 1, 1)
    affine_sample(image, theta, (4, 4), padding_mode=padding_mode)
    for entry in range(6):
        hostile = theta.clone()
        hostile[-1].view(-1)[entry] = value
        both = leaf(image), leaf(hostile)
        got, want = (sample(*both, (4, 4), padding_mode=padding_mode) for sample in (affine_sample, observed))
        assert same(got, want)
        assert all(same(*pair) for pair in zip(gradients(got, both), gradients(want, both), strict=True))


def test_a_remembered_call_does_not_let_wrong_arguments_pass():
    """1 equals True, and 4.0 equals 4."""
    image, theta = inputs()
    affine_sample(image, theta, (4, 1))
    for size, options in (
        ((4, 1), {"align_corners": 0}),
        ((4.0, 1), {}),
        ((4, True, 1), {}),
        ((4, 1), {"antialias": 0}),
        ((4, 1), {"fill_value": 1.0}),
        ((4, 1), {"backend": "none"}),
        ((4, 1), {"mode": ["bilinear"]}),
        ((4, 1), {"std": 2.0}),
    ):
        with pytest.raises((TypeError, ValueError)):
            affine_sample(image, theta, size, **options)
    with pytest.raises(TypeError, match="dense"):
        affine_sample(image.to_sparse(), theta, (4, 1))
    with pytest.raises(ValueError, match="theta must have shape"):
        affine_sample(image, theta[:1], (4, 1))


def test_a_size_that_changes_is_read_each_time():
    image, theta = inputs()
    height = torch.tensor(4)
    for expected in (4, 5, 6):
        assert affine_sample(image, theta, (height, 7)).shape == (2, 3, expected, 7)
        height += 1


def test_who_observes_a_call_sees_it_whole():
    image, theta = inputs()
    affine_sample(image, theta, (4, 7))
    assert call_of(image, theta, 4, 7, *DEFAULTS) is not None
    with Watch():
        assert call_of(image, theta, 4, 7, *DEFAULTS) is None
    batched = torch.func.vmap(lambda t: affine_sample(image, t, (4, 7)))(theta[None])
    assert torch.allclose(batched[0], affine_sample(image, theta, (4, 7), backend="reference"), atol=1e-6)


def test_tensors_without_numbers_are_not_remembered():
    image, theta = (tensor.to("meta") for tensor in inputs())
    for _ in range(3):
        assert affine_sample(image, theta, (4, 7)).shape == (2, 3, 4, 7)
