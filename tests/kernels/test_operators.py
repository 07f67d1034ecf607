"""The operators check their inputs: nobody can call a kernel with inputs that it cannot handle."""

import re

import pytest
import torch

from supervised_st._sampler import operators
from supervised_st._sampler.operators import Forward, ImageGradient, ThetaGradient

IMAGE, FRAMES = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
THETA, GRAD = torch.eye(2, 3).repeat(2, 1, 1), torch.zeros(2, 3, 6, 7)
ONES = torch.ones(3)
SAMPLING = ("bilinear", "zeros", False)
FORWARD = Forward(IMAGE, THETA, None, None, None, 6, 7, *SAMPLING)
NORMALIZED = FORWARD._replace(image=FRAMES, mean=ONES, std=ONES)
TO_IMAGE = ImageGradient(GRAD, THETA, 4, 5, False, *SAMPLING)
TO_THETA = ThetaGradient(GRAD, IMAGE, THETA, None, None, None, *SAMPLING)
CHECKS = {
    Forward: operators.check_forward,
    ImageGradient: operators.check_image_gradient,
    ThetaGradient: operators.check_theta_gradient,
}


@pytest.mark.parametrize("inputs", [
    FORWARD, NORMALIZED, FORWARD._replace(padding_mode="fill", fill=ONES), TO_IMAGE, TO_THETA,
    TO_THETA._replace(image=FRAMES, mean=ONES, std=ONES),
    FORWARD._replace(theta=THETA[:, None]), TO_IMAGE._replace(theta=THETA[:, None], grad=GRAD[:, None]),
    TO_THETA._replace(theta=THETA[:, None].double(), grad=GRAD[:, None]),
])  # fmt: skip
def test_what_kernels_take_is_not_refused(inputs):
    CHECKS[type(inputs)](inputs)


@pytest.mark.parametrize(("inputs", "changes", "error", "message"), [
    (FORWARD, {"image": IMAGE.long()}, TypeError, "image must be float64"),
    (FORWARD, {"image": IMAGE[0]}, ValueError, "image must have shape (batch, channel, height, width)"),
    (FORWARD, {"image": IMAGE[..., :0]}, ValueError, "image and output must not be empty, got an image (2, 3, 4, 0)"),
    (FORWARD, {"height": 0}, ValueError, "image and output must not be empty"),
    (FORWARD, {"width": 0}, ValueError, "image and output must not be empty"),
    (FORWARD, {"theta": THETA.half()}, TypeError, "theta must be float64 or float32"),
    (FORWARD, {"theta": THETA[:1]}, ValueError, "theta must have shape (2, 2, 3), got (1, 2, 3)"),
    (FORWARD, {"theta": THETA.to("meta")}, ValueError, "theta must be on the image's device cpu, got meta"),
    (FORWARD, {"mode": "bicubic"}, ValueError, "mode must be one of 'bilinear', 'nearest', got 'bicubic'"),
    (FORWARD, {"padding_mode": "wrap"}, ValueError, "padding_mode must be one of"),
    (FORWARD, {"padding_mode": "fill"}, ValueError, "fill must be given for padding_mode='fill' only, got no fill"),
    (FORWARD, {"fill": ONES}, ValueError, "fill must be given for padding_mode='fill' only, got a fill with 'zeros'"),
    (FORWARD, {"mean": ONES, "std": ONES}, ValueError, "mean and std must be given together, and only for uint8"),
    (NORMALIZED, {"mean": None}, ValueError, "mean and std must be given together"),
    (NORMALIZED, {"std": None}, ValueError, "mean and std must be given together"),
    (NORMALIZED, {"std": ONES.double()}, TypeError, "std must be float32, got torch.float64"),
    (NORMALIZED, {"mean": ONES[:2]}, ValueError, "mean must have shape (3,), got (2,)"),
    (NORMALIZED, {"mean": ONES.to("meta")}, ValueError, "mean must be on the image's device cpu, got meta"),
    (NORMALIZED, {"std": ONES.repeat(2)[::2]}, ValueError, "std must be contiguous, got strides (2,)"),
    (TO_IMAGE, {"grad": GRAD.byte()}, TypeError, "grad must be float64"),
    (TO_IMAGE, {"grad": GRAD[:1]}, ValueError, "grad must have shape (2, channel, h, w), got (1, 3, 6, 7)"),
    (TO_IMAGE, {"grad": GRAD[..., :0]}, ValueError, "image and grad must not be empty"),
    (TO_IMAGE, {"grad": GRAD[:, :, :0]}, ValueError, "image and grad must not be empty"),
    (TO_IMAGE, {"height": 0}, ValueError, "image and grad must not be empty, got an image (0, 5)"),
    (TO_IMAGE, {"theta": THETA.to("meta")}, ValueError, "theta must be on the image's device cpu, got meta"),
    (TO_THETA, {"grad": GRAD.double()}, TypeError, "grad must be float32, got torch.float64"),
    (TO_THETA, {"grad": GRAD.to("meta")}, ValueError, "grad must be on the image's device cpu, got meta"),
    (TO_THETA, {"grad": GRAD[:, :2]}, ValueError, "grad must have shape (2, 3, h, w), got (2, 2, 6, 7)"),
    (TO_THETA, {"grad": GRAD[:, None]}, ValueError, "grad must have shape (batch, channel, h, w)"),
    (TO_THETA, {"image": FRAMES, "grad": GRAD.half()}, TypeError, "grad must be float32"),
])  # fmt: skip
def test_other_inputs_are_refused(inputs, changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        CHECKS[type(inputs)](inputs._replace(**changes))
