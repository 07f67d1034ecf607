"""From theta to the input pixels of an output pixel, and their weights. All kernels use these functions, so they agree.

Once per program, each row of theta becomes a row in pixels: coordinate = ma * column + mb * row + mt, in float64.
Coordinates of pixels are then fixed-point integers, multiples of 2^-24 pixel: exact for whole-pixel transforms, the
same in every kernel and on every device, and cheap. Float64 images, and rows that leave the range of these integers or
hold a NaN, use float64 coordinates.
"""

import triton
import triton.language as tl

# In pixels: coordinates are clamped to `FAR`, out of bounds in every image, before they become integers. Integers can
# hold rows whose coordinates stay below `FIXED_RANGE` and change by less than `FIXED_STEP` per output pixel: a block of
# 32 x 16 output pixels, part of which may lie beyond the output, then stays below 2^29 + 46 * 2^25 < 2^31 pixels, and
# its coordinates within 64 bits.
FAR = tl.constexpr(2.0**30)
FIXED_RANGE = tl.constexpr(2.0**29)
FIXED_STEP = tl.constexpr(2.0**25)

# Coordinates: a float32 weight represents all of their fraction bits exactly.
FRACTION_BITS = tl.constexpr(24)
FRACTION = tl.constexpr((1 << 24) - 1)  # mask
HALF_PIXEL = tl.constexpr(1 << 23)
UNIT = tl.constexpr(2.0**-24)  # in pixels

# A row's coefficients: they have guard bits, so that their rounding errors do not add up over the columns. Half a
# coordinate's unit is added once, so that dropping the guard bits rounds.
ROW_BITS = tl.constexpr(32)
GUARD_BITS = tl.constexpr(8)
ROW_PIXEL = tl.constexpr(2.0**32)
HALF_UNIT = tl.constexpr(1 << 7)


@triton.jit
def float_row(theta, length, w, h, SAMPLING: tl.constexpr, BUILD: tl.constexpr, RELOAD: tl.constexpr = False):
    """Return ``(ma, mb, mt)``: a row of theta in pixels, float64. ``theta`` points to its first entry.

    A row within ``BUILD.rounding`` of a whole-pixel transform is replaced by it, as in ``reference.pixel_transform``.
    ``RELOAD`` makes the compiler compute the row here and not ahead of a loop, where it would occupy registers.
    """
    a = tl.load(theta, volatile=RELOAD).to(tl.float64)
    b = tl.load(theta + 1, volatile=RELOAD).to(tl.float64)
    t = tl.load(theta + 2, volatile=RELOAD).to(tl.float64)
    n = length.to(tl.float64)
    per_column, per_row, half = pixels_per_pixel(length, w, h, SAMPLING.align_corners)
    ma, mb = a * per_column, b * per_row
    mt = (n - 1) * 0.5 + t * half - ma * ((w.to(tl.float64) - 1) * 0.5) - mb * ((h.to(tl.float64) - 1) * 0.5)
    whole_a, whole_b, whole_t = tl.floor(ma + 0.5), tl.floor(mb + 0.5), tl.floor(mt + 0.5)
    reach = half * (tl.abs(a) + tl.abs(b) + tl.abs(t) + 1)
    snaps = tl.abs(whole_a - ma) <= BUILD.rounding * tl.abs(ma)
    snaps &= tl.abs(whole_b - mb) <= BUILD.rounding * tl.abs(mb)
    snaps &= tl.abs(whole_t - mt) <= BUILD.rounding * reach
    return tl.where(snaps, whole_a, ma), tl.where(snaps, whole_b, mb), tl.where(snaps, whole_t, mt)


@triton.jit
def pixels_per_pixel(length, w, h, ALIGN: tl.constexpr):
    """Return input pixels per output column and per output row where theta is 1, and per unit of its translation."""
    if ALIGN:
        span = length.to(tl.float64) - 1
        per_column = span * tl.where(w > 1, 1 / tl.maximum(w - 1, 1).to(tl.float64), 0.0)
        per_row = span * tl.where(h > 1, 1 / tl.maximum(h - 1, 1).to(tl.float64), 0.0)
    else:
        span = length.to(tl.float64)
        per_column, per_row = span * (1 / w.to(tl.float64)), span * (1 / h.to(tl.float64))
    return per_column, per_row, span * 0.5


