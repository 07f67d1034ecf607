"""The tables of measured times, as Markdown: of affine_sample and of the pipeline."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

from benchmarks.cases import Case, plan, shapes
from benchmarks.contestants import BASELINES, OURS
from benchmarks.measure import Spread, speedup
from benchmarks.records import Results, Row, origin
from examples.mpii_cooking.formats import markdown_table

Columns = dict[str, Callable[[Row], str]]  # the cell of a row, by the column's title
PHASES = {
    "forward": "forward",
    "theta": "forward, backward to theta",
    "image": "forward, backward to the image",
    "both": "forward, backward to both",
}


def line(row: Row) -> str:
    """Return the result of a case in one line."""
    name = Case(**row["case"]).name
    if row["failed"]:
        return f"{name}: FAILED, {row['failed']}"
    return f"{name}: {_time(row, OURS)} us, {_ratio(_of_baseline(row, OURS))} times as fast as the {row['baseline']}"


def full_table(results: Results) -> str:
    """Return every row, in the order of the plan, with what it depends on and the reasons for missing times."""
    reasons: dict[str, int] = {}
    columns = _columns(results, reasons)
    header = ["image, output", "transform", "format", "phase", *columns]
    rows = [[*_what(row), *_numbers(row, columns)] for row in results["rows"]]
    notes = [f"- {name} did not take part: {reason}" for name, reason in results.get("absent", {}).items()]
    notes += [f"- ({number}) {reason}" for reason, number in reasons.items()]
    parts = (_described(results), _counted(results), markdown_table(header, rows), "\n".join(notes))
    return "\n\n".join(parts).rstrip()


def _columns(results: Results, reasons: dict[str, int]) -> Columns:
    """Return the columns of numbers; the reasons for missing times are numbered in ``reasons``."""
    names = dict.fromkeys(name for row in results["rows"] for name in row["contestants"])
    peers = [name for name in names if name not in (OURS, *BASELINES)]
    columns: Columns = {
        "ours, us": lambda row: _time(row, OURS),
        "baseline, us": lambda row: _time(row, row["baseline"]) + " (widened)" * (row["baseline"] != "baseline"),
        "ours is times as fast": lambda row: _ratio(_of_baseline(row, OURS)),
    }
    columns |= {name: partial(_peer, name=name, reasons=reasons) for name in peers}
    columns["GB/s (of a copy's)"] = lambda row: _bandwidth(row, results["copy_gigabytes_per_second"])
    columns["error, baseline's"] = lambda row: ", ".join(f"{_values_error(row, name):.0e}" for name in _both(row))
    if results["device"] == "cuda":
        columns["in a graph"] = _graph
        columns["MB, baseline's"] = lambda row: ", ".join(
            f"{row['contestants'][name]['peak_bytes'] / 1e6:,.1f}" for name in _both(row)
        )
    return columns


def _numbers(row: Row, columns: Columns) -> list[str]:
    if row["failed"]:
        return [f"**failed**: {row['failed']}", *[""] * (len(columns) - 1)]
    return [cell(row) for cell in columns.values()]


def _what(row: Row) -> list[str]:
    case = Case(**row["case"])
    theta = f"{case.transforms} of {case.theta}" if case.transforms > 1 else case.theta
    format_ = [case.dtype, case.layout * (case.layout != "contiguous"), "corners" * case.align_corners]
    return [f"{case.group} {case.shape}", theta, ", ".join(filter(None, format_)), PHASES[case.phase]]


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
    columns: Columns = {
        "`affine_sample`, us": lambda row: _time(row, OURS),
        "baseline, us": lambda row: _time(row, row["baseline"]),
        "times as fast": lambda row: _ratio(_of_baseline(row, OURS)),
    }
    if results["device"] == "cuda":
        columns["in a graph"] = _graph
    rows = []
    for use, cases in chosen.items():
        for case in cases:
            if case not in measured:
                raise ValueError(f"the results lack {case.name}: measure the whole default plan")
            rows.append([use, case.shape, PHASES[case.phase], *_numbers(measured[case], columns)])
    return f"{markdown_table(['', 'image -> output', '', *columns], rows)}\n\n{_described(results)}"


def _described(results: Results) -> str:
    copy = results["copy_gigabytes_per_second"]
    return f"{_measured(results)}; a plain copy moves {copy:,.1f} GB/s. `{results['command']}`"


def _measured(results: Results) -> str:
    rounds = results["rounds"]
    return f"{origin(results)}. Medians of {rounds} rounds, in brackets the quartiles of the rounds' ratios"


def _counted(results: Results) -> str:
    rows = results["rows"]
    right = [row for row in rows if not row["failed"]]
    ratios = [_of_baseline(row, OURS) for row in right]
    faster, slower = sum(ratio.low > 1 for ratio in ratios), sum(ratio.high < 1 for ratio in ratios)
    further = sum(_values_error(row, OURS) > _values_error(row, row["baseline"]) for row in right)
    unmeasured = len(set(plan("default", results["device"])) - {Case(**row["case"]) for row in rows})
    missing = f" {unmeasured} more cases of the plan have not been measured." if unmeasured else ""
    return (
        f"Of {len(rows)} cases `affine_sample` is faster than the baseline in {faster}, slower in {slower}, and within "
        f"the spread in {len(right) - faster - slower}; it failed in {len(rows) - len(right)}. Its values are further "
        f"from float64 than the baseline's in {further}.{missing}"
    )


def _peer(row: Row, name: str, reasons: dict[str, int]) -> str:
    entry = row["contestants"].get(name)
    if entry is None:
        return ""
    if entry["status"] == "timed":
        return _short(_of_baseline(row, name).median)
    number = reasons.setdefault(f"{name}: {entry['reason']}", len(reasons) + 1)
    return f"{entry['status']} ({number})"


def _bandwidth(row: Row, copy: float) -> str:
    """Return the ideal bytes over the library's time, and its fraction of the speed of a plain copy."""
    speed = row["ideal_bytes"] / median(row["contestants"][OURS]["us"]) / 1e3
    return f"{_short(speed)} ({speed / copy:.0%})"


def _graph(row: Row) -> str:
    has = all("graph_us" in row["contestants"][name] for name in _both(row))
    return _ratio(_of_baseline(row, OURS, "graph_us")) if has else ""


def _both(row: Row) -> tuple[str, str]:
    return OURS, row["baseline"]


def _of_baseline(row: Row, name: str, kind: str = "us") -> Spread:
    """Return how many times as fast as the baseline a contestant was."""
    return speedup(row["contestants"][row["baseline"]][kind], row["contestants"][name][kind])


def _values_error(row: Row, name: str) -> float:
    return float(row["contestants"][name]["errors"]["values"])


def _time(row: Row, name: str) -> str:
    return _short(median(row["contestants"][name]["us"]))


def _short(value: float) -> str:
    """Return three digits, or all digits before the decimal point."""
    return f"{value:,.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _ratio(of: Spread) -> str:
    return f"{of.median:.2f} ({of.low:.2f} to {of.high:.2f})"


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
    per_second = f"{_short(row['count'] / median(seconds))} {row['unit']}"
    if seconds is own:
        return [per_second, "", "", ""]
    found = speedup(seconds, own if len(seconds) == len(own) else [median(own)])
    if entry["role"] == "peer":
        return [per_second, _ratio(found) if len(seconds) > 1 else f"{_short(found.median)} (one turn)", "", ""]
    fraction = f"{found.median:.0%} ({found.low:.0%} to {found.high:.0%})"
    return [per_second, "", fraction, f"{1 - found.median:.0%}" if entry["role"] == "floor" else ""]
