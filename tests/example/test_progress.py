"""The bar of training: it moves with every step, and its estimate is right, also after a resume."""

import dataclasses
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from examples.mpii_cooking.training import all_runs, progress, train
from examples.mpii_cooking.training.progress import Progress, Work, seconds_left
from examples.mpii_cooking.training.runs import build
from tests.example.test_train import experiment_of
from tests.helpers.made_up_samples import CLASSES, JOINT, PRESET, Epoch, made_up
from tests.helpers.programs import clean_environment

EPOCH = {("guide", "spatial"): 2.0, ("guide", "temporal"): 5.0, ("joint", "spatial"): 3.0, ("joint", "temporal"): 11.0}
"""Seconds of an epoch, which the estimate does not know."""
TICK = 0.05  # seconds
NOTHING_DONE = [Work(f"run {place}", kind, 7) for place, kind in enumerate([*EPOCH, *reversed(EPOCH), *EPOCH])]


def worked(works, at_a_time, seconds):
    """Let some workers work on a clock that ticks, and return the runs and the time that it took."""
    works, running, clock = list(works), [], 0.0
    while clock < seconds and any(work.left for work in works):
        waiting = [place for place, work in enumerate(works) if work.left and place not in running]
        running += waiting[: at_a_time - len(running)]
        clock += TICK
        for place in running:
            work = works[place]
            epochs = min(work.total, work.epochs + TICK / EPOCH[work.kind])
            works[place] = dataclasses.replace(work, epochs=epochs, seconds=work.seconds + TICK)
        running = [place for place in running if works[place].left]
    return works, clock


@pytest.mark.parametrize("stop", [101.0, 160.0, 290.0, 400.0])
def test_the_estimate_is_the_time_that_the_rest_takes(stop):
    """At the first stop, the fourth and last kind has just started. A resumed run knows no more than this."""
    works, _ = worked(NOTHING_DONE, 1, stop)
    _, rest = worked(works, 1, float("inf"))
    assert seconds_left(works, 1) == pytest.approx(rest, abs=1)


@pytest.mark.parametrize("stop", [60.0, 130.0, 200.0])
def test_the_estimate_is_within_one_run_with_two_workers(stop):
    works, _ = worked(NOTHING_DONE, 2, stop)
    _, rest = worked(works, 2, float("inf"))
    late = rest - seconds_left(works, 2)  # at the end, one worker may be alone with the longest run
    assert -1 < late < 7 * max(EPOCH.values()) / 2 + 1


def test_an_epoch_takes_as_long_as_in_the_runs_with_the_most_in_common():
    measured = [Work("", ("guide", "a", 1), 4, 2, 20.0), Work("", ("guide", "b", 1), 2, 2, 4.0, is_finished=True)]
    assert seconds_left(measured[1:], 1) == 0
    assert seconds_left([*measured[1:], Work("", ("guide", "b", 2), 3)], 1) == 3 * 2
    assert seconds_left([*measured, Work("", ("guide", "c", 1), 3)], 1) == 2 * 10 + 3 * 24 / 4
    assert seconds_left([*measured, Work("", ("joint", "a", 1), 3)], 2) == (2 * 10 + 3 * 24 / 4) / 2
    assert seconds_left([Work("", ("guide",), 4)], 1) is None


def test_a_run_that_ended_early_has_nothing_left():
    assert seconds_left([Work("", (), 9, 4, 8.0, is_finished=True), Work("", (), 3, 1, 2.0)], 1) == 4


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is advanced."""
    clock = SimpleNamespace(now=100.0)
    for module in (train, progress):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def drawn(capsys):
    """Returns the last state of a bar: its percentage, and what stands behind it."""

    def last():
        *_, found = re.finditer(r"train: +(\d+) % \|.{20}\| (.*?) *$", capsys.readouterr().err, re.MULTILINE)
        return int(found[1]), found[2]

    return last


def test_the_bar_starts_where_the_last_start_ended_and_moves_once_a_second(clock, drawn, capsys):
    works = [
        Work("a", ("guide",), 4, 4, 8.0, is_finished=True),
        Work("b", ("joint",), 4, 1, 10.0),
        Work("c", ("joint",), 4),
    ]
    bar = Progress(works, 1, hidden=False)
    bar.start(1)
    assert drawn() == (round(100 * 18 / 88), "1 of 3 networks, about 1 min 10 s left; b")
    bar.note(1, 1.5, 15.0)
    bar.note(1, 2.0, 20.0)
    assert capsys.readouterr().err == ""
    clock.now += progress.SHOWN_EVERY
    bar.note(1, 2.5, 25.0)
    assert drawn() == (round(100 * 33 / 88), "1 of 3 networks, about 55.0 s left; b")
    bar.finish(1)  # after two and a half of four epochs
    assert drawn() == (round(100 * 33 / 73), "2 of 3 networks, about 40.0 s left; b")
    bar.close()


def test_before_the_first_step_there_is_no_estimate(drawn):
    bar = Progress([Work("a", (), 4)], 1, hidden=False)
    bar.start(0)
    assert drawn() == (0, "0 of 1 network, measuring; a")
    bar.close()


def test_a_resumed_run_notes_its_steps_from_where_it_was(tmp_path, monkeypatch, clock):
    """Epochs have two steps of five seconds each. The run is killed in the third one, of which nothing is kept."""
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)

    class Slow(Epoch):
        def __getitems__(self, indices):
            clock.now += 5.0
            return super().__getitems__(indices)

    experiment, batches, noted = experiment_of(tmp_path), [made_up(4), made_up(4)], []

    def fit(third):
        epochs, unit = [batches, batches, third], experiment.unit(JOINT)
        networks = build(JOINT, CLASSES, PRESET)
        train.fit(JOINT, networks, PRESET, unit, lambda epoch: Slow(epochs[epoch]), note=lambda *it: noted.append(it))

    with pytest.raises(KeyboardInterrupt):
        fit([batches[0], KeyboardInterrupt()])
    assert noted == [(0.5, 5.0), (1.0, 10.0), (1.5, 15.0), (2.0, 20.0), (2.5, 25.0)]
    found = all_runs._work(experiment, JOINT, is_finished=False)
    assert (found.total, found.epochs, found.seconds, seconds_left([found], 1)) == (3, 2, 20.0, 10.0)
    noted.clear()
    fit(batches)
    assert noted == [(2.5, 25.0), (3.0, 30.0), (3.0, 30.0)]  # the last with the time that saving took


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_message_of_any_process_stands_in_place_of_the_bar(is_terminal):
    """Workers write to the terminal of the bar, too."""
    ours, theirs = os.openpty() if is_terminal else os.pipe()
    lines = "from examples.mpii_cooking.formats import show_messages", "show_messages()", "logging.warning('careful')"
    command = [sys.executable, "-c", "; ".join(("import logging", *lines))]
    subprocess.run(command, stderr=theirs, env=clean_environment(), check=True)
    assert os.read(ours, 100) == (b"\r\x1b[Kcareful\r\n" if is_terminal else b"careful\n")
    os.close(theirs)
    os.close(ours)
