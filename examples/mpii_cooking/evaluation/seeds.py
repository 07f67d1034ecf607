"""Several seeds' tables as one: means, intervals, and the paired differences that the paper's claims are about.

Of every number, ``interval`` is the 95 % interval that covers ``interval_clips``, over the choice of test clips, and
``interval_seeds``, over the choice of seeds (None for one seed); ``significance`` says how they are made. All are in
percent. What a single seed found stays in ``seeds``, in the order of the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation import significance
from examples.mpii_cooking.evaluation.significance import Estimate, Floats
from examples.mpii_cooking.evaluation.tables import CELLS, POOLED, Cell, Scores
from examples.mpii_cooking.variants import Modality, Region

Table = Mapping[str, Any]
VARIANT_CLAIMS: dict[str, tuple[str, ...]] = {
    "initialization": ("STN-identity", "STN-level"),
    "rate": ("STN-slow", "STN-fast"),
    "freedom": ("frozen",),
    "learning": ("R_h",),
    "turning off": ("guided",),
}
"""What would have to be true if each part of the SSTN is to have its merit: the variants that it then beats."""

Pair = tuple[tuple[str | None, ...], tuple[str | None, ...]]
"""Names of the cell that is claimed to be better, and of the other."""


def merge_table_2(tables: Sequence[Table]) -> dict[str, Any]:
    """Return one Table 2 of several seeds' on the same clips, as ``tables.table_2`` returns them.

    Returns:
        ``clips``, ``labels`` and ``majority`` as they were; ``cells`` from ``merge_accuracies``; ``comparisons``, a
        list with the one claim ``guidance``, SSTN against STN.

    Raises:
        ValueError: if the tables are not about the same clips.
    """
    first = _same_clips(tables)
    cells = [table["cells"] for table in tables]
    named = {(cell["localizer"], cell["level"]) for cell in cells[0]}
    trained = [network for network in paper.TABLE_2 if network in named]
    return {
        "clips": first["clips"],
        "labels": first["labels"],
        "majority": first["majority"],
        "cells": merge_accuracies(cells),
        "comparisons": [_compare_accuracies("guidance", _guidance(trained), cells, first["labels"])],
    }


def merge_margin(cells: Sequence[Sequence[Table]], labels: Sequence[int]) -> dict[str, Any]:
    """Return the two cells of several seeds' ``tables.margin`` as one, and how they compare.

    Returns:
        ``cells`` from ``merge_accuracies``; ``comparisons``, a list with the one claim ``guidance``.
    """
    network = cells[0][0]["localizer"], cells[0][0]["level"]
    comparison = _compare_accuracies("guidance", _guidance([network]), cells, labels)
    return {"cells": merge_accuracies(cells), "comparisons": [comparison]}


def compare_variants(cells: Sequence[Sequence[Table]], labels: Sequence[int], localizer: str) -> list[dict[str, Any]]:
    """Return the claims ``VARIANT_CLAIMS``, as far as their variants were trained, at every level at which they were.

    Args:
        cells: for each seed, those of ``tables.table_2`` and of ``tables.variants``.
        labels: the true class of each clip.
        localizer: the localization network that the variants have.
    """
    names = [(cell["localizer"], cell["level"], cell["variant"]) for cell in cells[0]]
    ours = {variant for variants in VARIANT_CLAIMS.values() for variant in variants} - {"R_h"}  # which every level has
    trained = {level for _, level, variant in names if variant in ours}
    found = []
    for claim, variants in VARIANT_CLAIMS.items():
        pairs = [
            ((localizer, name[1], "SSTN"), name)
            for name in names
            if name[0] in (localizer, None) and name[1] in trained and name[2] in variants
        ]
        if pairs:
            found.append(_compare_accuracies(claim, pairs, cells, labels))
    return found


def merge_overlaps(cells: Sequence[Sequence[Table]]) -> list[dict[str, Any]]:
    """Return several seeds' ``tables.overlap`` as one: means over those seeds in which something moved.

    Returns:
        Cells with ``modality``, ``level``, ``localizer``, the mean ``mean``, ``above_half`` and ``center``,
        ``interval_seeds`` of the first, and ``seeds``, a list of ``iou``, ``mean``, ``above_half`` and ``center``.
    """
    return [_overlap(same) for same in zip(*cells, strict=True)]


def _overlap(cells: Sequence[Table]) -> dict[str, Any]:
    names, measured = ("modality", "level", "localizer"), ("iou", "mean", "above_half", "center")
    means = _known([cell["mean"] for cell in cells])
    return {
        **{name: cells[0][name] for name in names},
        "mean": _mean(means),
        "above_half": _mean([cell["above_half"] for cell in cells]),
        "center": _mean([cell["center"] for cell in cells]),
        "interval_seeds": significance.seed_interval(means),
        "seeds": [{name: cell[name] for name in measured} for cell in cells],
    }


def merge_accuracies(cells: Sequence[Sequence[Table]]) -> list[dict[str, Any]]:
    """Return one list of top-1 cells (``localizer``, ``level``, ``variant``) of several seeds' lists in the same order.

    Returns:
        Cells with ``total``, the mean ``percent``, its intervals (over clips: Wilson's), and ``seeds``, a list of
        ``correct``, ``percent`` and ``predictions``.
    """
    return [_accuracy(same) for same in zip(*cells, strict=True)]


def merge_table_3(tables: Sequence[Table], scores: Sequence[Scores]) -> dict[str, Any]:
    """Return one Table 3 of several seeds' on the same clips.

    Args:
        tables: as ``tables.table_3`` returns them.
        scores: (cells, clips, classes) for each seed, from which they were made.

    Returns:
        What the tables share; ``cells`` with the mean ``map``, its intervals (over clips: bootstrap), the mean
        ``map_trained``, the mean ``ap`` of each class, and ``seeds``, a list with ``map``, ``map_trained``, ``ap`` and
        the top-1 figures; ``comparisons``, a list of the claims ``region`` (R_d against R_h), ``fusion`` (late fusion
        against the level that is best in this table, which favors that level) and ``streams`` (S+T against each).

    Raises:
        ValueError: if the tables are not about the same clips.
    """
    first = _same_clips(tables)
    maps = np.array([[cell["map"] for cell in table["cells"]] for table in tables])
    resampled = _resampled_maps(scores, first["labels"])
    means = dict(zip(CELLS, maps.mean(0), strict=True))
    claimed = {"region": _regions(), "fusion": _fusions(means), "streams": _streams()}
    return dict(first) | {
        "cells": [
            _precision(same, significance.estimate(maps[:, index], resampled[:, index]))
            for index, same in enumerate(zip(*(table["cells"] for table in tables), strict=True))
        ],
        "comparisons": [_compare_maps(claim, pairs, CELLS, maps, resampled) for claim, pairs in claimed.items()],
    }


def merge_poolings(kinds: Sequence[str], scores: Sequence[Scores], labels: Sequence[int]) -> dict[str, Any]:
    """Return the mean average precision that each kind of pooling leads to, in one cell of Table 3.

    Args:
        kinds: of pooling, the main one first; at least two.
        scores: (kinds, clips, classes) for each seed.
        labels: the true class of each clip.

    Returns:
        ``row``, ``stream`` and ``variant`` of the cell; ``cells`` with ``pooling``, the mean ``map``, its intervals and
        ``seeds``, a list with ``map``; ``comparisons``, a list with the one claim ``pooling``, the main kind against
        the others.
    """
    as_they_are = np.ones((len(labels), 1), np.float32)
    maps = 100 * np.concatenate([significance.bootstrap_maps(seed, np.asarray(labels), as_they_are) for seed in scores])
    resampled = _resampled_maps(scores, labels)
    found = [significance.estimate(*both) for both in zip(maps.T, resampled.T, strict=True)]
    pairs = [((kinds[0],), (kind,)) for kind in kinds[1:]]
    return {
        **dict(zip(("row", "stream", "variant"), POOLED, strict=True)),
        "cells": [
            {"pooling": kind, "map": mean.value, **_intervals(mean), "seeds": [{"map": value} for value in values]}
            for kind, mean, values in zip(kinds, found, maps.T.tolist(), strict=True)
        ],
        "comparisons": [_compare_maps("pooling", pairs, [(kind,) for kind in kinds], maps, resampled)],
    }


def _same_clips(tables: Sequence[Table]) -> Table:
    if any(table["labels"] != tables[0]["labels"] for table in tables):
        raise ValueError("tables of several seeds must be about the same test clips, got different labels")
    return tables[0]


def _guidance(networks: Iterable[tuple[str, str]]) -> list[Pair]:
    return [((*network, "SSTN"), (*network, "STN")) for network in networks]


def _compare_accuracies(
    claim: str, pairs: Sequence[Pair], cells: Sequence[Sequence[Table]], labels: Sequence[int]
) -> dict[str, Any]:
    """Compare cells by pairs of their names, and on average."""
    truth = np.asarray(labels)
    hits = {
        (same[0]["localizer"], same[0]["level"], same[0]["variant"]): _hits(same, truth)
        for same in zip(*cells, strict=True)
    }
    draws = significance.draw(len(truth))
    better, worse = (np.stack([hits[pair[side]] for pair in pairs]) for side in (0, 1))
    mean = significance.paired(better, worse, draws)
    found = [significance.paired(*both, draws) for both in zip(better, worse, strict=True)]
    return _claim(claim, mean, pairs, found)


def _hits(cells: Sequence[Table], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which clips each seed got right, (seeds, clips)."""
    return np.array([cell["predictions"] for cell in cells]) == labels


def _accuracy(cells: Sequence[Table]) -> dict[str, Any]:
    percents = [cell["percent"] for cell in cells]
    correct = float(np.mean([cell["correct"] for cell in cells]))
    clips = significance.wilson(correct, cells[0]["total"])
    mean = Estimate(float(np.mean(percents)), clips, significance.seed_interval(percents))
    names = ("localizer", "level", "variant", "total")
    measured = ("correct", "percent", "predictions")
    return {
        **{name: cells[0][name] for name in names},
        "percent": mean.value,
        **_intervals(mean),
        "seeds": [{name: cell[name] for name in measured} for cell in cells],
    }


def _precision(cells: Sequence[Table], mean: Estimate) -> dict[str, Any]:
    names = ("row", "stream", "variant")
    return {
        **{name: cells[0][name] for name in names},
        "map": mean.value,
        **_intervals(mean),
        "map_trained": _mean([cell["map_trained"] for cell in cells]),
        "ap": [_mean(same) for same in zip(*(cell["ap"] for cell in cells), strict=True)],
        "seeds": [{name: value for name, value in cell.items() if name not in names} for cell in cells],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that there are, or None."""
    known = _known(values)
    return float(np.mean(known)) if known else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _resampled_maps(scores: Sequence[Scores], labels: Sequence[int]) -> Floats:
    """Return each cell's mean average precision over seeds in percent, (resamples, cells), on the same resamples."""
    draws = significance.draw(len(labels))
    return 100 * np.mean([significance.bootstrap_maps(seed, np.asarray(labels), draws) for seed in scores], axis=0)


def _regions() -> list[Pair]:
    return [
        ((row, stream, "R_d"), (row, stream, "R_h"))
        for row in (*paper.LEVELS, paper.FUSION)
        for stream in paper.STREAMS
    ]


def _fusions(means: Mapping[Cell, float]) -> list[Pair]:
    pairs = []
    for stream, region in product(paper.STREAMS, Region):
        best = max(paper.LEVELS, key=lambda level, stream=stream, region=region: means[level, stream, region])
        pairs.append(((paper.FUSION, stream, region), (best, stream, region)))
    return pairs


def _streams() -> list[Pair]:
    return [
        ((row, "S+T", region), (row, alone, region))
        for row in (*paper.LEVELS, paper.FUSION)
        for region in Region
        for alone in Modality
    ]


def _compare_maps(
    claim: str, pairs: Sequence[Pair], cells: Sequence[tuple[str, ...]], maps: Floats, resampled: Floats
) -> dict[str, Any]:
    """Compare columns of ``maps``, (seeds, cells), and of ``resampled``, (resamples, cells)."""
    better, worse = ([cells.index(pair[side]) for pair in pairs] for side in (0, 1))
    by_seed, by_draw = (values[:, better] - values[:, worse] for values in (maps, resampled))
    found = [significance.estimate(*both) for both in zip(by_seed.T, by_draw.T, strict=True)]
    return _claim(claim, significance.estimate(by_seed.mean(1), by_draw.mean(1)), pairs, found)


def _claim(claim: str, mean: Estimate, pairs: Sequence[Pair], found: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "claim": claim,
        "mean": _difference(mean),
        "pairs": [
            {"better": list(better), "worse": list(worse), **_difference(difference)}
            for (better, worse), difference in zip(pairs, found, strict=True)
        ],
    }


def _difference(difference: Estimate) -> dict[str, Any]:
    return {
        "difference": difference.value,
        **_intervals(difference, lowest=-100),
        "p": difference.p,
        "verdict": difference.verdict.value,
    }


def _intervals(estimate: Estimate, lowest: float = 0) -> dict[str, Any]:
    """Name the intervals, and end them where there are no percentages or no differences of percentages."""
    intervals = {"interval": estimate.interval, "interval_clips": estimate.clips, "interval_seeds": estimate.seeds}
    return {name: known and np.clip(known, lowest, 100).tolist() for name, known in intervals.items()}
