"""Several seeds' tables as one, against the numbers they were made of."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from examples.mpii_cooking import paper
from examples.mpii_cooking.data import mpii
from examples.mpii_cooking.evaluation import seeds, significance, tables
from examples.mpii_cooking.evaluation.tables import CELLS, POOLED

ANNOTATIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "mpii_cooking" / "detectionGroundtruth-1-0.csv"
CLIPS, CLASSES, SEEDS = 40, 4, 3
TRUTH = np.arange(CLIPS) % CLASSES


def accuracy_cell(generator, localizer, level, variant):
    predictions = generator.integers(0, CLASSES, CLIPS)
    return {"localizer": localizer, "level": level, "variant": variant} | tables.top_1(predictions, TRUTH)


def table_2(seed):
    generator = np.random.default_rng(seed)
    cells = [accuracy_cell(generator, *network, variant) for network in paper.TABLE_2 for variant in ("STN", "SSTN")]
    cells.append(accuracy_cell(generator, None, "detail", "R_h"))
    return {"clips": CLIPS, "labels": TRUTH.tolist(), "majority": {"class": 0, "correct": 10}, "cells": cells}


def table_3(seed):
    scores = np.random.default_rng(seed).normal(size=(len(CELLS), CLIPS, CLASSES)).astype(np.float32)
    cells = [
        {"row": row, "stream": stream, "variant": variant}
        | tables.precision(values, TRUTH, trained=np.array([0, 1, 2]))
        for (row, stream, variant), values in zip(CELLS, scores, strict=True)
    ]
    facts = {"classes_present": [*range(CLASSES)], "classes_without_training": [3]}
    return {"clips": CLIPS, "labels": TRUTH.tolist(), "cells": cells} | facts, scores


def test_merged_accuracies_are_means_with_every_seed_beside_them():
    single = [table_2(seed) for seed in range(SEEDS)]
    merged = seeds.merge_table_2(single)
    assert merged["labels"] == single[0]["labels"]
    assert len(merged["cells"]) == len(single[0]["cells"])
    for index, cell in enumerate(merged["cells"]):
        alone = [table["cells"][index] for table in single]
        assert {name: cell[name] for name in ("localizer", "level", "variant")}.items() <= alone[0].items()
        assert [found["predictions"] for found in cell["seeds"]] == [found["predictions"] for found in alone]
        percents = [found["percent"] for found in alone]
        assert cell["percent"] == pytest.approx(np.mean(percents))
        assert cell["interval_clips"] == pytest.approx(significance.wilson(cell["percent"] / 100 * CLIPS, CLIPS))
        assert cell["interval_seeds"] == pytest.approx(np.clip(significance.seed_interval(percents), 0, 100))
        both = cell["interval_clips"] + cell["interval_seeds"]
        assert cell["interval"] == [min(both), max(both)]


def variant_cells(seed, *variants):
    generator = np.random.default_rng(seed + 100)
    return [
        accuracy_cell(generator, None if variant == "center" else "vgg-16", "detail", variant) for variant in variants
    ]


def test_each_part_of_the_method_is_held_against_the_variant_that_lacks_it():
    singles = [
        [*table_2(seed)["cells"], *variant_cells(seed, "STN-identity", "STN-level", "STN-fast", "frozen", "guided")]
        for seed in range(SEEDS)
    ]
    found = {claim["claim"]: claim for claim in seeds.compare_variants(singles, TRUTH.tolist(), "vgg-16")}
    against = {claim: [pair["worse"][2] for pair in it["pairs"]] for claim, it in found.items()}
    assert against == {
        "initialization": ["STN-identity", "STN-level"],
        "rate": ["STN-fast"],
        "freedom": ["frozen"],
        "learning": ["R_h"],
        "turning off": ["guided"],
    }
    percents = [
        {(cell["localizer"], cell["level"], cell["variant"]): cell["percent"] for cell in cells} for cells in singles
    ]
    for claim in found.values():
        for pair in claim["pairs"]:
            assert pair["better"] == ["vgg-16", "detail", "SSTN"]
            difference = np.mean([of[tuple(pair["better"])] - of[tuple(pair["worse"])] for of in percents])
            assert pair["difference"] == pytest.approx(difference)


def test_variants_that_were_not_trained_are_held_against_nothing():
    assert seeds.compare_variants([table_2(0)["cells"]], TRUTH.tolist(), "vgg-16") == []


def test_localization_networks_that_were_not_trained_are_compared_with_nothing():
    table = table_2(0)
    table["cells"] = [cell for cell in table["cells"] if cell["localizer"] in ("vgg-16", None)]
    (guidance,) = seeds.merge_table_2([table])["comparisons"]
    assert [pair["better"][:2] for pair in guidance["pairs"]] == [
        ["vgg-16", level] for level in ("detail", "middle", "general")
    ]


def test_more_seeds_of_one_comparison_are_merged_by_themselves():
    singles = [variant_cells(seed, "SSTN", "STN") for seed in range(5)]
    merged = seeds.merge_margin(singles, TRUTH.tolist())
    ((sstn, stn), (claim,)) = merged["cells"], merged["comparisons"]
    assert [len(cell["seeds"]) for cell in (sstn, stn)] == [5, 5]
    by_seed = [better["percent"] - worse["percent"] for better, worse in singles]
    assert claim["mean"]["difference"] == pytest.approx(np.mean(by_seed))
    assert claim["mean"]["interval_seeds"] == pytest.approx(significance.seed_interval(by_seed))


def test_overlaps_are_means_over_seeds_unless_nothing_moved():
    def cell(mean):
        names = {"modality": "spatial", "level": "detail", "localizer": "vgg-16"}
        above_half = None if mean is None else float(mean > 0.5)
        return names | {"iou": [mean], "mean": mean, "above_half": above_half, "center": mean and mean / 2}

    (moved,) = seeds.merge_overlaps([[cell(0.4)], [cell(0.8)]])
    assert (moved["mean"], moved["above_half"], moved["center"]) == (pytest.approx(0.6), 0.5, pytest.approx(0.3))
    assert moved["interval_seeds"] == pytest.approx(significance.seed_interval([0.4, 0.8]))
    (once,) = seeds.merge_overlaps([[cell(0.4)], [cell(None)]])
    assert (once["mean"], once["interval_seeds"]) == (0.4, None)
    (still,) = seeds.merge_overlaps([[cell(None)], [cell(None)]])
    assert (still["mean"], still["interval_seeds"]) == (None, None)


def test_guidance_is_compared_network_by_network_and_seed_by_seed():
    merged = seeds.merge_table_2([table_2(seed) for seed in range(SEEDS)])
    cells = {(cell["localizer"], cell["level"], cell["variant"]): cell for cell in merged["cells"]}
    (guidance,) = merged["comparisons"]
    assert [tuple(pair["better"][:2]) for pair in guidance["pairs"]] == [*paper.TABLE_2]
    for pair in guidance["pairs"]:
        better, worse = cells[tuple(pair["better"])], cells[tuple(pair["worse"])]
        assert (better["variant"], worse["variant"]) == ("SSTN", "STN")
        assert pair["difference"] == pytest.approx(better["percent"] - worse["percent"])
        hits = [[np.array(s["predictions"]) == TRUTH for s in cell["seeds"]] for cell in (better, worse)]
        assert pair["p"] == pytest.approx(significance.mcnemar(*map(np.array, hits)))
    assert guidance["mean"]["difference"] == pytest.approx(np.mean([p["difference"] for p in guidance["pairs"]]))


def test_merged_precisions_and_their_comparisons_are_those_of_the_cells():
    single, scores = zip(*(table_3(seed) for seed in range(SEEDS)), strict=True)
    merged = seeds.merge_table_3(single, scores)
    assert [(cell["row"], cell["stream"], cell["variant"]) for cell in merged["cells"]] == [*CELLS]
    resampled = [significance.bootstrap_maps(each, TRUTH, significance.draw(CLIPS)) for each in scores]
    for index, cell in enumerate(merged["cells"]):
        aps = [[average_precision_score(k == TRUTH, each[index, :, k]) for k in range(CLASSES)] for each in scores]
        np.testing.assert_allclose(cell["ap"], 100 * np.mean(aps, axis=0))
        assert cell["map"] == pytest.approx(100 * np.mean(aps))
        assert cell["map_trained"] == pytest.approx(100 * np.mean(np.array(aps)[:, :3]))
        assert [found["map"] for found in cell["seeds"]] == pytest.approx(100 * np.mean(aps, axis=1))
        spread = np.ptp(np.percentile(100 * np.mean(resampled, axis=0)[:, index], [2.5, 97.5]))
        assert np.ptp(cell["interval_clips"]) == pytest.approx(spread)
    maps = {(cell["row"], cell["stream"], cell["variant"]): cell["map"] for cell in merged["cells"]}
    found = {comparison["claim"]: comparison["pairs"] for comparison in merged["comparisons"]}
    assert {claim: len(pairs) for claim, pairs in found.items()} == {"region": 12, "fusion": 6, "streams": 16}
    for pair in itertools.chain(*found.values()):
        assert pair["difference"] == pytest.approx(maps[tuple(pair["better"])] - maps[tuple(pair["worse"])])
        assert pair["p"] is None
    for pair in found["fusion"]:
        _, stream, variant = pair["better"]
        assert maps[tuple(pair["worse"])] == max(maps[level, stream, variant] for level in paper.LEVELS)


def test_one_seed_says_nothing_about_others():
    table, scores = table_3(0)
    for merged in (seeds.merge_table_2([table_2(0)]), seeds.merge_table_3([table], [scores])):
        assert all(cell["interval_seeds"] is None for cell in merged["cells"])
        assert all(cell["interval"] == cell["interval_clips"] for cell in merged["cells"])
        json.dumps(merged, allow_nan=False)


def test_poolings_are_compared_with_the_main_one_in_one_cell():
    single, scores = zip(*(table_3(seed) for seed in range(SEEDS)), strict=True)
    table, index = seeds.merge_table_3(single, scores), CELLS.index(POOLED)
    merged = seeds.merge_poolings(("rbf", "distance"), [each[[index, 0]] for each in scores], TRUTH.tolist())
    assert (merged["row"], merged["stream"], merged["variant"]) == ("late fusion", "S+T", "R_d")
    for cell, expected in zip(merged["cells"], (table["cells"][index], table["cells"][0]), strict=True):
        assert cell["map"] == pytest.approx(expected["map"])
        assert cell["interval"] == pytest.approx(expected["interval"])
    ((pair,),) = (claim["pairs"] for claim in merged["comparisons"])
    assert (pair["better"], pair["worse"]) == (["rbf"], ["distance"])
    assert pair["difference"] == pytest.approx(table["cells"][index]["map"] - table["cells"][0]["map"])


def test_tables_about_different_clips_are_refused():
    other = table_2(1) | {"labels": TRUTH[::-1].tolist()}
    with pytest.raises(ValueError, match="must be about the same test clips"):
        seeds.merge_table_2([table_2(0), other])


@pytest.mark.skipif(not ANNOTATIONS.is_file(), reason="needs the annotation file of MPII Cooking")
def test_always_answering_the_largest_training_class_is_the_paper_s_worst_baseline(monkeypatch):
    """130/2033 = 6.39 %, the STN of VGG-16 at detail level, by the code that fills Table 2 from the real clips."""
    monkeypatch.setattr(mpii, "_find_videos", lambda *_: {})
    dataset = mpii.read_dataset(ANNOTATIONS.parent)
    drawer = dataset.classes.index("take out from drawer")
    constant = {"localizer": "vgg-16", "level": "detail", "variant": "STN", "predictions": [drawer] * len(dataset.test)}
    monkeypatch.setattr(tables, "predictions", lambda _: [constant])
    found = tables.table_2(type("Trainer", (), {"dataset": dataset}))
    assert found["majority"] == {"class": drawer, "correct": 130}
    (cell,) = seeds.merge_accuracies([found["cells"]])
    assert (cell["seeds"][0]["correct"], cell["total"]) == (130, 2033)
    assert f"{cell['percent']:.2f}" == paper.TABLE_2["vgg-16", "detail"].stn.printed
