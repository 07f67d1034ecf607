"""A default device, as `torch.set_default_device` sets it, is not the device of tensors that functions are given."""

import pytest
import torch

from supervised_st import (
    DistortionMonitor,
    MotionWindowTarget,
    Plateau,
    RegressiveGuidance,
    Resize,
    SupervisedSpatialTransformer,
    TemporalCorrelationPooling,
    affine_sample,
    paste,
    targets,
)
from supervised_st.geometry import (
    at_scales,
    components_from_theta,
    compose,
    distortion,
    matrix_to_theta,
    parameters_from_theta,
    theta_from_components,
    theta_from_parameters,
    theta_to_matrix,
    theta_to_window,
    window_iou,
    window_to_theta,
)
from supervised_st.pooling import median_gamma
from tests.helpers.sampling import BACKENDS, pixels

IMAGE, PIXELS, THETA = torch.rand(2, 3, 6, 7), pixels(2, 3, 6, 7), torch.eye(2, 3).repeat(2, 1, 1) * 0.6
WINDOW, FLOW, CLIPS = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.rand(2, 1, 2, 6, 7), torch.rand(2, 5, 3)
TARGET = MotionWindowTarget(3, fallback="invalid")


def look():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(126, 4))
    return SupervisedSpatialTransformer(net, 4, features=4, head_init="gaussian")


LOOK, STEERED, ADRIFT = look(), look(), look()


def guided():
    """Two steps: one under guidance, and a longer one that is shortened."""
    guidance, sums = RegressiveGuidance(schedule=Plateau(9)), []
    for step in range(2):
        guidance.load_state_dict(guidance.state_dict())
        loss = guidance.objective(STEERED, IMAGE, target=THETA, task=lambda glimpse: glimpse.image.sum())
        loss.backward()
        with torch.no_grad():
            for parameter in STEERED.parameters():
                parameter += step + 1
        guidance.step()
        guidance.off()
        sums.append(sum(parameter.detach().sum() for parameter in STEERED.parameters()))
    STEERED.load_state_dict(ADRIFT.state_dict())
    return sums


def accumulated():
    running = TemporalCorrelationPooling("covariance").accumulate()
    running.add(CLIPS[0])
    return running.descriptor()


CALLS = {
    "affine_sample": lambda: [affine_sample(IMAGE, THETA, 4, backend=backend) for backend in BACKENDS[:2]],
    "antialias": lambda: affine_sample(IMAGE, THETA, 2, antialias=True),
    "fill": lambda: affine_sample(IMAGE, THETA, 2, padding_mode="fill", fill_value=(1.0, 2.0, 3.0)),
    "at_scales": lambda: at_scales(THETA, (1, 2)),
    "from_boxes": lambda: targets.from_boxes(WINDOW, (6, 7), confidence=torch.tensor(0.5, device="cpu")),
    "from_map": lambda: targets.from_map(IMAGE, 3),
    "from_points": lambda: targets.from_points(WINDOW[:2], (6, 7), 3),
    "bytes": lambda: affine_sample(PIXELS, THETA, 2, mean=3.0, std=(1.0, 2.0, 3.0)),
    "components": lambda: theta_from_components(components_from_theta(THETA, 6, 4), 6, 4),
    "compose": lambda: compose(THETA, THETA),
    "distortion": lambda: distortion(THETA, (6, 7), 4),
    "guidance": guided,
    "labels": lambda: affine_sample(PIXELS.int(), THETA, 4, mode="nearest"),
    "layer": lambda: LOOK(IMAGE),
    "median_gamma": lambda: median_gamma(CLIPS),
    "monitor": lambda: DistortionMonitor(LOOK, IMAGE).history[0].motion,
    "motion": lambda: TARGET(FLOW),
    "motion in crops": lambda: TARGET(FLOW, crop=(1, 0, 5, 6)),
    "motion in full-height crops": lambda: TARGET.from_profile(
        TARGET.profile(FLOW), crop_x=WINDOW.long()[:2], crop_size=(6, 4)
    ),
    "parameters": lambda: theta_from_parameters(
        parameters_from_theta(THETA, "translation", bounds=(0.1, 0.9)), "translation", scale=0.6, bounds=(0.1, 0.9)
    ),
    "paste": lambda: paste(IMAGE, THETA, IMAGE),
    "pixels": lambda: matrix_to_theta(theta_to_matrix(THETA, 6, 4), 6, 4),
    "pooling": lambda: TemporalCorrelationPooling("rbf", gamma=1.0)(CLIPS),
    "pooling of a clip in parts": accumulated,
    "resize": lambda: Resize(3)(IMAGE),
    "window_iou": lambda: window_iou(THETA, THETA * 0.5),
    "windows": lambda: theta_to_window(window_to_theta(WINDOW, 6), 6),
}


@pytest.mark.parametrize("name", CALLS)
def test_results_stay_on_the_device_of_the_arguments(name):
    want = CALLS[name]()
    with torch.device("meta"):
        found = CALLS[name]()
    torch.testing.assert_close(found, want, rtol=0, atol=0)
