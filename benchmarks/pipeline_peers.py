"""Other ways to the answers of the pipeline's stages, and the error of a window search."""

from typing import Any

import cv2
import numpy as np
import torch.nn.functional as F
from torch import Tensor

Found = tuple[Any, Any, Any]  # for each map: the best score, and the left column and top row of its window


def pooled(motion: Tensor, *kernels: tuple[int, int]) -> Found:
    """Search with torch: one pass over whole windows, or two, which first sum down each window and then across it."""
    for kernel in kernels:
        motion = F.avg_pool2d(motion, kernel, stride=1, divisor_override=1)
    score, place = motion.flatten(1).max(1)
    return score, place % motion.shape[2], place // motion.shape[2]


def box_filtered(maps: list[np.ndarray], side: int) -> Found:
    """Search each map with OpenCV."""
    found = []
    for motion in maps:
        sums = cv2.boxFilter(motion, cv2.CV_64F, (side, side), anchor=(0, 0), normalize=False)
        # Windows that reach beyond the far edges do not count.
        _, score, _, (x, y) = cv2.minMaxLoc(sums[: motion.shape[0] - side + 1, : motion.shape[1] - side + 1])
        found.append((score, x, y))
    scores, left, top = (np.array(part) for part in zip(*found, strict=True))
    return scores, left, top


def exact_scores(motion: np.ndarray, side: int) -> np.ndarray:
    """Return the sums of integer maps, (map, height, width), over every window, as integers."""
    integral = np.pad(motion.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    strips = integral[:, side:] - integral[:, :-side]
    sums: np.ndarray = strips[..., side:] - strips[..., :-side]
    return sums


def search_error(score: np.ndarray, found: np.ndarray, best: np.ndarray) -> float:
    """Return the largest error of windows, relative to the best score of their map; all arguments are (map, ...).

    ``score`` is the reported score, ``found`` the true score of the reported window, ``best`` that of the best window.
    """
    largest = np.maximum(best.reshape(len(best), -1).max(1), 1).reshape(-1, *[1] * (best.ndim - 1))
    return float((np.maximum(np.abs(score - best), best - found) / largest).max())


def rbf_by_numpy(clip: np.ndarray, gamma: float) -> np.ndarray:
    """Return the RBF matrix of one clip's trajectories, (frames, channels)."""
    squares = (clip**2).sum(0)
    distances = (squares[:, None] + squares - 2 * clip.T @ clip) / len(clip)
    matrix: np.ndarray = np.exp(-gamma * np.maximum(distances, 0))
    return matrix


def described_by_numpy(matrix: np.ndarray) -> np.ndarray:
    """Return the descriptor of one clip from the matrix of its trajectories, written without the library."""
    channels = len(matrix)
    matrix = 0.999 * matrix + 0.001 * np.trace(matrix) / channels * np.eye(channels)
    eigenvalues, vectors = np.linalg.eigh(matrix + 1e-6 * np.trace(matrix) / channels * np.eye(channels))
    logarithm = vectors * np.log(eigenvalues) @ vectors.T
    vector = np.concatenate((np.diag(logarithm), np.sqrt(2) * logarithm[np.triu_indices(channels, 1)]))
    descriptor: np.ndarray = np.sign(vector) * np.sqrt(np.abs(vector))
    descriptor /= np.linalg.norm(descriptor)
    return descriptor
