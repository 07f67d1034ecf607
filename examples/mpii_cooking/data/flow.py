"""Optical flow between neighboring frames, 8 bits per component."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]
FlowMethod = Callable[[Image, Image], Image]
"""(gray, next gray) -> flow of shape (height, width, 2), in pixels of that grid."""


def estimator(method: Literal["dis", "tvl1"]) -> FlowMethod:
    """Return "dis" (Kroeger et al., ECCV 2016; milliseconds) or "tvl1" (Zach et al., DAGM 2007; seconds).

    TV-L1 is the two-stream networks' choice. The function keeps buffers between calls: every thread needs its own.
    """
    if method == "tvl1":
        tvl1: Any = cv2.optflow.createOptFlow_DualTVL1()  # OpenCV's types do not know that the flow may be None
        return lambda first, second: tvl1.calc(first, second, None)
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: dis.calc(first, second, None)


def quantize(flow: Image, bound: float) -> Image:
    """Convert [-bound, bound] pixels linearly to 0..255, and (height, width, 2) to (2, height, width) uint8.

    Larger flow saturates, zero flow becomes 128.
    """
    levels = np.rint((flow + bound) * (255 / (2 * bound)))
    return np.clip(levels, 0, 255).astype(np.uint8).transpose(2, 0, 1)


def flows(frames: Iterable[Image], method: FlowMethod, bound: float) -> Iterator[Image]:
    """Yield the quantized flow from each gray frame to the next, (2, height, width) uint8.

    The last frame repeats the flow before it. The flow of a single frame is zero.
    """
    frames = iter(frames)
    first = next(frames)
    flow = np.full((2, *first.shape), 128, np.uint8)
    for second in frames:
        flow = quantize(method(first, second), bound)
        yield flow
        first = second
    yield flow
