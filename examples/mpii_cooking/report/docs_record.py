"""Keep what the documentation shows of a run: no decision values, curves, windows or paths of the machine.

python examples/mpii_cooking/report/docs_record.py RUN NAME    from the folder RUN to examples/mpii_cooking/results/NAME

A study goes to results/studies/NAME.json, and its figure to docs/images/study-NAME.png.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import tyro

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from examples.mpii_cooking.data.dataset import Lost
from examples.mpii_cooking.evaluation import study_results
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, PooledCell
from examples.mpii_cooking.evaluation.claims import claims
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.schema import Kept, KeptInterval
from examples.mpii_cooking.evaluation.study_results import StudyResults
from examples.mpii_cooking.report import figures_study
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.workspace import fingerprint

FOLDER = Path(__file__).parents[1] / "results"
IMAGES = Path(__file__).parents[3] / "docs" / "images"
SCRIPT = "examples/mpii_cooking/run_all.py"
PATHS = ("--data", "--weights")  # its options that take a path to something it reads


def condensed(results: Results) -> Results:
    """Return what is worth keeping of results, without any path of the machine that they are from."""
    cells = [results.pooled(cell) for cell in CLIP_CELLS]
    intervals = [KeptInterval(((cell, None),), it.mean.clips) for cell, it in results.precisions(cells).items()]
    for claim in claims(results):
        if isinstance(claim.pairs[0][0], PooledCell):
            pairs = cast("Sequence[tuple[PooledCell, PooledCell]]", claim.pairs)
            found = results.compare(pairs)
            intervals.append(KeptInterval(tuple(pairs), found.mean.clips))
            intervals += [KeptInterval((pair,), it.mean.clips) for pair, it in zip(pairs, found.pairs, strict=True)]
    outcomes = tuple(results.outcome(seed, cell) for cell in cells for seed in results.seeds)
    return replace(
        results,
        command=_elsewhere(results.command),
        dataset=replace(results.dataset, folder=None, lost=tuple(map(_without_folder, results.dataset.lost))),
        curves=(),
        probe_frames=(),
        window_paths=(),
        files={},
        kept=Kept(outcomes, tuple(intervals)),
        scores={},
    )


def _without_folder(lost: Lost) -> Lost:
    """Return a lost video and what was wrong with it, which begins with its path, without its folder."""
    _, name, problem = lost.problem.rpartition(Path(lost.video).name)
    return replace(lost, problem=name + problem)


def digest(results: Results) -> str:
    """Return a short digest of what a run found. Prose about a run names the one it was read against."""
    parts = (results.labels, results.frame_answers, results.overlaps, results.shown, results.kept)
    return fingerprint(encode(parts))[:12]


def _elsewhere(command: str) -> str:
    """Return a command without its output folder, and with the bare names of its script and its input folders."""
    python, _, *words = shlex.split(command)
    parts = iter(part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word]))
    kept = [python, SCRIPT]
    for option in parts:
        if option == "--output":
            next(parts)
        else:
            kept += [option, Path(next(parts)).resolve().name] if option in PATHS else [option]
    return shlex.join(kept)


def main(run: Path, name: str) -> None:
    """Keep what the documentation shows of the run in folder PATH as examples/mpii_cooking/results/STR."""
    if not (run / study_results.FILE).is_file():
        condensed(Results.load(run)).save(FOLDER / name)
        return
    study = StudyResults.load(run / study_results.FILE)
    study = replace(study, command=_elsewhere(study.command))
    study.save(study_record(name))
    figures_study.draw(study, IMAGES / f"study-{name}.png")


def study_record(name: str) -> Path:
    """Return where the results of a study are kept."""
    return FOLDER / "studies" / f"{name}.json"


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.PositionalRequiredArgs,))
