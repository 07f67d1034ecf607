"""The gradient to theta: one kernel sums over each of the forward's tiles, a second one over the tiles in order."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    GUARD_BITS,
    block_range,
    coordinate,
    fixed_row,
    pixel_range,
    pixels_per_pixel,
    sources,
    split_fixed,
)
from supervised_st._sampler.kernels.forward import (
    RUNTIME,
    channel_constants,
    classify,
    inside_offset,
    pixel_offset,
    rescaled,
    taps,
    tile_of,
)


@triton.jit
def _slopes(v00, v01, v10, v11, wx, wy, g):
    """Return the incoming gradient times the derivatives of the blend by x and by y."""
    along_x = (v01 - v00) * (1 - wy) + (v11 - v10) * wy
    along_y = (v10 - v00) * (1 - wx) + (v11 - v01) * wx
    return g * along_x, g * along_y


@triton.jit
def _block_slopes(
    grad, image, fill, mean, std, x0, y0, wx, wy, offset, pixel, live, first_channel, passes,
    H, W, grad_c, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, INSIDE: tl.constexpr,
):  # fmt: skip
    """Return the derivatives by x and by y of one block of pixels, summed over channels; ``grad`` points to the block.

    They leave out the slope of the padding.
    """
    BLOCK: tl.constexpr = BUILD.block
    VECTOR: tl.constexpr = BUILD.vector
    # Reading all groups at once takes more registers than there are where reads are masked.
    GROUPS: tl.constexpr = BUILD.groups if INSIDE else 1
    vector = tl.arange(0, VECTOR)
    block_x = tl.zeros((BLOCK, VECTOR), BUILD.acc)
    block_y = block_x
    for index in range(passes * (BUILD.groups // GROUPS) if SAMPLING.mode == "bilinear" else 0):
        for group in tl.static_range(GROUPS):
            c = first_channel + (index * GROUPS + group) * VECTOR + vector
            wide = c.to(tl.int64)[None, :]
            mean_here, scale, fill_here = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
            v00, v01, v10, v11 = taps(
                image + wide * stride_c, offset, stride_h, stride_w, x0, y0, wx, wy, H, W, mean_here, scale, fill_here,
                SAMPLING, BUILD, INSIDE, True,
            )  # fmt: skip
            g = tl.load(grad + wide * grad_c + pixel, mask=live, other=0.0).to(BUILD.acc)
            along_x, along_y = _slopes(v00, v01, v10, v11, wx[:, None], wy[:, None], rescaled(g, scale, SAMPLING))
            block_x += along_x
            block_y += along_y
    return block_x, block_y


@triton.jit
def _sums(total, rows, dx, dy, first_column, first_row):
    """Return the sums of ``g * column``, ``g * row`` and ``g``.

    ``total`` is the sum of ``g`` over blocks, ``rows`` that of ``g`` times a block's first row in the tile.
    """
    count = tl.sum(total).to(tl.float64)
    across = tl.sum(total * dx.to(total.dtype)[:, None]).to(tl.float64)
    down = tl.sum(rows + total * dy.to(total.dtype)[:, None]).to(tl.float64)
    return across + count * first_column, down + count * first_row, count


@triton.jit
def _store_row(to, sums, length, w, h, ALIGN: tl.constexpr):
    """Store the gradient to a row of theta: that to a row in pixels, times the derivative of these."""
    across, down, count = sums
    per_column, per_row, half = pixels_per_pixel(length, w, h, ALIGN)
    tl.store(to, per_column * (across - count * ((w.to(tl.float64) - 1) * 0.5)))
    tl.store(to + 1, per_row * (down - count * ((h.to(tl.float64) - 1) * 0.5)))
    tl.store(to + 2, half * count)


@triton.jit
def _store_sums(to, sums, length, w, h, SAMPLING: tl.constexpr, ALONE: tl.constexpr):
    """Store a program's sums, or if it has all pixels and channels the gradient that follows from them."""
    if ALONE:
        _store_row(to, sums, length, w, h, SAMPLING.align_corners)
    else:
        tl.store(to, sums[0])
        tl.store(to + 1, sums[1])
        tl.store(to + 2, sums[2])


