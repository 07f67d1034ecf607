"""The report: it needs no other file, and its numbers and words are those of the results."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markupsafe import Markup, escape

from examples.mpii_cooking import paper
from examples.mpii_cooking.data.dataset import Lost
from examples.mpii_cooking.evaluation import schema
from examples.mpii_cooking.evaluation.cells import CLIP_CELLS
from examples.mpii_cooking.evaluation.claims import Claim
from examples.mpii_cooking.evaluation.tables import clip_ceilings, frame_ceilings
from examples.mpii_cooking.formats import counted, duration
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.report import page, verdicts
from examples.mpii_cooking.report.differences import departures, is_comparable
from examples.mpii_cooking.report.headline import headline, shortfall
from examples.mpii_cooking.variants import Modality, Region, Variant
from tests.helpers.made_up import TEST_CLIPS, made_up_results

NOTHING = "<td>\N{EN DASH}</td>"


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
    results = made_up_results(folder=folder)
    return page.write_report(results, folder), results


@pytest.fixture
def words(tmp_path, monkeypatch):
    """Returns the page of some results without its figures, which take most of the time."""
    monkeypatch.setattr(page.figures, "draw_all", lambda results, folder: {})

    def page_of(results):
        return re.sub(r"\s+", " ", page.write_report(results, tmp_path).read_text(encoding="utf-8"))

    return page_of


def changed(results, *, data=None, **dataset):
    settings = replace(results.settings, data=replace(results.settings.data, **(data or {})))
    return replace(results, settings=settings, dataset=replace(results.dataset, **dataset))


@pytest.fixture
def of_paper_size(monkeypatch):
    """Returns results as if the paper had tested as many clips, at the paper's sizes."""
    monkeypatch.setattr(paper, "TEST_CLIPS", TEST_CLIPS)
    return lambda **changes: changed(made_up_results(**changes), data={"scale": 1}, is_synthetic=False)


def test_the_page_needs_nothing_but_itself(written):
    text = written[0].read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    assert links.scripts == 0, "a class name became markup"
    assert all(source.startswith(("data:image/svg+xml;base64,", "#")) for source in links.sources)
    assert not re.search(r"url\(|@import|https?://", text)


def test_every_link_leads_to_a_place_in_the_page(written):
    text = written[0].read_text(encoding="utf-8")
    targets = set(re.findall(r'href="#([^"]+)"', text))
    assert targets <= set(re.findall(r'id="([^"]+)"', text))


def test_the_page_shows_the_numbers_of_both_tables(written):
    path, results = written
    text = re.sub(r"\s+", " ", path.read_text(encoding="utf-8"))
    cells = [row.cell for row in results.frame_answers]
    for found in results.accuracies(cells).values():
        assert f'">{found.mean.value:.1f}</span>' in text
        assert f"{found.correct[0]}/{TEST_CLIPS}" in text
    for found in results.precisions([results.pooled(cell) for cell in CLIP_CELLS]).values():
        interval = "{:.0f}\N{EN DASH}{:.0f}".format(*found.mean.interval)
        shown = f"<small>{interval}</small> <small>over 6: {found.trained:.1f}</small>"
        assert re.search(rf'">{found.mean.value:.1f}</span> <svg[^$]*?</svg> {shown}', text)
    for found in page.pooling_rows(results):
        assert f'<span class="value">{found[1].mean.value:.1f}</span>' in text
    assert "compare directions, never absolute values" in text
    assert "3 min 48 s" in text


def test_the_higher_of_each_pair_is_marked():
    results = made_up_results()
    for row in page.paired_rows(results):
        assert [entry.is_best for entry in row.entries] == [False, True] * 3
    for row in page.region_rows(results):
        for learned, hard_coded in zip(row.entries[::2], row.entries[1::2], strict=True):
            better = learned.found.mean.value > hard_coded.found.mean.value
            assert (learned.is_best, hard_coded.is_best) == (better, not better)
    same = tuple(replace(row, answers=results.labels) for row in results.frame_answers)
    for row in page.paired_rows(replace(results, frame_answers=same)):
        assert not any(entry.is_best for entry in row.entries)


def test_the_main_pooling_is_compared_with_the_others():
    results = made_up_results()
    (main, found, nothing), (other, *_, better) = page.pooling_rows(results)
    assert (main, other) == results.settings.evaluation.poolings
    assert nothing is None
    assert better.better == found.by_seed


