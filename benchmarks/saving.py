"""How results are written. Only the standard library is needed, so a program can start before the package is there."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

Results = dict[str, Any]
Row = dict[str, Any]


def save(path: Path, results: Results) -> Results:
    """Write results, one row a line, with date and command; the file is complete at any moment."""
    results = results | {"date": datetime.now(UTC).date().isoformat(), "command": _command(sys.argv)}
    text = json.dumps({name: value for name, value in results.items() if name != "rows"}, indent=1)
    if "rows" in results:
        rows = ",\n".join(map(json.dumps, results["rows"]))
        text = f'{text[:-2]},\n "rows": [\n{rows}\n]}}'
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(f"{text}\n")
    aside.replace(path)
    return results


def _command(words: list[str]) -> str:
    """Return the command that was run, without the option that says where its results go."""
    kept = [word for word in words if not word.startswith("--json=")]
    if "--json" in kept:
        place = kept.index("--json")
        del kept[place : place + 2]
    return shlex.join(["python", *kept])
