"""The benchmark of the pipeline: it runs, wrong answers get no time, and its table shows losses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import measure, pipeline, pipeline_peers, pipeline_stages, tables, timing_tables
from benchmarks.pipeline_plan import PLANS
from examples.mpii_cooking.data import preparation
from examples.mpii_cooking.evaluation import features
from examples.mpii_cooking.training.networks import Classifier
from supervised_st import TemporalCorrelationPooling
from tests.helpers.programs import run_python

KINDS = ("prepare", "search", "pool", "features")


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """One stage of each kind."""
    made = list(pipeline_stages.stages(PLANS["cpu"]["quick"], "cpu", tmp_path_factory.mktemp("pipeline")))
    return {kind: next(stage for stage in made if stage.name.startswith(kind)) for kind in KINDS}


def timed(stage):
    return pipeline.run_stage(stage, measure.cpu_clock, rounds=1)


def test_the_command_runs(tmp_path):
    path = tmp_path / "results.json"
    done = run_python("benchmarks/pipeline.py", "--quick", "--json", path)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(path.read_text())
    assert_complete(results)
    assert {row["stage"].split()[0] for row in results["rows"]} == set(KINDS)
    assert timing_tables.pipeline_table(results) in done.stdout


def assert_complete(results):
    """Ours is right in every stage, and every right contestant has times."""
    assert {"device", "machine", "threads", "commit", "date", "command", "versions"} <= set(results)
    for row in results["rows"]:
        assert not row["failed"]
        for entry in row["contestants"].values():
            if entry["status"] == "wrong":
                assert entry["role"] == "peer"
                assert not entry["error"] <= entry["budget"]
                continue
            assert entry["error"] <= entry["budget"]
            once = entry["seconds"][0] > pipeline.LONG_SECONDS
            assert len(entry["seconds"]) == results["rounds"] or once
            assert min(entry["seconds"]) > 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_published_results_are_complete(device):
    results = tables.newest(f"pipeline-{device}")
    if results is None:
        pytest.skip("not measured yet")
    assert results["device"] == device
    assert_complete(results)


def test_the_truth_of_the_search_is_brute_force():
    motion = np.random.default_rng(0).integers(0, 2**18, (2, 9, 12))
    windows = np.lib.stride_tricks.sliding_window_view(motion, (4, 4), axis=(1, 2))
    assert np.array_equal(pipeline_peers.exact_scores(motion, 4), windows.sum((-2, -1)))


def next_to_the_best(profile):
    """The best scores, reported for the windows one row further down."""

    def moved(scores):
        found = profile(scores)
        return found._replace(row=(found.row + 1) % scores.shape[1])

    return moved


def lower(score):
    """Scores that are a little too low."""
    return lambda motion, size: score(motion, size) * (1 - 1e-6)


BROKEN = {
    "prepare, window": ("prepare", preparation, "window_profile", next_to_the_best),
    "prepare, score": ("prepare", preparation, "window_scores", lower),
    "search, window": ("search", pipeline_stages, "window_profile", next_to_the_best),
    "search, score": ("search", pipeline_stages, "window_scores", lower),
    "pool": ("pool", TemporalCorrelationPooling, "forward", lambda pool: lambda *a: pool(*a) + 1e-6),
    "features, order": ("features", features, "affine_sample", lambda sample: lambda *a, **k: sample(*a, **k).flip(0)),
    "features, values": ("features", Classifier, "fc6", lambda fc6: lambda *a: fc6(*a) * 1.01),
}


@pytest.mark.parametrize(("kind", "where", "name", "broken"), BROKEN.values(), ids=BROKEN)
def test_a_wrong_pipeline_is_not_timed(stages, monkeypatch, kind, where, name, broken):
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    row = timed(stages[kind])
    assert row["failed"].startswith("error is")
    assert not any("seconds" in entry for entry in row["contestants"].values())
    assert f"**wrong**: {row['failed']}" in timing_tables.pipeline_table(HEAD | {"rows": [row]})


def stage(**contestants):
    return pipeline_stages.Stage("stage", "items", 6, contestants)


def contestant(error=0.0, role="peer"):
    return pipeline_stages.Solution(lambda: error, lambda answer: answer, 0.5, role)


@pytest.mark.parametrize("error", [1.0, float("nan")])
def test_a_wrong_peer_is_named_and_not_timed(error):
    entries = timed(stage(ours=contestant(), wrong=contestant(error), right=contestant()))["contestants"]
    assert entries["wrong"]["reason"] == f"error is {error:.1e}, allowed is 5.0e-01"
    assert [name for name, entry in entries.items() if "seconds" in entry] == ["ours", "right"]


def test_a_slow_peer_has_one_turn():
    seconds = iter([1.0, 2 * pipeline.LONG_SECONDS])

    def clock(call, repeats):
        call()
        return next(seconds, 1.0)

    entries = pipeline.run_stage(stage(ours=contestant(), slow=contestant()), clock, rounds=3)["contestants"]
    assert entries["ours"]["seconds"] == [1.0] * 3
    assert entries["slow"]["seconds"] == [2 * pipeline.LONG_SECONDS]


HEAD = {
    "device": "cpu", "machine": "M", "threads": 1, "rounds": 2, "commit": "c" * 40, "date": "D", "command": "C",
    "versions": dict.fromkeys(("torch", "supervised-st", "numpy", "av", "opencv-contrib-python-headless"), "V"),
}  # fmt: skip


def test_the_table_shows_wins_and_losses():
    def entry(role, *seconds):
        return {"status": "timed", "role": role, "error": 0.0, "budget": 0.0, "seconds": list(seconds)}

    entries = {
        "ours": entry("peer", 2.0, 4.0),
        "faster": entry("peer", 1.0, 2.0),
        "slow": entry("peer", 30.0),
        "bare": entry("floor", 1.5, 3.0),
        "reading": entry("part", 0.5, 1.0),
    }
    row = {"stage": "stage", "unit": "items", "count": 6, "failed": "", "contestants": entries}
    text = timing_tables.pipeline_table(HEAD | {"rows": [row]})
    assert "| stage | ours | 2.00 items |  |  |  | 0e+00 |" in text
    assert "|  | faster | 4.00 items | 0.50 (0.50 to 0.50) |  |  | 0e+00 |" in text
    assert "|  | slow | 0.20 items | 10.0 (one turn) |  |  | 0e+00 |" in text
    assert "|  | bare | 2.67 items |  | 75% (75% to 75%) | 25% | 0e+00 |" in text
    assert "|  | reading | 8.00 items |  | 25% (25% to 25%) |  | 0e+00 |" in text


def test_all_but_the_quick_plan_have_the_sizes_of_the_paper():
    for device, plans in PLANS.items():
        for plan in (plans["default"], plans["full"]):
            assert (plan.map_size, plan.window) == ((896, 1189), 224)
        scales = {scene.preset.name for scene in plans["full"].scenes}
        assert "paper" in scales, device
        assert replace(plans["full"], scenes=()) == replace(plans["default"], scenes=())


def test_numpy_describes_clips_by_their_definition():
    """Here distances are differences; the benchmark gets them from a product of matrices."""
    clip, gamma = np.random.default_rng(0).normal(size=(7, 5)), 0.3
    distances = ((clip[:, :, None] - clip[:, None]) ** 2).mean(0)
    matrix = 0.999 * np.exp(-gamma * distances) + 0.001 * np.eye(5)
    values, vectors = np.linalg.eigh(matrix + 1e-6 * np.eye(5))
    logarithm = (vectors * np.log(values)) @ vectors.T
    entries = torch.from_numpy(np.concatenate((np.diag(logarithm), 2**0.5 * logarithm[np.triu_indices(5, 1)])))
    wanted = torch.nn.functional.normalize(entries.sign() * entries.abs().sqrt(), dim=0)
    found = pipeline_peers.described_by_numpy(pipeline_peers.rbf_by_numpy(clip, gamma))
    assert np.abs(found - wanted.numpy()).max() < 1e-12
