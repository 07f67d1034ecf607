"""The toggle: exact losses, exact schedules, and exactly nothing while it is off."""

import io
import re
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from supervised_st.geometry import corners, window_to_theta
from supervised_st.guidance import Always, HardSwitch, LinearAnneal, Plateau, RegressiveGuidance
from supervised_st.transformer import SupervisedSpatialTransformer

LOSSES = ["l1", "corner_l1", "grid_mse"]


class Found(NamedTuple):
    """Stands for a motion window."""

    theta: Tensor
    confidence: Tensor


class Model(nn.Module):
    """A small transformer and what recognizes the glimpse."""

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
    target = window_to_theta(torch.randint(0, 5, (count, 4), generator=generator) + torch.tensor([0, 0, 4, 4]), (9, 9))
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


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("joint", [True, False])
def test_accumulated_sub_batches_equal_the_full_batch(guided, joint):
    """Means over sub-batches, weighted by their sizes, sum to the mean over the batch: so do their gradients."""
    image, labels, target = batch(8, torch.float64)
    confidence = torch.linspace(0, 1, 8)
    guidance = RegressiveGuidance(joint=joint, active=guided)

    def step(model, part):
        window = Found(target[part], confidence[part])
        return guidance.objective(model.transformer, image[part], target=window, task=model.task(labels[part]))

    whole, parts = build(torch.float64), build(torch.float64)
    step(whole, slice(None)).backward()
    for part in (slice(0, 3), slice(3, 5), slice(5, 8)):
        (step(parts, part) * len(labels[part]) / 8).backward()
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-12, atol=1e-14)


def turned_off(how):
    guidance = RegressiveGuidance(schedule=HardSwitch(1), joint=how == "joint", active=how != "inactive")
    if how == "weight":
        return RegressiveGuidance(weight=0.0)
    if how in ("schedule", "joint"):
        guidance.step()
    if how == "hand":
        guidance.off()
    return guidance


@pytest.mark.parametrize("how", ["inactive", "hand", "schedule", "joint", "weight"])
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
    model, guidance = build(), RegressiveGuidance(active=False)
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
    """The l1 path is followed to its end: the only minimum is theta = target."""
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


def strengths(guidance, count):
    values = []
    for _ in range(count):
        values.append(guidance.strength)
        guidance.step()
    return values


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (None, [2, 2, 2, 2, 2, 2]),
        (Always(), [2, 2, 2, 2, 2, 2]),
        (HardSwitch(3), [2, 2, 2, 0, 0, 0]),
        (HardSwitch(0), [0, 0, 0, 0, 0, 0]),
        (LinearAnneal(1, 5), [2, 2, 1.5, 1, 0.5, 0]),
        (LinearAnneal(hold=0, until=1), [2, 0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_strength_over_the_steps(schedule, expected):
    assert strengths(RegressiveGuidance(schedule=schedule, weight=2.0), 6) == expected


def test_on_and_off_override_the_schedule():
    guidance = RegressiveGuidance(schedule=HardSwitch(1), weight=2.0)
    guidance.off()
    assert guidance.strength == 0
    guidance.step()
    guidance.on()
    assert guidance.strength == 2
    guidance.off()
    assert guidance.strength == 0


def train_on(guidance, *losses):
    """One optimizer step whose accumulated guidance losses (by l1, over the six) are the given ones."""
    for loss in losses:
        theta = torch.full((1, 2, 3), loss / 6, requires_grad=True)
        guidance(theta, torch.zeros(1, 2, 3))
    guidance.step()


def steps_until_off(guidance, losses):
    for step, loss in enumerate(losses):
        if guidance.strength == 0:
            return step
        train_on(guidance, loss)
    return None


def test_plateau_ends_when_the_mean_stops_falling():
    falling = [4.0, 3.0, 2.0, 1.0]
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(2)), [*falling, 1.5, 1.5, 9.0, 9.0]) == 6
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(2, 0.0)), [*falling, 0.5, 0.5, 0.5, 0.5, 0, 0]) == 8
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(2, min_delta=2.0)), [*falling, 0.0]) == 4
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(1)), [8.0 / 2**k for k in range(12)]) is None


def test_plateau_waits_at_chance_until_the_loss_has_fallen():
    chance, learns = [4.0, 4.0, 4.1, 4.0], [3.5, 2.0, 1.0, 1.0, 9.0]
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(1)), chance + learns) == 2
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(1, min_fall=0.01)), chance + learns) == 8
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(1, min_fall=0.5)), [*chance, 3.0, 3.0, 2.0, 2.0]) is None
    assert steps_until_off(RegressiveGuidance(schedule=Plateau(2, min_fall=0.5)), chance + [1.0] * 5) == 8


def test_plateau_loads_the_state_of_version_0_2_0():
    saved = {"best": 2.0, "flat": False, "total": 3.0, "count": 2.0, "steps": 2}
    schedule = Plateau(3)
    schedule.restore(saved)
    schedule.observe(torch.tensor(3.0))
    schedule.advance()
    assert schedule.factor(3) == 0  # the mean 6 / 3 is not below 2


def test_plateau_stays_off_and_counts_every_sub_batch():
    guidance = RegressiveGuidance(schedule=Plateau(1))
    train_on(guidance, 1.0, 3.0)
    train_on(guidance, 2.0, 1.9)  # mean 1.95 < 2
    assert guidance.strength == 1
    train_on(guidance, 0.0, 4.0)  # mean 2 > 1.95
    assert guidance.strength == 0
    train_on(guidance, 0.0)
    assert guidance.strength == 0


