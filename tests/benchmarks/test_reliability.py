"""The figures of reliability: every script's short form reaches its goals, and what they judge by can fail."""

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict

import pytest

from benchmarks.reliability import cost, damage, faults, faulty_runs, kills, ranks, runs, two_starts
from benchmarks.reliability.figures import Figure, table
from examples.mpii_cooking import run_all
from examples.mpii_cooking.storage import ASIDE, held, write_json
from tests.helpers.programs import ROOT, run_python
from tests.helpers.sharing import made_once

FOLDER = ROOT / "benchmarks" / "reliability"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if "figures.run(__file__" in path.read_text())
OF_RUNS = {"cost", "damage", "faulty_runs", "kills", "ranks", "two_starts"}  # these start runs of the example
CAN_LET_DISKS_FAIL = sys.platform == "linux" and shutil.which("cc")


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in OF_RUNS])
def test_the_short_form_reaches_every_goal(name, tmp_path):
    if name == "faults" and not CAN_LET_DISKS_FAIL:
        pytest.skip("lets the disk fail by a library in front of libc: needs Linux and a C compiler")
    done = run_python(FOLDER / f"{name}.py", "--short", "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert json.loads((tmp_path / "figures.json").read_text())["rows"]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A finished run, and the seconds that it took."""

    def make(folder):
        _, seconds = runs.undisturbed(folder / "run", short=True)
        (folder / "seconds").write_text(str(seconds))

    folder = made_once(tmp_path_factory, "undisturbed", make)
    return folder / "run", float((folder / "seconds").read_text())


def test_damaged_files_of_a_run_are_found_and_made_again(undisturbed, monkeypatch):
    finished, seconds = undisturbed

    def copied(output, *, short):
        assert short
        shutil.copytree(finished, output)
        return runs.outcome(output), seconds

    monkeypatch.setattr(runs, "undisturbed", copied)
    figures = [*damage.measure(short=True)]
    assert len(figures) == len(damage.DAMAGES) + 1
    assert all(figure.is_reached for figure in figures), figures


@pytest.mark.skipif(not CAN_LET_DISKS_FAIL, reason="needs Linux, and a C compiler for the library in front of libc")
def test_a_run_that_was_started_twice_killed_out_of_disk_and_lost_a_rank_ends_as_an_undisturbed_one(
    undisturbed, tmp_path
):
    """The short forms of the other scripts, one after the other, on one run."""
    finished, seconds = undisturbed
    output, generator = tmp_path / "run", random.Random(1)
    winner, problem = two_starts.start_pair(output, generator, short=True)
    assert not problem
    winner.wait_for_work()
    assert not winner.ended_within(generator.uniform(0, kills.LATEST * seconds))
    assert winner.kill(workers=True), "a worker outlived its killed parent"
    failed = faulty_runs.start_with_faults(output, faults.built(tmp_path), 1, generator, short=True)
    assert [problem for _, problem in failed] == [""]
    ended = []
    hits = [ranks.Hit(signal.SIGKILL, 1, 2)]
    assert not ranks.hit_until_it_ends(output, hits, ended, ranks.LATEST * seconds, generator, short=True)
    assert [hit.problem for hit in ended] == [""]
    assert runs.differing(runs.outcome(output), runs.outcome(finished)) == []
    assert not [*output.rglob(f"{ASIDE}*")], "what killed starts were writing"


def test_the_cost_is_the_time_in_digests_syncs_and_locks(monkeypatch):
    """Instead of a run: what costs, and something else, each slowed down to a known time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: time.sleep(0.05))

    def main(output, preset):
        assert preset == "smoke"
        with held(output):  # writes who holds it: a file and its folder are synced
            write_json(output / "numbers.json", {"a": 1}, 1)
        time.sleep(0.1)

    monkeypatch.setattr(run_all, "main", main)
    (figure,) = cost.measure(short=True)
    assert figure.held >= 100
    assert figure.tried - figure.held >= 200


@pytest.mark.parametrize(("held", "tried", "goal", "is_reached"), [
    (100, 100, 1.0, True), (99, 100, 1.0, False), (95, 100, 0.95, True), (94, 100, 0.95, False), (0, 0, 1.0, False),
])  # fmt: skip
def test_a_goal_is_reached_by_the_last_case_that_it_needs(held, tried, goal, is_reached):
    assert Figure("found", held, tried, goal=goal).is_reached == is_reached


def test_the_table_says_why_a_figure_is_below_its_goal():
    good = Figure("kills", 100, 100, anchor="nobody", detail="3 stages", why_below="never shown")
    bad = Figure("lines", 1900, 2000, goal=0.96, why_below="some need a GPU")
    versions = {"torch": "2.13.0"}
    results = {
        "name": "both", "seconds": 61.0, "machine": "a CPU", "versions": versions, "commit": "a" * 40,
        "date": "2026-01-01", "rows": [asdict(good), asdict(bad)],
    }  # fmt: skip
    assert table([json.loads(json.dumps(results))]).splitlines() == [
        "| figure | others show | ours | command, time |",
        "| --- | --- | --- | --- |",
        "| kills | nobody | 100 of 100; 3 stages | `both.py`, 1 min 1 s |",
        "| lines | none found | 1,900 of 2,000 (95.0%); goal 96% | `both.py`, 1 min 1 s |",
        "",
        "- lines, below the goal of 96%: some need a GPU",
        "",
        "a CPU, torch 2.13.0. Commits: `both` aaaaaaaaaa, 2026-01-01.",
    ]


@pytest.mark.parametrize("kind", damage.DAMAGES, ids=lambda kind: kind.name)
def test_damage_changes_every_file(kind):
    generator = random.Random(0)
    for content in (b"\0", b"a", bytes(5000), bytes(range(256)) * 40):
        for _ in range(50):
            changed = bytearray(content)
            kind.apply(changed, generator)
            assert changed != content
            assert len(changed) <= len(content)


def test_a_file_that_stays_damaged_was_not_found(tmp_path):
    output, intact = tmp_path / "run", tmp_path / "intact"
    for folder in (output, intact):
        folder.mkdir()
        (folder / "a.npy").write_bytes(b"good")
        (folder / "manifest.json").write_text("{}")
    named = f"{output / 'a.npy'} was changed"

    def found(content, said=named):
        (output / "a.npy").write_bytes(content)
        return damage.not_found(intact.relative_to(intact) / "a.npy", b"bad", output, intact, said)

    assert found(b"good") == ""
    assert found(b"good", said="") == "was not named"
    assert found(b"bad") == "is not as it was"
    assert found(b"other") == "is not as it was"


def test_only_files_that_are_read_are_damaged_and_one_of_a_unit(tmp_path):
    unit = tmp_path / "unit"
    unit.mkdir()
    for path in (unit / "epoch-1", unit / "epoch-2", tmp_path / "a", tmp_path / ".hidden"):
        path.write_bytes(b"abc")
    (unit / "manifest.json").write_text('{"files": {"epoch-2": ""}}')
    (unit / damage.SPARE).write_text('{"files": {"epoch-1": ""}}')
    (tmp_path / "empty").touch()
    chosen = [damage.choose_files(tmp_path, random.Random(seed)) for seed in range(100)]
    relative = {str(path) for paths in chosen for path in paths}
    assert relative == {"a", "unit/epoch-2", "unit/manifest.json"}
    assert max(map(len, chosen)) == 2


@pytest.mark.parametrize(("operations", "problem"), [
    (["w /o/.a", "s /o/.a", "f /o/.a", "r /o/a", "s /o"], None),
    (["w /o/.a", "f /o/.a", "r /o/a", "s /o"], "a is renamed without being synced"),
    (["s /o/.a", "w /o/.a", "f /o/.a", "r /o/a", "s /o"], "a is renamed without being synced"),
    (["w /o/.a", "s /o/.a", "s /o", "f /o/.a", "r /o/a"], "the folder of a is not synced"),
])  # fmt: skip
def test_a_rename_needs_a_sync_before_and_after(operations, problem):
    assert [*faults.not_synced(operations)] == [problem] * (problem is not None)


def test_a_call_in_a_call_costs_once():
    clock = cost.Clock()
    inner = clock.around(lambda: time.sleep(0.02))

    def outer():
        inner()
        time.sleep(0.02)
        return "result"

    began = time.perf_counter()
    assert clock.around(outer)() == "result"
    inner()
    assert 0.06 <= clock.seconds <= time.perf_counter() - began


def test_outcomes_differ_by_what_follows_from_the_data():
    one = {"labels": "1", "scores of a": "2"}
    assert runs.differing(one, {"scores of a": "2", "labels": "1"}) == []
    assert runs.differing(one, {"labels": "1", "scores of a": "3", "network": "4"}) == ["network", "scores of a"]
