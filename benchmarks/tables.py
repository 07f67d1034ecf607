"""Bring the marked tables of README and docs up to date with the newest results.

    python benchmarks/tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; `TABLES` says which names there are.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import accuracy, roofline
from benchmarks.cases import Case, plan, shapes
from benchmarks.contestants import OURS, PAIRS
from benchmarks.measure import Spread, speedup
from examples.mpii_cooking.report import markdown

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
RESULTS = ROOT / "benchmarks" / "results"
PHASES = {
    "forward": "forward",
    "theta": "forward, backward to theta",
    "image": "forward, backward to the image",
    "both": "forward, backward to both",
}

Results = dict[str, Any]
Row = dict[str, Any]


def newest(device: str) -> Results | None:
    """Return the results of the newest version that has any for this device."""
    paths = sorted(
        RESULTS.glob(f"*/{device}.json"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.parts[-2])]
    )
    return json.loads(paths[-1].read_text()) if paths else None


def of_pair(row: Row, name: str, kind: str = "us") -> Spread:
    """Return how many times as fast as the pair somebody was."""
    return speedup(row["contestants"][row["baseline"]][kind], row["contestants"][name][kind])


def gigabytes_per_second(row: Row) -> float:
    """Return the ideal bytes over the library's time."""
    return row["ideal_bytes"] / median(row["contestants"][OURS]["us"]) / 1e3


def line(row: Row) -> str:
    """Say in one line how a case went."""
    name = Case(**row["case"]).name
    if row["failed"]:
        return f"{name}: FAILED, {row['failed']}"
    return f"{name}: {_time(row, OURS)} us, {_spread(of_pair(row, OURS))} times as fast as the {row['baseline']}"


