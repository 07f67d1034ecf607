"""What the report's figures have in common: colors that mean the same everywhere, and axes without clutter."""

import textwrap
from typing import Any

from examples.mpii_cooking.config import Level
from examples.mpii_cooking.variants import Region, Variant

# Okabe and Ito's color-blind-safe set for the variants; lightness alone carries an order (epochs, zoom levels).
VARIANT_COLORS = {Variant.STN: "#0072B2", Variant.SSTN: "#D55E00", Variant.HARD_CODED: "#009E73"}
REGION_COLORS = {Region.LEARNED: "#D55E00", Region.HARD_CODED: "#009E73"}
LEVEL_COLORS = {"general": "#9ECAE1", "middle": "#4292C6", "detail": "#08306B"}
GRAY, INK = "#666666", "#222222"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.parse_math": False,  # class names are shown as they are, dollar signs too
}


def shortened(name: str, width: int) -> str:
    """Return ``name`` in at most ``width`` characters, cut between words where it can be."""
    short = textwrap.shorten(name, width, placeholder="…")
    return short if short != "…" else name[: width - 1] + "…"


def level_label(level: Level) -> str:
    """Return a level's name over the height of its frames."""
    return f"{level.name}\n{level.height} px"