def test_a_report_of_several_seeds_shows_each(words):
    results = made_up_results(3)
    text = words(results)
    assert "that of the 3 seeds (Student's t)" in text
    for found in results.accuracies([row.cell for row in results.frame_answers]).values():
        assert f"{', '.join(map(str, found.correct))}/{TEST_CLIPS}" in text
    for found in results.precisions([results.pooled(cell) for cell in CLIP_CELLS]).values():
        assert f"<small>{', '.join(f'{value:.1f}' for value in found.by_seed)}</small>" in text


def test_every_claim_has_its_verdict_its_reasons_and_its_comparisons(words):
    results = made_up_results()
    parts = words(results).split('class="claim"')[1:]
    for judgment, part in zip(verdicts.judge(results), parts, strict=True):
        assert f"<h3>{judgment.claim.title} <span" in part
        assert f">{judgment.found.mean.verdict.value}</span> </h3>" in part
        assert escape(page.with_minus(judgment.sentence)) in part
        for name, difference, printed in judgment.rows:
            shown = "\N{EN DASH}" if printed is None else f"{printed:+.2f}"
            value = re.escape(page.with_minus(f"{difference.mean.value:+.1f}"))
            shown = re.escape(page.with_minus(shown))
            assert re.search(rf"<td>{re.escape(name)}</td>.*?<td>{value}</td>.*?<td>{shown}</td></tr>", part)
        assert ('class="paper"' in part.split("</svg>")[0]) == (judgment.paper is not None)


def test_the_page_tells_what_was_tested_then_shows_it_then_what_was_found_and_ends_with_where_it_is_from(written):
    text, found = re.sub(r"\s+", " ", written[0].read_text(encoding="utf-8")), headline(written[1])
    story = [
        f'</h1> <p class="lead">What was tested, in {TEST_CLIPS} clips of a synthetic kitchen: does a network',
        '<figure class="looks" id="picture">',
        f'</figure> <p class="headline">{found.sentence}</p> <p>{page.with_minus(found.details)}</p>',
        '<section class="cards">',
        *(f'<h2 id="{name}">' for name in ("findings", "table2", "variants", "table3", "looks", "follows", "training")),
        '<h2 id="differences">',
        '<h2 id="run">',
    ]
    places = [text.index(part) for part in story]
    assert places == sorted(places)
    for provenance in ("3 min 48 s on", "some CPU", "Split: Five subjects train.", "--preset standard"):
        assert text.index(provenance) > places[-1]


