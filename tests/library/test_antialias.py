"""``affine_sample(antialias=True)``: the mean over each output pixel's footprint."""

import itertools

import cv2
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tolerances import EXACT, rounding
from supervised_st._sampler import antialias
from supervised_st._sampler.antialias import _cumulative_sum
from supervised_st.geometry import window_to_theta
from supervised_st.sampling import affine_sample
from tests.helpers.assertions import assert_close
from tests.helpers.sampling import (
    BACKENDS,
    CONVENTIONS,
    NAN,
    case,
)

AREA_OPTIONS = ({}, {"padding_mode": "fill", "fill_value": (0.5, -2.0)})


def box_mean(image, theta, size, *, align_corners, fill):
    """The area filter by its definition: what each pixel shares with the footprint, in float64, pixel by pixel."""
    fill = torch.tensor(fill, dtype=torch.float64).expand(2)[:, None, None]
    shares = []
    for row, length in zip(theta.unbind(1), reversed(image.shape[2:]), strict=True):
        half, per_step = [], []
        for n in reversed(size):
            steps = n - 1 if align_corners else n
            half.append((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * 2 / max(steps, 1))
            per_step.append((length - 1 if align_corners else length) / max(steps, 1))
        column, line = half
        a, b, t = row.T[..., None, None]
        units = (length - 1 if align_corners else length) / 2
        center = (a * column + b * line[:, None] + t) * units + (length - 1) / 2
        side = torch.hypot(a * per_step[0], b * per_step[1]).clamp_min(1)
        pixel = torch.arange(length, dtype=torch.float64) - 0.5
        low, high = (center - side / 2)[..., None], (center + side / 2)[..., None]
        shared = (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp_min(0)
        shares.append(shared / side[..., None])
    return torch.einsum("nhwx,nhwy,ncyx->nchw", *shares, image - fill) + fill


@pytest.mark.parametrize("align_corners", CONVENTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_antialias_averages_over_footprints(backend, align_corners):
    for seed, options in itertools.product(range(3), AREA_OPTIONS):
        image, theta, size = case(seed, largest=7)
        options = {**options, "align_corners": align_corners, "antialias": True}
        truth = box_mean(image, theta, size, align_corners=align_corners, fill=options.get("fill_value", 0.0))
        got = affine_sample(image, theta, size, **options, backend=backend)
        assert_close("averages", got, truth, EXACT * 10)
        for dtype in (torch.float32, torch.bfloat16):
            narrow = image.to(dtype)
            truth = box_mean(
                narrow.double(), theta, size, align_corners=align_corners, fill=options.get("fill_value", 0.0)
            )
            got = affine_sample(narrow, theta, size, **options, backend=backend)
            assert_close("averages", got, truth, rounding(dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_antialias_is_bilinear_where_nothing_is_minified(backend):
    image, theta, _ = case(1)
    theta = theta * 0.3
    got, want = (affine_sample(image, theta, (11, 13), antialias=a, backend=backend) for a in (True, False))
    assert_close("sampled", got, want, EXACT * 10)


@pytest.mark.parametrize(
    ("backend", "scale"),
    # 0.1: nothing is minified; None: edges of footprints on whole pixels, which `aten` may round to either side.
    [("reference", 0.1), ("reference", 0.4), ("reference", None), ("aten", 0.1), ("aten", 0.4)],
)
def test_antialias_of_a_part_of_the_image_is_that_of_the_whole(backend, scale, monkeypatch):
    """On a CPU only the part is read that footprints reach; here they reach parts out of bounds, too."""
    g = torch.Generator().manual_seed(0)
    image = torch.randn(4, 2, 30, 37, dtype=torch.float64, generator=g)
    if scale is None:  # footprints of 2 x 2 pixels, where derivatives from the left and from the right differ
        windows = torch.tensor([[3, 4, 10, 12], [9, 7, 10, 12]]).repeat(4, 1, 1) + torch.arange(4)[:, None, None]
        windows[..., 2:] = torch.tensor([10, 12])
        theta = window_to_theta(windows.flatten(0, 1).double(), (30, 37)).unflatten(0, (4, 2))
    else:
        theta = scale * torch.randn(4, 2, 2, 3, dtype=torch.float64, generator=g)
        theta[..., 2] *= 1.5 / scale
    weights = torch.randn(4, 2, 2, 6, 5, dtype=torch.float64, generator=g)

    def sampled():
        inputs = image.clone().requires_grad_(), theta.clone().requires_grad_()
        out = affine_sample(*inputs, (6, 5), padding_mode="fill", fill_value=0.5, antialias=True, backend=backend)
        return out, *torch.autograd.grad(out, inputs, weights)

    of_part = sampled()
    monkeypatch.setattr(antialias, "_is_known", lambda image, pixel: False)
    for name, got, want in zip(("values", "image", "theta"), of_part, sampled(), strict=True):
        assert_close(name, got, want, EXACT * 10)


@pytest.mark.parametrize("zoom", [1.0, 1.2], ids=["nothing is minified", "minified"])
def test_antialias_ignores_what_is_far_away(zoom):
    image = torch.full((2, 1, 40, 40), NAN)
    image[0, :, 3:20, 10:27], image[1, :, 20:37, 23:40] = 1, 2
    windows = torch.tensor([[13, 6, 10, 10], [26, 23, 10, 10]])
    theta = window_to_theta(windows, (40, 40))
    theta[:, :, :2] *= zoom
    out = affine_sample(image, theta, (10, 10), antialias=True)
    torch.testing.assert_close(out, torch.tensor([1.0, 2.0])[:, None, None, None].expand(2, 1, 10, 10))


@pytest.mark.parametrize("factor", [2, 3, (2, 4)])
def test_antialias_takes_the_mean_of_blocks(factor):
    image = torch.randn(2, 3, 24, 24, dtype=torch.float64)
    want = F.avg_pool2d(image, factor)
    got = affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), want.shape[2:], antialias=True)
    assert_close("blocks", got, want, EXACT)


@settings(max_examples=20)
@given(window=st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(5, 30)] * 2), share=st.floats(0, 1))
def test_antialias_of_a_window_is_opencvs_area_interpolation(window, share):
    image = torch.randn(1, 1, 40, 40, dtype=torch.float64)
    x0, y0, width, height = window
    size = (max(1, round(height * share)), max(1, round(width * share)))
    theta = window_to_theta(torch.tensor([window], dtype=torch.float64), (40, 40))
    crop = image[0, 0, y0 : y0 + height, x0 : x0 + width].numpy()
    want = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA)
    got = affine_sample(image, theta, size, antialias=True)[0, 0]
    assert_close("area", got, torch.from_numpy(want).double(), 1e-6)  # OpenCV's weights are float32