@triton.jit
def coordinate_range(ma, mb, mt, w, h):
    """Return the smallest and the largest coordinate over the output; they are at its corners."""
    across, down = ma * (w - 1), mb * (h - 1)
    lowest = mt + tl.minimum(across, 0.0) + tl.minimum(down, 0.0)
    return lowest, mt + tl.maximum(across, 0.0) + tl.maximum(down, 0.0)


@triton.jit
def to_fixed(ma, mb, mt, w, h):
    """Return ``(ma, mb, mt, fits)``: a row in integers, and whether they can hold it for ``w x h`` output pixels."""
    lowest, highest = coordinate_range(ma, mb, mt, w, h)
    fits = (tl.abs(ma) < FIXED_STEP) & (tl.abs(mb) < FIXED_STEP)
    fits &= (lowest > -FIXED_RANGE) & (highest < FIXED_RANGE)
    fa = tl.floor(tl.where(fits, ma, 0.0) * ROW_PIXEL + 0.5).to(tl.int64)
    fb = tl.floor(tl.where(fits, mb, 0.0) * ROW_PIXEL + 0.5).to(tl.int64)
    ft = tl.floor(tl.where(fits, mt, 0.0) * ROW_PIXEL + 0.5).to(tl.int64)
    return fa, fb, ft + HALF_UNIT, fits


