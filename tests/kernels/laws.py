"""The laws of the kernels: small cases by name. On each, kernels and reference must agree."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from supervised_st._sampler.options import PADDING_MODES

INF, NAN = float("inf"), float("nan")


class Case(NamedTuple):
    """What is sampled, and which results count: "o", the output; "i" and "t", the gradients to image and theta."""

    image: Tensor
    theta: Tensor
    size: tuple[int, int]
    options: dict[str, Any] = {}  # noqa: RUF012 - never written to
    results: str = "oit"
    tolerance: float | None = None  #: that of the dtype if None
    narrow: bool = False  #: whether the truth is what the reference gives in the image's own dtype, not in float64
    high_tiles: bool = False  #: whether tiles have all their rows, as on a GPU that has enough to do


def images(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, dtype=dtype, generator=generator)
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def transforms(rows: list[Any], image: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Theta ``[1 transform 2 3]``, float64, from rows in pixels: ``[a b c]`` for ``x = a * column + b * row + c``."""
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
"""Transforms whose output of 5 x 6 pixels covers an image of 3 x 4 and is out of bounds at each of its edges."""


def edges() -> Iterator[Case]:
    image = images(1, 2, 3, 4)
    theta = transforms(ACROSS, image, (5, 6)).float()
    for padding_mode in PADDING_MODES:
        # Reflection has a law of its own; the fill does not affect the image's gradient.
        yield Case(image, theta, (5, 6), padded(padding_mode), "oit" if padding_mode in ("zeros", "border") else "to")
    yield Case(image, theta, (5, 6), {"mode": "nearest"}, "oi")
    yield Case(image, theta, (5, 6), padded("border", mode="nearest", align_corners=True), "o")


def float64() -> Iterator[Case]:
    image = images(1, 1, 3, 4, dtype=torch.float64)
    theta = transforms(ACROSS[1:], image, (5, 6))
    for padding_mode in PADDING_MODES:
        yield Case(image, theta, (5, 6), padded(padding_mode), "oit" if padding_mode in ("zeros", "border") else "to")
    yield Case(image, theta, (5, 6), {"mode": "nearest"}, "oi")


def places() -> Iterator[Case]:
    """Transforms to one point each, on whole and half pixels around every edge. Powers of two make them exact."""
    image = images(1, 1, 4, 8)
    points = [(-0.5, 1.25), (7.5, 1.25), (1.25, -0.5), (1.25, 3.5), (2, 1), (7, 3), (20.5, 1.25)]
    theta = transforms([[[0, 0, x], [0, 0, y]] for x, y in points], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("fill"), "to")


def long_steps() -> Iterator[Case]:
    """Two output pixels 2^28 input pixels apart in one block, which is neither in nor out of bounds."""
    image = images(1, 1, 1, 4)
    yield Case(image, torch.tensor([[[[2.0**26, 0, -(2.0**25)], [0, 0, 0]]]]), (1, 2), results="o")


def border_slopes() -> Iterator[Case]:
    """The slope is zero on the border and out of bounds. The first pixels have a law of their own."""
    image = images(1, 1, 4, 8)
    theta = transforms([[[0, 0, x], [0, 0, y]] for x, y in ((7, 1.25), (1.25, 3), (0, 3.25), (7.5, 0))], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("border"), "t")


def first_pixels() -> Iterator[Case]:
    """The slope is zero on the border, also where all four taps are in bounds."""
    image = images(1, 1, 4, 8)
    theta = transforms([[[0, 0, 0], [0, 0, 1.25]], [[0, 0, 1.25], [0, 0, 0]]], image, (1, 1))
    yield Case(image, theta, (1, 1), padded("border"), "t")


def half_precision() -> Iterator[Case]:
    """Many gradients meet in one pixel: among near candidates and in blocks."""
    image = images(1, 1, 3, 4, dtype=torch.float16)
    theta = transforms([[[0.413, 0.053, 0.1], [-0.021, 0.457, 0.1]]], image, (7, 9)).float()
    to_a_row = transforms([[[0.313, 0.053, 0.1], [0, 0, 1.3]]], image, (7, 9)).float()
    yield Case(image, theta, (7, 9))
    yield Case(image, to_a_row, (7, 9), results="i")
    yield Case(image, theta, (7, 9), padded("border"), "o")


def uint8() -> Iterator[Case]:
    """In bounds, where whole blocks of output pixels read no edge, out of bounds, and across the edges."""
    image = images(1, 2, 5, 6, dtype=torch.uint8)
    within = [[0.0913, 0.0157, 0.93], [0.0147, 0.1331, 0.72]]
    theta = transforms([within, [[1, 0, 50], [0, 1, 0]], ACROSS[1]], image, (5, 6)).float()
    options = {"mean": (120.0, 100.0), "std": (60.0, 0.5)}
    yield Case(image, theta, (5, 6), {**options, "padding_mode": "fill", "fill_value": (1.0, -2.0)}, "to")
    yield Case(image, theta, (5, 6), {**options, "padding_mode": "border"}, "to")


