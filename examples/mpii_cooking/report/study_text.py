"""What a study found, in sentences and as Markdown tables."""

from collections.abc import Callable, Iterable, Sequence

from examples.mpii_cooking.evaluation.measures import THING
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.evaluation.study_results import Condition, StudyResults
from examples.mpii_cooking.formats import markdown_table
from examples.mpii_cooking.report.markdown import where_from
from examples.mpii_cooking.variants import Variant

AXIS = {"distance": "share of the thing that the motion window shows, %", "clips": "training clips"}
"""What each kind of study varies."""


def findings(study: StudyResults) -> list[str]:
    """Return one sentence about all rivals together, and one about each."""
    return [_headline(study), *(_against(study, rival) for rival in study.rivals)]


def run_sentence(study: StudyResults) -> str:
    """Say what was run: command, seeds, conditions, data, time and machine."""
    train = sorted({condition.train_clips for condition in study.conditions})
    test = sorted({len(condition.labels) for condition in study.conditions})
    return (
        f"`{study.command}`, {len(study.seeds)} seeds under each of {len(study.conditions)} conditions; "
        f"{_listed(map(str, train))} training and {_listed(map(str, test))} test clips in "
        f"{len(study.classes)} classes. {where_from(study.timings, study.environment)}"
    )


def gains_table(study: StudyResults) -> str:
    """Return by how many points SSTN tells more things right than each other arm, with intervals and verdicts."""
    rows = [
        [_place(study, condition), *(_gain(study, condition, rival) for rival in study.rivals)]
        for condition in study.conditions
    ]
    return markdown_table([AXIS[study.kind], *(f"over {rival.key}" for rival in study.rivals)], rows)


def shares_table(study: StudyResults) -> str:
    """Return in how many percent of the test clips each arm tells the thing right, and in how many the class."""

    def both(condition: Condition, arm: Variant) -> str:
        return ", ".join(f"{study.share(condition, arm, cue).value:.1f}" for cue in (THING, None))

    rows = [[_place(study, each), *(both(each, arm) for arm in study.arms)] for each in study.conditions]
    return markdown_table([AXIS[study.kind], *(arm.key for arm in study.arms)], rows)


TABLES: dict[str, Callable[[StudyResults], str]] = {
    "run": run_sentence,
    "findings": lambda study: "\n".join(f"- {sentence}" for sentence in findings(study)),
    "gains": gains_table,
    "shares": shares_table,
}
"""What the documentation shows of a study."""


def _headline(study: StudyResults) -> str:
    won = [
        condition
        for condition in study.conditions
        if all(study.gain(condition, rival, THING).verdict is Verdict.HOLDS for rival in study.rivals)
    ]
    rivals = _listed(rival.key for rival in study.rivals)
    if not won:
        return f"Under no condition does SSTN recognize the thing more often than each of {rivals}, beyond chance."
    if len(won) == len(study.conditions):
        where = "under every condition"
    elif study.kind == "distance":
        where = f"where the motion window shows {_places(study, won)} % of it"
    else:
        where = f"with {_places(study, won)} training clips"
    return f"SSTN recognizes the thing more often than each of {rivals} {where}."


def _against(study: StudyResults, rival: Variant) -> str:
    by_verdict: dict[Verdict, list[Condition]] = {}
    for condition in study.conditions:
        by_verdict.setdefault(study.gain(condition, rival, THING).verdict, []).append(condition)
    where = "at {} % shown" if study.kind == "distance" else "with {} clips"
    words = {Verdict.HOLDS: "better", Verdict.FAILS: "worse", Verdict.INCONCLUSIVE: "no difference beyond chance"}
    parts = [
        f"{words[verdict]} {where.format(_places(study, conditions))} ({_span(study, conditions, rival)})"
        for verdict, conditions in by_verdict.items()
    ]
    return f"Against {rival.key}, {rival.traits.description}: {'; '.join(parts)}."


def _places(study: StudyResults, conditions: Sequence[Condition]) -> str:
    return _listed(_place(study, condition) for condition in conditions)


def _span(study: StudyResults, conditions: Sequence[Condition], rival: Variant) -> str:
    gains = sorted(study.gain(condition, rival, THING).value for condition in conditions)
    ends = [f"{gain:+.1f}" for gain in dict.fromkeys((gains[0], gains[-1]))]
    return f"{' to '.join(ends)} points"


def _gain(study: StudyResults, condition: Condition, rival: Variant) -> str:
    gain = study.gain(condition, rival, THING)
    low, high = gain.interval
    return f"{gain.value:+.1f} ({low:+.1f} to {high:+.1f}), {gain.verdict}"


def _place(study: StudyResults, condition: Condition) -> str:
    return f"{study.place(condition):.0f}"


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
