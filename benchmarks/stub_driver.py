"""A CUDA driver that does nothing, so that Triton's own launcher runs on tensors of the CPU, without a GPU.

Kernels are compiled for sm_90 and launched like on a GPU, by the same Python and C; only the driver's functions return
at once. Results are not computed.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import triton
from triton.backends import nvidia
from triton.backends.nvidia.driver import CudaDriver

from supervised_st._sampler import replay

COMPUTE_CAPABILITY = (9, 0)
LIBRARY = "libcuda.so.1"
ENOUGH = 1 << 20  # the value of all attributes: bytes of shared memory, threads of a block and others


class StubDriver(CudaDriver):
    """Triton's driver for CUDA, without what asks torch about GPUs."""

    def __init__(self) -> None:
        super().__init__()
        self.get_device_capability = lambda device: COMPUTE_CAPABILITY
        self.stream = 0
        self.get_current_device = lambda: 0
        self.get_current_stream = lambda device: self.stream


def compiler() -> str | None:
    """Return the C compiler that Triton would use too, or None where there is none."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")


def build(folder: Path) -> Path:
    """Compile the library: every function of the driver that Triton calls."""
    sources = (Path(nvidia.__path__[0]) / name for name in ("driver.c", "driver.py"))
    names = sorted({name for source in sources for name in re.findall(r"\bcu[A-Z]\w+", source.read_text())})
    names.remove("cuModuleGetFunction")  # Every kernel has a handle of its own.
    of_attributes = [name for name in names if name.endswith("GetAttribute") and name != "cuPointerGetAttribute"]
    others = [name for name in names if name not in of_attributes]
    lines = ["int cuModuleGetFunction(long *function) { static long count; *function = ++count; return 0; }"]
    lines += [f"int {name}(int *value) {{ *value = {ENOUGH}; return 0; }}" for name in of_attributes]
    lines += [f"int {name}() {{ return 0; }}" for name in others]
    (folder / "stub.c").write_text("\n".join([*lines, ""]))
    library = folder / LIBRARY
    options = ["-shared", "-fPIC", "-w", f"-Wl,-soname,{LIBRARY}"]
    subprocess.run([compiler() or "cc", *options, folder / "stub.c", "-o", library], check=True)
    return library


def activate(folder: Path) -> None:
    """Make Triton launch with the stub, which is built in ``folder``, and let the sampler do so on the CPU."""
    if replay.INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET is set: unset it, since interpreted kernels are not launched")
    library = build(folder)
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)  # where the linker finds it
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)  # The loader takes a library of this name that is there already.
    triton.runtime.driver.set_active(StubDriver())
    replay.runs_on = lambda device: True
