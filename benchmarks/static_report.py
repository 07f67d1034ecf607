"""Compile every kernel for three GPU generations, without a GPU, and report what is in its machine code.

    python benchmarks/static_report.py [--check] [--full] [--json FILE]

Each row is one variant of a kernel; its stack holds spilled registers. Instructions per element are those of all
threads on the shortest path through the machine code, divided by the values of the output, or of its gradient in the
theta gradient. Whole tiles inside the image take this path, for affine transforms of scale one.
"""

import argparse
import itertools
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas_version

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import supervised_st
from benchmarks.cases import vary
from benchmarks.machine_code import Code, functions_by_line
from benchmarks.saving import Row, save
from examples.mpii_cooking.formats import markdown_table
from supervised_st._sampler import fused, kernels, launches, replay
from supervised_st._sampler.options import Sampling

ARCHITECTURES = (80, 90, 100)
KERNELS = ("forward", "theta_gradient", "image_gradient", "image_search")
DTYPES = ("float64", "float32", "float16", "bfloat16", "uint8")
LAYOUTS = ((3, False), (64, True))  # channels, and whether the layout is channels_last
IMAGES, SIDE, LARGE_SIDE = 64, 256, 1 << 15  # images and outputs are square; the large ones need 64-bit offsets
TAPS = {"bilinear": 4, "nearest": 1}
# Output pixels that the image gradient looks at for each input pixel and affine transform of scale one.
CANDIDATES = {"bilinear": 9, "nearest": 4}

READERS = ("_inside_tap", "_masked_tap")
# By kernel and tensor: the instruction that moves the tensor's values, and the functions that use it. The loop that
# counts is the one in which the first tensor is read, by its first function that reads at all: float64 has no fast path
# inside the image. Instructions are divided by the elements of the last tensor. Searches of whole outputs (_add_block)
# may read values one by one.
ACCESSES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "forward": {"image": ("LDG", READERS), "out": ("STG", ("_sample",))},
    "theta_gradient": {"image": ("LDG", READERS), "grad": ("LDG", ("_block_slopes",))},
    "image_gradient": {"grad": ("LDG", ("add",)), "out": ("STG", ("image_gradient_kernel",))},
    "image_search": {"grad": ("LDG", ("add",)), "out": ("STG", ("image_search_kernel",))},
    "inverse": {},
    "theta_reduction": {},
}

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Variant:
    """One kernel as it is launched for one kind of image; uint8 images have a mean and a standard deviation."""

    kernel: str
    dtype: str = "float32"
    channels: int = 3
    channels_last: bool = False
    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    transforms: int = 1
    is_large: bool = False
    architecture: int = 90

    @property
    def name(self) -> str:
        """A name that no other variant has."""
        several = f"{self.transforms} transforms"
        flags = {"corners": self.align_corners, "large": self.is_large, several: self.transforms > 1}
        layout = f"{self.channels} channels, {'channels_last' if self.channels_last else 'contiguous'}"
        parts = [self.kernel, f"sm_{self.architecture}", self.dtype, layout, self.mode, self.padding_mode]
        return ", ".join([*parts, *(flag for flag, is_set in flags.items() if is_set)])

    @property
    def is_usual(self) -> bool:
        """Whether everything but kernel, dtype, layout and architecture has its default."""
        options = (self.mode, self.padding_mode, self.align_corners, self.transforms, self.is_large)
        return options == ("bilinear", "zeros", False, 1, False)


def variants(*, is_full: bool) -> list[Variant]:
    """Return all dtypes, layouts and architectures with the usual options, and some of them with all options.

    Without ``is_full``, two architectures have float32 and float16 only.
    """
    formats = [
        Variant(kernel, dtype, channels, last, architecture=architecture)
        for kernel, dtype, (channels, last), architecture in itertools.product(KERNELS, DTYPES, LAYOUTS, ARCHITECTURES)
        if is_full or architecture == Variant.architecture or dtype in ("float32", "float16")
    ]
    found = [*formats]
    for kernel in ("theta_reduction", "inverse"):
        found += vary(Variant(kernel), architecture=ARCHITECTURES)
    paddings = ("zeros", "border", "reflection", "fill")
    for variant in formats if is_full else map(Variant, KERNELS):
        found += vary(variant, mode=tuple(TAPS), padding_mode=paddings, align_corners=(False, True))
    for kernel, (channels, last) in itertools.product(KERNELS, LAYOUTS):
        layout = Variant(kernel, channels=channels, channels_last=last)
        found += [replace(layout, transforms=4), replace(layout, is_large=True)]
        if last:
            found += vary(layout, padding_mode=("reflection", "fill"))
            found += [replace(layout, mode="nearest"), replace(layout, channels=3)]
        found += vary(replace(layout, channels=16 if last else 20), dtype=("float32", "float16"))
    return list(dict.fromkeys(filter(is_launched, found)))


