"""Update the marked tables of README and docs from the newest results.

    python benchmarks/tables.py

A table lies between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` has the names.
"""

import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accuracy, graphs, host_time
from benchmarks.attention_tables import attention_table
from benchmarks.device_session import STEPS
from benchmarks.records import RESULTS, origin
from benchmarks.reliability import figures
from benchmarks.saving import ROOT, Results, Row
from benchmarks.timing_tables import full_table, headline_table, pipeline_table
from examples.mpii_cooking.evaluation.results import Results as RunResults
from examples.mpii_cooking.evaluation.study_results import StudyResults
from examples.mpii_cooking.formats import markdown_table
from examples.mpii_cooking.report import docs_record, markdown, study_text

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def newest(name: str) -> Results | None:
    """Return the results with this name of the newest version that has them."""
    versions = [path.name for path in RESULTS.iterdir() if (path / f"{name}.json").is_file()]
    version = max(versions, key=lambda version: [int(n) for n in re.findall(r"\d+", version)], default=None)
    return json.loads((RESULTS / version / f"{name}.json").read_text()) if version else None


def static_table(results: Results) -> str:
    """Return the kernels' usual variants on sm_90, as ``static_report.py`` found them."""
    header = ["kernel", "format", "channels", "registers", "shared memory", "bytes per access"]
    rows = [
        [
            row["kernel"].replace("_", " "),
            row["dtype"],
            f"{row['channels']}, {'channels_last' if row['channels_last'] else 'contiguous'}",
            str(row["registers"]),
            str(row["shared_bytes"]),
            ", ".join(f"{name} {width}" for name, width in row["access_bytes"].items()),
            f"{row['instructions_per_element']:.0f}",
        ]
        for row in results["rows"]
        if row["is_usual"] and row["architecture"] == 90 and row["instructions_per_element"] is not None
    ]
    versions = results["versions"]
    made = f"Compiled for sm_90 with Triton {versions['triton']} and ptxas {versions['ptxas']}; {results['scenario']}."
    return f"{markdown_table([*header, 'instructions per element'], rows)}\n\n{made}"


def in_turns_table(table: Callable[[list[Row]], str], results: Results) -> str:
    """Return what ``host_time.py`` or ``graphs.py`` found, and where."""
    how = f"{origin(results)}. Medians of {results['rounds']} rounds. `{results['command']}`"
    return f"{table(results['rows'])}\n\n{how}"


def session_table() -> str:
    """Return the steps of ``device_session.py`` with their budgets."""
    rows = [[step.half, f"`{step.name}`", step.what, str(step.seconds)] for step in STEPS]
    rows += [["", "", "together", str(sum(step.seconds for step in STEPS))]]
    return markdown_table(["half", "step", "what", "seconds at most"], rows)


def reliability_table(part: figures.Part) -> str:
    """Return the figures of one part of ``docs/reliability.md``, from all scripts that have been run."""
    names = sorted({path.stem for path in RESULTS.glob("*/reliability/*.json")})
    found = [results for name in names if (results := newest(f"reliability/{name}")) and results["part"] == part]
    return figures.table(found) if found else "Not measured yet."


def _newest(table: Callable[..., str], *names: str) -> Callable[[], str]:
    def text() -> str:
        found = [newest(name) for name in names]
        return table(*found) if all(found) else "Not measured yet."

    return text


def _of_run(table: Callable[[RunResults], str], name: str) -> Callable[[], str]:
    folder = docs_record.FOLDER / name
    return lambda: table(RunResults.load(folder)) if folder.is_dir() else "Not run yet."


def _of_study(table: Callable[[StudyResults], str], name: str) -> Callable[[], str]:
    path = docs_record.study_record(name)
    return lambda: table(StudyResults.load(path)) if path.is_file() else "Not run yet."


TABLES = {
    "cpu": _newest(full_table, "cpu"),
    "cuda": _newest(full_table, "cuda"),
    "speed": _newest(headline_table, "cpu", "cuda"),
    "attention": _newest(attention_table, "attention-cpu"),
    "accuracy": _newest(accuracy.table, "accuracy-cpu"),
    "pipeline, cpu": _newest(pipeline_table, "pipeline-cpu"),
    "pipeline, cuda": _newest(pipeline_table, "pipeline-cuda"),
    "graphs": _newest(partial(in_turns_table, graphs.table), "graphs"),
    "host": _newest(partial(in_turns_table, host_time.table), "host-cpu"),
    "session": session_table,
    "static": _newest(static_table, "static"),
}
TABLES |= {f"reliability, {part}": partial(reliability_table, part) for part in figures.Part}
RUN_TABLES = {
    "run": markdown.run_table,
    "headline": markdown.headline_text,
    "claims": markdown.claims_table,
    "rivals": markdown.rivals_table,
    "claims by cue": markdown.claims_by_cue_table,
    "claims by distance": markdown.claims_by_distance_table,
    "table 2": markdown.table_2,
    "variants": markdown.variants_table,
    "cues": markdown.cues_table,
    "table 3": markdown.table_3,
    "overlap": markdown.overlap_table,
}
SHOWN = {
    "kitchen": tuple(RUN_TABLES),
    "clips": ("run", "headline", "claims", "table 3", "overlap"),
    "five-interactions": ("run", "headline", "claims", "table 2", "table 3", "overlap"),
    "six-interactions": ("run", "headline", "claims", "table 3"),
}
TABLES |= {f"{run}, {name}": _of_run(RUN_TABLES[name], run) for run, names in SHOWN.items() for name in names}
TABLES |= {
    f"study {study}, {name}": _of_study(it, study)
    for study in ("distance", "clips")
    for name, it in study_text.TABLES.items()
}


def rendered(text: str) -> str:
    """Return a page with all its tables updated."""

    def update(match: re.Match[str]) -> str:
        return "\n".join(filter(None, (match["start"], TABLES[match["name"]](), match["end"])))

    return re.sub(r"(?P<start><!-- table: (?P<name>[^>]+?) -->)\n.*?(?P<end><!-- end -->)", update, text, flags=re.S)


def main() -> None:
    """Rewrite the pages that changed."""
    for page in PAGES:
        before = page.read_text()
        if (after := rendered(before)) != before:
            page.write_text(after)
            print(f"{page.relative_to(ROOT)}: tables updated")


if __name__ == "__main__":
    main()
