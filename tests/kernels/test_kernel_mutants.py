"""Kernels with one fault each, all of which the laws below must find: so it is shown that such tests can fail.

A law compares the kernels with the reference, values and both gradients, on a few small cases. While it runs every
buffer that kernels write arrives full of NaN, and every address that they read or write must lie in an argument.
Pytest writes a copy of the package per fault; this file, run as a program, holds them against the laws one by one in a
single process of Triton's interpreter, since importing torch takes longer than a law.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import supervised_st
from benchmarks.budgets import EXACT, FLOAT32_SUM, assert_close, rounding
from supervised_st.sampling import PADDING_MODES, affine_sample

INF, NAN = float("inf"), float("nan")


class Mutant(NamedTuple):
    """One fault: the text in a file of ``_kernels`` that is replaced, and the law that finds it."""

    name: str
    file: str
    text: str
    replacement: str
    law: str
    times: int = 1  #: how often the text stands there; all of them are replaced
    result: str = ""  #: which result the law compares; that of the file if empty, and the output for coordinates


pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="faults are found by the interpreter, which needs no device"
)

MUTANTS = (
    # Which pixels are read.
    Mutant("no pixel at the left edge", "forward", "(x0 >= 0)", "(x0 > 0)", "edges"),
    Mutant("one pixel beyond the right edge", "forward", "(x0 < W)", "(x0 <= W)", "edges"),
    Mutant("no next pixel at the left edge", "forward", "(x0 >= -1)", "(x0 > -1)", "edges"),
    Mutant("a next pixel beyond the right edge", "forward", "(x0 < W - 1)", "(x0 <= W - 1)", "edges"),
    Mutant("no pixel at the top edge", "forward", "(y0 >= 0)", "(y0 > 0)", "edges"),
    Mutant("one pixel below the bottom edge", "forward", "(y0 < H)", "(y0 <= H)", "edges"),
    Mutant("no next pixel at the top edge", "forward", "(y0 >= -1)", "(y0 > -1)", "edges"),
    Mutant("a next pixel below the bottom edge", "forward", "(y0 < H - 1)", "(y0 <= H - 1)", "edges"),
    Mutant("a tap that is read without its mask", "forward", "mask=inside", "mask=inside | True", "edges"),
    Mutant("inside one pixel too early", "forward", "left >= 0", "left >= -1", "places"),
    Mutant("inside one pixel too late", "forward", "right < W - 1", "right < W", "places"),
    Mutant("inside one row too early", "forward", "top >= 0", "top >= -1", "places"),
    Mutant("inside one row too late", "forward", "bottom < H - 1", "bottom < H", "places"),
    Mutant("outside one pixel too early", "forward", "right < -1", "right < 0", "places"),
    Mutant("outside one pixel too late", "forward", "left >= W", "left >= W - 1", "places"),
    Mutant("outside one row too early", "forward", "bottom < -1", "bottom < 0", "places"),
    Mutant("outside one row too late", "forward", "top >= H", "top >= H - 1", "places"),
    Mutant("rows and columns swapped in memory", "forward", "y.to(OFFSET) * stride_h + x.to(OFFSET) * stride_w",
           "x.to(OFFSET) * stride_h + y.to(OFFSET) * stride_w", "edges"),
    Mutant("offsets of rows in 32 bits", "forward", "y.to(OFFSET)", "y.to(tl.int32)", "offsets"),
    Mutant("offsets of images in 32 bits", "forward", "at.to(tl.int64)", "at", "offsets"),
    Mutant("offsets of channels in 32 bits", "forward", "c.to(tl.int64)[None, :] * stride_c", "c[None, :] * stride_c",
           "offsets", 2),
    Mutant("the last row is not written", "forward", "first_row + tile_rows, h)", "first_row + tile_rows, h - 1)",
           "edges"),
    Mutant("planes where channels are innermost", "forward", "    if LAST:", "    if LAST and C < 16:", "innermost"),
    # What is made of them.
    Mutant("the weights of left and right swapped", "forward", "v00 * (1 - wx) + v01 * wx", "v00 * wx + v01 * (1 - wx)",
           "edges"),
    Mutant("the weights of above and below swapped", "forward", "upper * (1 - wy) + lower * wy",
           "upper * wy + lower * (1 - wy)", "edges"),
    Mutant("the weights of x and y swapped", "forward", "wx[:, None], wy[:, None], MODE",
           "wy[:, None], wx[:, None], MODE", "edges", 2),
    Mutant("the fill is ignored at the edge", "forward", 'beyond if PADDING == "fill" else 0.0', "0.0", "edges"),
    Mutant("the fill is ignored outside", "forward", "value = beyond.to(", "value = (beyond * 0).to(", "places"),
    Mutant("the fill is not in units of the output", "forward", '.to(ACC) if PADDING == "fill"',
           '.to(ACC) * scale if PADDING == "fill"', "bytes"),
    Mutant("the mean is not subtracted at the edge", "forward", "other=0), mean, scale", "other=0), mean * 0, scale",
           "bytes"),
    Mutant("the mean is not subtracted inside", "forward", "tl.load(p00), mean, scale", "tl.load(p00), mean * 0, scale",
           "bytes"),
    Mutant("the standard deviation is not applied", "forward", 'value if PADDING == "fill" else value * scale', "value",
           "bytes"),
    Mutant("the standard deviation is not applied beside a fill", "forward",
           'value * scale if PADDING == "fill" else value', "value", "bytes"),
    Mutant("the standard deviation is applied twice beside a fill", "forward",
           'value if PADDING == "fill" else value * scale', "value * scale", "bytes"),
    Mutant("a tap without weight counts", "forward",
           "(value.to(matters.dtype, bitcast=True) & matters).to(value.dtype, bitcast=True)", "value",
           "infinite pixels"),
    Mutant("a tap without weight counts in slopes", "forward", "(matters != 0)", "(matters == matters)",
           "infinite pixels", result="t"),
    Mutant("slopes without the taps that have no weight", "forward", '(tl.abs(value) < float("inf"))',
           "(matters != 0)", "places", result="t"),
    Mutant("an undefined coordinate gives a number", "forward", 'tl.where(undefined[:, None], float("nan"), value)',
           "value", "undefined maps"),
    # Coordinates.
    Mutant("halves go up", "coordinates", "(fraction == HALF_PIXEL) & ((index & 1) == 1)", "fraction == HALF_PIXEL",
           "halves"),
    Mutant("halves go up in float64", "coordinates", "(over == 0.5) & (odd == 1)", "over == 0.5", "halves"),
    Mutant("coordinates are cut and not rounded", "coordinates", "ft + HALF_UNIT", "ft", "thirds"),
    Mutant("no snapping", "coordinates", "snaps = tl.abs(whole_a - ma) <=", "snaps = -1 - tl.abs(whole_a) >=", "bits"),
    Mutant("snapping whatever the translation", "coordinates", "tl.abs(whole_t - mt) <=", "tl.abs(whole_t) * -1 <=",
           "edges"),
    Mutant("height and width of the output swapped", "coordinates", "float_map(theta, length, w, h, ALIGN, ROUNDING)",
           "float_map(theta, length, h, w, ALIGN, ROUNDING)", "edges"),
    Mutant("column and row swapped in float64", "coordinates", "_float_axis(theta, column, row, W",
           "_float_axis(theta, row, column, W", "float64", 2),
    Mutant("column and row swapped in integers", "coordinates", "_fixed_axis(x_fixed, column, row, W",
           "_fixed_axis(x_fixed, row, column, W", "edges"),
    Mutant("column and row swapped inside", "coordinates", "x_fixed[0] * column + (x_fixed[1] * row",
           "x_fixed[0] * row + (x_fixed[1] * column", "bytes"),
    Mutant("weights of float64 in float32", "coordinates", "weight = (c - whole).to(ACC)",
           "weight = (c - whole).to(tl.float32).to(ACC)", "float64"),
    Mutant("weights of float32 in halves", "coordinates", "fraction.to(ACC) * UNIT",
           "(fraction.to(ACC) * UNIT).to(tl.float16).to(ACC)", "edges"),
    Mutant("a weight that rounds to one stays", "coordinates", "carries = weight == 1", "carries = weight == 2",
           "far rows"),
    Mutant("the border's slope is not zero", "coordinates", "slope = tl.where((q > 0) & (q < last), slope, 0.0)",
           "slope = slope", "edges", result="t"),
    Mutant("the border's slope is not zero on it", "coordinates", "(q > 0)", "(q >= 0)", "border slopes", result="t"),
    Mutant("the border's slope is not zero in float64", "coordinates",
           "slope = tl.where((c > 0) & (c < last), slope, 0.0)", "slope = slope", "float64", result="t"),
    Mutant("steps that a block cannot hold", "coordinates", "FIXED_STEP = tl.constexpr(2.0**25)",
           "FIXED_STEP = tl.constexpr(2.0**29)", "long steps"),
    Mutant("far coordinates have a slope", "coordinates", "tl.where(near, 1.0, 0.0)", "tl.where(near, 1.0, 1.0)", "far",
           result="t"),
    Mutant("no border on the right", "coordinates", "tl.minimum(tl.maximum(q, 0), last)", "tl.maximum(q, 0)", "edges"),
    Mutant("mirrors keep the slope's sign", "coordinates", "tl.where(before != odd, -slope, slope)", "slope", "mirrors",
           2, "t"),
    Mutant("mirrors are told apart wrongly", "coordinates", "(turns & 1) == 1", "(turns & 1) == 0", "mirrors"),
    Mutant("mirrors are told apart wrongly in float64", "coordinates", "tl.floor(turns / 2)) == 1",
           "tl.floor(turns / 2)) == 0", "float64"),
    Mutant("mirrors at the pixel edges always", "coordinates", "span = length - 1 if ALIGN else length",
           "span = length", "mirrors"),
    # The gradient to theta.
    Mutant("the sums of columns and rows swapped", "theta_gradient", "tl.store(to, across + count * first_column)",
           "tl.store(to, down + count * first_row)", "edges"),
    Mutant("the sum of columns counts from the tile", "theta_gradient", "across + count * first_column", "across",
           "wide"),
    Mutant("the sum of rows counts from the tile", "theta_gradient", "down + count * first_row", "down", "tall"),
    Mutant("the sum of rows counts from the block", "theta_gradient", "block_x * (block_row - first_row)",
           "block_x * 0", "tall"),
    Mutant("the translation is not scaled by a half", "theta_gradient", "half * count", "count", "edges"),
    Mutant("columns are scaled as rows", "theta_gradient", "per_column * (across", "per_row * (across", "edges"),
    Mutant("the last tile is not added", "theta_gradient", "mask=part < parts", "mask=part < parts - 1", "tall"),
    Mutant("channel groups overwrite one another", "theta_gradient", "tl.num_programs(1) + tl.program_id(1)",
           "tl.num_programs(1)", "edges"),
    Mutant("pixels beyond the output count", "theta_gradient", "mask=live", "mask=live | True", "edges", 2),
    Mutant("gradients of bytes are not scaled", "theta_gradient", ".to(ACC), scale, PADDING)",
           '.to(ACC), scale, "fill")', "bytes", 2),
    Mutant("gradients of bytes are scaled twice beside a fill", "theta_gradient", ".to(ACC), scale, PADDING)",
           '.to(ACC), scale, "zeros")', "bytes", 2),
    Mutant("the padding's slope is ignored", "theta_gradient", "block_x * x[2][:, None]", "block_x", "edges"),
    Mutant("the weights in slopes swapped", "theta_gradient", "(v01 - v00) * (1 - wy) + (v11 - v10) * wy",
           "(v01 - v00) * wy + (v11 - v10) * (1 - wy)", "edges"),
    Mutant("an undefined coordinate passes no NaN", "theta_gradient", "unknown = undefined[:, None] & live",
           "unknown = (undefined != undefined)[:, None]", "undefined maps"),
    Mutant("sums in halves", "theta_gradient", "tl.sum(total).to", "tl.sum(total.to(tl.float16)).to", "edges"),
    # The gradient to the image.
    Mutant("searches are narrowed", "image_gradient", "SLACK = tl.constexpr(1 / 64)", "SLACK = tl.constexpr(-1 / 8)",
           "edges"),
    Mutant("one candidate too few", "image_gradient", "tl.floor(column_high - column_low) + 1",
           "tl.floor(column_high - column_low)", "edges"),
    Mutant("boxes leant the wrong way", "image_gradient", "-bx * inverse * sign_y", "bx * inverse * sign_y", "edges"),
    Mutant("mirrored boxes not mirrored", "image_gradient", "sign = tl.where(odd, -sign, sign)", "sign = sign",
           "mirrors"),
    Mutant("only the first map is gathered from", "image_gradient", "range(maps)", "range(1)", "edges"),
    Mutant("the first map is gathered from again", "image_gradient", "n * maps + k", "n * maps", "edges"),
    Mutant("every mirror gathers from all of them", "image_gradient", "(cell_here_x == cell_x)",
           "(cell_here_x == cell_here_x)", "mirrors"),
    Mutant("only the first mirror is gathered from", "image_gradient", "range(cells)", "range(tl.minimum(cells, 1))",
           "mirrors"),
    Mutant("the border gathers as if nothing lay beyond", "image_gradient", 'PADDING == "border" or length == 1',
           "length == 1", "edges"),
    Mutant("blocks skip the last row", "image_gradient", "range(0, h, OUT_BLOCK", "range(0, h - 1, OUT_BLOCK",
           "singular maps"),
    Mutant("blocks skip the last column", "image_gradient", "last + 1, OUT_W)", "last, OUT_W)", "singular maps"),
    Mutant("blocks go on after the last column", "image_gradient", "(column <= last) &", "(column <= last + 1) &",
           "singular maps"),
    Mutant("input pixels beyond the image are written", "image_gradient", "mask=live", "mask=live | True", "edges"),
    Mutant("candidates right of the output count", "image_gradient", "(column < w), weight", "(column <= w), weight",
           "edges"),
    Mutant("candidates above the output count", "image_gradient", "tl.where((row >= 0) &", "tl.where((row >= -1) &",
           "wide"),
    Mutant("candidates right of the output count in boxes", "image_gradient", "(column < w) & (undefined",
           "(column <= w) & (undefined", "float64"),
    Mutant("candidates are near however far", "image_gradient", "<= NEAR", ">= 0", "coarse"),
    Mutant("halves go up where candidates are near", "image_gradient", "(position % 2 == 0)", "(position % 2 >= 0)",
           "halves"),
    Mutant("far candidates weigh less than nothing", "image_gradient", "tl.minimum(distance - PIXEL, 0)",
           "(distance - PIXEL)", "edges"),
    Mutant("the weights of the gathered swapped", "image_gradient",
           "1 - weight, tl.where(first + 1 == position, weight, 0.0)",
           "weight, tl.where(first + 1 == position, 1 - weight, 0.0)", "float64"),
    Mutant("halves are rounded in between", "image_gradient", "totals[group] + g.to(weight.dtype) * weight[:, None]",
           "(totals[group] + g.to(weight.dtype) * weight[:, None]).to(grad.dtype.element_ty).to(weight.dtype)",
           "half precision"),
    Mutant("halves are rounded in between in blocks", "image_gradient", "totals[group] + tl.sum(each, axis=1)",
           "(totals[group] + tl.sum(each, axis=1)).to(grad.dtype.element_ty).to(weight.dtype)", "half precision"),
    Mutant("what is beyond the mirrors that are counted does not count", "image_gradient", " | (countable == 0)", "",
           "many mirrors"),
    Mutant("the first column has a slope", "theta_gradient",
           "inside &= covers(x_fixed, x_extent, first_column, block_row)[0] > 0", "inside &= inside", "first pixels"),
    Mutant("the first row has a slope", "theta_gradient",
           "inside &= covers(y_fixed, y_extent, first_column, block_row)[0] > 0", "inside &= inside", "first pixels"),
    Mutant("only the first sums count", "theta_gradient", "range(0, parts, BLOCK)",
           "range(0, tl.minimum(parts, BLOCK), BLOCK)", "many sums"),
    Mutant("undefined coordinates reach the image", "image_gradient", "(row <= last_row) & (undefined == 0)",
           "(row <= last_row)", "undefined maps"),
)  # fmt: skip


# The laws. They run in the program's process only; case by case they state inputs, and `hold` says what must hold.


class Case(NamedTuple):
    """What is sampled, and which results count: "o", the output; "i" and "t", the gradients to image and theta."""

    image: Tensor
    theta: Tensor
    size: tuple[int, int]
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to
    results: str = "oit"
    budget: float | None = None  #: that of the dtype if None
    narrow: bool = False  #: whether the truth is what the reference gives in the image's own dtype, and not in float64


def images(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype, generator=generator)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def maps(rows: list[Any], image: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Theta ``[1 map 2 3]`` in float64 from maps in pixels, ``x = rows[0][0] * column + rows[0][1] * row + ...``."""
    h, w = size
    pixel = torch.tensor(rows, dtype=torch.float64)
    out = torch.tensor([w, h], dtype=torch.float64) - int(align_corners)
    spans = torch.tensor([image.shape[3], image.shape[2]], dtype=torch.float64) - int(align_corners)
    middle = pixel[..., 2] + pixel[..., 0] * (w - 1) / 2 + pixel[..., 1] * (h - 1) / 2
    lengths = torch.tensor([image.shape[3], image.shape[2]], dtype=torch.float64)
    t = (middle - (lengths - 1) / 2) / (spans / 2)
    return torch.cat((pixel[..., :2] * out / spans[:, None], t[..., None]), -1)[None]


