"""What is kept of a run: no path of the machine it is from, and the numbers of its results in tables."""

import copy
import dataclasses
import json

import pytest

from examples.mpii_cooking.config import PRESETS
from examples.mpii_cooking.report import markdown, page
from tests.helpers.made_up import made_up_results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made_up_results(tmp_path_factory.mktemp("run"), count=2)


def test_a_record_names_no_folder_of_the_machine(results):
    elsewhere = copy.deepcopy(results)
    elsewhere["dataset"]["folder"] = "/home/somebody/clips"
    elsewhere["settings"]["raft_weights"] = "/home/somebody/raft.pth"
    elsewhere["command"] = "python /home/somebody/run_all.py --data '/home/some body/clips' --output /home/out"
    elsewhere["command"] += (
        " --weights=/home/somebody/imagenet --preset=quick --output=/home/out --raft_weights /home/r.pth"
    )
    kept = markdown.record(elsewhere)
    assert kept["command"] == (
        "python examples/mpii_cooking/run_all.py --data clips --weights imagenet --preset quick --raft-weights r.pth"
    )
    assert "/home" not in json.dumps(kept)


def test_a_record_has_what_the_tables_need(results):
    kept = json.loads(json.dumps(markdown.record(results)))
    for table in (
        markdown.claims_table,
        markdown.table_2,
        markdown.variants_table,
        markdown.table_3,
        markdown.overlap_table,
    ):
        assert table(kept) == table(results)
    assert "outside of a checkout" in markdown.run_table(kept)


def numbers(table):
    """The first number of every cell of the body that has one, row by row."""
    body = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [[float(cell.split(" ")[0]) for cell in row if cell[:1].isdigit()] for row in body]


def test_tables_show_the_means_of_the_results(results):
    rows = numbers(markdown.table_2(results))
    for row, expected in zip(rows, page.table_2(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]
    rows = numbers(markdown.table_3(results))
    for row, expected in zip(rows, page.table_3(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]
    for row, expected in zip(numbers(markdown.variants_table(results)), page.variant_rows(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]


def test_overlaps_stand_in_the_order_of_levels(results):
    *guided, center = numbers(markdown.overlap_table(results))
    assert [mean for row in guided for mean in row] == [round(cell["mean"], 2) for cell in results["overlap"]]
    assert center == [round(cell["center"], 2) for cell in results["overlap"][:3]]


def test_a_claim_of_more_seeds_is_a_row_of_its_own(results):
    assert (
        markdown.claims_table(results)
        .splitlines()[-1]
        .startswith("| SSTN beats STN at detail level with VGG-16, 3 seeds |")
    )
    assert "3 seeds" not in markdown.claims_table(results | {"margin_seeds": []})


def test_cues_are_counted_each_by_itself(results):
    small = copy.deepcopy(results)
    small["dataset"]["classes"] = ["cut leek at stove", "cut leek at window", "cut salami at stove"]
    small["settings"]["main_localizer"] = "vgg-16"
    answers = {"localizer": "vgg-16", "level": "detail", "variant": "STN", "seeds": [{"predictions": [0, 1, 2, 2]}]}
    small["table2"] = {"labels": [0, 0, 0, 1], "cells": [answers]}
    small["variants"] = []
    # Things: right, right, wrong, wrong; places: right, wrong, right, wrong.
    assert markdown.cues_table(small).splitlines()[2] == "| STN |  |  | 50, 50 |"


@pytest.mark.parametrize(("name", "preset"), [("kitchen", "standard"), ("clips", "quick")])
def test_what_is_recorded_is_what_the_preset_would_do_today(name, preset):
    today = json.loads(json.dumps(dataclasses.asdict(PRESETS[preset])))
    assert markdown.recorded(name)["settings"] == today


# What follows is stated in docs/reproduction.md: if a new record says otherwise, so must that page.


def test_on_the_kitchen_guidance_wins():
    kitchen = markdown.recorded("kitchen")
    assert len(kitchen["seeds"]) == 3
    (guidance,) = kitchen["table2"]["comparisons"]
    assert guidance["mean"]["interval"][0] > 0
    pairs = {tuple(pair["better"][:2]): pair["interval"] for pair in guidance["pairs"]}
    assert pairs["vgg-16", "detail"][0] > 0
    assert pairs["vgg-16", "middle"][0] > 0
    assert [pairs[key][0] > 0 for key in pairs if key[1] != "general"].count(False) == 3


def test_on_the_kitchen_plain_transformers_tell_the_place_and_guided_ones_the_thing():
    rows = [row.strip("| ").split(" | ") for row in markdown.cues_table(markdown.recorded("kitchen")).splitlines()[2:]]
    thing, place = ({row[0]: int(row[3].split(", ")[cue]) for row in rows} for cue in (0, 1))
    assert thing["STN"] < 40 < 90 < place["STN"]
    assert place["SSTN"] < 60 < 90 < thing["SSTN"]


def test_on_the_kitchen_some_verdicts_are_losses_or_open():
    kitchen = markdown.recorded("kitchen")
    open_ = {claim["claim"] for claim in kitchen["variant_claims"] if claim["mean"]["verdict"] == "inconclusive"}
    assert open_ == {"initialization", "freedom", "learning", "turning off"}
    (initialization,) = (claim for claim in kitchen["variant_claims"] if claim["claim"] == "initialization")
    assert {pair["verdict"] for pair in initialization["pairs"]} == {"inconclusive"}
    variants = {
        cell["variant"]: cell
        for cell in (*kitchen["table2"]["cells"], *kitchen["variants"])
        if cell["level"] == "detail"
    }
    better = [seed["percent"] for seed in variants["STN-identity"]["seeds"]]
    (ours,) = (
        c
        for c in kitchen["table2"]["cells"]
        if (c["localizer"], c["level"], c["variant"]) == ("vgg-16", "detail", "SSTN")
    )
    assert all(a > b["percent"] for a, b in zip(better, ours["seeds"], strict=True))
    (region,) = (claim for claim in kitchen["table3"]["comparisons"] if claim["claim"] == "region")
    assert region["mean"]["verdict"] == "inconclusive"
    lost = [pair["better"][:2] for pair in region["pairs"] if pair["verdict"] == "does not hold"]
    assert lost == [["detail", "spatial"]]


def test_on_the_kitchen_guided_windows_find_the_motion():
    """All do far better than the center window; at detail level they do worst."""
    found = {(cell["modality"], cell["level"]): cell for cell in markdown.recorded("kitchen")["overlap"]}
    for cell in found.values():
        assert min(seed["mean"] for seed in cell["seeds"]) > cell["center"] + 0.1
    assert [stream for stream, cell in found.items() if cell["mean"] <= 0.7] == [
        ("spatial", "detail"),
        ("temporal", "detail"),
    ]


def test_on_the_clips_the_temporal_streams_are_far_above_chance():
    clips = markdown.recorded("clips")
    chance = 100 / len(clips["dataset"]["classes"])
    temporal = [cell for cell in clips["table3"]["cells"] if cell["stream"] == "temporal"]
    assert len(temporal) == 8
    assert min(cell["interval"][0] for cell in temporal) > 5 * chance
