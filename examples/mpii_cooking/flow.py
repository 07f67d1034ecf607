"""Optical flow between neighbouring frames, as eight bits a component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import cv2
import numpy as np

FlowMethod = Callable[[np.ndarray, np.ndarray], np.ndarray]


def estimator(method: Literal["dis", "tvl1"]) -> FlowMethod:
    """Return a function (gray, next gray) -> flow of shape (height, width, 2), in pixels of that grid.

    Args:
        method: "dis" (Kroeger et al., ECCV 2016; milliseconds) or "tvl1" (Zach et al., DAGM 2007; the two-stream
            networks' choice, seconds).
    """
    if method == "tvl1":
        tvl1 = cv2.optflow.createOptFlow_DualTVL1()
        return lambda first, second: tvl1.calc(first, second, None)
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: dis.calc(first, second, None)


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Map [-bound, bound] pixels linearly onto 0 .. 255, saturating outside; zero flow becomes 128.

    Args:
        flow: (height, width, 2), displacement (u, v) in pixels.
        bound: displacement at which the eight bits saturate.

    Returns:
        (2, height, width) uint8, u then v.
    """
    levels = np.rint((flow + bound) * (255 / (2 * bound)))
    return np.clip(levels, 0, 255).astype(np.uint8).transpose(2, 0, 1)


def flows(frames: Iterable[np.ndarray], method: FlowMethod, bound: float) -> Iterator[np.ndarray]:
    """Yield the flow from each frame to the next; the last frame repeats the flow before it, or has none.

    Args:
        frames: gray uint8 frames of one size.
        method: an :func:`estimator`.
        bound: see :func:`quantise`.

    Yields:
        as many (2, height, width) uint8 flows as there are frames.
    """
    frames = iter(frames)
    first = next(frames)
    flow = np.full((2, *first.shape), 128, np.uint8)
    for second in frames:
        flow = quantise(method(first, second), bound)
        yield flow
        first = second
    yield flow
