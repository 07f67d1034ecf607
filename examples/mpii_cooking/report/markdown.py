"""Keep a run's results for the documentation, and show them there as Markdown.

    python examples/mpii_cooking/record.py RESULTS NAME

writes what the documentation shows of RESULTS, a run's ``results.json``, to ``results/NAME.json`` beside this file.
Where data and outputs lay, curves and thetas stay behind.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from examples.mpii_cooking import paper
from examples.mpii_cooking.report import verdicts
from examples.mpii_cooking.report.page import duration
from examples.mpii_cooking.report.variants import VARIANTS, localizers, variant_cells, variant_levels
from examples.mpii_cooking.workspace import written_aside

FOLDER = Path(__file__).parents[1] / "results"
LEFT_OUT = ("curves", "looks", "files")
SCRIPT = "examples/mpii_cooking/run_all.py"
PATHS = ("--data", "--weights", "--raft-weights")
"""Its options that take a path to something it reads."""

Results = Mapping[str, Any]


def record(results: Results) -> dict[str, Any]:
    """Return the part of ``results.json`` that is worth keeping, without the paths of the machine it is from."""
    kept = {name: value for name, value in results.items() if name not in LEFT_OUT}
    kept["dataset"] = {name: value for name, value in results["dataset"].items() if name != "folder"}
    kept["command"] = _elsewhere(results["command"])
    weights = results["settings"]["raft_weights"]
    kept["settings"] = {**results["settings"], "raft_weights": weights and Path(weights).name}
    return kept


def recorded(name: str) -> dict[str, Any] | None:
    """Return what is kept under a name, or None where there is nothing."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def run_table(results: Results) -> str:
    """Say what was run: data, seeds, the share of the largest training class, time, machine."""
    dataset, environment, seeds = results["dataset"], results["environment"], results["seeds"]
    clips = (
        f"{dataset['train_clips']} training and {dataset['test_clips']} test clips in {len(dataset['classes'])} classes"
    )
    hours = f"{duration(results['timings_total'])} on {environment['cores']} cores"
    machine = f"{environment['cpu']}, {environment['device']}, torch {environment['torch']}"
    commit = environment["commit"]
    commit = f"commit {commit[:10]}{commit[40:]}" if commit else "outside of a checkout"
    data = "a synthetic kitchen" if dataset["synthetic"] else dataset["name"]
    majority = 100 * results["table2"]["majority"]["correct"] / results["table2"]["clips"]
    return (
        f"`{results['command']}`, {len(seeds)} seed{'s' * (len(seeds) > 1)}; {data}, {clips}; always answering the "
        f"largest one of training is right in {majority:.1f} %. {hours} ({machine}), {commit}, "
        f"{environment['date'][:10]}."
    )


def claims_table(results: Results) -> str:
    """Return every claim with its mean difference, its interval and the verdict."""
    rows = [
        (reading.claim, f"{reading.mean:+.1f}", _span(reading.interval, "+.1f"), reading.verdict.value)
        for reading in verdicts.read(results)
    ]
    if results["margin_seeds"]:
        found = results["margin"]["comparisons"][0]["mean"]
        count = len(results["seeds"]) + len(results["margin_seeds"])
        claim = f"SSTN beats STN at detail level with {results['settings']['main_localizer'].upper()}, {count} seeds"
        rows.append((claim, f"{found['difference']:+.1f}", _span(found["interval"], "+.1f"), found["verdict"]))
    return _markdown(("claim", "mean difference, points", "95 % interval", "verdict"), rows)


def table_2(results: Results) -> str:
    """Return Table 2: mean top-1 accuracy in percent with its interval."""
    cells = {(cell["localizer"], cell["level"], cell["variant"]): cell for cell in results["table2"]["cells"]}
    header = ["", *(f"{level}, {variant}" for level in paper.LEVELS for variant in ("STN", "SSTN"))]
    rows = [
        [
            name.upper(),
            *(_accuracy(cells[name, level, variant]) for level in paper.LEVELS for variant in ("STN", "SSTN")),
        ]
        for name in localizers(results)
    ]
    for variant in ("R_h", "random crop"):
        rows.append(
            [variant, *(part for level in paper.LEVELS for part in (_accuracy(cells[None, level, variant]), ""))]
        )
    return _markdown(header, rows)


