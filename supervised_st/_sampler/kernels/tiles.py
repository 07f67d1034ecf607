"""A program's tile, cut into blocks of pixels: where they are, whether they lie in the image, and what they read."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    GUARD_BITS,
    block_range,
    coordinate,
    fixed_row,
    pixel_range,
    sources,
    split_fixed,
)

RUNTIME = ["H", "W", "h", "w", "programs", "tiles", "tile_rows"]
"""Sizes for which Triton does not compile a kernel again when they are 1 or divisible by 16."""


@triton.jit
def tile_of(program, tiles, tile_rows, h, w, BUILD: tl.constexpr):
    """Return a program's transform, and its tile's first column, first row and the row after its last.

    The tiles of a transform are in reading order.
    """
    at = program // tiles
    tile = program - at * tiles
    across = (w + (BUILD.tile_width - 1)) // BUILD.tile_width
    down = tile // across
    first_row = down * tile_rows
    return at.to(tl.int64), (tile - down * across) * BUILD.tile_width, first_row, tl.minimum(first_row + tile_rows, h)


@triton.jit
def lanes_of(BUILD: tl.constexpr):
    """Return columns and rows of a block's pixels, relative to its first pixel."""
    lane = tl.arange(0, BUILD.block)
    return lane % BUILD.tile_width, lane // BUILD.tile_width


@triton.jit
def _axis(theta, length, w, h, lanes, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return a row of theta in integers, and the range and all coordinates of a block, relative to its first pixel."""
    fixed = fixed_row(theta, length, w, h, SAMPLING, BUILD)
    return fixed, block_range(fixed, BUILD.tile_width, BUILD.block_rows), fixed[0] * lanes[0] + fixed[1] * lanes[1]


@triton.jit
def start(theta, tiles, tile_rows, H, W, h, w, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return a program's transform, its tile of output pixels, the lanes of a block, and both axes of the image.

    A tile is its first and last column, its first row and the row after its last.
    """
    m, first_column, first_row, end_row = tile_of(tl.program_id(0), tiles, tile_rows, h, w, BUILD)
    lanes = lanes_of(BUILD)
    x_axis = _axis(theta + m * 6, W, w, h, lanes, SAMPLING, BUILD)
    y_axis = _axis(theta + m * 6 + 3, H, w, h, lanes, SAMPLING, BUILD)
    last_column = tl.minimum(first_column + BUILD.tile_width, w) - 1
    return m, (first_column, last_column, first_row, end_row), lanes, x_axis, y_axis


@triton.jit
def visit(block_row, tile, lanes, x_axis, y_axis, H, W, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return which pixels of a block are in its tile, ``[pixel, 1]``, where its first pixel reads, and two facts.

    The facts: all taps are in bounds; all are out of bounds, where the padding is constant. Both are false where
    integers cannot hold the coordinates, and so always in float64.
    """
    first_column, last_column, _, end_row = tile
    live = (first_column + lanes[0] <= last_column) & (lanes[1] < end_row - block_row)
    x_corner, y_corner = coordinate(x_axis[0], first_column, block_row), coordinate(y_axis[0], first_column, block_row)
    left, right = pixel_range(x_axis[1], x_corner)
    top, bottom = pixel_range(y_axis[1], y_corner)
    fits = x_axis[0][3] & y_axis[0][3] & (BUILD.acc != tl.float64)
    inside = fits & (left >= 0) & (right < W - 1) & (top >= 0) & (bottom < H - 1)
    outside = fits & ((left >= W) | (right < -1) | (top >= H) | (bottom < -1))
    outside &= SAMPLING.padding_mode == "zeros" or SAMPLING.padding_mode == "fill"
    return live[:, None], (x_corner, y_corner), inside, outside


@triton.jit
def inside_sources(corner, x_axis, y_axis, stride_h, stride_w, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return what the pixels of a block inside the image read: columns, weights, rows, weights, and their offsets.

    Offsets without a sign take fewer instructions to add to a pointer.
    """
    x0, wx = split_fixed((corner[0] + x_axis[2]) >> GUARD_BITS, SAMPLING, BUILD)
    y0, wy = split_fixed((corner[1] + y_axis[2]) >> GUARD_BITS, SAMPLING, BUILD)
    offset = pixel_offset(y0, x0, stride_h, stride_w, BUILD)
    return x0, wx, y0, wy, offset.to(tl.uint32) if BUILD.offset == tl.int32 else offset


@triton.jit
def all_sources(
    block_row, theta, tile, lanes, x_axis, y_axis, H, W, h, w, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Return what the pixels of any block read, as ``sources``, and their offsets; beyond the tile as its last ones."""
    first_column, last_column, _, end_row = tile
    column, row = tl.minimum(first_column + lanes[0], last_column), tl.minimum(block_row + lanes[1], end_row - 1)
    x, y, undefined = sources(theta, x_axis[0], y_axis[0], column, row, H, W, h, w, SAMPLING, BUILD)
    return x, y, undefined, pixel_offset(y[0], x[0], stride_h, stride_w, BUILD)


@triton.jit
def pixel_offset(y, x, stride_h, stride_w, BUILD: tl.constexpr):
    """Return the offsets of pixels inside an image, for one channel: ``[pixel, 1]``, ``BUILD.offset``."""
    return (y.to(BUILD.offset) * stride_h + x.to(BUILD.offset) * stride_w)[:, None]


@triton.jit
def output_pointers(out, pixel, c, C, h, w, BUILD: tl.constexpr):
    """Return pointers ``[pixel, channel]`` into one dense image ``out`` of ``C x h x w``."""
    if BUILD.channels_last:
        return out + (pixel[:, None] * C + c[None, :])
    return out + c.to(tl.int64)[None, :] * h * w + pixel[:, None]