def bits() -> Iterator[Case]:
    """Whole-pixel shifts that theta cannot hold exactly return the bits of the image."""
    rows = [[[1, 0, 0], [0, 1, 0]], [[1, 0, -3], [0, 1, 1]], [[0, 1, 2], [1, 0, -4]]]
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 7, 11, dtype=dtype)
        yield Case(image, transforms(rows, image, (7, 11)).float(), (7, 11), {}, "o", 0.0)


def thirds() -> Iterator[Case]:
    """Every third column hits a pixel although no coefficient of theta is exact: a weight of 2^-24 would show."""
    image = images(1, 1, 4, 4)
    image[..., ::2] = INF
    yield Case(image, torch.eye(2, 3)[None, None], (4, 10), {"align_corners": True}, "o")


def halves() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 4, 8, dtype=dtype)
        theta = transforms([[[1, 0, 0.5], [0, 1, -0.5]], [[0.5, 0, 0], [0, 0.5, 0]]], image, (4, 8))
        yield Case(image, theta, (4, 8), {"mode": "nearest"}, "oi")


def infinite_pixels() -> Iterator[Case]:
    """Infinite and NaN pixels count only where their weight is not zero, in values and in gradients."""
    for dtype in (torch.float32, torch.float64):
        image = images(1, 1, 4, 8, dtype=dtype)
        image[0, 0, 2, 4], image[0, 0, 0, 6], image[0, 0, 3, 0] = INF, NAN, -INF
        rows = [[[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 1, 0.25]]]
        rows += [[[0, 0, x], [0, 0, y]] for x, y in ((3, 1), (3, 2), (5, 2))]
        yield Case(image, transforms(rows, image, (4, 8)), (4, 8), {}, "to")


def undefined_transforms() -> Iterator[Case]:
    """NaN in, NaN out, and no gradient to the image."""
    for dtype, padding_mode in ((torch.float32, "zeros"), (torch.float32, "reflection"), (torch.float64, "border")):
        image = images(1, 1, 3, 4, dtype=dtype)
        theta = torch.eye(2, 3, dtype=dtype).repeat(1, 3, 1, 1)
        theta[0, 0, 0, 0], theta[0, 1, 1, 2] = INF, NAN
        yield Case(image, theta, (2, 3), padded(padding_mode))
    # Minus infinity, or NaN where the sum of the other two terms overflows.
    image = images(1, 1, 3, 8, dtype=torch.float64)
    theta = torch.tensor([[[[0.2e308, 0.2e308, -1.7e308], [0, 1, 0]]]], dtype=torch.float64)
    yield Case(image, theta, (5, 6), padded("border"), "oi")


def far() -> Iterator[Case]:
    """Coordinates that are clamped have no slope; 2^30 is a multiple of no such width, so its mirror is in bounds."""
    image = images(1, 1, 4, 3)
    theta = torch.eye(2, 3).repeat(1, 2, 1, 1)
    theta[0, :, 0, 2] = torch.tensor([1e20, -1e20])
    yield Case(image, theta, (4, 3), padded("reflection"), "to")
    yield Case(image, theta, (4, 3), padded("border"), "oi")


def far_rows() -> Iterator[Case]:
    """One row in reach, the next one beyond all integers; its columns lie less than half an ulp before a pixel."""
    image = images(1, 1, 2, 8)
    image[..., ::2] = INF
    theta = transforms([[[2, 0, 1 - 2.0**-30], [0, 0, 1]]], image, (2, 4))
    theta[..., 1, 1], theta[..., 1, 2] = 2.0**30, 2.0**29
    yield Case(image, theta, (2, 4), {}, "o", narrow=True)


def mirrors() -> Iterator[Case]:
    image = images(1, 1, 3, 4)
    rows = [[[1.313, 0.217, -3.119], [-0.313, 1.117, 1.713]]]
    for align_corners in (False, True):
        theta = transforms(rows, image, (4, 4), align_corners=align_corners).float()
        yield Case(image, theta, (4, 4), padded("reflection", align_corners=align_corners))
    image = images(1, 1, 1, 3, dtype=torch.float64)
    theta = torch.tensor([[[[0.913, 0.117, 0.219], [0.3, 0.8, 0.1]]]], dtype=torch.float64)
    yield Case(image, theta, (3, 2), padded("reflection", align_corners=True))  # fmt: skip


def many_mirrors() -> Iterator[Case]:
    """More mirror images than are searched one by one, and two columns more than are tested together."""
    image = images(1, 1, 1, 2)
    theta = transforms([[[20.3, 0, 0.3], [0, 1, 0]]], image, (1, 66)).float()
    yield Case(image, theta, (1, 66), padded("reflection"), results="i")


