"""Guidance: exact losses, the objective, and exactly nothing while it is off."""

import re
import warnings
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from supervised_st.geometry import corners, window_iou, window_to_theta
from supervised_st.guidance import RegressiveGuidance
from supervised_st.schedules import HardSwitch, Plateau
from supervised_st.transformer import SupervisedSpatialTransformer

LOSSES = ["l1", "corner_l1", "grid_mse"]


class Found(NamedTuple):
    """Takes the place of a motion window."""

    theta: Tensor
    confidence: Tensor


class Model(nn.Module):
    """A small transformer and a classifier of the glimpse."""

    def __init__(self):
        super().__init__()
        net = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5), nn.Tanh())
        self.transformer = SupervisedSpatialTransformer(
            net, (4, 4), features=5, head_init="gaussian", backend="reference"
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))

    def task(self, labels):
        return lambda glimpse: nn.functional.cross_entropy(self.classifier(glimpse.image), labels)


def build(dtype=torch.float32):
    torch.manual_seed(0)
    return Model().to(dtype)


def batch(count=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(count, 3, 9, 9, generator=generator, dtype=dtype)
    labels = torch.randint(0, 3, (count,), generator=generator)
    corner = torch.randint(0, 5, (count, 2), generator=generator)
    target = window_to_theta(torch.cat([corner, torch.full_like(corner, 5)], 1), (9, 9))
    return image, labels, target.to(dtype)


def gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def graph_nodes(tensor):
    """Count the autograd nodes behind a tensor by name."""
    todo, seen, names = [tensor.grad_fn], set(), []
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            names.append(node.name())
            todo.extend(parent for parent, _ in node.next_functions)
    return sorted(names)


def forbidden(*_):
    raise AssertionError("this must not run")


def thetas(count=5):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, count, 2, 3, generator=generator, dtype=torch.float64)


def lattice(theta, side):
    """Where theta sends the centers of side x side cells of the output square, one point a row."""
    ticks = (torch.arange(side, dtype=torch.float64) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.ones(side * side, dtype=torch.float64)])
    return (theta @ points).mT


def test_l1_is_the_sum_over_the_six_and_the_mean_over_the_batch():
    theta, target = thetas()
    expected = sum(abs(a - b) for a, b in zip(theta.flatten().tolist(), target.flatten().tolist(), strict=True)) / 5
    assert RegressiveGuidance()(theta, target).item() == pytest.approx(expected)


def test_corner_l1_is_the_distance_between_the_corners():
    theta, target = thetas()
    expected = (corners(theta) - corners(target)).abs().sum() / 5
    torch.testing.assert_close(RegressiveGuidance("corner_l1")(theta, target), expected)


def test_grid_mse_is_the_limit_of_ever_finer_lattices():
    """On n x n cell centers E[x^2] is (1 - 1/n^2) / 3, so the closed form is met as 1/n^2."""
    theta, target = thetas()
    closed = RegressiveGuidance("grid_mse")(theta, target).item()
    errors = []
    for side in (10, 100):
        counted = (lattice(theta, side) - lattice(target, side)).square().sum(-1).mean().item()
        errors.append(closed - counted)
    assert errors[1] == pytest.approx(errors[0] / 100)
    slope = (theta - target)[..., :2].square().sum((1, 2)).mean().item() / 3
    assert errors[0] == pytest.approx(slope / 100)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_is_zero_only_on_the_target_and_its_gradient_is_exact(loss):
    theta, target = thetas()
    guidance = RegressiveGuidance(loss, weight=0.3)
    assert guidance(target, target).item() == 0
    assert guidance(theta, target).item() > 0
    theta.requires_grad_()
    assert torch.autograd.gradcheck(lambda theta: guidance(theta, target), theta)


