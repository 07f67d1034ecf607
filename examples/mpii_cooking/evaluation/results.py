"""A run's results: what each seed found, kept as it is, and what follows from it.

Only the rows of ``schema`` and the decision values are stored. Means, intervals and comparisons are derived when they
are asked for. Every question names cells, and is answered from the seeds that have all of them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking import paper
from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.evaluation import schema, significance, svm
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, ClipCell, FrameCell
from examples.mpii_cooking.evaluation.estimates import (
    Accuracy,
    Comparison,
    Difference,
    MeanOverlap,
    Precision,
    known,
    mean_of_known,
)
from examples.mpii_cooking.evaluation.schema import ClipOutcome, Kept, PooledCell
from examples.mpii_cooking.evaluation.significance import Estimate, Floats, Interval, Labels
from examples.mpii_cooking.typed_json import MisfitError, decode, encode, laid_out
from examples.mpii_cooking.variants import Modality, Region, Variant, Window
from examples.mpii_cooking.workspace import written_aside

SCHEMA = 3
"""Raised when the files change."""
FILE, SCORES_FILE = "results.json", "scores.npz"
Scores = NDArray[np.float32]
PAPER_VARIANTS = (Variant.RANDOM_CROP, Variant.HARD_CODED, Variant.STN, Variant.SSTN)
"""The variants that every run tests at every level: the paper's, and what its classifiers start from."""

FramePair = tuple[FrameCell, FrameCell]
ClipPair = tuple[PooledCell, PooledCell]
Pairs = Sequence[FramePair | ClipPair]
Terms = Sequence[tuple[PooledCell, PooledCell | None]]
Key = TypeVar("Key")


