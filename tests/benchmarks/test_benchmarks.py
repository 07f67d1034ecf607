"""The benchmark of affine_sample: it measures right, wrong answers get no time, and tables show the results."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import affine_sample, cases, contestants, correctness, measure, records, saving, tables, timing_tables
from benchmarks.cases import Case
from tests.helpers.programs import run_python

TINY = Case("tiny", 2, 3, 12, 8)


def ours(sample):
    return contestants.Contestant(contestants.OURS, sample)


def test_ratios_are_taken_within_rounds():
    """A machine that slows down tenfold half-way changes the times, not the ratio."""
    own, other = [1.0, 1.0, 10.0, 10.0, 10.0], [2.0, 3.0, 20.0, 20.0, 10.0]
    assert measure.speedup(other, own) == (2.0, 2.0, 2.0)
    assert measure.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)


def test_every_call_has_one_turn_per_round_in_changing_order():
    log = []

    def clock(call, repeats):
        log.append((call(), repeats))
        return {"slow": 5e-3, "fast": 1e-6}[call()]

    seconds = measure.take_turns({name: lambda name=name: name for name in ("slow", "fast")}, clock, rounds=8)
    assert seconds == {"slow": [5e-3] * 8, "fast": [1e-6] * 8}
    turns = log[-16:]
    rounds = [turns[i : i + 2] for i in range(0, 16, 2)]
    assert all(dict(one) == {"slow": 1, "fast": 2000} for one in rounds)  # a turn lasts two milliseconds or one call
    assert len({one[0][0] for one in rounds}) == 2


def test_the_cpu_clock_calls_as_often_as_it_says():
    calls = []
    assert measure.cpu_clock(lambda: calls.append(1), 7) > 0
    assert len(calls) == 7


@pytest.mark.parametrize("theta", cases.FAMILIES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("side", "out", "transforms"), [(12, 8, 1), (8, 8, 1), (12, 5, 3)])
def test_pixels_read_are_those_that_get_a_gradient(theta, align_corners, side, out, transforms):
    case = Case("tiny", 2, 1, side, out, theta=theta, align_corners=align_corners, transforms=transforms)
    image = torch.zeros(case.image_shape, dtype=torch.float64, requires_grad=True)
    at = cases.pixel_coordinates(case).flatten(1, 2)  # normalized by align_corners=True, whatever the case's own
    sampled = torch.nn.functional.grid_sample(image, at * 2 / (side - 1) - 1, align_corners=True)
    (weight,) = torch.autograd.grad(sampled.sum(), image)
    assert cases.pixels_read(case) == (weight > 1e-9).sum()


def test_ideal_bytes_of_a_known_transform():
    """Half of the output is out of bounds: the right half of the image is read, with the column where it starts."""
    case = Case("tiny", 2, 3, 8, 8, theta="half outside", dtype="float16")
    read, written, whole = 2 * 3 * 8 * 4 * 2, 2 * 3 * 64 * 2, 2 * 3 * 64 * 2
    found = {phase: cases.ideal_bytes(replace(case, phase=phase)) for phase in cases.PHASES}
    forward = read + written
    assert found == {
        "forward": forward,
        "theta": forward + written + read,
        "image": forward + written + whole,
        "both": forward + written + read + whole,
    }
    assert cases.ideal_bytes(replace(case, dtype="uint8", transforms=4)) == read // 2 + 4 * 2 * written


@pytest.mark.parametrize("align_corners", [False, True])
def test_conversions_of_theta_describe_the_same_transform(align_corners):
    """In float64: kornia's pixels, and the other convention."""
    case = replace(TINY, align_corners=align_corners, theta="2x zoom in")
    steps = torch.arange(case.out, dtype=torch.float64)
    pixels = torch.stack((*torch.meshgrid(steps, steps, indexing="xy"), torch.ones(case.out, case.out)), -1)
    at = cases.pixel_coordinates(case)[:, 0]
    forward = contestants._forward_matrix(cases.thetas(case)[:, 0].double(), case)
    back = torch.einsum("nij,nhwj->nhwi", forward[..., :2], at) + forward[..., 2][:, None, None]
    torch.testing.assert_close(back, pixels[..., :2].expand_as(back), rtol=0, atol=1e-12)

    if not align_corners:
        theta, image = torch.randn(2, 2, 3).double() / 2, torch.randn(case.image_shape).double()
        want = contestants.grid_sampled(image, theta, case.size, False)
        corners = contestants._corner_theta(theta, case)
        torch.testing.assert_close(contestants.grid_sampled(image, corners, case.size, True), want, rtol=0, atol=1e-12)