@triton.jit
def fixed_row(theta, length, w, h, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """As ``to_fixed``, from a row of theta."""
    ma, mb, mt = float_row(theta, length, w, h, SAMPLING, BUILD)
    return to_fixed(ma, mb, mt, w, h)


@triton.jit
def block_range(fixed, columns, rows):
    """Return the smallest and the largest coordinate over a block of output pixels, relative to its first pixel's."""
    across, down = fixed[0] * (columns - 1), fixed[1] * (rows - 1)
    return tl.minimum(across, 0) + tl.minimum(down, 0), tl.maximum(across, 0) + tl.maximum(down, 0)


@triton.jit
def coordinate(fixed, column, row):
    """Return the coordinate of output pixels, with its guard bits."""
    return fixed[0] * column + (fixed[1] * row + fixed[2])


@triton.jit
def pixel_range(block, corner):
    """Return the first and the last input pixel of a block of output pixels; bilinear sampling also reads the next.

    ``block`` is its range, and ``corner`` the coordinate of its first pixel.
    """
    return ((corner + block[0]) >> ROW_BITS).to(tl.int32), ((corner + block[1]) >> ROW_BITS).to(tl.int32)


@triton.jit
def split_fixed(q, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Split a coordinate into the pixel at or before it and the next pixel's weight in [0, 1); or the nearest and 0."""
    index = (q >> FRACTION_BITS).to(tl.int32)
    fraction = (q & FRACTION).to(tl.int32)
    if SAMPLING.mode == "nearest":
        up = (fraction > HALF_PIXEL) | ((fraction == HALF_PIXEL) & ((index & 1) == 1))
        return index + up.to(tl.int32), fraction.to(BUILD.acc) * 0
    return index, fraction.to(BUILD.acc) * UNIT


@triton.jit
def _fixed_axis(fixed, column, row, length, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return, for one axis in integers: pixel, weight of the next one, slope of the padding, mirror cell."""
    q = coordinate(fixed, column, row) >> GUARD_BITS
    slope = (q * 0 + 1).to(BUILD.acc)
    cell = (q * 0).to(tl.int32)
    last = (length - 1).to(tl.int64) << FRACTION_BITS
    if SAMPLING.padding_mode == "reflection":
        low = q * 0 if SAMPLING.align_corners else q * 0 - HALF_PIXEL
        span = length - 1 if SAMPLING.align_corners else length
        # A one-pixel axis cannot be mirrored; the clamp below brings coordinates to its only pixel.
        room = tl.maximum(span, 1)
        distance = tl.abs(q - low)
        turns = (distance >> FRACTION_BITS).to(tl.int32) // room
        rest = distance - ((turns.to(tl.int64) * room) << FRACTION_BITS)
        before, odd = q < low, (turns & 1) == 1
        slope = tl.where(before != odd, -slope, slope)
        cell = tl.where(span > 0, tl.where(before, -1 - turns, turns), 0)
        q = low + tl.where(odd, (room.to(tl.int64) << FRACTION_BITS) - rest, rest)
        q = tl.where(span > 0, q, 0)
    if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
        slope = tl.where((q > 0) & (q < last), slope, 0.0)
        q = tl.minimum(tl.maximum(q, 0), last)
    index, weight = split_fixed(q, SAMPLING, BUILD)
    return index, weight, slope, cell


@triton.jit
def _split_float(c, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """As ``split_fixed``, in float64; where the weight rounds to one, return the next pixel and zero."""
    whole = tl.floor(c)
    if SAMPLING.mode == "nearest":
        over, odd = c - whole, whole - 2 * tl.floor(whole / 2)
        up = (over > 0.5) | ((over == 0.5) & (odd == 1))
        return (whole + up.to(tl.float64)).to(tl.int32), (c * 0).to(BUILD.acc)
    weight = (c - whole).to(BUILD.acc)
    carries = weight == 1
    return (whole + carries.to(tl.float64)).to(tl.int32), tl.where(carries, 0.0, weight).to(BUILD.acc)


@triton.jit
def _float_axis(theta, column, row, length, w, h, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """As ``_fixed_axis``, in float64; also return where the coordinate is NaN."""
    ma, mb, mt = float_row(theta, length, w, h, SAMPLING, BUILD, BUILD.acc != tl.float64)
    c = ma * column.to(tl.float64) + mb * row.to(tl.float64) + mt
    undefined = c != c
    near = tl.abs(c) < FAR
    c = tl.minimum(tl.maximum(tl.where(undefined, 0.0, c), -FAR), FAR)
    last = length.to(tl.float64) - 1
    slope = tl.where(near, 1.0, 0.0).to(BUILD.acc)
    cell = (c * 0).to(tl.int32)
    if SAMPLING.padding_mode == "reflection":
        low = 0.0 if SAMPLING.align_corners else -0.5
        span = last if SAMPLING.align_corners else last + 1
        room = tl.where(span > 0, span, 1.0)
        distance = tl.abs(c - low)
        turns = tl.floor(distance / room)
        rest = distance - turns * room
        before, odd = c < low, (turns - 2 * tl.floor(turns / 2)) == 1
        slope = tl.where(before != odd, -slope, slope)
        cell = tl.where(span > 0, tl.where(before, -1 - turns, turns), 0.0).to(tl.int32)
        c = tl.where(span > 0, low + tl.where(odd, span - rest, rest), 0.0)
    if SAMPLING.padding_mode == "border" or SAMPLING.padding_mode == "reflection":
        slope = tl.where((c > 0) & (c < last), slope, 0.0)
        c = tl.minimum(tl.maximum(c, 0.0), last)
    index, weight = _split_float(c, SAMPLING, BUILD)
    return index, weight, slope, cell, undefined


@triton.jit
def sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return what output pixels read: ``x``, ``y`` and which of them have a NaN coordinate.

    ``x`` and ``y`` are (pixel, weight of the next one, slope, mirror cell), after padding by border or reflection.
    Pixels and cells are int32; weights, in [0, 1), and slopes are ``BUILD.acc``. The slope is the derivative of the
    padded coordinate by the coordinate. Mirror cells number the copies of the image under reflection: 0 is the image.
    """
    if BUILD.acc == tl.float64:
        x0, wx, slope_x, cell_x, undefined_x = _float_axis(theta, column, row, W, w, h, SAMPLING, BUILD)
        y0, wy, slope_y, cell_y, undefined_y = _float_axis(theta + 3, column, row, H, w, h, SAMPLING, BUILD)
        undefined = undefined_x | undefined_y
    elif x_fixed[3] & y_fixed[3]:
        x0, wx, slope_x, cell_x = _fixed_axis(x_fixed, column, row, W, SAMPLING, BUILD)
        y0, wy, slope_y, cell_y = _fixed_axis(y_fixed, column, row, H, SAMPLING, BUILD)
        undefined = x0 != x0
    else:
        x0, wx, slope_x, cell_x, undefined_x = _float_axis(theta, column, row, W, w, h, SAMPLING, BUILD)
        y0, wy, slope_y, cell_y, undefined_y = _float_axis(theta + 3, column, row, H, w, h, SAMPLING, BUILD)
        undefined = undefined_x | undefined_y
    return (x0, wx, slope_x, cell_x), (y0, wy, slope_y, cell_y), undefined