def test_every_section_explains_its_abbreviations(written):
    text = re.sub(r"<(style|title)>.*?</\1>", "", written[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    for section in re.sub(r'data:image[^"]*', "", text).split("<h2 "):
        plain = section.replace("<dfn>", "").replace("</dfn>", "")
        used = re.findall(r"\b(STN|SSTN|R_d|R_h|S\+T|mAP|IoU|VGG|FC6|FC7)(?!\w)", plain)
        assert {*used} <= {*re.findall(r"<dfn>(.*?)</dfn>", section)}, section[:80]


def test_a_number_below_its_own_baseline_has_its_sentence(words, written):
    assert "points below" not in written[0].read_text(encoding="utf-8")
    results = written[1]
    swapped = {Variant.STN: Variant.SSTN, Variant.SSTN: Variant.STN}
    cells = {row.cell: row.answers for row in results.frame_answers}
    rows = tuple(
        replace(row, answers=cells[replace(row.cell, variant=swapped.get(row.cell.variant, row.cell.variant))])
        for row in results.frame_answers
    )
    scores = {
        (seed, pooled): results.scores[seed, replace(pooled, cell=replace(pooled.cell, region=other))]
        for seed, pooled in results.scores
        for other in [Region.HARD_CODED if pooled.cell.region is Region.LEARNED else Region.LEARNED]
        if (seed, replace(pooled, cell=replace(pooled.cell, region=other))) in results.scores
    }
    worse = replace(results, frame_answers=rows, scores=results.scores | scores, probe_frames=())
    text = words(worse)
    guided, plain, hard_coded = (
        worse.accuracies([worse.cell(variant, "detail")])[worse.cell(variant, "detail")].mean.value
        for variant in (Variant.SSTN, Variant.STN, Variant.HARD_CODED)
    )
    assert f"It is {plain - guided:.1f} points below the plain one, beyond chance." in text
    assert f"SSTN is {hard_coded - guided:.1f} points below R_h at detail level, beyond chance." in text
    assert re.search(r"They are \d+\.\d points below the hard-coded windows, (beyond|which may be) chance\.", text)


@pytest.mark.parametrize(("right", "words"), [(24, "which may be chance"), (12, "beyond chance"), (30, None)])
def test_what_falls_short_says_by_how_much_and_whether_it_may_be_chance(right, words):
    results = made_up_results()
    guided, plain = (results.cell(variant, "detail") for variant in (Variant.SSTN, Variant.STN))
    wrong = (results.labels + 1) % len(results.dataset.classes)
    first = {guided: right, plain: 27}
    rows = tuple(
        replace(row, answers=np.where(np.arange(TEST_CLIPS) < first.get(row.cell, 0), results.labels, wrong))
        for row in results.frame_answers
    )
    said = shortfall(replace(results, frame_answers=rows), [(guided, plain)], "It is", "the plain one")
    behind = 100 * (27 - right) / TEST_CLIPS
    assert said == (f"It is {behind:.1f} points below the plain one, {words}." if words else "")


@pytest.mark.parametrize(("number", "text"), [(0, "0 clips"), (1, "1 clip"), (2, "2 clips")])
def test_one_is_singular(number, text):
    assert counted(number, "clip") == text


def test_one_of_anything_is_singular_on_the_page(words):
    results = made_up_results()
    text = words(changed(results, lost=(Lost("s8.avi", 1, "s8.avi is cut off"),), train_clips=(1, *(0,) * 7)))
    assert "1 video with 1 clip." in text
    assert "1 training clip and" in text
    assert "<summary>1 comparison</summary>" in text
    assert not re.search(r"(?<![\d.,\N{MINUS SIGN}+-])1 (\w+ )?(clips|videos|claims|comparisons|groups|frames)\b", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-5.3 to -0.3", "\N{MINUS SIGN}5.3 to \N{MINUS SIGN}0.3"),
        ("(95 % interval -1.0 to +2.0)", "(95 % interval \N{MINUS SIGN}1.0 to +2.0)"),
        *((same, same) for same in ("VGG-16", "2026-11-22", "figure-7", "groups-set1", "--seeds", "a - b")),
        (Markup("-1"), Markup("-1")),
        (-1, -1),
    ],
)
def test_negative_numbers_have_a_minus_sign(text, shown):
    assert page.with_minus(text) == shown


def test_an_interval_that_the_exact_test_does_not_confirm_says_so():
    """The first cell is right in 4 clips more, of 4 that only one gets right: p is 1/8."""
    results = made_up_results()
    guided, hard_coded = (results.cell(variant, "detail") for variant in (Variant.SSTN, Variant.HARD_CODED))
    wrong = (results.labels + 1) % len(results.dataset.classes)
    right = {guided: 34, hard_coded: 30}
    rows = tuple(
        replace(row, answers=np.where(np.arange(TEST_CLIPS) < right.get(row.cell, 0), results.labels, wrong))
        for row in results.frame_answers
    )
    claim = Claim("", [(guided, hard_coded)])
    found = verdicts.Judgment(claim, replace(results, frame_answers=rows).compare(claim.pairs), (), ())
    assert found.found.mean.interval[0] > 0
    assert re.search(r"\), which McNemar's exact test does not confirm \(p = 0\.1[23]\)\.$", found.sentence)


def test_claims_are_judged_by_cue_and_distance_where_these_are_known(words):
    results = made_up_results()
    parts = words(results).split('class="claim"')[1:]
    for judgment, part in zip(verdicts.judge(results), parts, strict=True):
        rows = re.findall(r"<tr><td>(.*?)</td><td>(\d+)</td><td>(.*?)</td> <td>(.*?)</td>", part.split("<details>")[0])
        expected = [
            (
                reading.name + (f", {reading.part} of it in R_h" if reading.measure.share else ""),
                str(reading.clips),
                "{:.1f} against {:.1f}".format(*reading.found.means),
                page.with_minus(f"{reading.found.mean.value:+.1f}"),
            )
            for reading in (*judgment.by_cue, *judgment.by_distance)
        ]
        assert rows == expected
    assert expected[0][0] == "class"
    *_, last = verdicts.judge(results)
    assert last.by_cue[0].ceiling == frame_ceilings(results)["detail"]
    assert {reading.ceiling for reading in last.by_cue[1:] + last.by_distance} == {100}


def test_tables_have_the_best_that_could_be_where_cues_are_known(words):
    results = made_up_results()
    text = words(results)
    rows = re.findall(r'<th scope="row">all that this stream shows</th>(.*?)</tr>', text)
    found = [[float(value) for value in re.findall(r">([\d.]+)</td>", row)] for row in rows]
    expected = [frame_ceilings(results), *clip_ceilings(results).values()]
    assert found == [[round(value, 1) for value in row.values()] for row in expected]
    filmed = words(changed(replace(results, shown=()), cues={}))
    assert "all that this stream shows" not in filmed
    assert 'class="readings"' not in filmed


def test_a_sentence_counts_comparisons_or_gives_the_values_of_the_only_one():
    guidance, *_, closest = verdicts.judge(made_up_results(more_seeds=1))
    assert guidance.sentence.startswith("Higher in 9 of 9 comparisons, by +")
    assert guidance.sentence.endswith("9 for the claim, 0 against it. In the paper: higher in 9 of 9.")
    (pair,) = closest.found.pairs
    better, worse = (
        f"{np.mean(values):.1f} % ({values[0]:.1f}, {values[1]:.1f})" for values in (pair.better, pair.worse)
    )
    assert closest.sentence.startswith(f"{better} against {worse}: +")


def test_a_pair_is_named_by_what_its_cells_share():
    names = [name for judgment in verdicts.judge(made_up_results()) for name, *_ in judgment.rows]
    assert "vgg-16, detail: SSTN against STN" in names
    assert "general, S+T: R_d against R_h" in names
    assert "late fusion, R_h: S+T against spatial" in names
    assert "detail: vgg-16, SSTN against R_h" in names


@pytest.mark.parametrize(("p", "text"), [(0.0159, "= 0.016"), (1.0, "= 1"), (0.0009, "< 0.001"), (0.0, "< 0.001")])
def test_a_p_value_is_never_zero(p, text):
    assert verdicts.format_p(p) == text


def test_figures_are_next_to_the_page_and_in_it(written):
    text = written[0].read_text(encoding="utf-8")
    files = {"figure-7", "table-2", "curves", "distortion", "overlap", "average-precision", "confusion"}
    files |= {f"looks-{level}-{index}" for level in paper.LEVELS for index in range(4)}
    assert {path.stem for path in written[0].parent.glob("*.svg")} == files
    for name in files:
        assert text.count(page.embed(written[0].parent / f"{name}.svg")) == 1


def test_a_run_without_probe_frames_has_a_report_without_figures_7_and_8(tmp_path):
    text = page.write_report(made_up_results(), tmp_path).read_text(encoding="utf-8")
    assert "figure-7" not in text
    assert 'class="looks"' not in text
    assert "Table 3" in text


def test_every_picture_says_in_words_what_it_shows(written):
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', written[0].read_text(encoding="utf-8"))
    assert len(alts) == 7 + 3 * 4
    assert all(len(alt) > 60 for alt in alts), "an alternative text is only a title"
    assert len(set(alts)) == len(alts)


def test_every_variant_has_a_row_with_its_own_numbers(words):
    results = made_up_results()
    rows = re.search(r'id="variants">(.*?)</table>', words(results))[1].split("<tr>")[1:]
    rows = [row for row in rows if 'scope="row"' in row]
    assert [re.search(r'scope="row">(.*?)<', row)[1] for row in rows] == [variant.key for variant in Variant]
    for variant, row in zip(Variant, rows, strict=True):
        (found,) = results.accuracies([results.cell(variant, "detail")]).values()
        assert f"{found.by_seed[0]:.1f}</span>" in row
        assert f" · {found.correct[0]}/{TEST_CLIPS}</small>" in row


def test_what_was_not_trained_has_no_row(words):
    results = made_up_results()
    rows = tuple(row for row in results.frame_answers if row.cell.localizer in (None, "vgg-16"))
    rows = tuple(row for row in rows if row.cell.variant not in results.settings.scope.variants)
    text = words(replace(results, frame_answers=rows))
    assert re.findall(r'scope="row">(VGG-.*?)<', text) == ["VGG-16"]
    assert 'id="variants"' not in text
    assert 'href="#variants"' not in text


def test_overlaps_are_shown_with_the_clips_in_which_something_moved(words):
    results = made_up_results()
    still = schema.Overlap(0, Modality.SPATIAL, "general", (None,) * TEST_CLIPS, None)
    text = words(replace(results, overlaps=(still, *results.overlaps[1:])))
    assert f"<td>general</td> {3 * NOTHING} <td>0 of {TEST_CLIPS}</td>" in text
    found = results.overlap(Modality.TEMPORAL, "detail")
    shown = f"{found.mean:.2f}</span></td> <td>{found.center:.2f}</td> <td>{100 * found.above_half:.0f} %</td>"
    assert f"{shown} <td>{TEST_CLIPS - 1} of {TEST_CLIPS}</td>" in text


@pytest.mark.parametrize(
    ("value", "where"), [(-20, "0.0%"), (-10, "0.0%"), (0, "25.0%"), (30, "100.0%"), (99, "100.0%")]
)
def test_a_strip_ends_where_its_scale_does(value, where):
    assert page.place(value, -10, 30) == where


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(8.12, "8.1 s"), (59.97, "1 min 0 s"), (312.4, "5 min 12 s"), (12000, "3 h 20 min"), (363000, "4.2 days")],
)
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text


