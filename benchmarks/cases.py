"""The timed cases: shapes, affine transforms, formats and phases, who uses them, and the plans that choose them."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

DTYPES = ("float32", "float16", "bfloat16")
LAYOUTS = ("contiguous", "channels_last")

# By phase: the inputs that get a gradient after the forward.
PHASES: dict[str, tuple[str, ...]] = {
    "forward": (),
    "theta": ("theta",),
    "image": ("image",),
    "both": ("image", "theta"),
}


@dataclass(frozen=True)
class Family:
    """Affine transforms of one kind: ``scale`` times a rotation, then a shift in half image sizes."""

    scale: float | None = 1.0
    """Fraction of the image that the output covers, per axis; ``None`` steps by one input pixel."""
    degrees: float = 0.0
    shift: tuple[float, float] | None = (0.0, 0.0)
    """``(x, y)``; ``None`` draws it for each transform, so that the window stays inside the image."""


FAMILIES = {
    "window": Family(scale=None, degrees=5, shift=None),
    "identity": Family(),
    "5 degrees": Family(degrees=5),
    "45 degrees": Family(degrees=45),
    "2x zoom in": Family(scale=0.5),
    "4x zoom out": Family(scale=4),
    "half outside": Family(shift=(1.0, 0.0)),
}


USES = {
    "stream": "recognition in videos: crops from frames",
    "warp": "images turned upright in front of a network",
    "features": "a spatial transformer between layers",
    "glimpses": "attention: several glimpses of one image",
    "augmentation": "training on images: random warps",
    "registration": "registration: a loop over one large image",
    "small": "digits and other small images",
    "overhead": "nobody: what a call costs",
}
"""By group: who would use it, and for what."""


@dataclass(frozen=True)
class Case:
    """One measurement, with square images and outputs; theta is float32."""

    group: str  #: the kind of use that the shape is typical of, a name in ``USES``
    images: int
    channels: int
    side: int  #: height and width of the images
    out: int  #: height and width of the output
    theta: str = "5 degrees"  #: a name in ``FAMILIES``
    dtype: str = "float32"
    layout: str = "contiguous"
    phase: str = "forward"  #: a name in ``PHASES``
    align_corners: bool = False
    transforms: int = 1  #: per image

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """``(batch, channel, height, width)``."""
        return (self.images, self.channels, self.side, self.side)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` of the output."""
        return (self.out, self.out)

    @property
    def shape(self) -> str:
        """The shapes of image and output, for tables."""
        return f"{'x'.join(map(str, self.image_shape))} -> {self.out}x{self.out}"

    @property
    def use(self) -> str:
        """Who would use it, and for what. Integers are images as they are loaded."""
        return USES["augmentation" if self.dtype == "uint8" else self.group]

    @property
    def name(self) -> str:
        """A name that no other case has."""
        corners = "corners" if self.align_corners else ""
        several = f"{self.transforms} transforms" if self.transforms > 1 else ""
        parts = (self.group, self.shape, several, self.theta, self.dtype, self.layout, corners, self.phase)
        return ", ".join(filter(None, parts))


def thetas(case: Case) -> Tensor:
    """Return the affine transforms of a case, ``[batch transform 2 3]`` float32, the same in every run."""
    family = FAMILIES[case.theta]
    scale = case.out / case.side if family.scale is None else family.scale
    turn, count = math.radians(family.degrees), (case.images, case.transforms)
    matrix = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) * scale
    if family.shift is None:
        room = max(1 - scale * (math.cos(turn) + math.sin(turn)), 0.0)
        shift = (2 * torch.rand(*count, 2, generator=torch.Generator().manual_seed(0)) - 1) * room
    else:
        shift = torch.tensor(family.shift).expand(*count, 2)
    return torch.cat((matrix.expand(*count, 2, 2), shift[..., None]), dim=-1)


def pixel_coordinates(case: Case) -> Tensor:
    """Return where output pixels read their image, ``[batch transform h w 2]`` as ``(x, y)`` in float64 pixels.

    Coordinates that miss a whole pixel by float64 rounding are rounded to it.
    """
    steps = torch.arange(case.out, dtype=torch.float64)
    place = 2 * steps / (case.out - 1) - 1 if case.align_corners else (2 * steps + 1) / case.out - 1
    y, x = torch.meshgrid(place, place, indexing="ij")
    mapped = torch.einsum("nkij,hwj->nkhwi", thetas(case).double(), torch.stack((x, y, torch.ones_like(x)), -1))
    at = (mapped + 1) * (case.side - 1) / 2 if case.align_corners else ((mapped + 1) * case.side - 1) / 2
    return torch.where((at - at.round()).abs() < 1e-9, at.round(), at)


@cache
def pixels_read(case: Case) -> int:
    """Count the input pixels, over all images, with a non-zero weight in at least one output pixel."""
    total = 0
    for at in pixel_coordinates(case):
        read = torch.zeros(case.side, case.side, dtype=torch.bool)
        for column, row in itertools.product((torch.floor, torch.ceil), repeat=2):
            x, y = column(at[..., 0]), row(at[..., 1])
            inside = (x >= 0) & (x < case.side) & (y >= 0) & (y < case.side)
            read[y[inside].long(), x[inside].long()] = True
        total += int(read.sum())
    return total