def test_the_baseline_in_layout_keeps_values_and_layout():
    image = torch.randn(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    arguments = (image, torch.eye(2, 3)[None] * 0.7, (5, 5), False)
    plain, kept = contestants.baseline(*arguments), contestants._baseline_in_layout(*arguments)
    assert not plain.is_contiguous(memory_format=torch.channels_last)
    assert kept.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, kept)


def test_kornia_solves_the_same_problem():
    pytest.importorskip("kornia")
    peer = next(peer for peer in contestants.contestants() if peer.name == "kornia")
    for align_corners, dtype in itertools.product((False, True), ("float32", "bfloat16")):
        inputs = correctness.Inputs(replace(TINY, phase="both", align_corners=align_corners, dtype=dtype), "cpu")
        assert not correctness.solves_another_problem(correctness.errors(correctness.answers(peer, inputs), inputs))


@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"dtype": "float16"},
        {"dtype": "uint8"},
        {"layout": "channels_last"},
        {"align_corners": True},
        {"transforms": 3},
    ],
    ids=str,
)
def test_the_library_is_right(axes):
    case = replace(TINY, phase="theta" if axes.get("dtype") == "uint8" else "both", **axes)
    row = affine_sample.run_case(case, "cpu", 1, contestants.contestants()[:3])
    assert row["failed"] == ""
    assert set(row["contestants"][contestants.OURS]["errors"]) == {"values", *cases.PHASES[case.phase]}


class _Broken:
    """The right values with gradients that are a little too large."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, image, theta, size, align_corners):
        sampled = contestants.baseline(image, theta, size, align_corners)
        return sampled.detach() + self.factor * (sampled - sampled.detach())


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (lambda *a: contestants.baseline(*a[:3], not a[3]), "error of values"),
        (lambda *a: contestants.baseline(*a) * float("nan"), "error of values is nan"),
        (_Broken(1.001), "error of image"),
        (lambda i, t, *a: contestants.baseline(i, t + 0 * t.detach(), *a) + (t - t.detach()).sum(), "error of theta"),
    ],
    ids=["corners", "nan", "gradients", "theta"],
)
def test_a_wrong_library_is_not_timed(broken, complaint):
    everyone = [ours(broken), *contestants.contestants()[1:2]]
    row = affine_sample.run_case(replace(TINY, phase="both"), "cpu", 1, everyone)
    assert row["failed"].startswith(complaint)
    assert not any("us" in entry for entry in row["contestants"].values())


def test_a_wrong_or_failing_contestant_is_named_and_not_timed():
    def raises(*_):
        raise ValueError("not\nthis")

    mirrored = contestants.Contestant("mirrored", lambda *a: contestants.baseline(*a).flip(3))
    everyone = [*contestants.contestants()[:2], mirrored, contestants.Contestant("refusing", raises)]
    entries = affine_sample.run_case(TINY, "cpu", 1, everyone)["contestants"]
    assert entries["mirrored"]["status"] == "wrong"
    assert entries["refusing"] == {"status": "cannot", "reason": "ValueError: not"}
    assert [name for name, entry in entries.items() if "us" in entry] == [contestants.OURS, "baseline"]


def test_large_half_planes_never_reach_grid_sample_on_a_cpu():
    case = Case("tiny", 1, 1, 182, 4, dtype="bfloat16")
    entries = affine_sample.run_case(case, "cpu", 1, contestants.contestants()[:3])["contestants"]
    assert entries["baseline"]["status"] == "cannot"
    assert entries["widened baseline"]["status"] == "timed"


def test_plans_name_every_case_once_and_cover_the_axes():
    for device in ("cpu", "cuda"):
        quick, default, full = (cases.plan(name, device) for name in ("quick", "default", "full"))
        assert len({case.name for case in full}) == len(full)
        assert set(quick) | set(default) <= set(full) | set(quick)
        for field, values in {
            "phase": set(cases.PHASES), "theta": set(cases.FAMILIES), "layout": set(cases.LAYOUTS),
            "dtype": {*cases.DTYPES, "uint8"}, "align_corners": {False, True}, "transforms": {1, 4, 8, 16},
        }.items():  # fmt: skip
            assert {getattr(case, field) for case in default} == values, field


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the benchmark on made-up times, with some arguments; returns its exit code."""
    path = tmp_path / "cpu.json"

    def invented(case, device, rounds, everyone, gauges):
        entry = {"status": "timed", "errors": {"values": 0.0}, "us": [1.0] * rounds}
        row = {"case": vars(case), "failed": "", "ideal_bytes": 1}
        return row | {"contestants": {contestants.OURS: entry, "baseline": entry}}

    def run(*arguments, measured=invented):
        monkeypatch.setattr(affine_sample, "run_case", measured)
        monkeypatch.setattr(affine_sample.measure, "copy_gigabytes_per_second", lambda *_: 10.0)
        monkeypatch.setattr(sys, "argv", ["affine_sample.py", "--quick", "--json", str(path), *arguments])
        return affine_sample.main()

    threads = torch.get_num_threads()
    yield run, path, invented
    torch.set_num_threads(threads)


