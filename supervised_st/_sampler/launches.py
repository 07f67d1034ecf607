"""How kernels are launched: tables by kernel and layout, adapted to the sizes of tensors. No tuning at run time."""

from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._sampler.options import Sampling

ACCESS = 16  # bytes; the most that one instruction reads
VECTORIZED = 16  # in channels_last images with a multiple of these channels, threads read `ACCESS` bytes at a time
INVERSE_BLOCK = 32  # transforms that one program inverts
REDUCTION_BLOCK = 128  # tiles of one transform whose sums are added at a time

# Tiles are made lower, and channels split into groups, until the GPU has this many programs to run at once.
PROGRAMS_PER_PROCESSOR = 8


class Launch(NamedTuple):
    """How one kernel is cut into programs, and the resources of a program."""

    block: int  #: pixels that a program works on at a time
    tile_width: int  #: columns of its tile
    tile_rows: int  #: rows of its tile, visited block by block
    vector: int  #: channels that it works on at a time, at most
    groups: int  #: such vectors whose reads overlap and that share weights, at most
    warps: int
    registers: int  #: limit per thread; with fewer registers more threads run, and more of their reads overlap


# In contiguous images neighboring threads take neighboring columns, so that reads and writes of a warp share cache
# lines. In channels_last images they take neighboring channels, four of them each (eight in half precision).
LAUNCHES = {
    ("forward", False): Launch(block=128, tile_width=32, tile_rows=64, vector=1, groups=4, warps=1, registers=136),
    ("theta_gradient", False): Launch(128, tile_width=32, tile_rows=64, vector=1, groups=3, warps=1, registers=184),
    ("image_gradient", False): Launch(128, tile_width=32, tile_rows=64, vector=1, groups=4, warps=1, registers=100),
    ("forward", True): Launch(block=64, tile_width=8, tile_rows=32, vector=64, groups=1, warps=8, registers=128),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, groups=1, warps=4, registers=168),
    ("image_gradient", True): Launch(block=64, tile_width=8, tile_rows=32, vector=64, groups=1, warps=4, registers=168),
}
"""By kernel and whether channels are vectorized. Results depend on launches, so they are never tuned at run time."""