def ideal_bytes(case: Case) -> int:
    """Return the fewest bytes that must move: each needed value of input and output once per direction.

    The backward reads the gradient of the output. It also reads the needed part of the image again if theta gets a
    gradient, and writes the whole gradient of the image. Theta itself, six numbers per transform, does not count.
    """
    item: int = getattr(torch, case.dtype).itemsize
    # Values and formats do not decide which pixels are read; the same question is answered once.
    place = replace(case, group="", channels=1, dtype="float32", layout="contiguous", phase="forward")
    read = pixels_read(place) * case.channels * item
    # A uint8 image gives float32 values.
    output = case.images * case.transforms * case.channels * case.out**2 * (4 if case.dtype == "uint8" else item)
    backward = {"theta": read, "image": math.prod(case.image_shape) * item}
    wanted = PHASES[case.phase]
    return read + output + bool(wanted) * output + sum(backward[name] for name in wanted)


def shapes(device: str) -> dict[str, list[Case]]:
    """Return the shapes by the kind of use that they are typical of; a CPU gets smaller batches."""
    frames, batch, augmented = (128, 32, 256) if device == "cuda" else (2, 2, 2)
    return {
        "stream": [
            Case("stream", frames, channels, side, 224, theta="window")
            for channels in (3, 20)
            for side in (896, 448, 256)
        ],
        "warp": [Case("warp", frames, 3, 224, 224)],
        "features": [
            Case("features", batch, channels, side, side)
            for channels, sides in ((64, (28, 56, 112)), (256, (28, 56, 112)), (512, (14, 7)))
            for side in sides
        ],
        "glimpses": [Case("glimpses", 1, 3, 448, 64, theta="window", transforms=count) for count in (8, 16)],
        "augmentation": [
            Case("augmentation", augmented, 3, 256, 224, theta="window", dtype="uint8"),
            Case("augmentation", augmented, 3, 256, 224, theta="window", dtype="float16", layout="channels_last"),
        ],
        "registration": [Case("registration", 1, 1, side, side) for side in (2048, 512)],
        "small": [Case("small", 32, 3, 28, 28)],
        "overhead": [Case("overhead", 1, 1, 2, 2)],
    }


def headline(device: str) -> list[Case]:
    """Return one case for each of the five most common uses."""
    of = shapes(device)
    frames = of["stream"][1]
    return [
        replace(frames, phase="theta"),
        replace(of["features"][1], phase="both"),
        replace(of["glimpses"][0], phase="theta"),
        replace(frames, dtype="uint8"),
        replace(of["registration"][0], phase="theta"),
    ]


def plan(name: str, device: str) -> list[Case]:
    """Return the cases of a plan: ``"quick"``, ``"default"`` (one axis varies at a time) or ``"full"``."""
    return list(dict.fromkeys({"quick": _quick, "default": _default, "full": _full}[name](shapes(device))))


def _quick(of: dict[str, list[Case]]) -> Iterator[Case]:
    yield from vary(of["stream"][1], phase=("forward", "theta"))
    for case in (of["features"][1], of["small"][0]):
        yield from vary(case, phase=("forward", "both"))
    yield from vary(of["overhead"][0], phase=("forward", "theta"))


def _default(of: dict[str, list[Case]]) -> Iterator[Case]:
    frames, features = of["stream"][1], of["features"][1]
    for case in of["stream"]:
        # Frames of a video need no gradient.
        yield from vary(case, phase=("forward", "theta"))
    yield from vary(frames, phase=("image", "both"))
    yield from vary(of["warp"][0], phase=("forward", "both"), theta=tuple(FAMILIES))
    yield from vary(frames, dtype=("float16", "bfloat16"), phase=("forward", "theta", "both"))
    yield from vary(frames, layout=("channels_last",), phase=("forward", "theta", "both"))
    yield from vary(frames, align_corners=(True,), phase=("forward", "theta"))
    yield from vary(frames, dtype=("uint8",), phase=("forward", "theta"))
    yield from vary(frames, transforms=(4,), phase=("forward", "theta"))
    for case in of["features"]:
        yield from vary(case, phase=("forward", "both"))
    yield from vary(features, layout=("channels_last",), phase=("forward", "both"))
    yield from vary(features, dtype=("float16", "bfloat16"), phase=("forward", "both"))
    for case in of["glimpses"]:
        yield from vary(case, phase=("forward", "theta"))
    yield from of["augmentation"]
    yield from vary(of["registration"][0], phase=("forward", "theta", "both"))
    yield replace(of["registration"][1], phase="theta")
    yield from vary(of["small"][0], phase=tuple(PHASES))
    yield from vary(of["overhead"][0], phase=("forward", "theta"))


def _full(of: dict[str, list[Case]]) -> Iterator[Case]:
    yield from _default(of)
    for case in itertools.chain.from_iterable(of.values()):
        yield from vary(
            case, align_corners=(False, True), dtype=DTYPES, layout=LAYOUTS, theta=tuple(FAMILIES), phase=tuple(PHASES)
        )


def vary(case: T, **axes: tuple[Any, ...]) -> Iterator[T]:
    """Yield a dataclass with every combination of some fields' values."""
    for values in itertools.product(*axes.values()):
        yield replace(case, **dict(zip(axes, values, strict=True)))
