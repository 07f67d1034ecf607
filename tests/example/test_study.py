"""Studies: gains against brute force, what words and figures say of them, and a run that is killed on the way."""

import html
import json
import subprocess
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from examples.mpii_cooking import run_all, study
from examples.mpii_cooking.data.dataset import Clip
from examples.mpii_cooking.data.samples import chunks
from examples.mpii_cooking.evaluation.significance import Verdict
from examples.mpii_cooking.evaluation.stored import ResultsError
from examples.mpii_cooking.evaluation.study_results import StudyResults
from examples.mpii_cooking.presets import PRESETS, STUDIES
from examples.mpii_cooking.report import docs_record, figures_study, figures_style, page, study_page, study_text
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Phase, Variant
from tests.example.test_end_to_end import TIMEOUT, command
from tests.helpers.made_up_study import CUES, TRAIN_CLIPS, made_up_study

RIVALS = (Variant.HARD_CODED, Variant.STN, Variant.FROZEN)


@pytest.fixture(scope="module")
def results():
    return made_up_study()


def right_by_seed(results, condition, arm, cue):
    """Percentages of right answers, counted one by one."""
    found = []
    for seed in results.seeds:
        (row,) = (row for row in condition.answers if (row.seed, row.cell.variant) == (seed, arm))
        pairs = list(zip(row.answers.tolist(), condition.labels.tolist(), strict=True))
        hits = sum(a == b if cue is None else CUES[cue][a] == CUES[cue][b] for a, b in pairs)
        found.append(100 * hits / len(pairs))
    return found


@pytest.mark.parametrize("cue", [None, "thing", "place"])
def test_gains_are_paired_by_seed_and_their_interval_covers_student_s(results, cue):
    for condition in results.conditions:
        best = right_by_seed(results, condition, Variant.SSTN, cue)
        assert results.share(condition, Variant.SSTN, cue).value == pytest.approx(np.mean(best))
        for rival in RIVALS:
            differences = np.subtract(best, right_by_seed(results, condition, rival, cue))
            gain = results.gain(condition, rival, cue)
            expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
            assert gain.value == pytest.approx(np.mean(differences))
            assert gain.seeds == pytest.approx((expected.low, expected.high))
            assert gain.interval[0] <= expected.low
            assert gain.interval[1] >= expected.high


def test_arms_and_seeds_are_those_of_the_answers(results):
    assert (results.seeds, results.rivals) == ((0, 1, 2, 3), RIVALS)
    assert results.arms == (*RIVALS, Variant.SSTN)


@pytest.mark.parametrize(("kind", "places"), [("distance", [90, 50, 10]), ("clips", TRAIN_CLIPS)])
def test_a_study_is_shown_along_what_it_varies(kind, places):
    made = made_up_study(kind)
    assert [made.place(condition) for condition in made.conditions] == pytest.approx(places)


def test_a_missing_answer_is_an_error_and_not_another_seed_s(results):
    first, *others = results.conditions
    fewer = replace(results, conditions=(replace(first, answers=first.answers[1:]), *others))
    with pytest.raises(KeyError):
        fewer.gain(fewer.conditions[0], Variant.HARD_CODED, None)


# Words, tables and figures


def test_sentences_say_what_the_verdicts_are():
    always, never = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    one_rival = {Variant.HARD_CODED: (1.0, 0.5, 0.0), Variant.SSTN: always}
    headline, against = study_text.findings(made_up_study(right=one_rival))
    assert (
        headline
        == "SSTN recognizes the thing more often than each of R_h where the motion window shows 50 and 10 % of it."
    )
    assert against.startswith(
        "Against R_h, hard-coded window of most motion: no difference beyond chance at 90 % shown (+0.0 points); "
        "better at 50 and 10 % shown (+"
    )
    worse = {Variant.HARD_CODED: always, Variant.SSTN: (0.5, 0.5, 0.0)}
    headline, against = study_text.findings(made_up_study("clips", right=worse))
    assert headline == "Under no condition does SSTN recognize the thing more often than each of R_h, beyond chance."
    assert against.startswith("Against R_h, hard-coded window of most motion: worse with 40, 80 and 160 clips (-")
    headline, *_ = study_text.findings(made_up_study(right={Variant.FROZEN: never, Variant.SSTN: always}))
    assert headline == "SSTN recognizes the thing more often than each of frozen under every condition."


