"""How kernels are launched: tables by kernel and layout, adapted to the sizes of tensors. No tuning at run time."""

from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._sampler.options import Sampling

ACCESS = 16  # bytes; the most that one instruction reads
VECTORIZED = 16  # in channels_last images with a multiple of these channels, threads read `ACCESS` bytes at a time
REDUCTION_BLOCK = 128  # tiles of one transform whose sums are added at a time

# Tiles are made lower, and channels split into groups, until the GPU has this many programs to run at once.
PROGRAMS_PER_PROCESSOR = 8


class Launch(NamedTuple):
    """How one kernel is cut into programs, and the resources of a program."""

    block: int  #: pixels that a program works on at a time
    tile_width: int  #: columns of its tile
    tile_rows: int  #: rows of its tile, visited block by block
    vector: int  #: channels that it works on at a time, at most
    warps: int
    registers: int  #: limit per thread; with fewer registers more threads run, and more of their reads overlap


# In contiguous images neighboring threads take neighboring columns, so that reads and writes of a warp share cache
# lines. In channels_last images they take neighboring channels, four of them each (eight in half precision).
LAUNCHES = {
    ("forward", False): Launch(block=256, tile_width=32, tile_rows=32, vector=1, warps=4, registers=64),
    ("theta_gradient", False): Launch(block=256, tile_width=32, tile_rows=32, vector=1, warps=4, registers=80),
    ("image_gradient", False): Launch(block=256, tile_width=32, tile_rows=8, vector=1, warps=2, registers=255),
    ("forward", True): Launch(block=64, tile_width=8, tile_rows=32, vector=64, warps=8, registers=128),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, warps=4, registers=168),
    ("image_gradient", True): Launch(block=64, tile_width=8, tile_rows=8, vector=64, warps=4, registers=255),
}
"""By kernel and whether channels are vectorized. Results depend on launches, so they are never tuned at run time."""

FALLBACK_LAUNCHES = {
    ("forward", False): Launch(block=512, tile_width=32, tile_rows=128, vector=1, warps=4, registers=255),
    ("theta_gradient", False): Launch(block=512, tile_width=32, tile_rows=128, vector=1, warps=4, registers=255),
    ("image_gradient", False): Launch(block=256, tile_width=32, tile_rows=8, vector=1, warps=4, registers=255),
    ("forward", True): Launch(block=32, tile_width=8, tile_rows=32, vector=64, warps=4, registers=255),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, warps=4, registers=255),
    ("image_gradient", True): Launch(block=16, tile_width=8, tile_rows=2, vector=64, warps=4, registers=255),
}
"""For cases that need more registers: other padding and other modes, float64, uint8 and large images."""

# Most channels for which the image gradient computes weights once, where channels are not vectorized.
GATHER_GROUPS = 4

# Output pixels, and columns of them, in one block of the image gradient's search by blocks; by vectorization.
OUT_BLOCK = {False: (4, 2), True: (2, 1)}


class Grid(NamedTuple):
    """The grid of a launch for given sizes."""

    tiles: int  #: per transform
    tile_rows: int
    groups: int  #: of channels
    channels: int  #: per group


def make_grid(launch: Launch, transforms: int, channels: int, size: tuple[int, int], processors: int) -> Grid:
    """Cut the work into enough programs: lower tiles first, then groups of channels."""
    height, width = size
    across = -(-width // launch.tile_width)
    rows, step = launch.tile_rows, launch.block // launch.tile_width
    wanted = processors * PROGRAMS_PER_PROCESSOR
    while rows > step and transforms * across * -(-height // rows) < wanted:
        rows //= 2
    tiles = across * -(-height // rows)
    groups = min(max(1, wanted // max(1, transforms * tiles)), channels // launch.vector)
    per_group = -(-channels // (groups * launch.vector)) * launch.vector
    return Grid(tiles, rows, -(-channels // per_group), per_group)


def choose_launch(kernel: str, is_vectorized: bool, image: Tensor, sampling: Sampling, is_large: bool) -> Launch:
    """Return the launch tuned for the common case, or else the fallback.

    ``image`` is the tensor whose channels are read: the image, or the gradient to the output. It is large if offsets
    need 64 bits.
    """
    is_common = (
        sampling.mode == "bilinear"
        and sampling.padding_mode == "zeros"
        and image.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and not is_large
        and (is_vectorized or image.stride(-1) == 1)
    )
    launch = (LAUNCHES if is_common else FALLBACK_LAUNCHES)[kernel, is_vectorized]
    # The number of channels allows the largest power of two that divides it; float64 half as many. With few channels a
    # program takes more pixels, so that each thread still reads `ACCESS` bytes; uint8 counts as the float32 it becomes.
    channels, block = image.shape[-3], launch.block
    most = max(1, launch.vector // 2) if image.dtype == torch.float64 else launch.vector
    vector = min(most, channels & -channels)
    if launch.vector > 1:
        itemsize = 4 if image.dtype == torch.uint8 else image.itemsize
        block = max(block, 32 * launch.warps * ACCESS // (vector * itemsize))
    return launch._replace(block=block, tile_rows=max(launch.tile_rows, block // launch.tile_width), vector=vector)


def compile_options(launch: Launch) -> dict[str, int]:
    """Return the options for Triton's compiler. On ROCm it has no option for a limit of registers."""
    limit = {"maxnreg": launch.registers} if torch.version.hip is None else {}
    return {"num_warps": launch.warps, **limit}
