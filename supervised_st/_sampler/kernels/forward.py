"""The forward: one program samples one tile of output pixels of one affine transform, for a group of channels."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.coordinates import block_range, fixed_row, inside_sources, pixel_range, sources

RUNTIME = ["H", "W", "h", "w", "programs", "tiles", "tile_rows"]
"""Sizes for which Triton does not compile a kernel again when they are 1 or divisible by 16."""


@triton.jit
def tile_of(program, tiles, tile_rows, h, w, BUILD: tl.constexpr):
    """Return a program's transform, and its tile's first column, first row and the row after its last.

    The tiles of a transform are in reading order.
    """
    at = program // tiles
    tile = program - at * tiles
    across = (w + (BUILD.tile_width - 1)) // BUILD.tile_width
    down = tile // across
    first_row = down * tile_rows
    return at.to(tl.int64), (tile - down * across) * BUILD.tile_width, first_row, tl.minimum(first_row + tile_rows, h)


@triton.jit
def classify(x_fixed, y_fixed, x_range, y_range, column, row, H, W, BUILD: tl.constexpr):
    """Return whether all taps of a block of output pixels are in bounds, and whether all are out of bounds.

    Both are false where integers cannot hold the coordinates, and so always in float64.
    """
    left, right = pixel_range(x_fixed, x_range, column, row)
    top, bottom = pixel_range(y_fixed, y_range, column, row)
    fits = x_fixed[3] & y_fixed[3] & (BUILD.acc != tl.float64)
    inside = fits & (left >= 0) & (right < W - 1) & (top >= 0) & (bottom < H - 1)
    outside = fits & ((left >= W) | (right < -1) | (top >= H) | (bottom < -1))
    return inside, outside


@triton.jit
def pixel_offset(y, x, stride_h, stride_w, BUILD: tl.constexpr):
    """Return the offsets of pixels inside an image, for one channel: ``[pixel, 1]``, ``BUILD.offset``."""
    return (y.to(BUILD.offset) * stride_h + x.to(BUILD.offset) * stride_w)[:, None]


@triton.jit
def _nonzero_mask(weight):
    """Return all bits where a weight is not zero, else none; booleans would take too many predicate registers."""
    if weight.dtype == tl.float64:
        bits = 0 - ((weight.to(tl.uint64, bitcast=True) + 0x7FFFFFFFFFFFFFFF) >> 63)
    else:
        bits = 0 - ((weight.to(tl.uint32, bitcast=True) + 0x7FFFFFFF) >> 31)
    return bits[:, None]


@triton.jit
def _zero_if_weightless(value, nonzero, SLOPES: tl.constexpr):
    """Replace taps of weight zero by zero; for slopes, which need their values, only those that are not finite."""
    if SLOPES:
        return tl.where((nonzero != 0) | (tl.abs(value) < float("inf")), value, 0.0)
    return (value.to(nonzero.dtype, bitcast=True) & nonzero).to(value.dtype, bitcast=True)


@triton.jit
def _normalized(pixel, mean, scale, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Subtract the mean. With a fill, also scale: the fill is in units of the output, and must keep its bits."""
    value = pixel.to(BUILD.acc) - mean
    return value * scale if SAMPLING.padding_mode == "fill" else value


@triton.jit
def rescaled(value, scale, SAMPLING: tl.constexpr):
    """Bring a blend of taps, or a slope, to units of the output; with a fill, the taps already are."""
    return value if SAMPLING.padding_mode == "fill" else value * scale