def test_antialias_silences_what_plain_sampling_aliases():
    board = torch.ones(1, 1, 32, 32)
    board[..., ::2, ::2], board[..., 1::2, 1::2] = -1, -1
    theta = torch.tensor([[[1.0, 0, 1 / 32], [0, 1, 1 / 32]]])
    assert (affine_sample(board, theta, (16, 16), backend="reference")[..., :-1, :-1] == -1).all()
    averaged = affine_sample(board, theta, (16, 16), antialias=True)[..., :-1, :-1]
    torch.testing.assert_close(averaged, torch.zeros_like(averaged))


@pytest.mark.parametrize("backend", ["reference", "aten"])
def test_antialias_differentiates_through_the_footprint(backend):
    g = torch.Generator().manual_seed(5)
    image = torch.randn(1, 2, 5, 6, dtype=torch.float64, generator=g, requires_grad=True)
    theta = torch.tensor([[[0.71, 0.11, 0.07], [0.13, 0.83, 0.05]]], dtype=torch.float64, requires_grad=True)
    for options in AREA_OPTIONS:

        def sample(image, theta, options=options):
            return affine_sample(image, theta, (2, 2), antialias=True, **options, backend=backend)

        assert torch.autograd.gradcheck(sample, (image, theta), fast_mode=backend == "triton")
        assert torch.autograd.gradgradcheck(sample, (image, theta), fast_mode=True)


@pytest.mark.parametrize("length", range(1, 18))
def test_the_scan_is_the_running_sum(length):
    values = torch.randint(-99, 99, (2, length, 3)).double()
    assert torch.equal(_cumulative_sum(values, 1), values.cumsum(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e100, 1e200])
def test_a_footprint_larger_than_any_number_is_out_of_bounds(backend, scale):
    image = torch.ones(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    theta = (torch.eye(2, 3, dtype=torch.float64)[None] * scale).requires_grad_()
    out = affine_sample(image, theta, (3, 3), padding_mode="fill", fill_value=7.0, antialias=True, backend=backend)
    assert (out == 7).all()
    grad_image, grad_theta = torch.autograd.grad(out.sum(), (image, theta))
    assert grad_image.abs().max() < 1e-30
    assert grad_theta.abs().max() < 1e-30


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nan_pixel_stays_in_its_own_image(backend):
    image = torch.ones(2, 2, 4, 4)
    image[0, 0, 1, 1] = NAN
    out = affine_sample(image, torch.eye(2, 3).repeat(2, 1, 1), (2, 2), antialias=True, backend=backend)
    assert out[0, 0, 1, 1].isnan()
    torch.testing.assert_close(out.flatten(0, 1)[1:], torch.ones(3, 2, 2))
