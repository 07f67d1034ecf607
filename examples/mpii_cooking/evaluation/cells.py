"""The cells of the tables: a cell names what was tested, not what came out."""

from dataclasses import dataclass
from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.variants import Region, Variant


@dataclass(frozen=True)
class FrameCell:
    """A cell of Table 2, or of the tables of variants: top-1 accuracy on one frame of every test clip, from RGB."""

    variant: Variant
    level: str
    localizer: str | None  # None for variants without a localization network


@dataclass(frozen=True)
class ClipCell:
    """A cell of Table 3: mean average precision on all frames of every test clip."""

    row: str  # a zoom level, or ``paper.FUSION``
    stream: str  # one of ``paper.STREAMS``: a modality, or both
    region: Region


@dataclass(frozen=True)
class PooledCell:
    """A cell of Table 3 under one kind of temporal correlation pooling."""

    pooling: str
    cell: ClipCell


Cell = FrameCell | PooledCell
Pair = tuple[Cell, Cell]  # two cells of one kind, of which the first is claimed to be better

CLIP_ROWS = (*paper.LEVELS, paper.FUSION)
CLIP_CELLS = tuple(ClipCell(row, stream, region) for region, stream, row in product(Region, paper.STREAMS, CLIP_ROWS))
"""Table 3, in the order in which it is computed and stored."""
POOLING_CELL = ClipCell(paper.FUSION, "S+T", Region.LEARNED)
"""The cell in which kinds of pooling are compared: it uses everything that the method has."""