def test_the_table_of_gains_has_every_rival_and_condition(results):
    head, _, *rows = study_text.gains_table(results).splitlines()
    assert head.strip("| ").split(" | ")[1:] == ["over R_h", "over STN", "over frozen"]
    for condition, row in zip(results.conditions, rows, strict=True):
        place, *cells = row.strip("| ").split(" | ")
        assert place == f"{results.place(condition):.0f}"
        for rival, cell in zip(RIVALS, cells, strict=True):
            gain = results.gain(condition, rival, "thing")
            assert cell.startswith(f"{gain.value:+.1f} (")
            assert cell.endswith(f"), {gain.verdict}")


def test_the_table_of_shares_has_things_and_classes(results):
    row = study_text.shares_table(results).splitlines()[-1].strip("| ").split(" | ")
    last = results.conditions[-1]
    counted = [[np.mean(right_by_seed(results, last, arm, cue)) for cue in ("thing", None)] for arm in results.arms]
    assert row[1:] == [f"{thing:.1f}, {top_1:.1f}" for thing, top_1 in counted]


@pytest.mark.parametrize("kind", ["distance", "clips"])
def test_the_figure_has_a_panel_for_every_rival_with_its_gains_and_verdicts(kind):
    made = made_up_study(kind)
    figure = figures_study.gains(made)
    assert [axes.texts[-1].get_text().split(":")[0] for axes in figure.axes] == ["… R_h", "… STN", "… frozen"]
    verdicts = set()
    for axes, rival in zip(figure.axes, RIVALS, strict=True):
        _, line, *points = axes.lines
        found = sorted((made.place(it), made.gain(it, rival, "thing")) for it in made.conditions)
        np.testing.assert_allclose(line.get_xydata(), [(place, gain.value) for place, gain in found])
        bars = [bar.get_segments()[0][:, 1] for bar in axes.collections]
        np.testing.assert_allclose(bars, [gain.interval for _, gain in found])
        hollow = [point.get_markerfacecolor() == figures_style.PAGE for point in points]
        assert hollow == [gain.verdict is Verdict.INCONCLUSIVE for _, gain in found]
        verdicts |= {*hollow}
    assert verdicts == {True, False}


@pytest.mark.parametrize("kind", ["distance", "clips"])
def test_the_page_needs_no_other_file_and_tells_what_was_tested_then_shows_it_then_what_was_found(tmp_path, kind):
    results = made_up_study(kind)
    text = html.unescape(study_page.write_page(results, tmp_path).read_text(encoding="utf-8"))
    assert "http" not in text.replace("http-equiv", "")
    picture = page.embed(tmp_path / study_page.PICTURE)
    found = [page.with_minus(sentence) for sentence in study_text.findings(results)]
    arms = [f"<dfn>{arm.key}</dfn>: {arm.traits.description}" for arm in results.arms]
    places = [text.index(part) for part in ('<p class="lead">What was tested: ', picture, *found, *arms, "About this")]
    assert places == sorted(places)


# Files


def test_a_saved_study_is_loaded_as_it_was(results, tmp_path):
    results.save(tmp_path / "study.json")
    assert encode(StudyResults.load(tmp_path / "study.json")) == encode(results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema=0), "has schema 0, expected 1: another version wrote it; run the same"),
        (lambda content: content.update(kind="color"), "kind: Input should be 'distance' or 'clips'"),
        (
            lambda content: content["conditions"][1]["answers"][2]["answers"].pop(),
            "answers of seed 0, .*FROZEN.*, in condition condition 1 must be for 80 test clips, got 79",
        ),
        (
            lambda content: content["conditions"][0]["shown"].pop(),
            "shown in condition condition 0 must be for 80 test",
        ),
    ],
)
def test_a_study_that_does_not_fit_is_refused_by_name(results, tmp_path, change, message):
    results.save(tmp_path / "study.json")
    content = json.loads((tmp_path / "study.json").read_text())
    del content["digest"]  # as earlier versions wrote it
    change(content)
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=message):
        StudyResults.load(tmp_path / "study.json")


