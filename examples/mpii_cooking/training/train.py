"""One training loop for every phase: guidance, recognition, joint training and the hard-coded baseline (sec. 4).

A sample depends on (seed, epoch, clip) alone, and the dropout of a sub-batch on (seed, run, epoch, its first clip). So
a killed run resumes from its last checkpoint, without any stored generator state, and ends with the same bits as an
uninterrupted run. For the same reason it does not matter which rank computes a sub-batch.

A step whose loss or gradient is not finite is not made. The samples behind it are named, and after a few such steps
training ends.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import torch
from torch import Tensor
from torch.optim import Optimizer

from examples.mpii_cooking import distributed, interrupts
from examples.mpii_cooking.config import PhaseSettings, Preset
from examples.mpii_cooking.data.samples import ClipSamples, Sample, batches, chunks
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import History, ThetaLists
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import Networks, autocast
from examples.mpii_cooking.training.objectives import Outcome, make_objective
from examples.mpii_cooking.training.progress import Note
from examples.mpii_cooking.training.runs import Run, seed_of
from examples.mpii_cooking.training.steps import Step, backward, make_optimizer, train_step
from examples.mpii_cooking.variants import Phase
from examples.mpii_cooking.workspace import Unit
from supervised_st import DistortionMonitor, Plateau

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a run: the most that a killed run loses, besides its current epoch."""
SKIPPED_STEPS = 3
"""The most steps of a run that are left out since a loss or a gradient is not finite. One more ends training."""
NAMED_SAMPLES = 5  # in a message, at most
COLLAPSED = 0.25  # share of windows, from here on it is no exception
MIN_FALL = 0.01  # fraction by which the mean loss must have fallen before training may end early

log = logging.getLogger(__name__)


class TrainingDivergedError(RuntimeError):
    """Losses, gradients or weights are no longer finite numbers."""


def train(experiment: Experiment, run: Run, note: Note) -> None:
    """Train ``run``, or resume it, and note how far it is. What it starts from must be finished."""
    started = time.monotonic()
    networks, unit, samples = experiment.untrained(run), experiment.unit(run), partial(experiment.training_samples, run)
    frames = experiment.followed_frames(run.level).image.to(experiment.device) if experiment.follows(run) else None
    fit(run, networks, experiment.preset, unit, samples, experiment.seed, frames, note, started)
    if run.phase is Phase.GUIDANCE and distributed.is_main():
        warn_of_collapse(run, networks, experiment.followed_frames(run.level, run.modality).image.to(experiment.device))


def fit(
    run: Run,
    networks: Networks,
    preset: Preset,
    unit: Unit,
    samples: Callable[[int], ClipSamples],
    seed: int = 0,
    frames: Tensor | None = None,
    note: Note = lambda epochs, seconds: None,
    began: float | None = None,
) -> None:
    """Train ``networks`` until the run's phase is over, from the unit's checkpoint on if there is one.

    Ranks share every step's sub-batches; rank 0 writes the checkpoints. ``samples`` maps an epoch to its samples.
    ``frames`` are images on which theta is logged before the first epoch and after each. ``note`` is called after each
    step. ``began`` is when work on the run began, on the monotonic clock; now by default.

    After SIGTERM to any rank, all finish the step, rank 0 saves it, and this raises ``interrupts.Stopped``. If weights
    or too many losses or gradients are not finite, it raises TrainingDivergedError, and the last checkpoint stays.
    """
    settings, started = run.settings(preset), began or time.monotonic()
    optimizer = make_optimizer(run, networks, preset)
    rates = [group["lr"] for group in optimizer.param_groups]
    history = _restored(unit, networks, optimizer)
    if frames is not None and not history.windows:
        history = replace(history, windows=(_thetas(networks, frames),))

    def note_step(history: History, steps: int) -> None:
        note(history.epochs + history.steps / steps, history.seconds + time.monotonic() - started)

    while not history.is_finished:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * settings.pace(history.epochs)
        epoch = samples(history.epochs)
        history, is_stopped = _epoch(run, networks, optimizer, epoch, preset, seed, history, note_step)
        if not history.steps:
            windows = history.windows if frames is None else (*history.windows, _thetas(networks, frames))
            history = replace(history, windows=windows, is_finished=is_over(settings, history.loss))
        seconds = time.monotonic() - started
        if distributed.is_main() and (history.is_finished or is_stopped or seconds > CHECKPOINT_SECONDS):
            history, started = replace(history, seconds=history.seconds + seconds), time.monotonic()
            if not all(torch.isfinite(tensor).all() for tensor in networks.state_dict().values()):
                raise TrainingDivergedError(f"run {run.name}: a weight is not finite after epoch {history.epochs}")
            checkpoints.save(unit, networks, optimizer, history)
        if is_stopped:
            distributed.barrier()  # a rank that ended earlier would have rank 0 killed while it saves
            raise interrupts.Stopped
    note_step(history, 1)  # with the time that saving took
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


