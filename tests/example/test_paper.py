"""The paper's numbers agree with themselves."""

from itertools import product

import numpy as np
import pytest

from examples.mpii_cooking import paper
from examples.mpii_cooking.variants import Region, Variant


@pytest.mark.parametrize("printed", paper.TABLE_2.values())
def test_every_printed_accuracy_is_a_count_of_the_test_clips(printed):
    decimals = len(printed.split(".")[1])
    assert f"{100 * paper.correct_clips(printed) / paper.TEST_CLIPS:.{decimals}f}" == printed


def test_no_smaller_test_set_explains_the_printed_accuracies():
    printed = [accuracy for accuracy in paper.TABLE_2.values() if accuracy[-3] == "."]
    percents = np.array(printed, dtype=float)

    def explains(clips):
        return (np.round(100 * np.round(percents * clips / 100) / clips, 2) == percents).all()

    assert len(printed) == 16
    assert [clips for clips in range(20, 4000) if explains(clips)] == [paper.TEST_CLIPS]


def test_tables_of_the_paper_are_complete():
    assert set(paper.TABLE_2) == set(product(paper.LOCALIZERS, paper.LEVELS, (Variant.STN, Variant.SSTN)))
    assert set(paper.TABLE_3) == set(product((*paper.LEVELS, paper.FUSION), paper.STREAMS, Region))


def test_the_paper_prefers_the_learned_region_in_all_cells_but_one():
    cells = product((*paper.LEVELS, paper.FUSION), paper.STREAMS)
    worse = [cell for cell in cells if paper.TABLE_3[*cell, Region.LEARNED] <= paper.TABLE_3[*cell, Region.HARD_CODED]]
    assert worse == [("general", "S+T")]
