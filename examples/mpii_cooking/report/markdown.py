"""A run's results as Markdown, for the documentation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.ceilings import ceiling
from examples.mpii_cooking.evaluation.claims import beats
from examples.mpii_cooking.evaluation.measures import HALF_OR_MORE, LESS_THAN_HALF, THING, Measure
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import Environment, StageTime
from examples.mpii_cooking.evaluation.significance import Estimate, Interval
from examples.mpii_cooking.evaluation.tables import (
    ALL_SHOWN,
    PAIR,
    baseline_table,
    clip_ceilings,
    clip_table,
    frame_ceilings,
    frame_table,
    variant_table,
)
from examples.mpii_cooking.formats import duration, markdown_table
from examples.mpii_cooking.report.headline import headline
from examples.mpii_cooking.report.verdicts import Judgment, Reading, judge
from examples.mpii_cooking.variants import Modality, Region, Variant

_RIVALS = (Variant.HARD_CODED, Variant.FROZEN, Variant.GUIDED, Variant.STN, Variant.STN_LEVEL)


def run_table(results: Results) -> str:
    """Say what was run: command, seeds, data, the accuracy of one constant answer, time and machine."""
    dataset, seeds = results.dataset, results.seeds
    data = "a synthetic kitchen" if dataset.is_synthetic else dataset.name
    clips = f"{sum(dataset.train_clips)} training and {len(results.labels)} test clips"
    return (
        f"`{results.command}`, {len(seeds)} seed{'s' * (len(seeds) > 1)}; {data}, {clips} in {len(dataset.classes)} "
        f"classes; always answering the largest one of training is right in {results.majority_accuracy:.1f} %. "
        f"{where_from(results.timings, results.environment)}"
    )


def where_from(timings: Iterable[StageTime], machine: Environment) -> str:
    """Say how long something took, on which machine and when."""
    commit = machine.commit
    commit = f"commit {commit[:10]}{commit[40:]}" if commit else "outside of a checkout"
    return (
        f"{duration(sum(stage.seconds for stage in timings))} on {machine.cores} cores ({machine.cpu}, "
        f"{machine.device}, torch {machine.torch}), {commit}, {machine.date[:10]}."
    )


def headline_text(results: Results) -> str:
    """Return what the run found about learned attention."""
    found = headline(results)
    return f"**{found.sentence}** {found.details}"


def claims_table(results: Results) -> str:
    """Return every claim with its mean difference, its interval and the verdict."""
    found = [(it.claim.title, it.found.mean) for it in judge(results)]
    rows = [(title, f"{mean.value:+.1f}", _span(mean.interval, "+.1f"), mean.verdict.value) for title, mean in found]
    return markdown_table(("claim", "mean difference, points", "95 % interval", "verdict"), rows)


def claims_by_cue_table(results: Results) -> str:
    """Return what was found about every claim by the class and by each cue, and the best that could be."""
    header = ("claim", "what is right", *_READ, ALL_SHOWN)
    rows = [
        (title, it.name, *_read(it), f"{it.ceiling:.1f}")
        for title, it in _readings(results, lambda judgment: judgment.by_cue)
    ]
    return markdown_table(header, rows) if rows else ""


def claims_by_distance_table(results: Results) -> str:
    """Return how often the thing is right under every claim that is about distance, at each distance."""
    header = ("claim", "of the thing, the motion window shows", "clips", *_READ)
    rows = [
        (title, it.part, str(it.clips), *_read(it))
        for title, it in _readings(results, lambda judgment: judgment.by_distance)
    ]
    return markdown_table(header, rows) if rows else ""


def rivals_table(results: Results) -> str:
    """Return what SSTN gains over each rival in single frames at detail level, by what the motion window shows."""
    rows = []
    for rival, share in product(_RIVALS, (None, LESS_THAN_HALF, HALF_OR_MORE)):
        pair, measures = beats(results, rival), (Measure(None, share), Measure(THING, share))
        if results.has(pair) and len(results.clips(measures[0])):
            found = (results.compare([pair], measure).mean for measure in measures)
            gains = (f"{it.value:+.1f} ({_span(it.interval, '+.1f')}), {it.verdict.value}" for it in found)
            rows.append(("" if share else rival.key, share.name if share else "any share", *gains))
    header = ("SSTN against", "of the thing, the motion window shows", "class: difference, points", "thing")
    return markdown_table(header, rows) if rows else ""


def table_2(results: Results) -> str:
    """Return Table 2: mean top-1 accuracy in percent with its interval."""
    rows = [[name.upper(), *(_value(it.mean) for it in row.values())] for name, row in frame_table(results).items()]
    for variant, row in baseline_table(results).items():
        rows.append([variant.key, *(part for it in row.values() for part in (_value(it.mean), ""))])
    if best := frame_ceilings(results):
        rows.append([ALL_SHOWN, *(part for value in best.values() for part in (f"{value:.1f}", ""))])
    return markdown_table(["", *(f"{level}, {variant.key}" for level, variant in product(paper.LEVELS, PAIR))], rows)


def variants_table(results: Results) -> str:
    """Return every variant's accuracy at the levels at which all of them were trained."""
    rows = [
        [variant.key, variant.traits.description, *(_value(it.mean) for it in row.values())]
        for variant, row in variant_table(results).items()
    ]
    return markdown_table(("variant", "what it is", *results.variant_levels), rows)


