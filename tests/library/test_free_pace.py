"""From the end of guidance on, the transformer takes a fraction of each step, whatever the optimizer."""

import math

import pytest
import torch
from torch import nn

from supervised_st import HardSwitch, LinearAnneal, RegressiveGuidance, SupervisedSpatialTransformer
from supervised_st._state_tensor import from_tensor
from supervised_st.geometry import window_to_theta

GUIDED, FREE = 3, 4
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.05),
    "momentum": lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda groups: torch.optim.Adam(groups, lr=2e-3),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=2e-3, weight_decay=0.1),
}


class Model(nn.Module):
    """A small transformer and a classifier of the glimpse."""

    def __init__(self):
        super().__init__()
        net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5), nn.Tanh())
        self.look = SupervisedSpatialTransformer(net, (4, 4), features=5, scale=0.5)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

    def objective(self, guidance, step):
        image, labels, target = batch(step)
        return guidance.objective(
            self.look,
            image,
            target=target,
            task=lambda glimpse: nn.functional.cross_entropy(self.classifier(glimpse.image), labels),
        )


@torch.compiler.disable  # torch 2.6 cannot trace generators
def batch(step):
    """The images, labels and targets of a step."""
    generator = torch.Generator().manual_seed(step)
    image = torch.randn(8, 3, 9, 9, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (8,), generator=generator)
    window = torch.randint(0, 5, (8, 4), generator=generator) * torch.tensor([1, 1, 0, 0])
    return image, labels, window_to_theta((window + torch.tensor([0, 0, 4, 4])).double(), (9, 9))


def build():
    torch.manual_seed(0)
    return Model().double()


def groups(model):
    return [{"params": [*model.look.parameters()]}, {"params": [*model.classifier.parameters()]}]


def train(model, optimizer, guidance, steps):
    for step in range(*steps):
        optimizer.zero_grad()
        model.objective(guidance, step).backward()
        optimizer.step()
        guidance.step()


def trained(optimizer, guidance, steps=(0, GUIDED + FREE)):
    model = build()
    train(model, OPTIMIZERS[optimizer](groups(model)), guidance, steps)
    return model.state_dict()


def assert_equal(found, expected):
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_short_steps_are_those_of_a_lower_rate_for_the_transformer(optimizer):
    """The definition of SGD, Adam and AdamW: a step is proportional to the rate of its group."""
    paced, by_rate = build(), build()
    optimizers = [OPTIMIZERS[optimizer](groups(model)) for model in (paced, by_rate)]
    guidances = [RegressiveGuidance(schedule=HardSwitch(GUIDED), free_pace=pace) for pace in (0.25, 1)]
    for model, of, guidance in zip((paced, by_rate), optimizers, guidances, strict=True):
        train(model, of, guidance, (0, GUIDED))
    state = from_tensor(guidances[0].get_extra_state())
    state["pace"]["lengths"] = (1e6, 1.0)  # as if steps under guidance had been longer than any to come
    guidances[0].set_extra_state(state)
    optimizers[1].param_groups[0]["lr"] *= 0.25
    for model, of, guidance in zip((paced, by_rate), optimizers, guidances, strict=True):
        train(model, of, guidance, (GUIDED, GUIDED + FREE))
    for name, expected in by_rate.state_dict().items():
        torch.testing.assert_close(paced.state_dict()[name], expected, rtol=1e-11, atol=1e-13, msg=name)


def test_long_steps_become_a_fraction_of_the_usual_one_under_guidance():
    """Steps of known length, in one direction: 1, 2 and 3 under guidance, then 8, 0.5 and none."""
    look = build().look.double()
    guidance = RegressiveGuidance(schedule=HardSwitch(3), free_pace=0.25)
    parameters = [*look.parameters()]
    direction = [torch.ones_like(parameter) for parameter in parameters]
    unit = sum(part.numel() for part in direction) ** 0.5
    moved = []
    for length in (1.0, 2.0, 3.0, 8.0, 0.5, 0.0):
        loss = guidance.objective(
            look, torch.zeros(1, 3, 9, 9).double(), target=torch.eye(2, 3)[None], task=lambda it: it.image.sum()
        )
        assert loss.requires_grad
        before = parameters[0].detach().clone()
        with torch.no_grad():
            for parameter in parameters:
                parameter += length / unit
        guidance.step()
        moved.append((parameters[0] - before).flatten()[0].item() * unit)
    usual = (1 * 0.98**2 + 2 * 0.98 + 3) / (0.98**2 + 0.98 + 1)  # the mean, with the weights of a decaying one
    assert moved == pytest.approx([1, 2, 3, 0.25 * usual, 0.25 * 0.5, 0], rel=1e-6)


