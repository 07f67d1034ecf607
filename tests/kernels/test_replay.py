"""Repeated calls launch what the first one did, stay visible to compilers and tracers, and raise the same errors."""

import shutil
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from supervised_st import affine_sample
from tests.helpers.programs import run_python
from tests.helpers.sampling import gradients, leaf

pytestmark = pytest.mark.triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = (4, 5)


def sample(image, theta, **options):
    return affine_sample(image, theta, options.pop("size", SIZE), backend="triton", **options)


def tensors(seed, *, layout=torch.contiguous_format, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, 6, 7, generator=g).to(DEVICE, dtype).contiguous(memory_format=layout)
    return image, (torch.eye(2, 3) + torch.randn(2, 2, 3, generator=g) * 0.2).to(DEVICE)


@pytest.fixture
def searches(monkeypatch):
    """What is recorded, by operator, since it was not known."""
    from supervised_st._sampler import replay

    found = Counter()
    record = replay.Recorder.plan
    monkeypatch.setattr(replay.Recorder, "plan", lambda *a: found.update(["recorded"]) or record(*a))
    return found


@pytest.mark.skipif(
    not any(map(shutil.which, ("gcc", "clang", "cc"))), reason="needs a C compiler, for a driver without a GPU"
)
def test_replayed_launches_are_those_of_triton(tmp_path):
    """To the last argument, on the stream of now and with the driver of now."""
    done = run_python("-m", "tests.kernels.programs.compare_launches", tmp_path, TRITON_INTERPRET="0")
    assert done.returncode == 0, f"{done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    names = done.stdout.splitlines()
    assert {"alignment", "driver and stream", "hooks"} <= set(names)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"padding_mode": "border"}, {"padding_mode": "fill", "fill_value": 2.0}], ids=str
)
def test_a_replay_gives_the_bits_of_a_first_call(layout, options, searches):
    from tests.helpers.remembered import forget_calls

    def run(seed):
        inputs = [leaf(tensor) for tensor in tensors(seed, layout=layout)]
        out = sample(*inputs, **options)
        assert out.is_contiguous(memory_format=layout)
        return out.detach(), *gradients(out, inputs)

    first = run(0)
    recorded = searches["recorded"]
    replayed = run(1)
    assert searches["recorded"] == recorded == 3
    assert not torch.equal(first[0], replayed[0])
    forget_calls()
    for mine, true in zip(replayed, run(1), strict=True):
        assert torch.equal(mine, true)
        assert mine.stride() == true.stride()


def test_one_tensor_for_two_arguments_is_not_taken_for_one_later(searches):
    image = torch.randint(0, 256, (1, 2, 3, 3), dtype=torch.uint8, device=DEVICE)
    theta = torch.eye(2, 3, device=DEVICE)[None]
    one, other = torch.tensor([2.0, 4.0], device=DEVICE), torch.tensor([8.0, 0.5], device=DEVICE)
    sample(image, theta, size=(3, 3), mean=one, std=one)
    found = sample(image, theta, size=(3, 3), mean=one, std=other)
    assert searches["recorded"] == 1
    assert torch.equal(found, (image - one[:, None, None]) / other[:, None, None])


def test_a_change_of_theta_is_seen():
    image, theta = tensors(0)
    first = sample(image, theta)
    theta.zero_()
    assert torch.equal(sample(image, theta), sample(image, torch.zeros_like(theta)))
    assert not torch.equal(sample(image, theta), first)


class Names(TorchDispatchMode):
    """The operators that are called."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.append(func.name())
        return func(*args, **(kwargs or {}))


OPERATORS = ["affine_sample", "affine_sample_image_gradient", "affine_sample_theta_gradient"]


def test_modes_see_the_operators_of_calls_seen_before():
    inputs = [leaf(tensor) for tensor in tensors(0)]
    gradients(sample(*inputs), inputs)
    with Names() as names:
        gradients(sample(*inputs), inputs)
    assert [name for name in names.found if "supervised_st" in name] == [f"supervised_st::{name}" for name in OPERATORS]


def test_the_profiler_sees_the_operators_of_calls_seen_before():
    inputs = [leaf(tensor) for tensor in tensors(0)]
    gradients(sample(*inputs), inputs)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradients(sample(*inputs), inputs)
    names = [event.name for event in profile.events()]
    assert all(f"supervised_st::{name}" in names for name in OPERATORS)


def test_subclasses_and_negated_views_go_through_the_dispatcher():
    class Sub(torch.Tensor):
        pass

    image, theta = tensors(0)
    wanted = sample(image, theta)
    assert type(sample(image.as_subclass(Sub), theta)) is Sub
    negated = torch.complex(torch.zeros_like(image), -image).conj().imag
    assert negated.is_neg()
    assert torch.equal(sample(negated, theta), wanted)


def test_nothing_is_recorded_below_autograd():
    inputs = [leaf(tensor) for tensor in tensors(0)]
    assert sample(*inputs).requires_grad
    with torch._C._AutoDispatchBelowAutograd():
        assert not sample(*inputs).requires_grad
    with torch.inference_mode():
        assert not sample(*inputs).requires_grad
        assert torch.equal(sample(*tensors(0)), sample(*inputs))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"align_corners": 1}, TypeError), ({"align_corners": 0}, TypeError), ({"size": (4.0, 5)}, TypeError),
     ({"antialias": 0}, TypeError), ({"padding_mode": ["zeros"]}, ValueError), ({"mean": 0.0}, ValueError),
     ({"fill_value": 1.0}, ValueError)],
    ids=str,
)  # fmt: skip
def test_what_looks_like_a_call_seen_before_is_still_refused(options, error):
    image, theta = tensors(0)
    for align_corners in (False, True):
        sample(image, theta, align_corners=align_corners)
    with pytest.raises(error):
        sample(image, theta, **options)
    with pytest.raises(ValueError, match="theta must have shape"):
        sample(image, theta[:1])
    with pytest.raises(TypeError, match="image must be a dense tensor"):
        sample(image.to_sparse(), theta)


def test_old_kinds_are_forgotten(monkeypatch):
    from supervised_st._sampler import calls, replay

    for remembered in (calls._call, replay._kind):
        for number in range(calls.MOST_KINDS + 5):
            remembered(None, (), number)
        assert remembered.cache_info().currsize == calls.MOST_KINDS


def test_a_replay_changes_to_the_device_of_its_tensors(monkeypatch):
    from supervised_st._sampler.replay import Plan

    devices = [0]

    class Guard:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            devices.append(self.device)

        def __exit__(self, *error):
            devices.pop()

    monkeypatch.setattr(torch.cuda, "current_device", lambda: devices[-1])
    monkeypatch.setattr(torch.cuda, "device", Guard)
    driver = SimpleNamespace(get_current_stream=lambda device: device)
    seen = []
    plan = Plan(driver, 1, [], [], [(lambda stream: seen.append((stream, devices[-1])), lambda values: values[:1])], 1)
    image = torch.zeros(1)
    assert plan.replay((image,)) is image
    assert (seen, devices) == ([(1, 1)], [0])
