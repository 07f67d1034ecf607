"""Compile every kernel for every architecture without a GPU and report what each costs.

    python benchmarks/static_report.py [--json FILE]

Each row is one kernel variant: registers per thread, bytes of stack (spills and local arrays) and of shared memory, as
the assembler states them in the machine code.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from supervised_st import _fused, _kernels

ARCHITECTURES = (80, 90, 100)
BLENDED_IN = {"fp64": "fp64", "fp32": "fp32", "fp16": "fp32", "bf16": "fp32"}
PADDING_MODES = ("zeros", "border", "reflection", "fill")
KERNELS = ("forward_kernel", "theta_gradient_kernel", "image_gradient_kernel")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@dataclass(frozen=True)
class Variant:
    """One kernel with its compile-time arguments."""

    kernel: str
    dtype: str
    mode: str
    padding_mode: str
    align_corners: bool
    architecture: int


@dataclass(frozen=True)
class Resources:
    """What a thread of a kernel takes."""

    registers: int
    stack_bytes: int
    shared_bytes: int


def variants() -> Iterator[Variant]:
    """Every kernel x dtype x architecture in the default mode, and every kernel x option in float32 for sm_90."""
    for kernel, dtype, architecture in itertools.product(KERNELS, BLENDED_IN, ARCHITECTURES):
        yield Variant(kernel, dtype, "bilinear", "zeros", False, architecture)
    for kernel, mode, padding_mode, align in itertools.product(
        KERNELS, ("bilinear", "nearest"), PADDING_MODES, (False, True)
    ):
        if (mode, padding_mode, align) != ("bilinear", "zeros", False):
            yield Variant(kernel, "fp32", mode, padding_mode, align, 90)


def machine_code(variant: Variant) -> bytes:
    """Compile one variant for images of three planes, as it is launched for them."""
    kernel = getattr(_kernels, variant.kernel)
    blended_in = BLENDED_IN[variant.dtype]
    launch = _fused.LAUNCHES[variant.kernel.removesuffix("_kernel"), False]
    out_block, out_width = _fused.OUT_BLOCK[False]
    constants: dict[str, object] = {
        "MODE": variant.mode, "PADDING": variant.padding_mode, "ALIGN": variant.align_corners, "ROUNDING": 2.0**-23,
        "ACC": tl.float64 if blended_in == "fp64" else tl.float32, "NORMALISED": False, "OFFSET": tl.int32,
        "LAST": False, "BLOCK": launch.block, "TILE_W": launch.tile_width, "VECTOR": launch.vector, "GROUPS": 3,
        "OUT_BLOCK": out_block, "OUT_W": out_width, "maps": 1, "stride_w": 1, "grad_w": 1, "mean": None, "std": None,
    }  # fmt: skip
    if variant.padding_mode != "fill":
        constants["fill"] = None
    pointers = dict.fromkeys(("image", "grad", "out"), variant.dtype)
    pointers |= {"theta": "fp32", "fill": blended_in, "partials": "fp64"}
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else f"*{pointers[name]}" if name in pointers else "i32"
        for name in names
    }
    fixed = {(names.index(name),): value for name, value in constants.items() if name in signature}
    aligned = {
        (names.index(name),): [["tt.divisibility", 16]] for name in pointers if signature.get(name, "")[:1] == "*"
    }
    options = _fused.compile_options(launch, variant.padding_mode)
    source = ASTSource(kernel, signature, fixed, aligned)
    return triton.compile(source, target=GPUTarget("cuda", variant.architecture, 32), options=options).asm["cubin"]


def resources(variant: Variant) -> Resources:
    """Compile one variant and read its resource usage from the machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(machine_code(variant))
        file.flush()
        shown = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|SHARED):(\d+)", shown.stdout)}
    return Resources(registers=found["REG"], stack_bytes=found["STACK"], shared_bytes=found["SHARED"])


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    if not isinstance(_kernels.forward_kernel, triton.JITFunction):
        sys.exit("TRITON_INTERPRET is set: the interpreter's kernels cannot be compiled")
    rows = list(variants())
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = list(pool.map(resources, rows))
    print(
        f"{'kernel':24}{'dtype':6}{'mode':10}{'padding':12}{'corners':9}{'sm':4}{'registers':>11}{'stack':>7}{'shared':>8}"
    )
    for row, used in zip(rows, found, strict=True):
        print(
            f"{row.kernel:24}{row.dtype:6}{row.mode:10}{row.padding_mode:12}{row.align_corners!s:9}{row.architecture:<4}"
            f"{used.registers:11}{used.stack_bytes:7}{used.shared_bytes:8}"
        )
    if arguments.json:
        table = [asdict(row) | asdict(used) for row, used in zip(rows, found, strict=True)]
        arguments.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
