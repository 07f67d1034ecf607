"""The gradient to the image: every input pixel gathers from the output pixels that read it.

Which output pixels do, and with which weight, is always decided by the forward's own coordinates. What is computed here
besides is only where to look for them: in a box around the preimage of each pixel where the map can be inverted well
(``_gather_near``, or ``_gather_boxes`` where padding moves coordinates), and otherwise block by block of output pixels,
where those that can concern the tile of input pixels are found by intersecting two strips (``_gather_blocks``). Nothing
is added by atomics, so the order of every sum is fixed, and every pixel is written exactly once.
"""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    FAR,
    GUARD_BITS,
    HALF_PIXEL,
    MAP_BITS,
    PIXEL,
    UNIT,
    fixed_map,
    float_map,
    reach,
    sources,
)
from supervised_st._sampler.kernels.forward import RUNTIME, locate, place, tile_of

SLACK = tl.constexpr(1 / 64)
"""Pixels by which searches are widened against the rounding of coordinates and of their inverses."""

WELL_CONDITIONED = tl.constexpr(1e-9)
"""A map is inverted only if its determinant is at least this share of the product of its rows' sizes."""

MIRROR_CELLS = tl.constexpr(64)
"""Mirror images that are searched one by one; maps that meet more of them are searched as a whole."""

SMALL_BOX = tl.constexpr(128)
BOX_SLACK = tl.constexpr(16)
"""A box may hold so many candidates, and so many more per output pixel that an input pixel becomes."""

LARGEST_BOX = tl.constexpr(1024)
"""Larger boxes would keep one thread busy for too long: the threads of a program share them out instead."""


NEAR = tl.constexpr(32.0)
"""Pixels. Boxes that reach no further have coordinates that, relative to the input pixel, fit into 32 bits."""


@triton.jit
def _hat(first, weight, position, MODE: tl.constexpr):
    """The weight of input pixels along one axis, for an output pixel that reads at ``first`` and the pixel after."""
    if MODE == "nearest":
        return (first == position).to(weight.dtype)
    return tl.where(first == position, 1 - weight, tl.where(first + 1 == position, weight, 0.0))


@triton.jit
def _clamped_map(theta, length, w, h, ALIGN: tl.constexpr, ROUNDING: tl.constexpr):
    """A row in pixels and its reach. Coordinates are clamped to FAR: one that is further throughout is constant."""
    ma, mb, mt = float_map(theta, length, w, h, ALIGN, ROUNDING, True)
    lowest, highest = reach(ma, mb, mt, w, h)
    after, before = lowest >= FAR, highest <= -FAR
    ma, mb = tl.where(after | before, 0.0, ma), tl.where(after | before, 0.0, mb)
    mt = tl.where(after, FAR, tl.where(before, -FAR, mt))
    return ma, mb, mt, tl.where(after | before, mt, lowest), tl.where(after | before, mt, highest)


@triton.jit
def _axis_cells(theta, length, w, h, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr):
    """The first mirror cell that coordinates lie in, and how many they are: none if all coordinates are NaN.

    Padding other than reflection has one cell: the whole line. Of maps that leave FAR on the way, too many are said.
    """
    ma, mb, mt, lowest, highest = _clamped_map(theta, length, w, h, ALIGN, ROUNDING)
    # An infinite coefficient makes every coordinate NaN, as does an undefined translation.
    defined = (mt == mt) & (tl.abs(ma) < float("inf")) & (tl.abs(mb) < float("inf"))
    count = tl.where((lowest >= -FAR) & (highest <= FAR), 1.0, FAR).to(tl.float64)
    first = count * 0
    if PADDING == "reflection":
        span = (length - 1 if ALIGN else length).to(tl.float64)
        low = 0.0 if ALIGN else -0.5
        room = tl.where(span > 0, span, 1.0)
        cell = tl.floor((lowest - SLACK - low) / room)
        cells = tl.floor((highest + SLACK - low) / room) - cell + 1
        mirrors = (count == 1) & (span > 0)
        first, count = tl.where(mirrors, cell, first), tl.where(mirrors, cells, count)
    return first, tl.where(defined, count, 0.0)


