"""Sizes: the forms in which every function takes them."""

import numpy as np
import pytest
import torch

from supervised_st import MotionWindowTarget, Resize, SupervisedSpatialTransformer, affine_sample
from supervised_st.geometry import distortion, theta_to_window, window_to_theta
from supervised_st.motion import window_scores

IMAGE, THETA = torch.rand(2, 3, 8, 8), torch.eye(2, 3).repeat(2, 1, 1) * 0.7
WINDOW, FLOW = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.rand(2, 1, 2, 8, 8)


def from_profile(size):
    target = MotionWindowTarget(4)
    return target.from_profile(target.profile(FLOW), crop_x=torch.tensor([0, 0]), crop_size=size)


TAKE_SIZES = {
    "affine_sample": lambda size: affine_sample(IMAGE, THETA, size),
    "distortion of an image": lambda size: distortion(THETA, size, (5, 6)),
    "distortion of an output": lambda size: distortion(THETA, (5, 6), size),
    "from_profile": from_profile,
    "MotionWindowTarget": lambda size: MotionWindowTarget(size)(FLOW),
    "Resize": lambda size: Resize(size)(IMAGE),
    "SupervisedSpatialTransformer": lambda size: SupervisedSpatialTransformer(torch.nn.Identity(), size, features=1)
    .sample(IMAGE, THETA),
    "theta_to_window": lambda size: theta_to_window(THETA, size),
    "window_scores": lambda size: window_scores(FLOW[:, 0, 0], size),
    "window_to_theta": lambda size: window_to_theta(WINDOW, size),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKE_SIZES)
def test_a_size_may_have_any_form(name):
    function = TAKE_SIZES[name]
    want = function((8, 8))
    for size in (8, [8, 8], torch.Size([8, 8]), np.int64(8), np.array([8, 8]), torch.tensor([8, 8])):
        torch.testing.assert_close(function(size), want, rtol=0, atol=0, msg=repr(size))
