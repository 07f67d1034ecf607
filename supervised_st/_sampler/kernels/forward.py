"""The forward: one program samples one tile of output pixels of one map, some channels of it."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import covers, extent, fixed_map, plain_sources, sources

RUNTIME = ["H", "W", "h", "w", "programs", "tiles", "tile_rows"]
"""Sizes that compile into no kernel of their own, even where they are 1 or divisible by 16."""


@triton.jit
def tile_of(program, tiles, tile_rows, h, w, TILE_W: tl.constexpr):
    """Which map, and the tile's first column, first row and the row after its last; tiles of a map in reading order."""
    at = program // tiles
    tile = program - at * tiles
    across = (w + (TILE_W - 1)) // TILE_W
    down = tile // across
    first_row = down * tile_rows
    return at.to(tl.int64), (tile - down * across) * TILE_W, first_row, tl.minimum(first_row + tile_rows, h)


@triton.jit
def classify(x_fixed, y_fixed, x_extent, y_extent, column, row, H, W, ACC: tl.constexpr):
    """Tell whether all taps of a block of output pixels lie inside of the image, and whether none does.

    Neither is said where integers cannot hold the coordinates, and so never in float64.
    """
    left, right = covers(x_fixed, x_extent, column, row)
    top, bottom = covers(y_fixed, y_extent, column, row)
    fits = x_fixed[3] & y_fixed[3] & (ACC != tl.float64)
    inside = fits & (left >= 0) & (right < W - 1) & (top >= 0) & (bottom < H - 1)
    outside = fits & ((left >= W) | (right < -1) | (top >= H) | (bottom < -1))
    return inside, outside


@triton.jit
def locate(y, x, stride_h, stride_w, OFFSET: tl.constexpr):
    """Offsets of pixels inside their plane, in 64 bits only where planes are that large; ``[pixel, 1]``."""
    return (y.to(OFFSET) * stride_h + x.to(OFFSET) * stride_w)[:, None]


@triton.jit
def _matters(weight):
    """All bits where a weight is not zero, none where it is.

    Kept in a register: as comparisons these would need more flags than a thread has.
    """
    if weight.dtype == tl.float64:
        bits = 0 - ((weight.to(tl.uint64, bitcast=True) + 0x7FFFFFFFFFFFFFFF) >> 63)
    else:
        bits = 0 - ((weight.to(tl.uint32, bitcast=True) + 0x7FFFFFFF) >> 31)
    return bits[:, None]


@triton.jit
def _settle(value, matters, SLOPES: tl.constexpr):
    """A tap without weight reads as zero; where slopes are wanted only if it is not finite, since slopes need it."""
    if SLOPES:
        return tl.where((matters != 0) | (tl.abs(value) < float("inf")), value, 0.0)
    return (value.to(matters.dtype, bitcast=True) & matters).to(value.dtype, bitcast=True)


@triton.jit
def _normalized(pixel, mean, scale, PADDING: tl.constexpr, ACC: tl.constexpr):
    """A pixel less the mean. Beside a fill, which is in units of the output and keeps its bits, it is scaled, too."""
    value = pixel.to(ACC) - mean
    return value * scale if PADDING == "fill" else value


@triton.jit
def rescaled(value, scale, PADDING: tl.constexpr):
    """What was blended or derived from taps, in units of the output."""
    return value if PADDING == "fill" else value * scale


