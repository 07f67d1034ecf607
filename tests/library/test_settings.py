"""``repr`` shows each setting that differs from its default, and no other."""

import inspect

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
    Resize,
    SupervisedSpatialTransformer,
    TemporalCorrelationPooling,
)


def look(**settings):
    return SupervisedSpatialTransformer(nn.Flatten(), (4, 6), features=48, **settings)


MODULES = {
    SupervisedSpatialTransformer: look,
    RegressiveGuidance: RegressiveGuidance,
    MotionWindowTarget: lambda **settings: MotionWindowTarget(4, **settings),
    TemporalCorrelationPooling: lambda **settings: TemporalCorrelationPooling("inner", **settings),
    Plateau: lambda **settings: Plateau(3, **settings),
    DistortionMonitor: lambda **settings: DistortionMonitor(look(), torch.zeros(2, 3, 4, 4), **settings),
}
SETTINGS = {
    SupervisedSpatialTransformer: {
        "regions": 3,
        "downscale": nn.MaxPool2d(2),
        "parameterization": "crop3",
        "head_init": "gaussian",
        "scale": 0.25,
        "bounds": (0.1, 0.5),
        "mean": 120.0,
        "std": (60.0, 50.0, 40.0),
        "mode": "nearest",
        "padding_mode": "fill",
        "align_corners": True,
        "fill_value": 0.5,
        "antialias": True,
        "backend": "reference",
    },
    RegressiveGuidance: {"loss": "grid_mse", "schedule": HardSwitch(3), "weight": 2.0, "joint": True, "free_pace": 0.3},
    MotionWindowTarget: {"bound": 20.0, "fallback": "invalid", "align_corners": True},
    TemporalCorrelationPooling: {"gamma": 0.7, "shrinkage": 0.1, "map": "none", "blocks": 2, "power": 1.0},
    Plateau: {"min_delta": 0.5, "min_fall": 0.01},
    DistortionMonitor: {"every": 5},
}
NEEDS = {"bounds": {"parameterization": "crop3", "scale": 0.25}, "fill_value": {"padding_mode": "fill"}}


@pytest.mark.parametrize("kind", MODULES)
def test_defaults_are_not_shown(kind):
    shown = repr(MODULES[kind]())
    for name in SETTINGS[kind].keys() - {"downscale"}:
        assert f"{name}=" not in shown


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SETTINGS.items() for name in names])
def test_a_changed_setting_is_shown(kind, name):
    value = SETTINGS[kind][name]
    shown = repr(MODULES[kind](**NEEDS.get(name, {}), **{name: value}))
    assert (f"(downscale): {value!r}" if name == "downscale" else f"{name}={value!r}") in shown


@pytest.mark.parametrize("kind", MODULES)
def test_every_setting_is_tested(kind):
    parameters = inspect.signature(kind).parameters.values()
    assert {parameter.name for parameter in parameters if parameter.default is not parameter.empty} == set(
        SETTINGS[kind]
    )


def test_required_settings_are_shown():
    assert look().extra_repr() == "size=(4, 6)"
    assert repr(Resize((16, 8))) == "Resize(size=(16, 8))"
    assert repr(MotionWindowTarget(4)) == "MotionWindowTarget(size=(4, 4))"
    assert repr(TemporalCorrelationPooling("distance")) == "TemporalCorrelationPooling(kind='distance')"
    assert [repr(HardSwitch(3)), repr(Plateau(3))] == ["HardSwitch(steps=3)", "Plateau(patience=3)"]
    assert repr(LinearAnneal(0, 4)) == "LinearAnneal(hold=0, until=4)"


def test_guidance_shows_its_state_too():
    assert repr(RegressiveGuidance()) == "RegressiveGuidance(on by the schedule, strength=1, steps=0)"
    guidance = RegressiveGuidance("grid_mse", schedule=LinearAnneal(0, 4), weight=2.0, joint=True)
    guidance.step()
    assert repr(guidance) == (
        "RegressiveGuidance(loss='grid_mse', schedule=LinearAnneal(hold=0, until=4), weight=2.0, joint=True, "
        "on by the schedule, strength=1.5, steps=1)"
    )
    guidance.off()
    assert "off by hand, strength=0," in repr(guidance)
