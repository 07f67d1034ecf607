"""Arguments of ``affine_sample``: errors name them; constants are numbers or one per channel."""

import numpy as np
import pytest
import torch

from supervised_st.sampling import affine_sample
from tests.helpers.sampling import (
    BACKENDS,
)

IMAGE, THETA = (2, 3, 4, 4), (2, 2, 3)


@pytest.mark.parametrize(
    ("image", "theta", "size", "options", "error", "match"),
    [
        ((3, 4, 4), THETA, (2, 2), {}, ValueError, r"image must have shape \(batch, channel, height, width\), got"),
        (IMAGE, (1, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, 2, 3\), got"),
        (IMAGE, (2, 5, 2, 2), (2, 2), {}, ValueError, r"must have shape \(2, transform, 2, 3\), got \(2, 5, 2, 2\)"),
        (IMAGE, (3, 5, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, transform, 2, 3\)"),
        (IMAGE, (1, 2, 5, 2, 3), (2, 2), {}, ValueError, r"theta must have shape \(2, 2, 3\)"),
        (IMAGE, THETA, (2, 2), {"align_corners": "False"}, TypeError, r"align_corners must be True or False, got 'Fa"),
        (IMAGE, THETA, (2, 2), {"antialias": np.ones(2)}, TypeError, r"antialias must be True or False"),
        (IMAGE, THETA, (2, 2), {"mode": np.ones(2)}, ValueError, r"mode must be one of"),
        (IMAGE, THETA, (2, 2), {"mode": "cubic"}, ValueError, r"mode must be one of 'bilinear', 'nearest', 'bic"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "wrap"}, ValueError, r"padding_mode must be one of"),
        (IMAGE, THETA, (2, 2), {"backend": "cuda"}, ValueError, r"backend must be one of"),
        (IMAGE, THETA, (2, 2), {"fill_value": 1.0}, ValueError, r"fill_value is only for padding_mode='fill'"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": (1.0, 2.0)}, ValueError, r"channel \(3\), got 2"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": "x"}, TypeError, r"fill_value must be a number"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": None}, TypeError, r"fill_value must be a number"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(2)}, ValueError,
         r"fill_value must have shape \(\) or \(3,\), got \(2,\)"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(3, dtype=torch.int64)}, TypeError,
         r"fill_value must be float64.*got torch.int64"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "fill", "fill_value": torch.ones(3, device="meta")}, ValueError,
         r"fill_value must be on the image's device cpu, got meta"),
        (IMAGE, THETA, (2, 2), {"fill_value": torch.zeros(3)}, ValueError, r"fill_value is only for padding_mode='fil"),
        (IMAGE, THETA, (2, 2), {"mean": 0.0}, ValueError, r"mean and std are only for uint8 images, got .* torch.fl"),
        (IMAGE, THETA, (2, 2), {"std": 1.0}, ValueError, r"mean and std are only for uint8 images"),
        (IMAGE, THETA, (2, 2), {"mode": "bicubic", "backend": "triton"}, ValueError,
         r"backend must be 'auto', 'reference' or 'aten' for mode='bicubic', got 'triton'"),
        (IMAGE, THETA, (2, 2), {"mode": "nearest", "antialias": True}, ValueError,
         r"antialias is only for mode='bilinear' .* got mode='nearest' with padding_mode='zeros'"),
        (IMAGE, THETA, (2, 2), {"padding_mode": "border", "antialias": True}, ValueError,
         r"antialias is only for .* padding_mode='zeros' or 'fill', got .*'border'"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(image, theta, size, options, error, match):
    with pytest.raises(error, match=match):
        affine_sample(torch.zeros(image), torch.zeros(theta), size, **options)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"mean": (1.0, 2.0)}, ValueError, r"mean must be one number or one per channel \(3\), got 2"),
        ({"mean": "x"}, TypeError, r"mean must be a number or one per channel, got 'x'"),
        ({"mean": 10**400}, TypeError, r"mean must be a number or one per channel, got 1000"),
        ({"mean": -1e39}, ValueError, r"mean must be at most 3.4e\+38 in magnitude, got -1e\+39"),
        (
            {"std": (1.0, 1e300, 1.0)},
            ValueError,
            r"std must be at most 3.4e\+38 in magnitude, got \(1.0, 1e\+300, 1.0\)",
        ),
        ({"padding_mode": "fill", "fill_value": 1e39}, ValueError, r"fill_value must be at most 3.4e\+38 in magnitude"),
        ({"mean": torch.ones(4)}, ValueError, r"mean must have shape \(\) or \(3,\), got \(4,\)"),
        ({"mean": torch.ones(3, dtype=torch.uint8)}, TypeError, r"mean must be float64.*got torch.uint8"),
        ({"std": torch.ones(3, device="meta")}, ValueError, r"std must be on the image's device cpu, got meta"),
        ({"std": 0}, ValueError, r"std must not be zero, got 0"),
        (
            {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
            ValueError,
            r"mean and std must be in units of 0..255, got mean=\(0.485, .*; multiply them by 255",
        ),
        ({"std": (1.0, 0.0, 1.0)}, ValueError, r"std must not be zero, got \(1.0, 0.0, 1.0\)"),
    ],
)
def test_errors_name_mean_and_std(options, error, match):
    with pytest.raises(error, match=match):
        affine_sample(torch.zeros(IMAGE, dtype=torch.uint8), torch.zeros(THETA), (2, 2), **options)


