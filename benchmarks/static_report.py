"""Compile every kernel without a GPU, for three generations of them, and report what its machine code costs.

    python benchmarks/static_report.py [--json FILE] [--markdown] [--check] [--full]

Each row is one variant of a kernel: registers and stack (where registers are spilled to) per thread, shared memory,
loads and stores of local memory, bytes per access, instructions per element, and the share of the bandwidth of a plain
copy that these leave on an H100 and on an H200. Launches are recorded from `fused`, not rebuilt.

Instructions are counted on the cheapest way through the machine code: tiles that are whole and lie inside of the
image, maps of scale one. `--check` fails on spills, local memory and accesses that are narrower than they can be.
Planes are read one value at a time by design: neighboring threads take neighboring columns.
"""

import argparse
import itertools
import json
import math
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
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
from benchmarks.machine_code import Code, Functions, walk
from benchmarks.roofline import ARCHITECTURE, DEVICES, Row, share, table
from supervised_st._sampler import fused, kernels, launches, operators

ARCHITECTURES = (80, 90, 100)
KERNELS = ("forward", "theta_gradient", "image_gradient")
DTYPES = ("float64", "float32", "float16", "bfloat16", "uint8")
MODES = ("bilinear", "nearest")
PADDING_MODES = ("zeros", "border", "reflection", "fill")
LAYOUTS = ((3, False), (64, True))
"""Channels, and whether they are innermost."""

IMAGES, SIDE, LARGE_SIDE = 64, 256, 1 << 15
"""Images and outputs are square; planes of the large ones need offsets of 64 bits."""

CANDIDATES = {"bilinear": 9, "nearest": 4}
"""Output pixels that the image gradient looks at for each input pixel and map of scale one."""

TAPS = {"bilinear": 4, "nearest": 1}

READS_IMAGE = ("inside_taps", "_masked_tap")
ACCESSES = {
    "forward": {"image": ("LDG", READS_IMAGE), "out": ("STG", ("forward_kernel",))},
    "theta_gradient": {"image": ("LDG", READS_IMAGE), "grad": ("LDG", ("theta_gradient_kernel",))},
    "image_gradient": {"grad": ("LDG", ("_add",)), "out": ("STG", ("image_gradient_kernel",))},
    "theta_reduction": {},
}
"""Which instructions of which functions move values of each tensor.

The loop that counts is the one in which the first tensor is read, by the first of its functions that reads at all: in
float64 nothing is done in its own way inside of the image. Costs are divided by the elements of the last tensor.
Searches of whole outputs (``_add_block``) are held to no width.
"""

POINTERS = {
    torch.float64: "*fp64", torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8"
}  # fmt: skip
DIVISIBLE = [["tt.divisibility", 16]]
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Variant:
    """One kernel as it is launched for images of one kind; no mean and no std unless they are uint8."""

    kernel: str
    dtype: str = "float32"
    channels: int = 3
    channels_last: bool = False
    mode: str = "bilinear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    maps: int = 1
    is_large: bool = False
    architecture: int = ARCHITECTURE

    @property
    def name(self) -> str:
        """What tells it from others."""
        flags = {"corners": self.align_corners, "large": self.is_large, f"{self.maps} maps": self.maps > 1}
        layout = f"{self.channels} channels {'innermost' if self.channels_last else 'in planes'}"
        parts = [self.kernel, f"sm_{self.architecture}", self.dtype, layout, self.mode, self.padding_mode]
        return ", ".join([*parts, *(flag for flag, is_set in flags.items() if is_set)])

    @property
    def is_usual(self) -> bool:
        """Whether all but kernel, format, layout and architecture is at its default."""
        kept = ("dtype", "channels", "channels_last", "architecture")
        return self == replace(Variant(self.kernel), **{name: getattr(self, name) for name in kept})


@dataclass(frozen=True)
class Launch:
    """What a kernel was launched with."""

    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def threads(self) -> int:
        """Of one program."""
        return 32 * self.options["num_warps"]