def padded(padding_mode: str, **options: Any) -> dict[str, Any]:
    return {"padding_mode": padding_mode, **options, **({"fill_value": 2.5} if padding_mode == "fill" else {})}


ACROSS = [[[1, 0, -1.25], [0, 1, -1]], [[0.913, 0.457, -2.219], [-0.353, 1.217, -0.413]]]
"""Maps under which an output of 5 x 6 pixels sees an image of 3 x 4, and what is beyond all of its edges."""


def edges() -> Iterator[Case]:
    image = images(1, 2, 3, 4)
    theta = maps(ACROSS, image, (5, 6)).float()
    for padding_mode in PADDING_MODES:
        # What is mirrored has a law of its own, and a fill has no part in the gradient to the image.
        yield Case(image, theta, (5, 6), padded(padding_mode), "oit" if padding_mode in ("zeros", "border") else "to")
    yield Case(image, theta, (5, 6), {"mode": "nearest"}, "oi")
    yield Case(image, theta, (5, 6), padded("border", mode="nearest", align_corners=True), "o")


def float64() -> Iterator[Case]:
    image = images(1, 1, 3, 4, dtype=torch.float64)
    theta = maps(ACROSS[1:], image, (5, 6))
    for padding_mode in PADDING_MODES:
        yield Case(image, theta, (5, 6), padded(padding_mode), "oit" if padding_mode in ("zeros", "border") else "to")
    yield Case(image, theta, (5, 6), {"mode": "nearest"}, "oi")


