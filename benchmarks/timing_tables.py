"""The tables of measured times, as Markdown: of affine_sample and of the pipeline."""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

from benchmarks.cases import Case, headline, plan
from benchmarks.contestants import BASELINES, OURS
from benchmarks.measure import Spread, speedup
from benchmarks.records import origin
from benchmarks.saving import Results, Row
from examples.mpii_cooking.formats import markdown_table

Columns = dict[str, Callable[[Row], str]]  # the cell of a row, by the column's title
PHASES = {
    "forward": "forward",
    "theta": "forward, backward to theta",
    "image": "forward, backward to the image",
    "both": "forward, backward to both",
}
CPU, GPU, HOST = "us", "graph_us", "host_us"  # the kinds of time, as they are called in the results
NAMES = {CPU: "CPU time", GPU: "GPU time", HOST: "host time"}
KINDS = {"cpu": (CPU,), "cuda": (GPU, HOST)}  # by device; the first is that of the work itself
UNMEASURED = "not measured"


def line(row: Row) -> str:
    """Return the result of a case in one line."""
    name = Case(**row["case"]).name
    if row["failed"]:
        return f"{name}: FAILED, {row['failed']}"
    kinds = [kind for kind in NAMES if _has(row, kind)]
    return "; ".join([name, *(f"{NAMES[kind]} {_time(row, kind)} us, ratio {_faster(row, kind)}" for kind in kinds)])


def full_table(results: Results) -> str:
    """Return every row, in the order of the plan, with what it depends on and the reasons for missing times."""
    reasons: dict[str, int] = {}
    columns = _columns(results, reasons)
    header = ["for", "image, output", "transform", "format", "phase", *columns]
    rows, last = [], ""
    for row in results["rows"]:
        use = Case(**row["case"]).use
        rows.append([use if use != last else "", *_what(row), *_numbers(row, columns)])
        last = use
    notes = [f"- {name} did not take part: {reason}" for name, reason in results.get("absent", {}).items()]
    notes += [f"- ({number}) {reason}" for reason, number in reasons.items()]
    parts = (_described(results), _counted(results), markdown_table(header, rows), "\n".join(notes))
    return "\n\n".join(parts).rstrip()


def _columns(results: Results, reasons: dict[str, int]) -> Columns:
    """Return the columns of numbers; the reasons for missing times are numbered in ``reasons``."""
    names = dict.fromkeys(name for row in results["rows"] for name in row["contestants"])
    peers = [name for name in names if name not in (OURS, *BASELINES)]
    work, *others = KINDS[results["device"]]
    columns = _compared(work)
    columns |= {name: partial(_peer, name=name, kind=work, reasons=reasons) for name in peers}
    columns["GB/s (of a copy's)"] = lambda row: _bandwidth(row, work, results["copy_gigabytes_per_second"])
    for kind in others:
        if _ratios(results["rows"], kind):
            columns |= _compared(kind)
    columns["error, baseline's"] = lambda row: ", ".join(f"{_values_error(row, name):.0e}" for name in _both(row))
    if results["device"] == "cuda":
        columns["MB, baseline's"] = lambda row: ", ".join(
            f"{row['contestants'][name]['peak_bytes'] / 1e6:,.1f}" for name in _both(row)
        )
    return columns


def _compared(kind: str) -> Columns:
    """Return the columns of one kind of time."""
    name = NAMES[kind]
    return {
        f"{name}, us": lambda row: _time(row, kind),
        "baseline's" if kind != HOST else "baseline's host time": lambda row: _baseline_time(row, kind),
        f"{name}: times as fast": lambda row: _faster(row, kind),
    }


def _numbers(row: Row, columns: Columns) -> list[str]:
    if row["failed"]:
        return [f"**failed**: {row['failed']}", *[""] * (len(columns) - 1)]
    return [cell(row) for cell in columns.values()]


def _what(row: Row) -> list[str]:
    case = Case(**row["case"])
    theta = f"{case.transforms} of {case.theta}" if case.transforms > 1 else case.theta
    format_ = [case.dtype, case.layout * (case.layout != "contiguous"), "corners" * case.align_corners]
    return [case.shape, theta, ", ".join(filter(None, format_)), PHASES[case.phase]]


def headline_table(cpu: Results, gpu: Results) -> str:
    """Return what was found in one sentence, and a row for each of the most common uses."""
    kinds = {GPU: gpu, HOST: gpu, CPU: cpu}
    found = {kind: _range(results["rows"], kind) for kind, results in kinds.items()}
    kinds = {kind: results for kind, results in kinds.items() if found[kind][0]}
    header = ["for", "images (on a CPU)", "from -> to", "phase"]
    for kind in kinds:
        header += [f"{NAMES[kind]}, us", "times as fast"]
    rows = []
    for on_gpu, on_cpu in zip(headline("cuda"), headline("cpu"), strict=True):
        shape = f"{on_gpu.channels}x{on_gpu.side}x{on_gpu.side} -> {on_gpu.out}x{on_gpu.out}"
        of_each = f", {on_gpu.transforms} of each" if on_gpu.transforms > 1 else ""
        what = [on_gpu.use, f"{on_gpu.images} ({on_cpu.images})", f"{shape}{of_each}", PHASES[on_gpu.phase]]
        for kind, results in kinds.items():
            row = _row_of(on_cpu if kind == CPU else on_gpu, results)
            is_there = row and not row["failed"] and _has(row, kind)
            what += [_time(row, kind), f"{_of_baseline(row, OURS, kind).median:.2f}"] if is_there else [UNMEASURED, ""]
        rows.append(what)
    measured = ", ".join(f"{text} as fast in {NAMES[kind]} {often}" for kind, (text, often) in found.items() if text)
    missing = "".join(f"; {NAMES[kind]} has not been measured" for kind, (text, _) in found.items() if not text)
    origins = "\n".join(f"- {_described(results, '')}" for results in (gpu, cpu))
    sentence = f"Compared with the baseline, `affine_sample` is {measured}{missing}."
    return f"{sentence}\n\n{markdown_table(header, rows)}\n\n{origins}"