def variants(*, is_full: bool) -> Iterator[Variant]:
    """Yield all formats, layouts and architectures for the usual options, and all options for some of them."""
    layouts = [{"channels": channels, "channels_last": last} for channels, last in LAYOUTS]
    options = [
        {"mode": mode, "padding_mode": padding, "align_corners": align}
        for mode, padding, align in itertools.product(MODES, PADDING_MODES, (False, True))
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
        innermost = [{"padding_mode": "reflection"}, {"padding_mode": "fill"}, {"mode": "nearest"}]
        for kernel, option in itertools.product(KERNELS, innermost):
            yield Variant(kernel, **layouts[1], **usual | option)
    for kernel, layout in itertools.product(KERNELS, layouts):
        yield Variant(kernel, **layout, maps=4)
        yield Variant(kernel, **layout, is_large=True)
    yield from (Variant(kernel, channels_last=True) for kernel in KERNELS)
    for kernel, dtype in itertools.product(KERNELS, ("float32", "float16")):
        yield Variant(kernel, dtype, channels=16, channels_last=True)
        yield Variant(kernel, dtype, channels=20)


class _Recorder:
    """Stands in for a kernel and keeps what it is launched with."""

    def __init__(self, kernel: triton.JITFunction) -> None:
        self._names = kernel.arg_names
        self._grid: tuple[int, ...] = ()
        self.launch: Launch | None = None

    def __getitem__(self, grid: tuple[int, ...]) -> "_Recorder":
        self._grid = grid
        return self

    def __call__(self, *arguments: object, **named: object) -> None:
        bound = dict(zip(self._names, arguments, strict=False))
        bound |= {name: named.pop(name) for name in self._names if name in named}
        self.launch = Launch(self._grid, bound, named)


def launch_of(variant: Variant) -> Launch:
    """Run the launching code on tensors without memory and return what it would have launched."""
    recorders = {
        f"{name}_kernel": _Recorder(getattr(kernels, f"{name}_kernel")) for name in (*KERNELS, "theta_reduction")
    }
    side = LARGE_SIDE if variant.is_large else SIDE
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    image = torch.empty(
        (IMAGES, variant.channels, side, side),
        dtype=getattr(torch, variant.dtype),
        device="meta",
        memory_format=layout,
    )
    blended_in = torch.float64 if variant.dtype == "float64" else torch.float32
    several = (variant.maps,) if variant.maps > 1 else ()
    theta = torch.empty((IMAGES, *several, 2, 3), dtype=blended_in, device="meta")
    constant = torch.empty(variant.channels, dtype=blended_in, device="meta")
    fill = constant if variant.padding_mode == "fill" else None
    mean = std = constant if variant.dtype == "uint8" else None
    options = (variant.mode, variant.padding_mode, variant.align_corners)
    with mock.patch.object(fused, "kernels", SimpleNamespace(Build=kernels.Build, **recorders)):
        grad = fused.launch_forward(operators.Forward(image, theta, fill, mean, std, side, side, *options))
        if variant.kernel == "image_gradient":
            last = variant.channels_last
            fused.launch_image_gradient(operators.ImageGradient(grad, theta, side, side, last, *options))
        elif variant.kernel != "forward":
            fused.launch_theta_gradient(operators.ThetaGradient(grad, image, theta, fill, mean, std, *options))
    launch = recorders[f"{variant.kernel}_kernel"].launch
    assert launch is not None
    return launch


def compiled(variant: Variant, launch: Launch) -> CompiledKernel:
    """Compile a kernel as Triton does for these arguments: it keeps numbers that are 1, and what 16 divides."""
    kernel = getattr(kernels, f"{variant.kernel}_kernel")
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
    return (
        asdict(variant)
        | {"name": variant.name, "is_usual": variant.is_usual}
        | {"registers": used["REG"], "stack_bytes": used["STACK"], "shared_bytes": kernel.metadata.shared}
        | {"local_accesses": len(code.accesses("LDL", "STL"))}
        | widths(variant, launch, code)
        | instructions(variant, launch, code)
    )


def widths(variant: Variant, launch: Launch, code: Code) -> Row:
    """Return the narrowest access to each tensor, 0 if none was found, and how wide it can be."""
    is_vectorized = variant.channels_last and variant.channels % launches.VECTORIZED == 0
    adjacent = variant.channels & -variant.channels if is_vectorized else 1
    tensors = {name: launch.arguments[name] for name in accesses(variant)}
    together = min(adjacent, launches.ACCESS // max((tensor.itemsize for tensor in tensors.values()), default=1))
    narrowest, full = {}, {}
    for name, (operation, functions) in accesses(variant).items():
        full[name] = together * tensors[name].itemsize
        narrowest[name] = min((one.width for one in code.accesses(operation, functions=functions)), default=0)
    return {"access_bytes": narrowest, "full_access_bytes": full}


def accesses(variant: Variant) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return what moves values: nothing where the nearest pixel has no slope."""
    has_slope = variant.kernel != "theta_gradient" or variant.mode != "nearest"
    return ACCESSES[variant.kernel] if has_slope else {}


def instructions(variant: Variant, launch: Launch, code: Code) -> Row:
    """Return the instructions and the bytes per element, None where there is no loop that reads values."""
    used = accesses(variant)
    moved = [launch.arguments[name] for name in used]
    functions = next(iter(used.values()))[1] if used else ()
    found = next((way for function in functions if (way := walk(code, function, moved[0].itemsize))), None)
    if found is None:
        return {"instructions_per_element": None, "bytes_per_element": None}
    elements = moved[-1].numel()
    threads = math.prod(launch.grid) * launch.threads
    return {
        "walk": asdict(found),
        "instructions_per_element": found.instructions(*trips(variant, launch)) * threads / elements,
        "bytes_per_element": sum(tensor.numel() * tensor.itemsize for tensor in moved) / elements,
    }


def trips(variant: Variant, launch: Launch) -> tuple[float, float]:
    """Return the values that a thread reads per pass of the outermost loop, and its passes: over blocks or maps."""
    given, build = launch.arguments, launch.arguments["BUILD"]
    pixels = build.block / launch.threads
    if variant.kernel == "image_gradient":
        return pixels * build.vector * build.groups * CANDIDATES[variant.mode], given["transforms"]
    return pixels * given["channels"] * TAPS[variant.mode], given["tile_rows"] / build.block_rows


def problems(row: Row) -> list[str]:
    """Say what is wrong with a variant."""
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


def line(row: Row) -> str:
    """Return a variant's line of the printed table."""
    accesses = ",".join(f"{name}:{width}" for name, width in row["access_bytes"].items())
    count, shares = "", [""] * len(DEVICES)
    if row["instructions_per_element"] is not None:
        count = f"{row['instructions_per_element']:.1f}"
        if row["architecture"] == ARCHITECTURE:
            shares = [f"{share(device, row):.0%}" for device in DEVICES]
    return _line(
        row["name"], row["registers"], row["stack_bytes"], row["shared_bytes"], row["local_accesses"], accesses, count,
        *shares,
    )  # fmt: skip


def _line(name: object, *cells: object) -> str:
    return f"{name:84}" + "".join(f"{cell!s:>{width}}" for cell, width in zip(cells, COLUMNS, strict=True))


COLUMNS = (10, 6, 7, 6, 17, 13, *(10 for _ in DEVICES))


def ptxas_versions() -> str:
    """Return the releases of the assemblers in use."""
    found = {re.search(r"release [\d.]+, V([\d.]+)", get_ptxas_version(architecture)) for architecture in ARCHITECTURES}
    return ", ".join(sorted({match[1] for match in found if match}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it elsewhere where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--markdown", action="store_true", help="print the usual variants as Markdown instead")
    parser.add_argument("--check", action="store_true", help="fail on spills, local memory and narrow accesses")
    parser.add_argument("--full", action="store_true", help="compile every combination, for half an hour")
    chosen = parser.parse_args(arguments)
    if fused.INTERPRETED:
        sys.exit("TRITON_INTERPRET is set: the interpreter's kernels cannot be compiled")
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(report, variants(is_full=chosen.full)))
    versions = {"triton": triton.__version__, "ptxas": ptxas_versions(), "supervised-st": supervised_st.__version__}
    whole = {
        "versions": versions,
        "date": datetime.now(UTC).date().isoformat(),
        "scenario": f"{IMAGES} images of {SIDE} x {SIDE} pixels, sampled at as many",
        "rows": rows,
    }
    if chosen.markdown:
        print(table(whole))
    else:
        titles = ("registers", "stack", "shared", "local", "access bytes", "instructions", *(d.name for d in DEVICES))
        print("\n".join([_line("variant", *titles), *map(line, rows)]))
    if chosen.json:
        head = json.dumps({name: value for name, value in whole.items() if name != "rows"}, indent=1)[:-2]
        body = ",\n".join(map(json.dumps, rows))
        chosen.json.write_text(f'{head},\n "rows": [\n{body}\n]}}\n')
    if chosen.check:
        check(rows)


if __name__ == "__main__":
    main()
