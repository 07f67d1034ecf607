"""Compares replayed launches with those that Triton makes of the same call, by a driver that only notes them.

``python -m tests.kernels.programs.compare_launches FOLDER`` prints the name of each case before it runs it.
"""

import sys
from pathlib import Path

import torch
import triton
from triton.runtime import JITFunction

from benchmarks import stub_driver
from supervised_st import affine_sample
from supervised_st._sampler import replay
from tests.helpers.remembered import forget_calls

SIZE = (6, 5)
arena = torch.empty(1 << 16, dtype=torch.uint8)
allocated = 0
launches = []
searches = []
inputs = {}  # by address


class NotingLauncher(triton.backends.nvidia.driver.CudaLauncher):
    """Notes all that it is given, with the addresses of tensors, and launches."""

    def __call__(self, *given):
        launches.append([noted(value) for value in without_hooks(given)])
        super().__call__(*given)


def noted(value):
    """An argument as it is compared; the address of a tensor is that of an input, of the arena, or of a copy."""
    if not torch.is_tensor(value):
        return repr(value)
    offset = value.data_ptr() - arena.data_ptr()
    return inputs.get(value.data_ptr(), offset if 0 <= offset < arena.numel() else "copy")


def without_hooks(given):
    """What a launcher is given, but for description and hooks."""
    return (*given[:6], *given[9:])


def empty(like, shape, strides, dtype):
    """Give out the same addresses in each call."""
    global allocated
    numel = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    memory = arena[allocated : allocated + numel * dtype.itemsize].view(dtype)
    allocated += -(-numel * dtype.itemsize // 64) * 64
    return memory.as_strided(shape, strides)


def run(call):
    """The launches of a call, and how often Triton searched for a kernel."""
    global allocated
    allocated = 0
    launches.clear()
    searches.clear()
    call()
    return list(launches), len(searches)


def tensors(dtype, layout, *, transforms=0, misaligned=False, expanded=False, channels=3):
    """An image, a theta and an incoming gradient."""
    theta = torch.rand(1 if expanded else 2, *(transforms,) * bool(transforms), 2, 3)
    theta = theta.expand(2, *theta.shape[1:]) if expanded else theta
    grad = torch.rand(2, *(transforms,) * bool(transforms), channels, *SIZE)
    memory = torch.rand(2 * channels * 7 * 8 + 1)[int(misaligned) :][: 2 * channels * 7 * 8]
    image = memory.view(2, channels, 7, 8)
    if dtype == torch.uint8:
        return (image * 255).to(dtype), theta, grad
    image, grad = image.to(dtype) if dtype != torch.float32 else image, grad.to(dtype)
    if layout == "channels_last":
        image = image.contiguous(memory_format=torch.channels_last)
    return image, theta, grad


def calls_of(made, options, wanted):
    """One call for tensors as made; ``wanted`` are those with gradients."""
    image, theta, grad = made
    image, theta = image.detach().requires_grad_("i" in wanted), theta.detach().requires_grad_("t" in wanted)
    leaves = [tensor for tensor in (image, theta) if tensor.requires_grad]
    given = {"image": image, "theta": theta, "grad": grad} | options
    inputs.clear()
    inputs.update({tensor.data_ptr(): name for name, tensor in given.items() if torch.is_tensor(tensor)})

    def call():
        out = affine_sample(image, theta, SIZE, backend="triton", **options)
        if wanted:
            torch.autograd.grad(out, leaves, grad)

    return call


def check(name, options, wanted, **made):
    """Replay a call whose kind was recorded with other tensors, and let Triton make it."""
    print(name, wanted, flush=True)
    others, these = tensors(**made), tensors(**made)
    run(calls_of(others, options, wanted))
    call = calls_of(these, options, wanted)
    replayed, searched = run(call)
    assert searched == 0, "Triton searched for a kernel"
    forget_calls()
    launched, searched = run(call)
    assert searched == len(launched) > 0, "Triton did not search for each kernel"
    assert replayed == launched, f"{replayed} is not {launched}"


def check_kinds():
    """Every dtype and layout, and what else makes launches differ."""
    for wanted in ("", "i", "t", "it"):
        check("float32", {}, wanted, dtype=torch.float32, layout="contiguous")
    for dtype, layout in (
        (torch.float64, "contiguous"), (torch.float32, "channels_last"), (torch.float16, "channels_last"),
    ):  # fmt: skip
        check(f"{dtype} {layout}", {}, "it", dtype=dtype, layout=layout)
    plain = {"dtype": torch.float32, "layout": "contiguous"}
    for options in (
        {"padding_mode": "fill", "fill_value": torch.rand(3)},
        {"mode": "nearest"},
        {"align_corners": True},
    ):
        check(", ".join(options), options, "it", **plain)
    check("uint8", {"mean": torch.rand(3), "std": torch.rand(3)}, "t", dtype=torch.uint8, layout="contiguous")
    check("transforms", {}, "it", transforms=3, **plain)
    check("misaligned", {}, "it", misaligned=True, **plain)
    check("expanded theta", {}, "it", expanded=True, **plain)


def check_alignment():
    """Tensors of one shape at other addresses can need another kernel."""
    print("alignment", flush=True)
    aligned, misaligned = (tensors(torch.float32, "contiguous", misaligned=flag) for flag in (False, True))
    first, _ = run(calls_of(aligned, {}, ""))
    other, searched = run(calls_of(misaligned, {}, ""))
    assert searched, "the kernel of aligned images was used for another"
    assert first[0][4] != other[0][4]


def check_driver_and_stream():
    """A replay uses the stream of now, and no kernel of another driver."""
    print("driver and stream", flush=True)
    call = calls_of(tensors(torch.float32, "contiguous"), {}, "it")
    run(call)
    driver = triton.runtime.driver.active
    driver.stream = 5
    launched, searched = run(call)
    assert searched == 0
    assert {launch[3] for launch in launched} == {"5"}
    other = stub_driver.StubDriver()
    other.launcher_cls, other.stream = NotingLauncher, 7
    triton.runtime.driver.set_active(other)
    launched, searched = run(call)
    assert searched == len(launched) > 0
    assert {launch[3] for launch in launched} == {"7"}
    triton.runtime.driver.set_active(driver)


def check_hooks():
    """Profilers that wait for launches see all of them."""
    print("hooks", flush=True)
    call = calls_of(tensors(torch.float32, "contiguous"), {}, "it")
    run(call)
    seen = []
    hook = triton.knobs.runtime.launch_enter_hook
    hook.add(lambda metadata: seen.append(metadata.get()["name"]))
    launched, _ = run(call)
    hook.calls.clear()
    assert len(seen) == len(launched) > 0
    assert run(call)[1] == 0
    assert len(seen) == len(launched)


def main(folder):
    """Run all cases."""
    stub_driver.activate(Path(folder))
    triton.runtime.driver.active.launcher_cls = NotingLauncher
    replay.empty = empty
    search = JITFunction.run
    JITFunction.run = lambda *arguments, **options: searches.append(1) or search(*arguments, **options)
    check_kinds()
    check_alignment()
    check_driver_and_stream()
    check_hooks()


if __name__ == "__main__":
    main(sys.argv[1])
