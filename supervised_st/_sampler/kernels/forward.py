"""The forward: one program samples one tile of output pixels of one affine transform, for a group of channels."""

import triton
import triton.language as tl

from supervised_st._sampler.kernels.tiles import RUNTIME, all_sources, inside_sources, output_pointers, start, visit


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
def _inside_tap(pointer, mean, scale, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    return _normalized(tl.load(pointer), mean, scale, SAMPLING, BUILD)


@triton.jit
def _masked_tap(pointer, inside, mean, scale, fill, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    value = _normalized(tl.load(pointer, mask=inside, other=0), mean, scale, SAMPLING, BUILD)
    return tl.where(inside, value, fill if SAMPLING.padding_mode == "fill" else 0.0)


@triton.jit
def _tap(pointer, inside, mean, scale, fill, SAMPLING: tl.constexpr, BUILD: tl.constexpr, INSIDE: tl.constexpr):
    if INSIDE:
        return _inside_tap(pointer, mean, scale, SAMPLING, BUILD)
    return _masked_tap(pointer, inside, mean, scale, fill, SAMPLING, BUILD)


@triton.jit
def taps(
    plane, offset, stride_h, stride_w, x0, y0, wx, wy, H, W, mean, scale, fill,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, INSIDE: tl.constexpr, SLOPES: tl.constexpr,
):  # fmt: skip
    """Read the four taps of pixels in the channels that ``plane`` points to.

    Taps out of bounds are not read and have the value of the fill, or zero; ``INSIDE`` promises that there are none.
    """
    left, right = (x0 >= 0) & (x0 < W), (x0 >= -1) & (x0 < W - 1)
    top, bottom = (y0 >= 0) & (y0 < H), (y0 >= -1) & (y0 < H - 1)
    x_nonzero, y_nonzero = _nonzero_mask(wx), _nonzero_mask(wy)
    v00 = _tap(plane + offset, (left & top)[:, None], mean, scale, fill, SAMPLING, BUILD, INSIDE)
    if SAMPLING.mode == "nearest":
        return v00, v00, v00, v00
    next_column, next_row = plane + stride_w, plane + stride_h
    next_both = next_row + stride_w
    v01 = _tap(next_column + offset, (right & top)[:, None], mean, scale, fill, SAMPLING, BUILD, INSIDE)
    v10 = _tap(next_row + offset, (left & bottom)[:, None], mean, scale, fill, SAMPLING, BUILD, INSIDE)
    v11 = _tap(next_both + offset, (right & bottom)[:, None], mean, scale, fill, SAMPLING, BUILD, INSIDE)
    v01 = _zero_if_weightless(v01, x_nonzero, SLOPES)
    v10 = _zero_if_weightless(v10, y_nonzero, SLOPES)
    v11 = _zero_if_weightless(v11, x_nonzero & y_nonzero, SLOPES)
    return v00, v01, v10, v11


@triton.jit
def _fill_of(fill, c, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the fill of channels ``c``, or zero: ``[1, channel]``."""
    zero = tl.zeros(c.shape, BUILD.acc)[None, :]
    return tl.load(fill + c)[None, :].to(BUILD.acc) if SAMPLING.padding_mode == "fill" else zero


@triton.jit
def channel_constants(fill, mean, std, c, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Return the mean, one over the standard deviation and the fill of channels ``c``: each ``[1, channel]``."""
    zero = tl.zeros(c.shape, BUILD.acc)[None, :]
    mean_here = tl.load(mean + c)[None, :] if BUILD.normalized else zero
    scale = 1 / tl.load(std + c)[None, :] if BUILD.normalized else zero + 1
    return mean_here, scale, _fill_of(fill, c, SAMPLING, BUILD)


@triton.jit
def _blend(v00, v01, v10, v11, wx, wy, SAMPLING: tl.constexpr):
    if SAMPLING.mode == "nearest":
        return v00
    upper = v00 * (1 - wx) + v01 * wx
    lower = v10 * (1 - wx) + v11 * wx
    return upper * (1 - wy) + lower * wy


@triton.jit
def _sample(
    image, fill, mean, std, out, x0, y0, wx, wy, undefined, offset, pixel, live, first_channel, passes,
    C, H, W, h, w, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr, INSIDE: tl.constexpr,
):  # fmt: skip
    """Sample the channels of one block of pixels and write them; ``out`` points to the block."""
    # Reading all groups at once takes more registers than there are where reads are masked.
    GROUPS: tl.constexpr = BUILD.groups if INSIDE else 1
    VECTOR: tl.constexpr = BUILD.vector
    vector = tl.arange(0, VECTOR)
    for index in range(passes * (BUILD.groups // GROUPS)):
        first = first_channel + index * (GROUPS * VECTOR)
        values = ()
        for group in tl.static_range(GROUPS):  # All are read before the first is written, so that reads overlap.
            c = first + group * VECTOR + vector
            mean_here, scale, fill_here = channel_constants(fill, mean, std, c, SAMPLING, BUILD)
            v00, v01, v10, v11 = taps(
                image + c.to(tl.int64)[None, :] * stride_c, offset, stride_h, stride_w, x0, y0, wx, wy, H, W,
                mean_here, scale, fill_here, SAMPLING, BUILD, INSIDE, False,
            )  # fmt: skip
            value = rescaled(_blend(v00, v01, v10, v11, wx[:, None], wy[:, None], SAMPLING), scale, SAMPLING)
            value = value if INSIDE else tl.where(undefined[:, None], float("nan"), value)
            values = values + (value.to(out.dtype.element_ty),)  # noqa: RUF005 - Triton cannot unpack
        for group in tl.static_range(GROUPS):
            to = output_pointers(out, pixel, first + group * VECTOR + vector, C, h, w, BUILD)
            tl.store(to, values[group], mask=live)


@triton.jit
def _write_fill(out, fill, pixel, live, first_channel, passes, C, h, w, SAMPLING: tl.constexpr, BUILD: tl.constexpr):
    """Write the fill, or zero, to the channels of one block of pixels; ``out`` points to the block."""
    for first in range(first_channel, first_channel + passes * (BUILD.groups * BUILD.vector), BUILD.vector):
        c = first + tl.arange(0, BUILD.vector)
        fill_here = _fill_of(fill, c, SAMPLING, BUILD)
        to = output_pointers(out, pixel, c, C, h, w, BUILD)
        tl.store(to, tl.broadcast_to(fill_here.to(out.dtype.element_ty), to.shape), mask=live)


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    image, theta, fill, mean, std, out,
    C, H, W, h, w, tiles, tile_rows, passes, transforms,
    stride_n, stride_c, stride_h, stride_w,
    SAMPLING: tl.constexpr, BUILD: tl.constexpr,
):  # fmt: skip
    """Axis 0 of the grid: tiles of all transforms; axis 1: groups of channels.

    A program goes through its tile block by block, and in each block through its channels, ``passes`` times
    ``BUILD.groups * BUILD.vector`` of them. Coordinates in a block are its corner's plus those relative to the corner.
    """
    m, tile, lanes, x_axis, y_axis = start(theta, tiles, tile_rows, H, W, h, w, SAMPLING, BUILD)
    theta += m * 6
    image += (m // transforms) * stride_n
    out += m * C * h * w
    first_channel = tl.program_id(1) * (passes * BUILD.groups * BUILD.vector)
    first_column, _, first_row, end_row = tile
    pixel = lanes[1].to(BUILD.offset) * w + lanes[0]
    for down in range(0, end_row - first_row, BUILD.block_rows):
        block_row = first_row + down
        live, corner, inside, outside = visit(block_row, tile, lanes, x_axis, y_axis, H, W, SAMPLING, BUILD)
        to = out + (block_row.to(tl.int64) * w + first_column) * (C if BUILD.channels_last else 1)
        if inside:
            x0, wx, y0, wy, offset = inside_sources(corner, x_axis, y_axis, stride_h, stride_w, SAMPLING, BUILD)
            _sample(
                image, fill, mean, std, to, x0, y0, wx, wy, None, offset, pixel, live, first_channel, passes,
                C, H, W, h, w, stride_c, stride_h, stride_w, SAMPLING, BUILD, True,
            )  # fmt: skip
        elif outside:
            _write_fill(to, fill, pixel, live, first_channel, passes, C, h, w, SAMPLING, BUILD)
        else:
            x, y, undefined, offset = all_sources(
                block_row, theta, tile, lanes, x_axis, y_axis, H, W, h, w, stride_h, stride_w, SAMPLING, BUILD
            )
            _sample(
                image, fill, mean, std, to, x[0], y[0], x[1], y[1], undefined, offset, pixel, live, first_channel,
                passes, C, H, W, h, w, stride_c, stride_h, stride_w, SAMPLING, BUILD, False,
            )  # fmt: skip