def is_launched(variant: Variant) -> bool:
    """Return whether the library ever launches such a variant."""
    if variant.kernel not in ("image_gradient", "image_search"):
        return True
    sampling = Sampling(variant.mode, variant.padding_mode, variant.align_corners)
    is_usual = launches.has_usual_transforms(sampling, getattr(torch, variant.dtype))
    return variant.dtype != "uint8" and (is_usual or variant.kernel == "image_search")


class Budget(NamedTuple):
    """What the usual kernel for images of three channels may take on sm_90; Triton 3.6 and 3.7 need no more."""

    instructions: float  #: per element
    registers: int = 255
    loads: int = 0  #: at least so many in flight


HALVES = ("float16", "bfloat16")
BUDGETS = {
    ("forward", "float32"): Budget(36, loads=24),
    **{("forward", dtype): Budget(44, loads=24) for dtype in HALVES},
    **{("theta_gradient", dtype): Budget(60, loads=16) for dtype in ("float32", *HALVES)},
    ("image_gradient", "float32"): Budget(118, registers=100),
    **{("image_gradient", dtype): Budget(130, registers=100) for dtype in HALVES},
}
"""By kernel and dtype, for contiguous images."""

# Bytes of stack by architecture, in what has no budget. Limits of registers are chosen for three channels on sm_90;
# elsewhere, some registers are spilled for each block of pixels.
STACK_ALLOWED = {80: 64, 90: 16, 100: 32}


class Launch(NamedTuple):
    """A kernel and what it was launched with."""

    kernel: Any  #: `triton.JITFunction`, which has no type
    programs: int
    arguments: dict[str, Any]  #: by name; those of the compiler too


def launch_of(variant: Variant) -> Launch:
    """Run the host code on tensors without memory and return what it would launch."""
    found: dict[str, Launch] = {}

    def record(kernel: Any, grid: tuple[int, ...]) -> Callable[..., None]:  # noqa: ANN401
        def launch(*arguments: object, **named: object) -> None:
            bound = dict(zip(kernel.arg_names, arguments, strict=False)) | named
            found[kernel.fn.__name__] = Launch(kernel, math.prod(grid), bound)

        return launch

    side = LARGE_SIDE if variant.is_large else SIDE
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    shape, dtype = (IMAGES, variant.channels, side, side), getattr(torch, variant.dtype)
    image = torch.empty(shape, dtype=dtype, device="meta", memory_format=layout)
    blended_in = torch.float64 if variant.dtype == "float64" else torch.float32
    several = (variant.transforms,) if variant.transforms > 1 else ()
    theta = torch.empty((IMAGES, *several, 2, 3), dtype=blended_in, device="meta")
    constant = torch.empty(variant.channels, dtype=blended_in, device="meta")
    fill = constant if variant.padding_mode == "fill" else None
    mean = std = constant if variant.dtype == "uint8" else None
    options = (variant.mode, variant.padding_mode, variant.align_corners)
    with mock.patch.object(type(kernels.forward_kernel), "__getitem__", record):
        tensors = image, theta, fill, mean, std
        grad = launched(fused.forward, tensors, (side, side, *options))
        if variant.kernel in ("image_gradient", "image_search", "inverse"):
            last = variant.channels_last
            launched(fused.image_gradient, (grad, theta), (side, side, last, *options))
        elif variant.kernel != "forward":
            launched(fused.theta_gradient, (grad, *tensors), options)
    return found[f"{variant.kernel}_kernel"]


def launched(operator: replay.Operator, tensors: replay.Tensors, options: tuple[Any, ...]) -> Tensor:
    """Run the host code of an operator without its checks."""
    recorder = replay.Recorder(tensors)
    return operator.launch(operator.inputs(*recorder.tensors, *options), recorder)