def test_the_paper_s_protocol_on_its_own_clips_is_comparable(of_paper_size, monkeypatch):
    assert is_comparable(of_paper_size())
    assert not is_comparable(changed(of_paper_size(), is_synthetic=True))
    assert not is_comparable(changed(of_paper_size(), data={"scale": 8}))
    assert not is_comparable(changed(of_paper_size(), has_paper_protocol=False))
    monkeypatch.setattr(paper, "TEST_CLIPS", TEST_CLIPS + 1)
    assert not is_comparable(of_paper_size())


def test_the_paper_preset_keeps_to_what_the_paper_states():
    results = changed(made_up_results(settings=PRESETS["paper"]), is_synthetic=False)
    assert [row.what for row in departures(results)] == [
        "Start of the networks",
        "Sampling of every window",
        "First stage of R_h",
        "Rows of Table 2",
    ]


def test_a_small_preset_s_departures_are_all_listed():
    found = {row.what: (row.paper, row.here) for row in departures(made_up_results())}
    assert found["Classifier"] == ("vgg-16", "vgg-m")
    assert found["Dropout of the classifiers"] == ("0.85 spatial, 0.5 temporal", "0.2")
    ends = ("FC7, with dropout 0.5", "mean positions on finer maps, without dropout")
    assert found["Localization networks end in"] == ends
    assert found["Rate during guidance"] == ("constant", "falls to zero")
    assert found["Learning rate of recognition on random crops"] == ("0.0001", "0.001")
    assert found["Learning rate of recognition in joint training"] == ("1e-05", "0.001")
    assert found["Learning rate of localization in joint training"] == ("1e-06", "0.0001")
    assert found["Learning rate of recognition on R_h"] == ("1e-05", "0.001")
    assert found["Optimizer"] == ("stochastic gradient descent", "Adam")
    results = made_up_results()
    rows = tuple(row for row in results.frame_answers if row.cell.localizer in ("vgg-16", None))
    found = {row.what: (row.paper, row.here) for row in departures(replace(results, frame_answers=rows))}
    assert found["Localization networks"] == ("vgg-f, vgg-m, vgg-16", "vgg-16")


