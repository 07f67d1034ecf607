"""What became of the windows in ``attention.py``, as Markdown."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from benchmarks.records import origin
from benchmarks.saving import Results, Row
from examples.mpii_cooking.evaluation.significance import seed_interval
from examples.mpii_cooking.formats import markdown_table

Rows = Sequence[Row]


def attention_table(results: Results) -> str:
    """Return what was run, then accuracies by task, then windows by optimizer and parameterization."""
    steps, rows = results["steps"], results["rows"]
    seeds = len({row["case"]["seed"] for row in rows})
    runs = f"{len(rows):,} runs, {len(rows) // seeds:,} settings with {seeds} seed{'s' * (seeds > 1)}"
    described = (
        f"{origin(results)}. {runs}: {steps['guided']} guided steps, then {steps['free']} free ones, of "
        f"{steps['batch']} scenes. `{results['command']}`"
    )
    return f"{described}\n\n{_accuracies(rows)}\n\n{_windows(rows)}"


def _accuracies(rows: Rows) -> str:
    """Return the accuracy of every way, by task and optimizer, over what else has them all."""
    compared = [row for row in rows if "oracle" in row["found"]]
    ways = ("frozen", "free", "hand-tuned", "free at full rate", "oracle")
    table = []
    for name, of in _grouped(compared, "task", "optimizer"):
        gain, low, high = _gain(of, "free", "frozen")
        numbers = [f"{_mean(of, way, 'accuracy'):.1f}" for way in ways]
        lost = [f"{_mean(of, way, 'is_lost'):.0%}" for way in ("free", "free at full rate")]
        table.append([*name, *numbers, f"{gain:+.1f} ({low:+.1f} to {high:+.1f})", *lost])
    header = ["task", "optimizer", *ways, "free against frozen", "lost", "lost at full rate"]
    return markdown_table(header, table)


def _windows(rows: Rows) -> str:
    """Return overlap, shape and lost windows of the default, by parameterization and network, over everything else."""
    table = []
    for name, of in _grouped(rows, "parameterization", "network"):
        gain, low, high = _gain(of, "free", "frozen")
        table.append([
            *name,
            f"{_mean(of, 'guided', 'iou'):.2f}, {_mean(of, 'free', 'iou'):.2f}",
            f"{_mean(of, 'guided', 'anisotropy'):.2f}, {_mean(of, 'free', 'anisotropy'):.2f}",
            f"{_mean(of, 'guided', 'outside'):.1%}, {_mean(of, 'free', 'outside'):.1%}",
            f"{sum(row['found']['free']['is_lost'] for row in of)} of {len(of)}",
            f"{gain:+.1f} ({low:+.1f} to {high:+.1f})",
        ])  # fmt: skip
    header = [
        *("parameterization", "network", "IoU: guided, free", "anisotropy", "out of bounds"),
        *("runs that lost their windows", "free against frozen, points"),
    ]
    return markdown_table(header, table)


def _grouped(rows: Rows, *keys: str) -> list[tuple[tuple[str, ...], list[Row]]]:
    """Return the rows by some parts of their setting, in the order in which these come first."""
    found: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row["case"][key] for key in keys)].append(row)
    return [*found.items()]


def _mean(rows: Rows, way: str, measure: str) -> float:
    return fmean(row["found"][way][measure] for row in rows)


def _gain(rows: Rows, way: str, other: str) -> tuple[float, float, float]:
    """Return the mean difference in accuracy with its 95 % interval over seeds."""
    by_seed = [_mean(of, way, "accuracy") - _mean(of, other, "accuracy") for _, of in _grouped(rows, "seed")]
    low, high = seed_interval(by_seed) or (float("nan"), float("nan"))
    return fmean(by_seed), low, high
