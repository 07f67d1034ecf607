"""The cells of the two tables: a cell names what was tested, not what came out."""

from __future__ import annotations

from dataclasses import dataclass

from examples.mpii_cooking import paper
from examples.mpii_cooking.variants import Region, Variant


@dataclass(frozen=True)
class FrameCell:
    """A cell of Table 2 and its kin: top-1 accuracy on one frame of every test clip, from RGB.

    Attributes:
        variant: how the window was chosen.
        level: name of the zoom level.
        localizer: the localization network; None for variants that have none.
    """

    variant: Variant
    level: str
    localizer: str | None


@dataclass(frozen=True)
class ClipCell:
    """A cell of Table 3: mean average precision on all frames of every test clip.

    Attributes:
        row: name of a zoom level, or ``paper.FUSION``.
        stream: one of ``paper.STREAMS``: a modality, or both.
        region: which window the features are from.
    """

    row: str
    stream: str
    region: Region


CLIP_CELLS = tuple(
    ClipCell(row, stream, region)
    for region in Region
    for stream in paper.STREAMS
    for row in (*paper.LEVELS, paper.FUSION)
)
"""Table 3, in the order in which it is computed and stored."""
POOLING_CELL = ClipCell(paper.FUSION, "S+T", Region.LEARNED)
"""The cell in which kinds of pooling are compared: it uses everything that the method has."""