def places() -> Iterator[Case]:
    """Maps to one point each, on whole and half pixels around every edge. Powers of two make them exact."""
    image = images(1, 1, 4, 8)
    points = [(-0.5, 1.25), (7.5, 1.25), (1.25, -0.5), (1.25, 3.5), (2, 1), (7, 3), (20.5, 1.25)]
    theta = maps([[[0, 0, x], [0, 0, y]] for x, y in points], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("fill"), "to")


def long_steps() -> Iterator[Case]:
    """Two output pixels 2^28 pixels apart: a block of which they are a part must not be taken to lie elsewhere."""
    image = images(1, 1, 1, 4)
    yield Case(image, torch.tensor([[[[2.0**26, 0, -(2.0**25)], [0, 0, 0]]]]), (1, 2), results="o")


def border_slopes() -> Iterator[Case]:
    """The slope is zero on the border and beyond it. The first pixels have a law of their own."""
    image = images(1, 1, 4, 8)
    theta = maps([[[0, 0, x], [0, 0, y]] for x, y in ((7, 1.25), (1.25, 3), (0, 3.25), (7.5, 0))], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("border"), "t")


def first_pixels() -> Iterator[Case]:
    """The slope is zero on the border too where all four taps lie inside of the image."""
    image = images(1, 1, 4, 8)
    theta = maps([[[0, 0, 0], [0, 0, 1.25]], [[0, 0, 1.25], [0, 0, 0]]], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("border"), "t")


