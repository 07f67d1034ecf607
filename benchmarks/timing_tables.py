"""The tables of measured times, as Markdown: of affine_sample and of the pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

from benchmarks import markdown
from benchmarks.cases import Case, plan, shapes
from benchmarks.contestants import BASELINES, OURS
from benchmarks.markdown import ratio, short
from benchmarks.measure import Spread, speedup
from benchmarks.records import Results, Row
from examples.mpii_cooking.markdown_table import markdown_table

PHASES = {
    "forward": "forward",
    "theta": "forward, backward to theta",
    "image": "forward, backward to the image",
    "both": "forward, backward to both",
}


def of_baseline(row: Row, name: str, kind: str = "us") -> Spread:
    """Return how many times as fast as the baseline a contestant was."""
    return speedup(row["contestants"][row["baseline"]][kind], row["contestants"][name][kind])


def line(row: Row) -> str:
    """Return the result of a case in one line."""
    name = Case(**row["case"]).name
    if row["failed"]:
        return f"{name}: FAILED, {row['failed']}"
    return f"{name}: {_time(row, OURS)} us, {ratio(of_baseline(row, OURS))} times as fast as the {row['baseline']}"


def full_table(results: Results) -> str:
    """Return every row, in the order of the plan, with what it depends on and the reasons for missing times."""
    reasons: list[str] = []
    columns = _columns(results, reasons)
    rows = []
    for row in results["rows"]:
        cells = _what(row)
        if row["failed"]:
            cells += [f"**failed**: {row['failed']}", *[""] * (len(columns) - len(cells) - 1)]
        else:
            cells += [cell(row) for cell in list(columns.values())[len(cells) :]]
        rows.append(cells)
    table = markdown_table(list(columns), rows)
    notes = [f"- {name} did not take part: {reason}" for name, reason in results["absent"].items()]
    notes += [f"- ({number}) {reason}" for number, reason in enumerate(reasons, 1)]
    parts = [_described(results), _counted(results["rows"], results["device"]), table, "\n".join(notes)]
    return "\n\n".join(parts).rstrip()


def _columns(results: Results, reasons: list[str]) -> dict[str, Callable[[Row], str]]:
    """Return each column's title with its cell of a row; reasons for missing times are added to ``reasons``."""
    names = dict.fromkeys(name for row in results["rows"] for name in row["contestants"])
    peers = [name for name in names if name not in (OURS, *BASELINES)]
    columns: dict[str, Callable[[Row], str]] = {
        "image, output": lambda row: _what(row)[0],
        "transform": lambda row: _what(row)[1],
        "format": lambda row: _what(row)[2],
        "phase": lambda row: _what(row)[3],
        "ours, us": lambda row: _time(row, OURS),
        "baseline, us": lambda row: (
            _time(row, row["baseline"]) + (" (widened)" if row["baseline"] != "baseline" else "")
        ),
        "ours is times as fast": lambda row: ratio(of_baseline(row, OURS)),
    }
    columns |= {name: lambda row, name=name: _peer(row, name, reasons) for name in peers}
    columns["GB/s (of a copy's)"] = lambda row: _bandwidth(row, results["copy_gigabytes_per_second"])
    columns["error, baseline's"] = lambda row: ", ".join(f"{_values_error(row, name):.0e}" for name in _both(row))
    if results["device"] == "cuda":
        columns["in a graph"] = _graph
        columns["MB, baseline's"] = lambda row: ", ".join(
            f"{row['contestants'][name]['peak_bytes'] / 1e6:,.1f}" for name in _both(row)
        )
    return columns


def _what(row: Row) -> list[str]:
    case = Case(**row["case"])
    several = f"{case.transforms} of " if case.transforms > 1 else ""
    format_ = [case.dtype, case.layout if case.layout != "contiguous" else "", "corners" if case.align_corners else ""]
    return [f"{case.group} {case.shape}", several + case.theta, ", ".join(filter(None, format_)), PHASES[case.phase]]


def short_table(results: Results) -> str:
    """Return a few rows of the most common uses."""
    shape = shapes(results["device"])
    frames, features, small, call = shape["stream"][1], shape["features"][1], shape["small"][0], shape["overhead"][0]
    chosen = {
        "frames": [frames, replace(frames, phase="theta"), replace(frames, phase="both")],
        "frames, bfloat16": [replace(frames, dtype="bfloat16")],
        "feature maps": [features, replace(features, phase="both")],
        "small images": [small, replace(small, phase="both")],
        "one image of four pixels": [call, replace(call, phase="theta")],
    }
    measured = {Case(**row["case"]): row for row in results["rows"]}
    columns: dict[str, Callable[[Row], str]] = {
        "`affine_sample`, us": lambda row: _time(row, OURS),
        "baseline, us": lambda row: _time(row, row["baseline"]),
        "times as fast": lambda row: ratio(of_baseline(row, OURS)),
    }
    if results["device"] == "cuda":
        columns["in a graph"] = _graph
    rows = []
    for use, cases in chosen.items():
        for case in cases:
            if case not in measured:
                raise ValueError(f"the results lack {case.name}: measure the whole default plan")
            row = measured[case]
            failed = [f"**failed**: {row['failed']}", *[""] * (len(columns) - 1)]
            cells = failed if row["failed"] else [cell(row) for cell in columns.values()]
            rows.append([use, case.shape, PHASES[case.phase], *cells])
    return f"{markdown_table(['', 'image -> output', '', *columns], rows)}\n\n{_described(results)}"


