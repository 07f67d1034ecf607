"""The session on a GPU, rehearsed where there is none: every step runs, ends in its time and leaves its results."""

import json
import os
import stat
import sys
import time
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="the steps run kernels")

from benchmarks import cases, device_session, timing_tables
from benchmarks.device_session import Session, Step
from tests.helpers.programs import ROOT, run_python
from tests.helpers.sharing import made_once

HERE = (sys.executable, "-c")
ABSENT = ("av", "grimp", "import_linter", "importlinter", "kornia", "sybil", "tyro", "supervised_st", "_editable")
PROFILE = """\
==PROF== Connected to process 7 (/usr/bin/python3)
"ID","Process ID","Kernel Name","Block Size","Section Name","Metric Name","Metric Unit","Metric Value"
"0","7","forward_kernel","(128, 1, 1)","GPU Speed Of Light Throughput","Duration","us","80.2"
"0","7","forward_kernel","(128, 1, 1)","Launch Statistics","Registers Per Thread","register/thread","64"
"1","7","forward_kernel","(64, 1, 1)","GPU Speed Of Light Throughput","Duration","us","1,089.2"
==PROF== Disconnected from process 7
"""


def python_without(absent, folder):
    """An environment with all that this one has but some packages, and not even the metadata of this project."""
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(torch.__file__).parents[1].iterdir():
        if not path.name.startswith(absent):
            (packages / path.name).symlink_to(path)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    next((folder / "env").rglob("site-packages")).joinpath("all.pth").write_text(str(packages))
    return folder / "env" / "bin" / "python"


