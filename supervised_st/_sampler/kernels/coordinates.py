"""From theta to the pixels that an output pixel reads, and their weights. Every kernel asks here, so they agree.

Theta becomes a map in pixels once per program, in float64. Pixel coordinates are then *integers*: multiples of
2^-24 pixel, exact for whole-pixel maps, the same in every kernel and on every device, and cheap. Images in float64, and
maps that leave the range of these integers or hold a NaN, take the float64 way.
"""

import triton
import triton.language as tl

FAR = tl.constexpr(2.0**30)
"""Pixels. Coordinates are clamped to this before they become integers; it lies outside of every image."""

FIXED_RANGE = tl.constexpr(2.0**29)
"""Pixels. A map that stays below takes the way of integers."""

FIXED_STEP = tl.constexpr(2.0**25)
"""Pixels per output pixel. Below it the way of integers is open: a block of 32 x 16 output pixels, of which only some
may belong to the output, then stays below 2^29 + 46 * 2^25 < 2^31 pixels, and its coordinates within 64 bits."""

FRACTION_BITS = tl.constexpr(24)
"""Of a coordinate; as many as a float32 weight can hold."""

PIXEL = tl.constexpr(1 << 24)
"""One pixel in the units of coordinates."""

HALF_PIXEL = tl.constexpr(1 << 23)

FRACTION = tl.constexpr((1 << 24) - 1)
"""The bits of a coordinate within its pixel."""

UNIT = tl.constexpr(2.0**-24)
"""A coordinate's unit in pixels."""

GUARD_BITS = tl.constexpr(8)
"""More bits of the map's coefficients, so that their rounding does not add up over the columns."""

MAP_BITS = tl.constexpr(32)

MAP_PIXEL = tl.constexpr(2.0**32)
"""One pixel in the units of the map's coefficients."""

HALF_UNIT = tl.constexpr(1 << 7)
"""Half a coordinate's unit in those of the map: added once, so that cutting the guard bits off rounds."""


@triton.jit
def float_map(theta, length, w, h, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, RELOAD: tl.constexpr = False):
    """One row of theta in pixels: coordinate = ma * column + mb * row + mt, float64.

    Snapped to a whole-pixel map within the rounding of theta's dtype, as ``_reference.pixel_map`` does. With ``RELOAD``
    the compiler computes it here and not ahead of a loop, where it would hold registers that the usual way needs.
    """
    a = tl.load(theta, volatile=RELOAD).to(tl.float64)
    b = tl.load(theta + 1, volatile=RELOAD).to(tl.float64)
    t = tl.load(theta + 2, volatile=RELOAD).to(tl.float64)
    n = length.to(tl.float64)
    per_column, per_row, half = pixels_per_pixel(length, w, h, ALIGN)
    ma, mb = a * per_column, b * per_row
    mt = (n - 1) * 0.5 + t * half - ma * ((w.to(tl.float64) - 1) * 0.5) - mb * ((h.to(tl.float64) - 1) * 0.5)
    whole_a, whole_b, whole_t = tl.floor(ma + 0.5), tl.floor(mb + 0.5), tl.floor(mt + 0.5)
    reach = half * (tl.abs(a) + tl.abs(b) + tl.abs(t) + 1)
    snaps = tl.abs(whole_a - ma) <= ROUNDING * tl.abs(ma)
    snaps &= tl.abs(whole_b - mb) <= ROUNDING * tl.abs(mb)
    snaps &= tl.abs(whole_t - mt) <= ROUNDING * reach
    return tl.where(snaps, whole_a, ma), tl.where(snaps, whole_b, mb), tl.where(snaps, whole_t, mt)


@triton.jit
def pixels_per_pixel(length, w, h, ALIGN: tl.constexpr):
    """Input pixels per output column and per output row where theta is 1, and per unit of its translation."""
    if ALIGN:
        span = length.to(tl.float64) - 1
        per_column = span * tl.where(w > 1, 1 / tl.maximum(w - 1, 1).to(tl.float64), 0.0)
        per_row = span * tl.where(h > 1, 1 / tl.maximum(h - 1, 1).to(tl.float64), 0.0)
    else:
        span = length.to(tl.float64)
        per_column, per_row = span * (1 / w.to(tl.float64)), span * (1 / h.to(tl.float64))
    return per_column, per_row, span * 0.5


