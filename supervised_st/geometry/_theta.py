"""What all functions of theta share: how it is put together, checked and bounded, and what its axes measure."""

import torch
from torch import Tensor

from supervised_st._checks import check_floating, check_shape


def make_theta(a: Tensor, b: Tensor, tx: Tensor, c: Tensor, d: Tensor, ty: Tensor) -> Tensor:
    """Return ``[... 2 3]`` of its six entries, row by row."""
    return torch.stack([a, b, tx, c, d, ty], -1).reshape(*a.shape, 2, 3)


def vector(like: Tensor, *entries: float) -> Tensor:
    """Return the entries as ``like`` is. A tensor made of a list would make symbolic ones constant."""
    return torch.stack([like.new_full((), entry) for entry in entries])


def spans(like: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Return how many pixels lie between the coordinates -1 and 1, as ``[2]``: along x and along y."""
    height, width = size
    edge = int(align_corners)
    return vector(like, max(width - edge, 1), max(height - edge, 1))


def hull(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest ``(x, y)`` of the sampled region, both ``[... 2]``."""
    matrix, center = theta[..., :2], theta[..., 2]
    reach = matrix.abs().sum(-1)
    return center - reach, center + reach


def transform(theta: Tensor, points: Tensor) -> Tensor:
    """Return ``A point + t`` for ``[... point 2]``."""
    return points @ theta[..., :2].mT + theta[..., None, :, 2]


def product(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the one transform that applies ``inner`` first, and then ``outer``."""
    linear = outer[..., :2] @ inner
    return torch.cat([linear[..., :2], linear[..., 2:] + outer[..., 2:]], -1)


def inverse(theta: Tensor) -> Tensor:
    """Return the inverse transform; inf and NaN where there is none."""
    # Inverted as a multiple of its largest entry: the determinant of a huge or a tiny matrix has no finite number.
    largest = theta[..., :2].abs().amax((-2, -1), keepdim=True)
    (a, b), (c, d) = (row.unbind(-1) for row in (theta[..., :2] / largest).unbind(-2))
    adjugate = torch.stack([d, -b, -c, a], -1).reshape(*a.shape, 2, 2)
    matrix = adjugate / (a * d - b * c)[..., None, None] / largest
    return torch.cat([matrix, -matrix @ theta[..., 2:]], -1)


def coordinate_dtype(tensor: Tensor) -> torch.dtype:
    """Return at least float32: in half precision, coordinates in 896 pixels are off by a quarter of a pixel."""
    return torch.promote_types(tensor.dtype, torch.float32)


def check_theta(name: str, theta: Tensor) -> None:
    """Raise an error unless ``theta`` is ``[... 2 3]`` and floating point."""
    check_shape(name, theta, "... 2 3")
    check_floating(name, theta)
