"""What a run found about learned attention, in one sentence, and where that is behind its own baseline."""

from collections.abc import Sequence
from typing import NamedTuple

from examples.mpii_cooking.evaluation.cells import Pair
from examples.mpii_cooking.evaluation.claims import beats, region_claim
from examples.mpii_cooking.evaluation.estimates import Comparison
from examples.mpii_cooking.evaluation.measures import LESS_THAN_HALF, PAPER, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.variants import Variant

_PAID = {
    Verdict.HOLDS: "Learned attention paid",
    Verdict.FAILS: "Learned attention did not pay",
    Verdict.INCONCLUSIVE: "This run cannot tell whether learned attention pays",
}
_FREED = {
    Verdict.HOLDS: "Setting it free helped",
    Verdict.FAILS: "Setting it free did harm",
    Verdict.INCONCLUSIVE: "It is not clear whether setting it free helped",
}


class _Ground(NamedTuple):
    """What the sentence rests on."""

    measure: Measure
    pairs: Sequence[Pair]  # learned attention, and the hard-coded window
    words: str  # what was counted, with places for the means of both
    clips: str  # where it was counted


class Headline(NamedTuple):
    """What a run found about learned attention."""

    sentence: str  # whether it beat the hard-coded window
    details: str  # how sure that is, and whether setting it free helped if a window stayed where guidance left it


def headline(results: Results) -> Headline:
    """Return what a run found, in plain words.

    Where the classes' cues are known, what counts is the thing, in single frames at detail level: in the clips of which
    the motion window shows less than half of it or, if none are known, in all. Elsewhere it is the class, and the
    paper's claim about the regions of Table 3.
    """
    ground = _ground(results)
    found = results.compare(ground.pairs, ground.measure)
    better, worse = found.means
    sentence = f"{_PAID[found.mean.verdict]}: {ground.words.format(better=better, worse=worse)}."
    details = f"The difference is {_points(found)}, {ground.clips}."
    frozen = beats(results, Variant.FROZEN)
    if results.has(frozen):
        freed = results.compare([frozen], ground.measure)
        better, worse = freed.means
        right = "class" if ground.measure == PAPER else ground.measure.cue
        details += (
            f" {_FREED[freed.mean.verdict]}: at detail level the {right} is right in {better:.0f} % of single "
            f"frames, and in {worse:.0f} % if the window stays where guidance left it ({_points(freed)})."
        )
    return Headline(sentence, details)


def _ground(results: Results) -> _Ground:
    total = len(results.labels)
    if THING not in results.dataset.cues:
        words = (
            "on average over levels and streams, mean average precision is {better:.0f} % where the guided-then-free "
            "transformer looks, and {worse:.0f} % in the hard-coded window"
        )
        return _Ground(PAPER, region_claim(results).pairs, words, f"in {total} test clips")
    told = (
        "the guided-then-free transformer tells the thing right in {better:.0f} % of single frames, the hard-coded "
        "window in {worse:.0f} %"
    )
    pairs, far = [beats(results, Variant.HARD_CODED)], Measure(THING, LESS_THAN_HALF)
    if count := len(results.clips(far)):
        where = f"where the motion window shows {LESS_THAN_HALF.name} of the thing"
        return _Ground(far, pairs, f"{where}, {told}", f"in {count} of {total} test clips")
    return _Ground(Measure(THING), pairs, told, f"in {total} test clips")


def shortfall(results: Results, pairs: Sequence[Pair], subject: str, baseline: str) -> str:
    """Return a sentence if the first cells are below the second ones, their own baseline; an empty text if not."""
    mean = results.compare(pairs).mean
    if mean.value >= 0:
        return ""
    chance = "beyond chance" if mean.verdict is Verdict.FAILS else "which may be chance"
    return f"{subject} {-mean.value:.1f} points below {baseline}, {chance}."


def _points(found: Comparison) -> str:
    low, high = found.mean.interval
    return f"{found.mean.value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
