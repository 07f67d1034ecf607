"""The gradient to the image for all transforms and paddings: every input pixel gathers from the outputs that read it.

Whether an output pixel reads an input pixel, and with which weight, is decided by the forward's own coordinates. This
file only decides where to look: in a box around the preimage of each input pixel where the transform can be inverted
well (``_gather_boxes``); otherwise in all blocks of output pixels that can read the tile of input pixels, which are
found by intersecting two strips (``_gather_blocks``). The order of every sum is that of `image_gradient`.

Tuples bundle values that travel together:
    ``sizes``: ``(H, W, h, w)``
    ``strides``: ``(grad_c, grad_h, grad_w)``
    ``tile``: ``(j0, j_last, i0, i_last)``, the first and last column and row of the tile of input pixels
    ``pixel``: ``(j, i)``, column and row of each input pixel
    ``cell``: ``(cell_x, cell_y, countable)``, the mirror cell to look in; if not countable, look in all cells
    ``box``: ``(first_column, first_row, columns, rows)``, the output pixels to look at
"""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    FAR,
    coordinate_range,
    fixed_row,
    float_row,
    sources,
)
from supervised_st._sampler.kernels.image_gradient import add
from supervised_st._sampler.kernels.inverse import SLACK, are_usual, count_unusual, invert, is_worth_it
from supervised_st._sampler.kernels.tiles import RUNTIME, lanes_of, output_pointers, pixel_offset, tile_of

# Most mirror cells that are searched one by one; for transforms that reach more, all are searched at once.
MIRROR_CELLS = tl.constexpr(64)
# Columns of output pixels, in a row of blocks, that are tested together for whether one of them reads the tile.
STRETCH = tl.constexpr(64)


@triton.jit
def _hat(first, weight, position, SAMPLING: tl.constexpr):
    """Return an input pixel's weight along one axis, in an output pixel that reads ``first`` and the next pixel."""
    if SAMPLING.mode == "nearest":
        return (first == position).to(weight.dtype)
    return tl.where(first == position, 1 - weight, tl.where(first + 1 == position, weight, 0.0))