def half_precision() -> Iterator[Case]:
    """Many gradients that meet in one pixel: among near candidates and in blocks."""
    image = images(1, 1, 3, 4, dtype=torch.float16)
    theta = maps([[[0.413, 0.053, 0.1], [-0.021, 0.457, 0.1]]], image, (7, 9)).float()
    to_a_row = maps([[[0.313, 0.053, 0.1], [0, 0, 1.3]]], image, (7, 9)).float()
    yield Case(image, theta, (7, 9))
    yield Case(image, to_a_row, (7, 9), results="i")
    yield Case(image, theta, (7, 9), padded("border"), "o")


def of_bytes() -> Iterator[Case]:
    """Inside, where whole blocks of output pixels read no edge, outside of the image, and across its edges."""
    image = images(1, 2, 5, 6, dtype=torch.uint8)
    within = [[0.0913, 0.0157, 0.93], [0.0147, 0.1331, 0.72]]
    theta = maps([within, [[1, 0, 50], [0, 1, 0]], ACROSS[1]], image, (5, 6)).float()
    options = {"mean": (120.0, 100.0), "std": (60.0, 0.5)}
    yield Case(image, theta, (5, 6), {**options, "padding_mode": "fill", "fill_value": (1.0, -2.0)}, "to")
    yield Case(image, theta, (5, 6), {**options, "padding_mode": "border"}, "to")


