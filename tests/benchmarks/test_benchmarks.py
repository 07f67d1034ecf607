"""The benchmark of affine_sample: it measures right, wrong answers get no time, and tables show the results."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import affine_sample, cases, contestants, correctness, measure, records, tables, timing_tables
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
            "dtype": {*cases.DTYPES, "uint8"}, "align_corners": {False, True}, "transforms": {1, 4},
        }.items():  # fmt: skip
            assert {getattr(case, field) for case in default} == values, field


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the benchmark on made-up times, with some arguments; returns its exit code."""
    path = tmp_path / "cpu.json"

    def invented(case, device, rounds, everyone):
        entry = {"status": "timed", "errors": {"values": 0.0}, "us": [1.0] * rounds}
        row = {"case": vars(case), "failed": "", "ideal_bytes": 1, "baseline": "baseline"}
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
def test_a_gpu_is_timed_with_and_without_its_host():
    row = affine_sample.run_case(replace(TINY, phase="both"), "cuda", 2, contestants.contestants())
    assert row["failed"] == ""
    own = row["contestants"][contestants.OURS]
    assert len(own["us"]) == len(own["graph_us"]) == 2
    assert own["peak_bytes"] > 0


def test_tf32_is_on_during_the_call_only():
    def setting():
        return torch.backends.cuda.matmul.allow_tf32

    assert contestants._with_tf32(setting)()
    assert not setting()


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
                assert len(entry["us"]) == results["rounds"]
                assert all(us > 0 for us in entry["us"])
                assert set(entry["errors"]) == wanted
                assert all(math.isfinite(error) for error in entry["errors"].values())
                assert ("peak_bytes" in entry) == (results["device"] == "cuda")
            else:
                assert row["failed"] or (name != contestants.OURS and entry["reason"])
        assert row["failed"] or row["contestants"][row["baseline"]]["status"] == "timed"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_published_results_are_complete(device):
    """A plan may stop early on a GPU; the table then says how many cases it lacks."""
    results = tables.newest(device)
    if results is None:
        pytest.skip("not measured yet")
    assert results["device"] == device
    assert_complete(results)
    missing = set(cases.plan("default", device)) - {Case(**row["case"]) for row in results["rows"]}
    assert not missing or (
        device == "cuda" and f"{len(missing)} more cases of the plan" in timing_tables.full_table(results)
    )


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


def invented_row(case, own, baseline, **others):
    times = {"affine_sample": own, "baseline": baseline}
    timed = {name: {"status": "timed", "errors": {"values": 1e-6}, "us": us} for name, us in times.items()}
    what = {"case": vars(case), "failed": "", "ideal_bytes": 3000, "baseline": "baseline"}
    return what | {"contestants": timed | others}


def test_tables_show_losses_and_reasons():
    refused = {"kornia": {"status": "cannot", "reason": "no such thing"}}
    won, lost = invented_row(TINY, [1.0, 1.0], [2.0, 4.0]), replace(TINY, phase="both")
    text = timing_tables.full_table(HEAD | {"rows": [won, invented_row(lost, [2.0, 2.0], [1.0, 1.0], **refused)]})
    assert "faster than the baseline in 1, slower in 1, and within the spread in 0; it failed in 0." in text
    assert "further from float64 than the baseline's in 0." in text
    assert "| 1.00 | 3.00 | 3.00 (2.50 to 3.50) |  | 3.00 (50%) | 1e-06, 1e-06 |" in text
    assert "| 2.00 | 1.00 | 0.50 (0.50 to 0.50) | cannot (1) | 1.50 (25%) | 1e-06, 1e-06 |" in text
    assert text.endswith("- roi_align did not take part: R\n- (1) kornia: no such thing")


def test_tables_of_a_gpu_show_replays_and_memory():
    rows = [invented_row(TINY, [1.0, 1.0], [2.0, 2.0]), invented_row(replace(TINY, phase="both"), [1.0], [2.0])]
    for entry, us, peak in zip(rows[0]["contestants"].values(), ([1.0, 1.0], [5.0, 5.0]), (1e6, 2.5e6), strict=True):
        entry |= {"graph_us": us, "peak_bytes": peak}
    for entry in rows[1]["contestants"].values():  # too slow for a graph to matter
        entry["peak_bytes"] = 3e6
    text = timing_tables.full_table(HEAD | {"device": "cuda", "rows": rows})
    assert "| 5.00 (5.00 to 5.00) | 1.0, 2.5 |" in text
    assert "|  | 3.0, 3.0 |" in text


def test_the_short_table_needs_a_complete_run():
    with pytest.raises(ValueError, match="the results lack stream, 2x3x448x448 -> 224x224, window"):
        timing_tables.short_table(HEAD | {"rows": []})


def test_quick_results_are_not_among_the_published():
    assert records.RESULTS in records.results_file("cpu").parents
    assert records.RESULTS not in records.results_file("cpu", is_quick=True).parents


def test_uncommitted_changes_to_what_is_measured_are_named(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    files = {name: tmp_path / name for name in ("supervised_st/a.py", "benchmarks/b.py", "benchmarks/results/c.json")}
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
        "benchmarks/b.py": "with changes",
        "benchmarks/results/c.json": "",
    }