def full_table(results: Results) -> str:
    """Return every row, in the order of the plan, with what it depends on and what could not be timed."""
    rows = results["rows"]
    reasons: list[str] = []
    columns = _columns(results, reasons)
    lines = [
        _described(results),
        "",
        _counted(rows, results["device"]),
        "",
        _cells(list(columns)),
        _cells(["---"] * len(columns)),
    ]
    for row in rows:
        cells = _what(row)
        if row["failed"]:
            cells += [f"**failed**: {row['failed']}", *[""] * (len(columns) - len(cells) - 1)]
        else:
            cells += [cell(row) for cell in list(columns.values())[len(cells) :]]
        lines.append(_cells(cells))
    notes = [f"- {name} did not take part: {reason}" for name, reason in results["absent"].items()]
    notes += [f"- ({number}) {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, "", *notes]).rstrip()


def _columns(results: Results, reasons: list[str]) -> dict[str, Callable[[Row], str]]:
    """Return each column's title with what it shows of a row; why somebody has no number goes to ``reasons``."""
    entries = [entry for row in results["rows"] for entry in row["contestants"].items()]
    peers = [name for name in dict.fromkeys(name for name, _ in entries) if name not in (OURS, *PAIRS)]
    copy = results["copy_gigabytes_per_second"]
    columns = {
        "image, output": lambda row: _what(row)[0],
        "maps": lambda row: _what(row)[1],
        "format": lambda row: _what(row)[2],
        "phase": lambda row: _what(row)[3],
        "ours, us": lambda row: _time(row, OURS),
        "pair, us": lambda row: _time(row, row["baseline"]) + (" (widened)" if row["baseline"] != "pair" else ""),
        "ours is times as fast": lambda row: _spread(of_pair(row, OURS)),
    }
    columns |= {name: lambda row, name=name: _peer(row, name, reasons) for name in peers}
    columns["GB/s (of a copy's)"] = lambda row: (
        f"{_short(gigabytes_per_second(row))} ({gigabytes_per_second(row) / copy:.0%})"
    )
    columns["error, pair's"] = lambda row: ", ".join(f"{_values_error(row, name):.0e}" for name in _both(row))
    if results["device"] == "cuda":
        columns["in a graph"] = _graph
        columns["MB, pair's"] = lambda row: ", ".join(
            f"{row['contestants'][name]['peak_bytes'] / 1e6:,.1f}" for name in _both(row)
        )
    return columns


def _what(row: Row) -> list[str]:
    case = Case(**row["case"])
    several = f"{case.maps} of " if case.maps > 1 else ""
    format_ = [case.dtype, case.layout if case.layout != "contiguous" else "", "corners" if case.align_corners else ""]
    return [f"{case.group} {case.shape}", several + case.theta, ", ".join(filter(None, format_)), PHASES[case.phase]]


def short_table(results: Results) -> str:
    """Return the rows that somebody chooses by."""
    shape = shapes(results["device"])
    frames, features, small, call = shape["stream"][1], shape["features"][1], shape["small"][0], shape["overhead"][0]
    chosen = {
        "frames": [frames, replace(frames, phase="theta"), replace(frames, phase="both")],
        "frames, bfloat16": [replace(frames, dtype="bfloat16")],
        "feature maps": [features, replace(features, phase="both")],
        "small images": [small, replace(small, phase="both")],
        "one image of four pixels": [call, replace(call, phase="theta")],
    }
    rows = {Case(**row["case"]): row for row in results["rows"]}
    header = ["", "image -> output", "", "`affine_sample`, us", "pair, us", "times as fast"]
    header += ["in a graph"] * (results["device"] == "cuda")
    lines = [_cells(header), _cells(["---"] * len(header))]
    for use, cases in chosen.items():
        for case in cases:
            if case not in rows:
                raise ValueError(f"the results lack {case.name}: measure the default plan to its end")
            row = rows[case]
            timed = [_time(row, OURS), _time(row, row["baseline"]), _spread(of_pair(row, OURS))]
            timed += [_graph(row)] * (results["device"] == "cuda")
            failed = [f"**failed**: {row['failed']}", *[""] * (len(timed) - 1)]
            lines.append(_cells([use, case.shape, PHASES[case.phase], *(failed if row["failed"] else timed)]))
    return "\n".join([*lines, "", _described(results)])


def _described(results: Results) -> str:
    return (
        f"{_measured(results)}; a plain copy moves {results['copy_gigabytes_per_second']:,.1f} GB/s. "
        f"`{results['command']}`"
    )


def _measured(results: Results) -> str:
    versions = results["versions"]
    threads = f", {results['threads']} thread{'s' * (results['threads'] > 1)}" if results["device"] == "cpu" else ""
    commit = results["commit"][:10] + results["commit"][40:]
    return (
        f"{results['machine']}{threads}; torch {versions['torch']}; supervised-st {versions['supervised-st']}, commit "
        f"{commit}, {results['date']}. Medians of {results['rounds']} rounds, in brackets the quartiles of the rounds' "
        "ratios"
    )


def _counted(rows: list[Row], device: str) -> str:
    right = [row for row in rows if not row["failed"]]
    ratios = [of_pair(row, OURS) for row in right]
    faster, slower = sum(ratio.low > 1 for ratio in ratios), sum(ratio.high < 1 for ratio in ratios)
    further = sum(_values_error(row, OURS) > _values_error(row, row["baseline"]) for row in right)
    measured = {Case(**row["case"]) for row in rows}
    unmeasured = sum(case not in measured for case in plan("default", device))
    missing = f" {unmeasured} more cases of the plan have not been measured." if unmeasured else ""
    return (
        f"Of {len(rows)} cases `affine_sample` is faster than the pair in {faster}, slower in {slower}, and within the "
        f"spread in {len(right) - faster - slower}; it failed in {len(rows) - len(right)}. Its values are further from "
        f"float64 than the pair's in {further}.{missing}"
    )


def _peer(row: Row, name: str, reasons: list[str]) -> str:
    entry = row["contestants"].get(name)
    if entry is None:
        return ""
    if entry["status"] == "timed":
        return _short(of_pair(row, name).median)
    reason = f"{name}: {entry['reason']}"
    if reason not in reasons:
        reasons.append(reason)
    return f"{entry['status']} ({reasons.index(reason) + 1})"


def _graph(row: Row) -> str:
    has = all("graph_us" in row["contestants"][name] for name in _both(row))
    return _spread(of_pair(row, OURS, "graph_us")) if has else ""


def _both(row: Row) -> tuple[str, str]:
    return OURS, row["baseline"]


def _values_error(row: Row, name: str) -> float:
    return row["contestants"][name]["errors"]["values"]


def _time(row: Row, name: str) -> str:
    return _short(median(row["contestants"][name]["us"]))


def _spread(of: Spread) -> str:
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


def _short(value: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _cells(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def pipeline_table(results: Results) -> str:
    """Return every stage with everybody who was at work in it; ours is in the first row of each."""
    versions = results["versions"]
    others = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "av", "opencv-contrib-python-headless"))
    header = ["stage", "by", "a second", "ours is times as fast", "of our time", "lost to all else", "error"]
    lines = [
        f"{_measured(results)}; {others}. `{results['command']}`",
        "",
        _cells(header),
        _cells(["---"] * len(header)),
    ]
    for row in results["rows"]:
        first = row["stage"]
        for name, entry in row["contestants"].items():
            lines.append(_cells([first, name, *_pipeline_numbers(row, entry), f"{entry['error']:.0e}"]))
            first = ""
    return "\n".join(lines)


def _pipeline_numbers(row: Row, entry: Row) -> list[str]:
    if row["failed"] or entry["status"] == "wrong":
        return [f"**{entry['status']}**: {entry.get('reason', 'not timed, for ours is wrong')}", "", "", ""]
    own, seconds = next(iter(row["contestants"].values()))["seconds"], entry["seconds"]
    per_second = f"{_short(row['count'] / median(seconds))} {row['unit']}"
    if seconds is own:
        return [per_second, "", "", ""]
    ratio = speedup(seconds, own if len(seconds) == len(own) else [median(own)])
    if entry["role"] == "peer":
        return [per_second, _spread(ratio) if len(seconds) > 1 else f"{_short(ratio.median)} (one turn)", "", ""]
    share = f"{ratio.median:.0%} ({ratio.low:.0%} to {ratio.high:.0%})"
    return [per_second, "", share, f"{1 - ratio.median:.0%}" if entry["role"] == "floor" else ""]


def _absent_or(table: Callable[[Results], str], device: str, otherwise: str) -> Callable[[], str]:
    def text() -> str:
        results = newest(device)
        return table(results) if results else otherwise

    return text


def _of_run(table: Callable[[Results], str], name: str) -> Callable[[], str]:
    def text() -> str:
        results = markdown.recorded(name)
        return table(results) if results else "Not run yet."

    return text


TABLES = {
    "cpu": _absent_or(full_table, "cpu", "Not measured yet."),
    "cuda": _absent_or(full_table, "cuda", "Not measured yet."),
    "cpu, short": _absent_or(short_table, "cpu", ""),
    "cuda, short": _absent_or(short_table, "cuda", ""),
    "accuracy": _absent_or(accuracy.table, "accuracy-cpu", "Not measured yet."),
    "pipeline, cpu": _absent_or(pipeline_table, "pipeline-cpu", "Not measured yet."),
    "pipeline, cuda": _absent_or(pipeline_table, "pipeline-cuda", "Not measured yet."),
    "static": _absent_or(roofline.table, "static", "Not compiled yet."),
    "kitchen, run": _of_run(markdown.run_table, "kitchen"),
    "kitchen, claims": _of_run(markdown.claims_table, "kitchen"),
    "kitchen, table 2": _of_run(markdown.table_2, "kitchen"),
    "kitchen, variants": _of_run(markdown.variants_table, "kitchen"),
    "kitchen, cues": _of_run(markdown.cues_table, "kitchen"),
    "kitchen, table 3": _of_run(markdown.table_3, "kitchen"),
    "kitchen, overlap": _of_run(markdown.overlap_table, "kitchen"),
    "clips, run": _of_run(markdown.run_table, "clips"),
    "clips, claims": _of_run(markdown.claims_table, "clips"),
    "clips, table 3": _of_run(markdown.table_3, "clips"),
    "clips, overlap": _of_run(markdown.overlap_table, "clips"),
}


def rendered(text: str) -> str:
    """Return a page with all of its tables made anew."""

    def made(match: re.Match[str]) -> str:
        table = TABLES[match["name"]]()
        return f"{match['start']}\n{table}\n{match['end']}" if table else f"{match['start']}\n{match['end']}"

    return re.sub(r"(?P<start><!-- table: (?P<name>[^>]+?) -->)\n.*?(?P<end><!-- end -->)", made, text, flags=re.S)


def main() -> None:
    """Rewrite the pages that change."""
    for page in PAGES:
        before = page.read_text()
        after = rendered(before)
        if after != before:
            page.write_text(after)
            print(f"{page.relative_to(ROOT)}: tables made anew")


if __name__ == "__main__":
    main()
