"""The gradient to theta: one kernel sums over each of the forward's tiles, a second one over the tiles in order."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    block_range,
    fixed_row,
    inside_sources,
    pixel_range,
    pixels_per_pixel,
    sources,
)
from supervised_st._sampler.kernels.forward import (
    RUNTIME,
    channel_constants,
    classify,
    inside_taps,
    masked_taps,
    pixel_offset,
    rescaled,
    tile_of,
)


@triton.jit
def _slopes(v00, v01, v10, v11, wx, wy, g):
    """Return the incoming gradient times the derivatives of the blend by x and by y."""
    along_x = (v01 - v00) * (1 - wy) + (v11 - v10) * wy
    along_y = (v10 - v00) * (1 - wx) + (v11 - v01) * wx
    return g * along_x, g * along_y


@triton.jit
def _store_sums(to, total, rows, dx, dy, first_column, first_row):
    """Store the sums of ``g * column``, ``g * row`` and ``g``.

    ``total`` is the sum of ``g`` over blocks, ``rows`` that of ``g`` times a block's first row in the tile.
    """
    count = tl.sum(total).to(tl.float64)
    across = tl.sum(total * dx.to(total.dtype)[:, None]).to(tl.float64)
    down = tl.sum(rows + total * dy.to(total.dtype)[:, None]).to(tl.float64)
    tl.store(to, across + count * first_column)
    tl.store(to + 1, down + count * first_row)
    tl.store(to + 2, count)


@triton.jit(do_not_specialize=RUNTIME)
def theta_gradient_kernel(
    grad, image, theta, fill, mean, std, partials,
    C, H, W, h, w, tiles, tile_rows, channels, transforms,
    grad_n, grad_c, grad_h, grad_w, stride_n, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """The grid and the tiles are the forward's; a program writes six float64 sums to ``partials[program]``.

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
    first_channel = tl.program_id(1) * channels
    end_channel = tl.minimum(first_channel + channels, C) if SAMPLING.mode == "bilinear" else first_channel
    image += (m // transforms) * stride_n
    grad += m * grad_n

    lane = tl.arange(0, BUILD.block)
    vector = tl.arange(0, BUILD.vector)
    dx, dy = lane % BUILD.tile_width, lane // BUILD.tile_width
    last_column = tl.minimum(first_column + BUILD.tile_width, w) - 1
    column = tl.minimum(first_column + dx, last_column)
    zero = tl.zeros((BLOCK, VECTOR), BUILD.acc)
    total_x, total_y, rows_x, rows_y = zero, zero, zero, zero
    for block_row in range(first_row, end_row, BUILD.block_rows):
        last_row = tl.minimum(block_row + BUILD.block_rows, end_row) - 1
        row = tl.minimum(block_row + dy, last_row)
        live = ((first_column + dx <= last_column) & (block_row + dy <= last_row))[:, None]
        inside, outside = classify(x_fixed, y_fixed, x_range, y_range, first_column, block_row, H, W, BUILD)
        if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
            # Their slope is zero on the first pixel too.
            inside &= pixel_range(x_fixed, x_range, first_column, block_row)[0] > 0
            inside &= pixel_range(y_fixed, y_range, first_column, block_row)[0] > 0
        at = pixel_offset(row, column, grad_h, grad_w, BUILD)
        block_x, block_y = zero, zero
        if inside:
            x0, wx, y0, wy = inside_sources(x_fixed, y_fixed, column, row, SAMPLING, BUILD)
            offset = pixel_offset(y0, x0, stride_h, stride_w, BUILD)
            for c0 in range(first_channel, end_channel, BUILD.vector):
                c = c0 + vector
                wide = c.to(tl.int64)[None, :]
                mean_here, scale, _ = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
                taps = inside_taps(
                    image, offset, wide * stride_c, stride_h, stride_w, wx, wy, mean_here, scale,
                    SAMPLING, BUILD, True,
                )  # fmt: skip
                g = rescaled(tl.load(grad + wide * grad_c + at, mask=live, other=0.0).to(BUILD.acc), scale, SAMPLING)
                add_x, add_y = _slopes(taps[0], taps[1], taps[2], taps[3], wx[:, None], wy[:, None], g)
                block_x += add_x
                block_y += add_y
        elif (outside & (SAMPLING.padding_mode == "zeros" or SAMPLING.padding_mode == "fill")) == 0:
            x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
            x0, wx, y0, wy = x[0], x[1], y[0], y[1]
            offset = pixel_offset(y0, x0, stride_h, stride_w, BUILD)
            for c0 in range(first_channel, end_channel, BUILD.vector):
                c = c0 + vector
                wide = c.to(tl.int64)[None, :]
                mean_here, scale, fill_here = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
                taps = masked_taps(
                    image, offset, wide * stride_c, stride_h, stride_w, x0, y0, wx, wy, H, W,
                    mean_here, scale, fill_here, SAMPLING, BUILD, True,
                )  # fmt: skip
                g = rescaled(tl.load(grad + wide * grad_c + at, mask=live, other=0.0).to(BUILD.acc), scale, SAMPLING)
                add_x, add_y = _slopes(taps[0], taps[1], taps[2], taps[3], wx[:, None], wy[:, None], g)
                block_x += add_x
                block_y += add_y
            unknown = undefined[:, None] & live
            block_x, block_y = block_x * x[2][:, None], block_y * y[2][:, None]
            if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
                # A slope of zero times a pixel that is not finite is zero too.
                block_x = tl.where((x[2] == 0)[:, None], 0.0, block_x)
                block_y = tl.where((y[2] == 0)[:, None], 0.0, block_y)
            block_x = tl.where(unknown, float("nan"), block_x)
            block_y = tl.where(unknown, float("nan"), block_y)
        total_x += block_x
        total_y += block_y
        rows_x += block_x * (block_row - first_row)
        rows_y += block_y * (block_row - first_row)
    to = partials + (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)) * 6
    _store_sums(to, total_x, rows_x, dx, dy, first_column, first_row)
    _store_sums(to + 3, total_y, rows_y, dx, dy, first_column, first_row)


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
        # From the gradient to a row in pixels to the gradient to theta's row.
        per_column, per_row, half = pixels_per_pixel(H if axis else W, w, h, ALIGN)
        tl.store(out + axis * 3, per_column * (across - count * ((w.to(tl.float64) - 1) * 0.5)))
        tl.store(out + axis * 3 + 1, per_row * (down - count * ((h.to(tl.float64) - 1) * 0.5)))
        tl.store(out + axis * 3 + 2, half * count)
