"""A run's results as Markdown, for the documentation."""

from itertools import product

from examples.mpii_cooking import paper
from examples.mpii_cooking.evaluation.claims import claims
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.significance import Estimate, Interval, Labels
from examples.mpii_cooking.evaluation.tables import PAIR, baseline_table, clip_table, frame_table, variant_table
from examples.mpii_cooking.formats import duration, markdown_table
from examples.mpii_cooking.variants import Modality, Region


def run_table(results: Results) -> str:
    """Say what was run: command, seeds, data, the accuracy of one constant answer, time and machine."""
    dataset, machine, seeds = results.dataset, results.environment, results.seeds
    seconds = sum(stage.seconds for stage in results.timings)
    data = "a synthetic kitchen" if dataset.is_synthetic else dataset.name
    clips = f"{sum(dataset.train_clips)} training and {len(results.labels)} test clips"
    commit = machine.commit
    commit = f"commit {commit[:10]}{commit[40:]}" if commit else "outside of a checkout"
    return (
        f"`{results.command}`, {len(seeds)} seed{'s' * (len(seeds) > 1)}; {data}, {clips} in {len(dataset.classes)} "
        f"classes; always answering the largest one of training is right in {results.majority_accuracy:.1f} %. "
        f"{duration(seconds)} on {machine.cores} cores ({machine.cpu}, {machine.device}, torch {machine.torch}), "
        f"{commit}, {machine.date[:10]}."
    )


def claims_table(results: Results) -> str:
    """Return every claim with its mean difference, its interval and the verdict."""
    found = [(claim.title, results.compare(claim.pairs).mean) for claim in claims(results)]
    rows = [(title, f"{mean.value:+.1f}", _span(mean.interval, "+.1f"), mean.verdict.value) for title, mean in found]
    return markdown_table(("claim", "mean difference, points", "95 % interval", "verdict"), rows)


def table_2(results: Results) -> str:
    """Return Table 2: mean top-1 accuracy in percent with its interval."""
    rows = [[name.upper(), *(_value(it.mean) for it in row.values())] for name, row in frame_table(results).items()]
    for variant, row in baseline_table(results).items():
        rows.append([variant.key, *(part for it in row.values() for part in (_value(it.mean), ""))])
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
    rows = [[name, *(_value(it.mean) for it in row.values())] for name, row in clip_table(results).items()]
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
    """Return how often each variant of the main localization network recognizes the kitchen's object, and its place."""
    grid = {variant: [results.cell(variant, level) for level in paper.LEVELS] for variant in results.variants}
    found = results.accuracies([cell for row in grid.values() for cell in row if results.has([cell])])
    rows = [
        [variant.key, *(_cues(results, found[cell].answers) if cell in found else "" for cell in row)]
        for variant, row in grid.items()
    ]
    return markdown_table(["object, place: % right", *paper.LEVELS], rows)


def _cues(results: Results, by_seed: Labels) -> str:
    cues = [name.split(" ", 2)[1:] for name in results.dataset.classes]  # after the movement
    right = [
        [a == b for a, b in zip(cues[answer], cues[label], strict=True)]
        for answers in by_seed
        for answer, label in zip(answers, results.labels, strict=True)
    ]
    return ", ".join(f"{100 * sum(cue) / len(right):.0f}" for cue in zip(*right, strict=True))


def _iou(value: float | None) -> str:
    return "nothing moved" if value is None else f"{value:.2f}"


def _value(mean: Estimate) -> str:
    return f"{mean.value:.1f} ({_span(mean.interval)})"


def _span(interval: Interval, form: str = ".0f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"