def _row_of(case: Case, results: Results) -> Row:
    return next((row for row in results["rows"] if Case(**row["case"]) == case), {})


def _range(rows: Iterable[Row], kind: str) -> tuple[str, str]:
    """Return how many times as fast cases are, and how many are slower; nothing where none has been measured."""
    ratios = _ratios(rows, kind)
    if not ratios:
        return "", ""
    middles, slower = [ratio.median for ratio in ratios], sum(ratio.high < 1 for ratio in ratios)
    return f"{min(middles):.2g} to {max(middles):.2g} times", f"(slower in {slower or 'none'} of {len(ratios)} cases)"


def _ratios(rows: Iterable[Row], kind: str) -> list[Spread]:
    return [_of_baseline(row, OURS, kind) for row in rows if not row["failed"] and _has(row, kind)]


_QUARTILES = ", in brackets the quartiles of the rounds' ratios"


def _described(results: Results, spread: str = _QUARTILES) -> str:
    copy = results["copy_gigabytes_per_second"]
    return f"{_measured(results, spread)}; a plain copy moves {copy:,.1f} GB/s. `{results['command']}`"


def _measured(results: Results, spread: str = _QUARTILES) -> str:
    return f"{origin(results)}. Medians of {results['rounds']} rounds{spread}"


def _counted(results: Results) -> str:
    """Return how often the library is faster and closer to the truth, and what has not been measured."""
    rows = results["rows"]
    sentences = [_counts(rows, kind) for kind in KINDS[results["device"]]]
    failed = sum(bool(row["failed"]) for row in rows)
    right = [row for row in rows if not row["failed"]]
    further = sum(_values_error(row, OURS) > _values_error(row, _baseline(row)) for row in right)
    sentences.append(
        f"It failed in {failed}. Its values are further from float64 than the baseline's in {further} of {len(rows)}."
    )
    missing = set(plan("default", results["device"])) - {Case(**row["case"]) for row in rows}
    if missing:
        uses = ", ".join(f"{use} ({count})" for use, count in sorted(Counter(case.use for case in missing).items()))
        sentences.append(f"Cases of the plan that have not been measured: {len(missing)}. By use: {uses}.")
    return " ".join(sentences)


def _counts(rows: Iterable[Row], kind: str) -> str:
    ratios = _ratios(rows, kind)
    if not ratios:
        return f"{NAMES[kind].capitalize()} has not been measured."
    faster, slower = sum(ratio.low > 1 for ratio in ratios), sum(ratio.high < 1 for ratio in ratios)
    return (
        f"In {NAMES[kind]}, `affine_sample` is faster than the baseline in {faster} of {len(ratios)} cases, slower in "
        f"{slower}, and within the spread in {len(ratios) - faster - slower}."
    )


def _peer(row: Row, name: str, kind: str, reasons: dict[str, int]) -> str:
    entry = row["contestants"].get(name)
    if entry is None:
        return ""
    if kind in entry and _has(row, kind):
        return _short(_of_baseline(row, name, kind).median)
    if entry["status"] == "timed":
        return UNMEASURED
    number = reasons.setdefault(f"{name}: {entry['reason']}", len(reasons) + 1)
    return f"{entry['status']} ({number})"


def _bandwidth(row: Row, kind: str, copy: float) -> str:
    """Return the ideal bytes over the library's time, and its fraction of the speed of a plain copy."""
    if not _has(row, kind):
        return UNMEASURED
    speed = row["ideal_bytes"] / median(row["contestants"][OURS][kind]) / 1e3
    return f"{_short(speed)} ({speed / copy:.0%})"


def _has(row: Row, kind: str) -> bool:
    """Return whether a case has this kind of time, of the library and of the baseline."""
    return all(kind in row["contestants"][name] for name in _both(row))


def _both(row: Row) -> tuple[str, str]:
    return OURS, _baseline(row)


def _baseline(row: Row) -> str:
    """Return the baseline that does the work fastest."""
    entries = row["contestants"]
    kind = GPU if any(GPU in entry for entry in entries.values()) else CPU
    timed = [name for name in BASELINES if kind in entries.get(name, {})]
    return min(timed, key=lambda name: median(entries[name][kind]))


def _of_baseline(row: Row, name: str, kind: str) -> Spread:
    """Return how many times as fast as the baseline a contestant was."""
    return speedup(row["contestants"][_baseline(row)][kind], row["contestants"][name][kind])


def _values_error(row: Row, name: str) -> float:
    return float(row["contestants"][name]["errors"]["values"])


def _time(row: Row, kind: str) -> str:
    return _short(median(row["contestants"][OURS][kind])) if _has(row, kind) else UNMEASURED


def _baseline_time(row: Row, kind: str) -> str:
    if not _has(row, kind):
        return UNMEASURED
    name = _baseline(row)
    return _short(median(row["contestants"][name][kind])) + " (widened)" * (name != "baseline")


def _faster(row: Row, kind: str) -> str:
    return _ratio(_of_baseline(row, OURS, kind)) if _has(row, kind) else ""


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
