"""A run's results: what each seed found, and what is derived from it.

Only the rows of ``schema`` and the decision values are stored; means, intervals and comparisons are derived. Every
method takes cells, and uses the seeds that have all of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import cast
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from examples.mpii_cooking import paper
from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.evaluation import schema, significance, stored, svm
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, Cell, ClipCell, FrameCell, Pair, PooledCell
from examples.mpii_cooking.evaluation.estimates import (
    Accuracy,
    Comparison,
    Difference,
    MeanOverlap,
    Precision,
    known,
    mean_of_known,
)
from examples.mpii_cooking.evaluation.measures import PAPER, Measure
from examples.mpii_cooking.evaluation.significance import Estimate, Floats, Labels
from examples.mpii_cooking.evaluation.stored import CURE, ResultsError
from examples.mpii_cooking.storage import sha256, write_json, written_aside
from examples.mpii_cooking.typed_json import STRICT, encode
from examples.mpii_cooking.variants import PAPER_VARIANTS, Modality, Region, Variant, Window

SCHEMA = 4  # raised when the files change
FILE, SCORES_FILE = "results.json", "scores.npz"
Scores = NDArray[np.float32]

Terms = Sequence[tuple[PooledCell, PooledCell | None]]


@dataclass(frozen=True, eq=False)
class Results:
    """What a run found. A record for the documentation has ``kept`` in place of curves, frames, windows and scores."""

    __pydantic_config__ = STRICT

    settings: Preset
    command: str
    weights: Mapping[str, str]  # network -> what it starts from
    dataset: schema.DatasetFacts
    environment: schema.Environment
    labels: schema.Classes  # true class of each test clip
    frame_answers: tuple[schema.FrameAnswers, ...]
    overlaps: tuple[schema.Overlap, ...]  # one for each seed and stream
    shown: tuple[float, ...] = ()  # part of the thing in the hard-coded window, 0 to 1, of each test clip, where known
    curves: tuple[schema.Curve, ...] = ()  # one for each training run
    probe_frames: tuple[schema.ProbeFrames, ...] = ()  # one for each level
    window_paths: tuple[schema.WindowPath, ...] = ()  # one for each transformer that was followed
    timings: tuple[schema.StageTime, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # what else the run has written -> where, from its folder
    kept: schema.Kept | None = None
    scores: Mapping[tuple[int, PooledCell], Scores] = field(default_factory=dict)  # (seed, cell) -> decision values

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Read what ``save`` has written; ``ResultsError`` if a file is missing or does not fit the schema."""
        results = stored.load(folder / FILE, cls, SCHEMA)
        if not results.kept:
            results = replace(results, scores=_load_scores(folder / SCORES_FILE))
        results._check(folder)
        return results

    def save(self, folder: Path) -> None:
        """Write ``results.json`` and, unless it is a record, ``scores.npz`` to ``folder``."""
        content = encode(replace(self, scores={}))
        del content["scores"]
        if not self.kept:
            with written_aside(folder / SCORES_FILE) as aside:
                np.savez(aside, allow_pickle=False, **{_score_name(*key): self.scores[key] for key in self.scores})
            content[stored.BESIDE] = {SCORES_FILE: sha256(folder / SCORES_FILE)}
        write_json(folder / FILE, content, SCHEMA)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have all of Table 3."""
        return self._seeds_with([self.pooled(cell) for cell in CLIP_CELLS])

    def level(self, name: str) -> Level:
        """Return a zoom level."""
        return next(level for level in self.settings.data.levels if level.name == name)

    @property
    def localizers(self) -> tuple[str, ...]:
        """The localization networks that were trained for Table 2, in its order."""
        return tuple(name for name in paper.LOCALIZERS if self.has([self.cell(Variant.STN, paper.LEVELS[-1], name)]))

    @property
    def variant_levels(self) -> tuple[str, ...]:
        """The levels at which variants that the paper does not have were trained, from wide to close."""
        tested = {row.cell.level for row in self.frame_answers if row.cell.variant not in PAPER_VARIANTS}
        return tuple(level for level in paper.LEVELS if level in tested)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The variants that were trained, in the order of ``Variant``."""
        tested = {row.cell.variant for row in self.frame_answers}
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
    def group_count(self) -> int | None:
        """The number of groups that the test clips form; None where each clip stands for itself."""
        groups = self._groups(PAPER)
        return None if groups is None else int(groups.max()) + 1

    def cell(self, variant: Variant, level: str, localizer: str | None = None) -> FrameCell:
        """Return the cell of a variant at a level; transformers have the main localization network by default."""
        if variant.traits.window is not Window.TRANSFORMER:
            return FrameCell(variant, level, None)
        return FrameCell(variant, level, localizer or self.settings.scope.main_localizer)

    def pooled(self, cell: ClipCell, pooling: str | None = None) -> PooledCell:
        """Return a cell of Table 3 under a kind of pooling, the main one by default."""
        return PooledCell(pooling or self.settings.evaluation.poolings[0], cell)

    def has(self, cells: Iterable[Cell]) -> bool:
        """Whether some seed has results for all of the cells."""
        return bool(self._seeds_with(cells))

    def clips(self, measure: Measure) -> Labels:
        """Return the test clips, by index, that count in a measure: none if their shares are not known."""
        if measure.share is None:
            return np.arange(len(self.labels))
        shown = np.array(self.shown)
        return np.flatnonzero((measure.share.low <= shown) & (shown < measure.share.high))

    def accuracies(self, cells: Sequence[FrameCell], measure: Measure = PAPER) -> dict[FrameCell, Accuracy]:
        """Return how often cells are right on one frame of each test clip: top-1 accuracies, or those of a cue."""
        seeds, found = self._known_seeds(cells), {}
        for cell in cells:
            hits = np.stack([self._hits(seed, cell, measure) for seed in seeds])
            correct = tuple(hits.sum(1).tolist())
            by_seed = tuple(self._percent(seed, cell, measure) for seed in seeds)
            clips = self._accuracy_interval(hits, measure)
            mean = Estimate(float(np.mean(by_seed)), clips, significance.seed_interval(by_seed)).within(0)
            found[cell] = Accuracy(mean, by_seed, correct, np.stack([self._answers[seed, cell] for seed in seeds]))
        return found

    def precisions(self, cells: Sequence[PooledCell]) -> dict[PooledCell, Precision]:
        """Return the mean average precisions of cells, on all frames of each test clip."""
        seeds = self._known_seeds(cells)
        return {cell: self._precision(cell, seeds) for cell in cells}

    def compare(self, pairs: Sequence[Pair], measure: Measure = PAPER) -> Comparison:
        """Compare the first cell of each pair with the second."""
        seeds = self._known_seeds([cell for pair in pairs for cell in pair])
        differences = []
        for pair in pairs:
            better, worse = (tuple(self._percent(seed, cell, measure) for seed in seeds) for cell in pair)
            differences.append(Difference(better, worse, self._difference([pair], seeds, measure)))
        return Comparison(seeds, self._difference(pairs, seeds, measure), tuple(differences))

    def overlap(self, modality: Modality, level: str) -> MeanOverlap:
        """Return the mean overlap of one stream, over the seeds that have all streams."""
        found = {(row.seed, (row.modality, row.level)): row for row in self.overlaps}
        seeds = self._known_seeds({stream for _, stream in found})
        rows = [found[seed, (modality, level)] for seed in seeds]
        guided = [tuple(known(row.guided)) for row in rows]
        by_seed = [mean_of_known(ious) for ious in guided]
        return MeanOverlap(
            mean=mean_of_known(by_seed),
            center=mean_of_known(row.center for row in rows),
            above_half=mean_of_known(float(np.mean(np.array(ious) > 0.5)) if ious else None for ious in guided),
            interval=significance.seed_interval(known(by_seed)),
            by_seed=tuple(by_seed),
            guided=tuple(guided),
            moved=len(guided[0]),
            total=len(rows[0].guided),
        )

    def outcome(self, seed: int, pooled: PooledCell) -> schema.ClipOutcome:
        """Return what one seed's linear classifiers make of the test clips."""
        if (seed, pooled) not in self._outcomes:
            scores = self.scores[seed, pooled]
            precisions = svm.average_precisions(scores, self.labels)
            self._outcomes[seed, pooled] = schema.ClipOutcome(seed, pooled, scores.argmax(1), tuple(precisions))
        return self._outcomes[seed, pooled]

    def _check(self, folder: Path) -> None:
        """Raise ``ResultsError`` if rows do not match the number of clips or classes."""
        clips, classes = len(self.labels), len(self.dataset.classes)
        answers = {f"answers of seed {row.seed}, {row.cell}": row.answers for row in self.frame_answers}
        answers |= {f"answers of seed {row.seed}, {row.pooled}": row.answers for row in self._outcomes.values()}
        for name, values in {"labels": self.labels, **answers}.items():
            if values.shape != (clips,) or not np.isin(values, range(classes)).all():
                expected = f"shape ({clips},) and classes below {classes}"
                raise ResultsError(f"{folder / FILE}: {name} must have {expected}, got shape {values.shape}; {CURE}")
        for cue, each in self.dataset.cues.items():
            if len(each) != classes:
                raise ResultsError(f"{folder / FILE}: {cue} must have {classes} values, got {len(each)}; {CURE}")
        if len(self.shown) not in (0, clips):
            raise ResultsError(f"{folder / FILE}: shown must have {clips} shares, got {len(self.shown)}; {CURE}")
        for row in self.overlaps:
            if len(row.guided) != clips:
                raise ResultsError(f"{folder / FILE}: {row} must have {clips} overlaps, got {len(row.guided)}; {CURE}")
        for key, scores in self.scores.items():
            if scores.shape != (clips, classes) or not np.isfinite(scores).all():
                expected = f"finite numbers of shape {(clips, classes)}"
                raise ResultsError(f"{folder / SCORES_FILE}: {_score_name(*key)} must be {expected}; {CURE}")

    @cached_property
    def _answers(self) -> dict[tuple[int, Cell], Labels]:
        return {(row.seed, row.cell): row.answers for row in self.frame_answers}

    @cached_property
    def _outcomes(self) -> dict[tuple[int, PooledCell], schema.ClipOutcome]:
        """A cache: the outcomes that a record kept, and those that have been derived."""
        return {(row.seed, row.pooled): row for row in self.kept.outcomes} if self.kept else {}

    @cached_property
    def _resampled_maps(self) -> dict[tuple[int, PooledCell], Floats]:
        """A cache of what ``_resampled`` returned."""
        return {}

    def _groups(self, measure: Measure) -> Labels | None:
        """The number of each counted clip's group; None if there are no groups, or only one, which tells nothing."""
        of_clips = [self.dataset.groups[clip] for clip in self.clips(measure)] if self.dataset.groups else []
        names, numbers = np.unique(of_clips, return_inverse=True)
        return numbers if len(names) > 1 else None

    def _draws(self, measure: Measure) -> Floats:
        """How often each clip that counts is in each resample."""
        groups = self._groups(measure)
        return significance.draw(len(self.clips(measure))) if groups is None else significance.draw_groups(groups)

    def _accuracy_interval(self, hits: NDArray[np.bool_], measure: Measure) -> significance.Interval:
        """Return the 95 % interval over the choice of test clips of the accuracy of seeds, in percent."""
        groups = self._groups(measure)
        if groups is None:
            return significance.wilson(float(hits.sum(1).mean()), hits.shape[1])
        draws = self._draws(measure)
        resampled = 100 * (hits.mean(0) @ draws / draws.sum(0))
        return significance.bootstrap_interval(100 * float(hits.mean()), resampled, int(groups.max()) + 1)

    @cached_property
    def _seeds_of(self) -> Mapping[object, set[int]]:
        """The seeds that have a cell, or the overlap of a stream."""
        found: defaultdict[object, set[int]] = defaultdict(set)
        overlaps = [(row.seed, (row.modality, row.level)) for row in self.overlaps]
        for seed, what in (*self._answers, *self.scores, *self._outcomes, *overlaps):
            found[what].add(seed)
        return found

    def _seeds_with(self, cells: Iterable[object]) -> tuple[int, ...]:
        return tuple(sorted(set.intersection(*(self._seeds_of.get(cell, set()) for cell in cells))))

    def _known_seeds(self, cells: Iterable[object]) -> tuple[int, ...]:
        seeds = self._seeds_with(cells)
        if not seeds:
            raise KeyError(f"no seed has results for all of {', '.join(map(str, cells))}")
        return seeds

    def _hits(self, seed: int, cell: Cell, measure: Measure) -> NDArray[np.bool_]:
        """Return in which of a measure's clips the answer of one seed is right."""
        answers = self.outcome(seed, cell).answers if isinstance(cell, PooledCell) else self._answers[seed, cell]
        classes = tuple(range(len(self.dataset.classes)))
        meaning = np.array(classes if measure.cue is None else self.dataset.cues[measure.cue])
        chosen = self.clips(measure)
        hits: NDArray[np.bool_] = meaning[answers[chosen]] == meaning[self.labels[chosen]]
        return hits

    def _percent(self, seed: int, cell: Cell, measure: Measure) -> float:
        """Return what one seed reaches in a cell."""
        if measure == PAPER and isinstance(cell, PooledCell):
            return 100 * svm.mean_average_precision(self.outcome(seed, cell).precisions)
        hits = self._hits(seed, cell, measure)
        return 100 * int(hits.sum()) / len(hits)

    def _precision(self, pooled: PooledCell, seeds: Sequence[int]) -> Precision:
        rows = [self.outcome(seed, pooled) for seed in seeds]
        by_seed = tuple(self._percent(seed, pooled, PAPER) for seed in seeds)
        trained = [label for label in self.tested if label not in self.untrained]
        trained_maps = [svm.mean_average_precision([row.precisions[k] for k in trained]) for row in rows if trained]
        percents = [[None if each is None else 100 * each for each in row.precisions] for row in rows]
        return Precision(
            mean=self._estimate(by_seed, [(pooled, None)], seeds).within(0),
            by_seed=by_seed,
            per_class=tuple(mean_of_known(same) for same in zip(*percents, strict=True)),
            trained=mean_of_known(100 * value for value in trained_maps),
            answers=np.stack([row.answers for row in rows]),
        )

    def _difference(self, pairs: Sequence[Pair], seeds: Sequence[int], measure: Measure) -> Estimate:
        """Return the mean of the pairs' differences over seeds and pairs."""
        sides = list(zip(*pairs, strict=True))
        if measure == PAPER and isinstance(pairs[0][0], PooledCell):
            better, worse = (np.array([[self._percent(s, it, PAPER) for it in side] for s in seeds]) for side in sides)
            terms = cast("Sequence[tuple[PooledCell, PooledCell]]", pairs)
            return self._estimate((better - worse).mean(1), terms, seeds).within(-100)
        better, worse = (np.array([[self._hits(s, it, measure) for s in seeds] for it in side]) for side in sides)
        return significance.paired(better, worse, self._draws(measure), self._groups(measure))

    def _estimate(self, by_seed: Sequence[float] | Floats, terms: Terms, seeds: Sequence[int]) -> Estimate:
        """Return the mean over seeds of a mean over terms; a record knows its interval over clips."""
        value = float(np.mean(by_seed))
        if self.kept:
            clips = next((kept.interval for kept in self.kept.intervals if kept.terms == tuple(terms)), None)
            if clips is None:
                raise KeyError(f"the record has no interval of {terms}: record the run again")
        else:
            resampled = [self._resampled(one, seeds) - self._resampled(other, seeds) for one, other in terms]
            clips = significance.bootstrap_interval(value, np.mean(resampled, axis=0), self.group_count)
        return Estimate(value, clips, significance.seed_interval(by_seed))

    def _resampled(self, pooled: PooledCell | None, seeds: Sequence[int]) -> Floats:
        """Return a cell's mean average precision over seeds in each resample of the test clips, (resamples,)."""
        if pooled is None:
            return np.zeros(significance.RESAMPLES)
        draws = self._draws(PAPER)
        for key in ((seed, pooled) for seed in seeds):
            if key not in self._resampled_maps:
                self._resampled_maps[key] = significance.bootstrap_map(self.scores[key], self.labels, draws)
        maps: Floats = np.mean([self._resampled_maps[seed, pooled] for seed in seeds], axis=0)
        return 100 * maps


def _score_name(seed: int, pooled: PooledCell) -> str:
    cell = pooled.cell
    return "/".join((str(seed), pooled.pooling, cell.row, cell.stream, cell.region))


def _load_scores(path: Path) -> dict[tuple[int, PooledCell], Scores]:
    try:
        with np.load(path) as arrays:
            found = {tuple(name.split("/")): arrays[name] for name in arrays}
        return {
            (int(seed), PooledCell(pooling, ClipCell(row, stream, Region(region)))): values
            for (seed, pooling, row, stream, region), values in found.items()
        }
    except FileNotFoundError:
        raise ResultsError(f"{path} is missing: it belongs to the {FILE} of the same folder") from None
    except (ValueError, OSError, EOFError, BadZipFile) as broken:
        raise ResultsError(f"{path} is not whole ({broken}); {CURE}") from None
