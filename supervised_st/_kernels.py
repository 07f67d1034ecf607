"""Triton device code. Knows pointers and sizes, not tensors or autograd; imports nothing of ours.

The arithmetic is that of ``_reference``: float64 coordinates, values blended in ``ACC``. Every kernel runs one program
per tile of one image; ``tl.program_id(0)`` counts tiles of all images, so that no grid axis limits the batch.
"""

import triton
import triton.language as tl

FAR = tl.constexpr(2.0**30)
"""Pixels. Coordinates are clamped to this before they become integers; it lies outside of every image."""

WELL_CONDITIONED = tl.constexpr(1e-9)
"""A map is inverted only if its determinant is at least this share of the product of its rows' sizes."""

LARGEST_INVERTED = tl.constexpr(2.0**24)
"""Pixels per pixel, or pixels. A map with larger coefficients is not inverted."""


@triton.jit
def _steps(length, ALIGN: tl.constexpr):
    """Output axis: normalised coordinate of pixel i is first + step * i."""
    n = length.to(tl.float64)
    if ALIGN:
        step = tl.where(n > 1, 2 / tl.maximum(n - 1, 1), 0.0)
        first = tl.where(n > 1, -1.0, 0.0).to(tl.float64)
    else:
        step = 2 / n
        first = 1 / n - 1
    return step, first


@triton.jit
def _map_row(theta, length, w, h, ALIGN: tl.constexpr, ROUNDING: tl.constexpr):
    """One row of theta in pixel units, snapped to a whole-pixel map within the rounding of theta's dtype."""
    a = tl.load(theta).to(tl.float64)
    b = tl.load(theta + 1).to(tl.float64)
    t = tl.load(theta + 2).to(tl.float64)
    step_x, first_x = _steps(w, ALIGN)
    step_y, first_y = _steps(h, ALIGN)
    n = length.to(tl.float64)
    half = (n - 1) / 2 if ALIGN else n / 2
    ma = a * half * step_x
    mb = b * half * step_y
    mt = (a * first_x + b * first_y + t) * half + (n - 1) / 2
    whole_a, whole_b, whole_t = tl.floor(ma + 0.5), tl.floor(mb + 0.5), tl.floor(mt + 0.5)
    reach = half * (tl.abs(a) + tl.abs(b) + tl.abs(t) + 1)
    snaps = tl.abs(whole_a - ma) <= ROUNDING * tl.abs(ma)
    snaps &= tl.abs(whole_b - mb) <= ROUNDING * tl.abs(mb)
    snaps &= tl.abs(whole_t - mt) <= ROUNDING * reach
    return tl.where(snaps, whole_a, ma), tl.where(snaps, whole_b, mb), tl.where(snaps, whole_t, mt)