def test_a_stopped_run_resumes(run, capsys):
    run, path, invented = run
    seen = []

    def stops_at_the_third(case, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(case)
        return invented(case, *rest)

    def notes(case, *rest):
        seen.append(case)
        return invented(case, *rest)

    assert run(measured=stops_at_the_third) == 130
    assert str(path) in capsys.readouterr().out
    assert run(measured=notes) == 0
    plan = cases.plan("quick", "cpu")
    assert seen == plan
    assert [Case(**row["case"]) for row in json.loads(path.read_text())["rows"]] == plan
    assert run("--fresh", "--shapes", "small", measured=notes) == 0
    assert seen[len(plan) :] == [case for case in plan if case.group == "small"]


def test_a_failed_case_is_measured_again_and_ends_with_an_error(run):
    run, path, invented = run
    one = ("--shapes", "stream", "--rounds", "2")

    def fails(case, *rest):
        return invented(case, *rest) | {"failed": "error of values is 1", "contestants": {}}

    assert run(*one, measured=fails) == 1
    assert "**failed**: error of values is 1" in timing_tables.full_table(json.loads(path.read_text()))
    assert run(*one) == 0


def test_rows_of_another_setting_are_not_mixed_in(run):
    run, _, _ = run
    assert run("--shapes", "small", "--rounds", "2") == 0
    with pytest.raises(
        SystemExit, match=r"was measured with \{'rounds': 2\}, this run has \{'rounds': 3\}: pass --fresh"
    ):
        run("--shapes", "small", "--rounds", "3")
    with pytest.raises(SystemExit, match="no case has any of"):
        run("--shapes", "elephants", "--rounds", "2")


def test_the_command_runs(tmp_path):
    path = tmp_path / "results.json"
    done = run_python("benchmarks/affine_sample.py", "--quick", "--json", path, "--rounds", "2", "--shapes", "small")
    assert done.returncode == 0, done.stderr
    assert_complete(json.loads(path.read_text()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_timed_apart_from_its_host():
    everyone = contestants.contestants()
    row = affine_sample.run_case(replace(TINY, phase="both"), "cuda", 2, everyone, measure.GPU)
    assert row["failed"] == ""
    own = row["contestants"][contestants.OURS]
    assert len(own["graph_us"]) == len(own["host_us"]) == 2
    assert own["peak_bytes"] > 0


def test_calls_that_no_graph_can_hold_have_host_time_only():
    def replay(call):
        if not isinstance(call(), torch.Tensor):  # gradients
            raise RuntimeError("not\nthis")
        return call

    gauges = measure.Gauges(replay, lambda *_: 3e-6, lambda *_: 7e-6, lambda call: 5)
    for phase, of_graph in (("forward", {"graph_us": [3.0, 3.0]}), ("theta", {})):
        row = affine_sample.run_case(replace(TINY, phase=phase), "cpu", 2, contestants.contestants()[:2], gauges)
        for entry in row["contestants"].values():
            times = {name: value for name, value in entry.items() if name.endswith("_us")}
            assert times == of_graph | {"host_us": [7.0, 7.0]}
            assert entry["peak_bytes"] == 5
            assert entry.get("graph_reason") == (None if phase == "forward" else "not")


def test_the_host_clock_never_lets_the_queue_of_a_gpu_fill(monkeypatch):
    """Beyond about a thousand launches a host waits, and its time would be that of the GPU."""
    log = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("wait"))
    assert measure.host_clock(lambda: log.append("call"), 1000) > 0
    assert log == ["wait", *["call"] * measure.UNAWAITED, "wait"]


def test_tf32_is_on_during_the_call_only():
    def setting():
        return torch.backends.cuda.matmul.allow_tf32

    assert contestants._with_tf32(setting)()
    assert not setting()


@pytest.mark.parametrize("where", [["--json", "/somewhere/a.json"], ["--json=a.json"], []])
def test_the_recorded_command_says_what_was_measured_and_not_where_it_was_written(tmp_path, monkeypatch, where):
    monkeypatch.setattr(sys, "argv", ["benchmarks/graphs.py", "--rounds", "3", *where, "--quick"])
    saved = saving.save(tmp_path / "a.json", {"rows": []})
    assert saved["command"] == "python benchmarks/graphs.py --rounds 3 --quick"


def assert_complete(results):
    """Every contestant of every row has times or a reason, and the library has times unless it failed."""
    assert {"device", "machine", "threads", "commit", "date", "command", "versions"} <= set(results)
    assert results["copy_gigabytes_per_second"] > 0
    for row in results["rows"]:
        assert Case(**row["case"]).name
        assert row["ideal_bytes"] > 0
        wanted = {"values", *cases.PHASES[row["case"]["phase"]]}
        for name, entry in row["contestants"].items():
            if entry["status"] == "timed":
                times = [entry[kind] for kind in timing_tables.KINDS[results["device"]] if kind in entry]
                assert times or "us" in entry  # of version 0.2.0, whose graphs held fast cases only
                assert all(len(us) == results["rounds"] and min(us) > 0 for us in times)
                assert set(entry["errors"]) == wanted
                assert all(math.isfinite(error) for error in entry["errors"].values())
                assert ("peak_bytes" in entry) == (results["device"] == "cuda")
            else:
                assert row["failed"] or (name != contestants.OURS and entry["reason"])
        assert row["failed"] or row["contestants"][timing_tables._baseline(row)]["status"] == "timed"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_published_results_are_complete(device):
    """A plan may grow, or stop early; the table then says which cases it lacks."""
    results = tables.newest(device)
    if results is None:
        pytest.skip("not measured yet")
    assert results["device"] == device
    assert_complete(results)
    missing = set(cases.plan("default", device)) - {Case(**row["case"]) for row in results["rows"]}
    text = timing_tables.full_table(results)
    assert (f"Cases of the plan that have not been measured: {len(missing)}." in text) == bool(missing)


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_published_tables_are_what_the_results_give(page):
    assert tables.rendered(page.read_text()) == page.read_text()


def test_every_table_is_on_a_page():
    text = "".join(page.read_text() for page in tables.PAGES)
    assert all(f"<!-- table: {name} -->" in text for name in tables.TABLES)


HEAD = {
    "device": "cpu", "machine": "M", "threads": 1, "rounds": 2, "versions": {"torch": "T", "supervised-st": "S"},
    "commit": "c" * 40, "date": "D", "command": "C", "absent": {"roi_align": "R"}, "copy_gigabytes_per_second": 6.0,
}  # fmt: skip


def invented_row(case, own, baseline, kind="us", **others):
    times = {"affine_sample": own, "baseline": baseline}
    timed = {name: {"status": "timed", "errors": {"values": 1e-6}, kind: us} for name, us in times.items()}
    what = {"case": vars(case), "failed": "", "ideal_bytes": 3000}
    return what | {"contestants": timed | others}


SMALL = Case("small", 2, 3, 12, 8)


def test_tables_show_losses_and_reasons():
    refused = {"kornia": {"status": "cannot", "reason": "no such thing"}}
    won, lost = invented_row(SMALL, [1.0, 1.0], [2.0, 4.0]), replace(SMALL, phase="both")
    text = timing_tables.full_table(HEAD | {"rows": [won, invented_row(lost, [2.0, 2.0], [1.0, 1.0], **refused)]})
    assert "faster than the baseline in 1 of 2 cases, slower in 1, and within the spread in 0. It failed in 0." in text
    assert "further from float64 than the baseline's in 0 of 2." in text
    assert "| 1.00 | 2.00 | 3.00 (2.50 to 3.50) |" not in text
    assert "| 1.00 | 3.00 | 3.00 (2.50 to 3.50) |  | 3.00 (50%) | 1e-06, 1e-06 |" in text
    assert "| 2.00 | 1.00 | 0.50 (0.50 to 0.50) | cannot (1) | 1.50 (25%) | 1e-06, 1e-06 |" in text
    assert text.endswith("- roi_align did not take part: R\n- (1) kornia: no such thing")
    # Who would use it is said once for neighboring rows.
    assert text.count(cases.USES["small"] + " |") == 1


def on_gpu(case, **times):
    """A row of a GPU: by kind, the library's time and the baseline's."""
    row = invented_row(case, [1.0, 1.0], [2.0, 2.0])
    for place, (entry, peak) in enumerate(zip(row["contestants"].values(), (1e6, 2.5e6), strict=True)):
        entry |= {kind: [both[place]] * 2 for kind, both in times.items()} | {"peak_bytes": peak}
    return row


def test_tables_of_a_gpu_keep_its_time_and_the_hosts_apart():
    """The time of calls and cache together, which version 0.2.0 stored as ``us``, is in no column."""
    rows = [on_gpu(SMALL, graph_us=(2.0, 8.0), host_us=(30.0, 15.0)), on_gpu(replace(SMALL, phase="both"))]
    text = timing_tables.full_table(HEAD | {"device": "cuda", "rows": rows})
    assert "| GPU time, us | baseline's | GPU time: times as fast | GB/s (of a copy's) | host time, us |" in text
    assert "| 2.00 | 8.00 | 4.00 (4.00 to 4.00) | 1.50 (25%) | 30.0 | 15.0 | 0.50 (0.50 to 0.50) |" in text
    assert "| not measured | not measured |  | not measured | not measured | not measured |  |" in text
    assert "In GPU time, `affine_sample` is faster than the baseline in 1 of 1 cases" in text
    assert "In host time, `affine_sample` is faster than the baseline in 0 of 1 cases, slower in 1" in text
    assert "| 1.0, 2.5 |" in text


def test_a_kind_of_time_without_results_is_named_and_has_no_column():
    text = timing_tables.full_table(HEAD | {"device": "cuda", "rows": [on_gpu(SMALL, graph_us=(2.0, 8.0))]})
    assert "Host time has not been measured." in text
    assert "host time, us" not in text


def test_the_baseline_is_the_faster_one_in_gpu_time():
    row = on_gpu(SMALL, graph_us=(2.0, 8.0), host_us=(1.0, 1.0))
    row["contestants"]["widened baseline"] = {"graph_us": [4.0, 4.0], "host_us": [9.0, 9.0], "us": [0.1, 0.1]}
    row["contestants"]["widened baseline"] |= {"status": "timed", "errors": {"values": 0.0}, "peak_bytes": 0}
    text = timing_tables.full_table(HEAD | {"device": "cuda", "rows": [row]})
    assert "| 2.00 | 4.00 (widened) | 2.00 (2.00 to 2.00) |" in text
    assert "| 1.00 | 9.00 (widened) | 9.00 (9.00 to 9.00) |" in text


def test_the_headline_is_a_sentence_and_five_rows():
    """Losses and what has not been measured are in both."""
    cpu = [invented_row(case, [2.0, 2.0], [1.0, 1.0]) for case in cases.headline("cpu")]
    first, second, *_ = cases.headline("cuda")
    gpu = [on_gpu(first, graph_us=(1.0, 6.0)), on_gpu(second, graph_us=(1.0, 3.0))]
    text = timing_tables.headline_table(HEAD | {"rows": cpu}, HEAD | {"device": "cuda", "rows": gpu})
    sentence, _, table = text.partition("\n\n")
    assert sentence == (
        "Compared with the baseline, `affine_sample` is 3 to 6 times as fast in GPU time (slower in none of 2 cases), "
        "0.5 to 0.5 times as fast in CPU time (slower in 5 of 5 cases); host time has not been measured."
    )
    rows = table.splitlines()[2:7]
    assert all(row.endswith("| 2.00 | 0.50 |") for row in rows)
    assert [row.count("not measured") for row in rows] == [0, 0, 1, 1, 1]  # for host time there is no column
    assert "| 1.00 | 6.00 | 2.00 | 0.50 |" in rows[0]
    assert len({case.use for case in cases.headline("cuda")}) == 5


def test_the_headline_is_of_cases_that_are_measured():
    for device in ("cpu", "cuda"):
        assert set(cases.headline(device)) <= set(cases.plan("default", device))
        assert {case.group for case in cases.plan("full", device)} == cases.USES.keys()


def test_quick_results_are_not_among_the_published():
    assert records.RESULTS in records.results_file("cpu").parents
    assert records.RESULTS not in records.results_file("cpu", is_quick=True).parents


def test_uncommitted_changes_to_what_is_measured_are_named(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    names = ("supervised_st/a.py", "examples/b.py", "benchmarks/b.py", "benchmarks/results/c.json")
    files = {name: tmp_path / name for name in names}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(records, "ROOT", tmp_path)
    found = {}
    for name, path in files.items():
        path.write_text("changed")
        found[name] = records._commit().partition(" ")[2]
        path.write_text("")
    assert found == {
        "supervised_st/a.py": "with changes",
        "examples/b.py": "with changes",
        "benchmarks/b.py": "with changes",
        "benchmarks/results/c.json": "",
    }