def report(variant: Variant) -> Row:
    """Compile one variant as Triton does, with a stand-in for the driver of the GPU, and read its machine code."""
    driver = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", variant.architecture, 32),
        get_current_device=lambda: variant.architecture,  # a cache of its own for each
        get_current_stream=lambda device: 0,
    )
    triton.runtime.driver.set_active(driver)
    launch = launch_of(variant)
    kernel = launch.kernel.run(grid=None, warmup=True, **launch.arguments)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        resources, text = (
            subprocess.run([TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True).stdout
            for tool, *options in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c", "-g"))
        )
    code = Code(text, functions_by_line(Path(kernels.__file__).parent.glob("*.py")))
    used = {key: int(value) for key, value in re.findall(r"\b(REG|STACK):(\d+)", resources)}
    # The gradient to theta of nearest pixels is zero, so its kernel reads no values.
    reads_nothing = variant.kernel == "theta_gradient" and variant.mode == "nearest"
    accesses = {} if reads_nothing else ACCESSES[variant.kernel]
    moved = {name: launch.arguments[name] for name in accesses}
    readers = next((functions for _, functions in accesses.values()), ())  # of the first tensor
    is_vectorized = variant.channels_last and variant.channels % launches.VECTORIZED == 0
    adjacent = variant.channels & -variant.channels if is_vectorized else 1  # neighboring threads take columns
    together = min(adjacent, launches.ACCESS // max((tensor.itemsize for tensor in moved.values()), default=1))
    return asdict(variant) | {
        "name": variant.name,
        "is_usual": variant.is_usual,
        "registers": used["REG"],
        "stack_bytes": used["STACK"],
        "shared_bytes": kernel.metadata.shared,
        "local_accesses": len(code.accesses("LDL", "STL")),
        "access_bytes": {
            name: min((one.width for one in code.accesses(operation, functions=functions)), default=0)
            for name, (operation, functions) in accesses.items()
        },
        "full_access_bytes": {name: together * tensor.itemsize for name, tensor in moved.items()},
        "instructions_per_element": instructions_per_element(variant, launch, code) if moved else None,
        "loads_in_flight": max((code.loads_in_flight(reader) for reader in readers), default=0),
    }


def instructions_per_element(variant: Variant, launch: Launch, code: Code) -> float | None:
    """Return the instructions of all threads over the output's elements, or ``None`` if no loop reads values."""
    given, accesses = launch.arguments, ACCESSES[variant.kernel]
    build, threads = given["BUILD"], 32 * given["num_warps"]
    pixels = build.block / threads
    # A thread passes over the blocks of its tile, and in the image gradients over the affine transforms for each.
    passes, channels = given["tile_rows"] / build.block_rows, build.groups * build.vector
    if variant.kernel in ("image_gradient", "image_search"):
        passes, values = passes * given["transforms"], pixels * channels * CANDIDATES[variant.mode]
    else:
        values = pixels * channels * given["passes"] * TAPS[variant.mode]
    programs = given.get("work", launch.programs)  # the search takes one tile after the other
    first, last = given[next(iter(accesses))], given[list(accesses)[-1]]
    _, readers = next(iter(accesses.values()))
    counts = (code.instructions(reader, first.itemsize, passes=passes, values=values) for reader in readers)
    return next((count * programs * threads / last.numel() for count in counts if count is not None), None)


def problems(row: Row) -> list[str]:
    """Return what is wrong with a variant."""
    is_budgeted = (
        row["is_usual"] and row["architecture"] == 90 and (row["channels"], row["channels_last"]) == LAYOUTS[0]
    )
    budget = BUDGETS.get((row["kernel"], row["dtype"])) if is_budgeted else None
    unwanted = {"stack_bytes": "bytes of stack", "local_accesses": "accesses to local memory"}
    is_little = budget is None and 0 < row["stack_bytes"] <= STACK_ALLOWED[row["architecture"]]
    found = [f"{row[key]} {what}" for key, what in unwanted.items() if row[key] and not is_little]
    for name, width in row["access_bytes"].items():
        if width < (full := row["full_access_bytes"][name]):
            found.append(f"accesses to {name} of {width} bytes, not {full}")
    count = row["instructions_per_element"]
    if row["access_bytes"] and count is None:
        found.append("no loop that reads")
    elif budget is not None:
        if count > budget.instructions:
            found.append(f"{count:.1f} instructions per element, not {budget.instructions}")
        if row["registers"] > budget.registers:
            found.append(f"{row['registers']} registers, not {budget.registers}")
        if row["loads_in_flight"] < budget.loads:
            found.append(f"{row['loads_in_flight']} loads in flight, not {budget.loads}")
    return [f"{row['name']}: {what}" for what in found]


def cells(row: Row) -> list[str]:
    """Return a variant's row of the printed table."""
    count = row["instructions_per_element"]
    widths = ", ".join(f"{name} {width}" for name, width in row["access_bytes"].items())
    numbers = (row[name] for name in ("registers", "stack_bytes", "shared_bytes", "local_accesses"))
    return [row["name"], *map(str, numbers), widths, "" if count is None else f"{count:.1f}"]


def main() -> None:
    """Compile, print the table, and write and check it on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail on spills, local memory and narrow accesses")
    parser.add_argument("--full", action="store_true", help="compile every combination, in half an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    chosen = parser.parse_args()
    if replay.INTERPRETED:
        sys.exit("TRITON_INTERPRET is set: unset it, since interpreted kernels cannot be compiled")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(report, variants(is_full=chosen.full)))
    header = ["variant", "registers", "stack", "shared", "local", "bytes per access", "instructions per element"]
    print(markdown_table(header, map(cells, rows)))
    if chosen.json:
        assemblers = re.findall(r"release [\d.]+, V([\d.]+)", "".join(map(get_ptxas_version, ARCHITECTURES)))
        ptxas = ", ".join(sorted(set(assemblers)))
        versions = {"triton": triton.__version__, "ptxas": ptxas, "supervised-st": supervised_st.__version__}
        scenario = f"{IMAGES} images of {SIDE} x {SIDE} pixels, sampled at the same size"
        save(chosen.json, {"versions": versions, "scenario": scenario, "rows": rows})
    if chosen.check and (found := [problem for row in rows for problem in problems(row)]):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
