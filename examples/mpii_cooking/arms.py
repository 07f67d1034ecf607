"""Every way to choose a window that a run has trained, in plain words and in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from examples.mpii_cooking import claims


@dataclass(frozen=True)
class Arm:
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
ARMS: tuple[Arm, ...] = (
    Arm("random crop", "centre window, recognition as trained on random windows", NO_TRANSFORMER),
    Arm("centre", "centre window, recognition trained on it", NO_TRANSFORMER),
    Arm("R_h", "hard-coded window of most motion", NO_TRANSFORMER),
    Arm("STN", "starts at random, as the paper's baseline", PLAIN),
    Arm("STN-identity", "starts with the whole frame", PLAIN),
    Arm("STN-level", "starts with the centre window", PLAIN),
    Arm("STN-slow", "learns where to look at a tenth of the rate", PLAIN),
    Arm("STN-fast", "learns where to look at ten times the rate", PLAIN),
    Arm("frozen", "held where guidance left it", GUIDED),
    Arm("SSTN", "set free after guidance, the paper's method", GUIDED),
    Arm("SSTN-slow", "set free after guidance, to learn where to look at a tenth of the rate", GUIDED),
    Arm("guided", "guidance never turned off", GUIDED),
    Arm("annealed", "guidance fades out", GUIDED),
)
"""From the least attention to the most, in the order in which they are shown."""

Results = Mapping[str, Any]


def localisers(results: Results) -> tuple[str, ...]:
    """Return the localisation networks of Table 2 that were trained, in its order."""
    return tuple(name for name in claims.LOCALISERS if name in results["settings"]["localisers"])


def arm_levels(results: Results) -> tuple[str, ...]:
    """Return the levels at which every arm was trained, from wide to narrow."""
    return tuple(level for level in claims.LEVELS if any(cell["level"] == level for cell in results["arms"]))


def arm_cells(results: Results) -> dict[Arm, tuple[Results, ...]]:
    """Return the cells of each arm that was trained, one for each of ``arm_levels``, for the main localisation network.

    They are in the order of ``ARMS``; those of the paper's arms are Table 2's.
    """
    networks = (results["settings"]["main_localiser"], None)
    found = {
        (cell["arm"], cell["level"]): cell
        for cell in (*results["table2"]["cells"], *results["arms"])
        if cell["localiser"] in networks
    }
    trained = {cell["arm"] for cell in (*results["table2"]["cells"], *results["arms"])}
    levels = arm_levels(results)
    return {arm: tuple(found[arm.key, level] for level in levels) for arm in ARMS if arm.key in trained}