def bits() -> Iterator[Case]:
    """Whole-pixel shifts that theta cannot hold exactly return the bits of the image."""
    rows = [[[1, 0, 0], [0, 1, 0]], [[1, 0, -3], [0, 1, 1]], [[0, 1, 2], [1, 0, -4]]]
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 7, 11, dtype=dtype)
        yield Case(image, maps(rows, image, (7, 11)).float(), (7, 11), {}, "o", 0.0)


def thirds() -> Iterator[Case]:
    """Every third column hits a pixel although no coefficient of the map is exact: a weight of 2^-24 would show."""
    image = images(1, 1, 4, 4)
    image[..., ::2] = INF
    yield Case(image, torch.eye(2, 3)[None, None], (4, 10), {"align_corners": True}, "o")


def halves() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 4, 8, dtype=dtype)
        theta = maps([[[1, 0, 0.5], [0, 1, -0.5]], [[0.5, 0, 0], [0, 0.5, 0]]], image, (4, 8))
        yield Case(image, theta, (4, 8), {"mode": "nearest"}, "oi")


def infinite_pixels() -> Iterator[Case]:
    """Only what reads an infinite pixel with some weight sees it, in values and in gradients."""
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 4, 8, dtype=dtype)
        image[0, 0, 2, 4], image[0, 0, 0, 6], image[0, 0, 3, 0] = INF, NAN, -INF
        rows = [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0.25]]]
        rows += [[[0, 0, x], [0, 0, y]] for x, y in ((3, 1), (3, 2), (5, 2))]
        yield Case(image, maps(rows, image, (4, 8)), (4, 8), {}, "to")


def undefined_maps() -> Iterator[Case]:
    """NaN in and NaN out, nothing to the image."""
    for dtype, padding_mode in ((torch.float32, "zeros"), (torch.float32, "reflection"), (torch.float64, "border")):
        image = images(1, 1, 3, 4, dtype=dtype)
        theta = torch.eye(2, 3, dtype=dtype).repeat(1, 3, 1, 1)
        theta[0, 0, 0, 0], theta[0, 1, 1, 2] = INF, NAN
        yield Case(image, theta, (2, 3), padded(padding_mode))
    # Minus infinity, and where the sum of the other two terms overflows NaN.
    image = images(1, 1, 3, 8, dtype=torch.float64)
    theta = torch.tensor([[[[0.2e308, 0.2e308, -1.7e308], [0, 1, 0]]]], dtype=torch.float64)
    yield Case(image, theta, (5, 6), padded("border"), "oi")


def far() -> Iterator[Case]:
    """Coordinates that are clamped have no slope; 2^30 is a multiple of no such width, so its mirror lies inside."""
    image = images(1, 1, 4, 3)
    theta = torch.eye(2, 3).repeat(1, 2, 1, 1)
    theta[0, :, 0, 2] = torch.tensor([1e20, -1e20])
    yield Case(image, theta, (4, 3), padded("reflection"), "to")
    yield Case(image, theta, (4, 3), padded("border"), "oi")