def table_3(results: Results) -> str:
    """Return Table 3: mean average precision in percent with its interval."""
    best, rows = clip_ceilings(results), []
    for name, row in clip_table(results).items():
        rows.append([name, *(_value(it.mean) for it in row.values())])
        if best:
            rows.append([f"{name}: {ALL_SHOWN}", *(part for it in best[name].values() for part in (f"{it:.1f}", ""))])
    return markdown_table(["", *map(", ".join, product(paper.STREAMS, Region))], rows)


def overlap_table(results: Results) -> str:
    """Return how far guided windows overlap those of most motion, on average over test frames and seeds."""
    found = {modality: [results.overlap(modality, level) for level in paper.LEVELS] for modality in Modality}
    rows = [
        [modality, *(f"{_iou(it.mean)} ({', '.join(map(_iou, it.by_seed))})" for it in row)]
        for modality, row in found.items()
    ]
    rows.append(["the center window", *(_iou(it.center) for it in found[Modality.SPATIAL])])
    return markdown_table(["mean IoU (each seed's)", *paper.LEVELS], rows)


def cues_table(results: Results) -> str:
    """Return how often each variant of the main localization network tells each cue, and the best that could be."""
    measures = [Measure(cue) for cue in results.dataset.cues]
    grid = {variant: [results.cell(variant, level) for level in paper.LEVELS] for variant in results.variants}
    tested = [cell for row in grid.values() for cell in row if results.has([cell])]
    found = [results.accuracies(tested, measure) for measure in measures]
    rows = [
        [variant.key, *(_percents(it[cell].mean.value for it in found) if cell in tested else "" for cell in row)]
        for variant, row in grid.items()
    ]
    columns = [results.cell(Variant.SSTN, level) for level in paper.LEVELS]
    best = [_percents(ceiling(results, cell, measure) for measure in measures) for cell in columns]
    header = f"{', '.join(results.dataset.cues)}: % right"
    return markdown_table([header, *paper.LEVELS], [*rows, [ALL_SHOWN, *best]])


def _percents(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values)


_READ = ("% right", "difference, points", "95 % interval", "verdict")


def _readings(results: Results, of: Callable[[Judgment], Sequence[Reading]]) -> Iterator[tuple[str, Reading]]:
    """Yield the readings of every claim; the first one of a claim has its title."""
    for judgment in judge(results):
        for index, reading in enumerate(of(judgment)):
            yield "" if index else judgment.claim.title, reading


def _read(reading: Reading) -> tuple[str, str, str, str]:
    (better, worse), mean = reading.found.means, reading.found.mean
    return (
        f"{better:.1f} against {worse:.1f}",
        f"{mean.value:+.1f}",
        _span(mean.interval, "+.1f"),
        mean.verdict.value,
    )


def _iou(value: float | None) -> str:
    return "nothing moved" if value is None else f"{value:.2f}"


def _value(mean: Estimate) -> str:
    return f"{mean.value:.1f} ({_span(mean.interval)})"


def _span(interval: Interval, form: str = ".0f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"
