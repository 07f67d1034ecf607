"""Optical flow between neighboring frames, 8 bits per component."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from examples.mpii_cooking.data.dataset import DataError

Image = NDArray[Any]
FlowMethod = Callable[[Image, Image], Image]

RAFT_STEP, RAFT_LEAST = 8, 128
"""torchvision's RAFT takes sides in pixels that are multiples of 8 and at least 128."""


def estimator(method: Literal["dis", "tvl1", "raft"], weights: str | None = None) -> FlowMethod:
    """Return a function (gray, next gray) -> flow of shape (height, width, 2), in pixels of that grid.

    The function keeps buffers between calls, so every thread needs its own.

    Args:
        method: "dis" (Kroeger et al., ECCV 2016; milliseconds), "tvl1" (Zach et al., DAGM 2007; the two-stream
            networks' choice, seconds) or "raft" (Teed and Deng, ECCV 2020; seconds without a GPU).
        weights: for "raft", a file with the weights of torchvision's ``raft_large`` or ``raft_small``.

    Raises:
        DataError: if "raft" lacks torchvision or weights that fit, or another method is given weights.
    """
    if method == "raft":
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return raft(_raft_network(weights).to(device), device)
    if weights is not None:
        raise DataError(f"weights belong to flow raft, got {weights} with flow {method}")
    if method == "tvl1":
        tvl1: Any = cv2.optflow.createOptFlow_DualTVL1()  # OpenCV's types do not know that the flow may be None
        return lambda first, second: tvl1.calc(first, second, None)
    dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return lambda first, second: dis.calc(first, second, None)


def raft(network: Callable[[Tensor, Tensor], Sequence[Tensor]], device: torch.device) -> FlowMethod:
    """Return the flow method around a RAFT network.

    Not yet validated with trained weights. Tests check sides, range and units with a stand-in, and that torchvision's
    untrained networks run if torchvision is installed.

    Args:
        network: (first, second) -> estimates in pixels, [1 2 height width], of which the last is the best; the images
            are [1 3 height width] float32 in [-1, 1], the gray value in each channel.
        device: where the network is.
    """

    @torch.inference_mode()
    def estimate(first: Image, second: Image) -> Image:
        height, width = first.shape
        (top, bottom), (left, right) = _margins(height), _margins(width)
        images = torch.from_numpy(np.stack([first, second])).to(device)[:, None] / 127.5 - 1
        images = F.pad(images, (left, right, top, bottom), mode="replicate").expand(-1, 3, -1, -1)
        found = network(images[:1], images[1:])[-1][0, :, top : top + height, left : left + width]
        return found.permute(1, 2, 0).cpu().numpy()

    return estimate


def _margins(side: int) -> tuple[int, int]:
    """Return how many pixels RAFT needs before and after ``side`` of them."""
    missing = max(RAFT_LEAST, -(-side // RAFT_STEP) * RAFT_STEP) - side
    return missing // 2, missing - missing // 2


def _raft_network(weights: str | None) -> nn.Module:
    if weights is None or not Path(weights).is_file():
        raise DataError(
            "flow raft needs a file with torchvision's weights, such as raft_large_C_T_SKHT_V2-ff5fadd5.pth from "
            f"https://download.pytorch.org/models, got {weights}"
        )
    try:
        from torchvision.models import optical_flow
    except (ImportError, RuntimeError) as problem:  # a RuntimeError if it was built for another torch
        raise DataError(
            f"flow raft needs torchvision, built for torch {torch.__version__}: pip install torchvision ({problem})"
        ) from problem
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        large = any(name.startswith("mask_predictor.") for name in state)  # raft_small has none
        network: nn.Module = optical_flow.raft_large() if large else optical_flow.raft_small()
        network.load_state_dict(state)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as problem:
        raise DataError(
            f"{weights} must hold weights of torchvision's raft_large or raft_small: {problem}"
        ) from problem
    return network.eval()


def quantize(flow: Image, bound: float) -> Image:
    """Convert [-bound, bound] pixels linearly to 0..255. Larger flow saturates, zero flow becomes 128.

    Args:
        flow: (height, width, 2), displacement (u, v) in pixels.
        bound: displacement at which the eight bits saturate.

    Returns:
        (2, height, width) uint8, u then v.
    """
    levels = np.rint((flow + bound) * (255 / (2 * bound)))
    return np.clip(levels, 0, 255).astype(np.uint8).transpose(2, 0, 1)


def flows(frames: Iterable[Image], method: FlowMethod, bound: float) -> Iterator[Image]:
    """Yield the flow from each frame to the next. The last frame repeats the flow before it; a single frame has none.

    Args:
        frames: gray uint8 frames of one size.
        method: an :func:`estimator`.
        bound: see :func:`quantize`.

    Yields:
        as many (2, height, width) uint8 flows as there are frames.
    """
    frames = iter(frames)
    first = next(frames)
    flow = np.full((2, *first.shape), 128, np.uint8)
    for second in frames:
        flow = quantize(method(first, second), bound)
        yield flow
        first = second
    yield flow
