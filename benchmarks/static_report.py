"""Compile every kernel for three GPU generations, without a GPU, and report what is in its machine code.

    python benchmarks/static_report.py [--check] [--full] [--json FILE]

Each row is one variant of a kernel:

- registers and stack bytes per thread (the stack holds spilled registers), and shared memory bytes per program,
- the number of loads and stores of local memory,
- the narrowest access to each tensor in bytes,
- instructions per element: the instructions of all threads on the shortest path through the machine code, divided by
  the elements of the output. The shortest path is taken by tiles that are whole and lie inside the image, for affine
  transforms of scale one.

``--check`` fails on spills, on local memory and on accesses that are narrower than they can be.
"""

import argparse
import itertools
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas_version
from triton.compiler import ASTSource, CompiledKernel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import supervised_st
from benchmarks import markdown
from benchmarks.machine_code import Code, Functions
from benchmarks.records import Row, save
from supervised_st._sampler import fused, kernels, launches

ARCHITECTURES = (80, 90, 100)
KERNELS = ("forward", "theta_gradient", "image_gradient")
DTYPES = ("float64", "float32", "float16", "bfloat16", "uint8")
LAYOUTS = ((3, False), (64, True))
"""Channels, and whether the layout is channels_last."""

IMAGES, SIDE, LARGE_SIDE = 64, 256, 1 << 15
"""Images and outputs are square. The large ones need 64-bit offsets."""

CANDIDATES = {"bilinear": 9, "nearest": 4}
"""Output pixels that the image gradient looks at for each input pixel and affine transform of scale one."""

TAPS = {"bilinear": 4, "nearest": 1}

ACCESSES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "forward": {"image": ("LDG", ("inside_taps", "_masked_tap")), "out": ("STG", ("forward_kernel",))},
    "theta_gradient": {
        "image": ("LDG", ("inside_taps", "_masked_tap")),
        "grad": ("LDG", ("theta_gradient_kernel",)),
    },
    "image_gradient": {"grad": ("LDG", ("_add",)), "out": ("STG", ("image_gradient_kernel",))},
    "theta_reduction": {},
}
"""By kernel and tensor: the instruction that moves the tensor's values, and the functions that use it.

The first tensor's first function that reads at all is the one whose loop counts: float64 has no fast path inside the
image. Instructions are divided by the elements of the last tensor. Searches of whole outputs (``_add_block``) may read
values one by one.
"""

POINTERS = {
    torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8"
}  # fmt: skip
DIVISIBLE = [["tt.divisibility", 16]]
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
        kept = ("dtype", "channels", "channels_last", "architecture")
        return self == replace(Variant(self.kernel), **{name: getattr(self, name) for name in kept})


@dataclass(frozen=True)
class Launch:
    """What a kernel was launched with."""

    programs: int
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def threads(self) -> int:
        """Threads of one program."""
        return 32 * int(self.options["num_warps"])


def variants(*, is_full: bool) -> Iterator[Variant]:
    """Yield all dtypes, layouts and architectures with the usual options, and some of them with all options."""
    layouts: list[dict[str, Any]] = [{"channels": channels, "channels_last": last} for channels, last in LAYOUTS]
    options: list[dict[str, Any]] = [
        {"mode": mode, "padding_mode": padding, "align_corners": align}
        for mode, padding, align in itertools.product(TAPS, ("zeros", "border", "reflection", "fill"), (False, True))
    ]
    usual, others = options[0], options[1:]
    formats = [
        Variant(kernel, dtype, **layout, architecture=architecture)
        for kernel, dtype, layout, architecture in itertools.product(KERNELS, DTYPES, layouts, ARCHITECTURES)
        if (kernel, dtype) != ("image_gradient", "uint8")
    ]
    yield from formats
    yield from (Variant("theta_reduction", architecture=architecture) for architecture in ARCHITECTURES)
    if is_full:
        yield from (replace(variant, **option) for variant in formats for option in others)
    else:
        yield from (Variant(kernel, **option) for kernel, option in itertools.product(KERNELS, others))
        some: list[dict[str, Any]] = [{"padding_mode": "reflection"}, {"padding_mode": "fill"}, {"mode": "nearest"}]
        for kernel, option in itertools.product(KERNELS, some):
            yield Variant(kernel, **layouts[1], **usual | option)
    for kernel, layout in itertools.product(KERNELS, layouts):
        yield Variant(kernel, **layout, transforms=4)
        yield Variant(kernel, **layout, is_large=True)
    yield from (Variant(kernel, channels_last=True) for kernel in KERNELS)
    for kernel, dtype in itertools.product(KERNELS, ("float32", "float16")):
        yield Variant(kernel, dtype, channels=16, channels_last=True)
        yield Variant(kernel, dtype, channels=20)