def test_plateau_ignores_steps_without_losses_and_losses_without_training():
    guidance = RegressiveGuidance(schedule=Plateau(1))
    train_on(guidance, 2.0)
    train_on(guidance)
    guidance(torch.full((1, 2, 3), 9.0), torch.zeros(1, 2, 3))  # validation: no graph
    train_on(guidance, 1.0)
    train_on(guidance)
    assert guidance.strength == 1
    train_on(guidance, 1.5)
    assert guidance.strength == 0


def one_rank(rank, folder):
    """Each rank's own losses stall at another step; only their mean, 4 3 3, may decide."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    guidance = RegressiveGuidance(schedule=Plateau(1))
    ended = steps_until_off(guidance, [[1.0, 1.0, 2.0, 0.0], [7.0, 5.0, 4.0, 0.0]][rank])
    dist.destroy_process_group()
    assert ended == 3, ended


def test_plateau_ends_on_all_ranks_at_once(tmp_path):
    mp.spawn(one_rank, args=(tmp_path,), nprocs=2)


@pytest.mark.parametrize(
    "make",
    [lambda: LinearAnneal(2, 9), lambda: HardSwitch(6), lambda: Plateau(3), lambda: Plateau(2, min_fall=0.3), Always],
)
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_a_resumed_run_goes_on_identically(make, stop):
    losses = [5.0, 4.0, 4.5, 3.0, 3.25, 3.125, 6.0, 6.0, 6.0]
    straight = RegressiveGuidance(schedule=make())
    first, resumed = RegressiveGuidance(schedule=make()), RegressiveGuidance(schedule=make())
    for loss in losses[:stop]:
        train_on(straight, loss)
        train_on(first, loss)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for loss in losses[stop:]:
        assert resumed.strength == straight.strength
        train_on(straight, loss)
        train_on(resumed, loss)
    assert resumed.state_dict() == straight.state_dict()


@pytest.mark.parametrize("switch", ["on", "off"])
def test_an_override_survives_the_state_dict(switch):
    saved, loaded = RegressiveGuidance(schedule=HardSwitch(1)), RegressiveGuidance(schedule=HardSwitch(1))
    saved.step()
    getattr(saved, switch)()
    loaded.load_state_dict(saved.state_dict())
    assert loaded.strength == saved.strength == (1.0 if switch == "on" else 0.0)


def test_a_state_of_another_schedule_is_refused():
    with pytest.raises(ValueError, match="schedule must be the saved Plateau, got Always"):
        RegressiveGuidance().load_state_dict(RegressiveGuidance(schedule=Plateau(3)).state_dict())


def test_repr_shows_the_state():
    guidance = RegressiveGuidance("grid_mse", schedule=LinearAnneal(0, 4), weight=2.0, joint=True)
    guidance.step()
    assert repr(guidance) == (
        "RegressiveGuidance(loss='grid_mse', on by the schedule, strength=1.5, joint=True, "
        "schedule=LinearAnneal(hold=0, until=4), steps=1)"
    )
    guidance.off()
    assert "off by hand, strength=0," in repr(guidance)
    assert "schedule=Plateau(patience=3, min_delta=0.5, min_fall=0.0)" in repr(
        RegressiveGuidance(schedule=Plateau(3, 0.5))
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RegressiveGuidance("l2"), "loss must be one of 'l1', 'corner_l1', 'grid_mse', got 'l2'"),
        (lambda: RegressiveGuidance(weight=-1.0), "weight must be finite and not negative, got -1.0"),
        (lambda: RegressiveGuidance(weight=float("nan")), "weight must be finite and not negative, got nan"),
        (lambda: HardSwitch(-1), "steps must not be negative, got -1"),
        (lambda: LinearAnneal(5, 5), "hold and until must satisfy 0 <= hold < until, got 5 and 5"),
        (lambda: Plateau(0), "patience must be positive, got 0"),
        (lambda: Plateau(1, -0.5), "min_delta must not be negative, got -0.5"),
        (lambda: Plateau(1, min_fall=1.0), r"min_fall must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("theta", "target", "confidence", "error", "match"),
    [
        ((2, 6), (2, 6), None, ValueError, "theta must have shape (batch 2 3), got (2, 6)"),
        ((2, 2, 3), (1, 2, 3), None, ValueError, "target must have shape (batch 2 3) with {'batch': 2}, got (1, 2, 3)"),
        ((2, 2, 3), (2, 2, 3), (2, 1), ValueError, "confidence must have shape (batch) with {'batch': 2}, got (2, 1)"),
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
    with pytest.raises(TypeError, match="target must be theta, a MotionWindow or a function giving either, got list"):
        guidance.objective(model.transformer, image, target=[target], task=model.task(labels))
    with pytest.raises(TypeError, match=r"target must be .*, got torch\.int64"):
        guidance(target, target.long())
    with pytest.raises(TypeError, match=r"theta must be .*, got torch\.int64"):
        guidance(target.long(), target)


@pytest.mark.parametrize("schedule", [None, HardSwitch(8), Plateau(3)], ids=repr)
def test_compiled_guidance_is_not_compiled_again_every_step(schedule):
    guidance = RegressiveGuidance(schedule=schedule)
    theta, target = torch.zeros(2, 2, 3, requires_grad=True), torch.ones(2, 2, 3)
    compiled = torch.compile(lambda theta: guidance(theta, target), backend="eager")
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=False, recompile_limit=4, fail_on_recompile_limit_hit=True):
        for _ in range(12):
            compiled(theta)
            guidance.step()


def test_a_schedule_of_the_wrong_type_is_named():
    with pytest.raises(TypeError, match=r"schedule must be a Schedule such as HardSwitch\(1000\), got 10"):
        RegressiveGuidance(schedule=10)
