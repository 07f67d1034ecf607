"""Train every run that is not finished, in an order in which each finds what it starts from."""

from collections.abc import Sequence
from contextlib import closing
from functools import partial

import torch

from examples.mpii_cooking import distributed, interrupts
from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.stages import say_what_no_longer_fits
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import History
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.progress import Progress, Work
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.training.train import train
from examples.mpii_cooking.training.workers import train_in_processes


def train_all(experiments: Sequence[Experiment]) -> None:
    """Train every run of all experiments that is not finished, in their order; on a CPU alone, several at a time.

    The experiments may differ in everything but the machine's settings.
    """
    first = experiments[0]
    jobs = [(index, run) for index, each in enumerate(experiments) for run in each.runs]
    say_what_no_longer_fits("train", (experiments[index].unit(run) for index, run in jobs))
    # One rank looks, so that all of them train the same runs.
    todo = distributed.once(lambda: [(index, run) for index, run in jobs if not experiments[index].is_finished(run)])
    processes = at_a_time(first.preset, first.device)
    works = [_work(experiments[index], run, is_finished=(index, run) not in todo) for index, run in jobs]
    progress = Progress(works, processes, hidden=not todo or not distributed.is_main())
    with closing(progress), interrupts.finishing_steps():
        places = {job: place for place, job in enumerate(jobs)}
        if processes == 1:
            for index, run in todo:
                progress.start(place := places[index, run])
                train(experiments[index], run, partial(progress.note, place))
                progress.finish(place)
        elif todo:
            train_in_processes(experiments, todo, processes, progress, places)


def _work(experiment: Experiment, run: Run, *, is_finished: bool) -> Work:
    """Return how far earlier starts came with a run."""
    unit = experiment.unit(run)
    history = checkpoints.load_history(unit) if unit.done else History()
    name = f"{experiment.workspace.root.name}: {run.name}"
    kind = (run.phase, run.modality, run.level.name, run.localizer, run.variant)
    return Work(name, kind, run.settings(experiment.preset).epochs, history.epochs, history.seconds, is_finished)


def at_a_time(preset: Preset, device: torch.device) -> int:
    """Return how many networks are trained at a time: several only by a single process on a CPU."""
    alone_on_cpu = device.type == "cpu" and distributed.world() == 1
    return preset.machine.processes if alone_on_cpu else 1