@triton.jit
def _clamped_row(theta, length, w, h, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return ``(ma, mb, mt, lowest, highest)``: a row, constant if it is entirely beyond `FAR`, and its range."""
    ma, mb, mt = float_row(theta, length, w, h, SAMPLING, BUILD, True)
    lowest, highest = coordinate_range(ma, mb, mt, w, h)
    after, before = lowest >= FAR, highest <= -FAR
    ma, mb = tl.where(after | before, 0.0, ma), tl.where(after | before, 0.0, mb)
    mt = tl.where(after, FAR, tl.where(before, -FAR, mt))
    return ma, mb, mt, tl.where(after | before, mt, lowest), tl.where(after | before, mt, highest)


@triton.jit
def _axis_cells(theta, length, w, h, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the first mirror cell that coordinates are in, and the number of cells; 0 if all coordinates are NaN.

    Without reflection the whole line is one cell. The number is too large for transforms that partly leave `FAR`.
    """
    ma, mb, mt, lowest, highest = _clamped_row(theta, length, w, h, SAMPLING, BUILD)
    # An infinite coefficient makes every coordinate NaN, as does an undefined translation.
    defined = (mt == mt) & (tl.abs(ma) < float("inf")) & (tl.abs(mb) < float("inf"))
    count = tl.where((lowest >= -FAR) & (highest <= FAR), 1.0, FAR).to(tl.float64)
    first = count * 0
    if SAMPLING.padding_mode == "reflection":
        span = (length - 1 if SAMPLING.align_corners else length).to(tl.float64)
        low = 0.0 if SAMPLING.align_corners else -0.5
        room = tl.where(span > 0, span, 1.0)
        cell = tl.floor((lowest - SLACK - low) / room)
        cells = tl.floor((highest + SLACK - low) / room) - cell + 1
        mirrors = (count == 1) & (span > 0)
        first, count = tl.where(mirrors, cell, first), tl.where(mirrors, cells, count)
    return first, tl.where(defined, count, 0.0)


@triton.jit
def _axis_reach(first, last, length, lowest, highest, cell, SAMPLING: tl.constexpr):
    """Return ``(before, after, sign, origin)``: which coordinates read the pixels from first to last in a mirror cell.

    Pixel i is at coordinate ``sign * i + origin``, and read from ``before`` to ``after`` pixels around it.
    """
    support = (0.5 if SAMPLING.mode == "nearest" else 1.0) + SLACK
    before, after = lowest * 0 - support, highest * 0 + support
    if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
        # All coordinates beyond them read the edge pixels, or the only pixel of an axis too short for mirroring.
        is_open = SAMPLING.padding_mode == "border" or length == 1
        before = tl.where((first == 0) & is_open, tl.minimum(before, lowest), before)
        after = tl.where((last == length - 1) & is_open, tl.maximum(after, highest - last), after)
    sign, origin = before * 0 + 1, before * 0
    if SAMPLING.padding_mode == "reflection":
        span = (length - 1 if SAMPLING.align_corners else length).to(tl.float64)
        low = 0.0 if SAMPLING.align_corners else -0.5
        odd = (cell & 1) == 1
        sign = tl.where(odd, -sign, sign)
        origin = tl.where(odd, (cell + 1) * span + 2 * low, cell * span)
    return before, after, sign, origin


@triton.jit
def _bounds(p, q, x_before, x_after, y_before, y_after):
    """Return the bounds of ``p * x + q * y`` over a rectangle, widened against rounding."""
    low = tl.minimum(p * x_before, p * x_after) + tl.minimum(q * y_before, q * y_after)
    high = tl.maximum(p * x_before, p * x_after) + tl.maximum(q * y_before, q * y_after)
    return low - SLACK, high + SLACK


@triton.jit
def _first_candidate(p, q, corner, low, dj, di):
    """Return each input pixel's first output column (or row); ``corner`` is the preimage of the tile's corner."""
    whole = tl.floor(corner)
    near = (corner - whole + low).to(tl.float32) + p.to(tl.float32) * dj + q.to(tl.float32) * di
    return tl.minimum(tl.maximum(whole, -FAR), FAR).to(tl.int32) + tl.ceil(near).to(tl.int32)


@triton.jit
def _boxes(theta, sizes, tile, dj, di, cell, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return, around each input pixel's preimage, the box of output pixels that can read it.

    ``dj, di`` are the pixel's column and row in the tile. The boxes differ in their first column and row only. Also
    return whether to use them.
    """
    H, W, h, w = sizes
    j0, j_last, i0, i_last = tile
    cell_x, cell_y, countable = cell
    ax, bx, tx, x_lowest, x_highest = _clamped_row(theta, W, w, h, SAMPLING, BUILD)
    ay, by, ty, y_lowest, y_highest = _clamped_row(theta + 3, H, w, h, SAMPLING, BUILD)
    x_before, x_after, sign_x, origin_x = _axis_reach(j0, j_last, W, x_lowest, x_highest, cell_x, SAMPLING)
    y_before, y_after, sign_y, origin_y = _axis_reach(i0, i_last, H, y_lowest, y_highest, cell_y, SAMPLING)
    p, q, r, s, inverse, invertible = invert(ax, bx, ay, by)
    x, y = sign_x * j0 + origin_x - tx, sign_y * i0 + origin_y - ty
    corner_column, corner_row = p * x + q * y, r * x + s * y
    # From the corner on, columns are p * dj + q * di and rows r * dj + s * di.
    p, q, r, s = p * sign_x, q * sign_y, r * sign_x, s * sign_y
    column_low, column_high = _bounds(p, q, x_before, x_after, y_before, y_after)
    row_low, row_high = _bounds(r, s, x_before, x_after, y_before, y_after)
    columns, rows = tl.floor(column_high - column_low) + 1, tl.floor(row_high - row_low) + 1
    use_boxes = is_worth_it(columns, rows, inverse, w, h) & invertible & countable
    # Tiles that no output pixel reads have nothing to look at.
    tile_low, tile_high = _bounds(p, q, x_before, j_last - j0 + x_after, y_before, i_last - i0 + y_after)
    reached = (corner_column + tile_high >= 0) & (corner_column + tile_low <= w - 1)
    tile_low, tile_high = _bounds(r, s, x_before, j_last - j0 + x_after, y_before, i_last - i0 + y_after)
    reached &= (corner_row + tile_high >= 0) & (corner_row + tile_low <= h - 1)
    columns, rows = tl.where(use_boxes, columns, 1.0), tl.where(use_boxes & reached, rows, 0.0)
    first_column = _first_candidate(p, q, corner_column, column_low, dj, di)
    first_row = _first_candidate(r, s, corner_row, row_low, dj, di)
    return (first_column, first_row, columns.to(tl.int32), rows.to(tl.int32)), use_boxes


@triton.jit
def _strip(theta, length, w, h, low, high, first_row, last_row, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the first and last output column, widened by one, with coordinates from low to high in a range of rows."""
    ma, mb, mt, _, _ = _clamped_row(theta, length, w, h, SAMPLING, BUILD)
    low = low - mt - tl.maximum(mb * first_row, mb * last_row)
    high = high - mt - tl.minimum(mb * first_row, mb * last_row)
    flat = tl.abs(ma) < 1e-30
    inverse = 1 / tl.where(flat, 1.0, ma)
    end = w.to(tl.float64)
    everywhere = (low <= 0) & (high >= 0)
    first = tl.where(flat, tl.where(everywhere, 0.0, end), tl.minimum(low * inverse, high * inverse))
    last = tl.where(flat, tl.where(everywhere, end, -1.0), tl.maximum(low * inverse, high * inverse))
    first, last = tl.maximum(tl.floor(first) - 1, 0.0), tl.minimum(tl.ceil(last) + 1, end - 1)
    return tl.minimum(first, end).to(tl.int32), tl.maximum(last, -1.0).to(tl.int32)


@triton.jit
def _axis_strip(theta, length, w, h, first, last, cell, countable, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the lowest and the highest coordinate that read the pixels from first to last, in a mirror cell or all."""
    _, _, _, lowest, highest = _clamped_row(theta, length, w, h, SAMPLING, BUILD)
    before, after, sign, origin = _axis_reach(first, last, length, lowest, highest, cell, SAMPLING)
    one, other = sign * (first + before) + origin, sign * (last + after) + origin
    low, high = tl.minimum(one, other), tl.maximum(one, other)
    return tl.where(countable, low, float("-inf")), tl.where(countable, high, float("inf"))


@triton.jit
def _weights(x0, wx, cell_here_x, y0, wy, cell_here_y, wanted, pixel, cell, SAMPLING: tl.constexpr):
    """Return the weight of input pixels in output pixels; zero in those that are not wanted."""
    j, i = pixel
    cell_x, cell_y, countable = cell
    if SAMPLING.padding_mode == "reflection":
        wanted &= ((cell_here_x == cell_x) & (cell_here_y == cell_y)) | (countable == 0)
    return tl.where(wanted, _hat(x0, wx, j, SAMPLING) * _hat(y0, wy, i, SAMPLING), 0.0)


@triton.jit
def _add_block(totals, grad, channel, grad_c, at, weight, BUILD: tl.constexpr):
    """Add a block of output pixels, with ``at`` ``[output, 1]`` and ``weight`` ``[input, output]``, to all inputs."""
    GROUPS: tl.constexpr = BUILD.groups
    new = ()
    read = tl.max(weight, axis=0) > 0
    for group in tl.static_range(GROUPS):
        c = (channel + group * BUILD.vector).to(tl.int64)[None, :]
        g = tl.load(grad + c * grad_c + at, mask=read[:, None], other=0.0).to(weight.dtype)
        each = tl.where((weight > 0)[:, :, None], weight[:, :, None] * g[None, :, :], 0.0)
        new = new + (totals[group] + tl.sum(each, axis=1),)  # noqa: RUF005 - Triton cannot unpack
    return new


@triton.jit
def _gather_boxes(
    totals, grad, theta, x_fixed, y_fixed, box, pixel, cell, channel, sizes, strides,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Every input pixel looks at the output pixels of its own box, all in the same order."""
    first_column, first_row, columns, rows = box
    H, W, h, w = sizes
    grad_c, grad_h, grad_w = strides
    for candidate in range(columns * rows):
        down = candidate // columns
        row, column = first_row + down, first_column + (candidate - down * columns)
        x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
        wanted = (row >= 0) & (row < h) & (column >= 0) & (column < w) & (undefined == 0)
        weight = _weights(x[0], x[1], x[3], y[0], y[1], y[3], wanted, pixel, cell, SAMPLING)
        at = pixel_offset(row, column, grad_h, grad_w, BUILD)
        totals = add(totals, grad, channel, grad_c, at, weight, weight > 0, BUILD)
    return totals


@triton.jit
def _any_reads(
    theta, x_fixed, y_fixed, tile, first_column, last_column, first_row, last_row, sizes,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Return whether any of `STRETCH` columns of output pixels, up to the last column and row, may read the tile."""
    H, W, h, w = sizes
    j0, j_last, i0, i_last = tile
    rows: tl.constexpr = BUILD.out_block // BUILD.out_width
    lane = tl.arange(0, STRETCH * rows)
    column, row = first_column + lane % STRETCH, first_row + lane // STRETCH
    x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
    reads = (column <= last_column) & (row <= last_row) & (undefined == 0)
    reads &= (x[0] >= j0 - 1) & (x[0] <= j_last) & (y[0] >= i0 - 1) & (y[0] <= i_last)
    return tl.max(reads.to(tl.int32)) > 0


@triton.jit
def _gather_blocks(
    totals, grad, theta, x_fixed, y_fixed, tile, pixel, cell, channel, sizes, strides,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """All input pixels of the tile look together at each block of output pixels that can read one of them."""
    H, W, h, w = sizes
    j0, j_last, i0, i_last = tile
    j, i = pixel
    cell_x, cell_y, countable = cell
    grad_c, grad_h, grad_w = strides
    out_rows: tl.constexpr = BUILD.out_block // BUILD.out_width
    lane = tl.arange(0, BUILD.out_block)
    x_low, x_high = _axis_strip(theta, W, w, h, j0, j_last, cell_x, countable, SAMPLING, BUILD)
    y_low, y_high = _axis_strip(theta + 3, H, w, h, i0, i_last, cell_y, countable, SAMPLING, BUILD)
    for block_row in range(0, h, out_rows):
        last_row = tl.minimum(block_row + out_rows, h) - 1
        from_x, to_x = _strip(theta, W, w, h, x_low, x_high, block_row, last_row, SAMPLING, BUILD)
        from_y, to_y = _strip(theta + 3, H, w, h, y_low, y_high, block_row, last_row, SAMPLING, BUILD)
        last = tl.minimum(to_x, to_y)
        for stretch in range(tl.maximum(from_x, from_y), last + 1, STRETCH):
            if _any_reads(theta, x_fixed, y_fixed, tile, stretch, last, block_row, last_row, sizes, SAMPLING, BUILD):
                for block_column in range(stretch, tl.minimum(stretch + STRETCH, last + 1), BUILD.out_width):
                    column, row = block_column + lane % BUILD.out_width, block_row + lane // BUILD.out_width
                    x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
                    wanted = (column <= last) & (row <= last_row) & (undefined == 0)
                    weight = _weights(
                        x[0][None, :], x[1][None, :], x[3][None, :], y[0][None, :], y[1][None, :], y[3][None, :],
                        wanted[None, :], (j[:, None], i[:, None]), cell, SAMPLING,
                    )  # fmt: skip
                    at = pixel_offset(row, column, grad_h, grad_w, BUILD)
                    totals = _add_block(totals, grad, channel, grad_c, at, weight, BUILD)
    return totals


@triton.jit
def _gather(
    totals, grad, theta, tile, pixel, dj, di, channel, sizes, strides, SAMPLING: tl.constexpr, BUILD: tl.constexpr
):
    """Add the gradient of one transform, from all of its mirror cells, to a tile of input pixels."""
    H, W, h, w = sizes
    x_fixed = fixed_row(theta, W, w, h, SAMPLING, BUILD)
    y_fixed = fixed_row(theta + 3, H, w, h, SAMPLING, BUILD)
    if x_fixed[3] & y_fixed[3] & (SAMPLING.padding_mode != "reflection"):
        # No coordinate is NaN, and there is one cell.
        first_x, first_y = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
        count_x, count_y = tl.full((), 1.0, tl.float64), tl.full((), 1.0, tl.float64)
    else:
        first_x, count_x = _axis_cells(theta, W, w, h, SAMPLING, BUILD)
        first_y, count_y = _axis_cells(theta + 3, H, w, h, SAMPLING, BUILD)
    countable = count_x * count_y <= MIRROR_CELLS
    across = tl.where(countable, count_x, 1.0).to(tl.int32)
    cells = tl.where(countable, count_x * count_y, 1.0).to(tl.int32)
    for index in range(cells):
        cell = (first_x.to(tl.int32) + index % across, first_y.to(tl.int32) + index // across, countable)
        box, use_boxes = _boxes(theta, sizes, tile, dj, di, cell, SAMPLING, BUILD)
        if use_boxes:
            totals = _gather_boxes(
                totals, grad, theta, x_fixed, y_fixed, box, pixel, cell, channel, sizes, strides, SAMPLING, BUILD
            )
        else:
            totals = _gather_blocks(
                totals, grad, theta, x_fixed, y_fixed, tile, pixel, cell, channel, sizes, strides, SAMPLING, BUILD
            )
    return totals


@triton.jit(do_not_specialize=[*RUNTIME, "work", "entries"])
def image_search_kernel(
    grad, theta, inverses, out,
    C, H, W, h, w, work, entries, programs, tiles, tile_rows, transforms,
    grad_n, grad_c, grad_h, grad_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Gathers for all images, or with ``inverses`` only for those that `image_gradient_kernel` leaves out.

    ``work`` counts tiles of all images, for each group of ``BUILD.groups * BUILD.vector`` channels; a program takes
    every so many. It gathers from all transforms of an image, one after the other.
    """
    BLOCK: tl.constexpr = BUILD.block
    VECTOR: tl.constexpr = BUILD.vector
    GROUPS: tl.constexpr = BUILD.groups
    dj, di = lanes_of(BUILD)
    if inverses is not None:
        work = tl.where(count_unusual(inverses, entries) > 0, work, 0)
    for program in range(tl.program_id(0), work, tl.num_programs(0)):
        channel_group = program // programs
        n, j0, i0, _ = tile_of(program - channel_group * programs, tiles, tile_rows, H, W, BUILD)
        left_out = tl.full((), 1, tl.int1)
        if inverses is not None:
            left_out = are_usual(inverses, n * transforms, transforms) == 0
        if left_out:
            j, i = j0 + dj, i0 + di
            j_last, i_last = tl.minimum(j0 + BUILD.tile_width, W) - 1, tl.minimum(i0 + tile_rows, H) - 1
            channel = channel_group * (GROUPS * VECTOR) + tl.arange(0, VECTOR)
            totals = (tl.zeros((BLOCK, VECTOR), BUILD.acc),) * GROUPS
            for k in range(transforms):
                m = n * transforms + k
                totals = _gather(
                    totals, grad + m * grad_n, theta + m * 6, (j0, j_last, i0, i_last), (j, i), dj, di, channel,
                    (H, W, h, w), (grad_c, grad_h, grad_w), SAMPLING, BUILD,
                )  # fmt: skip
            live = ((j < W) & (i < H))[:, None]
            for group in tl.static_range(GROUPS):
                c = channel + group * VECTOR
                to = output_pointers(out + n * C * H * W, i.to(BUILD.offset) * W + j, c, C, H, W, BUILD)
                tl.store(to, totals[group].to(out.dtype.element_ty), mask=live)