@triton.jit
def inside_taps(
    image, offset, channel, stride_h, stride_w, wx, wy, mean, scale,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Read the four taps of pixels whose taps are all in bounds."""
    x_nonzero, y_nonzero = _nonzero_mask(wx), _nonzero_mask(wy)
    p00 = image + channel + offset
    v00 = _normalized(tl.load(p00), mean, scale, SAMPLING, BUILD)
    if SAMPLING.mode == "nearest":
        return v00, v00, v00, v00
    p10 = p00 + stride_h
    v01 = _zero_if_weightless(_normalized(tl.load(p00 + stride_w), mean, scale, SAMPLING, BUILD), x_nonzero, SLOPES)
    v10 = _zero_if_weightless(_normalized(tl.load(p10), mean, scale, SAMPLING, BUILD), y_nonzero, SLOPES)
    v11 = _normalized(tl.load(p10 + stride_w), mean, scale, SAMPLING, BUILD)
    v11 = _zero_if_weightless(v11, x_nonzero & y_nonzero, SLOPES)
    return v00, v01, v10, v11


@triton.jit
def _masked_tap(pointer, inside, mean, scale, fill, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    value = _normalized(tl.load(pointer, mask=inside, other=0), mean, scale, SAMPLING, BUILD)
    return tl.where(inside, value, fill if SAMPLING.padding_mode == "fill" else 0.0)


@triton.jit
def masked_taps(
    image, offset, channel, stride_h, stride_w, x0, y0, wx, wy, H, W, mean, scale, fill,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Read the four taps; those out of bounds are not read and have the value of the fill, or zero."""
    left, right = (x0 >= 0) & (x0 < W), (x0 >= -1) & (x0 < W - 1)
    top, bottom = (y0 >= 0) & (y0 < H), (y0 >= -1) & (y0 < H - 1)
    x_nonzero, y_nonzero = _nonzero_mask(wx), _nonzero_mask(wy)
    p00 = image + channel + offset
    v00 = _masked_tap(p00, (left & top)[:, None], mean, scale, fill, SAMPLING, BUILD)
    if SAMPLING.mode == "nearest":
        return v00, v00, v00, v00
    p10 = p00 + stride_h
    v01 = _masked_tap(p00 + stride_w, (right & top)[:, None], mean, scale, fill, SAMPLING, BUILD)
    v10 = _masked_tap(p10, (left & bottom)[:, None], mean, scale, fill, SAMPLING, BUILD)
    v11 = _masked_tap(p10 + stride_w, (right & bottom)[:, None], mean, scale, fill, SAMPLING, BUILD)
    v01 = _zero_if_weightless(v01, x_nonzero, SLOPES)
    v10 = _zero_if_weightless(v10, y_nonzero, SLOPES)
    v11 = _zero_if_weightless(v11, x_nonzero & y_nonzero, SLOPES)
    return v00, v01, v10, v11


@triton.jit
def channel_constants(fill, mean, std, c, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the mean, one over the standard deviation and the fill of channels ``c``: each ``[1, channel]``."""
    zero = tl.zeros(c.shape, BUILD.acc)[None, :]
    mean_here = tl.load(mean + c)[None, :] if BUILD.normalized else zero
    scale = 1 / tl.load(std + c)[None, :] if BUILD.normalized else zero + 1
    fill_here = tl.load(fill + c)[None, :].to(BUILD.acc) if SAMPLING.padding_mode == "fill" else zero
    return mean_here, scale, fill_here


@triton.jit
def output_pointers(out, pixel, c, C, h, w, BUILD: tl.constexpr):
    """Return pointers ``[pixel, channel]`` into one dense image ``out`` of ``C x h x w``."""
    if BUILD.channels_last:
        return out + (pixel[:, None] * C + c[None, :])
    return out + c.to(tl.int64)[None, :] * h * w + pixel[:, None]


@triton.jit
def _blend(v00, v01, v10, v11, wx, wy, SAMPLING: tl.constexpr):
    if SAMPLING.mode == "nearest":
        return v00
    upper = v00 * (1 - wx) + v01 * wx
    lower = v10 * (1 - wx) + v11 * wx
    return upper * (1 - wy) + lower * wy


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    image, theta, fill, mean, std, out,
    C, H, W, h, w, tiles, tile_rows, channels, transforms,
    stride_n, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Axis 0 of the grid: tiles of all transforms; axis 1: groups of channels.

    A program goes through its tile block by block, and through its channels ``BUILD.vector`` at a time.
    """
    m, first_column, first_row, end_row = tile_of(tl.program_id(0), tiles, tile_rows, h, w, BUILD)
    theta += m * 6
    x_fixed = fixed_row(theta, W, w, h, SAMPLING, BUILD)
    y_fixed = fixed_row(theta + 3, H, w, h, SAMPLING, BUILD)
    x_range = block_range(x_fixed, BUILD.tile_width, BUILD.block_rows)
    y_range = block_range(y_fixed, BUILD.tile_width, BUILD.block_rows)
    first_channel = tl.program_id(1) * channels
    end_channel = tl.minimum(first_channel + channels, C)
    image += (m // transforms) * stride_n
    out += m * C * h * w

    lane = tl.arange(0, BUILD.block)
    vector = tl.arange(0, BUILD.vector)
    last_column = tl.minimum(first_column + BUILD.tile_width, w) - 1
    column_here = first_column + lane % BUILD.tile_width
    column = tl.minimum(column_here, last_column)
    for block_row in range(first_row, end_row, BUILD.block_rows):
        last_row = tl.minimum(block_row + BUILD.block_rows, end_row) - 1
        row_here = block_row + lane // BUILD.tile_width
        row = tl.minimum(row_here, last_row)
        live = ((column_here <= last_column) & (row_here <= last_row))[:, None]
        inside, outside = classify(x_fixed, y_fixed, x_range, y_range, first_column, block_row, H, W, BUILD)
        pixel = row.to(BUILD.offset) * w + column
        if inside:
            x0, wx, y0, wy = inside_sources(x_fixed, y_fixed, column, row, SAMPLING, BUILD)
            offset = pixel_offset(y0, x0, stride_h, stride_w, BUILD)
            for c0 in range(first_channel, end_channel, BUILD.vector):
                c = c0 + vector
                mean_here, scale, _ = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
                v00, v01, v10, v11 = inside_taps(
                    image, offset, c.to(tl.int64)[None, :] * stride_c, stride_h, stride_w, wx, wy, mean_here, scale,
                    SAMPLING, BUILD, False,
                )  # fmt: skip
                value = rescaled(_blend(v00, v01, v10, v11, wx[:, None], wy[:, None], SAMPLING), scale, SAMPLING)
                to = output_pointers(out, pixel, c, C, h, w, BUILD)
                tl.store(to, value.to(out.dtype.element_ty), mask=live)
        elif outside & (SAMPLING.padding_mode == "zeros" or SAMPLING.padding_mode == "fill"):
            for c0 in range(first_channel, end_channel, BUILD.vector):
                c = c0 + vector
                _, _, fill_here = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
                value = fill_here.to(out.dtype.element_ty)
                to = output_pointers(out, pixel, c, C, h, w, BUILD)
                tl.store(to, tl.broadcast_to(value, to.shape), mask=live)
        else:
            x, y, undefined = sources(theta, x_fixed, y_fixed, column, row, H, W, h, w, SAMPLING, BUILD)
            x0, wx, y0, wy = x[0], x[1], y[0], y[1]
            offset = pixel_offset(y0, x0, stride_h, stride_w, BUILD)
            for c0 in range(first_channel, end_channel, BUILD.vector):
                c = c0 + vector
                mean_here, scale, fill_here = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
                v00, v01, v10, v11 = masked_taps(
                    image, offset, c.to(tl.int64)[None, :] * stride_c, stride_h, stride_w, x0, y0, wx, wy, H, W,
                    mean_here, scale, fill_here, SAMPLING, BUILD, False,
                )  # fmt: skip
                value = rescaled(_blend(v00, v01, v10, v11, wx[:, None], wy[:, None], SAMPLING), scale, SAMPLING)
                value = tl.where(undefined[:, None], float("nan"), value)
                to = output_pointers(out, pixel, c, C, h, w, BUILD)
                tl.store(to, value.to(out.dtype.element_ty), mask=live)
