"""A small part of what ``benchmarks/accuracy.py`` measures stays within the tolerances."""

import pytest
import torch

from benchmarks import accuracy
from benchmarks.tolerances import RANDOM_TRANSFORMS

CASES = 240
ATEN_TO_BASELINE = 2
"""The backend ``aten`` rounds as often as the baseline but in another order, so either may be closer to the truth."""


@pytest.fixture(scope="module", params=list(accuracy.DTYPES))
def measured(request):
    return request.param, accuracy.random_transforms(request.param, "cpu", CASES)


def test_the_reference_is_within_its_tolerance(measured):
    """float32: within RANDOM_TRANSFORMS of the truth; half precision: the rounding of a number that is."""
    dtype, results = measured
    reference = results["reference"]
    assert reference["over_budget"] == 0, f"{dtype}: {reference}"
    if dtype == "float32":
        assert reference["max"] <= RANDOM_TRANSFORMS, reference


def test_the_reference_is_never_further_from_the_truth_than_the_baseline(measured):
    dtype, results = measured
    assert results["reference"]["further"]["baseline"] == 0, f"{dtype}: {results}"


def test_aten_is_about_as_far_from_the_truth_as_the_baseline(measured):
    dtype, results = measured
    assert results["aten"]["max"] <= ATEN_TO_BASELINE * results["baseline"]["max"], f"{dtype}: {results}"


def test_images_come_back_bit_for_bit_from_the_reference():
    found = accuracy.exactness("cpu", sizes=(1, 2, 3, 7, 224, 1000, 4095, 65_536))
    assert found["failures"]["reference"] == {name: {"count": 0} for name in ("identity", "shift")}
    # The test can fail: the baseline's images do not come back.
    assert found["failures"]["baseline"]["identity"]["count"] > 0


def test_autocast_moves_no_pixel():
    for dtype, by in accuracy.autocast_identity("cpu").items():
        assert max(by["reference"].values()) == 0, f"{dtype}: {by['reference']}"
        assert max(by["aten"].values()) <= 1e-3, f"{dtype}: {by['aten']}"
        # The test can fail: the baseline's grid is in half precision.
        assert by["baseline"]["3840"] > 0.1, f"{dtype}: {by['baseline']}"


def test_errors_beyond_the_tolerance_are_counted_and_named(monkeypatch):
    def wrong(image, theta, size, align_corners):
        sampled = accuracy.baseline(image.double(), theta.double(), size, align_corners)
        sampled[3, 0, 0, 0] += 2 * RANDOM_TRANSFORMS
        return sampled.to(image.dtype)

    monkeypatch.setattr(accuracy, "contestants", lambda device: {"wrong": wrong, "baseline": accuracy.cast_baseline})
    results = accuracy.random_transforms("float32", "cpu", 5)["wrong"]
    assert results["over_budget"] == 1
    assert results["max"] == pytest.approx(2 * RANDOM_TRANSFORMS, rel=0.1)
    assert results["worst"] == 3


def test_a_shorter_run_has_the_first_cases_of_a_longer_one():
    few, many = list(accuracy.batches(50)), list(accuracy.batches(200))
    assert [len(image) for image, *_ in few] == [40, 10]
    assert all(torch.equal(*both) for both in zip(few[0][:2], many[0][:2], strict=True))
    assert few[0][2:] == many[0][2:]
    assert few[1][0].shape[2:] == many[1][0].shape[2:]


def test_the_table_shows_every_contestant_and_every_count(monkeypatch):
    monkeypatch.setattr(accuracy, "EXACT_SIZES", (5,))
    results = accuracy.measure("cpu", 5) | {"date": "D", "command": "C"}
    text = accuracy.table(results)
    for dtype, by in results["random_transforms"].items():
        for name, errors in by.items():
            assert f"| {dtype} | {name} | {errors['max']:.2e} |" in text
    assert "| reference | 0 | 0 |" in text
    assert "3840 pixels wide" in text
