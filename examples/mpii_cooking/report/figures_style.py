"""What the report's figures have in common: colors that mean the same everywhere, for light and dark pages."""

import textwrap
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from examples.mpii_cooking.config import Level
from examples.mpii_cooking.storage import written_aside
from examples.mpii_cooking.variants import Region, Variant

# Okabe and Ito's color-blind-safe set for the variants; lightness alone carries an order (epochs, zoom levels).
VARIANT_COLORS = {Variant.STN: "#0072B2", Variant.SSTN: "#D55E00", Variant.HARD_CODED: "#009E73"}
REGION_COLORS = {Region.LEARNED: "#D55E00", Region.HARD_CODED: "#009E73"}
LEVEL_COLORS = {"general": "#9ECAE1", "middle": "#4292C6", "detail": "#08306B"}
WIDTH = 10.3  # inches, as wide as the page's text
GRAY, INK, LINE, PAGE = "#666666", "#222222", "#bbbbbb", "#ffffff"
DARK = {
    GRAY: "#a3adb7",
    INK: "#e6e9ec",
    LINE: "#59626b",
    PAGE: "#15191d",
    VARIANT_COLORS[Variant.STN]: "#6cb8ee",
    VARIANT_COLORS[Variant.SSTN]: "#ff9a57",
    VARIANT_COLORS[Variant.HARD_CODED]: "#4cc9a0",
    LEVEL_COLORS["general"]: "#3a6b94",
    LEVEL_COLORS["middle"]: "#6fb1e0",
    LEVEL_COLORS["detail"]: "#cfe6f5",
}
"""What becomes of these colors on a dark page."""
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "text.parse_math": False,  # class names are shown as they are, dollar signs too
    "svg.hashsalt": "report",  # the same figure is the same file
}


def save(figure: Figure, path: Path) -> None:
    """Write a figure: as SVG without a ground, whose colors follow the reader's choice of light or dark, else on white.

    A style sheet beats the colors that matplotlib writes into the elements. Programs that know none see the light ones.
    """
    is_svg = path.suffix == ".svg"
    metadata = {"Date": None} if is_svg else None
    with written_aside(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], facecolor="none" if is_svg else PAGE, metadata=metadata)
        if is_svg:
            text = aside.read_text(encoding="utf-8")
            aside.write_text(text.replace("</style>", f"{_dark_rules()}</style>", 1), encoding="utf-8")


def _dark_rules() -> str:
    rules = (
        f'[style*="{what}: {light.lower()}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{{''.join(rules)}}}"


def shortened(name: str, width: int) -> str:
    """Return ``name`` in at most ``width`` characters, cut between words where it can be."""
    short = textwrap.shorten(name, width, placeholder="…")
    return short if short != "…" else name[: width - 1] + "…"


def level_label(level: Level) -> str:
    """Return a level's name over the height of its frames."""
    return f"{level.name}\n{level.height} px"