def many_sums() -> Iterator[Case]:
    """More programs for one transform than one program adds at a time: one per channel."""
    image = images(1, 131, 1, 2)
    yield Case(image, transforms([[[0.613, 0.2, 0.1], [0, 1, 0.1]]], image, (1, 2)).float(), (1, 2), results="t")


def singular_transforms() -> Iterator[Case]:
    """Without an inverse; odd sizes leave the last block of output pixels with one row or column."""
    image = images(1, 1, 3, 4)
    rows = [[[0, 0, 1.3], [0, 0, 1.2]], [[0.513, 0.217, 0], [0, 0, 1.4]]]
    theta = transforms(rows, image, (3, 5)).float()
    for padding_mode in ("zeros", "border"):
        yield Case(image, theta, (3, 5), padded(padding_mode), "i")
    yield Case(image.double(), theta, (3, 5), {}, "i")
    # The first transform of an image is usual, the second is not.
    yield Case(image, transforms([ACROSS[1], rows[0]], image, (3, 5)).float(), (3, 5), {}, "i")


def coarse() -> Iterator[Case]:
    """300 input pixels per output column: more than fit into the 32 bits of a distance."""
    image = images(1, 1, 1, 700)
    yield Case(image, transforms([[[300, 0, 20.25], [0, 1, 0]]], image, (1, 3)).float(), (1, 3))


def tall() -> Iterator[Case]:
    """Several blocks per tile and several tiles."""
    image = images(1, 1, 5, 6)
    yield Case(
        image,
        transforms([[[0.61317, 0.05323, -1.00713], [0.02119, 0.11137, -0.70171]]], image, (41, 9)).float(),
        (41, 9),
        results="to",
        high_tiles=True,
    )
    # Every block reads in bounds only.
    image = images(1, 1, 10, 12)
    within = transforms([[[0.0913, 0.0157, 0.93], [0.0147, 0.1331, 0.72]]], image, (20, 6)).float()
    yield Case(image, within, (20, 6), results="to", high_tiles=True)
    image = images(1, 1, 19, 4)
    yield Case(
        image,
        transforms([[[0.913, 0.117, 0.1], [0.053, 3.117, 0.2]]], image, (6, 4)).float(),
        (6, 4),
        results="i",
        high_tiles=True,
    )


def wide() -> Iterator[Case]:
    image = images(1, 1, 5, 6)
    yield Case(
        image,
        transforms([[[0.15317, 0.05323, -1.00713], [0.02119, 0.61337, -0.70171]]], image, (6, 40)).float(),
        (6, 40),
        results="to",
    )
    image = images(1, 1, 3, 37)
    yield Case(
        image, transforms([[[3.117, 0.053, 0.2], [0.021, 0.913, 0.1]]], image, (3, 12)).float(), (3, 12), results="i"
    )
    # The last pixel of a tile is read only by an output pixel to the right of its first candidate.
    image = images(1, 1, 1, 40)
    yield Case(image, transforms([[[1, 0, 31.9], [0, 1, 0]]], image, (3, 8)).float(), (3, 8), results="i")


def channels_last() -> Iterator[Case]:
    image = images(1, 16, 3, 4).contiguous(memory_format=torch.channels_last)
    yield Case(image, transforms(ACROSS[1:], image, (5, 6)).float(), (5, 6))


def offsets() -> Iterator[Case]:
    """Strides of 2^30, in memory that is reserved and barely touched: offsets of 2^31 need 64 bits."""
    far = 2**30
    memory = torch.empty(2 * far + 64, dtype=torch.uint8)
    for index in range(3):
        memory[index * far : index * far + 16] = images(16, dtype=torch.uint8, seed=index)
    for axis in range(3):
        shape, strides = [1, 1, 1, 4], [4, 4, 4, 1]
        shape[axis], strides[axis] = 3, far
        image = memory.as_strided(shape, strides)
        theta = transforms([[[1, 0, 0.5], [0, 1, 0.25]]], image, (3, 4)).float().expand(shape[0], 1, 2, 3)
        yield Case(image, theta, (3, 4), padded("border"), "to")


LAWS: dict[str, Callable[[], Iterator[Case]]] = {
    "edges": edges,
    "places": places,
    "long steps": long_steps,
    "border slopes": border_slopes,
    "first pixels": first_pixels,
    "uint8": uint8,
    "float64": float64,
    "half precision": half_precision,
    "bits": bits,
    "thirds": thirds,
    "halves": halves,
    "infinite pixels": infinite_pixels,
    "undefined transforms": undefined_transforms,
    "far": far,
    "far rows": far_rows,
    "mirrors": mirrors,
    "many mirrors": many_mirrors,
    "many sums": many_sums,
    "singular transforms": singular_transforms,
    "coarse": coarse,
    "tall": tall,
    "wide": wide,
    "channels last": channels_last,
    "offsets": offsets,
}
