"""The gradient to the image where all transforms are usual: every input pixel gathers from a small box of outputs.

The boxes are those of `inverse`. Whether an output pixel reads an input pixel, and with which weight, is decided by the
forward's own coordinates, in integers relative to the input pixel. There are no atomic additions, so the order of every
sum is fixed, and every pixel is written exactly once. `image_search` writes the images with other transforms.
"""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import (
    GUARD_BITS,
    HALF_PIXEL,
    ROW_BITS,
    UNIT,
    block_range,
    coordinate,
)
from supervised_st._sampler.kernels.inverse import BOX, ENTRY, are_usual
from supervised_st._sampler.kernels.tiles import RUNTIME, lanes_of, output_pointers, pixel_offset, tile_of


@triton.jit
def add(totals, grad, channel, grad_c, at, weight, read, BUILD: tl.constexpr):
    """Add one output pixel to each input pixel that reads it: ``at`` is ``[input, 1]``, ``weight`` is ``[input]``."""
    GROUPS: tl.constexpr = BUILD.groups
    new = ()
    for group in tl.static_range(GROUPS):
        c = (channel + group * BUILD.vector).to(tl.int64)[None, :]
        g = tl.load(grad + c * grad_c + at, mask=read[:, None], other=0.0)
        new = new + (totals[group] + g.to(weight.dtype) * weight[:, None],)  # noqa: RUF005 - Triton cannot unpack
    return new


@triton.jit
def _inverse(entry):
    """Return a transform and its inverse: the rows of both, and the size of a box."""
    x_fixed = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    y_fixed = tl.load(entry + 3), tl.load(entry + 4), tl.load(entry + 5)
    to_column = tl.load(entry + 6), tl.load(entry + 7), tl.load(entry + 8)
    to_row = tl.load(entry + 9), tl.load(entry + 10), tl.load(entry + 11)
    columns, rows = tl.load(entry + BOX).to(tl.int32), tl.load(entry + BOX + 1).to(tl.int32)
    # No box is empty; a compiler that knows this leaves out a test.
    return x_fixed, y_fixed, to_column, to_row, tl.maximum(columns, 1), tl.maximum(rows, 1)


@triton.jit
def _hat(from_pixel, position, SAMPLING: tl.constexpr):
    """Return a weight along one axis, of coordinates relative to the input pixel.

    The weight is one minus the distance: to the bit what the forward computes, since it fits into a float32.
    """
    distance = (from_pixel >> GUARD_BITS).to(tl.int32)
    if SAMPLING.mode == "nearest":
        distance = tl.abs(distance)
        return ((distance < HALF_PIXEL) | ((distance == HALF_PIXEL) & (position % 2 == 0))).to(tl.float32)
    # NVIDIA's GPUs have one instruction for all of it but the conversion.
    return tl.clamp(1 - tl.abs(distance.to(tl.float32)) * UNIT, 0.0, 1.0)


@triton.jit
def _candidate_range(inverse, corner, candidates, BUILD: tl.constexpr):
    """Return the first column (or row) of candidates of a block, or one before it, and the one after the last, or more.

    In whole pixels, since less remains to be held in registers from block to block.
    """
    low, high = block_range(inverse, BUILD.tile_width, BUILD.block_rows)
    first = (corner >> ROW_BITS).to(tl.int32)
    return first + (low >> ROW_BITS).to(tl.int32), first + (high >> ROW_BITS).to(tl.int32) + 1 + candidates


