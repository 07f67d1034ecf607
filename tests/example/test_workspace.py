"""Units of work: done means complete, and nothing incomplete counts as done."""

import json
import logging
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.mpii_cooking.workspace import Unit, Workspace, fingerprint
from tests.helpers.programs import run_python


@dataclass(frozen=True)
class Setting:
    rate: float
    name: str


def finished(root: Path, **inputs: object):
    unit = Workspace(root).unit("work", inputs)
    unit.path("data.bin").write_bytes(b"abc")
    unit.commit("data.bin", frames=3)
    return unit


def test_a_committed_unit_is_done_and_keeps_its_facts(tmp_path):
    assert finished(tmp_path, seed=0).done
    again = Workspace(tmp_path).unit("work", {"seed": 0})
    assert again.done
    assert again.facts == {"frames": 3}
    assert again.path("data.bin").read_bytes() == b"abc"


def test_an_unfinished_unit_has_no_facts(tmp_path):
    unit = Workspace(tmp_path).unit("work", {})
    assert not unit.done
    with pytest.raises(RuntimeError, match="is missing, damaged or made from other inputs"):
        _ = unit.facts


def test_content_is_that_of_the_files(tmp_path):
    def content(name, data, **inputs):
        unit = Workspace(tmp_path / name).unit("work", inputs)
        unit.path("data.bin").write_bytes(data)
        unit.commit("data.bin", frames=len(name))
        return unit.content

    same = content("first", b"abc", seed=0)
    assert same == content("again", b"abc", seed=1)
    assert same != content("other", b"xyz", seed=0)
    assert Workspace(tmp_path / "first").unit("work", {"seed": 2}).content is None


def test_other_inputs_are_other_work(tmp_path):
    finished(tmp_path, seed=0)
    assert not Workspace(tmp_path).unit("work", {"seed": 1}).done


@pytest.mark.parametrize("moment", ["writing", "before commit"])
def test_a_killed_unit_is_not_done(tmp_path, moment):
    killed = run_python("-m", "tests.example.programs.write_and_die", tmp_path, moment)
    assert killed.returncode == -signal.SIGKILL
    unit = Workspace(tmp_path).unit("work", {"seed": 0})
    assert not unit.done
    assert unit.path("half.txt").exists() == (moment == "before commit")
    unit.path("whole.txt").write_text("whole")
    unit.commit("whole.txt")
    assert sorted(path.name for path in unit.folder.iterdir()) == ["manifest.json", "whole.txt"]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_flipped_bit_is_noticed(tmp_path, caplog, position):
    path = finished(tmp_path, seed=0).path("data.bin")
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "data.bin was changed since it was written; it is kept as data.bin.damaged" in caplog.text
    assert path.with_name("data.bin.damaged").read_bytes() == content
    finished(tmp_path, seed=0)
    assert Workspace(tmp_path).unit("work", {"seed": 0}).done


def test_a_missing_file_is_noticed(tmp_path, caplog):
    finished(tmp_path, seed=0).path("data.bin").unlink()
    assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "data.bin is missing; it is made again" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}}'])
def test_a_broken_manifest_is_noticed(tmp_path, caplog, content):
    finished(tmp_path, seed=0).path("manifest.json").write_text(content)
    assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "manifest.json.damaged, and made again" in caplog.text


@pytest.mark.parametrize("change", [lambda facts: facts.update(frames=2), lambda facts: facts.pop("frames")])
def test_changed_facts_are_noticed(tmp_path, caplog, change):
    path = finished(tmp_path, seed=0).path("manifest.json")
    content = json.loads(path.read_text())
    change(content["facts"])
    path.write_text(json.dumps(content))
    assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "manifest.json was changed since it was written" in caplog.text


def commit_epoch(root: Path, epoch: int, **inputs: object):
    unit = Workspace(root).unit("work", inputs)
    unit.path(f"{epoch}.bin").write_bytes(bytes([epoch]))
    unit.commit(f"{epoch}.bin", epoch=epoch)
    return unit


def names(unit: Unit):
    return sorted(path.name for path in unit.folder.iterdir())


def test_the_last_two_commits_from_the_same_inputs_stay_and_the_last_counts(tmp_path):
    for epoch in (1, 2, 3):
        unit = commit_epoch(tmp_path, epoch)
    assert names(unit) == ["2.bin", "3.bin", "manifest-before.json", "manifest.json"]
    assert Workspace(tmp_path).unit("work", {}).facts == {"epoch": 3}
    assert names(commit_epoch(tmp_path, 1, seed=1)) == ["1.bin", "manifest.json"]


@pytest.mark.parametrize("damaged", ["3.bin", "manifest.json"])
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_commit_gives_way_to_the_one_before(tmp_path, damaged, change):
    for epoch in (1, 2, 3):
        unit = commit_epoch(tmp_path, epoch)
    change(unit.folder / damaged)
    for _ in range(2):
        again = Workspace(tmp_path).unit("work", {})
        assert again.facts == {"epoch": 2}
        assert again.file("2.bin").read_bytes() == bytes([2])
    left = [name for name in names(commit_epoch(tmp_path, 3)) if not name.endswith(".damaged")]
    assert left == ["2.bin", "3.bin", "manifest-before.json", "manifest.json"]
    assert Workspace(tmp_path).unit("work", {}).facts == {"epoch": 3}
    (unit.folder / "manifest.json").unlink()
    assert Workspace(tmp_path).unit("work", {}).facts == {"epoch": 2}


def test_a_commit_whose_files_were_overwritten_does_not_stay(tmp_path):
    commit_epoch(tmp_path, 1)
    unit = commit_epoch(tmp_path, 1)
    assert names(unit) == ["1.bin", "manifest.json"]


def test_two_damaged_commits_are_no_commit(tmp_path):
    for epoch in (1, 2):
        unit = commit_epoch(tmp_path, epoch)
    for name in ("1.bin", "2.bin"):
        (unit.folder / name).write_bytes(b"")
    assert not Workspace(tmp_path).unit("work", {}).done


def test_a_commit_needs_its_files(tmp_path):
    unit = Workspace(tmp_path).unit("work", {})
    unit.path("data.bin").write_bytes(b"abc")
    with pytest.raises(FileNotFoundError, match=r"other\.bin"):
        unit.commit("data.bin", "other.bin")
    assert not Workspace(tmp_path).unit("work", {}).done


def test_the_fingerprint_sees_values_not_their_order():
    assert fingerprint({"a": 1, "b": Setting(0.1, "c")}) == fingerprint({"b": Setting(0.1, "c"), "a": 1})
    assert fingerprint(Setting(0.1, "c")) != fingerprint(Setting(0.2, "c"))


def test_only_values_that_json_can_hold_are_taken():
    with pytest.raises(TypeError, match="JSON values, dataclasses and enums, got set"):
        fingerprint({1, 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint(float("nan"))
