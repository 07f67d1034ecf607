"""Where results come from: timings of a job over all of its starts, and the commit of the code."""

import re
import subprocess

import pytest

from examples.mpii_cooking.report import provenance


def test_timings_add_up_per_job_in_the_order_of_their_stages(tmp_path):
    path = tmp_path / "timings.json"

    def total(timings):
        return sum(row.seconds for row in timings.rows())

    for job, stages in (("quick", ("train", "classify")), ("smoke", ("train",)), ("quick", ("train", "classify"))):
        timings = provenance.Timings(path, job)
        before = total(timings)
        for stage in stages:
            with timings.stage(stage):
                pass
        assert total(timings) > before
    assert [row.stage for row in provenance.Timings(path, "quick").rows()] == ["train", "classify"]
    assert total(provenance.Timings(path, "quick")) == total(timings)
    assert [row.stage for row in provenance.Timings(path, "smoke").rows()] == ["train"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"quick": [{"stage": "train"}]}'])
def test_damaged_timings_are_set_aside(tmp_path, content):
    path = tmp_path / "timings.json"
    path.write_text(content)
    with provenance.Timings(path, "quick").stage("train"):
        pass
    assert path.with_name("timings.json.damaged").read_text() == content
    assert [row.stage for row in provenance.Timings(path, "quick").rows()] == ["train"]


def test_a_commit_says_whether_the_code_was_changed_since(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    assert provenance.commit(tmp_path) is None
    folder = tmp_path / "example"
    folder.mkdir()
    (folder / "code.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "results.json").write_text("{}")
    (folder / "results" / "kept").mkdir(parents=True)
    (folder / "results" / "kept" / "results.json").write_text("{}")
    assert re.fullmatch("[0-9a-f]{40}", provenance.commit(folder))
    (folder / "code.py").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{40} \+ local changes", provenance.commit(folder))