@triton.jit
def _gather(
    totals, grad, inverse, j0, i0, dj, di, channel, h, w, grad_c, grad_h, grad_w, SAMPLING: tl.constexpr,
    BUILD: tl.constexpr,
):  # fmt: skip
    """Add the gradient of one transform to a block of input pixels, whose first is in column ``j0`` and row ``i0``."""
    x_fixed, y_fixed, to_column, to_row, columns, rows = inverse
    column_corner, row_corner = coordinate(to_column, j0, i0), coordinate(to_row, j0, i0)
    left, right = _candidate_range(to_column, column_corner, columns, BUILD)
    top, bottom = _candidate_range(to_row, row_corner, rows, BUILD)
    reached = tl.minimum(tl.minimum(right, w - left), tl.minimum(bottom, h - top))
    if reached > 0:  # Otherwise no output pixel reads these pixels.
        j, i = j0 + dj, i0 + di
        column = ((column_corner + (to_column[0] * dj + to_column[1] * di)) >> ROW_BITS).to(tl.int32)
        row = ((row_corner + (to_row[0] * dj + to_row[1] * di)) >> ROW_BITS).to(tl.int32)
        # Relative to the first candidates of the block, candidates are unsigned, which makes for shorter products.
        across, down = (column - left).to(tl.uint32), (row - top).to(tl.uint32)
        x_corner = coordinate(x_fixed, left, top) - (j0.to(tl.int64) << ROW_BITS)
        y_corner = coordinate(y_fixed, left, top) - (i0.to(tl.int64) << ROW_BITS)
        from_x = x_corner - (dj.to(tl.int64) << ROW_BITS) + x_fixed[0] * across + x_fixed[1] * down
        from_y = y_corner - (di.to(tl.int64) << ROW_BITS) + y_fixed[0] * across + y_fixed[1] * down
        # At the end of a row of candidates, back to its first column and on to the next row.
        x_turn, y_turn = x_fixed[1] - x_fixed[0] * columns, y_fixed[1] - y_fixed[0] * columns
        for _ in range(rows):
            in_rows = row.to(tl.uint32) < h.to(tl.uint32)
            for step in range(columns):
                here = column + step
                weight = _hat(from_x, j, SAMPLING) * _hat(from_y, i, SAMPLING)
                read = (weight > 0) & in_rows & (here.to(tl.uint32) < w.to(tl.uint32))
                at = pixel_offset(row, here, grad_h, grad_w, BUILD)
                totals = add(totals, grad, channel, grad_c, at, weight, read, BUILD)
                from_x += x_fixed[0]
                from_y += y_fixed[0]
            row += 1
            from_x += x_turn
            from_y += y_turn
    return totals


@triton.jit(do_not_specialize=RUNTIME)
def image_gradient_kernel(
    grad, inverses, out,
    C, H, W, h, w, programs, tiles, tile_rows, transforms,
    grad_n, grad_c, grad_h, grad_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """One axis of the grid, since the others are too short: for each group of channels, all tiles of all images.

    A group has ``BUILD.groups * BUILD.vector`` channels. A program goes through its tile block by block, and in each
    block through all transforms of its image; most images have one.
    """
    BLOCK: tl.constexpr = BUILD.block
    VECTOR: tl.constexpr = BUILD.vector
    GROUPS: tl.constexpr = BUILD.groups
    channel_group = tl.program_id(0) // programs
    n, j0, first_row, end_row = tile_of(tl.program_id(0) - channel_group * programs, tiles, tile_rows, H, W, BUILD)
    dj, di = lanes_of(BUILD)
    channel = channel_group * (GROUPS * VECTOR) + tl.arange(0, VECTOR)
    in_columns = j0 + dj < W
    if are_usual(inverses, n * transforms, transforms):
        first = n * transforms
        inverse = _inverse(inverses + first * ENTRY)  # ahead of the loop
        for down in range(0, end_row - first_row, BUILD.block_rows):
            i0 = first_row + down
            totals = (tl.zeros((BLOCK, VECTOR), BUILD.acc),) * GROUPS
            totals = _gather(
                totals, grad + first * grad_n, inverse, j0, i0, dj, di, channel, h, w, grad_c, grad_h, grad_w,
                SAMPLING, BUILD,
            )  # fmt: skip
            for k in range(1, transforms):
                totals = _gather(
                    totals, grad + (first + k) * grad_n, _inverse(inverses + (first + k) * ENTRY), j0, i0, dj, di,
                    channel, h, w, grad_c, grad_h, grad_w, SAMPLING, BUILD,
                )  # fmt: skip
            live = (in_columns & (di < end_row - i0))[:, None]
            to = out + n * C * H * W + (i0.to(tl.int64) * W + j0) * (C if BUILD.channels_last else 1)
            pixel = di.to(BUILD.offset) * W + dj
            for group in tl.static_range(GROUPS):
                c = channel + group * VECTOR
                value = totals[group].to(out.dtype.element_ty)
                tl.store(output_pointers(to, pixel, c, C, H, W, BUILD), value, mask=live)
