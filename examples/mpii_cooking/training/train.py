"""One training loop for every phase: guidance, recognition, joint training and the hard-coded baseline (sec. 4).

A sample depends on (seed, epoch, clip) alone, and the dropout of a sub-batch on (seed, run, epoch, its first clip). So
a killed run goes on from its last checkpoint, without any stored generator state, and ends with the same bits as an
uninterrupted run. For the same reason it does not matter which rank computes a sub-batch.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain, islice

import torch
from torch import Tensor
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import PhaseSettings, Preset
from examples.mpii_cooking.data.samples import ClipSamples, Sample, batches, chunks
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import Thetas
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import Networks, autocast
from examples.mpii_cooking.training.objectives import Objective, Outcome, make_objective
from examples.mpii_cooking.training.runs import Run, seed_of
from examples.mpii_cooking.workspace import Unit
from supervised_st import Plateau

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a run: the most that a killed run loses, besides its current epoch."""
MIN_FALL = 0.01
"""Fraction by which the mean loss must have fallen before training may end early."""
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # MatConvNet's trainer
BIAS_RATE = 2.0  # MatConvNet trains biases at twice the rate and without decay


class TrainingDivergedError(RuntimeError):
    """A loss or a weight is no longer a finite number."""


def train_all(experiment: Experiment) -> None:
    """Train every run of an experiment that is not finished; a single process on a CPU trains several at a time."""
    preset, runs = experiment.preset, experiment.runs
    alone_on_cpu = experiment.device.type == "cpu" and distributed.world() == 1
    processes = preset.machine.processes if alone_on_cpu else 1
    if processes == 1:
        for run in runs:
            train(experiment, run)
        return
    first, then = ([run for run in runs if bool(run.origins()) == later] for later in (False, True))
    context = multiprocessing.get_context("spawn")
    train_one = partial(_train_pickled, pickle.dumps(experiment))
    with (
        ProcessPoolExecutor(processes, context, _start_worker, (preset.training.threads,)) as pool,
        tqdm(total=len(runs), desc="train", unit="run", leave=False) as bar,
    ):
        for runs_in_any_order in (first, then):
            with _children_ignore_interrupts():
                trained = [pool.submit(train_one, run) for run in runs_in_any_order]
            for future in as_completed(trained):
                if future.exception() is not None:
                    pool.shutdown(cancel_futures=True)
                future.result()
                bar.update()


def train(experiment: Experiment, run: Run) -> None:
    """Train ``run``, or go on with it, unless it is finished. What it starts from must be finished."""
    if experiment.is_finished(run):
        return
    frames = None
    if experiment.follows(run):
        frames = experiment.followed_frames(run.level).image.to(experiment.device)
    fit(
        run,
        experiment.untrained(run),
        experiment.preset,
        experiment.unit(run),
        partial(experiment.training_samples, run),
        seed=experiment.seed,
        frames=frames,
    )


def fit(
    run: Run,
    networks: Networks,
    preset: Preset,
    unit: Unit,
    samples: Callable[[int], ClipSamples],
    *,
    seed: int = 0,
    frames: Tensor | None = None,
) -> None:
    """Train ``networks`` until the run's phase is over, going on from the unit's checkpoint if there is one.

    Ranks share every step's sub-batches; rank 0 writes the checkpoints.

    Args:
        run: decides the objective and the rates.
        networks: from ``build``, with the weights they start from, on the device to train on.
        preset: optimizer and batch sizes.
        unit: where checkpoints go.
        samples: epoch -> the training samples of that epoch.
        seed: decides dropout.
        frames: images on which theta is noted before the first epoch and after each.

    Raises:
        TrainingDivergedError: if a loss or a weight stops being finite; the last checkpoint stays.
    """
    optimizer = make_optimizer(run, networks, preset)
    history = checkpoints.restore(unit, networks, optimizer)
    if not history.epochs and frames is not None:
        history = replace(history, windows=(_thetas(networks, frames),))
    settings, started = run.settings(preset), time.monotonic()
    # A worker process has no bar, since the main process has one for all runs.
    hidden = multiprocessing.parent_process() is not None or not distributed.is_main()
    bar = tqdm(total=settings.epochs, initial=history.epochs, desc=run.name, unit="epoch", leave=False, disable=hidden)
    with bar:
        while not history.is_finished:
            loss, measure = _epoch(run, networks, optimizer, samples(history.epochs), preset, seed, history.epochs)
            losses = (*history.loss, loss)
            history = replace(
                history,
                loss=losses,
                measure=(*history.measure, measure),
                windows=history.windows if frames is None else (*history.windows, _thetas(networks, frames)),
                is_finished=is_over(settings, losses),
            )
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()
            seconds = time.monotonic() - started
            if distributed.is_main() and (history.is_finished or seconds > CHECKPOINT_SECONDS):
                history = replace(history, seconds=history.seconds + seconds)
                if not all(torch.isfinite(tensor).all() for tensor in networks.state_dict().values()):
                    raise TrainingDivergedError(f"run {run.name}: a weight is not finite after epoch {history.epochs}")
                checkpoints.save(unit, networks, None if history.is_finished else optimizer, history)
                started = time.monotonic()
    distributed.barrier()  # runs that go on from this one find it whole