def test_the_record_of_a_study_has_its_numbers_and_figure_and_no_folder(results, tmp_path, monkeypatch):
    monkeypatch.setattr(docs_record, "FOLDER", tmp_path)
    monkeypatch.setattr(docs_record, "IMAGES", tmp_path)
    replace(results, command="python /home/me/run_all.py --study clips --output /home/me").save(tmp_path / "study.json")
    docs_record.main(tmp_path, "clips")
    kept = StudyResults.load(docs_record.study_record("clips"))
    assert kept.command == "python examples/mpii_cooking/run_all.py --study clips"
    assert study_text.gains_table(kept) == study_text.gains_table(results)
    assert (tmp_path / "study-clips.png").is_file()


@pytest.mark.parametrize("kind", study.ARMS)
def test_what_is_recorded_is_what_the_preset_would_do_today(kind):
    if not docs_record.study_record(kind).is_file():
        pytest.skip("not run yet")
    recorded, settings = StudyResults.load(docs_record.study_record(kind)), STUDIES["standard"]
    assert recorded.settings == PRESETS["standard"]
    assert recorded.seeds == settings.seeds
    distances = settings.distances if kind == "distance" else (settings.clips_distance,) * len(settings.clips)
    assert [condition.distance for condition in recorded.conditions] == [*distances]


# Runs


@pytest.mark.parametrize("clips", [10, 40, 80, 160, 320])
def test_every_number_of_clips_has_as_many_steps(clips):
    training = PRESETS["standard"].training
    scaled = study.same_steps(training, 160, clips)

    def steps(settings, phase, count):
        return getattr(settings, phase).epochs * len(chunks(range(count), settings.batch))

    for phase in Phase:
        off = steps(scaled, phase, clips) - steps(training, phase, 160)
        assert abs(off) <= len(chunks(range(clips), training.batch)) / 2
    assert study.same_steps(training, 160, 160) == training


def test_fewer_clips_are_a_part_of_more_and_balanced():
    clips = [Clip(f"v{i % 2}", 10 * i, 10 * i + 9, label=(i // 2) % 3) for i in range(24)]
    parts = [study.first_clips(clips, count) for count in (1, 2, 4, 9)]
    assert [len(part) for part in parts] == [6, 12, 24, 24]
    for fewer, more in pairwise(parts):
        assert set(fewer) <= set(more)
    assert sorted((clip.video, clip.label) for clip in parts[0]) == [(f"v{v}", k) for v in range(2) for k in range(3)]
    assert parts[0] == tuple(clips[:6])


def test_a_study_of_clips_says_what_it_will_train(tmp_path, capsys):
    run_all.main(output=tmp_path, preset="smoke", study="clips", plan_only=True)
    said = capsys.readouterr().out
    assert "study clips: 24 networks, under 2 conditions with 2 seeds each; training takes about " in said
    assert not list(tmp_path.rglob("models"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "smoke", "without": ("a",)}, "a study has its own kitchens and seeds: leave out data, its options"),
        ({"preset": "smoke", "seeds": 3}, "a study has its own kitchens and seeds"),
        ({"preset": "paper"}, "study needs a preset of smoke, quick, standard, got paper"),
    ],
)
def test_options_that_do_not_fit_a_study_end_with_one_message(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit, match="2"):
        run_all.main(output=tmp_path, study="distance", **options)
    assert message in capsys.readouterr().err


def test_a_study_that_was_killed_goes_on_and_ends_with_every_answer(tmp_path):
    arguments = command(tmp_path, "--study", "distance")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started, models = time.monotonic(), "distance-34-36-seed-0/models/*/manifest.json"
    while process.poll() is None and not list(tmp_path.glob(models)):
        assert time.monotonic() - started < TIMEOUT
        time.sleep(0.02)
    process.kill()
    assert process.wait() != 0, "the study was over before it could be killed"
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("distance-8-10-seed-*/models/*/manifest.json")}
    assert len(finished) >= 8
    assert not (tmp_path / "study.json").exists()

    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert "32 networks, under 2 conditions with 2 seeds each" in done.stdout
    results = StudyResults.load(tmp_path / "study.json")
    near, far = (np.mean(condition.shown) for condition in results.conditions)
    assert far < 0.5 < near
    assert results.arms == tuple(variant for variant in Variant if variant in study.ARMS["distance"])
    for condition in results.conditions:
        assert len(condition.answers) == 2 * 6
        assert all(results.gain(condition, rival, "thing").seeds is not None for rival in results.rivals)
    assert study_text.findings(results)[0] in html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert done.stdout.splitlines()[-2:] == [
        f"results: {tmp_path / 'study.json'}",
        f"report: {tmp_path / 'report.html'}",
    ]
