"""How numbers and their origin are written in Markdown."""

from typing import Any

from benchmarks.measure import Spread


def short(value: float) -> str:
    """Return three digits, or all digits before the decimal point."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def ratio(of: Spread) -> str:
    """Return a median with its quartiles in brackets."""
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


def origin(results: dict[str, Any]) -> str:
    """Return where and when results were measured."""
    versions = results["versions"]
    threads = f", {results['threads']} thread{'s' * (results['threads'] > 1)}" if results["device"] == "cpu" else ""
    commit = results["commit"][:10] + results["commit"][40:]
    return (
        f"{results['machine']}{threads}; torch {versions['torch']}; supervised-st {versions['supervised-st']}, commit "
        f"{commit}, {results['date']}"
    )