@triton.jit
def _axis_extent(
    first, last, length, lowest, highest, cell, PADDING: tl.constexpr, ALIGN: tl.constexpr, MODE: tl.constexpr
):
    """How the pixels from first to last of an axis are reached in a mirror cell.

    Pixel i stands at ``sign * i + origin`` and is read from ``before`` to ``after`` pixels around it, as pixels count.
    """
    support = (0.5 if MODE == "nearest" else 1.0) + SLACK
    before, after = lowest * 0 - support, highest * 0 + support
    if PADDING == "border" or PADDING == "reflection":
        # Edge pixels are read from everywhere beyond them; so is the only pixel of an axis without room for mirrors.
        is_open = PADDING == "border" or length == 1
        before = tl.where((first == 0) & is_open, tl.minimum(before, lowest), before)
        after = tl.where((last == length - 1) & is_open, tl.maximum(after, highest - last), after)
    sign, origin = before * 0 + 1, before * 0
    if PADDING == "reflection":
        span = (length - 1 if ALIGN else length).to(tl.float64)
        low = 0.0 if ALIGN else -0.5
        odd = (cell & 1) == 1
        sign = tl.where(odd, -sign, sign)
        origin = tl.where(odd, (cell + 1) * span + 2 * low, cell * span)
    return before, after, sign, origin


@triton.jit
def _around(p, q, x_before, x_after, y_before, y_after):
    """The bounds of ``p * x + q * y`` over a rectangle, widened against rounding."""
    low = tl.minimum(p * x_before, p * x_after) + tl.minimum(q * y_before, q * y_after)
    high = tl.maximum(p * x_before, p * x_after) + tl.maximum(q * y_before, q * y_after)
    return low - SLACK, high + SLACK


@triton.jit
def _first_candidate(p, q, corner, low, dj, di):
    """Per input pixel, the first output column (or row) to look at; ``corner`` is the preimage of the tile's corner."""
    whole = tl.floor(corner)
    near = (corner - whole + low).to(tl.float32) + p.to(tl.float32) * dj + q.to(tl.float32) * di
    return tl.minimum(tl.maximum(whole, -FAR), FAR).to(tl.int32) + tl.ceil(near).to(tl.int32)


@triton.jit
def _boxes(
    theta, H, W, h, w, j0, j_last, i0, i_last, dj, di, cell_x, cell_y, countable,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr,
):  # fmt: skip
    """Around the preimage of each input pixel, the box of output pixels that can read it.

    Returns each box's first column and row, their common columns and rows, whether to use them, and whether all of
    their coordinates are near the pixel's.
    """
    ax, bx, tx, x_lowest, x_highest = _clamped_map(theta, W, w, h, ALIGN, ROUNDING)
    ay, by, ty, y_lowest, y_highest = _clamped_map(theta + 3, H, w, h, ALIGN, ROUNDING)
    x_before, x_after, sign_x, origin_x = _axis_extent(j0, j_last, W, x_lowest, x_highest, cell_x, PADDING, ALIGN, MODE)
    y_before, y_after, sign_y, origin_y = _axis_extent(i0, i_last, H, y_lowest, y_highest, cell_y, PADDING, ALIGN, MODE)
    determinant = ax * by - bx * ay
    invertible = tl.abs(determinant) > (tl.abs(ax) + tl.abs(bx)) * (tl.abs(ay) + tl.abs(by)) * WELL_CONDITIONED
    inverse = 1 / tl.where(invertible, determinant, 1.0)
    x, y = sign_x * j0 + origin_x - tx, sign_y * i0 + origin_y - ty
    corner_column, corner_row = inverse * (by * x - bx * y), inverse * (ax * y - ay * x)
    # From the corner on, columns are p * dj + q * di and rows r * dj + s * di.
    p, q = by * inverse * sign_x, -bx * inverse * sign_y
    r, s = -ay * inverse * sign_x, ax * inverse * sign_y
    column_low, column_high = _around(p, q, x_before, x_after, y_before, y_after)
    row_low, row_high = _around(r, s, x_before, x_after, y_before, y_after)
    columns, rows = tl.floor(column_high - column_low) + 1, tl.floor(row_high - row_low) + 1
    most = tl.minimum(w.to(tl.float64) * h, LARGEST_BOX)
    suits = columns * rows <= tl.minimum(tl.abs(inverse) * BOX_SLACK + SMALL_BOX, most)
    suits &= invertible & countable
    # Tiles that no output pixel reads have nothing to look at.
    tile_low, tile_high = _around(p, q, x_before, j_last - j0 + x_after, y_before, i_last - i0 + y_after)
    reached = (corner_column + tile_high >= 0) & (corner_column + tile_low <= w - 1)
    tile_low, tile_high = _around(r, s, x_before, j_last - j0 + x_after, y_before, i_last - i0 + y_after)
    reached &= (corner_row + tile_high >= 0) & (corner_row + tile_low <= h - 1)
    columns, rows = tl.where(suits, columns, 1.0), tl.where(suits & reached, rows, 0.0)
    first_column = _first_candidate(p, q, corner_column, column_low, dj, di)
    first_row = _first_candidate(r, s, corner_row, row_low, dj, di)
    near = tl.maximum(tl.abs(ax) * columns + tl.abs(bx) * rows, tl.abs(ay) * columns + tl.abs(by) * rows) <= NEAR
    return first_column, first_row, columns.to(tl.int32), rows.to(tl.int32), suits, near