@triton.jit
def reach(ma, mb, mt, w, h):
    """The smallest and the largest coordinate over the output, which lie at its corners."""
    across, down = ma * (w - 1), mb * (h - 1)
    lowest = mt + tl.minimum(across, 0.0) + tl.minimum(down, 0.0)
    return lowest, mt + tl.maximum(across, 0.0) + tl.maximum(down, 0.0)


@triton.jit
def fixed_map(theta, length, w, h, ALIGN: tl.constexpr, ROUNDING: tl.constexpr):
    """The same row in integers, and whether they can hold it. Half a unit is added, so that cutting rounds."""
    ma, mb, mt = float_map(theta, length, w, h, ALIGN, ROUNDING)
    lowest, highest = reach(ma, mb, mt, w, h)
    fits = (tl.abs(ma) < FIXED_STEP) & (tl.abs(mb) < FIXED_STEP)
    fits &= (lowest > -FIXED_RANGE) & (highest < FIXED_RANGE)
    fa = tl.floor(tl.where(fits, ma, 0.0) * MAP_PIXEL + 0.5).to(tl.int64)
    fb = tl.floor(tl.where(fits, mb, 0.0) * MAP_PIXEL + 0.5).to(tl.int64)
    ft = tl.floor(tl.where(fits, mt, 0.0) * MAP_PIXEL + 0.5).to(tl.int64)
    return fa, fb, ft + HALF_UNIT, fits


@triton.jit
def extent(fixed, columns, rows):
    """What is smallest and largest over a block of output pixels, from the coordinate of its first one."""
    across, down = fixed[0] * (columns - 1), fixed[1] * (rows - 1)
    return tl.minimum(across, 0) + tl.minimum(down, 0), tl.maximum(across, 0) + tl.maximum(down, 0)


@triton.jit
def covers(fixed, extent_of_block, column, row):
    """The first and the last pixel that a block of output pixels reads at; bilinear sampling reads the next one too."""
    at = fixed[0] * column + fixed[1] * row + fixed[2]
    return ((at + extent_of_block[0]) >> MAP_BITS).to(tl.int32), ((at + extent_of_block[1]) >> MAP_BITS).to(tl.int32)


@triton.jit
def _split_fixed(q, MODE: tl.constexpr, ACC: tl.constexpr):
    """Coordinate -> the pixel at or before it and the weight of the next one, in [0, 1); or the nearest pixel and 0."""
    index = (q >> FRACTION_BITS).to(tl.int32)
    fraction = (q & FRACTION).to(tl.int32)
    if MODE == "nearest":
        up = (fraction > HALF_PIXEL) | ((fraction == HALF_PIXEL) & ((index & 1) == 1))
        return index + up.to(tl.int32), fraction.to(ACC) * 0
    return index, fraction.to(ACC) * UNIT


