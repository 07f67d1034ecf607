"""What became of windows that were followed through joint training: how far they moved, and their shape."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from supervised_st import geometry

Thetas = NDArray[np.float64]
"""``(moments, frames, 2, 3)`` theta."""
Series = NDArray[np.float64]
"""A value for each moment."""


def shapes(thetas: Thetas, crop: int, glimpse: int) -> dict[str, Series]:
    """Return the shape of windows at each moment, which the paper calls the distortion effect.

    Over the frames: the mean scale, as a fraction of the crop's side, the median ratio of the longest to the shortest
    side (infinite where windows have collapsed to lines), the mean absolute rotation in degrees, and the mean fraction
    outside the crop. ``crop`` and ``glimpse`` are sides in pixels.
    """
    measured = geometry.distortion(torch.from_numpy(thetas), (crop, crop), (glimpse, glimpse))
    return {
        "scale": measured.scale.mean(1).numpy(),
        "anisotropy": np.median(measured.anisotropy.numpy(), axis=1),
        "rotation": measured.rotation.abs().rad2deg().mean(1).numpy(),
        "outside": measured.outside.mean(1).numpy(),
    }


def drift(thetas: Thetas, side: float) -> NDArray[np.float64]:
    """Return how far each window's center is from its start, ``(moments, frames)``, in percent of the window's side.

    ``side`` is a fraction of the crop's.
    """
    centers = thetas[..., 2]  # from -1 to 1 across the crop
    distances: NDArray[np.float64] = np.linalg.norm(centers - centers[0], axis=-1)
    return 50 * distances / side
