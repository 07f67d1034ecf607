"""The compile-time constants of kernels, besides the `Sampling` options. Triton compiles a kernel once per value."""

from typing import NamedTuple

import triton.language as tl


class Build(NamedTuple):
    """How a kernel is compiled."""

    acc: tl.dtype  #: of all arithmetic on values: float64 for float64 images, otherwise float32
    rounding: float  #: the relative rounding error of theta: a row this close to a whole-pixel transform is one
    offset: tl.dtype  #: of offsets inside an image: int64 where they reach 2^31, otherwise int32
    block: int  #: pixels that a program works on at a time
    tile_width: int  #: columns of a program's tile, and of a block
    vector: int  #: channels that a program works on at a time
    groups: int  #: such vectors in one pass, which share weights and whose reads overlap
    normalized: bool = False  #: whether ``mean`` and ``std`` are given
    channels_last: bool = False  #: whether ``out`` is channels_last; otherwise it is contiguous
    out_block: int = 1  #: image gradient: output pixels in one block of the search by blocks
    out_width: int = 1  #: image gradient: columns of such a block

    @property
    def block_rows(self) -> int:
        """Rows of a block."""
        return self.block // self.tile_width
