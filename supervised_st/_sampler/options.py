"""What every backend takes: how pixels are read, and the constants of each channel."""

from collections.abc import Callable
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from supervised_st._checks import FLOATING
from supervised_st.types import Backend, Mode, PaddingMode

MODES, PADDING_MODES, BACKENDS = get_args(Mode), get_args(PaddingMode), get_args(Backend)
IMAGE_DTYPES = (*FLOATING, torch.uint8)
LABEL_DTYPES = (torch.bool, torch.int8, torch.int16, torch.int32, torch.int64)


class Sampling(NamedTuple):
    """How pixels are read. `affine_sample` makes it from its arguments; every kernel takes it as one constant."""

    mode: str  #: one of `MODES`
    padding_mode: str  #: one of `PADDING_MODES`
    align_corners: bool  #: whether -1 and 1 are the centers of the outer pixels, and not their edges


class ChannelConstants(NamedTuple):
    """One number per channel, or None where it has no effect. Tensors have shape ``[channel]`` and no gradient."""

    fill: Tensor | None = None  #: the value out of bounds, in units of the output; only for ``padding_mode="fill"``
    mean: Tensor | None = None  #: subtracted from a uint8 image; only together with ``std``
    std: Tensor | None = None  #: divides a uint8 image, less its mean


Sampler = Callable[[Tensor, Tensor, ChannelConstants, tuple[int, int], Sampling], Tensor]
"""A backend, such as :func:`supervised_st._sampler.reference.affine_sample_reference`."""