def launch_of(variant: Variant) -> Launch:
    """Run the host code on tensors without memory and return what it would launch."""
    recorders = {f"{name}_kernel": mock.MagicMock() for name in (*KERNELS, "theta_reduction")}
    side = LARGE_SIDE if variant.is_large else SIDE
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    image = torch.empty(
        (IMAGES, variant.channels, side, side),
        dtype=getattr(torch, variant.dtype),
        device="meta",
        memory_format=layout,
    )
    blended_in = torch.float64 if variant.dtype == "float64" else torch.float32
    several = (variant.transforms,) if variant.transforms > 1 else ()
    theta = torch.empty((IMAGES, *several, 2, 3), dtype=blended_in, device="meta")
    constant = torch.empty(variant.channels, dtype=blended_in, device="meta")
    fill = constant if variant.padding_mode == "fill" else None
    mean = std = constant if variant.dtype == "uint8" else None
    options = (variant.mode, variant.padding_mode, variant.align_corners)
    with mock.patch.object(fused, "kernels", SimpleNamespace(**recorders)):
        grad = fused._forward(image, theta, fill, mean, std, side, side, *options)
        if variant.kernel == "image_gradient":
            fused._image_gradient(grad, theta, side, side, variant.channels_last, *options)
        elif variant.kernel != "forward":
            fused._theta_gradient(grad, image, theta, fill, mean, std, *options)
    recorder, names = recorders[f"{variant.kernel}_kernel"], kernel_of(variant).arg_names
    (grid,), (arguments, named) = recorder.__getitem__.call_args.args, recorder.__getitem__.return_value.call_args
    options_ = {name: value for name, value in named.items() if name not in names}
    return Launch(math.prod(grid), dict(zip(names, arguments, strict=False)) | named, options_)


def kernel_of(variant: Variant) -> triton.JITFunction:
    """Return the function that a variant compiles."""
    return getattr(kernels, f"{variant.kernel}_kernel")