@triton.jit
def _strip(theta, length, w, h, low, high, first_row, last_row, ALIGN: tl.constexpr, ROUNDING: tl.constexpr):
    """The output columns, widened by one, that reach coordinates from low to high somewhere in a range of rows."""
    ma, mb, mt, _, _ = _clamped_map(theta, length, w, h, ALIGN, ROUNDING)
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
def _axis_strip(
    theta, length, w, h, first, last, cell, countable,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr,
):  # fmt: skip
    """The coordinates from which the pixels from first to last are reached; all of them where cells are not counted."""
    _, _, _, lowest, highest = _clamped_map(theta, length, w, h, ALIGN, ROUNDING)
    before, after, sign, origin = _axis_extent(first, last, length, lowest, highest, cell, PADDING, ALIGN, MODE)
    one, other = sign * (first + before) + origin, sign * (last + after) + origin
    low, high = tl.minimum(one, other), tl.maximum(one, other)
    return tl.where(countable, low, float("-inf")), tl.where(countable, high, float("inf"))


@triton.jit
def _weights(
    x0, wx, cell_here_x, y0, wy, cell_here_y, wanted, j, i, cell_x, cell_y, countable,
    MODE: tl.constexpr, PADDING: tl.constexpr,
):  # fmt: skip
    """The weight that input pixels (j, i) have in output pixels; zero in those that are not wanted."""
    if PADDING == "reflection":
        wanted &= ((cell_here_x == cell_x) & (cell_here_y == cell_y)) | (countable == 0)
    return tl.where(wanted, _hat(x0, wx, j, MODE) * _hat(y0, wy, i, MODE), 0.0)


@triton.jit
def _add(totals, grad, channel, grad_c, at, weight, GROUPS: tl.constexpr, VECTOR: tl.constexpr):
    """Add one candidate per input pixel: ``at`` ``[input, 1]``, ``weight`` ``[input]``. Zeros read nothing."""
    new = ()
    for group in tl.static_range(GROUPS):
        c = (channel + group * VECTOR).to(tl.int64)[None, :]
        g = tl.load(grad + c * grad_c + at, mask=(weight > 0)[:, None], other=0.0)
        new = new + (totals[group] + g.to(weight.dtype) * weight[:, None],)  # noqa: RUF005 - Triton cannot unpack
    return new


@triton.jit
def _add_block(totals, grad, channel, grad_c, at, weight, GROUPS: tl.constexpr, VECTOR: tl.constexpr):
    """Add a block of output pixels to all input pixels: ``at`` ``[output, 1]``, ``weight`` ``[input, output]``."""
    new = ()
    read = tl.max(weight, axis=0) > 0
    for group in tl.static_range(GROUPS):
        c = (channel + group * VECTOR).to(tl.int64)[None, :]
        g = tl.load(grad + c * grad_c + at, mask=read[:, None], other=0.0).to(weight.dtype)
        each = tl.where((weight > 0)[:, :, None], weight[:, :, None] * g[None, :, :], 0.0)
        new = new + (totals[group] + tl.sum(each, axis=1),)  # noqa: RUF005 - Triton cannot unpack
    return new


@triton.jit
def _near_hat(from_first, step, position, MODE: tl.constexpr):
    """``_hat`` of a coordinate that is given relative to the input pixel: one less the distance, to the same bits."""
    distance = tl.abs(((from_first + step) >> GUARD_BITS).to(tl.int32))
    if MODE == "nearest":
        return ((distance < HALF_PIXEL) | ((distance == HALF_PIXEL) & (position % 2 == 0))).to(tl.float32)
    return tl.minimum(distance - PIXEL, 0).to(tl.float32) * -UNIT


