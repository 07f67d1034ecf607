"""The head: initialization cannot silently destroy its start, and its bias is not decayed."""

import math
import pickle

import pytest
import torch
from torch import nn

from supervised_st.transformer import SupervisedSpatialTransformer


def build(**options):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))
    return SupervisedSpatialTransformer(net, (4, 4), features=5, **options)


def train(look):
    """Move every parameter, as training does."""
    for parameter in look.parameters():
        nn.init.normal_(parameter)


def kaiming_by_type(module):
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


def normal_by_name(module):
    name = type(module).__name__
    if "Conv" in name or "Linear" in name:
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif "Norm" in name:
        nn.init.normal_(module.weight, mean=1, std=0.02)


def xavier_by_weight(module):
    if getattr(module, "weight", None) is not None and module.weight.dim() > 1:
        nn.init.xavier_uniform_(module.weight)


def zeros_by_bias(module):
    if getattr(module, "bias", None) is not None:
        module.bias.data.zero_()


def reset_all(module):
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()


@pytest.mark.parametrize("head_init", ["level", "gaussian"])
@pytest.mark.parametrize("init", [kaiming_by_type, normal_by_name])
def test_functions_for_linear_layers_pass_the_head_by(init, head_init):
    look = build(head_init=head_init, scale=0.25)
    before = {name: value.clone() for name, value in look.state_dict().items()}
    nn.Sequential(look, nn.Linear(2, 2)).apply(init)
    unchanged = {name for name, value in look.state_dict().items() if torch.equal(value, before[name])}
    assert {"head.weight", "head.bias"} <= unchanged
    assert not {"localization.0.weight", "localization.4.weight"} & unchanged


@pytest.mark.parametrize("init", [xavier_by_weight, zeros_by_bias])
def test_functions_that_change_the_head_are_named_in_a_warning(init):
    look, image = build(scale=0.25), torch.rand(2, 3, 8, 8)
    start = look.localize(image)
    match = rf"apply\({init.__name__}\) changed the head .* call reset_head\(\)"
    model = nn.Sequential(look)
    with pytest.warns(UserWarning, match=match) as warned:
        assert model.apply(init) is model
    assert len(warned) == 1
    assert not torch.equal(look.localize(image), start)
    look.reset_head()
    assert torch.equal(look.localize(image), start)


def test_a_loop_that_resets_a_model_restores_the_start():
    look, image = build(scale=0.25), torch.rand(2, 3, 8, 8)
    start = look.localize(image)
    train(look)
    trained = {name: parameter.clone() for name, parameter in look.named_parameters()}
    nn.Sequential(look).apply(reset_all)
    assert torch.equal(look.localize(image), start)
    assert not any(torch.equal(parameter, trained[name]) for name, parameter in look.named_parameters())


@pytest.mark.parametrize("move", [nn.Module.half, nn.Module.double, lambda module: module.to("meta"), nn.Module.eval])
def test_a_function_that_changes_no_value_gives_no_warning(move):
    look = build(scale=1 / 3, head_init="gaussian")
    look.apply(move)
    with torch.device("meta"):
        build().apply(move)


def test_the_head_computes_and_draws_what_a_linear_layer_does():
    torch.manual_seed(0)
    head = SupervisedSpatialTransformer(nn.Flatten(), (4, 4), features=48, head_init="gaussian").head
    after = torch.rand(1)
    torch.manual_seed(0)
    linear = nn.Linear(48, 6)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    assert torch.equal(after, torch.rand(1))
    features = torch.randn(7, 48)
    assert torch.equal(head(features), linear(features))
    assert (head.in_features, head.out_features) == (linear.in_features, linear.out_features)
    linear.load_state_dict(head.state_dict())
    assert "(in_features=48, out_features=6)" in repr(head)


def test_a_pickled_layer_looks_at_the_same_place():
    look, image = build(head_init="gaussian").eval(), torch.rand(2, 3, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(look)).localize(image), look.localize(image))


def test_the_groups_hold_each_parameter_once_with_its_rate():
    look = build(downscale=nn.Conv2d(3, 3, 1))
    look.localization.requires_grad_(False)
    for groups, rate in ((look.parameter_groups(1e-3), 1e-4), (look.parameter_groups(0.5, localization=2.0), 1.0)):
        assert [group["lr"] for group in groups] == pytest.approx([rate, rate])
        listed = [parameter for group in groups for parameter in group["params"]]
        assert len(listed) == len(list(look.parameters()))
        assert {id(parameter) for parameter in listed} == {id(parameter) for parameter in look.parameters()}


def test_adamw_decays_all_but_the_bias_of_the_head():
    """With gradients of zero, AdamW only multiplies by 1 - rate * decay."""
    look, classifier = build(scale=0.25), nn.Linear(2, 2)
    train(look)
    groups = [*look.parameter_groups(0.1), {"params": classifier.parameters()}]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    named = {**dict(look.named_parameters()), "classifier": classifier.weight}
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    for parameter in [*look.parameters(), *classifier.parameters()]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in named.items():
        factor = {"head.bias": 1.0, "classifier": 1 - 0.1 * 0.5}.get(name, 1 - 0.01 * 0.5)
        torch.testing.assert_close(parameter.detach(), factor * before[name], rtol=1e-6, atol=0)
    assert torch.equal(look.head.bias, before["head.bias"])


@pytest.mark.parametrize("bad", [-1e-3, math.inf, math.nan])
def test_bad_rates_are_named(bad):
    with pytest.raises(ValueError, match=f"lr must be finite and not negative, got {bad}"):
        build().parameter_groups(bad)
    with pytest.raises(ValueError, match=f"localization must be finite and not negative, got {bad}"):
        build().parameter_groups(1e-3, localization=bad)