def variants_table(results: Results) -> str:
    """Return every variant's accuracy at the levels at which all of them were trained."""
    rows = [(variant.key, variant.name, *map(_accuracy, cells)) for variant, cells in variant_cells(results).items()]
    return _markdown(("variant", "what it is", *variant_levels(results)), rows)


def table_3(results: Results) -> str:
    """Return Table 3: mean average precision in percent with its interval."""
    cells = {(cell["row"], cell["stream"], cell["variant"]): cell for cell in results["table3"]["cells"]}
    columns = [(stream, variant) for stream in paper.STREAMS for variant in ("R_d", "R_h")]
    rows = [
        [row, *(f"{cells[row, *column]['map']:.1f} ({_span(cells[row, *column]['interval'])})" for column in columns)]
        for row in (*paper.LEVELS, paper.FUSION)
    ]
    return _markdown(["", *(f"{stream}, {variant}" for stream, variant in columns)], rows)


def overlap_table(results: Results) -> str:
    """Return how far guided windows overlap those of most motion, on average over test frames and seeds."""
    cells = {(cell["modality"], cell["level"]): cell for cell in results["overlap"]}
    modalities = list(dict.fromkeys(modality for modality, _ in cells))
    rows = [[modality, *(_overlap(cells[modality, level]) for level in paper.LEVELS)] for modality in modalities]
    rows.append(["the center window", *(_decimals(cells["spatial", level]["center"]) for level in paper.LEVELS)])
    return _markdown(["mean IoU (each seed's)", *paper.LEVELS], rows)


def cues_table(results: Results) -> str:
    """Return how often variants of the main localization network tell the kitchen's thing and place, each by itself."""
    classes = [name.split(" ", 2)[1:] for name in results["dataset"]["classes"]]  # after the movement
    labels = results["table2"]["labels"]
    cells = {
        (cell["variant"], cell["level"]): _cues(cell, classes, labels)
        for cell in (*results["table2"]["cells"], *results["variants"])
        if cell["localizer"] in (None, results["settings"]["main_localizer"])
    }
    rows = [
        [variant.key, *(cells.get((variant.key, level), "") for level in paper.LEVELS)]
        for variant in VARIANTS
        if variant in variant_cells(results)
    ]
    return _markdown(["thing, place: % right", *paper.LEVELS], rows)


def _cues(cell: Results, classes: Sequence[Sequence[str]], labels: Sequence[int]) -> str:
    pairs = [
        (classes[answer], classes[label])
        for seed in cell["seeds"]
        for answer, label in zip(seed["predictions"], labels, strict=True)
    ]
    return ", ".join(f"{100 * sum(a[cue] == b[cue] for a, b in pairs) / len(pairs):.0f}" for cue in (0, 1))


def _overlap(cell: Results) -> str:
    by_seed = ", ".join(_decimals(seed["mean"]) for seed in cell["seeds"])
    return f"{_decimals(cell['mean'])} ({by_seed})"


def _decimals(iou: float | None) -> str:
    return "nothing moved" if iou is None else f"{iou:.2f}"


def _accuracy(cell: Results) -> str:
    return f"{cell['percent']:.1f} ({_span(cell['interval'])})"


def _span(interval: Sequence[float], form: str = ".0f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _elsewhere(command: str) -> str:
    """Return a command without its output folder, and with its script and its input folders as if they were at hand."""
    python, _, *words = shlex.split(command)
    options = iter(part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word]))
    kept = [python, SCRIPT]
    for word in options:
        option = word.replace("_", "-") if word.startswith("--") else word  # both are understood
        if option in PATHS:
            kept += [option, Path(next(options)).resolve().name]
        elif option == "--output":
            next(options)
        else:
            kept.append(option)
    return shlex.join(kept)


def main(results: Path, name: str) -> None:
    """Keep a run's results for the documentation.

    Args:
        results: the run's results.json.
        name: what it is called from now on.
    """
    kept = record(json.loads(results.read_text(encoding="utf-8")))
    with written_aside(FOLDER / f"{name}.json") as aside:
        aside.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.PositionalRequiredArgs,))