@triton.jit
def _gather_near(
    totals, grad, x_fixed, y_fixed, first_column, first_row, columns, rows, j, i, channel, h, w, grad_c, grad_h, grad_w,
    MODE: tl.constexpr, OFFSET: tl.constexpr, GROUPS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """``_gather_boxes`` where no padding moves coordinates: from one candidate to the next it only has to add."""
    from_x = x_fixed[0] * first_column + (x_fixed[1] * first_row + x_fixed[2]) - (j.to(tl.int64) << MAP_BITS)
    from_y = y_fixed[0] * first_column + (y_fixed[1] * first_row + y_fixed[2]) - (i.to(tl.int64) << MAP_BITS)
    for down in range(rows):
        for across in range(columns):
            row, column = first_row + down, first_column + across
            weight = _near_hat(from_x, x_fixed[0] * across + x_fixed[1] * down, j, MODE)
            weight *= _near_hat(from_y, y_fixed[0] * across + y_fixed[1] * down, i, MODE)
            weight = tl.where((row >= 0) & (row < h) & (column >= 0) & (column < w), weight, 0.0)
            at = locate(row, column, grad_h, grad_w, OFFSET)
            totals = _add(totals, grad, channel, grad_c, at, weight, GROUPS, VECTOR)
    return totals


@triton.jit
def _gather_boxes(
    totals, grad, theta, x_fixed, y_fixed, first_column, first_row, columns, rows, j, i,
    cell_x, cell_y, countable, channel, H, W, h, w, grad_c, grad_h, grad_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
    OFFSET: tl.constexpr, GROUPS: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Every input pixel looks at the output pixels of its own box, all at the same place of their boxes at a time."""
    for candidate in range(columns * rows):
        down = candidate // columns
        row, column = first_row + down, first_column + (candidate - down * columns)
        x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, MODE, PADDING, ALIGN, ROUNDING, ACC)
        wanted = (row >= 0) & (row < h) & (column >= 0) & (column < w) & (undefined == 0)
        weight = _weights(x[0], x[1], x[3], y[0], y[1], y[3], wanted, j, i, cell_x, cell_y, countable, MODE, PADDING)
        at = locate(row, column, grad_h, grad_w, OFFSET)
        totals = _add(totals, grad, channel, grad_c, at, weight, GROUPS, VECTOR)
    return totals


@triton.jit
def _gather_blocks(
    totals, grad, theta, x_fixed, y_fixed, j0, j_last, i0, i_last, j, i,
    cell_x, cell_y, countable, channel, H, W, h, w, grad_c, grad_h, grad_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
    OFFSET: tl.constexpr, GROUPS: tl.constexpr, VECTOR: tl.constexpr, OUT_BLOCK: tl.constexpr, OUT_W: tl.constexpr,
):  # fmt: skip
    """All input pixels of the tile look together at each block of output pixels that can concern one of them."""
    lane = tl.arange(0, OUT_BLOCK)
    x_low, x_high = _axis_strip(theta, W, w, h, j0, j_last, cell_x, countable, MODE, PADDING, ALIGN, ROUNDING)
    y_low, y_high = _axis_strip(theta + 3, H, w, h, i0, i_last, cell_y, countable, MODE, PADDING, ALIGN, ROUNDING)
    for block_row in range(0, h, OUT_BLOCK // OUT_W):
        last_row = tl.minimum(block_row + OUT_BLOCK // OUT_W, h) - 1
        from_x, to_x = _strip(theta, W, w, h, x_low, x_high, block_row, last_row, ALIGN, ROUNDING)
        from_y, to_y = _strip(theta + 3, H, w, h, y_low, y_high, block_row, last_row, ALIGN, ROUNDING)
        last = tl.minimum(to_x, to_y)
        for block_column in range(tl.maximum(from_x, from_y), last + 1, OUT_W):
            column, row = block_column + lane % OUT_W, block_row + lane // OUT_W
            x, y, undefined = sources(
                theta, x_fixed, y_fixed, column, row, H, W, h, w, MODE, PADDING, ALIGN, ROUNDING, ACC
            )
            wanted = (column <= last) & (row <= last_row) & (undefined == 0)
            weight = _weights(
                x[0][None, :], x[1][None, :], x[3][None, :], y[0][None, :], y[1][None, :], y[3][None, :],
                wanted[None, :], j[:, None], i[:, None], cell_x, cell_y, countable, MODE, PADDING,
            )  # fmt: skip
            at = locate(row, column, grad_h, grad_w, OFFSET)
            totals = _add_block(totals, grad, channel, grad_c, at, weight, GROUPS, VECTOR)
    return totals


@triton.jit(do_not_specialize=RUNTIME)
def image_gradient_kernel(
    grad, theta, out,
    C, H, W, h, w, programs, tiles, tile_rows, maps,
    grad_n, grad_c, grad_h, grad_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
    OFFSET: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr, TILE_W: tl.constexpr, VECTOR: tl.constexpr, GROUPS: tl.constexpr,
    OUT_BLOCK: tl.constexpr, OUT_W: tl.constexpr,
):  # fmt: skip
    """One axis of the grid, for others are short: all tiles of all images, for ``GROUPS`` x ``VECTOR`` channels each.

    All maps of an image are gathered from, one after the other, and so are all mirror images of a map.
    """
    program = tl.program_id(0)
    share = program // programs
    n, j0, i0, _ = tile_of(program - share * programs, tiles, tile_rows, H, W, TILE_W)
    lane = tl.arange(0, BLOCK)
    dj, di = lane % TILE_W, lane // TILE_W
    j, i = j0 + dj, i0 + di
    j_last, i_last = tl.minimum(j0 + TILE_W, W) - 1, tl.minimum(i0 + tile_rows, H) - 1
    channel = share * (GROUPS * VECTOR) + tl.arange(0, VECTOR)

    totals = (tl.zeros((BLOCK, VECTOR), ACC),) * GROUPS
    for k in range(maps):
        m = n * maps + k
        at_theta = theta + m * 6
        plane = grad + m * grad_n
        x_fixed = fixed_map(at_theta, W, w, h, ALIGN, ROUNDING)
        y_fixed = fixed_map(at_theta + 3, H, w, h, ALIGN, ROUNDING)
        fixed = x_fixed[3] & y_fixed[3]
        if fixed & (PADDING != "reflection"):  # Such maps are defined everywhere, and lie in one cell.
            first_x, first_y = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
            count_x, count_y = tl.full((), 1.0, tl.float64), tl.full((), 1.0, tl.float64)
        else:
            first_x, count_x = _axis_cells(at_theta, W, w, h, PADDING, ALIGN, ROUNDING)
            first_y, count_y = _axis_cells(at_theta + 3, H, w, h, PADDING, ALIGN, ROUNDING)
        countable = count_x * count_y <= MIRROR_CELLS
        across = tl.where(countable, count_x, 1.0).to(tl.int32)
        cells = tl.where(countable, count_x * count_y, 1.0).to(tl.int32)
        for cell in range(cells):
            cell_x, cell_y = first_x.to(tl.int32) + cell % across, first_y.to(tl.int32) + cell // across
            first_column, first_row, columns, rows, suits, near = _boxes(
                at_theta, H, W, h, w, j0, j_last, i0, i_last, dj, di, cell_x, cell_y, countable,
                MODE, PADDING, ALIGN, ROUNDING,
            )  # fmt: skip
            if suits & near & fixed & (ACC != tl.float64) & (PADDING == "zeros" or PADDING == "fill"):
                totals = _gather_near(
                    totals, plane, x_fixed, y_fixed, first_column, first_row, columns, rows, j, i,
                    channel, h, w, grad_c, grad_h, grad_w, MODE, OFFSET, GROUPS, VECTOR,
                )  # fmt: skip
            elif suits:
                totals = _gather_boxes(
                    totals, plane, at_theta, x_fixed, y_fixed, first_column, first_row, columns, rows, j, i,
                    cell_x, cell_y, countable, channel, H, W, h, w, grad_c, grad_h, grad_w,
                    MODE, PADDING, ALIGN, ROUNDING, ACC, OFFSET, GROUPS, VECTOR,
                )  # fmt: skip
            else:
                totals = _gather_blocks(
                    totals, plane, at_theta, x_fixed, y_fixed, j0, j_last, i0, i_last, j, i,
                    cell_x, cell_y, countable, channel, H, W, h, w, grad_c, grad_h, grad_w,
                    MODE, PADDING, ALIGN, ROUNDING, ACC, OFFSET, GROUPS, VECTOR, OUT_BLOCK, OUT_W,
                )  # fmt: skip
    live = ((j < W) & (i < H))[:, None]
    for group in tl.static_range(GROUPS):
        to = place(out + n * C * H * W, i.to(OFFSET) * W + j, channel + group * VECTOR, C, H, W, LAST)
        tl.store(to, totals[group].to(out.dtype.element_ty), mask=live)