def compiled(variant: Variant, launch: Launch) -> CompiledKernel:
    """Compile a kernel as Triton does at launch: it specializes on integers that are 1 or that 16 divides."""
    kernel = kernel_of(variant)
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        name, value = parameter.name, launch.arguments[parameter.name]
        signature[name] = "constexpr"
        if isinstance(value, Tensor):
            signature[name] = POINTERS[value.dtype]
            attributes[place,] = DIVISIBLE
        elif value is None or parameter.is_constexpr or (value == 1 and not parameter.do_not_specialize):
            constants[place,] = value
        else:
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0 and not parameter.do_not_specialize:
                attributes[place,] = DIVISIBLE
    source = ASTSource(kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", variant.architecture, 32), options=launch.options)


def report(variant: Variant) -> Row:
    """Compile one variant and read its machine code."""
    launch = launch_of(variant)
    kernel = compiled(variant, launch)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        resources, text = (
            subprocess.run([TOOLS / tool, *options, file.name], capture_output=True, text=True, check=True).stdout
            for tool, *options in (("cuobjdump", "--dump-resource-usage"), ("nvdisasm", "-c", "-g"))
        )
    code = Code(text, Functions(Path(kernels.__file__).parent.glob("*.py")))
    used = {key: int(value) for key, value in re.findall(r"\b(REG|STACK):(\d+)", resources)}
    # The gradient to theta of nearest pixels is zero, so its kernel reads no values.
    reads_nothing = variant.kernel == "theta_gradient" and variant.mode == "nearest"
    accesses = {} if reads_nothing else ACCESSES[variant.kernel]
    moved = {name: launch.arguments[name] for name in accesses}
    is_vectorized = variant.channels_last and variant.channels % launches.VECTORIZED == 0
    adjacent = variant.channels & -variant.channels if is_vectorized else 1  # neighboring threads take columns
    together = min(adjacent, launches.ACCESS // max((tensor.itemsize for tensor in moved.values()), default=1))
    return (
        asdict(variant)
        | {"name": variant.name, "is_usual": variant.is_usual}
        | {"registers": used["REG"], "stack_bytes": used["STACK"], "shared_bytes": kernel.metadata.shared}
        | {"local_accesses": len(code.accesses("LDL", "STL"))}
        | {
            "access_bytes": {
                name: min((one.width for one in code.accesses(operation, functions=functions)), default=0)
                for name, (operation, functions) in accesses.items()
            },
            "full_access_bytes": {name: together * tensor.itemsize for name, tensor in moved.items()},
            "instructions_per_element": instructions_per_element(variant, launch, code) if moved else None,
        }
    )


def instructions_per_element(variant: Variant, launch: Launch, code: Code) -> float | None:
    """Return the instructions of all threads over the output's elements, or ``None`` if no loop reads values."""
    given, accesses = launch.arguments, ACCESSES[variant.kernel]
    pixels = given["BLOCK"] / launch.threads
    # A thread passes over the affine transforms in the image gradient, and over the blocks of its tile elsewhere.
    if variant.kernel == "image_gradient":
        passes, values = given["maps"], pixels * given["VECTOR"] * given["GROUPS"] * CANDIDATES[variant.mode]
    else:
        passes = given["tile_rows"] * given["TILE_W"] / given["BLOCK"]
        values = pixels * given["channels"] * TAPS[variant.mode]
    first, last = given[next(iter(accesses))], given[list(accesses)[-1]]
    _, readers = next(iter(accesses.values()))
    counts = (code.instructions(reader, first.itemsize, passes=passes, values=values) for reader in readers)
    count = next((count for count in counts if count is not None), None)
    return None if count is None else count * launch.programs * launch.threads / last.numel()


def problems(row: Row) -> list[str]:
    """Return what is wrong with a variant."""
    found = []
    if row["stack_bytes"]:
        found.append(f"{row['stack_bytes']} bytes of stack")
    if row["local_accesses"]:
        found.append(f"{row['local_accesses']} accesses to local memory")
    for name, width in row["access_bytes"].items():
        full = row["full_access_bytes"][name]
        if width < full:
            found.append(f"accesses to {name} of {width} bytes, not {full}")
    if row["access_bytes"] and row["instructions_per_element"] is None:
        found.append("no loop that reads")
    return [f"{row['name']}: {what}" for what in found]


def check(rows: Sequence[Row]) -> None:
    """Exit with the names of the variants that have problems."""
    if found := [problem for row in rows for problem in problems(row)]:
        sys.exit("\n".join(found))


def cells(row: Row) -> list[str]:
    """Return a variant's row of the printed table."""
    count = row["instructions_per_element"]
    widths = ", ".join(f"{name} {width}" for name, width in row["access_bytes"].items())
    numbers = (row[name] for name in ("registers", "stack_bytes", "shared_bytes", "local_accesses"))
    return [row["name"], *map(str, numbers), widths, "" if count is None else f"{count:.1f}"]


def ptxas_versions() -> str:
    """Return the versions of the assemblers in use."""
    found = {re.search(r"release [\d.]+, V([\d.]+)", get_ptxas_version(architecture)) for architecture in ARCHITECTURES}
    return ", ".join(sorted({match[1] for match in found if match}))


def main() -> None:
    """Compile, print the table, and write and check it on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail on spills, local memory and narrow accesses")
    parser.add_argument("--full", action="store_true", help="compile every combination: half an hour")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    chosen = parser.parse_args()
    if fused.INTERPRETED:
        sys.exit("TRITON_INTERPRET is set: unset it, since interpreted kernels cannot be compiled")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(report, variants(is_full=chosen.full)))
    header = ["variant", "registers", "stack", "shared", "local", "bytes per access", "instructions per element"]
    print(markdown.table(header, map(cells, rows)))
    if chosen.json:
        versions = {"triton": triton.__version__, "ptxas": ptxas_versions(), "supervised-st": supervised_st.__version__}
        scenario = f"{IMAGES} images of {SIDE} x {SIDE} pixels, sampled at the same size"
        save(chosen.json, {"versions": versions, "scenario": scenario, "rows": rows})
    if chosen.check:
        check(rows)


if __name__ == "__main__":
    main()
