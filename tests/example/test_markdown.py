"""The documentation's tables show the numbers of the results, and a record keeps what they need and nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.mpii_cooking import paper
from examples.mpii_cooking.data.dataset import Lost
from examples.mpii_cooking.evaluation import schema
from examples.mpii_cooking.evaluation.claims import claims
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.evaluation.tables import clip_ceilings, frame_ceilings
from examples.mpii_cooking.formats import markdown_table
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.report import docs_record, markdown
from examples.mpii_cooking.report.verdicts import judge
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.variants import Modality, Variant
from tests.helpers.made_up import made_up_results

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reproduction.md"
TABLES = (
    markdown.run_table,
    markdown.headline_text,
    markdown.claims_table,
    markdown.rivals_table,
    markdown.claims_by_cue_table,
    markdown.claims_by_distance_table,
    markdown.cues_table,
    markdown.table_2,
    markdown.variants_table,
    markdown.table_3,
    markdown.overlap_table,
)


@pytest.fixture(scope="module")
def results():
    return made_up_results(2, more_seeds=1)


def numbers(table):
    """The first number of every cell of the body that has one, row by row."""
    body = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [[float(cell.split(" ")[0]) for cell in row if cell[:1].isdigit()] for row in body]


def rounded(found):
    return [round(each.mean.value, 1) for each in found.values()]


def test_a_table_is_markdown():
    assert markdown_table(("a", "b"), [("1", "2"), ("3", "")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"


def test_the_table_of_frames_shows_pairs_by_level_and_the_baselines_below(results):
    networks = [
        [results.cell(variant, level, name) for level in paper.LEVELS for variant in (Variant.STN, Variant.SSTN)]
        for name in paper.LOCALIZERS
    ]
    baselines = [
        [results.cell(it, level) for level in paper.LEVELS] for it in (Variant.HARD_CODED, Variant.RANDOM_CROP)
    ]
    found = results.accuracies([cell for row in (*networks, *baselines) for cell in row])
    expected = [[round(found[cell].mean.value, 1) for cell in row] for row in (*networks, *baselines)]
    *rows, best = numbers(markdown.table_2(results))
    assert rows == expected
    assert best == [round(value, 1) for value in frame_ceilings(results).values()]


def test_the_table_of_variants_has_a_row_for_each(results):
    cells = [results.cell(variant, "detail") for variant in Variant]
    assert [row[0] for row in numbers(markdown.variants_table(results))] == rounded(results.accuracies(cells))


def test_the_table_of_clips_shows_regions_by_stream(results):
    both = numbers(markdown.table_3(results))
    rows, best = both[::2], both[1::2]
    assert [len(row) for row in rows] == [6, 6, 6, 6]
    assert best == [[round(value, 1) for value in row.values()] for row in clip_ceilings(results).values()]
    fused = rounded(results.precisions([pair[0] for pair in claims(results)[1].pairs[-3:]]))
    assert rows[-1][::2] == fused


def test_the_table_of_overlaps_is_in_the_order_of_levels(results):
    *guided, center = numbers(markdown.overlap_table(results))
    found = [[results.overlap(modality, level) for level in paper.LEVELS] for modality in Modality]
    assert guided == [[round(each.mean, 2) for each in row] for row in found]
    assert center == [round(each.center, 2) for each in found[0]]


def test_every_claim_is_a_row(results):
    titles = [line.split(" | ")[0].strip("| ") for line in markdown.claims_table(results).splitlines()[2:]]
    assert titles == [claim.title for claim in claims(results)]
    assert titles[-1] == "SSTN beats STN at detail level with VGG-16, 3 seeds"


def test_readings_of_claims_are_rows_below_their_titles(results):
    for table, kind in (
        (markdown.claims_by_cue_table, "by_cue"),
        (markdown.claims_by_distance_table, "by_distance"),
    ):
        rows = [line.strip("| ").split(" | ") for line in ("|" + line for line in table(results).splitlines()[2:])]
        expected = [(judgment, each) for judgment in judge(results) for each in getattr(judgment, kind)]
        for row, (judgment, reading) in zip(rows, expected, strict=True):
            is_first = reading is getattr(judgment, kind)[0]
            assert (judgment.claim.title in row) == is_first
            assert "{:.1f} against {:.1f}".format(*reading.found.means) in row
            assert reading.found.mean.verdict.value in row
            assert (f"{reading.ceiling:.1f}" if kind == "by_cue" else str(reading.clips)) in row


def test_gains_over_rivals_are_those_of_the_clips_that_a_row_names(results):
    rows = [line[2:-2].split(" | ") for line in markdown.rivals_table(results).splitlines()[2:5]]
    assert [row[:2] for row in rows] == [["R_h", "any share"], ["", "less than half"], ["", "half or more"]]
    free, fixed = (
        np.stack([it.answers for it in results.frame_answers if it.cell == results.cell(variant, "detail")][:2])
        for variant in (Variant.SSTN, Variant.HARD_CODED)
    )
    names, things = np.arange(len(results.dataset.classes)), np.array(results.dataset.cues["thing"])
    gains = [
        (known[free] == known[results.labels]).astype(int) - (known[fixed] == known[results.labels])
        for known in (names, things)
    ]
    is_near = np.array(results.shown) >= 0.5
    for row, part in zip(rows, (np.full_like(is_near, True), ~is_near, is_near), strict=True):
        found = [float(cell.split(" ")[0]) for cell in row[2:]]
        assert found == [round(100 * gain[:, part].mean(), 1) for gain in gains]


def test_data_without_cues_has_no_rows_about_them(results):
    filmed = replace(results, dataset=replace(results.dataset, cues={}), shown=())
    assert markdown.claims_by_cue_table(filmed) == markdown.claims_by_distance_table(filmed) == ""
    assert "all that" not in markdown.table_2(filmed) + markdown.table_3(filmed)


def test_cues_are_counted_each_by_itself(results):
    row = schema.FrameAnswers(0, results.cell(Variant.STN, "detail"), np.array([0, 1, 2, 2]))
    cues = {"thing": (0, 0, 1), "place": (0, 1, 0)}
    dataset = replace(results.dataset, classes=("a", "b", "c"), cues=cues, train_clips=(1, 1, 1))
    small = replace(results, dataset=dataset, labels=np.array([0, 0, 0, 1]), frame_answers=(row,))
    # Things: right, right, wrong, wrong; places: right, wrong, right, wrong.
    found = markdown.cues_table(small).splitlines()
    assert found[2] == "| STN |  |  | 50, 50 |"
    # All have one thing, so that it is always right; three of four are at one place.
    assert found[-1] == "| all that this stream shows | 100, 100 | 100, 75 | 100, 75 |"


def test_a_record_has_what_the_tables_need(results, tmp_path):
    docs_record.condensed(results).save(tmp_path)
    assert not (tmp_path / "scores.npz").exists()
    kept = Results.load(tmp_path)
    for table in TABLES:
        assert table(kept) == table(results)
    assert "outside of a checkout" in markdown.run_table(kept)
    for claim in claims(kept):
        assert kept.compare(claim.pairs) == results.compare(claim.pairs)


def test_a_record_says_what_it_has_not_kept(results):
    kept = docs_record.condensed(results)
    pair = claims(results)[1].pairs[0][::-1]
    with pytest.raises(KeyError, match=r"the record has no interval of .*: record the run again"):
        kept.compare([pair])


def test_a_record_names_no_folder_of_the_machine(results):
    command = "python /home/somebody/run_all.py --data '/home/some body/clips' --output /home/out"
    command += " --weights=/home/somebody/imagenet --preset=quick --output=/home/out"
    lost = (
        Lost("left/1.avi", 2, "/home/some body/clips/left/1.avi is cut off"),
        Lost("s8-d1", 1, "/home/s8-d1.avi is bad"),
    )
    elsewhere = replace(
        results,
        command=command,
        dataset=replace(results.dataset, folder="/home/somebody/clips", lost=lost),
        files={"cache": "/home/out/cache"},
    )
    kept = docs_record.condensed(elsewhere)
    assert kept.command == ("python examples/mpii_cooking/run_all.py --data clips --weights imagenet --preset quick")
    assert [each.problem for each in kept.dataset.lost] == ["1.avi is cut off", "s8-d1.avi is bad"]
    assert "/home" not in json.dumps(encode(replace(kept, scores={})))


@pytest.mark.parametrize(("name", "preset"), [("kitchen", "standard"), ("clips", "quick")])
def test_what_is_recorded_is_what_the_preset_would_do_today(name, preset):
    assert Results.load(docs_record.FOLDER / name).settings == PRESETS[preset]


@pytest.mark.parametrize("name", ["kitchen", "clips", "five-interactions", "six-interactions"])
def test_the_prose_about_a_recorded_run_was_read_against_its_numbers(name):
    marks = dict(re.findall(r"<!-- prose read against: ([\w-]+) (\w+) -->", PAGE.read_text(encoding="utf-8")))
    found = docs_record.digest(Results.load(docs_record.FOLDER / name))
    assert marks[name] == found, f"compare what {PAGE.name} says about {name} with its tables, then mark it {found}"