def is_over(settings: PhaseSettings, losses: Sequence[float]) -> bool:
    """Whether training ends after epochs with these mean losses: it made all of them, or the loss stopped falling.

    Only training losses count: no clip is held out, and no test clip is looked at. All ranks must call it.
    """
    if len(losses) >= settings.epochs:
        return True
    if not settings.patience:
        return False
    plateau = Plateau(settings.patience, min_fall=MIN_FALL)
    for loss in losses:
        plateau.observe(torch.tensor(loss, dtype=torch.float64))
        plateau.advance()
    return plateau.factor(len(losses)) == 0


def make_optimizer(run: Run, networks: Networks, preset: Preset) -> torch.optim.Optimizer:
    """Return the preset's optimizer, with a rate for each network."""
    settings = run.settings(preset)
    rates = {"classifier": settings.rate, "transformer": settings.localization_rate or settings.rate}
    if preset.training.optimizer == "adam":
        groups = [{"params": [*part.parameters()], "lr": rates[name]} for name, part in networks.named_children()]
        return torch.optim.Adam(groups, fused=True)
    groups = []
    for name, part in networks.named_children():
        weights = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups.append({"params": weights, "lr": rates[name]})
        groups.append({"params": biases, "lr": BIAS_RATE * rates[name], "weight_decay": 0.0})
    return torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_step(optimizer: torch.optim.Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> Outcome:
    """Make one step. Its gradient is the sum over sub-batches and ranks, which is exact: no layer mixes samples.

    Args:
        optimizer: of the networks that learn, which are the same on every rank.
        objective: what to minimize.
        parts: the sub-batches of this rank, maybe none.
        size: samples of the whole batch, over all sub-batches and ranks.

    Returns:
        The whole batch's mean loss and mean measure, on every rank.
    """
    sums, gradients = backward(optimizer, objective, parts, size)
    distributed.add_up([sums, *gradients])
    optimizer.step()
    return Outcome(sums[0], sums[1] / size)


def backward(
    optimizer: torch.optim.Optimizer, objective: Objective, parts: Iterable[Sample], size: int
) -> tuple[Tensor, list[Tensor]]:
    """Compute the gradient of this rank's sub-batches.

    Returns:
        (sum of the loss's parts, sum of the measures), and the gradients, to be added up over ranks.
    """
    optimizer.zero_grad()
    learning = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    sums = learning[0].new_zeros(2)
    for part in parts:
        loss, measure = objective(part)
        fraction = loss * (len(measure) / size)
        torch.autograd.backward(fraction)
        sums += torch.stack([fraction.detach(), measure.sum()])
    for parameter in learning:
        if parameter.grad is None:  # on a rank without parts
            parameter.grad = torch.zeros_like(parameter)
    return sums, [parameter.grad for parameter in learning]


def sub_batches(batch: Sample, size: int) -> list[Sample]:
    """Divide a batch into sub-batches of ``size`` samples; the last one may be smaller."""
    return [Sample(*part) for part in zip(*(torch.split(field, size) for field in batch), strict=True)]


def _epoch(
    run: Run,
    networks: Networks,
    optimizer: torch.optim.Optimizer,
    samples: ClipSamples,
    preset: Preset,
    seed: int,
    epoch: int,
) -> tuple[float, float]:
    """Return the mean loss and the mean measure over one epoch's samples."""
    objective = make_objective(run, networks, run.guidance(preset, epoch))
    networks.train()
    device = next(networks.parameters()).device

    def seeded(part: Sample) -> Outcome:
        torch.manual_seed(seed_of(seed, run.seed_name, epoch, part.clip[0].item()))
        with autocast(preset, device):
            return objective(Sample(*(field.to(device) for field in part)))

    order = samples.shuffled()
    steps = chunks(order, preset.training.batch)
    shares = [distributed.share(chunks(step, preset.training.sub_batch)) for step in steps]
    loaded = batches(samples, chain.from_iterable(shares))
    losses = measures = 0.0
    for step, parts in zip(steps, shares, strict=True):
        loss, measure = train_step(optimizer, seeded, islice(loaded, len(parts)), len(step))
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"run {run.name}: the loss is {loss.item()} in epoch {epoch + 1}")
        losses += loss.item() * len(step)
        measures += measure.item() * len(step)
    return losses / len(order), measures / len(order)


@torch.no_grad()
def _thetas(networks: Networks, images: Tensor) -> Thetas:
    networks.eval()
    thetas: Thetas = networks.transformer.localize(images).tolist()
    return thetas


def _start_worker(threads: int) -> None:
    """Prepare a process to train runs, one after another."""
    torch.set_num_threads(threads or torch.get_num_threads())
    tqdm.set_lock(threading.RLock())  # tqdm's default lock has a semaphore that would outlive a killed worker
    # When the main process is killed, its workers must not go on and write into what the next start reads.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _train_pickled(experiment: bytes, run: Run) -> None:
    train(_unpickled(experiment), run)


@lru_cache(maxsize=1)
def _unpickled(experiment: bytes) -> Experiment:
    """Return the same experiment in every call, so that a worker keeps decoded frames from run to run."""
    loaded: Experiment = pickle.loads(experiment)
    return loaded


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Start processes that leave Ctrl-C to this one."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
