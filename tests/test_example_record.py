"""What is kept of a run: no path of the machine it is from, and the numbers of its results in tables."""

import copy
import json

import pytest
from made_up import made_up_results

from examples.mpii_cooking import record, report


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return made_up_results(tmp_path_factory.mktemp("run"), count=2)


def test_a_record_names_no_folder_of_the_machine(results):
    elsewhere = copy.deepcopy(results)
    elsewhere["corpus"]["folder"] = "/home/somebody/clips"
    elsewhere["command"] = "python examples/mpii_cooking/run_all.py --data '/home/some body/clips' --output /home/out"
    elsewhere["command"] += " --preset quick"
    kept = record.record(elsewhere)
    assert kept["command"] == "python examples/mpii_cooking/run_all.py --data clips --preset quick"
    assert "/home" not in json.dumps(kept)


def test_a_record_has_what_the_tables_need(results):
    kept = json.loads(json.dumps(record.record(results)))
    for table in (record.claims_table, record.table_2, record.arms_table, record.table_3, record.overlap_table):
        assert table(kept) == table(results)


def numbers(table):
    """The first number of every cell of the body that has one, row by row."""
    body = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return [[float(cell.split(" ")[0]) for cell in row if cell[:1].isdigit()] for row in body]


def test_tables_show_the_means_of_the_results(results):
    rows = numbers(record.table_2(results))
    for row, expected in zip(rows, report.table_2(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]
    rows = numbers(record.table_3(results))
    for row, expected in zip(rows, report.table_3(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]
    for row, expected in zip(numbers(record.arms_table(results)), report.arm_rows(results), strict=True):
        assert row == [round(cell.percent, 1) for cell in expected.cells]


def test_overlaps_stand_in_the_order_of_levels(results):
    *guided, centre = numbers(record.overlap_table(results))
    assert [mean for row in guided for mean in row] == [round(cell["mean"], 2) for cell in results["overlap"]]
    assert centre == [round(cell["centre"], 2) for cell in results["overlap"][:3]]


def test_a_claim_of_more_seeds_is_a_row_of_its_own(results):
    assert (
        record.claims_table(results)
        .splitlines()[-1]
        .startswith("| SSTN beats STN at detail level with VGG-16, 3 seeds |")
    )
    assert "3 seeds" not in record.claims_table(results | {"margin_seeds": []})