@triton.jit(do_not_specialize=RUNTIME)
def theta_gradient_kernel(
    grad, image, theta, fill, mean, std, out,
    C, H, W, h, w, tiles, tile_rows, passes, transforms,
    grad_n, grad_c, grad_h, grad_w, stride_n, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, ALONE: tl.constexpr,
):  # fmt: skip
    """The grid, the tiles and the passes are the forward's; a program writes six float64 sums to ``out[program]``.

    ``ALONE``: there is one program for each transform, and it writes the gradient to theta itself.

    A NaN coordinate makes its sums NaN. With ``mode="nearest"`` no channel is read, and all other sums are zero.
    """
    BLOCK: tl.constexpr = BUILD.block
    VECTOR: tl.constexpr = BUILD.vector
    m, first_column, first_row, end_row = tile_of(tl.program_id(0), tiles, tile_rows, h, w, BUILD)
    theta += m * 6
    x_fixed = fixed_row(theta, W, w, h, SAMPLING, BUILD)
    y_fixed = fixed_row(theta + 3, H, w, h, SAMPLING, BUILD)
    x_range = block_range(x_fixed, BUILD.tile_width, BUILD.block_rows)
    y_range = block_range(y_fixed, BUILD.tile_width, BUILD.block_rows)
    first_channel = tl.program_id(1) * (passes * BUILD.groups * BUILD.vector)
    image += (m // transforms) * stride_n
    grad += m * grad_n

    lane = tl.arange(0, BUILD.block)
    dx, dy = lane % BUILD.tile_width, lane // BUILD.tile_width
    x_step, y_step = x_fixed[0] * dx + x_fixed[1] * dy, y_fixed[0] * dx + y_fixed[1] * dy
    last_column = tl.minimum(first_column + BUILD.tile_width, w) - 1
    in_columns = first_column + dx <= last_column
    pixel = pixel_offset(dy, dx, grad_h, grad_w, BUILD)
    zero = tl.zeros((BLOCK, VECTOR), BUILD.acc)
    total_x, total_y, rows_x, rows_y = zero, zero, zero, zero
    for down in range(0, end_row - first_row, BUILD.block_rows):
        block_row = first_row + down
        live = (in_columns & (dy < end_row - block_row))[:, None]
        x_corner = coordinate(x_fixed, first_column, block_row)
        y_corner = coordinate(y_fixed, first_column, block_row)
        inside, outside = classify(x_fixed, y_fixed, x_range, y_range, x_corner, y_corner, H, W, BUILD)
        if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
            # Their slope is zero on the first pixel too.
            inside &= pixel_range(x_range, x_corner)[0] > 0
            inside &= pixel_range(y_range, y_corner)[0] > 0
        block = grad + (block_row.to(tl.int64) * grad_h + first_column.to(tl.int64) * grad_w)
        block_x, block_y = zero, zero
        if inside:
            x0, wx = split_fixed((x_corner + x_step) >> GUARD_BITS, SAMPLING, BUILD)
            y0, wy = split_fixed((y_corner + y_step) >> GUARD_BITS, SAMPLING, BUILD)
            offset = inside_offset(y0, x0, stride_h, stride_w, BUILD)
            block_x, block_y = _block_slopes(
                block, image, fill, mean, std, x0, y0, wx, wy, offset, pixel, live, first_channel, passes,
                H, W, grad_c, stride_c, stride_h, stride_w, SAMPLING, BUILD, True,
            )  # fmt: skip
        elif (outside & (SAMPLING.padding_mode == "zeros" or SAMPLING.padding_mode == "fill")) == 0:
            column = tl.minimum(first_column + dx, last_column)
            row = tl.minimum(block_row + dy, end_row - 1)
            x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
            offset = pixel_offset(y[0], x[0], stride_h, stride_w, BUILD)
            block_x, block_y = _block_slopes(
                block, image, fill, mean, std, x[0], y[0], x[1], y[1], offset, pixel, live, first_channel, passes,
                H, W, grad_c, stride_c, stride_h, stride_w, SAMPLING, BUILD, False,
            )  # fmt: skip
            block_x, block_y = block_x * x[2][:, None], block_y * y[2][:, None]
            if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
                # A slope of zero times a pixel that is not finite is zero too.
                block_x = tl.where((x[2] == 0)[:, None], 0.0, block_x)
                block_y = tl.where((y[2] == 0)[:, None], 0.0, block_y)
            unknown = undefined[:, None] & live
            block_x = tl.where(unknown, float("nan"), block_x)
            block_y = tl.where(unknown, float("nan"), block_y)
        total_x += block_x
        total_y += block_y
        rows_x += block_x * down
        rows_y += block_y * down
    to = out + (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * 6
    x_sums = _sums(total_x, rows_x, dx, dy, first_column, first_row)
    y_sums = _sums(total_y, rows_y, dx, dy, first_column, first_row)
    _store_sums(to, x_sums, W, w, h, SAMPLING, ALONE)
    _store_sums(to + 3, y_sums, H, w, h, SAMPLING, ALONE)


@triton.jit
def _column_sum(partials, parts, BLOCK: tl.constexpr):
    """Return the sum of every sixth number, added in an order that only depends on how many there are."""
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, parts, BLOCK):
        part = first + tl.arange(0, BLOCK)
        total += tl.load(partials + part.to(tl.int64) * 6, mask=part < parts, other=0.0)
    return tl.sum(total)


@triton.jit(do_not_specialize=["parts", "H", "W", "h", "w"])
def theta_reduction_kernel(partials, out, parts, H, W, h, w, ALIGN: tl.constexpr, BLOCK: tl.constexpr):
    """One program per transform: add the sums of its tiles in a fixed order and write the gradient to its theta."""
    m = tl.program_id(0).to(tl.int64)
    partials += m * parts * 6
    out += m * 6
    for axis in tl.static_range(2):
        across = _column_sum(partials + axis * 3, parts, BLOCK)
        down = _column_sum(partials + axis * 3 + 1, parts, BLOCK)
        count = _column_sum(partials + axis * 3 + 2, parts, BLOCK)
        _store_row(out + axis * 3, (across, down, count), H if axis else W, w, h, ALIGN)