def _restored(unit: Unit, networks: Networks, optimizer: Optimizer) -> History:
    """Restore the last checkpoint on every rank; rank 0 first, which decides what the last one is."""
    history = distributed.once(lambda: checkpoints.restore(unit, networks, optimizer))
    if not distributed.is_main() and checkpoints.restore(unit, networks, optimizer) != history:
        raise RuntimeError(f"{unit.folder} differs between ranks: all of them must see the same output folder")
    return history


def _epoch(
    run: Run,
    networks: Networks,
    optimizer: Optimizer,
    samples: ClipSamples,
    preset: Preset,
    seed: int,
    history: History,
    note: Callable[[History, int], None],
) -> tuple[History, bool]:
    """Train on what is left of an epoch's samples. Return the history, and whether SIGTERM has ended training.

    The epoch's mean loss and measure are added to the history at its end, which SIGTERM may forestall.
    """
    epoch = history.epochs
    objective = make_objective(run, networks, run.guidance(preset, epoch))
    networks.train()
    device = next(networks.parameters()).device

    def seeded(part: Sample) -> Outcome:
        torch.manual_seed(seed_of(seed, run.seed_name, epoch, part.clip[0].item()))
        with autocast(preset, device):
            return objective(Sample(*(field.to(device) for field in part)))

    def is_flawed(index: int) -> bool:
        return Step.of(backward(optimizer, seeded, [samples.__getitems__([index])], 1)).flaw is not None

    steps = chunks(samples.shuffled(), preset.training.batch)
    shares = [distributed.share(chunks(indices, preset.training.sub_batch)) for indices in steps]
    loaded = batches(samples, chain.from_iterable(shares[history.steps :]))
    is_stopped = False
    while history.steps < len(steps) and not is_stopped:
        indices, parts = steps[history.steps], shares[history.steps]
        step = train_step(optimizer, seeded, islice(loaded, len(parts)), len(indices))
        loss, measure, count = history.sums
        history = replace(history, steps=history.steps + 1)
        if step.flaw is None:
            sums = (loss + step.loss * len(indices), measure + step.measures, count + len(indices))
            history = replace(history, sums=sums)
        else:
            flawed = distributed.shared_map(is_flawed, indices)
            names = [samples.name(index) for index, is_named in zip(indices, flawed, strict=True) if is_named]
            history = _skipped(run, history, step.flaw, names, len(indices))
        note(history, len(steps))
        is_stopped = step.is_last
    if history.steps < len(steps):
        return history, is_stopped
    loss, measure, count = history.sums
    if not count:
        raise _diverged(f"run {run.name}: no step of epoch {epoch + 1} was made. {history.skipped[-1]}")
    losses, means = (*history.loss, loss / count), (*history.measure, measure / count)
    return replace(history, loss=losses, measure=means, steps=0, sums=(0.0, 0.0, 0)), is_stopped


def _skipped(run: Run, history: History, flaw: str, names: Sequence[str], size: int) -> History:
    """Note that a step was not made, and say so. End training if there were too many."""
    few, rest = ", ".join(names[:NAMED_SAMPLES]), len(names) - NAMED_SAMPLES
    cause = f"from {few}{f' and {rest} more' if rest > 0 else ''}" if names else "but from none alone"
    what = f"{flaw} in epoch {history.epochs + 1}, step {history.steps}: of {size} samples, {cause}"
    skipped = (*history.skipped, what)
    if len(skipped) > SKIPPED_STEPS:
        raise _diverged(
            f"run {run.name}: {what}. {SKIPPED_STEPS} steps were left out before, which is the most. The last "
            "checkpoint is kept. If most samples are named, lower the rates; if few are, look at them"
        )
    if distributed.is_main():
        log.warning("run %s: %s; the step is left out, %d of at most %d", run.name, what, len(skipped), SKIPPED_STEPS)
    return replace(history, skipped=skipped)


def _diverged(reason: str) -> Exception:
    """Return what each rank raises. All of them know the reason, and one says it."""
    kind = TrainingDivergedError if distributed.is_main() else distributed.OtherRankFailed
    return kind(reason)


def warn_of_collapse(run: Run, networks: Networks, images: Tensor) -> None:
    """Say so if guidance has left many windows where no gradient leads back: outside the image, or without an area."""
    found = DistortionMonitor(networks.transformer, images).history[-1]
    if max(found.lost, found.collapsed) >= COLLAPSED:
        log.warning(
            "run %s: guidance has collapsed. Of its windows in %d test frames, %.0f %% lie more than half outside, and "
            "%.0f %% are narrower than a pixel. Joint training starts from them: look at the target windows, or lower "
            "the rate",
            run.name, len(images), 100 * found.lost, 100 * found.collapsed,
        )  # fmt: skip


@torch.no_grad()
def _thetas(networks: Networks, images: Tensor) -> ThetaLists:
    thetas: ThetaLists = networks.transformer.eval().localize(images).tolist()
    return thetas