FALLBACK_LAUNCHES = {
    ("forward", False): Launch(block=128, tile_width=32, tile_rows=64, vector=1, groups=4, warps=1, registers=255),
    ("theta_gradient", False): Launch(
        block=64, tile_width=32, tile_rows=64, vector=1, groups=4, warps=1, registers=255
    ),
    ("image_gradient", False): Launch(128, tile_width=32, tile_rows=64, vector=1, groups=4, warps=1, registers=255),
    ("image_search", False): Launch(block=256, tile_width=32, tile_rows=8, vector=1, groups=4, warps=4, registers=255),
    ("forward", True): Launch(block=32, tile_width=8, tile_rows=32, vector=64, groups=1, warps=4, registers=255),
    ("theta_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, groups=1, warps=4, registers=255),
    ("image_gradient", True): Launch(block=16, tile_width=8, tile_rows=32, vector=64, groups=1, warps=4, registers=255),
    ("image_search", True): Launch(block=16, tile_width=8, tile_rows=2, vector=64, groups=1, warps=4, registers=255),
}
"""For cases that need more registers: other padding and modes, float64, uint8, large images, several transforms."""

# Output pixels, and columns of them, in one block of the image gradient's search by blocks; by vectorization.
OUT_BLOCK = {False: (4, 2), True: (2, 1)}


class Grid(NamedTuple):
    """The grid of a launch for given sizes."""

    tiles: int  #: per transform
    tile_rows: int
    groups: int  #: of channels, one program for each
    passes: int  #: over the channels of a group


class ImageGrid(NamedTuple):
    """The grid of a launch for the image gradient."""

    tiles: int  #: per image
    tile_rows: int
    programs: int  #: for each group of channels: tiles of all images
    work: int  #: tiles of all images and groups


def make_grid(launch: Launch, transforms: int, channels: int, size: tuple[int, int], processors: int) -> Grid:
    """Cut the work into enough programs: lower tiles first, then groups of channels."""
    across, wanted = -(-size[1] // launch.tile_width), processors * PROGRAMS_PER_PROCESSOR
    rows = _tile_rows(launch, size[0], transforms * across, wanted)
    tiles = across * -(-size[0] // rows)
    passes = channels // (launch.vector * launch.groups)  # of a program that has all channels
    least = -(-passes // max(1, wanted // max(1, transforms * tiles)))
    fewer = next(n for n in range(least, passes + 1) if passes % n == 0)
    return Grid(tiles, rows, passes // fewer, fewer)


def make_image_grid(launch: Launch, batch: int, channels: int, size: tuple[int, int], processors: int) -> ImageGrid:
    """Cut images into enough tiles; a program has one pass over channels."""
    across, groups = -(-size[1] // launch.tile_width), channels // (launch.vector * launch.groups)
    rows = _tile_rows(launch, size[0], batch * groups * across, processors * PROGRAMS_PER_PROCESSOR)
    tiles = across * -(-size[0] // rows)
    return ImageGrid(tiles, rows, batch * tiles, batch * tiles * groups)


def _tile_rows(launch: Launch, height: int, programs: int, wanted: int) -> int:
    """Return the rows of a tile: so few that there are enough programs, of which each row of tiles has ``programs``."""
    rows, step = launch.tile_rows, launch.block // launch.tile_width
    while rows > step and programs * -(-height // rows) < wanted:
        rows //= 2
    return rows


def search_programs(launch: Launch, processors: int) -> int:
    """Return how many programs fill the GPU once with the search for gradients to the image."""
    return processors * PROGRAMS_PER_PROCESSOR // launch.warps


def has_usual_transforms(sampling: Sampling, dtype: torch.dtype) -> bool:
    """Return whether there is a kernel for usual transforms: padding must not move coordinates."""
    return sampling.padding_mode in ("zeros", "fill") and dtype != torch.float64


def choose_launch(kernel: str, is_vectorized: bool, image: Tensor, sampling: Sampling, is_demanding: bool) -> Launch:
    """Return the launch tuned for the common case, or else the fallback.

    ``image`` is the tensor whose channels are read: the image, or the gradient to the output. The case is demanding if
    offsets need 64 bits, or if an input pixel gathers from several transforms.
    """
    is_common = (
        sampling.mode == "bilinear"
        and sampling.padding_mode == "zeros"
        and image.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and not is_demanding
        and (is_vectorized or image.stride(-1) == 1)
    )
    key = kernel, is_vectorized
    launch = LAUNCHES[key] if is_common and key in LAUNCHES else FALLBACK_LAUNCHES[key]
    # The number of channels allows the largest power of two that divides it; float64 half as many. With few channels a
    # program takes more pixels, so that each thread still reads `ACCESS` bytes; uint8 counts as the float32 it becomes.
    channels, block = image.shape[-3], launch.block
    most = max(1, launch.vector // 2) if image.dtype == torch.float64 else launch.vector
    vector = min(most, channels & -channels)
    if launch.vector > 1:
        itemsize = 4 if image.dtype == torch.uint8 else image.itemsize
        block = max(block, 32 * launch.warps * ACCESS // (vector * itemsize))
    groups = next(n for n in range(launch.groups, 0, -1) if channels // vector % n == 0)
    rows = max(launch.tile_rows, block // launch.tile_width)
    return launch._replace(block=block, tile_rows=rows, vector=vector, groups=groups)


def compile_options(launch: Launch) -> dict[str, int]:
    """Return the options for Triton's compiler. On ROCm it has no option for a limit of registers."""
    limit = {"maxnreg": launch.registers} if torch.version.hip is None else {}
    return {"num_warps": launch.warps, **limit}