def far_rows() -> Iterator[Case]:
    """One row in reach, the next one beyond all integers; its columns lie less than half an ulp before a pixel."""
    image = images(1, 1, 2, 8)
    image[..., ::2] = INF
    theta = maps([[[2, 0, 1 - 2.0**-30], [0, 0, 1]]], image, (2, 4))
    theta[..., 1, 1], theta[..., 1, 2] = 2.0**30, 2.0**29
    yield Case(image, theta, (2, 4), {}, "o", narrow=True)


def mirrors() -> Iterator[Case]:
    image = images(1, 1, 3, 4)
    rows = [[[1.313, 0.217, -3.119], [-0.313, 1.117, 1.713]]]
    for align_corners in (False, True):
        theta = maps(rows, image, (4, 4), align_corners=align_corners).float()
        yield Case(image, theta, (4, 4), padded("reflection", align_corners=align_corners))
    image = images(1, 1, 1, 3, dtype=torch.float64)
    theta = torch.tensor([[[[0.913, 0.117, 0.219], [0.3, 0.8, 0.1]]]], dtype=torch.float64)
    yield Case(image, theta, (3, 2), padded("reflection", align_corners=True))  # fmt: skip


def many_mirrors() -> Iterator[Case]:
    """More mirror images than are searched one by one."""
    image = images(1, 1, 1, 2)
    yield Case(
        image, maps([[[20.3, 0, 0.3], [0, 1, 0]]], image, (1, 8)).float(), (1, 8), padded("reflection"), results="i"
    )


def many_sums() -> Iterator[Case]:
    """More programs for one map than a program adds up at a time: one per channel."""
    image = images(1, 131, 1, 2)
    yield Case(image, maps([[[0.613, 0.2, 0.1], [0, 1, 0.1]]], image, (1, 2)).float(), (1, 2), results="t")


def singular_maps() -> Iterator[Case]:
    """No map of them has an inverse; odd sizes leave the last block of output pixels with one row or column."""
    image = images(1, 1, 3, 4)
    rows = [[[0, 0, 1.3], [0, 0, 1.2]], [[0.513, 0.217, 0], [0, 0, 1.4]]]
    theta = maps(rows, image, (3, 5)).float()
    for padding_mode in ("zeros", "border"):
        yield Case(image, theta, (3, 5), padded(padding_mode), "i")
    yield Case(image.double(), theta, (3, 5), {}, "i")


def coarse() -> Iterator[Case]:
    """300 input pixels per output column: more than fit into the 32 bits of a distance."""
    image = images(1, 1, 1, 700)
    yield Case(image, maps([[[300, 0, 20.25], [0, 1, 0]]], image, (1, 3)).float(), (1, 3))


def tall() -> Iterator[Case]:
    """Several blocks per tile and several tiles, as a GPU gets them where there is enough to do."""
    image = images(1, 1, 5, 6)
    yield Case(
        image,
        maps([[[0.61317, 0.05323, -1.00713], [0.02119, 0.11137, -0.70171]]], image, (41, 9)).float(),
        (41, 9),
        results="to",
    )
    image = images(1, 1, 19, 4)
    yield Case(image, maps([[[0.913, 0.117, 0.1], [0.053, 3.117, 0.2]]], image, (6, 4)).float(), (6, 4), results="i")


def wide() -> Iterator[Case]:
    image = images(1, 1, 5, 6)
    yield Case(
        image,
        maps([[[0.15317, 0.05323, -1.00713], [0.02119, 0.61337, -0.70171]]], image, (6, 40)).float(),
        (6, 40),
        results="to",
    )
    image = images(1, 1, 3, 37)
    yield Case(image, maps([[[3.117, 0.053, 0.2], [0.021, 0.913, 0.1]]], image, (3, 12)).float(), (3, 12), results="i")


def innermost() -> Iterator[Case]:
    image = images(1, 16, 3, 4).contiguous(memory_format=torch.channels_last)
    yield Case(image, maps(ACROSS[1:], image, (5, 6)).float(), (5, 6))


def offsets() -> Iterator[Case]:
    """Strides of 2^30, in memory that is reserved and hardly ever touched: offsets of 2^31 need 64 bits."""
    far = 2**30
    memory = torch.empty(2 * far + 64, dtype=torch.uint8)
    for index in range(3):
        memory[index * far : index * far + 16] = images(16, dtype=torch.uint8, seed=index)
    for axis in range(3):
        shape, strides = [1, 1, 1, 4], [4, 4, 4, 1]
        shape[axis], strides[axis] = 3, far
        image = memory.as_strided(shape, strides)
        theta = maps([[[1, 0, 0.5], [0, 1, 0.25]]], image, (3, 4)).float().expand(shape[0], 1, 2, 3)
        yield Case(image, theta, (3, 4), padded("border"), "to")


