"""The inverse of affine transforms: where the output pixels are that read an input pixel.

An input pixel is read from within one pixel around it. If a transform has an inverse, these output pixels lie in a box
around the pixel's preimage. All pixels have boxes of the same size, so one program inverts many transforms, and the
image gradient only has to place the boxes.
"""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import float_row, to_fixed

# Pixels by which searches are widened against the rounding of coordinates and of their inverses.
SLACK = tl.constexpr(1 / 64)
# A transform is inverted only if its determinant is at least this fraction of the product of its rows' sizes.
WELL_CONDITIONED = tl.constexpr(1e-9)
# A box may hold `SMALL_BOX` output pixels, and `BOX_SLACK` times as many as there are per input pixel.
SMALL_BOX = tl.constexpr(128)
BOX_SLACK = tl.constexpr(16)
# Larger boxes would keep one thread busy for too long; the search by blocks divides them among threads.
LARGEST_BOX = tl.constexpr(1024)
# Pixels. In boxes that reach no further, coordinates relative to the input pixel fit into 32 bits.
NEAR = tl.constexpr(32.0)
# Pixels. Along shorter sides, the rounding of an inverse in integers adds up to less than the slack.
LONGEST_SIDE = tl.constexpr(1 << 24)

# An entry of the table of inverses has `ENTRY` int64: the rows of the transform and of its inverse as integers, three
# numbers each, and the size of a box. The number of columns is zero for transforms that are not usual.
ENTRY = tl.constexpr(14)
BOX = tl.constexpr(12)
COUNTED = tl.constexpr(128)  # entries read at a time to count the unusual ones
CEILING = tl.constexpr((1 << 32) - 1)  # makes rounding down, by dropping the lower bits, rounding up


@triton.jit
def invert(ax, bx, ay, by):
    """Return the inverse of a matrix, ``(p, q, r, s)``, its determinant, and whether to rely on it."""
    determinant = ax * by - bx * ay
    invertible = tl.abs(determinant) > (tl.abs(ax) + tl.abs(bx)) * (tl.abs(ay) + tl.abs(by)) * WELL_CONDITIONED
    inverse = 1 / tl.where(invertible, determinant, 1.0)
    return by * inverse, -bx * inverse, -ay * inverse, ax * inverse, inverse, invertible


@triton.jit
def is_worth_it(columns, rows, inverse, w, h):
    """Return whether a box is so small that its output pixels should be looked at one by one."""
    most = tl.minimum(w.to(tl.float64) * h, LARGEST_BOX)
    return columns * rows <= tl.minimum(tl.abs(inverse) * BOX_SLACK + SMALL_BOX, most)


@triton.jit(do_not_specialize=["count", "H", "W", "h", "w"])
def inverse_kernel(
    theta, inverses, count, H, W, h, w, SAMPLING: tl.constexpr, BUILD: tl.constexpr, BLOCK: tl.constexpr
):
    """Each program writes ``BLOCK`` entries of the table, for padding by zeros or a fill.

    A transform is usual if integers can hold it and its inverse, and if its boxes are small in both images.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    at = tl.minimum(at, count - 1).to(tl.int64)
    ax, bx, tx = float_row(theta + at * 6, W, w, h, SAMPLING, BUILD)
    ay, by, ty = float_row(theta + at * 6 + 3, H, w, h, SAMPLING, BUILD)
    p, q, r, s, inverse, invertible = invert(ax, bx, ay, by)
    support = (0.5 if SAMPLING.mode == "nearest" else 1.0) + SLACK
    before_column = (tl.abs(p) + tl.abs(q)) * support + SLACK
    before_row = (tl.abs(r) + tl.abs(s)) * support + SLACK
    columns, rows = tl.floor(2 * before_column) + 1, tl.floor(2 * before_row) + 1
    x_fixed, y_fixed = to_fixed(ax, bx, tx, w, h), to_fixed(ay, by, ty, w, h)
    to_column = to_fixed(p, q, -(p * tx + q * ty) - before_column, W, H)
    to_row = to_fixed(r, s, -(r * tx + s * ty) - before_row, W, H)
    reach = tl.maximum(tl.abs(ax) * columns + tl.abs(bx) * rows, tl.abs(ay) * columns + tl.abs(by) * rows)
    usual = invertible & is_worth_it(columns, rows, inverse, w, h) & (reach <= NEAR)
    usual &= x_fixed[3] & y_fixed[3] & to_column[3] & to_row[3] & (tl.maximum(H, W) <= LONGEST_SIDE)
    entry = inverses + at * ENTRY
    for axis in tl.static_range(3):
        tl.store(entry + axis, x_fixed[axis], mask=live)
        tl.store(entry + 3 + axis, y_fixed[axis], mask=live)
        tl.store(entry + 6 + axis, to_column[axis] + (CEILING if axis == 2 else 0), mask=live)
        tl.store(entry + 9 + axis, to_row[axis] + (CEILING if axis == 2 else 0), mask=live)
    tl.store(entry + BOX, tl.where(usual, columns, 0.0).to(tl.int64), mask=live)
    tl.store(entry + BOX + 1, tl.where(usual, rows, 0.0).to(tl.int64), mask=live)


@triton.jit
def are_usual(inverses, first, transforms):
    """Return whether all transforms of an image are usual."""
    unusual = tl.full((), 0, tl.int32)
    for k in range(transforms):
        unusual += (tl.load(inverses + (first + k) * ENTRY + BOX) == 0).to(tl.int32)
    return unusual == 0


@triton.jit
def count_unusual(inverses, count):
    """Return the number of transforms in the whole table that are not usual."""
    unusual = tl.zeros((COUNTED,), tl.int32)
    for first in range(0, count, COUNTED):
        at = first + tl.arange(0, COUNTED)
        columns = tl.load(inverses + at.to(tl.int64) * ENTRY + BOX, mask=at < count, other=1)
        unusual += (columns == 0).to(tl.int32)
    return tl.sum(unusual)
