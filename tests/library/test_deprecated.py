"""Names of version 0.2.0 still work, and each use warns once with the new name."""

import inspect
import warnings

import pytest
import torch
from torch import nn

from supervised_st import geometry, guidance, pooling, schedules
from supervised_st.transformer import SupervisedSpatialTransformer

OLD_TO_NEW = {"localisation": "localization", "parameterisation": "parameterization"}


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def build(**options):
    return SupervisedSpatialTransformer(network(), (4, 4), features=16, **options)


def with_old_keys(state):
    """What version 0.2.0 saved: the same tensors under other names."""
    renamed = {key.replace("localization.", "localisation."): value for key, value in state.items()}
    assert renamed.keys() != state.keys()
    return renamed


def test_each_old_argument_works_and_warns_once():
    net = network()
    with pytest.warns(FutureWarning, match="argument localisation is now called localization") as warned:
        layer = SupervisedSpatialTransformer(localisation=net, size=(4, 4), features=16)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    assert layer.localization is net
    with pytest.warns(FutureWarning, match="argument parameterisation is now called parameterization") as warned:
        layer = build(parameterisation="crop3")
    assert len(warned) == 1
    assert layer.parameterization == "crop3"


def test_old_and_new_name_together_are_refused():
    with pytest.raises(TypeError, match=r"parameterisation is the old name of parameterization; pass .* got both"):
        build(parameterisation="crop3", parameterization="crop3")
    with pytest.raises(TypeError, match="localization"), pytest.warns(FutureWarning):
        build(localisation=network())  # the new one by its position


def test_the_signature_shows_the_new_names_only():
    names = inspect.signature(SupervisedSpatialTransformer).parameters
    assert set(OLD_TO_NEW.values()) < set(names)
    assert not set(OLD_TO_NEW) & set(names)


@pytest.mark.parametrize(("old", "new"), OLD_TO_NEW.items())
def test_old_attributes_are_read_with_a_warning(old, new):
    layer = build()
    with pytest.warns(FutureWarning, match=f"attribute {old} is now called {new}") as warned:
        assert getattr(layer, old) is getattr(layer, new)
    assert len(warned) == 1


def test_an_assignment_to_the_old_attribute_replaces_the_network():
    layer, net = build(), network()
    with pytest.warns(FutureWarning, match="attribute localisation"):
        layer.localisation = net
    assert layer.localization is net
    assert [name for name, _ in layer.named_children()] == ["downscale", "localization", "head"]


@pytest.mark.parametrize("wrap", [lambda layer: layer, lambda layer: nn.ModuleDict({"look": nn.Sequential(layer)})])
def test_a_state_dict_with_old_keys_loads_under_any_prefix(wrap):
    saved, loaded = wrap(build(head_init="gaussian")), wrap(build())
    state = with_old_keys(saved.state_dict())
    keys = set(state)
    with pytest.warns(FutureWarning, match=r"state-dict key .*localisation is now called .*localization") as warned:
        loaded.load_state_dict(state)
    assert len(warned) == 1
    assert set(state) == keys, "the caller's dictionary was changed"
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_other_wrong_keys_are_still_refused():
    state = build().state_dict()
    state["localisation2.0.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "localisation2.0.weight"'):
        build().load_state_dict(state)


def test_new_names_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = build(parameterization="crop3")
        layer.localization = network()
        layer.load_state_dict(layer.state_dict())


@pytest.mark.parametrize(
    ("module", "old", "value"),
    [
        (geometry, "PARAMETERISATIONS", geometry.PARAMETERIZATIONS),
        (pooling, "vectorise", pooling.vectorize),
        (guidance, "Schedule", schedules.Schedule),
        (guidance, "Always", schedules.Always),
        (guidance, "HardSwitch", schedules.HardSwitch),
        (guidance, "LinearAnneal", schedules.LinearAnneal),
        (guidance, "Plateau", schedules.Plateau),
    ],
)
def test_old_names_of_modules_are_found_with_a_warning(module, old, value):
    with pytest.warns(FutureWarning, match=rf"{module.__name__}\.{old} is now called supervised_st\.") as warned:
        assert getattr(module, old) is value
    assert len(warned) == 1
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018
