"""What tells the classes apart in each stream, and the best answers that it allows."""

from collections import Counter
from collections.abc import Hashable, Sequence

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.cells import Cell, PooledCell
from examples.mpii_cooking.evaluation.measures import MOVEMENT, PAPER, PLACE, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.variants import Modality

_IN_A_FRAME = {"general": PLACE, "middle": THING, "detail": THING}


def shown_cues(row: str, stream: str) -> frozenset[str]:
    """Return the cues that a level, or late fusion, shows in a stream of ``paper.STREAMS``."""
    levels = paper.LEVELS if row == paper.FUSION else (row,)
    still = set() if stream == Modality.TEMPORAL else {_IN_A_FRAME[level] for level in levels}
    return frozenset(still | (set() if stream == Modality.SPATIAL else {MOVEMENT}))


def seen(cell: Cell) -> frozenset[str]:
    """Return the cues that the stream of a cell shows."""
    if isinstance(cell, PooledCell):
        return shown_cues(cell.cell.row, cell.cell.stream)
    return shown_cues(cell.level, Modality.SPATIAL)


def ceiling(results: Results, cell: Cell, measure: Measure = PAPER) -> float:
    """Return the best that can be reached in a cell from all that its stream shows, in percent; cues must be known."""
    cues = results.dataset.cues
    labels = results.labels[results.clips(measure)].tolist()
    known = sorted(seen(cell) & cues.keys())
    groups = [tuple(cues[cue][label] for cue in known) for label in labels]
    if measure == PAPER and isinstance(cell, PooledCell):
        return best_precision(groups, labels)
    return best_accuracy(groups, labels if measure.cue is None else [cues[measure.cue][label] for label in labels])


def best_accuracy(groups: Sequence[Hashable], truth: Sequence[int]) -> float:
    """Return the highest top-1 accuracy, in percent, of one answer for each group of clips."""
    found = Counter(zip(groups, truth, strict=True))
    most = {group: max(count for (other, _), count in found.items() if other == group) for group in groups}
    return 100 * sum(most.values()) / len(truth)


def best_precision(groups: Sequence[Hashable], labels: Sequence[int]) -> float:
    """Return the highest mean average precision, in percent, of scores that are equal within each group of clips.

    All clips of a class must be in one group. Equal scores are one step, so a class's average precision is its part
    of the group. Scores that rank a group's clips at random are up to a few points higher if there are few of them.
    """
    sizes, clips = Counter(groups), Counter(zip(groups, labels, strict=True))
    return 100 * sum(count / sizes[group] for (group, _), count in clips.items()) / len(clips)