class ResultsError(ValueError):
    """Files with results cannot be used; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Results:
    """What a run found.

    Attributes:
        settings: of the run.
        command: that started it.
        weights: network -> what it starts from.
        dataset: its data.
        environment: its machine.
        labels: true class of each test clip.
        frame_answers: rows behind Table 2 and the comparison of variants.
        overlaps: one row for each seed and stream.
        curves: one row for each training run.
        probe_frames: one row for each level; none in a record for the documentation.
        window_paths: one row for each transformer that was followed; none in a record.
        timings: its stages.
        files: what else the run has written -> where, from its folder.
        kept: what a record has in place of ``scores``.
        scores: (seed, cell) -> decision values ``(clips, classes)``, behind Table 3.
    """

    settings: Preset
    command: str
    weights: Mapping[str, str]
    dataset: schema.DatasetFacts
    environment: schema.Environment
    labels: Labels
    frame_answers: tuple[schema.FrameAnswers, ...]
    overlaps: tuple[schema.Overlap, ...]
    curves: tuple[schema.Curve, ...] = ()
    probe_frames: tuple[schema.ProbeFrames, ...] = ()
    window_paths: tuple[schema.WindowPath, ...] = ()
    timings: tuple[schema.StageTime, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    kept: Kept | None = None
    scores: Mapping[tuple[int, PooledCell], Scores] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read what ``save`` has written to ``folder``.

        Raises:
            ResultsError: if a file is missing, is of another version or does not fit the schema.
        """
        path = folder / FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ResultsError(f"{path} is missing: a run writes it at its end") from None
        version = content.pop("schema", None)
        if version != SCHEMA:
            raise ResultsError(
                f"{path} has schema {version}, expected {SCHEMA}: another version of the example has written it; "
                "give the run's command again, finished work is reused"
            )
        try:
            stored: Results = decode(cls, content, FILE)
        except MisfitError as misfit:
            raise ResultsError(f"{path} does not fit the schema: {misfit}") from misfit
        results = stored if stored.kept else replace(stored, scores=_load_scores(folder / SCORES_FILE))
        results._check(folder)
        return results

    def save(self, folder: Path) -> None:
        """Write ``results.json`` and, unless it is a record, ``scores.npz`` to ``folder``."""
        if not self.kept:
            with written_aside(folder / SCORES_FILE) as aside:
                np.savez(aside, allow_pickle=False, **{_score_name(*key): self.scores[key] for key in self.scores})
        content = {"schema": SCHEMA, **encode(replace(self, scores={}))}
        del content["scores"]
        with written_aside(folder / FILE) as aside:
            aside.write_text(laid_out(content) + "\n", encoding="utf-8")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have all of Table 3."""
        return self._seeds_with(self._outcome_keys, [self.pooled(cell) for cell in CLIP_CELLS])

    @property
    def levels(self) -> tuple[Level, ...]:
        """The zoom levels, from the widest view to the closest."""
        return self.settings.data.levels

    def level(self, name: str) -> Level:
        """Return a zoom level."""
        return next(level for level in self.levels if level.name == name)

    @property
    def localizers(self) -> tuple[str, ...]:
        """The localization networks that were trained for Table 2, in its order."""
        return tuple(name for name in paper.LOCALIZERS if self.has([self.cell(Variant.STN, paper.LEVELS[-1], name)]))

    @property
    def variant_levels(self) -> tuple[str, ...]:
        """The levels at which variants that the paper does not have were trained, from wide to close."""
        tested = {cell.level for cell in self._frame_answers if cell.variant not in PAPER_VARIANTS}
        return tuple(level for level in paper.LEVELS if level in tested)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants that were trained, in the order of ``Variant``."""
        tested = {cell.variant for cell in self._frame_answers}
        return tuple(variant for variant in Variant if variant in tested)

    @property
    def tested(self) -> tuple[int, ...]:
        """The classes that have test clips."""
        return tuple(np.unique(self.labels).tolist())

    @property
    def untrained(self) -> tuple[int, ...]:
        """The classes that have test clips and no training clip."""
        return tuple(label for label in self.tested if not self.dataset.train_clips[label])

    @property
    def majority(self) -> int:
        """The largest training class."""
        return int(np.argmax(self.dataset.train_clips))

    @property
    def majority_accuracy(self) -> float:
        """Top-1 accuracy, in percent, of always answering the largest training class."""
        return 100 * int((self.labels == self.majority).sum()) / len(self.labels)

    @property
    def seconds(self) -> float:
        """What all stages took."""
        return sum(row.seconds for row in self.timings)

    def cell(self, variant: Variant, level: str, localizer: str | None = None) -> FrameCell:
        """Return the cell of a variant at a level; transformers have the main localization network by default."""
        if variant.traits.window is not Window.TRANSFORMER:
            return FrameCell(variant, level, None)
        return FrameCell(variant, level, localizer or self.settings.scope.main_localizer)

    def pooled(self, cell: ClipCell, pooling: str | None = None) -> PooledCell:
        """Return a cell of Table 3 under a kind of pooling, the main one by default."""
        return PooledCell(pooling or self.settings.evaluation.poolings[0], cell)

    def has(self, cells: Iterable[FrameCell]) -> bool:
        """Whether some seed has answers for all of the cells."""
        return bool(self._seeds_with(self._frame_answers, [*cells]))

    def accuracies(self, cells: Sequence[FrameCell]) -> dict[FrameCell, Accuracy]:
        """Return the top-1 accuracies of cells, on one frame of each test clip."""
        seeds = self._known_seeds(self._frame_answers, cells)
        return {cell: self._accuracy(np.stack([self._frame_answers[cell][seed] for seed in seeds])) for cell in cells}

    def precisions(self, cells: Sequence[PooledCell]) -> dict[PooledCell, Precision]:
        """Return the mean average precisions of cells, on all frames of each test clip."""
        seeds = self._known_seeds(self._outcome_keys, cells)
        return {cell: self._precision(cell, seeds) for cell in cells}

    def compare(self, pairs: Pairs) -> Comparison:
        """Compare the first cell of each pair with the second: frames by top-1 accuracy, clips by average precision."""
        if all(isinstance(cell, FrameCell) for pair in pairs for cell in pair):
            return self._compare_accuracies(cast("Sequence[FramePair]", pairs))
        return self._compare_precisions(cast("Sequence[ClipPair]", pairs))

    def overlap(self, modality: Modality, level: str) -> MeanOverlap:
        """Return the mean overlap of one stream, over the seeds that have all streams."""
        found: dict[tuple[Modality, str], dict[int, schema.Overlap]] = {}
        for row in self.overlaps:
            found.setdefault((row.modality, row.level), {})[row.seed] = row
        rows = [found[modality, level][seed] for seed in self._known_seeds(found, [*found])]
        guided = [tuple(known(row.guided)) for row in rows]
        by_seed = [mean_of_known(ious) for ious in guided]
        return MeanOverlap(
            mean=mean_of_known(by_seed),
            center=mean_of_known([row.center for row in rows]),
            above_half=mean_of_known([float(np.mean(np.array(ious) > 0.5)) if ious else None for ious in guided]),
            interval=significance.seed_interval(known(by_seed)),
            by_seed=tuple(by_seed),
            guided=tuple(guided),
            moved=len(guided[0]),
            total=len(rows[0].guided),
        )

    def _check(self, folder: Path) -> None:
        """Raise ``ResultsError`` if rows are about another number of clips or classes than there are."""
        clips, classes = len(self.labels), len(self.dataset.classes)
        answers = {f"answers of seed {row.seed}, {row.cell}": row.answers for row in self.frame_answers}
        answers |= {f"answers of seed {row.seed}, {row.pooled}": row.answers for row in self._outcomes.values()}
        for name, values in {"labels": self.labels, **answers}.items():
            if values.shape != (clips,) or not np.isin(values, range(classes)).all():
                raise ResultsError(f"{folder / FILE}: {name} must be {clips} classes below {classes}")
        for key, scores in self.scores.items():
            if scores.shape != (clips, classes):
                name = _score_name(*key)
                raise ResultsError(
                    f"{folder / SCORES_FILE}: {name} must have shape {(clips, classes)}, got {scores.shape}"
                )

    @cached_property
    def _frame_answers(self) -> dict[FrameCell, dict[int, Labels]]:
        found: dict[FrameCell, dict[int, Labels]] = {}
        for row in self.frame_answers:
            found.setdefault(row.cell, {})[row.seed] = row.answers
        return found

    @cached_property
    def _outcomes(self) -> dict[tuple[int, PooledCell], ClipOutcome]:
        """What is known already: what a record kept, and what has been asked for."""
        return {(row.seed, row.pooled): row for row in self.kept.outcomes} if self.kept else {}

    @cached_property
    def _outcome_keys(self) -> dict[PooledCell, set[int]]:
        keys: dict[PooledCell, set[int]] = {}
        for seed, pooled in self._outcomes if self.kept else self.scores:
            keys.setdefault(pooled, set()).add(seed)
        return keys

    @cached_property
    def _kept_intervals(self) -> dict[tuple[tuple[PooledCell, PooledCell | None], ...], Interval]:
        return {row.terms: row.interval for row in self.kept.intervals} if self.kept else {}

    @cached_property
    def _resampled_maps(self) -> dict[tuple[PooledCell, tuple[int, ...]], Floats]:
        return {}

    def _seeds_with(self, found: Mapping[Key, Collection[int]], cells: Sequence[Key]) -> tuple[int, ...]:
        return tuple(sorted(set.intersection(*(set(found.get(cell, ())) for cell in cells))))

    def _known_seeds(self, found: Mapping[Key, Collection[int]], cells: Sequence[Key]) -> tuple[int, ...]:
        seeds = self._seeds_with(found, cells)
        if not seeds:
            raise KeyError(f"no seed has results for all of {', '.join(map(str, cells))}")
        return seeds

    def _accuracy(self, answers: Labels) -> Accuracy:
        total = len(self.labels)
        correct = tuple((answers == self.labels).sum(1).tolist())
        percents = _percents(answers == self.labels)
        clips = significance.wilson(float(np.mean(correct)), total)
        mean = Estimate(float(np.mean(percents)), clips, significance.seed_interval(percents)).within(0)
        return Accuracy(mean, correct, answers)

    def _compare_accuracies(self, pairs: Sequence[FramePair]) -> Comparison:
        seeds = self._known_seeds(self._frame_answers, [cell for pair in pairs for cell in pair])
        better, worse = (
            np.array([[self._frame_answers[pair[side]][seed] == self.labels for seed in seeds] for pair in pairs])
            for side in (0, 1)
        )
        draws = significance.draw(len(self.labels))
        differences = [
            Difference(_percents(one), _percents(other), significance.paired(one, other, draws))
            for one, other in zip(better, worse, strict=True)
        ]
        return Comparison(seeds, significance.paired(better, worse, draws), tuple(differences))

    def _compare_precisions(self, pairs: Sequence[ClipPair]) -> Comparison:
        seeds = self._known_seeds(self._outcome_keys, [cell for pair in pairs for cell in pair])
        better, worse = (
            np.array([[self._map(seed, pair[side]) for pair in pairs] for seed in seeds]) for side in (0, 1)
        )
        by_seed = better - worse  # (seeds, pairs)
        differences = [
            Difference(tuple(better[:, i]), tuple(worse[:, i]), self._estimate(by_seed[:, i], [pair], seeds))
            for i, pair in enumerate(pairs)
        ]
        return Comparison(seeds, self._estimate(by_seed.mean(1), pairs, seeds), tuple(differences))

    def outcome(self, seed: int, pooled: PooledCell) -> ClipOutcome:
        """Return what one seed's linear classifiers make of the test clips."""
        if (seed, pooled) not in self._outcomes:
            scores = self.scores[seed, pooled]
            precisions = svm.average_precisions(scores, self.labels)
            self._outcomes[seed, pooled] = ClipOutcome(seed, pooled, scores.argmax(1), tuple(precisions))
        return self._outcomes[seed, pooled]

    def _map(self, seed: int, pooled: PooledCell) -> float:
        return 100 * svm.mean_average_precision(self.outcome(seed, pooled).precisions)

    def _precision(self, pooled: PooledCell, seeds: Sequence[int]) -> Precision:
        found = [self.outcome(seed, pooled) for seed in seeds]
        by_seed = [self._map(seed, pooled) for seed in seeds]
        trained = [label for label in self.tested if label not in self.untrained]
        trained_maps = [
            100 * svm.mean_average_precision([row.precisions[k] for k in trained]) for row in found if trained
        ]
        percents = [[None if each is None else 100 * each for each in row.precisions] for row in found]
        return Precision(
            mean=self._estimate(by_seed, [(pooled, None)], seeds, lowest=0),
            by_seed=tuple(by_seed),
            per_class=tuple(mean_of_known(same) for same in zip(*percents, strict=True)),
            trained=mean_of_known(trained_maps),
            answers=np.stack([row.answers for row in found]),
        )

    def _estimate(
        self,
        by_seed: Sequence[float] | Floats,
        terms: Terms,
        seeds: Sequence[int],
        *,
        lowest: float = -100,
    ) -> Estimate:
        """Return the mean over seeds of a mean over terms; a record knows its interval over clips."""
        value = float(np.mean(by_seed))
        clips = self._kept_intervals.get(tuple(terms)) or self._bootstrap_interval(value, terms, seeds)
        return Estimate(value, clips, significance.seed_interval(by_seed)).within(lowest)

    def _bootstrap_interval(self, value: float, terms: Terms, seeds: Sequence[int]) -> Interval:
        if self.kept:
            raise KeyError(f"the record has no interval of {terms}: record the run again")
        resampled = [
            self._resampled(one, seeds) - (0 if other is None else self._resampled(other, seeds))
            for one, other in terms
        ]
        return significance.bootstrap_interval(value, np.mean(resampled, axis=0))

    def _resampled(self, pooled: PooledCell, seeds: Sequence[int]) -> Floats:
        """Return a cell's mean average precision over seeds in each resample of the test clips, (resamples,)."""
        key = pooled, tuple(seeds)
        if key not in self._resampled_maps:
            draws = significance.draw(len(self.labels))
            maps = [significance.bootstrap_map(self.scores[seed, pooled], self.labels, draws) for seed in seeds]
            self._resampled_maps[key] = 100 * np.mean(maps, axis=0)
        return self._resampled_maps[key]


def _score_name(seed: int, pooled: PooledCell) -> str:
    cell = pooled.cell
    return "/".join((str(seed), pooled.pooling, cell.row, cell.stream, cell.region))


def _load_scores(path: Path) -> dict[tuple[int, PooledCell], Scores]:
    try:
        with np.load(path) as arrays:
            found = {tuple(name.split("/")): arrays[name] for name in arrays}
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing: it belongs to the {FILE} of the same folder") from None
    return {
        (int(seed), PooledCell(pooling, ClipCell(row, stream, Region(region)))): values
        for (seed, pooling, row, stream, region), values in found.items()
    }


def _percents(hits: NDArray[np.bool_]) -> tuple[float, ...]:
    """Return each seed's accuracy of hits, (seeds, clips)."""
    return tuple(100 * int(correct) / hits.shape[1] for correct in hits.sum(1))
