"""Schedules: the strength at every step, plateaus, and resumed runs."""

import io
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from supervised_st.guidance import RegressiveGuidance
from supervised_st.schedules import Always, HardSwitch, LinearAnneal, Plateau


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


def test_plateau_leaves_out_losses_that_are_not_finite():
    """Compared with the best mean, one infinite loss would end guidance for good, and NaN as the first mean never."""
    falling = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    for value in (math.inf, -math.inf, math.nan):
        for patience in (1, 2):
            for place in range(len(falling) + 1):
                losses = [*falling[:place], value, *falling[place:]]
                assert steps_until_off(RegressiveGuidance(schedule=Plateau(patience)), losses) is None
        waiting = RegressiveGuidance(schedule=Plateau(1, min_fall=0.5))
        assert steps_until_off(waiting, [value, 4.0, 1.0, value, value, 1.0, 0.0]) == 6
    guidance = RegressiveGuidance(schedule=Plateau(1))
    train_on(guidance, 2.0)
    train_on(guidance, math.inf, 1.0)  # the mean is 1, not (inf + 1) / 2
    train_on(guidance, 1.5)
    assert guidance.strength == 0


def test_plateau_leaves_out_means_of_losses_whose_sum_is_infinite():
    schedule = Plateau(3)
    for losses in ([3e38] * 3, [2.0] * 3, [1.0] * 3):
        for loss in losses:
            schedule.observe(torch.tensor(loss))
            schedule.advance()
        assert schedule.factor(0) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_plateau_counts_further_than_half_precision_does(dtype):
    """bfloat16 stops counting at 256, float16 at 2048, and both stop adding long before."""
    schedule = Plateau(1)
    schedule.observe(torch.tensor(4.0, dtype=dtype))
    schedule.advance()
    for _ in range(3000):
        schedule.observe(torch.tensor(3.0, dtype=dtype))
    assert (schedule.state()["total"], schedule.state()["count"]) == (9000, 3000)
    schedule.advance()
    assert schedule.factor(2) == 1


@pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 moves no fake tensors to devices that it lacks")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_plateau_resumes_within_a_window_on_another_device(device):
    """The sums come back on the CPU (pytorch#2830, pytorch#1515). Fake tensors check devices without having them."""
    first, resumed = Plateau(3), Plateau(3)
    first.observe(torch.tensor(2.0))
    first.advance()
    resumed.restore(first.state())
    with FakeTensorMode(allow_non_fake_inputs=True):
        resumed.observe(torch.empty((), device=device))
        assert resumed._sums.device.type == device
        assert resumed._sums.dtype == torch.float32


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
def test_a_resumed_run_continues_identically(make, stop):
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
    assert torch.equal(resumed.get_extra_state(), straight.get_extra_state())


@pytest.mark.parametrize("schedule", [None, HardSwitch(8), Plateau(3)], ids=repr)
def test_compiled_guidance_is_not_compiled_again_every_step(schedule):
    guidance = RegressiveGuidance(schedule=schedule)
    theta, target = torch.zeros(2, 2, 3, requires_grad=True), torch.ones(2, 2, 3)
    graphs = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(lambda theta: guidance(theta, target), backend=graphs)
    for _ in range(12):
        compiled(theta)
        guidance.step()
    assert 1 <= graphs.frame_count <= 4


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: HardSwitch(-1), "steps must not be negative, got -1"),
        (lambda: LinearAnneal(5, 5), "hold and until must satisfy 0 <= hold < until, got 5 and 5"),
        (lambda: Plateau(0), "patience must be positive, got 0"),
        (lambda: Plateau(1, math.nan), "min_delta must be finite and not negative, got nan"),
        (lambda: Plateau(1, math.inf), "min_delta must be finite and not negative, got inf"),
        (lambda: Plateau(1, -0.5), "min_delta must be finite and not negative, got -0.5"),
        (lambda: Plateau(1, min_fall=1.0), r"min_fall must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_settings_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LinearAnneal(0, math.inf), "until must be a whole number, got inf"),
        (lambda: HardSwitch(math.nan), "steps must be a whole number, got nan"),
        (lambda: Plateau(math.nan), "patience must be a whole number, got nan"),
        (lambda: Plateau(1, "0.1"), "min_delta must be a number, got '0.1'"),
        (lambda: Plateau(1, min_fall=None), "min_fall must be a number, got None"),
        (lambda: Plateau(1, 0.0, 0.5), "takes from 2 to 3 positional arguments but 4 were given"),
    ],
)
def test_settings_of_other_kinds_are_refused(make, match):
    with pytest.raises(TypeError, match=match):
        make()
