"""One training loop for every phase: guidance, recognition, joint training and the hard-coded baseline (sec. 4).

A sample depends on (seed, epoch, clip) alone, and the dropout of a sub-batch on (seed, run, epoch, its first clip). So
a killed run resumes from its last checkpoint, without any stored generator state, and ends with the same bits as an
uninterrupted run. For the same reason it does not matter which rank computes a sub-batch.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import torch
from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import PhaseSettings, Preset
from examples.mpii_cooking.data.samples import ClipSamples, Sample, batches, chunks
from examples.mpii_cooking.stages import say_what_no_longer_fits
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import ThetaLists
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import Networks, autocast
from examples.mpii_cooking.training.objectives import Objective, Outcome, make_objective
from examples.mpii_cooking.training.runs import Run, seed_of
from examples.mpii_cooking.workspace import Unit
from supervised_st import Plateau

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a run: the most that a killed run loses, besides its current epoch."""
MIN_FALL = 0.01  # fraction by which the mean loss must have fallen before training may end early
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # MatConvNet's trainer
BIAS_RATE = 2.0  # MatConvNet trains biases at twice the rate and without decay

Job = tuple[int, Run]  # the experiment, by its index, and the run

_experiments: Sequence[Experiment]
"""What a worker process trains. They are the same objects for all its runs, so that decoded frames are kept."""


class TrainingDivergedError(RuntimeError):
    """A loss or a weight is no longer a finite number."""


def train_all(experiments: Sequence[Experiment]) -> None:
    """Train every run of all experiments that is not finished, in their order; on a CPU alone, several at a time.

    The experiments may differ in everything but the machine's settings.
    """
    first = experiments[0]
    jobs = [(index, run) for index, each in enumerate(experiments) for run in each.runs]
    say_what_no_longer_fits("train", (experiments[index].unit(run) for index, run in jobs))
    todo = [(index, run) for index, run in jobs if not experiments[index].is_finished(run)]
    processes = at_a_time(first.preset, first.device)
    done, hidden = len(jobs) - len(todo), not todo or not distributed.is_main()
    with tqdm(total=len(jobs), initial=done, desc="train", unit="run", leave=False, disable=hidden) as bar:

        def announce(job: Job) -> None:
            index, run = job
            bar.set_postfix_str(f"{experiments[index].workspace.root.name}: {run.name}")

        if processes == 1:
            for index, run in todo:
                announce((index, run))
                train(experiments[index], run)
                bar.update()
        elif todo:
            _train_in_processes(experiments, todo, processes, announce, bar.update)


def at_a_time(preset: Preset, device: torch.device) -> int:
    """Return how many networks are trained at a time: several only by a single process on a CPU."""
    alone_on_cpu = device.type == "cpu" and distributed.world() == 1
    return preset.machine.processes if alone_on_cpu else 1


def _train_in_processes(
    experiments: Sequence[Experiment],
    todo: list[Job],
    processes: int,
    announce: Callable[[Job], None],
    advance: Callable[[], object],
) -> None:
    """Train ``todo`` in processes of their own. A run starts as soon as those that it starts from are finished."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[None], Job] = {}
    with ProcessPoolExecutor(processes, context, _start_worker, (experiments,)) as pool:
        while todo or running:
            unfinished = {*todo, *running.values()}
            ready = [
                (index, run)
                for index, run in todo
                if unfinished.isdisjoint((index, origin) for origin in run.origins().values())
            ]
            for job in ready[: processes - len(running)]:
                todo.remove(job)
                announce(job)
                # Submitting starts the workers, which then ignore Ctrl-C too: this process handles it.
                handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
                running[pool.submit(_train_in_worker, *job)] = job
                signal.signal(signal.SIGINT, handler)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                future.result()
                advance()


def train(experiment: Experiment, run: Run) -> None:
    """Train or resume ``run``, unless it is finished. What it starts from must be finished."""
    if experiment.is_finished(run):
        return
    networks, unit, samples = experiment.untrained(run), experiment.unit(run), partial(experiment.training_samples, run)
    frames = experiment.followed_frames(run.level).image.to(experiment.device) if experiment.follows(run) else None
    fit(run, networks, experiment.preset, unit, samples, seed=experiment.seed, frames=frames)


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
    """Train ``networks`` until the run's phase is over, from the unit's checkpoint on if there is one.

    Ranks share every step's sub-batches; rank 0 writes the checkpoints. ``samples`` maps an epoch to its samples.
    ``frames`` are images on which theta is logged before the first epoch and after each. If a loss or a weight stops
    being finite, this raises TrainingDivergedError, and the last checkpoint stays.
    """
    optimizer = make_optimizer(run, networks, preset)
    rates = [group["lr"] for group in optimizer.param_groups]
    history = checkpoints.restore(unit, networks, optimizer)
    if not history.epochs and frames is not None:
        history = replace(history, windows=(_thetas(networks, frames),))
    settings, started = run.settings(preset), time.monotonic()
    # A worker process has no bar, since the main process has one for all runs.
    hidden = multiprocessing.parent_process() is not None or not distributed.is_main()
    bar = tqdm(total=settings.epochs, initial=history.epochs, desc=run.name, unit="epoch", leave=False, disable=hidden)
    with bar:
        while not history.is_finished:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * settings.pace(history.epochs)
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
                checkpoints.save(unit, networks, optimizer, history)
                started = time.monotonic()
    distributed.barrier()  # runs that start from this one find it complete


def is_over(settings: PhaseSettings, losses: Sequence[float]) -> bool:
    """Whether training ends after epochs with these mean losses: all epochs are done, or the loss stopped falling.

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


def make_optimizer(run: Run, networks: Networks, preset: Preset) -> Optimizer:
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


def train_step(optimizer: Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> Outcome:
    """Make one step, and return the mean loss and the mean measure of the whole batch, on every rank.

    ``parts`` are the sub-batches of this rank, maybe none; ``size`` counts the samples of all ranks. The gradient is
    the sum over sub-batches and ranks, which is exact: no layer mixes samples.
    """
    summands = backward(optimizer, objective, parts, size)
    distributed.add_up(summands)
    optimizer.step()
    loss, measures = summands[0]
    return Outcome(loss, measures / size)


def backward(optimizer: Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> list[Tensor]:
    """Return what ranks add up: first a tensor of (loss, sum of the measures), then the gradient of every parameter."""
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
    return [sums, *(parameter.grad for parameter in learning)]


def sub_batches(batch: Sample, size: int) -> list[Sample]:
    """Divide a batch into sub-batches of ``size`` samples; the last one may be smaller."""
    return [Sample(*part) for part in zip(*(torch.split(field, size) for field in batch), strict=True)]


def _epoch(
    run: Run, networks: Networks, optimizer: Optimizer, samples: ClipSamples, preset: Preset, seed: int, epoch: int
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
def _thetas(networks: Networks, images: Tensor) -> ThetaLists:
    thetas: ThetaLists = networks.transformer.eval().localize(images).tolist()
    return thetas


def _start_worker(experiments: Sequence[Experiment]) -> None:
    """Prepare a process to train runs, one after another."""
    global _experiments
    _experiments = experiments
    torch.set_num_threads(experiments[0].preset.training.threads or torch.get_num_threads())
    tqdm.set_lock(threading.RLock())  # tqdm's default lock has a semaphore that would outlive a killed worker
    distributed.end_with_parent()


def _train_in_worker(index: int, run: Run) -> None:
    train(_experiments[index], run)
