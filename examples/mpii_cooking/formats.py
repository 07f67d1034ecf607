"""How durations, counts, Markdown tables and messages are written, in the example and in the benchmarks."""

import logging
import sys
from collections.abc import Iterable, Sequence


def duration(seconds: float) -> str:
    """Return 8.1 s, 5 min 12 s, 3 h 20 min or 4.2 days."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{seconds / 86400:.1f} days"


def counted(number: int, noun: str) -> str:
    """Return "1 clip" or "2 clips"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are Markdown already."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def show_messages() -> None:
    """Let this process write warnings to standard error, in place of a progress bar that stands there."""
    line = "\r\x1b[K" if sys.stderr.isatty() else ""  # its start, and nothing on it: the bar comes back below
    logging.basicConfig(format=f"{line}%(message)s", level=logging.WARNING)