LAWS: dict[str, Callable[[], Iterator[Case]]] = {
    "edges": edges,
    "places": places,
    "long steps": long_steps,
    "border slopes": border_slopes,
    "first pixels": first_pixels,
    "bytes": of_bytes,
    "float64": float64,
    "half precision": half_precision,
    "bits": bits,
    "thirds": thirds,
    "halves": halves,
    "infinite pixels": infinite_pixels,
    "undefined maps": undefined_maps,
    "far": far,
    "far rows": far_rows,
    "mirrors": mirrors,
    "many mirrors": many_mirrors,
    "many sums": many_sums,
    "singular maps": singular_maps,
    "coarse": coarse,
    "tall": tall,
    "wide": wide,
    "innermost": innermost,
    "offsets": offsets,
}


def sample(case: Case, image: Tensor, sampler: Callable[..., Tensor], **options: Any) -> dict[str, Tensor]:
    """The results of a case, by name. Incoming gradients are multiples of 1/16, which all dtypes hold exactly."""
    image = image.detach()
    image.requires_grad_("i" in case.results)
    theta = case.theta.detach().requires_grad_("t" in case.results)
    out = sampler(image, theta, case.size, **options)
    results = {"output": out.detach()}
    inputs = {"i": image, "t": theta}
    wanted = [inputs[name] for name in case.results if name in inputs]
    if wanted:
        generator = torch.Generator().manual_seed(1)
        weights = torch.randint(-40, 41, out.shape, generator=generator).to(out.dtype) / 16
        found = torch.autograd.grad(out, wanted, weights, allow_unused=True)
        results |= zip((f"{name} gradient" for name in case.results if name in inputs), found, strict=True)
    return results


@cache
def cases(law: str) -> list[tuple[Case, dict[str, Tensor]]]:
    """The cases of a law and their true results, from the reference in float64."""
    return [(case, truth(case)) for case in LAWS[law]()]


