"""Every way to choose a window that a run has trained, in plain words and in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.mpii_cooking import paper


@dataclass(frozen=True)
class Variant:
    """A way to choose the window that recognition sees.

    Attributes:
        key: its name in ``results.json``.
        name: what it is, in a few words.
        group: what it has in common with others.
    """

    key: str
    name: str
    group: str


NO_TRANSFORMER, PLAIN, GUIDED = "No transformer", "Transformer without guidance", "Guided transformer"
VARIANTS: tuple[Variant, ...] = (
    Variant("random crop", "center window, recognition as trained on random windows", NO_TRANSFORMER),
    Variant("center", "center window, recognition trained on it", NO_TRANSFORMER),
    Variant("R_h", "hard-coded window of most motion", NO_TRANSFORMER),
    Variant("STN", "starts at random, as the paper's baseline", PLAIN),
    Variant("STN-identity", "starts with the whole frame", PLAIN),
    Variant("STN-level", "starts with the center window", PLAIN),
    Variant("STN-slow", "learns where to look at a tenth of the rate", PLAIN),
    Variant("STN-fast", "learns where to look at ten times the rate", PLAIN),
    Variant("frozen", "held where guidance left it", GUIDED),
    Variant("SSTN", "set free after guidance, the paper's method", GUIDED),
    Variant("SSTN-slow", "set free after guidance, to learn where to look at a tenth of the rate", GUIDED),
    Variant("guided", "guidance never turned off", GUIDED),
    Variant("annealed", "guidance fades out", GUIDED),
)
"""From the least attention to the most, in the order in which they are shown."""

Results = Mapping[str, Any]


def localizers(results: Results) -> tuple[str, ...]:
    """Return the localization networks of Table 2 that were trained, in its order."""
    return tuple(name for name in paper.LOCALIZERS if name in results["settings"]["localizers"])


def variant_levels(results: Results) -> tuple[str, ...]:
    """Return the levels at which every variant was trained, from wide to narrow."""
    return tuple(level for level in paper.LEVELS if any(cell["level"] == level for cell in results["variants"]))


def variant_cells(results: Results) -> dict[Variant, tuple[Results, ...]]:
    """Return the cells of each variant that was trained, one for each of ``variant_levels``, of the main localizer.

    They are in the order of ``VARIANTS``; those of the paper's variants are Table 2's.
    """
    networks = (results["settings"]["main_localizer"], None)
    found = {
        (cell["variant"], cell["level"]): cell
        for cell in (*results["table2"]["cells"], *results["variants"])
        if cell["localizer"] in networks
    }
    trained = {cell["variant"] for cell in (*results["table2"]["cells"], *results["variants"])}
    levels = variant_levels(results)
    return {
        variant: tuple(found[variant.key, level] for level in levels) for variant in VARIANTS if variant.key in trained
    }