@pytest.mark.parametrize("schedule", [HardSwitch(GUIDED), LinearAnneal(0, GUIDED)])
@pytest.mark.parametrize("joint", [True, False])
def test_while_guided_the_pace_is_the_optimizers(schedule, joint):
    paced, full = (
        trained("adam", RegressiveGuidance(schedule=schedule, joint=joint, free_pace=pace), (0, GUIDED))
        for pace in (0.1, 1)
    )
    assert_equal(paced, full)


def test_a_transformer_that_was_never_guided_is_plain():
    model = build()
    optimizer = OPTIMIZERS["adam"](groups(model))
    for step in range(FREE):
        optimizer.zero_grad()
        model.objective(RegressiveGuidance(weight=0), step).backward()
        optimizer.step()
    by_hand = RegressiveGuidance()
    by_hand.off()
    for guidance in (by_hand, RegressiveGuidance(schedule=HardSwitch(0)), RegressiveGuidance(weight=0)):
        assert_equal(trained("adam", guidance, (0, FREE)), model.state_dict())


@pytest.mark.parametrize("shared", [False, True])
def test_transformers_that_share_guidance_are_all_slowed_down_and_what_they_share_once(shared):
    """Steps of length 1 under guidance, then 2: they count as one step, and become a tenth of 1."""
    looks = build().look, build().look
    if shared:
        looks[1].localization = looks[0].localization
    parameters = [*nn.ModuleList(looks).parameters()]
    unit = sum(parameter.numel() for parameter in parameters) ** 0.5
    guidance, image = RegressiveGuidance(schedule=HardSwitch(1)), torch.zeros(1, 3, 9, 9).double()
    for length in (1.0, 2.0):
        for look in looks:
            guidance.objective(look, image, target=torch.eye(2, 3)[None], task=lambda it: it.image.sum())
        before = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            [parameter.add_(length / unit) for parameter in parameters]
        guidance.step()
    for parameter, old in zip(parameters, before, strict=True):
        torch.testing.assert_close((parameter - old) * unit, torch.full_like(old, 0.1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [math.nan, math.inf, 0.0])
def test_a_guided_step_that_diverged_or_was_skipped_does_not_count(length):
    look, guidance = build().look, RegressiveGuidance(schedule=HardSwitch(3))
    bias, image = look.head.bias, torch.zeros(1, 3, 9, 9).double()
    for moved in (1.0, length, 1.0, 2.0):
        with torch.no_grad():
            bias.zero_()  # as if a checkpoint had been loaded
        guidance.objective(look, image, target=torch.eye(2, 3)[None], task=lambda it: it.image.sum())
        with torch.no_grad():
            bias[0] = moved
        guidance.step()
    assert bias[0].item() == pytest.approx(0.1)


def test_turning_guidance_off_by_hand_sets_the_pace_too():
    by_hand, scheduled = RegressiveGuidance(), RegressiveGuidance(schedule=HardSwitch(GUIDED))
    models = build(), build()
    for model, guidance in zip(models, (by_hand, scheduled), strict=True):
        optimizer = OPTIMIZERS["adam"](groups(model))
        train(model, optimizer, guidance, (0, GUIDED))
        by_hand.off()
        train(model, optimizer, guidance, (GUIDED, GUIDED + FREE))
    assert_equal(models[0].state_dict(), models[1].state_dict())


def test_sub_batches_and_validation_between_them_change_nothing():
    expected = trained("momentum", RegressiveGuidance(schedule=HardSwitch(GUIDED)))
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(GUIDED))
    optimizer = OPTIMIZERS["momentum"](groups(model))
    for step in range(GUIDED + FREE):
        optimizer.zero_grad()
        for _ in range(2):
            (model.objective(guidance, step) / 2).backward()
        optimizer.step()
        with torch.no_grad():
            model.objective(guidance, step)
        guidance.step()
    assert_equal(model.state_dict(), expected)