def _described(results: Results) -> str:
    return (
        f"{_measured(results)}; a plain copy moves {results['copy_gigabytes_per_second']:,.1f} GB/s. "
        f"`{results['command']}`"
    )


def _measured(results: Results) -> str:
    return (
        f"{markdown.origin(results)}. Medians of {results['rounds']} rounds, in brackets the quartiles of the rounds' "
        "ratios"
    )


def _counted(rows: Sequence[Row], device: str) -> str:
    right = [row for row in rows if not row["failed"]]
    ratios = [of_baseline(row, OURS) for row in right]
    faster, slower = sum(ratio.low > 1 for ratio in ratios), sum(ratio.high < 1 for ratio in ratios)
    further = sum(_values_error(row, OURS) > _values_error(row, row["baseline"]) for row in right)
    measured = {Case(**row["case"]) for row in rows}
    unmeasured = sum(case not in measured for case in plan("default", device))
    missing = f" {unmeasured} more cases of the plan have not been measured." if unmeasured else ""
    return (
        f"Of {len(rows)} cases `affine_sample` is faster than the baseline in {faster}, slower in {slower}, and within "
        f"the spread in {len(right) - faster - slower}; it failed in {len(rows) - len(right)}. Its values are further "
        f"from float64 than the baseline's in {further}.{missing}"
    )


def _peer(row: Row, name: str, reasons: list[str]) -> str:
    entry = row["contestants"].get(name)
    if entry is None:
        return ""
    if entry["status"] == "timed":
        return short(of_baseline(row, name).median)
    reason = f"{name}: {entry['reason']}"
    if reason not in reasons:
        reasons.append(reason)
    return f"{entry['status']} ({reasons.index(reason) + 1})"


def _bandwidth(row: Row, copy: float) -> str:
    """Return the ideal bytes over the library's time, and its fraction of the speed of a plain copy."""
    speed = row["ideal_bytes"] / median(row["contestants"][OURS]["us"]) / 1e3
    return f"{short(speed)} ({speed / copy:.0%})"


def _graph(row: Row) -> str:
    has = all("graph_us" in row["contestants"][name] for name in _both(row))
    return ratio(of_baseline(row, OURS, "graph_us")) if has else ""


def _both(row: Row) -> tuple[str, str]:
    return OURS, row["baseline"]


def _values_error(row: Row, name: str) -> float:
    return float(row["contestants"][name]["errors"]["values"])


def _time(row: Row, name: str) -> str:
    return short(median(row["contestants"][name]["us"]))


def pipeline_table(results: Results) -> str:
    """Return all contestants of every stage; ours comes first in each."""
    versions = results["versions"]
    others = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "av", "opencv-contrib-python-headless"))
    header = ["stage", "by", "a second", "ours is times as fast", "of our time", "lost to all else", "error"]
    rows = [
        ["" if place else row["stage"], name, *_pipeline_numbers(row, entry), f"{entry['error']:.0e}"]
        for row in results["rows"]
        for place, (name, entry) in enumerate(row["contestants"].items())
    ]
    return f"{_measured(results)}; {others}. `{results['command']}`\n\n{markdown_table(header, rows)}"


def _pipeline_numbers(row: Row, entry: Row) -> list[str]:
    if row["failed"] or entry["status"] == "wrong":
        return [f"**{entry['status']}**: {entry.get('reason', 'not timed, since ours is wrong')}", "", "", ""]
    own, seconds = next(iter(row["contestants"].values()))["seconds"], entry["seconds"]
    per_second = f"{short(row['count'] / median(seconds))} {row['unit']}"
    if seconds is own:
        return [per_second, "", "", ""]
    found = speedup(seconds, own if len(seconds) == len(own) else [median(own)])
    if entry["role"] == "peer":
        return [per_second, ratio(found) if len(seconds) > 1 else f"{short(found.median)} (one turn)", "", ""]
    fraction = f"{found.median:.0%} ({found.low:.0%} to {found.high:.0%})"
    return [per_second, "", fraction, f"{1 - found.median:.0%}" if entry["role"] == "floor" else ""]