def write_profiler(folder):
    """A stand-in for ncu: it runs what it is given, then prints counters as ncu does."""
    folder.mkdir()
    path = folder / "ncu"
    lines = ("import subprocess, sys", "at = next(n for n, a in enumerate(sys.argv) if a.endswith('python'))",
             "subprocess.run(sys.argv[at:], check=True)", f"print({PROFILE!r})")  # fmt: skip
    path.write_text("\n".join([f"#!{sys.executable}", *lines]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The results of a rehearsal by step, and what it printed."""

    def make(folder):
        write_profiler(folder / "tools")
        command = "benchmarks/device_session.py", "--rehearse", "--folder", folder / "out", "--commit", "of a copy"
        steps = [step.name for step in device_session.STEPS if step.name != "sampling"]  # runs what "tests" does here
        done = run_python(
            *command, *steps, python=python_without(ABSENT, folder), PATH=f"{folder / 'tools'}{os.pathsep}/usr/bin",
        )  # fmt: skip
        (folder / "printed").write_text(f"{done.stdout}\n{done.stderr}")

    folder = made_once(tmp_path_factory, "rehearsal", make)
    results = {path.stem: json.loads(path.read_text()) for path in (folder / "out").glob("*.json")}
    return results, (folder / "printed").read_text()


def test_every_step_is_done_without_what_a_gpu_machine_lacks(rehearsed):
    results, printed = rehearsed
    wanted = {step.name: "done" for step in device_session.STEPS if step.name != "sampling"}
    wanted["compute-sanitizer"] = "skipped: compute-sanitizer is not installed"
    assert {name: of_step["status"] for name, of_step in results.items()} == wanted, printed
    assert f"- compute-sanitizer.json: {wanted['compute-sanitizer']}" in printed


def test_every_kernel_is_launched_and_right(rehearsed):
    results, printed = rehearsed
    rows = results["kernels"]["rows"]
    assert [row["failed"] for row in rows] == ["", ""]
    assert {"forward_kernel", "image_gradient_kernel"} <= {it["kernel"] for row in rows for it in row["launches"]}
    assert "never launched" not in printed
    assert results["kernels"]["commit"] == "of a copy"


def test_launches_of_several_tables_are_timed(rehearsed):
    """What a table launches is what it says: nothing is launched again as it was before."""
    tables = rehearsed[0]["launches"]["rows"][0]["tables"]
    forwards = {name: of_table["launches"][0] for name, of_table in tables.items()}
    assert {it["kernel"] for it in forwards.values()} == {"forward_kernel"}
    assert len({(it["block"], it["warps"], it["registers_allowed"]) for it in forwards.values()}) == len(forwards) > 1
    assert all(len(of_table["graph_us"]) == 1 for of_table in tables.values())


def test_host_time_is_taken_with_the_thread_of_autograd_and_without(rehearsed):
    rows = rehearsed[0]["host"]["rows"]
    assert [row["autograd_thread"] for row in rows] == [True, False]
    for row in rows:
        assert row["phase"] == "forward"
        assert row["ratio"]["median"] == pytest.approx(row["us"]["ours"]["median"] / row["us"]["pair"]["median"])


def test_published_cases_are_measured_as_the_tables_need_them(rehearsed):
    results = rehearsed[0]["cuda"]
    first, other = results["rows"]
    assert {"compiled baseline", "compiled affine_sample"} <= {
        name for name, entry in first["contestants"].items() if entry["status"] == "timed"
    }
    assert not [name for name in other["contestants"] if name.startswith("compiled")]
    text = timing_tables.full_table(results | {"device": "cuda"})
    assert "In GPU time, `affine_sample` is faster than the baseline in 0 of 2 cases" in text
    assert "In host time, `affine_sample` is" in text


def test_counters_are_read(rehearsed):
    first = {"Duration [us]": "80.2", "Registers Per Thread [register/thread]": "64"}
    assert rehearsed[0]["ncu"]["rows"] == [
        {"kernel": "forward_kernel", "metrics": first},
        {"kernel": "forward_kernel", "metrics": {"Duration [us]": "1,089.2"}},
    ]


def test_tests_are_counted(rehearsed):
    assert rehearsed[0]["tests"]["counts"] == {"PASSED": 1}
    text = """\
tests/a.py::test_b[FAILED] PASSED                       [  1%]
tests/a.py::test_b[a b] SKIPPED (needs a GPU)           [ 20%]
[gw1] [ 50%] PASSED tests/a.py::test_c[ERROR]
[gw0] [100%] FAILED tests/a.py::test_d[a b]
E   FAILED: tests/a.py::test_e PASSED
"""
    counts = {"PASSED": 2, "SKIPPED": 1, "FAILED": 1}
    assert device_session.read_tests(text) == {"counts": counts, "failed": ["tests/a.py::test_d[a b]"]}


def test_a_sanitizer_that_did_not_end_found_nothing():
    assert device_session.read_sanitizer("========= ERROR SUMMARY: 3 errors")["bad_accesses"] == 3
    assert device_session.read_sanitizer("Device not supported")["bad_accesses"] is None


def test_a_session_takes_less_than_nine_minutes():
    assert sum(step.seconds for step in device_session.STEPS) < 9 * 60
    assert {step.half for step in device_session.STEPS} == set(device_session.HALVES)


def test_named_tests_exist():
    for name in (*device_session.SANITIZED, device_session.REHEARSED_TEST):
        file, _, test = name.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()
    assert all((ROOT / file).exists() for file in device_session.SAMPLING)


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path, dict(os.environ), "", is_rehearsal=False)


def results_of(session, step):
    return json.loads(session.file(step).read_text())


def test_a_step_is_ended_with_its_children_and_keeps_its_rows(session, tmp_path):
    (tmp_path / "child.py").write_text("import time\nwhile True: open('alive', 'w').close(); time.sleep(0.05)")
    program = f"""
import json, pathlib, subprocess, sys, time
pathlib.Path({str(session.folder / "slow.json")!r}).write_text(json.dumps({{"rows": [1]}}))
print("begun", flush=True)
subprocess.Popen([sys.executable, "child.py"], cwd={str(tmp_path)!r})
time.sleep(60)
"""
    step = Step("first", "slow", 3, "sleeps", (*HERE, program))
    assert device_session.run(step, session).startswith("out of time, ")
    found = results_of(session, step)
    assert (found["rows"], found["status"], found["output"]) == ([1], "out of time", "begun\n")
    (tmp_path / "alive").unlink(missing_ok=True)
    time.sleep(0.3)
    assert not (tmp_path / "alive").exists()


def test_a_failed_step_says_so_and_forgets_what_it_had_before(session):
    step = Step("first", "broken", 60, "fails", (*HERE, "print('why'); raise SystemExit(3)"))
    session.file(step).write_text(json.dumps({"rows": ["old"]}))
    assert device_session.run(step, session).startswith("failed: exit code 3")
    found = results_of(session, step)
    assert "rows" not in found
    assert found["output"] == "why\n"


def test_the_next_step_follows_a_failed_one_and_the_session_fails(monkeypatch, tmp_path, capsys):
    steps = [Step(half, name, 60, name, (*HERE, code)) for half, name, code in (
        ("first", "a", "raise SystemExit(1)"), ("first", "b", "print('here')"), ("second", "c", "print('there')"),
    )]  # fmt: skip
    monkeypatch.setattr(device_session, "STEPS", steps)
    ended = {}
    for which in ("first", "second", "b"):
        folder = tmp_path / which
        monkeypatch.setattr(sys, "argv", ["device_session.py", which, "--folder", str(folder)])
        code = device_session.main()
        ended[which] = (code, sorted(path.name for path in folder.iterdir()))
    assert ended == {"first": (1, ["a.json", "b.json"]), "second": (0, ["c.json"]), "b": (0, ["b.json"])}
    assert "- a.json: failed: exit code 1" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["device_session.py", "third"])
    with pytest.raises(SystemExit, match="2"):
        device_session.main()
    assert "no such step: third; there are first, second, a, b, c" in capsys.readouterr().err


def test_no_case_is_begun_once_the_time_is_up(monkeypatch, tmp_path, capsys):
    from benchmarks import device_steps

    clock, threads = SimpleNamespace(now=0.0), torch.get_num_threads()
    monkeypatch.setattr(device_steps, "time", SimpleNamespace(monotonic=lambda: clock.now))
    step = device_steps.Step(tmp_path / "x.json", 10, "", rehearse=True)
    torch.set_num_threads(threads)
    plan = cases.plan("quick", "cpu")
    begun = []
    for case in step.in_time(plan):
        begun.append(case)
        clock.now += 6
    assert begun == plan[:2]
    assert f"{len(plan) - 2} cases were not measured, from {plan[2].name}" in capsys.readouterr().out


def test_all_tables_of_launches_can_replace_the_present_one():
    from benchmarks import launch_tables
    from supervised_st._sampler import launches

    first, *others = launch_tables.tables().items()
    assert first == ("present", launches.LAUNCHES)
    assert all(table.keys() == launches.LAUNCHES.keys() for _, table in others)
    for table in dict(others).values():
        for (_, is_vectorized), launch in table.items():
            assert launch.block % launch.tile_width == 0
            assert launch.registers * launch.warps * 32 <= 65_536
            assert is_vectorized or launch.vector == 1
