"""The report: the paper's numbers agree with themselves, verdicts follow from the numbers, the page stands alone."""

import copy
import itertools
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from examples.mpii_cooking import paper, run_all
from examples.mpii_cooking.config import PRESETS
from examples.mpii_cooking.evaluation import tables
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.report import page, provenance, verdicts
from examples.mpii_cooking.report.variants import VARIANTS, variant_cells
from tests.helpers.made_up import CLASSES, TEST_CLIPS, made_up_results


class Links(HTMLParser):
    """Collects what a page would load or run, and checks that its tags close."""

    def __init__(self):
        super().__init__()
        self.sources, self.scripts, self.open = [], 0, []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        self.scripts += tag == "script"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    results = made_up_results(folder)
    return page.write_report(results, folder), results


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Returns the page of some results without its figures, which take most of the time."""
    monkeypatch.setattr(page.figures, "draw_all", lambda results, folder: {})

    def page_of(results):
        return re.sub(r"\s+", " ", page.write_report(results, tmp_path).read_text(encoding="utf-8"))

    return page_of


@pytest.mark.parametrize("key", paper.TABLE_2, ids="-".join)
def test_every_printed_accuracy_is_a_count_of_the_test_clips(key):
    for accuracy in (paper.TABLE_2[key].stn, paper.TABLE_2[key].sstn):
        decimals = len(accuracy.printed.split(".")[1])
        assert f"{100 * accuracy.correct / paper.TEST_CLIPS:.{decimals}f}" == accuracy.printed


def test_no_smaller_test_set_explains_the_printed_accuracies():
    printed = [a.printed for cell in paper.TABLE_2.values() for a in (cell.stn, cell.sstn) if a.printed[-3] == "."]
    percents = np.array(printed, dtype=float)

    def explains(clips):
        return (np.round(100 * np.round(percents * clips / 100) / clips, 2) == percents).all()

    assert len(printed) == 16
    assert [clips for clips in range(20, 4000) if explains(clips)] == [paper.TEST_CLIPS]


def test_tables_of_the_paper_are_complete():
    assert set(paper.TABLE_2) == set(itertools.product(paper.LOCALIZERS, paper.LEVELS))
    assert set(paper.TABLE_3) == set(itertools.product((*paper.LEVELS, paper.FUSION), paper.STREAMS))


def test_the_paper_prefers_the_learned_region_in_all_cells_but_one():
    assert [key for key, cell in paper.TABLE_3.items() if cell.r_d <= cell.r_h] == [("general", "S+T")]


def test_clear_results_hold_and_every_number_beside_them_is_a_cell_s(written):
    results = written[1]
    guidance, region, fusion, streams, *parts = verdicts.read(results)
    assert {guidance.verdict, region.verdict, fusion.verdict, streams.verdict} == {Verdict.HOLDS}
    assert [len(reading.comparisons) for reading in (guidance, region, fusion, streams)] == [9, 12, 6, 16]
    assert [[pair.name for pair in reading.comparisons] for reading in parts] == [
        ["vgg-16, detail: SSTN against STN-identity", "vgg-16, detail: SSTN against STN-level"],
        ["vgg-16, detail: SSTN against STN-slow", "vgg-16, detail: SSTN against STN-fast"],
        ["vgg-16, detail: SSTN against frozen"],
        ["detail: vgg-16, SSTN against R_h"],
        ["vgg-16, detail: SSTN against guided"],
    ]
    assert {pair.paper for reading in parts for pair in reading.comparisons} == {None}
    for reading in (guidance, region, fusion, streams, *parts):
        assert reading.mean == pytest.approx(np.mean([pair.better - pair.worse for pair in reading.comparisons]))
        for pair in reading.comparisons:
            assert pair.difference == pytest.approx(pair.better - pair.worse)


def test_the_paper_s_differences_stand_beside_ours(written):
    pairs = {pair.name: pair for reading in verdicts.read(written[1]) for pair in reading.comparisons}
    assert pairs["vgg-16, detail: SSTN against STN"].paper == pytest.approx(32.32 - 6.39)
    assert pairs["general, S+T: R_d against R_h"].paper == pytest.approx(56.51 - 56.68)
    assert pairs["late fusion, R_h: S+T against spatial"].paper == pytest.approx(60.09 - 55.06)


def test_a_report_of_several_seeds_says_so(words, tmp_path):
    results = made_up_results(tmp_path, count=3)
    text = words(results)
    assert "that of the 3 seeds (Student's t)" in text
    for cell in results["table2"]["cells"]:
        assert f"{', '.join(str(seed['correct']) for seed in cell['seeds'])}/{cell['total']}" in text


def test_a_claim_that_the_paper_does_not_make_stands_without_its_difference(words, written, monkeypatch):
    guidance, *_ = verdicts.read(written[1])
    ours = replace(guidance, comparisons=tuple(replace(pair, paper=None) for pair in guidance.comparisons[:2]))
    monkeypatch.setattr(verdicts.Reading, "sentence", "Because.")
    monkeypatch.setattr(verdicts, "read", lambda results: (guidance, ours))
    first, second = words(written[1]).split('class="claim"')[1:3]
    assert "<td>+19.24</td>" in first
    assert 'class="paper"' in first
    assert second.count("<td>\N{EN DASH}</td></tr>") == 2
    assert 'class="paper"' not in second


def test_fusion_is_compared_with_the_best_level(written):
    results = written[1]
    maps = {(c["row"], c["stream"], c["variant"]): c["map"] for c in results["table3"]["cells"]}
    for comparison in verdicts.read(results)[2].comparisons:
        stream, variant = comparison.name.split(":")[0].split(", ")
        assert comparison.worse == max(maps[level, stream, variant] for level in paper.LEVELS)


def test_the_page_needs_nothing_but_itself(written):
    text = written[0].read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    assert links.scripts == 0, "a class name became markup"
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in links.sources)
    assert not re.search(r"url\(|@import|https?://", text)


def test_the_page_shows_the_numbers_it_was_given(written):
    path, results = written
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    for cell in results["table2"]["cells"]:
        assert f"{cell['seeds'][0]['correct']}/{cell['total']}" in text
    for cell in results["table3"]["cells"]:
        interval = "{:.0f}\N{EN DASH}{:.0f}".format(*cell["interval"])
        shown = f"<small>{interval}</small> <small>over 6: {cell['map_trained']:.1f}</small>"
        assert re.search(rf'">{cell["map"]:.1f}</span> <svg[^$]*?</svg> {shown}', text)
    assert "compare directions, never absolute values" in text
    assert "3 min 48 s" in text


def test_figures_lie_beside_the_page_and_in_it(written):
    text = written[0].read_text(encoding="utf-8")
    files = {"figure-7", "figure-8", "table-2", "curves", "distortion", "overlap", "average-precision", "confusion"}
    assert {path.stem for path in written[0].parent.glob("*.png")} == files
    for name in files:
        assert page.embed(written[0].parent / f"{name}.png") in text


def test_a_run_without_looks_has_a_report_without_figures_7_and_8(tmp_path):
    results = made_up_results(tmp_path) | {"looks": []}
    text = page.write_report(results, tmp_path).read_text(encoding="utf-8")
    assert "figure-7" not in text
    assert "Table 3" in text


def test_every_picture_says_in_words_what_it_shows(written):
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', written[0].read_text(encoding="utf-8"))
    assert len(alts) == 8
    assert all(len(alt) > 60 for alt in alts), "an alternative text is only a title"
    assert len(set(alts)) == len(alts)


def test_every_variant_has_a_row_with_its_own_numbers(written):
    results = written[1]
    text = re.sub(r"\s+", " ", written[0].read_text(encoding="utf-8"))
    rows = re.search(r'id="variants">(.*?)</table>', text)[1].split("<tr>")[1:]
    rows = [row for row in rows if 'scope="row"' in row]
    assert [re.search(r'scope="row">(.*?)<', row)[1] for row in rows] == [variant.key for variant in VARIANTS]
    expected = {cell["variant"]: cell for cell in results["variants"]}
    expected |= {
        cell["variant"]: cell
        for cell in results["table2"]["cells"]
        if cell["localizer"] is None and cell["level"] == "detail"
    }
    main = {
        cell["variant"]: cell
        for cell in results["table2"]["cells"]
        if (cell["localizer"], cell["level"]) == ("vgg-16", "detail")
    }
    for variant, row in zip(VARIANTS, rows, strict=True):
        (seed,) = (expected | main)[variant.key]["seeds"]
        assert f"{seed['percent']:.1f}</span>" in row
        assert f" · {seed['correct']}/{TEST_CLIPS}</small>" in row


def test_variants_have_the_main_localization_network_in_whatever_order_cells_are_stored(written):
    results = copy.deepcopy(written[1])
    results["table2"]["cells"].reverse()
    for (cell,) in variant_cells(results).values():
        assert (cell["localizer"] or "vgg-16", cell["level"]) == ("vgg-16", "detail")


def test_variants_that_were_not_trained_have_no_row(written):
    results = copy.deepcopy(written[1])
    results["variants"] = [cell for cell in results["variants"] if cell["variant"] == "frozen"]
    assert [variant.key for variant in variant_cells(results)] == ["random crop", "R_h", "STN", "frozen", "SSTN"]


def test_localization_networks_that_were_not_trained_have_no_row(words, tmp_path):
    results = made_up_results(tmp_path)
    results["settings"] |= {"localizers": ["vgg-16"]}
    text = words(results)
    assert re.findall(r'scope="row">(VGG-.*?)<', text) == ["VGG-16"]
    found = {row.what: (row.paper, row.here) for row in page.differences(results)}
    assert found["Localization networks"] == ("vgg-f, vgg-m, vgg-16", "vgg-16")


def test_a_run_without_more_variants_has_no_section_for_them(words, tmp_path):
    results = made_up_results(tmp_path) | {"variants": [], "variant_claims": []}
    text = words(results)
    assert "Other ways to choose" not in text
    assert 'href="#variants"' not in text


def test_more_seeds_for_one_comparison_are_a_finding_of_their_own(words, written):
    results = written[1]
    text = re.sub(r"\s+", " ", written[0].read_text(encoding="utf-8"))
    (found,) = results["margin"]["comparisons"]
    assert "with more seeds" in text
    assert f"The difference is {found['mean']['difference']:+.1f} points" in text
    assert "trained from 2 seeds" in text
    without = words(results | {"margin_seeds": []})
    assert "with more seeds" not in without


def test_the_overlap_counts_only_clips_in_which_something_moved(written):
    text = re.sub(r"\s+", " ", written[0].read_text(encoding="utf-8"))
    for cell in written[1]["overlap"]:
        shown = (
            f"{cell['mean']:.2f}</span></td> <td>{cell['center']:.2f}</td> <td>{100 * cell['above_half']:.0f} %</td>"
        )
        assert f"{shown} <td>{TEST_CLIPS - 1} of {TEST_CLIPS}</td>" in text


def test_a_stream_in_which_nothing_moved_has_no_overlap(words, tmp_path):
    results = made_up_results(tmp_path)
    still = results["overlap"][0]
    still |= {
        "mean": None,
        "above_half": None,
        "center": None,
        "seeds": [{"iou": [None] * TEST_CLIPS, "mean": None, "above_half": None, "center": None}],
    }
    text = words(results)
    assert f"0 of {TEST_CLIPS}" in text


@pytest.mark.parametrize(
    ("value", "where"), [(-20, "0.0%"), (-10, "0.0%"), (0, "25.0%"), (30, "100.0%"), (99, "100.0%")]
)
def test_a_strip_ends_where_its_scale_does(value, where):
    assert page.place(value, -10, 30) == where


def test_the_paper_s_protocol_on_its_own_clips_is_comparable(tmp_path):
    results = made_up_results(tmp_path)
    assert not page.is_comparable(results)
    results["dataset"] |= {"synthetic": False, "test_clips": paper.TEST_CLIPS}
    assert not page.is_comparable(results)
    results["settings"]["scale"] = 1
    assert page.is_comparable(results)


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.12, "8.1 s"), (59.97, "1 min 0 s"), (312.4, "5 min 12 s"), (12000, "3 h 20 min")]
)
def test_durations_read_like_speech(seconds, text):
    assert page.duration(seconds) == text


def test_the_paper_preset_keeps_to_what_the_paper_states(tmp_path):
    results = made_up_results(tmp_path) | {"settings": provenance.describe_settings(PRESETS["paper"])}
    results["dataset"] |= {"synthetic": False}
    found = [row.what for row in page.differences(results)]
    assert found == ["Start of the networks", "First stage of R_h", "Rows of Table 2"]


def test_a_small_preset_s_departures_are_all_listed(written):
    found = {row.what: (row.paper, row.here) for row in page.differences(written[1])}
    assert found["Classifier"] == ("vgg-16", "vgg-m")
    assert found["Dropout of the classifiers"] == ("0.85 spatial, 0.5 temporal", "0.2")
    assert found["Dropout of the localization networks"] == ("0.5", "0.2")
    assert found["Learning rate of recognition on random crops"] == ("0.0001", "0.001")
    assert found["Learning rate of recognition in joint training"] == ("1e-05", "0.001")
    assert found["Learning rate of localization in joint training"] == ("1e-06", "0.0001")
    assert found["Learning rate of recognition on R_h"] == ("1e-05", "0.001")


def test_a_comparable_run_is_still_told_apart_from_networks_that_knew_imagenet(words, tmp_path):
    results = made_up_results(tmp_path)
    results["dataset"] |= {"synthetic": False, "test_clips": paper.TEST_CLIPS}
    results["settings"] |= {"scale": 1}
    text = words(results)
    assert "under the same protocol, but from networks that knew ImageNet" in text
    assert "VGG-16: random" in text


def test_a_run_from_imagenet_is_named_as_one_and_only_where_every_network_is(words, tmp_path):
    results = made_up_results(tmp_path)
    results["dataset"] |= {"synthetic": False, "test_clips": paper.TEST_CLIPS}
    results["settings"] |= {"scale": 1}
    results["weights"] |= {"vgg-f": "imagenet-vgg-f.mat, SHA-256 0a1b", "vgg-16": "vgg16.pth, SHA-256 2c3d"}
    start = {row.what: row.here for row in page.differences(results)}["Start of the networks"]
    assert start == "random weights: vgg-m"
    text = words(results)
    assert "networks knew ImageNet, too" not in text
    assert "VGG-F: imagenet-vgg-f.mat, SHA-256 0a1b" in text
    results["weights"] |= {"vgg-m": "imagenet-vgg-m.mat, SHA-256 4e5f"}
    assert "Start of the networks" not in {row.what for row in page.differences(results)}
    text = words(results)
    assert "networks knew ImageNet, too" in text
    assert "random weights" not in text


@pytest.mark.parametrize(
    ("device", "promise"),
    [("cpu", "number of threads (2)"), ("NVIDIA H100", "close numbers, not equal ones")],
)
def test_the_same_result_is_promised_only_where_it_can_be_kept(words, tmp_path, device, promise):
    results = made_up_results(tmp_path)
    results["environment"]["device"] = device
    text = words(results)
    assert promise in text
    assert ("with the same result" in text) == (device == "cpu")


def test_a_class_that_was_never_trained_counts_in_one_mean_and_not_in_the_other():
    scores = np.array([[2.0, 1, 0], [0, 2, 0], [0, 0, 0], [1, 0, 0]])
    found = tables.precision(scores, truth=np.array([0, 1, 2, 2]), trained=np.array([0, 1]))
    assert found["ap"] == pytest.approx([100, 100, 50])
    assert found["map"] == pytest.approx(250 / 3)
    assert found["map_trained"] == pytest.approx(100)
    untrained = tables.precision(scores, truth=np.array([2, 2, 2, 2]), trained=np.array([0, 1]))
    assert untrained["map_trained"] is None


def test_the_second_mean_is_shown_only_where_it_differs(written):
    results = copy.deepcopy(written[1])
    assert {cell.trained is None for row in page.table_3(results) for cell in row.cells} == {False}
    results["table3"]["classes_without_training"] = [len(CLASSES) - 1]  # not tested either
    assert {cell.trained for row in page.table_3(results) for cell in row.cells} == {None}


def test_timings_add_up_per_job_in_the_order_of_their_stages(tmp_path):
    path = tmp_path / "timings.json"
    for job, stages in (("quick", ("train", "classify")), ("smoke", ("train",)), ("quick", ("train", "classify"))):
        timings = provenance.Timings(path, job)
        before = timings.total()
        for stage in stages:
            with timings.stage(stage):
                pass
        assert timings.total() > before
    assert [row["stage"] for row in provenance.Timings(path, "quick").rows()] == ["train", "classify"]
    assert provenance.Timings(path, "quick").total() == timings.total()
    assert [row["stage"] for row in provenance.Timings(path, "smoke").rows()] == ["train"]


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
    (folder / "results").mkdir()
    (folder / "results" / "kept.json").write_text("{}")
    assert re.fullmatch("[0-9a-f]{40}", provenance.commit(folder))
    (folder / "code.py").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{40} \+ local changes", provenance.commit(folder))


def test_features_beyond_their_format_end_with_one_message_and_code_2(tmp_path, monkeypatch, capsys):
    def overflow(*_, **__):
        raise OverflowError("features exceed float16's range")

    monkeypatch.setattr(run_all, "run", overflow)
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path)
    assert capsys.readouterr().err == "error: features exceed float16's range\n"
