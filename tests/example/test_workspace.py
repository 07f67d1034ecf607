"""Units of work: done means complete, and nothing incomplete counts as done."""

import json
import logging
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.mpii_cooking.workspace import Workspace, fingerprint, write_json, written_aside
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
    assert "data.bin is missing or was changed" in caplog.text


def test_a_missing_file_is_noticed(tmp_path, caplog):
    finished(tmp_path, seed=0).path("data.bin").unlink()
    assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "data.bin is missing or was changed" in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": {}}'])
def test_a_broken_manifest_is_noticed(tmp_path, caplog, content):
    finished(tmp_path, seed=0).path("manifest.json").write_text(content)
    assert not Workspace(tmp_path).unit("work", {"seed": 0}).done
    assert "cannot be read" in caplog.text


def test_a_later_commit_replaces_the_earlier(tmp_path):
    unit = finished(tmp_path, seed=0)
    unit.path("more.bin").write_bytes(b"def")
    unit.commit("more.bin", frames=4)
    again = Workspace(tmp_path).unit("work", {"seed": 0})
    assert again.facts == {"frames": 4}
    assert sorted(path.name for path in again.folder.iterdir()) == ["manifest.json", "more.bin"]


def test_a_commit_needs_its_files(tmp_path):
    unit = Workspace(tmp_path).unit("work", {})
    unit.path("data.bin").write_bytes(b"abc")
    with pytest.raises(FileNotFoundError, match=r"other\.bin"):
        unit.commit("data.bin", "other.bin")
    assert not Workspace(tmp_path).unit("work", {}).done


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1})

    def fail_half_way():
        with written_aside(path) as aside:
            aside.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_fingerprint_sees_values_not_their_order():
    assert fingerprint({"a": 1, "b": Setting(0.1, "c")}) == fingerprint({"b": Setting(0.1, "c"), "a": 1})
    assert fingerprint(Setting(0.1, "c")) != fingerprint(Setting(0.2, "c"))


def test_only_values_that_json_can_hold_are_taken():
    with pytest.raises(TypeError, match="JSON values, dataclasses and enums, got set"):
        fingerprint({1, 2})
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint(float("nan"))