@pytest.mark.parametrize("loss", LOSSES)
def test_confidence_weights_samples_and_weight_the_whole(loss):
    theta, target = thetas(4)
    confidence = torch.tensor([1.0, 0.0, 0.5, 0.0])
    guidance = RegressiveGuidance(loss, weight=3.0)
    each = torch.stack([guidance(theta[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(guidance(theta, target, confidence), (each * confidence).sum() / 4)
    torch.testing.assert_close(guidance(theta, target), 3 * RegressiveGuidance(loss)(theta, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_sample_of_confidence_0_may_have_any_target(loss):
    """0 times NaN is NaN, but a target that is missing is often written as NaN (AReaL PR #1347)."""
    theta, target = thetas(4)
    confidence = torch.tensor([1.0, 0.0, 0.5, 0.0])
    missing = target.clone()
    missing[1], missing[3, 0] = float("nan"), float("inf")
    results = []
    for given in (target, missing):
        theta = theta.detach().requires_grad_()
        result = RegressiveGuidance(loss)(theta, given, confidence)
        results.append((result, *torch.autograd.grad(result, theta)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[1][1][1].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert RegressiveGuidance(loss)(theta, missing, torch.ones(4)).isfinite().logical_not()


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_accumulated_sub_batches_equal_the_full_batch(guided, joint):
    """Means over sub-batches, weighted by their sizes, sum to the mean over the batch: so do their gradients."""
    image, labels, target = batch(8, torch.float64)
    confidence = torch.linspace(0, 1, 8)
    guidance = RegressiveGuidance(joint=joint)
    if not guided:
        guidance.off()

    def step(model, part):
        window = Found(target[part], confidence[part])
        return guidance.objective(model.transformer, image[part], target=window, task=model.task(labels[part]))

    whole, parts = build(torch.float64), build(torch.float64)
    step(whole, slice(None)).backward()
    for part in (slice(0, 3), slice(3, 5), slice(5, 8)):
        (step(parts, part) * len(labels[part]) / 8).backward()
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-12, atol=1e-14)


def turned_off(how):
    guidance = RegressiveGuidance(schedule=HardSwitch(1), joint=how == "joint")
    if how == "weight":
        return RegressiveGuidance(weight=0.0)
    if how in ("schedule", "joint"):
        guidance.step()
    if how == "hand":
        guidance.off()
    return guidance


@pytest.mark.parametrize("how", ["hand", "schedule", "joint", "weight"])
def test_off_is_a_plain_transformer_bit_for_bit(how):
    image, labels, _ = batch()
    plain, toggled = build(), build()
    plain_loss = plain.task(labels)(plain.transformer(image))
    loss = turned_off(how).objective(toggled.transformer, image, target=forbidden, task=toggled.task(labels))
    assert torch.equal(loss, plain_loss)
    assert graph_nodes(loss) == graph_nodes(plain_loss)
    plain_loss.backward()
    loss.backward()
    expected, got = gradients(plain), gradients(toggled)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert all(gradient.abs().sum() > 0 for gradient in got.values())


def test_off_needs_no_target_and_adds_no_node():
    image, labels, _ = batch()
    model, guidance = build(), RegressiveGuidance()
    guidance.off()
    guidance.objective(model.transformer, image, target=None, task=model.task(labels)).backward()
    zero = guidance(model.transformer.localize(image), torch.zeros(0))
    assert zero.item() == 0
    assert zero.grad_fn is None


@pytest.mark.parametrize("wrap", [lambda target: target, lambda target: lambda: target], ids=["tensor", "callable"])
def test_the_papers_way_trains_only_what_locates(wrap, monkeypatch):
    image, _, target = batch()
    model = build()
    monkeypatch.setattr(model.transformer, "sample", forbidden)
    monkeypatch.setattr("supervised_st.transformer.affine_sample", forbidden)
    guidance = RegressiveGuidance()
    loss = guidance.objective(model.transformer, image, target=wrap(target), task=forbidden)
    assert torch.equal(loss, guidance(model.transformer.localize(image), target))
    loss.backward()
    for name, gradient in gradients(model).items():
        assert (gradient is None) == name.startswith("classifier"), name
        assert gradient is None or gradient.abs().sum() > 0, name


def test_joint_is_the_sum_of_both_losses():
    image, labels, target = batch(dtype=torch.float64)
    guidance = RegressiveGuidance(weight=0.7, joint=True)
    both, apart = build(torch.float64), build(torch.float64)
    guidance.objective(both.transformer, image, target=target, task=both.task(labels)).backward()
    apart.task(labels)(apart.transformer(image)).backward()
    guidance(apart.transformer.localize(image), target).backward()
    torch.testing.assert_close(gradients(both), gradients(apart), rtol=1e-12, atol=1e-14)


def test_a_window_brings_its_confidence():
    image, _, target = batch()
    model, guidance = build(), RegressiveGuidance()
    confidence = torch.tensor([0.0, 1.0, 0.0, 1.0])
    loss = guidance.objective(model.transformer, image, target=lambda: Found(target, confidence), task=forbidden)
    assert torch.equal(loss, guidance(model.transformer.localize(image), target, confidence))


def test_guidance_finds_the_target():
    """Descent on l1 ends at the target, which is the only minimum."""
    image, _, target = batch()
    model, guidance = build(), RegressiveGuidance()
    target = target[:1].expand(4, 2, 3)
    optimizer = torch.optim.Adam(model.transformer.parameters(), lr=0.02)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - step / 150)
        optimizer.zero_grad()
        guidance.objective(model.transformer, image, target=target, task=forbidden).backward()
        optimizer.step()
    torch.testing.assert_close(model.transformer.localize(image), target, rtol=0, atol=0.02)


def test_on_and_off_override_the_schedule():
    guidance = RegressiveGuidance(schedule=HardSwitch(1), weight=2.0)
    guidance.off()
    assert guidance.strength == 0
    guidance.step()
    guidance.on()
    assert guidance.strength == 2
    guidance.off()
    assert guidance.strength == 0


@pytest.mark.parametrize("switch", ["on", "off"])
def test_an_override_survives_the_state_dict(switch):
    saved, loaded = RegressiveGuidance(schedule=HardSwitch(1)), RegressiveGuidance(schedule=HardSwitch(1))
    saved.step()
    getattr(saved, switch)()
    loaded.load_state_dict(saved.state_dict())
    assert loaded.strength == saved.strength == (1.0 if switch == "on" else 0.0)


def test_a_state_of_another_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule must be Plateau as in the saved state, got Always"):
        RegressiveGuidance().load_state_dict(RegressiveGuidance(schedule=Plateau(3)).state_dict())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RegressiveGuidance("l2"), "loss must be one of 'l1', 'corner_l1', 'grid_mse', got 'l2'"),
        (lambda: RegressiveGuidance(weight=-1.0), "weight must be finite and not negative, got -1.0"),
        (lambda: RegressiveGuidance(weight=float("nan")), "weight must be finite and not negative, got nan"),
    ],
)
def test_bad_options_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("theta", "target", "confidence", "error", "match"),
    [
        ((2, 6), (2, 6), None, ValueError, "theta must have shape (..., 2, 3), got (2, 6)"),
        (
            (2, 2, 3),
            (1, 2, 3),
            None,
            ValueError,
            "target must be theta, (2, 2, 3), got shape (1, 2, 3); pass target.expand(2, 2, 3)",
        ),
        ((2, 2, 3), (2, 2, 3), (2, 1), ValueError, "confidence must have shape (2,), got (2, 1)"),
    ],
)
def test_wrong_shapes_are_named(theta, target, confidence, error, match):
    with pytest.raises(error, match=re.escape(match)):
        RegressiveGuidance()(
            torch.zeros(theta), torch.zeros(target), None if confidence is None else torch.zeros(confidence)
        )


def test_wrong_targets_are_named():
    image, labels, target = batch()
    model, guidance = build(), RegressiveGuidance()
    with pytest.raises(ValueError, match=r"target must be given while guidance is on \(strength 1\), got None"):
        guidance.objective(model.transformer, image, target=None, task=model.task(labels))
    with pytest.raises(
        TypeError, match="target must be a tensor theta, a MotionWindow or a function that returns either, got list"
    ):
        guidance.objective(model.transformer, image, target=[target], task=model.task(labels))
    with pytest.raises(TypeError, match=r"target must be .*, got torch\.int64"):
        guidance(target, target.long())
    with pytest.raises(TypeError, match=r"theta must be .*, got torch\.int64"):
        guidance(target.long(), target)


def test_a_schedule_of_the_wrong_type_is_named():
    with pytest.raises(TypeError, match=r"schedule must be a Schedule such as HardSwitch\(1000\), got 10"):
        RegressiveGuidance(schedule=10)


def loss(model, guidance):
    image, labels, target = batch()
    return guidance.objective(model.transformer, image, target=target, task=model.task(labels))


@pytest.mark.parametrize("loss", LOSSES)
def test_function_transforms_give_each_sample_its_gradient_and_the_schedule_their_mean(loss):
    """What a transform wraps is invalid when it ends, so the schedule must not keep it."""
    theta, target = thetas(4)
    guidance, plain = (RegressiveGuidance(loss, schedule=Plateau(3)) for _ in range(2))

    def one(theta, target):
        return guidance(theta[None], target[None])

    found = torch.func.vmap(torch.func.grad(one))(theta, target)
    theta.requires_grad_()
    want = plain(theta, target)
    torch.testing.assert_close(found, torch.autograd.grad(4 * want, theta)[0])
    nested = torch.func.vmap(torch.func.vmap(torch.func.grad(one)))(theta.detach()[None], target[None])
    torch.testing.assert_close(nested[0], found)
    for it in (guidance, plain):
        it.step()
        it(theta, target)
    assert guidance.schedule.state()["count"] == 3
    mean = guidance.schedule.state()["total"] / 3
    assert mean == pytest.approx(want.item(), rel=1e-12)
    torch.func.jacrev(lambda theta: guidance(theta, target))(theta.detach())
    guidance.step()
    guidance.step()
    assert guidance.schedule.state()["best"] == pytest.approx(want.item(), rel=1e-12)


def test_a_task_that_cannot_be_called_is_refused_while_guided():
    with pytest.raises(TypeError, match="task must be a function from a Glimpse to a loss, got Tensor"):
        RegressiveGuidance().objective(build().transformer, torch.zeros(1, 3, 9, 9), target=None, task=torch.zeros(()))


def test_a_forgotten_step_is_said_once(monkeypatch):
    monkeypatch.setattr("supervised_st.guidance._MANY_CALLS", 10)
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(3))
    with pytest.warns(UserWarning, match=r"guidance.step\(\) was not called during 10 calls of objective") as found:
        [loss(model, guidance) for _ in range(25)]
    assert len(found) == 1
    assert found[0].filename == __file__


def test_a_forgotten_step_is_said_to_those_who_switch_by_hand(monkeypatch):
    monkeypatch.setattr("supervised_st.guidance._MANY_CALLS", 10)
    model, guidance = build(), RegressiveGuidance()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        [loss(model, guidance) for _ in range(25)]
    guidance.off()
    with pytest.warns(UserWarning, match="nothing slows the transformer down") as found:
        [loss(model, guidance) for _ in range(25)]
    assert len(found) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_steps_before_the_optimizer_s_are_noticed(is_first):
    model, guidance = build(), RegressiveGuidance(schedule=HardSwitch(6))
    optimizer = torch.optim.SGD(model.transformer.parameters(), 0.01)
    steps = (guidance.step, optimizer.step) if is_first else (optimizer.step, guidance.step)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(25):
            optimizer.zero_grad()
            loss(model, guidance).backward()
            for step in steps:
                step()
    said = [str(it.message) for it in found if "call it after optimizer.step()" in str(it.message)]
    assert len(said) == is_first


def test_nothing_is_said_when_steps_are_counted_or_do_not_matter(monkeypatch):
    monkeypatch.setattr("supervised_st.guidance._MANY_CALLS", 10)
    model = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (never := RegressiveGuidance()).off()
        for guidance in (RegressiveGuidance(), never, counted := RegressiveGuidance(schedule=HardSwitch(10))):
            for call in range(30):
                with torch.set_grad_enabled(call % 2 == 0 or guidance is not counted):
                    loss(model, guidance)
                if call % 18 == 17:
                    counted.step()


def test_auto_returns_to_the_schedule():
    guidance = RegressiveGuidance(schedule=HardSwitch(2))
    guidance.off()
    guidance.step()
    guidance.auto()
    assert guidance.strength == 1
    guidance.on()
    guidance.step()
    assert guidance.strength == 1
    guidance.auto()
    assert guidance.strength == 0
    assert "off by the schedule" in repr(guidance)


def test_a_loss_may_be_any_function_of_theta_and_target():
    theta = torch.tensor([[[0.5, 0, 0], [0, 0.5, 0]], [[0.5, 0, 0.5], [0, 0.5, 0]]], requires_grad=True)
    target = torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]).expand(2, 2, 3)
    guidance = RegressiveGuidance(lambda theta, target: 1 - window_iou(theta, target))
    assert guidance(theta, target).item() == pytest.approx((0 + (1 - 1 / 3)) / 2)
    with pytest.raises(ValueError, match=r"loss must return one number per region, \(2,\), got \(\)"):
        RegressiveGuidance(lambda theta, target: (theta - target).abs().sum())(theta, target)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_region_of_each_frame_is_guided(loss):
    """The loss of K regions is the mean of the losses of each, with the confidence of each."""
    generator = torch.Generator().manual_seed(0)
    theta, target = torch.randn(2, 2, 3, 4, 2, 3, generator=generator).double()
    confidence = torch.rand(2, 3, 4, generator=generator).double()
    confidence[0, 0, :2], target[0, 0, 0], target[0, 0, 1] = 0, float("nan"), 1e9
    guidance = RegressiveGuidance(loss)
    together = guidance(theta, target, confidence)
    apart = [
        guidance(theta[n, t, k][None], target[n, t, k][None], confidence[n, t, k][None])
        for n in range(2) for t in range(3) for k in range(4)
    ]  # fmt: skip
    torch.testing.assert_close(together, torch.stack(apart).mean())


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (torch.zeros(2, 4), r"target must be theta, \(2, 2, 3\), got windows \(2, 4\); pass targets.from_boxes"),
        (torch.zeros(2, 2, 3, device="meta"), "target must be on theta's device cpu, got meta"),
        (torch.tensor([[1.0, 0, 40], [0, 1, 3]]).expand(2, 2, 3), "got a shift of 40; if it is a matrix in pixels"),
    ],
)
def test_natural_mistakes_with_targets_are_named(target, match):
    with pytest.raises(ValueError, match=match):
        RegressiveGuidance()(torch.zeros(2, 2, 3), target)