@triton.jit
def inside_taps(
    plane, offset, channel, stride_h, stride_w, wx, wy, mean, scale,
    MODE: tl.constexpr, PADDING: tl.constexpr, ACC: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Read the four taps where all of them lie inside of the image."""
    x_matters, y_matters = _matters(wx), _matters(wy)
    p00 = plane + channel + offset
    v00 = _normalized(tl.load(p00), mean, scale, PADDING, ACC)
    if MODE == "nearest":
        return v00, v00, v00, v00
    p10 = p00 + stride_h
    v01 = _settle(_normalized(tl.load(p00 + stride_w), mean, scale, PADDING, ACC), x_matters, SLOPES)
    v10 = _settle(_normalized(tl.load(p10), mean, scale, PADDING, ACC), y_matters, SLOPES)
    v11 = _settle(_normalized(tl.load(p10 + stride_w), mean, scale, PADDING, ACC), x_matters & y_matters, SLOPES)
    return v00, v01, v10, v11


@triton.jit
def _masked_tap(pointer, inside, mean, scale, beyond, PADDING: tl.constexpr, ACC: tl.constexpr):
    value = _normalized(tl.load(pointer, mask=inside, other=0), mean, scale, PADDING, ACC)
    return tl.where(inside, value, beyond if PADDING == "fill" else 0.0)


@triton.jit
def masked_taps(
    plane, offset, channel, stride_h, stride_w, x0, y0, wx, wy, H, W, mean, scale, beyond,
    MODE: tl.constexpr, PADDING: tl.constexpr, ACC: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Read the four taps; what lies outside is never read and counts as ``beyond``."""
    left, right = (x0 >= 0) & (x0 < W), (x0 >= -1) & (x0 < W - 1)
    top, bottom = (y0 >= 0) & (y0 < H), (y0 >= -1) & (y0 < H - 1)
    x_matters, y_matters = _matters(wx), _matters(wy)
    p00 = plane + channel + offset
    v00 = _masked_tap(p00, (left & top)[:, None], mean, scale, beyond, PADDING, ACC)
    if MODE == "nearest":
        return v00, v00, v00, v00
    p10 = p00 + stride_h
    v01 = _masked_tap(p00 + stride_w, (right & top)[:, None], mean, scale, beyond, PADDING, ACC)
    v10 = _masked_tap(p10, (left & bottom)[:, None], mean, scale, beyond, PADDING, ACC)
    v11 = _masked_tap(p10 + stride_w, (right & bottom)[:, None], mean, scale, beyond, PADDING, ACC)
    v01 = _settle(v01, x_matters, SLOPES)
    v10 = _settle(v10, y_matters, SLOPES)
    v11 = _settle(v11, x_matters & y_matters, SLOPES)
    return v00, v01, v10, v11


@triton.jit
def channel_constants(fill, mean, std, c, PADDING: tl.constexpr, NORMALIZED: tl.constexpr, ACC: tl.constexpr):
    """The mean, one over the standard deviation, and what a tap outside is; ``[1, channel]``."""
    zero = tl.zeros(c.shape, ACC)[None, :]
    mean_here = tl.load(mean + c)[None, :] if NORMALIZED else zero
    scale = 1 / tl.load(std + c)[None, :] if NORMALIZED else zero + 1
    beyond = tl.load(fill + c)[None, :].to(ACC) if PADDING == "fill" else zero
    return mean_here, scale, beyond


@triton.jit
def place(out, pixel, c, C, h, w, LAST: tl.constexpr):
    """Where pixel x channel of a dense ``C x h x w`` block stand; ``LAST``: channels are innermost."""
    if LAST:
        return out + (pixel[:, None] * C + c[None, :])
    return out + c.to(tl.int64)[None, :] * h * w + pixel[:, None]


@triton.jit
def _blend(v00, v01, v10, v11, wx, wy, MODE: tl.constexpr):
    if MODE == "nearest":
        return v00
    upper = v00 * (1 - wx) + v01 * wx
    lower = v10 * (1 - wx) + v11 * wx
    return upper * (1 - wy) + lower * wy


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    image, theta, fill, mean, std, out,
    C, H, W, h, w, tiles, tile_rows, channels, maps,
    stride_n, stride_c, stride_h, stride_w,
    MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr, ROUNDING: tl.constexpr, ACC: tl.constexpr,
    NORMALIZED: tl.constexpr, OFFSET: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr, TILE_W: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """Axis 0 of the grid: tiles of all maps; axis 1: groups of ``channels`` channels, ``VECTOR`` of them at a time.

    A tile is ``TILE_W`` columns of ``tile_rows`` rows, walked in blocks of ``BLOCK`` pixels. ``LAST`` says that the
    channels of image and output are innermost.
    """
    m, first_column, first_row, end_row = tile_of(tl.program_id(0), tiles, tile_rows, h, w, TILE_W)
    theta += m * 6
    x_fixed = fixed_map(theta, W, w, h, ALIGN, ROUNDING)
    y_fixed = fixed_map(theta + 3, H, w, h, ALIGN, ROUNDING)
    x_extent, y_extent = extent(x_fixed, TILE_W, BLOCK // TILE_W), extent(y_fixed, TILE_W, BLOCK // TILE_W)
    first_channel = tl.program_id(1) * channels
    end_channel = tl.minimum(first_channel + channels, C)
    image += (m // maps) * stride_n
    out += m * C * h * w

    lane = tl.arange(0, BLOCK)
    vector = tl.arange(0, VECTOR)
    last_column = tl.minimum(first_column + TILE_W, w) - 1
    column_here = first_column + lane % TILE_W
    column = tl.minimum(column_here, last_column)
    for block_row in range(first_row, end_row, BLOCK // TILE_W):
        last_row = tl.minimum(block_row + BLOCK // TILE_W, end_row) - 1
        row_here = block_row + lane // TILE_W
        row = tl.minimum(row_here, last_row)
        live = ((column_here <= last_column) & (row_here <= last_row))[:, None]
        inside, outside = classify(x_fixed, y_fixed, x_extent, y_extent, first_column, block_row, H, W, ACC)
        pixel = row.to(OFFSET) * w + column
        if inside:
            x0, wx, y0, wy = plain_sources(x_fixed, y_fixed, column, row, MODE, ACC)
            offset = locate(y0, x0, stride_h, stride_w, OFFSET)
            for c0 in range(first_channel, end_channel, VECTOR):
                c = c0 + vector
                mean_here, scale, _ = channel_constants(fill, mean, std, c, PADDING, NORMALIZED, ACC)
                v00, v01, v10, v11 = inside_taps(
                    image, offset, c.to(tl.int64)[None, :] * stride_c, stride_h, stride_w, wx, wy, mean_here, scale,
                    MODE, PADDING, ACC, False,
                )  # fmt: skip
                value = rescaled(_blend(v00, v01, v10, v11, wx[:, None], wy[:, None], MODE), scale, PADDING)
                tl.store(place(out, pixel, c, C, h, w, LAST), value.to(out.dtype.element_ty), mask=live)
        elif outside & (PADDING == "zeros" or PADDING == "fill"):
            for c0 in range(first_channel, end_channel, VECTOR):
                c = c0 + vector
                _, _, beyond = channel_constants(fill, mean, std, c, PADDING, NORMALIZED, ACC)
                value = beyond.to(out.dtype.element_ty)
                to = place(out, pixel, c, C, h, w, LAST)
                tl.store(to, tl.broadcast_to(value, to.shape), mask=live)
        else:
            x, y, undefined = sources(
                theta, x_fixed, y_fixed, column, row, H, W, h, w, MODE, PADDING, ALIGN, ROUNDING, ACC
            )
            x0, wx, y0, wy = x[0], x[1], y[0], y[1]
            offset = locate(y0, x0, stride_h, stride_w, OFFSET)
            for c0 in range(first_channel, end_channel, VECTOR):
                c = c0 + vector
                mean_here, scale, beyond = channel_constants(fill, mean, std, c, PADDING, NORMALIZED, ACC)
                v00, v01, v10, v11 = masked_taps(
                    image, offset, c.to(tl.int64)[None, :] * stride_c, stride_h, stride_w, x0, y0, wx, wy, H, W,
                    mean_here, scale, beyond, MODE, PADDING, ACC, False,
                )  # fmt: skip
                value = rescaled(_blend(v00, v01, v10, v11, wx[:, None], wy[:, None], MODE), scale, PADDING)
                value = tl.where(undefined[:, None], float("nan"), value)
                tl.store(place(out, pixel, c, C, h, w, LAST), value.to(out.dtype.element_ty), mask=live)
