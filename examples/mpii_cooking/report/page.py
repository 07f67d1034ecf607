"""One self-contained HTML page, and its figures, from ``results.json``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import jinja2

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.significance import Interval
from examples.mpii_cooking.report import figures, verdicts
from examples.mpii_cooking.report.variants import VARIANTS, Variant, localizers, variant_cells, variant_levels
from examples.mpii_cooking.training.networks import CLASSIFIER_DROPOUT, LOCALIZER_DROPOUT, SMALL_DROPOUT
from examples.mpii_cooking.training.weights import RANDOM

Results = Mapping[str, Any]

TEMPLATE = "page.html.jinja"
VARIANTS_WITHOUT_LOCALIZER = ("R_h", "random crop")
"""The last rows of Table 2."""


@dataclass(frozen=True)
class Score:
    """A top-1 accuracy of this run, with what the paper has in its place.

    Attributes:
        percent: mean over the seeds.
        interval: 95 % interval in percent.
        correct: clips that were right, for each seed.
        total: clips that were tested.
        constant: seeds for which every clip got the same answer.
        best: whether it is the higher one of its STN and SSTN pair.
        paper: the paper's percentage as printed, or None where it has none.
        span: how many columns of Table 2 it fills.
    """

    percent: float
    interval: Interval
    correct: tuple[int, ...]
    total: int
    constant: int = 0
    best: bool = False
    paper: str | None = None
    span: int = 1

    @property
    def by_seed(self) -> tuple[float, ...]:
        """Each seed's accuracy in percent."""
        return tuple(100 * correct / self.total for correct in self.correct)


@dataclass(frozen=True)
class Precision:
    """A mean average precision of this run beside the paper's, in percent.

    Attributes:
        percent: mean over the classes with test clips, and over the seeds.
        interval: 95 % interval in percent.
        by_seed: each seed's mean over those classes.
        paper: the paper's value.
        best: whether it is the higher one of its R_d and R_h pair.
        trained: mean without the classes that had no training clip, or None where that is the same.
    """

    percent: float
    interval: Interval
    by_seed: tuple[float, ...]
    paper: float
    best: bool
    trained: float | None


@dataclass(frozen=True)
class Row:
    """One row of Table 2 or Table 3; ``note`` is its name in plain words where it needs any."""

    name: str
    cells: tuple[Score, ...] | tuple[Precision, ...]
    note: str = ""


@dataclass(frozen=True)
class VariantRow:
    """A variant, and its accuracy at each level at which all variants were trained."""

    variant: Variant
    cells: tuple[Score, ...]


@dataclass(frozen=True)
class Difference:
    """Something that the paper did one way and this run another."""

    what: str
    paper: str
    here: str


def write_report(results: Results, folder: Path) -> Path:
    """Draw the figures and write ``report.html`` into ``folder``.

    Args:
        results: the content of ``results.json``.
        folder: the output folder; every relative path in ``results`` starts here.

    Returns:
        The path of the report, which needs no other file.
    """
    drawings = figures.draw_all(results, folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, format_p=verdicts.format_p, place=place, embed=lambda file: embed(folder / file)
    )
    read = verdicts.read(results)
    intervals = [reading.interval for reading in read] + [results["margin"]["comparisons"][0]["mean"]["interval"]]
    page = environment.get_template(TEMPLATE).render(
        results=results,
        drawings=drawings,
        readings=read,
        reach=max(1, *(abs(end) for interval in intervals for end in interval)),
        seeds=len(results["seeds"]),
        table_2=table_2(results),
        table_3=table_3(results),
        variant_levels=variant_levels(results),
        variants=variant_rows(results) if results["variants"] else (),
        levels=paper.LEVELS,
        streams=paper.STREAMS,
        comparable=is_comparable(results),
        taught=RANDOM not in results["weights"].values(),
        untrained=[results["dataset"]["classes"][label] for label in _untrained(results)],
        differences=differences(results),
        errata=paper.ERRATA,
        paper_clips=paper.TEST_CLIPS,
    )
    path, aside = folder / "report.html", folder / "report.html.part"
    aside.write_text(page, encoding="utf-8")
    aside.replace(path)
    return path


def embed(file: Path) -> str:
    """Return a PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def duration(seconds: float) -> str:
    """Write seconds the way a person says them: 8.1 s, 5 min 12 s, 3 h 20 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def place(value: float, low: float, high: float) -> str:
    """Return where ``value`` lies on a strip from ``low`` to ``high``, as CSS has it; outside values at its ends."""
    return f"{100 * min(max((value - low) / (high - low), 0), 1):.1f}%"


def is_comparable(results: Results) -> bool:
    """Whether this run tested the paper's clips at the paper's sizes, whatever its networks started from."""
    dataset = results["dataset"]
    same_clips = dataset["has_paper_protocol"] and not dataset["synthetic"]
    return same_clips and dataset["test_clips"] == paper.TEST_CLIPS and results["settings"]["scale"] == 1