def test_a_comparable_run_from_random_weights_says_so(words, of_paper_size):
    text = words(of_paper_size())
    assert "under the same protocol, but its networks started from ImageNet weights" in text
    assert "VGG-16: random" in text


def test_a_run_from_imagenet_is_named_as_one_and_only_if_every_network_is(words, of_paper_size):
    files = {"vgg-f": "imagenet-vgg-f.mat, SHA-256 0a1b", "vgg-16": "vgg16.pth, SHA-256 2c3d"}
    some = of_paper_size(weights=files | {"vgg-m": "random"})
    assert {row.what: row.here for row in departures(some)}["Start of the networks"] == "random weights: vgg-m"
    text = words(some)
    assert "also started from ImageNet" not in text
    assert "VGG-F: imagenet-vgg-f.mat, SHA-256 0a1b" in text
    every = of_paper_size(weights=files | {"vgg-m": "imagenet-vgg-m.mat, SHA-256 4e5f"})
    assert "Start of the networks" not in {row.what for row in departures(every)}
    text = words(every)
    assert "also started from ImageNet" in text
    assert "random weights" not in text


@pytest.mark.parametrize(
    ("device", "promise"),
    [("cpu", "number of threads (2)"), ("NVIDIA H100", "close but not equal numbers")],
)
def test_the_same_result_is_promised_only_where_it_can_be_kept(words, device, promise):
    results = made_up_results()
    text = words(replace(results, environment=replace(results.environment, device=device)))
    assert promise in text
    assert ("gives the same result" in text) == (device == "cpu")


def test_the_second_mean_is_shown_only_where_it_differs(words):
    assert "over 6: " in words(made_up_results())
    clips = (1,) * 7 + (0,)  # the class without training clips is not tested either
    assert "over 6: " not in words(changed(made_up_results(), train_clips=clips))
