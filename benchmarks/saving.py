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
    results = results | {"date": datetime.now(UTC).date().isoformat(), "command": shlex.join(["python", *sys.argv])}
    text = json.dumps({name: value for name, value in results.items() if name != "rows"}, indent=1)
    if "rows" in results:
        rows = ",\n".join(map(json.dumps, results["rows"]))
        text = f'{text[:-2]},\n "rows": [\n{rows}\n]}}'
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    aside.write_text(f"{text}\n")
    aside.replace(path)
    return results