def truth(case: Case) -> dict[str, Tensor]:
    options, image = dict(case.options), case.image
    if image.dtype == torch.uint8 and "mean" in options:
        mean, std = (torch.tensor(options.pop(name), dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
        image = (image.double() - mean) / std
    if not case.narrow:
        image = image.double()
    return {name: t.double() for name, t in sample(case, image, affine_sample, **options, backend="reference").items()}


def budget(case: Case, name: str) -> float:
    if case.budget is not None:
        return case.budget
    if case.image.dtype == torch.float64:
        return EXACT * 100
    if case.image.dtype == torch.float16:
        return FLOAT32_SUM if name == "t gradient" else rounding(torch.float16)
    if case.image.dtype == torch.uint8 and name == "output":
        return 2 * rounding(torch.float32)
    return rounding(torch.float32) if name == "output" else FLOAT32_SUM


def hold(law: str, package: ModuleType, fused: ModuleType, results: str = "oit") -> None:
    """Raise AssertionError if a law does not hold for some results of a package."""
    for number, (case, true) in enumerate(cases(law)):
        case = case._replace(results="".join(name for name in case.results if name in results))
        if not case.results:
            continue
        with watched(f"{law}, case {number}", fused, high_tiles=law == "tall"):
            got = sample(case, case.image, package.affine_sample, **case.options, backend="triton")
        for name, mine in got.items():
            compare(f"{law}, case {number}, {name}", mine, true[name], budget(case, name))


def compare(where: str, mine: Tensor, want: Tensor, allowed: float) -> None:
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        assert torch.equal(kind(mine), kind(want)), f"{where}: {kind.__name__} is not where it should be"
    mine, want = (torch.nan_to_num(tensor, 0.0, 0.0, 0.0) for tensor in (mine, want))
    assert_close(where, mine, want, allowed)
    if mine.dtype == torch.float16:  # rounded once, whatever the largest value is
        ulp = (torch.nextafter(mine.abs(), torch.tensor(INF, dtype=mine.dtype)) - mine.abs()).double()
        assert ((mine.double() - want).abs() <= ulp / 2 + FLOAT32_SUM).all(), f"{where}: rounded more than once"


@contextmanager
def watched(where: str, fused: ModuleType, *, high_tiles: bool) -> Iterator[None]:
    """Poison what kernels are to write, and refuse what is not theirs; an address that is refused breaks the law."""
    from triton.runtime import interpreter

    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    guard = Guard(interpreter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "empty", lambda like, shape, dtype: torch.full(shape, NAN, dtype=dtype))
        if high_tiles:
            patch.setattr(
                f"{fused.__package__}._launches.PROGRAMS_PER_PROCESSOR", 0
            )  # then they stay as high as they can be
        patch.setattr(builder, "create_masked_load", guard.around(builder.create_masked_load, 1))
        patch.setattr(builder, "create_masked_store", guard.around(builder.create_masked_store, 2))
        patch.setattr(interpreter, "_patch_lang", guard.once_a_launch(interpreter._patch_lang))
        patch.setattr(executor, "__call__", guard.launching(executor.__call__))
        # All memory is the CPU's, so nothing must be copied back; a copy would touch the memory of `offsets`.
        patch.setattr(executor, "_restore_args_dev", lambda *arguments: None)
        yield
    assert not guard.refused, f"{where}: a kernel used memory outside of its arguments"


class Guard:
    """Lets kernels have the memory of their arguments, and notes whether they wanted other memory as well."""

    def __init__(self, interpreter: ModuleType) -> None:
        self.handle = interpreter.TensorHandle
        self.allowed: list[tuple[int, int]] = []
        self.refused = False
        self.patched: set[str] = set()

    def launching(self, launch: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(executor: Any, *arguments: Any, **options: Any) -> Any:
            tensors = filter(torch.is_tensor, (*arguments, *options.values()))
            self.patched.clear()
            self.allowed = [(t.data_ptr(), t.data_ptr() + last_offset(t) * t.itemsize) for t in tensors]
            return launch(executor, *arguments, **options)

        return guarded

    def once_a_launch(self, patch_lang: Callable[..., Any]) -> Callable[..., Any]:
        """Per module: the interpreter patches ``triton.language`` at every call of a function, for half of its time."""

        def guarded(function: Any) -> Any:
            if function.__module__ in self.patched:
                return None
            self.patched.add(function.__module__)
            return patch_lang(function)

        return guarded

    def around(self, access: Callable[..., Any], mask_at: int) -> Callable[..., Any]:
        def guarded(builder: Any, pointers: Any, *rest: Any) -> Any:
            mask = rest[mask_at - 1]
            known = mask.data & False
            for first, last in self.allowed:
                known |= (pointers.data >= first) & (pointers.data <= last)
            self.refused |= bool((mask.data & ~known).any())
            rest = (*rest[: mask_at - 1], self.handle(mask.data & known, mask.dtype), *rest[mask_at:])
            return access(builder, pointers, *rest)

        return guarded


def last_offset(tensor: Tensor) -> int:
    return sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))


def verdict(name: str, law: str, results: str) -> str:
    """``holds``, where the law does not hold, or what else went wrong with a package."""
    try:
        package, fused = (importlib.import_module(f"{name}.{module}") for module in ("sampling", "fused"))
        hold(law, package, fused, results)
    except AssertionError as error:
        return f"killed: {error}"
    except Exception as error:
        return f"broken: {error!r}"
    return "holds"


def main(folder: str) -> None:
    """Judge the packages of a folder; one line of JSON for each."""
    torch.set_num_threads(1)
    sys.path.insert(0, folder)
    for name, law, results in json.loads((Path(folder) / "plan.json").read_text()):
        sys.stdout.write(json.dumps([name, law, verdict(name, law, results)]) + "\n")
        sys.stdout.flush()


# The tests.

RESULTS = {"coordinates": "o", "forward": "o", "theta_gradient": "t", "image_gradient": "i"}

CONTROL = "supervised_st_control"


def copy(folder: Path, package: str, mutant: Mutant | None = None) -> None:
    """Write the package under another name, so that it can be imported, and register operators, beside the others.

    Its ``__init__`` stays empty, since most modules are not needed.
    """
    root = Path(supervised_st.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text(encoding="utf-8") if path != root / "__init__.py" else ""
        if mutant and path.parent.name == "kernels" and path.stem == mutant.file:
            text = text.replace(mutant.text, mutant.replacement)
        to = folder / package / path.relative_to(root)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text.replace("supervised_st", package), encoding="utf-8")


def occurrences(mutant: Mutant) -> int:
    path = Path(supervised_st.__file__).parent / "kernels" / f"{mutant.file}.py"
    return path.read_text(encoding="utf-8").count(mutant.text)


def package_of(mutant: Mutant) -> str:
    return f"mutant_{MUTANTS.index(mutant)}"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """By package and law, all from one process; what comes after a crash is missing."""
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("mutants")
    copy(folder, CONTROL)
    plan = [(CONTROL, law, "oit") for law in LAWS]
    for mutant in MUTANTS:
        if occurrences(mutant) == mutant.times:
            copy(folder, package_of(mutant), mutant)
            plan.append((package_of(mutant), mutant.law, mutant.result or RESULTS[mutant.file]))
    (folder / "plan.json").write_text(json.dumps(plan))
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(folder)],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    missing = dict.fromkeys([line[:2] for line in plan], f"not run, exit code {done.returncode}: {done.stderr[-2000:]}")
    return missing | {(name, law): found for name, law, found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("law", LAWS)
def test_the_kernels_obey_the_law(law, verdicts):
    assert verdicts[CONTROL, law] == "holds"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_breaks_its_law(mutant, verdicts):
    where = f"mutant {mutant.name!r} of _kernels/{mutant.file}.py"
    count = occurrences(mutant)
    assert count == mutant.times, f"{where} is stale: {mutant.text!r} stands there {count} times, not {mutant.times}"
    found = verdicts[package_of(mutant), mutant.law]
    assert found.startswith("killed: "), f"{where} is not found by the law {mutant.law!r}: {found}"


def test_mutants_have_names_of_their_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    assert {mutant.law for mutant in MUTANTS} <= LAWS.keys()


if __name__ == "__main__":
    main(sys.argv[1])