def test_a_resumed_run_continues_at_the_same_pace():
    expected = trained("adam", RegressiveGuidance(schedule=HardSwitch(GUIDED)))
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(GUIDED))
    optimizer = OPTIMIZERS["adam"](groups(model))
    train(model, optimizer, guidance, (0, GUIDED + 1))
    saved = model.state_dict(), optimizer.state_dict(), guidance.state_dict()
    resumed, schedule = build(), RegressiveGuidance(schedule=HardSwitch(GUIDED))
    continued = OPTIMIZERS["adam"](groups(resumed))
    for part, state in zip((resumed, continued, schedule), saved, strict=True):
        part.load_state_dict(state)
    train(resumed, continued, schedule, (GUIDED + 1, GUIDED + FREE))
    assert_equal(resumed.state_dict(), expected)


@pytest.mark.parametrize(("override", "steps", "paced"), [(None, 5, True), (False, 5, False), (None, 0, False)])
def test_a_state_of_version_0_2_knows_whether_it_has_guided(override, steps, paced):
    guidance = RegressiveGuidance(schedule=HardSwitch(GUIDED))
    state = from_tensor(guidance.get_extra_state()) | {"override": override, "steps": steps}
    del state["pace"]
    guidance.set_extra_state(state)
    guidance.off()
    model, start = build(), build().state_dict()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), guidance, (0, 1))
    full = build()
    train(full, torch.optim.SGD(full.parameters(), lr=0.1), RegressiveGuidance(weight=0), (0, 1))
    pace = 0.1 if paced else 1
    moved = full.state_dict()["look.head.weight"] - start["look.head.weight"]
    torch.testing.assert_close(model.state_dict()["look.head.weight"], start["look.head.weight"] + pace * moved)


def test_compiled_code_keeps_the_pace():
    expected = trained("adam", RegressiveGuidance(schedule=HardSwitch(GUIDED)))
    torch._dynamo.reset()
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(GUIDED))
    plain = model.objective
    model.objective = torch.compile(lambda guidance, step: plain(guidance, step), backend="eager")
    train(model, OPTIMIZERS["adam"](groups(model)), guidance, (0, GUIDED + FREE))
    for name, value in model.state_dict().items():  # the compiler sums in another order
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-13, msg=name)


def test_parameters_that_are_replaced_between_objective_and_step_are_refused():
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(1))
    guidance.step()
    model.objective(guidance, 0).backward()
    model.look.head.bias = nn.Parameter(model.look.head.bias.detach().clone())
    with pytest.raises(RuntimeError, match=r"head.bias was replaced: set free_pace=1 and give .* parameter_groups"):
        guidance.step()


def test_weights_loaded_between_two_steps_stay():
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(1))
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), guidance, (0, 3))
    model.load_state_dict(build().state_dict())
    train(model, torch.optim.SGD(model.parameters(), lr=0.0), guidance, (0, 1))
    assert_equal(model.state_dict(), build().state_dict())


def test_weights_loaded_after_an_interrupted_step_stay():
    """A step may end between objective and the optimizer: by Ctrl-C in a notebook, or because its loss is NaN."""
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(1))
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), guidance, (0, 3))
    model.objective(guidance, 3).backward()
    model.load_state_dict(build().state_dict())
    train(model, torch.optim.SGD(model.parameters(), lr=0.0), guidance, (3, 4))
    assert_equal(model.state_dict(), build().state_dict())


@pytest.mark.parametrize("pace", [0, -0.1, 1.1, float("nan")])
def test_a_pace_out_of_range_is_named(pace):
    with pytest.raises(ValueError, match=f"free_pace must be positive and at most 1, got {pace}"):
        RegressiveGuidance(free_pace=pace)
    guidance = RegressiveGuidance(free_pace=0.5)
    with pytest.raises(ValueError, match=f"free_pace must be positive and at most 1, got {pace}"):
        guidance.free_pace = pace
    assert guidance.free_pace == 0.5


def test_a_pace_that_is_no_number_is_named():
    guidance = RegressiveGuidance()
    with pytest.raises(TypeError, match=r"free_pace must be a number, got '0\.5'"):
        guidance.free_pace = "0.5"


def test_a_pace_can_be_set_later():
    set_later = RegressiveGuidance(schedule=HardSwitch(GUIDED), free_pace=0.5)
    set_later.free_pace = 0.1
    expected = trained("adam", RegressiveGuidance(schedule=HardSwitch(GUIDED)))
    assert_equal(trained("adam", set_later), expected)