def table_2(results: Results) -> tuple[Row, ...]:
    """Arrange Table 2: levels across, STN beside SSTN, the variants without a localization network below."""
    cells = {(cell["localizer"], cell["level"], cell["variant"]): cell for cell in results["table2"]["cells"]}
    rows = []
    for localizer in localizers(results):
        scores: list[Score] = []
        for level in paper.LEVELS:
            stn, sstn = cells[localizer, level, "STN"], cells[localizer, level, "SSTN"]
            theirs = paper.TABLE_2[localizer, level]
            scores += [
                _score(stn, paper=theirs.stn.printed, best=stn["percent"] > sstn["percent"]),
                _score(sstn, paper=theirs.sstn.printed, best=sstn["percent"] > stn["percent"]),
            ]
        rows.append(Row(localizer.upper(), tuple(scores)))
    names = {variant.key: variant.name for variant in VARIANTS}
    for key in VARIANTS_WITHOUT_LOCALIZER:
        scores = [_score(cells[None, level, key], span=2) for level in paper.LEVELS]
        rows.append(Row(key, tuple(scores), names[key]))
    return tuple(rows)


def variant_rows(results: Results) -> tuple[VariantRow, ...]:
    """Arrange the variants that were trained, from the least attention to the most."""
    return tuple(VariantRow(variant, tuple(map(_score, cells))) for variant, cells in variant_cells(results).items())


def _score(cell: Results, *, paper: str | None = None, best: bool = False, span: int = 1) -> Score:
    seeds = cell["seeds"]
    correct = tuple(seed["correct"] for seed in seeds)
    constant = sum(len(set(seed["predictions"])) == 1 for seed in seeds)
    return Score(cell["percent"], tuple(cell["interval"]), correct, cell["total"], constant, best, paper, span)


def table_3(results: Results) -> tuple[Row, ...]:
    """Arrange Table 3: streams across, R_d beside R_h, late fusion last."""
    table = {(cell["row"], cell["stream"], cell["variant"]): cell for cell in results["table3"]["cells"]}
    some_untrained = bool(_untrained(results))
    rows = []
    for name in (*paper.LEVELS, paper.FUSION):
        cells: list[Precision] = []
        for stream in paper.STREAMS:
            r_d, r_h, theirs = table[name, stream, "R_d"], table[name, stream, "R_h"], paper.TABLE_3[name, stream]
            for cell, other, printed in ((r_d, r_h, theirs.r_d), (r_h, r_d, theirs.r_h)):
                trained = cell["map_trained"] if some_untrained else None
                best = cell["map"] > other["map"]
                by_seed = tuple(seed["map"] for seed in cell["seeds"])
                cells.append(Precision(cell["map"], tuple(cell["interval"]), by_seed, printed, best, trained))
        rows.append(Row(name, tuple(cells)))
    return tuple(rows)


def _untrained(results: Results) -> list[int]:
    """Return the classes that were tested without having been trained."""
    table = results["table3"]
    return sorted(set(table["classes_present"]) & set(table["classes_without_training"]))


def differences(results: Results) -> tuple[Difference, ...]:
    """List where this run departs from what the paper states."""
    dataset, settings = results["dataset"], results["settings"]
    rows = []
    if dataset["synthetic"] or not dataset["has_paper_protocol"]:
        here = f"{dataset['name']}: {len(dataset['classes'])} classes, {dataset['train_clips']} training and "
        here += f"{dataset['test_clips']} test clips"
        rows.append(Difference("Data", "MPII Cooking: 64 classes, 1715 training and 2033 test clips", here))
    untaught = [network for network, origin in results["weights"].items() if origin == RANDOM]
    if untaught:
        here = f"random weights: {', '.join(untaught)}"
        rows.append(Difference("Start of the networks", "trained on ImageNet", here))
    here = localizers(results)
    if here != paper.LOCALIZERS:
        rows.append(Difference("Localization networks", *(", ".join(names) for names in (paper.LOCALIZERS, here))))
    for key, (what, theirs) in paper.SETTINGS.items():
        here = reduce(getitem, (int(name) if name.isdigit() else name for name in key.split(".")), settings)
        if here != theirs:
            rows.append(Difference(what, _plain(theirs), _plain(here)))
    if settings["scale"] != 1:
        dropout = ", ".join(f"{rate:g} {modality}" for modality, rate in CLASSIFIER_DROPOUT.items())
        rows.append(Difference("Dropout of the classifiers", dropout, _plain(SMALL_DROPOUT)))
        rows.append(
            Difference("Dropout of the localization networks", _plain(LOCALIZER_DROPOUT), _plain(SMALL_DROPOUT))
        )
    if settings["optimizer"] != "sgd":
        rows.append(Difference("Optimizer", "stochastic gradient descent", settings["optimizer"].capitalize()))
    rows.append(
        Difference("First stage of R_h", "on windows of most motion", "on random crops, shared by all variants")
    )
    rows.append(Difference("Rows of Table 2", "STN and SSTN", "also R_h, the center window, and constant answers"))
    return tuple(rows)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
