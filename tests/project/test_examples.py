"""The quickstart does what it says: guidance finds the motion, freedom finds the task."""

import re
from typing import NamedTuple

import matplotlib.image
import pytest

from tests.helpers.programs import ROOT, run_python
from tests.helpers.sharing import made_once


class Stage(NamedTuple):
    overlap: float
    seen: float  # percent of the tile
    accuracy: float


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The stages that the quickstart prints, and its picture."""

    def make(folder):
        done = run_python("examples/quickstart.py", "--picture", folder / "strip.png")
        assert done.returncode == 0, done.stderr
        (folder / "printed.txt").write_text(done.stdout)

    folder = made_once(tmp_path_factory, "quickstart", make)
    picture, printed = folder / "strip.png", (folder / "printed.txt").read_text()
    rows = re.findall(r"^(start|guided|free) +([\d.]+) +(\d+)% +(\d+)%$", printed, re.M)
    stages = {name: Stage(*map(float, numbers)) for name, *numbers in rows}
    return stages, picture


def test_guidance_finds_the_moving_hand_and_teaches_nothing_else(run):
    stages, _ = run
    assert stages["start"].overlap < 0.3
    assert stages["guided"].overlap > 0.6
    assert stages["guided"].accuracy < 35  # chance is 25: the classifier has not been trained yet


def test_freedom_moves_the_window_from_the_hand_to_what_it_holds(run):
    stages, _ = run
    assert stages["free"].seen > stages["guided"].seen + 25
    assert stages["free"].overlap < stages["guided"].overlap
    # The motion window shows one corner of the tile, which decides half of the scenes.
    assert stages["free"].accuracy > 90


@pytest.mark.parametrize("committed", [False, True], ids=["just drawn", "in the README"])
def test_the_picture_is_small_and_readable(run, committed):
    picture = ROOT / "docs" / "images" / "overview.png" if committed else run[1]
    height, width = matplotlib.image.imread(picture).shape[:2]
    assert picture.stat().st_size < 300_000
    assert 900 <= width <= 2000
    assert height < width