@triton.jit
def _fixed_axis(
    fixed, column, row, length,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One axis in integers: pixel, weight of the next, slope of the padding, mirror cell."""
    q = (fixed[0] * column + (fixed[1] * row + fixed[2])) >> GUARD_BITS
    slope = (q * 0 + 1).to(ACC)
    cell = (q * 0).to(tl.int32)
    last = (length - 1).to(tl.int64) << FRACTION_BITS
    if PADDING == "reflection":
        low = q * 0 if ALIGN else q * 0 - HALF_PIXEL
        span = length - 1 if ALIGN else length
        # A one-pixel axis has no room to be mirrored in; the clamp below brings it to its only pixel.
        room = tl.maximum(span, 1)
        distance = tl.abs(q - low)
        turns = (distance >> FRACTION_BITS).to(tl.int32) // room
        rest = distance - ((turns.to(tl.int64) * room) << FRACTION_BITS)
        before, odd = q < low, (turns & 1) == 1
        slope = tl.where(before != odd, -slope, slope)
        cell = tl.where(span > 0, tl.where(before, -1 - turns, turns), 0)
        q = low + tl.where(odd, (room.to(tl.int64) << FRACTION_BITS) - rest, rest)
        q = tl.where(span > 0, q, 0)
    if PADDING == "border" or PADDING == "reflection":
        slope = tl.where((q > 0) & (q < last), slope, 0.0)
        q = tl.minimum(tl.maximum(q, 0), last)
    index, weight = _split_fixed(q, MODE, ACC)
    return index, weight, slope, cell


@triton.jit
def _split_float(c, MODE: tl.constexpr, ACC: tl.constexpr):
    """As ``_split_fixed``; a weight that rounds to one belongs to the next pixel."""
    whole = tl.floor(c)
    if MODE == "nearest":
        over, odd = c - whole, whole - 2 * tl.floor(whole / 2)
        up = (over > 0.5) | ((over == 0.5) & (odd == 1))
        return (whole + up.to(tl.float64)).to(tl.int32), (c * 0).to(ACC)
    weight = (c - whole).to(ACC)
    carries = weight == 1
    return (whole + carries.to(tl.float64)).to(tl.int32), tl.where(carries, 0.0, weight).to(ACC)


@triton.jit
def _float_axis(
    theta, column, row, length, w, h,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """One axis in float64: as ``_fixed_axis``, and where the coordinate is NaN."""
    ma, mb, mt = float_map(theta, length, w, h, ALIGN, ROUNDING, ACC != tl.float64)
    c = ma * column.to(tl.float64) + mb * row.to(tl.float64) + mt
    undefined = c != c
    near = tl.abs(c) < FAR
    c = tl.minimum(tl.maximum(tl.where(undefined, 0.0, c), -FAR), FAR)
    last = length.to(tl.float64) - 1
    slope = tl.where(near, 1.0, 0.0).to(ACC)
    cell = (c * 0).to(tl.int32)
    if PADDING == "reflection":
        low = 0.0 if ALIGN else -0.5
        span = last if ALIGN else last + 1
        room = tl.where(span > 0, span, 1.0)
        distance = tl.abs(c - low)
        turns = tl.floor(distance / room)
        rest = distance - turns * room
        before, odd = c < low, (turns - 2 * tl.floor(turns / 2)) == 1
        slope = tl.where(before != odd, -slope, slope)
        cell = tl.where(span > 0, tl.where(before, -1 - turns, turns), 0.0).to(tl.int32)
        c = tl.where(span > 0, low + tl.where(odd, span - rest, rest), 0.0)
    if PADDING == "border" or PADDING == "reflection":
        slope = tl.where((c > 0) & (c < last), slope, 0.0)
        c = tl.minimum(tl.maximum(c, 0.0), last)
    index, weight = _split_float(c, MODE, ACC)
    return index, weight, slope, cell, undefined


@triton.jit
def sources(
    theta, x_fixed, y_fixed, column, row, H, W, h, w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Output pixels -> along x and along y: (pixel, weight of the next one, slope, mirror cell); and which are NaN.

    Pixels and cells are int32, weights in [0, 1) and slopes in ``ACC``. Padding by border or reflection has been done.
    """
    if ACC == tl.float64:
        x = _float_axis(theta, column, row, W, w, h, MODE, PADDING, ALIGN, ROUNDING, ACC)
        y = _float_axis(theta + 3, column, row, H, w, h, MODE, PADDING, ALIGN, ROUNDING, ACC)
        x0, wx, slope_x, cell_x, undefined_x = x
        y0, wy, slope_y, cell_y, undefined_y = y
        undefined = undefined_x | undefined_y
    elif x_fixed[3] & y_fixed[3]:
        x0, wx, slope_x, cell_x = _fixed_axis(x_fixed, column, row, W, MODE, PADDING, ALIGN, ACC)
        y0, wy, slope_y, cell_y = _fixed_axis(y_fixed, column, row, H, MODE, PADDING, ALIGN, ACC)
        undefined = x0 != x0
    else:
        x = _float_axis(theta, column, row, W, w, h, MODE, PADDING, ALIGN, ROUNDING, ACC)
        y = _float_axis(theta + 3, column, row, H, w, h, MODE, PADDING, ALIGN, ROUNDING, ACC)
        x0, wx, slope_x, cell_x, undefined_x = x
        y0, wy, slope_y, cell_y, undefined_y = y
        undefined = undefined_x | undefined_y
    return (x0, wx, slope_x, cell_x), (y0, wy, slope_y, cell_y), undefined


@triton.jit
def plain_sources(x_fixed, y_fixed, column, row, MODE: tl.constexpr, ACC: tl.constexpr):
    """The same for tiles that lie wholly inside of the image, where no padding takes part."""
    x0, wx = _split_fixed((x_fixed[0] * column + (x_fixed[1] * row + x_fixed[2])) >> GUARD_BITS, MODE, ACC)
    y0, wy = _split_fixed((y_fixed[0] * column + (y_fixed[1] * row + y_fixed[2])) >> GUARD_BITS, MODE, ACC)
    return x0, wx, y0, wy
