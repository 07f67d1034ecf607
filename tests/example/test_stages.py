"""What a stage makes, and what it says about units that no longer fit."""

import pytest

from examples.mpii_cooking import stages
from examples.mpii_cooking.stages import differences, made_otherwise, make_missing
from examples.mpii_cooking.workspace import Workspace

BEFORE = {"code": {"data.video": "a" * 64}, "version": {"torch": "2.10"}, "rate": 0.1, "clips": [1, 2]}


def make(folder, inputs, names="abc"):
    """Make what is missing of a few units, and return the names of those that were made."""
    made = []

    def one(name, unit):
        made.append(name)
        unit.path("data").write_text(name)
        unit.commit("data")

    make_missing("training", names, lambda name: Workspace(folder).unit(f"models/{name}", inputs), one, "unit")
    return made


def test_only_what_is_missing_or_damaged_is_made_and_nothing_is_said(tmp_path, capsys):
    assert make(tmp_path, BEFORE, "ab") == ["a", "b"]
    assert make(tmp_path, BEFORE) == ["c"]
    (tmp_path / "models" / "b" / "data").write_text("x")
    assert make(tmp_path, BEFORE) == ["b"]
    assert make(tmp_path, BEFORE) == []
    assert "no longer fit" not in capsys.readouterr().out


@pytest.mark.parametrize(("now", "why"), [
    ({"rate": 0.2}, "rate was 0.1, is 0.2"),
    ({"version": {"torch": "2.11"}}, "version torch was 2.10, is 2.11"),
    ({"code": {"data.video": "b" * 64}}, "code data.video changed"),
    ({"code": {"data.film": "a" * 64}}, "code data.film changed; code data.video changed"),
    ({"clips": [1]}, "clips changed"),
    ({"rate": 1, "clips": [], "version": {"torch": "2"}, "code": {}},
     "clips changed; code data.video changed; rate was 0.1, is 1; and 1 more"),
])  # fmt: skip
def test_it_is_said_what_is_made_again_and_why(tmp_path, capsys, now, why):
    make(tmp_path, BEFORE)
    assert make(tmp_path, BEFORE | now) == ["a", "b", "c"]
    assert capsys.readouterr().out.splitlines() == [f"training: 3 no longer fit and are made again: {why}"]
    assert make(tmp_path, BEFORE | now) == []


def test_a_plan_says_what_other_code_and_other_versions_made(tmp_path, monkeypatch):
    make(tmp_path / "seed-0", BEFORE, "ab")
    monkeypatch.setattr(stages, "made_now", lambda was: was)
    assert made_otherwise([tmp_path / "seed-0"]) == []
    monkeypatch.setattr(stages, "made_now", lambda was: was | {"version": {"torch": "3"}})
    said = "models: 2 no longer fit and are made again: version torch was 2.10, is 3"
    assert made_otherwise([tmp_path / "seed-0", tmp_path / "seed-1"]) == [said]


def test_differences_have_the_path_to_every_value():
    old, new = {"a": {"b": 1, "c": 2}, "d": "x"}, {"a": {"b": 1, "c": 3}, "e": "y"}
    assert list(differences(old, new)) == ["a c was 2, is 3", "d changed", "e changed"]
    assert list(differences(old, old)) == []
