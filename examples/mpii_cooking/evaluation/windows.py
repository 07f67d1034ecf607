"""What became of windows that were followed through joint training: how far they moved, and their shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from supervised_st import geometry

Thetas = NDArray[np.float64]
"""``(moments, frames, 2, 3)`` theta."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """The shape of windows at each moment, ``(moments,)``: what the paper calls the distortion effect.

    Attributes:
        scale: mean over the frames of the window's side, as a fraction of the crop's.
        anisotropy: median ratio of its longest to its shortest side; infinite where windows have collapsed to lines.
        rotation: mean absolute angle in degrees.
        outside: mean fraction of the window that is outside the crop.
    """

    scale: NDArray[np.float64]
    anisotropy: NDArray[np.float64]
    rotation: NDArray[np.float64]
    outside: NDArray[np.float64]


def shapes(thetas: Thetas, crop: int, glimpse: int) -> Shapes:
    """Return the shape of windows.

    Args:
        thetas: of the windows.
        crop: side in pixels of the crops in which they lie.
        glimpse: side in pixels of what is sampled from a window.
    """
    measured = geometry.distortion(torch.from_numpy(thetas), (crop, crop), (glimpse, glimpse))
    return Shapes(
        scale=measured.scale.mean(1).numpy(),
        anisotropy=np.median(measured.anisotropy.numpy(), axis=1),
        rotation=measured.rotation.abs().rad2deg().mean(1).numpy(),
        outside=measured.outside.mean(1).numpy(),
    )


def drift(thetas: Thetas, side: float) -> NDArray[np.float64]:
    """Return how far each window's center is from its start, ``(moments, frames)``, in percent of the window's side.

    Args:
        thetas: of the windows.
        side: of a window, as a fraction of the crop's.
    """
    centers = thetas[..., 2]  # from -1 to 1 across the crop
    distances: NDArray[np.float64] = np.linalg.norm(centers - centers[0], axis=-1)
    return 50 * distances / side
