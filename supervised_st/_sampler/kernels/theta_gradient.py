"""The gradient to theta: one kernel sums over each of the forward's tiles, a second one over the tiles in order."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import pixel_range, pixels_per_pixel
from supervised_st._sampler.kernels.forward import channel_constants, rescaled, taps
from supervised_st._sampler.kernels.tiles import RUNTIME, all_sources, inside_sources, pixel_offset, start, visit


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
def _sums(total, rows, lanes, first_column, first_row):
    """Return the sums of ``g * column``, ``g * row`` and ``g``.

    ``total`` is the sum of ``g`` over blocks, ``rows`` that of ``g`` times a block's first row in the tile.
    """
    count = tl.sum(total).to(tl.float64)
    across = tl.sum(total * lanes[0].to(total.dtype)[:, None]).to(tl.float64)
    down = tl.sum(rows + total * lanes[1].to(total.dtype)[:, None]).to(tl.float64)
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
    m, tile, lanes, x_axis, y_axis = start(theta, tiles, tile_rows, H, W, h, w, SAMPLING, BUILD)
    theta += m * 6
    image += (m // transforms) * stride_n
    grad += m * grad_n
    first_channel = tl.program_id(1) * (passes * BUILD.groups * BUILD.vector)
    first_column, _, first_row, end_row = tile
    pixel = pixel_offset(lanes[1], lanes[0], grad_h, grad_w, BUILD)
    zero = tl.zeros((BLOCK, VECTOR), BUILD.acc)
    total_x, total_y, rows_x, rows_y = zero, zero, zero, zero
    for down in range(0, end_row - first_row, BUILD.block_rows):
        block_row = first_row + down
        live, corner, inside, outside = visit(block_row, tile, lanes, x_axis, y_axis, H, W, SAMPLING, BUILD)
        if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
            # Their slope is zero on the first pixel too.
            inside &= pixel_range(x_axis[1], corner[0])[0] > 0
            inside &= pixel_range(y_axis[1], corner[1])[0] > 0
        block = grad + (block_row.to(tl.int64) * grad_h + first_column.to(tl.int64) * grad_w)
        block_x, block_y = zero, zero
        if inside:
            x0, wx, y0, wy, offset = inside_sources(corner, x_axis, y_axis, stride_h, stride_w, SAMPLING, BUILD)
            block_x, block_y = _block_slopes(
                block, image, fill, mean, std, x0, y0, wx, wy, offset, pixel, live, first_channel, passes,
                H, W, grad_c, stride_c, stride_h, stride_w, SAMPLING, BUILD, True,
            )  # fmt: skip
        elif outside == 0:
            x, y, undefined, offset = all_sources(
                block_row, theta, tile, lanes, x_axis, y_axis, H, W, h, w, stride_h, stride_w, SAMPLING, BUILD
            )
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
    x_sums = _sums(total_x, rows_x, lanes, first_column, first_row)
    y_sums = _sums(total_y, rows_y, lanes, first_column, first_row)
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
