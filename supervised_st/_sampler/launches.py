"""How kernels are cut into programs: tables, what they come to for given sizes; nothing is tuned at run time."""

from typing import NamedTuple

import torch
from torch import Tensor

VECTORIZED = 16
"""Where channels are innermost and their number is a multiple of this, threads read `ACCESS` bytes at a time."""

ACCESS = 16
"""Bytes; the most that one instruction reads."""

REDUCTION_BLOCK = 128
"""Tiles of one map that are added at a time."""

PROGRAMS_PER_PROCESSOR = 8
"""Tiles are made smaller, and channels shared out, until the GPU has so many programs to run at the same time."""


class Launch(NamedTuple):
    """How one kernel is cut into programs, and what it may take."""

    block: int  #: pixels that a program works on at a time
    tile_width: int  #: columns of its tile
    tile_rows: int  #: rows of its tile, walked block by block
    vector: int  #: channels that it works on at a time, at most
    warps: int
    registers: int  #: per thread, at most; fewer of them leave room for more threads, whose reads are then under way


# In planes, neighboring threads take neighboring columns, so that reads and writes of a warp share cache lines. Where
# channels are innermost, they take neighboring channels, four (or eight halves) of them each.
LAUNCHES = {
    ("forward", False): Launch(block=256, tile_width=32, tile_rows=32, vector=1, warps=4, registers=64),
    ("theta_gradient", False): Launch(block=256, tile_width=32, tile_rows=32, vector=1, warps=4, registers=80),
    ("image_gradient", False): Launch(block=256, tile_width=32, tile_rows=8, vector=1, warps=2, registers=255),
    ("forward", True): Launch(block=64, tile_width=8, tile_rows=32, vector=64, warps=8, registers=128),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, warps=4, registers=168),
    ("image_gradient", True): Launch(block=64, tile_width=8, tile_rows=8, vector=64, warps=4, registers=255),
}
"""By kernel and whether channels are vectorized. Launches are never tuned at run time: results depend on them."""

ROOMY_LAUNCHES = {
    ("forward", False): Launch(block=512, tile_width=32, tile_rows=128, vector=1, warps=4, registers=255),
    ("theta_gradient", False): Launch(block=512, tile_width=32, tile_rows=128, vector=1, warps=4, registers=255),
    ("image_gradient", False): Launch(block=256, tile_width=32, tile_rows=8, vector=1, warps=4, registers=255),
    ("forward", True): Launch(block=32, tile_width=8, tile_rows=32, vector=64, warps=4, registers=255),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, warps=4, registers=255),
    ("image_gradient", True): Launch(block=16, tile_width=8, tile_rows=2, vector=64, warps=4, registers=255),
}
"""For what would not fit into those registers: mirrors, other formats and modes, and large images."""

GATHER_GROUPS = 4
"""Channels of planes for which the image gradient computes weights once, at most."""

OUT_BLOCK = {False: (4, 2), True: (2, 1)}
"""Output pixels, and columns of them, that all input pixels of a tile are held against together."""


class Grid(NamedTuple):
    """What a launch comes to for given sizes."""

    tiles: int  #: per map
    tile_rows: int
    groups: int  #: of channels
    channels: int  #: per group


def plan(launch: Launch, maps: int, channels: int, size: tuple[int, int], processors: int) -> Grid:
    """Cut the work into enough programs: lower tiles first, then groups of channels."""
    height, width = size
    across = -(-width // launch.tile_width)
    rows, step = launch.tile_rows, launch.block // launch.tile_width
    wanted = processors * PROGRAMS_PER_PROCESSOR
    while rows > step and maps * across * -(-height // rows) < wanted:
        rows //= 2
    tiles = across * -(-height // rows)
    groups = min(max(1, wanted // max(1, maps * tiles)), channels // launch.vector)
    per_group = -(-channels // (groups * launch.vector)) * launch.vector
    return Grid(tiles, rows, -(-channels // per_group), per_group)


def choose_launch(
    kernel: str, is_vectorized: bool, image: Tensor, mode: str, padding_mode: str, is_large: bool
) -> Launch:
    """Take the launch that was tuned for the usual case, or the one in which every case finds room.

    Large is what needs offsets of 64 bits.
    """
    is_usual = (
        mode == "bilinear"
        and padding_mode == "zeros"
        and image.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and not is_large
        and (is_vectorized or image.stride(-1) == 1)
    )
    return _fit((LAUNCHES if is_usual else ROOMY_LAUNCHES)[kernel, is_vectorized], image.shape[-3], image.dtype)


def _fit(launch: Launch, channels: int, dtype: torch.dtype) -> Launch:
    """Take the largest power of two that divides the channels, up to the launch's; float64 takes half as many.

    Of few channels more pixels are taken, so that each thread still reads `ACCESS` bytes at a time; of bytes it reads
    as many as there are floats in that, which they become.
    """
    most = max(1, launch.vector // 2) if dtype == torch.float64 else launch.vector
    vector, block = min(most, channels & -channels), launch.block
    if launch.vector > 1:
        itemsize = 4 if dtype == torch.uint8 else dtype.itemsize
        block = max(block, 32 * launch.warps * ACCESS // (vector * itemsize))
    return launch._replace(block=block, tile_rows=max(launch.tile_rows, block // launch.tile_width), vector=vector)


def compile_options(launch: Launch) -> dict[str, int]:
    """What the compiler is told. ROCm's takes no limit of registers."""
    options = {"num_warps": launch.warps}
    if torch.version.hip is None:
        options["maxnreg"] = launch.registers
    return options
