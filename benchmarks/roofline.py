"""How much of a GPU's memory bandwidth a kernel can use, by the instructions that it executes per element.

A multiprocessor has four schedulers, and each of them starts one instruction of one warp of 32 threads per clock. While
memory moves the bytes of one element, there is time for so many instructions and no more. The true share is lower where
instructions wait for each other, for memory, or for a unit that is narrower than a warp (float64, integers,
conversions), so this is a limit and not a forecast.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Device:
    """What the vendor states."""

    name: str
    multiprocessors: int
    gigahertz: float  #: at the most
    terabytes_per_second: float
    source: str

    @property
    def instructions_per_second(self) -> float:
        """Of single threads."""
        return self.multiprocessors * 128 * self.gigahertz * 1e9


DEVICES = (
    Device("H100 SXM", 132, 1.98, 3.35, "https://www.nvidia.com/en-us/data-center/h100/"),
    Device("H200 SXM", 132, 1.98, 4.8, "https://www.nvidia.com/en-us/data-center/h200/"),
)
"""Lanes times clock are half of the float32 operations that the vendor states, 67 * 10^12 per second."""

ARCHITECTURE = 90
"""For which these devices' kernels are compiled."""

COPY_SHARE = 0.9
"""Of the stated bandwidth, assumed to be within reach of a plain copy."""


def budget(device: Device, bytes_per_element: float) -> float:
    """Return the instructions that there is time for while memory moves an element's bytes."""
    return device.instructions_per_second * bytes_per_element / (device.terabytes_per_second * 1e12 * COPY_SHARE)


def share(device: Device, row: Row) -> float:
    """Return the share of a copy's bandwidth that the instructions of a row leave at the most."""
    return min(1.0, budget(device, row["bytes_per_element"]) / row["instructions_per_element"])


def table(report: dict[str, Any]) -> str:
    """Return the rows of the usual case as a table of Markdown, with what it rests on."""
    header = [
        "kernel",
        "format",
        "channels",
        "registers",
        "shared memory",
        "bytes per access",
        "instructions per element",
    ]
    header += [f"limit on {device.name}" for device in DEVICES]
    rows = [row for row in report["rows"] if row["architecture"] == ARCHITECTURE and row["is_usual"]]
    rows = [row for row in rows if row["instructions_per_element"] is not None]
    scenario, versions = report["scenario"], report["versions"]
    return "\n".join(
        [
            *_lines([header, ["---"] * len(header), *map(_cells, rows)]),
            "",
            f"Compiled for sm_{ARCHITECTURE} with Triton {versions['triton']} and ptxas {versions['ptxas']}; "
            f"{scenario}. Limits are shares of {COPY_SHARE:.0%} of the stated bandwidth "
            f"({', '.join(f'[{device.name}]({device.source})' for device in DEVICES)}).",
        ]
    )


def _cells(row: Row) -> list[str]:
    widths = ", ".join(f"{name} {width}" for name, width in row["access_bytes"].items())
    layout = "innermost" if row["channels_last"] else "planes"
    return [
        row["kernel"].replace("_", " "),
        row["dtype"],
        f"{row['channels']}, {layout}",
        str(row["registers"]),
        str(row["shared_bytes"]),
        widths,
        f"{row['instructions_per_element']:.0f}",
        *(f"{share(device, row):.0%}" for device in DEVICES),
    ]


def _lines(rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in rows]