@pytest.mark.parametrize("shape", [(3, 16, 7, 1), (3, 15, 40, 3), (3, 40, 15, 4), (3, 40, 40, 2)])
def test_small_or_wide_images_of_bytes_may_have_many_channels(shape):
    image = torch.randint(256, shape, dtype=torch.uint8)
    out = affine_sample(image, torch.eye(2, 3).expand(3, 2, 3), shape[2:])
    torch.testing.assert_close(out, image.float(), rtol=0, atol=255 * 1e-5)


def test_wrong_types_and_devices_are_named():
    image, theta = torch.zeros(IMAGE), torch.zeros(THETA)
    with pytest.raises(TypeError, match=r"image must be a torch.Tensor, got ndarray"):
        affine_sample(image.numpy(), theta, (2, 2))
    # torchvision#4828, torchvision#9588: boxes given as a list.
    with pytest.raises(TypeError, match=r"theta must be a torch.Tensor, got list"):
        affine_sample(image, theta.tolist(), (2, 2))
    with pytest.raises(ValueError, match=r"theta must be on the image's device cpu, got meta"):
        affine_sample(image, theta.to("meta"), (2, 2))


@pytest.mark.parametrize(
    "fill",
    [torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0, 2]).half()[::2], (1, 2), np.array([1.0, 2.0], np.float32)],
    ids=lambda fill: f"{type(fill).__name__}-{getattr(fill, 'dtype', '')}",
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fill_per_channel_may_be_any_sequence(backend, fill):
    options = {"padding_mode": "fill", "backend": backend}
    away = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])
    got = affine_sample(torch.zeros(1, 2, 3, 3), away, (1, 1), **options, fill_value=fill)
    assert got.flatten().tolist() == [1, 2]
    for number in (fill[0], torch.tensor(1.0)):
        got = affine_sample(torch.zeros(1, 2, 3, 3), away, (1, 1), **options, fill_value=number)
        assert got.flatten().tolist() == [1, 1]


@pytest.mark.parametrize("name", ["fill_value", "mean", "std"])
def test_constants_that_require_grad_are_refused(name):
    """They get no gradient, which would look like zero."""
    away = torch.tensor([[[1.0, 0, 9], [0, 1, 0]]])

    def total(constant):
        options = {"padding_mode": "fill", "fill_value": constant} if name == "fill_value" else {name: constant}
        return affine_sample(torch.zeros(1, 2, 3, 3, dtype=torch.uint8), away, (1, 1), **options).sum()

    constant = torch.ones(2)
    requiring = (
        lambda: total(constant.clone().requires_grad_()),
        lambda: torch.func.grad(total)(constant),
        lambda: torch.func.jvp(total, (constant,), (constant,)),
    )
    for call in requiring:
        with pytest.raises(ValueError, match=rf"{name} must not require grad; pass {name}.detach\(\)"):
            call()
    with torch.no_grad():
        total(constant.clone().requires_grad_())
    total(constant.clone().requires_grad_().detach())
