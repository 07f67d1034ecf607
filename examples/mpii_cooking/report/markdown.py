"""A run's results as Markdown, for the documentation."""

from __future__ import annotations

from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.durations import duration
from examples.mpii_cooking.evaluation.claims import claims
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.significance import Estimate, Interval, Labels
from examples.mpii_cooking.evaluation.tables import PAIR, baseline_rows, clip_rows, frame_rows, variant_rows
from examples.mpii_cooking.markdown_table import markdown_table
from examples.mpii_cooking.variants import Modality, Region


def run_table(results: Results) -> str:
    """Say what was run: command, seeds, data, the accuracy of one constant answer, time and machine."""
    dataset, environment, seeds = results.dataset, results.environment, results.seeds
    clips = (
        f"{sum(dataset.train_clips)} training and {len(results.labels)} test clips in {len(dataset.classes)} classes"
    )
    machine = f"{environment.cpu}, {environment.device}, torch {environment.torch}"
    commit = environment.commit
    commit = f"commit {commit[:10]}{commit[40:]}" if commit else "outside of a checkout"
    data = "a synthetic kitchen" if dataset.is_synthetic else dataset.name
    return (
        f"`{results.command}`, {len(seeds)} seed{'s' * (len(seeds) > 1)}; {data}, {clips}; always answering the "
        f"largest one of training is right in {results.majority_accuracy:.1f} %. {duration(results.seconds)} on "
        f"{environment.cores} cores ({machine}), {commit}, {environment.date[:10]}."
    )


def claims_table(results: Results) -> str:
    """Return every claim with its mean difference, its interval and the verdict."""
    found = [(claim.title, results.compare(claim.pairs).mean) for claim in claims(results)]
    rows = [(title, f"{mean.value:+.1f}", _span(mean.interval, "+.1f"), mean.verdict.value) for title, mean in found]
    return markdown_table(("claim", "mean difference, points", "95 % interval", "verdict"), rows)


def table_2(results: Results) -> str:
    """Return Table 2: mean top-1 accuracy in percent with its interval."""
    grid, baselines = frame_rows(results), baseline_rows(results)
    found = results.accuracies([cell for row in (*grid.values(), *baselines.values()) for cell in row])
    rows = [[name.upper(), *(_value(found[cell].mean) for cell in row)] for name, row in grid.items()]
    for variant, row in baselines.items():
        rows.append([variant.key, *(part for cell in row for part in (_value(found[cell].mean), ""))])
    return markdown_table(["", *(f"{level}, {variant.key}" for level, variant in product(paper.LEVELS, PAIR))], rows)


def variants_table(results: Results) -> str:
    """Return every variant's accuracy at the levels at which all of them were trained."""
    grid = variant_rows(results)
    found = results.accuracies([cell for row in grid.values() for cell in row])
    rows = [
        [variant.key, variant.traits.description, *(_value(found[cell].mean) for cell in row)]
        for variant, row in grid.items()
    ]
    return markdown_table(("variant", "what it is", *results.variant_levels), rows)


def table_3(results: Results) -> str:
    """Return Table 3: mean average precision in percent with its interval."""
    grid = clip_rows(results)
    found = results.precisions([cell for row in grid.values() for cell in row])
    rows = [[name, *(_value(found[cell].mean) for cell in row)] for name, row in grid.items()]
    header = ["", *(f"{stream}, {region}" for stream, region in product(paper.STREAMS, Region))]
    return markdown_table(header, rows)


def overlap_table(results: Results) -> str:
    """Return how far guided windows overlap those of most motion, on average over test frames and seeds."""
    found = {(modality, level): results.overlap(modality, level) for modality in Modality for level in paper.LEVELS}
    rows = []
    for modality in Modality:
        streams = [found[modality, level] for level in paper.LEVELS]
        rows.append([modality, *(f"{_iou(it.mean)} ({', '.join(map(_iou, it.by_seed))})" for it in streams)])
    rows.append(["the center window", *(_iou(found[Modality.SPATIAL, level].center) for level in paper.LEVELS)])
    return markdown_table(["mean IoU (each seed's)", *paper.LEVELS], rows)


def cues_table(results: Results) -> str:
    """Return how often variants of the main localization network know the kitchen's thing and place, each by itself."""
    grid = {variant: [results.cell(variant, level) for level in paper.LEVELS] for variant in results.variants}
    found = results.accuracies([cell for row in grid.values() for cell in row if results.has([cell])])
    rows = [
        [variant.key, *(_cues(results, found[cell].answers) if cell in found else "" for cell in row)]
        for variant, row in grid.items()
    ]
    return markdown_table(["thing, place: % right", *paper.LEVELS], rows)


def _cues(results: Results, by_seed: Labels) -> str:
    cues = [name.split(" ", 2)[1:] for name in results.dataset.classes]  # after the movement
    pairs = [
        (cues[answer], cues[label])
        for answers in by_seed
        for answer, label in zip(answers, results.labels, strict=True)
    ]
    return ", ".join(f"{100 * sum(a[cue] == b[cue] for a, b in pairs) / len(pairs):.0f}" for cue in (0, 1))


def _iou(value: float | None) -> str:
    return "nothing moved" if value is None else f"{value:.2f}"


def _value(mean: Estimate) -> str:
    return f"{mean.value:.1f} ({_span(mean.interval)})"


def _span(interval: Interval, form: str = ".0f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"
