"""Arguments of another type: each error names the argument, what it must be and what it is."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from supervised_st import (
    DistortionMonitor,
    HardSwitch,
    LinearAnneal,
    MotionWindowTarget,
    Plateau,
    RegressiveGuidance,
    SupervisedSpatialTransformer,
    TemporalCorrelationPooling,
)
from supervised_st.geometry import distortion, theta_from_parameters, theta_to_window, window_to_theta
from supervised_st.motion import motion_map
from supervised_st.pooling import vectorize

FLOW = torch.zeros(1, 1, 2, 8, 8)
THETA = torch.eye(2, 3)[None]


def look(localization=None, **options):
    return SupervisedSpatialTransformer(localization or nn.Flatten(), 4, **({"features": 192} | options))


def watch(every):
    return DistortionMonitor(look(), torch.zeros(1, 3, 8, 8), every=every)


CASES = {
    "shrinkage must be a number, got 'oas'": lambda: TemporalCorrelationPooling("inner", shrinkage="oas"),
    "gamma must be a number, got '1'": lambda: TemporalCorrelationPooling("rbf", gamma="1"),
    "gamma must be a number, got [1.0]": lambda: TemporalCorrelationPooling("inner", gamma=[1.0]),
    "power must be a number, got None": lambda: TemporalCorrelationPooling("inner", power=None),
    "blocks must be a whole number, got 2.0": lambda: TemporalCorrelationPooling("inner", blocks=2.0),
    "channels must be a whole number, got '8'": lambda: TemporalCorrelationPooling("inner").descriptor_size("8"),
    "matrix must be a torch.Tensor, got list; pass torch.as_tensor(matrix)": lambda: vectorize([[1.0]]),
    "matrix must be float64, float32, float16 or bfloat16, got torch.int64; pass matrix.float()": lambda: vectorize(
        torch.ones(2, 2).long()
    ),
    "weight must be a number, got '1'": lambda: RegressiveGuidance(weight="1"),
    "weight must be a number, got True": lambda: RegressiveGuidance(weight=True),
    "joint must be True or False, got 'yes'": lambda: RegressiveGuidance(joint="yes"),
    "free_pace must be a number, got 'x'": lambda: RegressiveGuidance(free_pace="x"),
    "transformer must be a SupervisedSpatialTransformer, or have the same call and localize, got Flatten; pass the "
    "layer itself, not what it returns or what wraps it": lambda: RegressiveGuidance().objective(
        nn.Flatten(), FLOW[0], target=THETA, task=torch.sum
    ),
    "features must be a whole number, got 192.5": lambda: look(features=192.5),
    "features must be a whole number, got True": lambda: look(features=True),
    "localization must be a module, got None": lambda: SupervisedSpatialTransformer(None, 4, features=1),
    "downscale must be a module, got 4": lambda: look(downscale=4),
    "scale must be one positive number, or two, (along height, along width), got '1'": lambda: look(scale="1"),
    "bounds must be two numbers (s0, s1), got 0.5": lambda: look(parameterization="crop3", bounds=0.5),
    "bounds must be two numbers (s0, s1), got (0.1,)": lambda: look(parameterization="crop3", bounds=(0.1,)),
    "bounds[1] must be a number, got '1'": lambda: look(parameterization="crop3", bounds=(0.1, "1")),
    "lr must be a number, got '1e-3'": lambda: look().parameter_groups("1e-3"),
    "localization must be a number, got None": lambda: look().parameter_groups(1e-3, localization=None),
    "scale must be one positive number, or two, (along height, along width), got None": lambda: theta_from_parameters(
        torch.zeros(2), "translation", scale=None
    ),
    "align_corners must be True or False, got 'no'": lambda: window_to_theta(
        THETA[0, 0, :1].expand(4), 8, align_corners="no"
    ),
    "align_corners must be True or False, got 1": lambda: theta_to_window(THETA, 8, align_corners=1),
    "align_corners must be True or False, got None": lambda: distortion(THETA, 8, 8, align_corners=None),
    "align_corners must be True or False, got 0": lambda: MotionWindowTarget(4, align_corners=0),
    "bound must be a number, got '20'": lambda: MotionWindowTarget(4, bound="20"),
    "bound must be a number, got (20,)": lambda: motion_map(FLOW.byte(), bound=(20,)),
    "profile must be a WindowProfile, got tuple": lambda: MotionWindowTarget(4).from_profile(
        (FLOW,), crop_x=torch.tensor([0]), crop_size=8
    ),
    "every must be a whole number, got 1.5": lambda: watch(1.5),
    "steps must be a whole number, got inf": lambda: HardSwitch(math.inf),
    "until must be a whole number, got '9'": lambda: LinearAnneal(0, "9"),
    "patience must be a whole number, got None": lambda: Plateau(None),
    "min_delta must be a number, got '0'": lambda: Plateau(1, "0"),
    "min_fall must be a number, got (0,)": lambda: Plateau(1, min_fall=(0,)),
}


@pytest.mark.parametrize("message", CASES)
def test_what_has_another_type_is_named(message):
    with pytest.raises(TypeError) as caught:
        CASES[message]()
    assert str(caught.value) == message


@pytest.mark.parametrize("shape", [(2, 3), (3,), (), (4, 3, 2)], ids=str)
def test_only_square_matrices_become_vectors(shape):
    with pytest.raises(ValueError, match=r"matrix must have shape \(\.\.\., m, m\), got \("):
        vectorize(torch.rand(shape))


def test_numbers_of_numpy_are_numbers():
    assert TemporalCorrelationPooling("inner", shrinkage=np.float32(0.5), blocks=np.int64(2)).blocks == 2
    assert RegressiveGuidance(weight=np.float64(2), schedule=HardSwitch(np.int32(3))).strength == 2
    assert look(features=np.int64(192)).head.in_features == 192
