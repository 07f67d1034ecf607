"""The example as its user runs it: one command, from nothing to a report; started again; given bad data."""

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from examples.mpii_cooking import run_all
from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data import mpii, preparation
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS, POOLING_CELL, ClipCell, FrameCell
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.tables import baseline_table, frame_table
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.runs import all_runs, extra_runs
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Modality, Phase, Region, Variant

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300
LEVELS = ("general", "middle", "detail")
CUES = ("thing", "movement", "place")


def command(output, *arguments):
    script = ROOT / "examples" / "mpii_cooking" / "run_all.py"
    return [sys.executable, str(script), "--preset", "smoke", "--output", str(output), *arguments]


def run(output, *arguments):
    return subprocess.run(command(output, *arguments), capture_output=True, text=True, timeout=TIMEOUT, check=False)


def by_two(output, *arguments):
    """The command that has torchrun start two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return torchrun + command(output, *arguments)[1:]


def outcome(output):
    """Everything in the results that was computed from data, without times."""
    results = Results.load(output)
    curves = tuple(replace(curve, seconds=0.0) for curve in results.curves)
    parts = ("labels", "frame_answers", "overlaps", "shown", "probe_frames", "window_paths")
    found = {name: encode(getattr(results, name)) for name in parts} | {"curves": encode(curves)}
    return found | {"outcomes": [encode(results.outcome(*key)) for key in results.scores]}


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    output = tmp_path_factory.mktemp("smoke")
    finished = run(output)
    assert finished.returncode == 0, finished.stderr
    return output


def test_results_have_every_cell_of_every_table(smoke):
    results = Results.load(smoke)
    assert [row.seed for row in results.frame_answers] == [0] * 28
    assert results.localizers == ("vgg-f", "vgg-m", "vgg-16")
    assert len([found for row in frame_table(results).values() for found in row.values()]) == 18
    assert len([found for row in baseline_table(results).values() for found in row.values()]) == 6
    extra = [FrameCell(run.variant, run.level.name, run.localizer) for run in extra_runs(PRESETS["smoke"])]
    assert len(results.accuracies(extra)) == 4
    main, other = PRESETS["smoke"].evaluation.poolings
    pooled = [results.pooled(cell, main) for cell in CLIP_CELLS] + [results.pooled(POOLING_CELL, other)]
    assert {*results.scores} == {(0, cell) for cell in pooled}
    for found in results.precisions(pooled).values():
        assert found.mean.value == pytest.approx(np.mean(found.per_class))


def test_the_overlap_of_the_guided_window_is_known_for_every_stream(smoke):
    results = Results.load(smoke)
    assert [(row.modality, row.level) for row in results.overlaps] == list(product(Modality, LEVELS))
    for row in results.overlaps:
        found = results.overlap(row.modality, row.level)
        assert found.total == len(results.labels)
        assert 0 < found.center <= 1
        assert 0 <= found.mean <= 1  # 0 if two epochs do not find the person
        assert 0 <= found.above_half <= 1


def test_decision_values_are_those_that_were_computed(smoke):
    results = Results.load(smoke)
    for pooling in PRESETS["smoke"].evaluation.poolings:
        for folder in (smoke / "seed-0" / "scores" / pooling).iterdir():
            region, stream = folder.name.split("-")
            for row, values in zip((*LEVELS, "late fusion"), np.load(folder / "scores.npy"), strict=True):
                kept = results.scores.get((0, results.pooled(ClipCell(row, stream, Region(region)), pooling)))
                assert kept is None if pooling == "distance" and row != "late fusion" else np.array_equal(kept, values)


def test_facts_are_those_of_the_run(smoke):
    results = Results.load(smoke)
    assert results.settings == PRESETS["smoke"]
    assert results.weights == dict.fromkeys(("vgg-f", "vgg-m", "vgg-16"), "random")
    assert (sum(results.dataset.train_clips), len(results.labels)) == (20, 28)
    assert [row.stage for row in results.timings] == ["data", "prepare", "train", "features", "classify"]
    assert {cue: len(values) for cue, values in results.dataset.cues.items()} == dict.fromkeys(CUES, 4)
    assert min(results.shown) < 0.5 < max(results.shown)


def test_every_run_has_its_curve_and_every_probe_frame_its_picture_and_paths(smoke):
    results = Results.load(smoke)
    assert [curve.name for curve in results.curves] == [run.name for run in all_runs(PRESETS["smoke"])]
    followed = [curve for curve in results.curves if (curve.phase, curve.modality) == (Phase.JOINT, Modality.SPATIAL)]
    followed = [(curve.level, curve.variant) for curve in followed if curve.localizer == "vgg-16"]
    assert [(path.level, path.variant) for path in results.window_paths] == followed
    assert [probe.level for probe in results.probe_frames] == [*LEVELS]
    for probe in results.probe_frames:
        assert all((smoke / image).is_file() for image in probe.images)
    frames, epochs = len(results.probe_frames[0].images), PRESETS["smoke"].training.joint.epochs
    for path in results.window_paths:
        assert path.thetas.shape == (epochs + 1, frames, 2, 3)
        has_moved = not np.array_equal(path.thetas[0], path.thetas[-1])
        assert has_moved == (path.variant is not Variant.FROZEN)


def test_the_report_is_one_file_that_needs_no_other(smoke):
    page = (smoke / "report.html").read_text(encoding="utf-8")
    assert "data:image/svg+xml;base64," in page
    assert 'src="http' not in page
    assert 'href="http' not in page.replace('href="https://doi.org', "")


def test_a_second_start_does_nothing_again(smoke):
    before = {path: path.stat().st_mtime_ns for path in (smoke / "seed-0" / "models").rglob("*") if path.is_file()}
    first = outcome(smoke)
    assert run(smoke).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert outcome(smoke) == first


def test_changed_code_does_again_what_it_made_and_nothing_else(smoke, tmp_path):
    checkout, output = tmp_path / "checkout", tmp_path / "output"
    for folder in ("examples", "supervised_st"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(smoke, output)
    svm = checkout / "examples" / "mpii_cooking" / "evaluation" / "svm.py"
    svm.write_text(svm.read_text().replace("LinearSVC(C=c,", "LinearSVC(C=c * 100,"))
    script = checkout / "examples" / "mpii_cooking" / "run_all.py"
    again = [sys.executable, str(script), "--preset", "smoke", "--output", str(output)]
    finished = subprocess.run(again, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert finished.returncode == 0, finished.stderr
    said = [line for line in finished.stdout.splitlines() if "no longer fit" in line]
    grams, scores = (len([*(smoke / "seed-0" / kind).rglob("manifest.json")]) for kind in ("gram", "scores"))
    why = "no longer fit and are made again: code examples.mpii_cooking.evaluation.svm changed"
    assert said == [f"pooling: {grams} {why}", f"linear SVMs: {scores} {why}"]
    before, after = Results.load(smoke), Results.load(output)
    assert all(not np.array_equal(after.scores[key], scores) for key, scores in before.scores.items())
    assert encode(after.frame_answers) == encode(before.frame_answers)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "must be an existing folder"),
        (lambda folder: folder.mkdir(), "must hold an annotation file"),
    ],
    ids=["missing folder", "empty folder"],
)
def test_unusable_data_ends_with_one_message_and_code_2(tmp_path, prepare, message):
    data = tmp_path / "data"
    prepare(data)
    finished = run(tmp_path / "output", "--data", str(data))
    assert finished.returncode == 2
    assert message in finished.stderr
    assert str(data) in finished.stderr
    assert "Traceback" not in finished.stderr


def test_two_processes_have_one_message(tmp_path):
    process = by_two(tmp_path / "output", "--data", str(tmp_path / "data"))
    finished = subprocess.run(process, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert finished.returncode != 0
    assert finished.stderr.count("must be an existing folder") == 1
    assert "DataError" not in finished.stderr, "no process ends with a traceback"


class PreparedError(Exception):
    """Raised in place of training."""


def test_folds_share_one_preparation_and_nothing_else(tmp_path, monkeypatch):
    experiments, prepared = [], []

    def train_all(seeds):
        experiments.extend(seeds)
        raise PreparedError

    prepare_video = preparation.prepare_video
    monkeypatch.setattr(run_all, "train_all", train_all)
    monkeypatch.setattr(
        preparation, "prepare_video", lambda *args: prepared.append(args[0].stem) or prepare_video(*args)
    )
    for split in (None, mpii.FIXED5, mpii.choose_split("loso7", 8), mpii.choose_split("loso7", 10)):
        with pytest.raises(PreparedError):
            run_all.run(None, tmp_path, PRESETS["smoke"], split, None, plan_only=False)
    assert len(prepared) == len(set(prepared)) == 12
    folders = ["", "", "loso7-8", "loso7-10"]
    assert [experiment.workspace.root for experiment in experiments] == [
        tmp_path / folder / "seed-0" for folder in folders
    ]
    clips = [(len(experiment.dataset.train), len(experiment.dataset.test)) for experiment in experiments]
    assert clips == [(20, 28), (20, 28), (44, 4), (44, 4)]


def test_options_reach_the_run(tmp_path, monkeypatch):
    runs = []
    monkeypatch.setattr(run_all, "run", lambda *args, choices, **others: runs.append(args))
    run_all.main(output=tmp_path, preset="paper")
    run_all.main(output=tmp_path, preset="paper", flow="dis", split="loso7", fold=8)
    run_all.main(output=tmp_path, preset="smoke", split="fixed5", seeds=3)
    assert [split for _, _, _, split, _ in runs] == [None, mpii.choose_split("loso7", 8), mpii.FIXED5]
    assert [preset.data.flow for _, _, preset, *_ in runs] == ["tvl1", "dis", "dis"]
    assert runs[0][2] == PRESETS["paper"]
    assert runs[2][2].seeds == (SeedPlan(0), SeedPlan(1), SeedPlan(2))


@pytest.mark.parametrize(("options", "message"), [
    ({"split": "loso7"}, "split loso7 needs a fold, one of subjects 8, 10, 16, 17, 18, 19, 20, got None"),
    ({"fold": 8}, "only split loso7 has folds, got fold 8 with fixed5"),
    ({"seeds": 0}, "seeds must be at least 1, got 0"),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else "")  # fmt: skip
def test_options_that_do_not_fit_end_with_one_message_and_code_2(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path, preset="smoke", **options)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {message}")
