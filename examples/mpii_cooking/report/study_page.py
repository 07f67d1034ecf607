"""The report of a study: one HTML page that needs no other file."""

from pathlib import Path

import numpy as np

from examples.mpii_cooking.evaluation.ceilings import best_accuracy
from examples.mpii_cooking.evaluation.measures import THING
from examples.mpii_cooking.evaluation.study_results import StudyResults
from examples.mpii_cooking.report import figures_study, page, study_text
from examples.mpii_cooking.report.figures import PIXELS
from examples.mpii_cooking.report.markdown import where_from
from examples.mpii_cooking.storage import written_aside

PICTURE = "gains.svg"


def write_page(study: StudyResults, folder: Path) -> Path:
    """Draw the figure and write ``report.html`` into ``folder``."""
    figures_study.draw(study, folder / PICTURE)
    labels = study.conditions[0].labels.tolist()
    context = {
        "study": study,
        "findings": study_text.findings(study),
        "words": page.WORDS,
        "axis": study_text.AXIS[study.kind],
        "shown": [100 * float(np.mean(condition.shown)) for condition in study.conditions],
        "best": best_accuracy([study.cues[THING][label] for label in labels], labels),
        "picture": page.embed(folder / PICTURE),
        "file": PICTURE,
        "width": round(PIXELS * figures_study.WIDTH),
        "where_from": where_from(study.timings, study.environment),
    }
    path = folder / page.FILE
    with written_aside(path) as aside:
        aside.write_text(page.templates().get_template("study.html.jinja").render(context), encoding="utf-8")
    return path