@triton.jit
def _pad(c, length, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """Bring a coordinate into the image as the padding says; also return its slope."""
    last = length.to(tl.float64) - 1
    slope = tl.full(c.shape, 1.0, tl.float64)
    if PADDING == "reflection":
        low = 0.0 if ALIGN else -0.5
        span = last if ALIGN else last + 1
        # A one-pixel axis has no room to be mirrored in; the clamp below brings it to its only pixel.
        room = tl.where(span > 0, span, 1.0)
        distance = tl.abs(c - low)
        turns = tl.floor(distance / room)
        rest = distance - turns * room
        odd = turns - 2 * tl.floor(turns / 2)
        slope = tl.where(c < low, -1.0, 1.0) * (1 - 2 * odd)
        c = tl.where(span > 0, low + tl.where(odd == 0, rest, span - rest), 0.0)
    if PADDING == "border" or PADDING == "reflection":
        slope = tl.where((c > 0) & (c < last), slope, 0.0)
        c = tl.minimum(tl.maximum(c, 0.0), last)
    return c, slope


@triton.jit
def _source(ma, mb, mt, column, row, length, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """Output pixels -> padded input coordinate along one axis, its slope, and whether it is NaN."""
    c = ma * column + mb * row + mt
    undefined = c != c
    near = tl.abs(c) < FAR
    c = tl.minimum(tl.maximum(tl.where(undefined, 0.0, c), -FAR), FAR)
    c, slope = _pad(c, length, PADDING, ALIGN)
    return c, tl.where(near, slope, 0.0), undefined


@triton.jit
def _round_half_even(c):
    """Round to the nearest whole number, halves to the even one."""
    down = tl.floor(c)
    over = c - down
    odd = down - 2 * tl.floor(down / 2)
    return tl.where((over > 0.5) | ((over == 0.5) & (odd == 1)), down + 1, down)


@triton.jit
def _tap(plane, x, y, H, W, stride_h, stride_w, live, weightless, fill, ACC: tl.constexpr):
    """Read whole-pixel positions; outside stands ``fill``. A tap without weight counts only if it is finite."""
    inside = (x >= 0) & (x < W) & (y >= 0) & (y < H)
    offset = y.to(tl.int64) * stride_h + x.to(tl.int64) * stride_w
    value = tl.load(plane + offset, mask=inside & live, other=0.0).to(ACC)
    value = tl.where(inside, value, fill)
    finite = tl.abs(value) < float("inf")
    return tl.where(weightless & (finite == 0), 0.0, value)


@triton.jit
def _output_tile(tile, h, w, BLOCK: tl.constexpr):
    """The columns, rows and mask of a tile: ``BLOCK`` output pixels in reading order."""
    pixel = tile.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row = pixel // w
    return (pixel - row * w).to(tl.float64), row.to(tl.float64), pixel, pixel < h.to(tl.int64) * w


@triton.jit(do_not_specialize=["C", "H", "W", "h", "w", "tiles"])
def forward_kernel(
    image, theta, fill, out,
    C, H, W, h, w, tiles,
    stride_n, stride_c, stride_h, stride_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: one tile of output pixels of one image, all channels."""
    n = (tl.program_id(0) // tiles).to(tl.int64)
    column, row, pixel, live = _output_tile(tl.program_id(0) % tiles, h, w, BLOCK)
    ax, bx, tx = _map_row(theta + n * 6, W, w, h, ALIGN, ROUNDING)
    ay, by, ty = _map_row(theta + n * 6 + 3, H, w, h, ALIGN, ROUNDING)
    x, _, undefined_x = _source(ax, bx, tx, column, row, W, PADDING, ALIGN)
    y, _, undefined_y = _source(ay, by, ty, column, row, H, PADDING, ALIGN)
    undefined = undefined_x | undefined_y

    if MODE == "nearest":
        x0, y0 = _round_half_even(x).to(tl.int32), _round_half_even(y).to(tl.int32)
    else:
        left, top = tl.floor(x), tl.floor(y)
        x0, y0 = left.to(tl.int32), top.to(tl.int32)
        wx, wy = (x - left).to(ACC), (y - top).to(ACC)
    plane = image + n * stride_n
    to = out + n * C * h * w + pixel
    for c in range(C):
        f = tl.load(fill + c)
        if MODE == "nearest":
            value = _tap(plane, x0, y0, H, W, stride_h, stride_w, live, undefined, f, ACC)
        else:
            no_left, no_right, no_top, no_bottom = wx == 1, wx == 0, wy == 1, wy == 0
            v00 = _tap(plane, x0, y0, H, W, stride_h, stride_w, live, no_left | no_top, f, ACC)
            v01 = _tap(plane, x0 + 1, y0, H, W, stride_h, stride_w, live, no_right | no_top, f, ACC)
            v10 = _tap(plane, x0, y0 + 1, H, W, stride_h, stride_w, live, no_left | no_bottom, f, ACC)
            v11 = _tap(plane, x0 + 1, y0 + 1, H, W, stride_h, stride_w, live, no_right | no_bottom, f, ACC)
            upper = v00 * (1 - wx) + v01 * wx
            lower = v10 * (1 - wx) + v11 * wx
            value = upper * (1 - wy) + lower * wy
        value = tl.where(undefined, float("nan"), value)
        tl.store(to, value.to(out.dtype.element_ty), mask=live)
        plane += stride_c
        to += h.to(tl.int64) * w


@triton.jit(do_not_specialize=["C", "H", "W", "h", "w", "tiles"])
def theta_gradient_kernel(
    grad, image, theta, fill, partials,
    C, H, W, h, w, tiles,
    grad_n, grad_c, grad_h, grad_w, stride_n, stride_c, stride_h, stride_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: the six sums over one tile of output pixels, float64, to ``partials[n, tile]``.

    The nearest pixel has no slope, so its sums are zero but for coordinates that are NaN.
    """
    n = (tl.program_id(0) // tiles).to(tl.int64)
    column, row, _, live = _output_tile(tl.program_id(0) % tiles, h, w, BLOCK)
    ax, bx, tx = _map_row(theta + n * 6, W, w, h, ALIGN, ROUNDING)
    ay, by, ty = _map_row(theta + n * 6 + 3, H, w, h, ALIGN, ROUNDING)
    x, slope_x, undefined_x = _source(ax, bx, tx, column, row, W, PADDING, ALIGN)
    y, slope_y, undefined_y = _source(ay, by, ty, column, row, H, PADDING, ALIGN)
    undefined = undefined_x | undefined_y

    left, top = tl.floor(x), tl.floor(y)
    x0, y0 = left.to(tl.int32), top.to(tl.int32)
    wx, wy = (x - left).to(ACC), (y - top).to(ACC)
    no_left, no_right, no_top, no_bottom = wx == 1, wx == 0, wy == 1, wy == 0
    grad_x = tl.zeros((BLOCK,), ACC)
    grad_y = tl.zeros((BLOCK,), ACC)
    at = grad + n * grad_n + row.to(tl.int64) * grad_h + column.to(tl.int64) * grad_w
    plane = image + n * stride_n
    for c in range(C if MODE == "bilinear" else 0):
        f = tl.load(fill + c)
        g = tl.load(at, mask=live, other=0.0).to(ACC)
        v00 = _tap(plane, x0, y0, H, W, stride_h, stride_w, live, no_left | no_top, f, ACC)
        v01 = _tap(plane, x0 + 1, y0, H, W, stride_h, stride_w, live, no_right | no_top, f, ACC)
        v10 = _tap(plane, x0, y0 + 1, H, W, stride_h, stride_w, live, no_left | no_bottom, f, ACC)
        v11 = _tap(plane, x0 + 1, y0 + 1, H, W, stride_h, stride_w, live, no_right | no_bottom, f, ACC)
        grad_x += g * ((v01 - v00) * (1 - wy) + (v11 - v10) * wy)
        grad_y += g * ((v10 - v00) * (1 - wx) + (v11 - v01) * wx)
        plane += stride_c
        at += grad_c
    gx = tl.where(undefined, float("nan"), grad_x.to(tl.float64) * slope_x)
    gy = tl.where(undefined, float("nan"), grad_y.to(tl.float64) * slope_y)
    gx = tl.where(live, gx, 0.0)
    gy = tl.where(live, gy, 0.0)
    to = partials + tl.program_id(0).to(tl.int64) * 6
    tl.store(to, tl.sum(gx * column))
    tl.store(to + 1, tl.sum(gx * row))
    tl.store(to + 2, tl.sum(gx))
    tl.store(to + 3, tl.sum(gy * column))
    tl.store(to + 4, tl.sum(gy * row))
    tl.store(to + 5, tl.sum(gy))


@triton.jit
def _reach(ma, mb, mt, w, h):
    """The smallest and largest coordinate over the output, which lie at its corners."""
    across, down = ma * (w.to(tl.float64) - 1), mb * (h.to(tl.float64) - 1)
    lowest = mt + tl.minimum(across, 0.0) + tl.minimum(down, 0.0)
    return lowest, mt + tl.maximum(across, 0.0) + tl.maximum(down, 0.0)


@triton.jit
def _support(position, length, lowest, highest, PADDING: tl.constexpr):
    """The coordinates that can give weight to an input pixel. Padding by the edge lets the edge pixels reach on."""
    low, high = position - 1, position + 1
    if PADDING == "border" or PADDING == "reflection":
        low = tl.where(position == 0, lowest, low)
        high = tl.where(position == length.to(tl.float64) - 1, highest, high)
    return tl.maximum(low, lowest), tl.minimum(high, highest)


@triton.jit
def _preimage(p, q, x_low, x_high, y_low, y_high, length, everywhere):
    """Bounds along one output axis of what ``p * x + q * y`` covers, widened by a pixel against rounding."""
    low = tl.minimum(p * x_low, p * x_high) + tl.minimum(q * y_low, q * y_high)
    high = tl.maximum(p * x_low, p * x_high) + tl.maximum(q * y_low, q * y_high)
    last = length.to(tl.float64) - 1
    low = tl.where(everywhere, 0.0, tl.minimum(tl.maximum(tl.floor(low) - 1, 0.0), last + 1))
    high = tl.where(everywhere, last, tl.minimum(tl.maximum(tl.floor(high) + 2, -1.0), last))
    return low.to(tl.int32), high.to(tl.int32)


@triton.jit(do_not_specialize=["C", "H", "W", "h", "w", "tiles"])
def image_gradient_kernel(
    grad, theta, out,
    C, H, W, h, w, tiles,
    grad_n, grad_c, grad_h, grad_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr,
    ACC: tl.constexpr, BLOCK: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: one tile of input pixels of one image; each pixel gathers from the output pixels that read it.

    The map is inverted to bound the output pixels that can touch an input pixel; which do, and with which weight, is
    decided by the forward's own coordinates. Without atomics the order of every sum is fixed.
    """
    n = (tl.program_id(0) // tiles).to(tl.int64)
    j, i, pixel, live = _output_tile(tl.program_id(0) % tiles, H, W, BLOCK)
    ax, bx, tx = _map_row(theta + n * 6, W, w, h, ALIGN, ROUNDING)
    ay, by, ty = _map_row(theta + n * 6 + 3, H, w, h, ALIGN, ROUNDING)

    determinant = ax * by - bx * ay
    size_x, size_y = tl.abs(ax) + tl.abs(bx), tl.abs(ay) + tl.abs(by)
    largest = tl.maximum(tl.maximum(size_x, size_y), tl.maximum(tl.abs(tx), tl.abs(ty)))
    regular = (tl.abs(determinant) > size_x * size_y * WELL_CONDITIONED) & (largest < LARGEST_INVERTED)
    x_lowest, x_highest = _reach(ax, bx, tx, w, h)
    y_lowest, y_highest = _reach(ay, by, ty, w, h)
    if PADDING == "reflection":  # Mirror images are not inverted: a map that meets a mirror is searched as a whole.
        mirror = 0.0 if ALIGN else 0.5
        regular &= (x_lowest >= -mirror) & (x_highest <= W.to(tl.float64) - 1 + mirror)
        regular &= (y_lowest >= -mirror) & (y_highest <= H.to(tl.float64) - 1 + mirror)
    everywhere = regular == 0
    inverse = 1 / tl.where(regular, determinant, 1.0)
    x_low, x_high = _support(j, W, x_lowest, x_highest, PADDING)
    y_low, y_high = _support(i, H, y_lowest, y_highest, PADDING)
    first_column, last_column = _preimage(
        by * inverse, -bx * inverse, x_low - tx, x_high - tx, y_low - ty, y_high - ty, w, everywhere
    )
    first_row, last_row = _preimage(
        -ay * inverse, ax * inverse, x_low - tx, x_high - tx, y_low - ty, y_high - ty, h, everywhere
    )
    # A pixel that nothing reaches has an empty box; the tile walks as far as its largest box, if by numbers at all.
    columns = tl.max(tl.where(live, last_column - first_column + 1, 0))
    readable = (ax == ax) & (bx == bx) & (tx == tx) & (ay == ay) & (by == by) & (ty == ty)
    rows = tl.where(readable, tl.max(tl.where(live, last_row - first_row + 1, 0)), 0)

    channel = tl.arange(0, CHANNELS)
    for c0 in range(0, C, CHANNELS):
        c = c0 + channel
        total = tl.zeros((BLOCK, CHANNELS), ACC)
        for r in range(rows):
            for q in range(columns):
                row, column = first_row + r, first_column + q
                candidate = live & (row <= last_row) & (column <= last_column)
                at_column, at_row = column.to(tl.float64), row.to(tl.float64)
                x, _, undefined_x = _source(ax, bx, tx, at_column, at_row, W, PADDING, ALIGN)
                y, _, undefined_y = _source(ay, by, ty, at_column, at_row, H, PADDING, ALIGN)
                if MODE == "nearest":
                    weight = ((_round_half_even(x) == j) & (_round_half_even(y) == i)).to(ACC)
                else:
                    left, top = tl.floor(x), tl.floor(y)
                    wx, wy = (x - left).to(ACC), (y - top).to(ACC)
                    wx = tl.where(left == j, 1 - wx, tl.where(left + 1 == j, wx, 0.0))
                    wy = tl.where(top == i, 1 - wy, tl.where(top + 1 == i, wy, 0.0))
                    weight = wx * wy
                touches = candidate & (weight > 0) & (undefined_x == 0) & (undefined_y == 0)
                at = grad + n * grad_n + row.to(tl.int64) * grad_h + column.to(tl.int64) * grad_w
                g = tl.load(
                    at[:, None] + c.to(tl.int64)[None, :] * grad_c,
                    mask=touches[:, None] & (c < C)[None, :],
                    other=0.0,
                )
                total += g.to(ACC) * tl.where(touches, weight, 0.0)[:, None]
        to = out + (n * C + c.to(tl.int64)[None, :]) * H * W + pixel[:, None]
        tl.store(to, total.to(out.dtype.element_ty), mask=live[:, None] & (c < C)[None, :])
