"""Sizes: the forms in which every function takes them, and sizes that are not known yet."""

import io

import numpy as np
import pytest
import torch

from supervised_st import MotionWindowTarget, Resize, SupervisedSpatialTransformer, affine_sample, targets
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
    "from_boxes": lambda size: targets.from_boxes(WINDOW, size).theta,
    "from_map": lambda size: targets.from_map(FLOW.abs(), size).theta,
    "from_points": lambda size: targets.from_points(WINDOW[:2], size, size).theta,
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


class Call(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


FROM_SHAPES = {
    "as large as the image": lambda image, theta: affine_sample(image, theta, image.shape[-2:]),
    "half as large": lambda image, theta: affine_sample(image, theta, [n // 2 for n in image.shape[-2:]]),
    "square": lambda image, theta: affine_sample(image, theta, image.shape[-1]),
    "antialias": lambda image, theta: affine_sample(image, theta, image.shape[-2:], antialias=True),
    "distortion": lambda image, theta: tuple(distortion(theta, image.shape[-2:], image.shape[-2:])),
    "distortion by corners": lambda image, theta: tuple(distortion(theta, image.shape[-2:], 5, align_corners=True)),
    "theta_to_window": lambda image, theta: theta_to_window(theta, image.shape[-2:]),
    "window_to_theta": lambda image, theta: window_to_theta(theta.flatten(1)[:, :4].abs() + 1, image.shape[-2:]),
    "pixels": lambda image, theta: affine_sample(
        (image * 255).byte(), theta, (4, 5), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)
    ),
    "mirrored at the edges": lambda image, theta: affine_sample(image, theta, (4, 5), padding_mode="reflection"),
    "mirrored at the centers": lambda image, theta: affine_sample(
        image, theta, (4, 5), mode="bicubic", padding_mode="reflection", align_corners=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FROM_SHAPES)
def test_an_exported_and_saved_program_takes_every_size(name):
    """Symbolic sizes must stay symbolic: pytorch#152791, pytorch#182940. Saving refuses some graphs that run."""
    function, theta = FROM_SHAPES[name], THETA + torch.randn(2, 2, 3) * 0.1
    height, width = (torch.export.Dim(side, min=4, max=64) for side in ("height", "width"))
    program = torch.export.export(Call(function), (IMAGE, theta), dynamic_shapes=(({2: height, 3: width}, None),))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for size in ((8, 8), (9, 21), (30, 5)):
        image = torch.rand(2, 3, *size)
        torch.testing.assert_close(loaded(image, theta), function(image, theta), rtol=1e-5, atol=1e-5, msg=str(size))


@pytest.mark.parametrize("name", FROM_SHAPES)
def test_compiled_code_takes_every_size(name):
    function, graphs = FROM_SHAPES[name], []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=keep)
    for side in range(8, 12):
        image = torch.rand(2, 3, side, side + 3)
        torch._dynamo.maybe_mark_dynamic(image, (2, 3))
        torch.testing.assert_close(compiled(image, THETA), function(image, THETA), rtol=1e-5, atol=1e-5)
    assert len(graphs) == 1
