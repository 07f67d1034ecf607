"""One training loop for every phase: guidance, recognition, joint training and the hard-coded baseline (sec. 4).

A sample depends on (seed, epoch, clip) alone and the dropout of a sub-batch on (seed, run, epoch, its first clip). So a
killed run goes on from its last checkpoint, without any stored generator state, to the very bits an uninterrupted run
ends with; and it does not matter which rank computes a sub-batch.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.data.dataset import Dataset
from examples.mpii_cooking.data.preparation import VideoCache
from examples.mpii_cooking.data.samples import ClipSamples, Sample, batches, chunks
from examples.mpii_cooking.training.networks import Backbone
from examples.mpii_cooking.training.objectives import Objective, Outcome, make_objective
from examples.mpii_cooking.training.runs import Run, all_runs, build, seed_of
from examples.mpii_cooking.training.weights import Weights
from examples.mpii_cooking.workspace import Unit, Workspace, fingerprint, written_aside

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a run: what a killed run loses at most, beyond its current epoch."""
LOOKS = 8
"""Test frames on which figures 7 and 8 follow the windows."""
AFTER_TRAINING = frozenset(
    {
        "variant_levels",
        "variants",
        "feature_stride",
        "kitchen",
        "localizers",
        "margin_seeds",
        "pca",
        "poolings",
        "processes",
    }
    | {"seeds", "svm_c", "workers"}
)
"""Settings that a trained network does not depend on."""
VERSION = 4
"""Raised when training changes, so that no network of an older version is taken for one of this."""
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # MatConvNet's trainer
BIAS_RATE = 2.0  # MatConvNet trains biases at twice the rate and without decay


class TrainingDivergedError(RuntimeError):
    """A loss or a weight is no longer a finite number."""


@dataclass(frozen=True)
class Trainer:
    """Everything that training runs share."""

    dataset: Dataset
    caches: Mapping[str, VideoCache]
    preset: Preset
    workspace: Workspace
    device: torch.device
    weights: Weights = field(default_factory=dict)
    """What networks start from; those without are random."""

    def train_all(self, runs: Sequence[Run] | None = None) -> None:
        """Train every run, or those of ``runs``, that is not finished yet; alone on a CPU, several at a time.

        Args:
            runs: each after those it goes on from.
        """
        runs = all_runs(self.preset) if runs is None else runs
        processes = self.preset.processes if self.device.type == "cpu" and distributed.world() == 1 else 1
        if processes == 1:
            for run in runs:
                self.train(run)
            return
        first, then = ([run for run in runs if bool(run.origins()) == later] for later in (False, True))
        context = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(processes, context, _start_worker, (self,)) as pool,
            tqdm(total=len(runs), desc="train", unit="run") as bar,
        ):
            for runs_in_any_order in (first, then):
                for _ in pool.map(_train_in_worker, runs_in_any_order):
                    bar.update()

    def train(self, run: Run) -> None:
        """Train ``run``, or go on with it, unless it is finished. What it starts from must be finished."""
        unit = self.unit(run)
        if not self.finished(run, unit):
            networks = self.placed(self._initial(run))
            fit(run, networks, self.preset, unit, self._training_samples(run), self._looks_at(run))

    def unit(self, run: Run) -> Unit:
        """Return where the run's weights and facts are kept."""
        weights = {name: self.weights[name].sha256 for name in run.backbones(self.preset) if name in self.weights}
        inputs = {"run": run, "settings": settings_of_training(self.preset), "weights": weights}
        inputs |= {"dataset": self._dataset_fingerprint}
        return self.workspace.unit(f"models/{run.name}", inputs)

    def finished(self, run: Run, unit: Unit) -> bool:
        """Whether the last epoch of ``run`` is behind it."""
        return unit.done and run.settings(self.preset).over(unit.facts["loss"])

    def trained(self, run: Run) -> nn.ModuleDict:
        """Return the networks of a finished run, ready for evaluation.

        Raises:
            RuntimeError: if the run is not finished.
        """
        unit = self.unit(run)
        if not self.finished(run, unit):
            raise RuntimeError(f"run {run.name} must be trained before its networks are used")
        networks = build(run, len(self.dataset.classes), self.preset)
        networks.load_state_dict(load_file(unit.path(_weights_name(unit.facts["epoch"]))))
        return self.placed(networks).eval()

    def placed(self, networks: nn.ModuleDict) -> nn.ModuleDict:
        """Move networks to the device and, if the preset says so, have their backbones compiled when first called."""
        if self.preset.compile:
            for part in networks.modules():
                if isinstance(part, Backbone):
                    part.compile()  # in place: names in the state dict stay
        return networks.to(self.device)

    def follows(self, run: Run) -> bool:
        """Whether the windows of ``run`` are noted on fixed test frames, before its first epoch and after each."""
        return run.phase == "joint" and run.modality == "spatial" and run.localizer == self.preset.main_localizer

    def look_clips(self) -> list[int]:
        """Return the test clips, by index, on which figures 7 and 8 follow the windows."""
        count = min(LOOKS, len(self.dataset.test))
        return [i * len(self.dataset.test) // count for i in range(count)]

    def looks(self, level: Level) -> Sample:
        """Return one frame of each of those clips as the networks of a spatial level read it."""
        clips = [self.dataset.test[i] for i in self.look_clips()]
        samples = ClipSamples(clips, self.caches, level, "spatial", self.preset, augment=False)
        return samples.__getitems__(range(len(clips)))

    @cached_property
    def _dataset_fingerprint(self) -> str:
        """Clips, classes and the very files: an exchanged video is another dataset."""
        files = {key: [path.stat().st_size, path.stat().st_mtime_ns] for key, path in self.dataset.videos.items()}
        return fingerprint([self.dataset.classes, self.dataset.train, self.dataset.test, files])

    def _initial(self, run: Run) -> nn.ModuleDict:
        networks = build(run, len(self.dataset.classes), self.preset, self.weights)
        for part, origin in run.origins().items():
            networks[part].load_state_dict(self.trained(origin)[part].state_dict())
        return networks

    def _training_samples(self, run: Run) -> Callable[[int], ClipSamples]:
        return lambda epoch: ClipSamples(
            self.dataset.train, self.caches, run.level, run.modality, self.preset, augment=True, epoch=epoch
        )

    def _looks_at(self, run: Run) -> Tensor | None:
        return self.looks(run.level).image.to(self.device) if self.follows(run) else None


def _start_worker(trainer: Trainer) -> None:
    """Prepare a process to train runs, one after another with one memory of frames."""
    global _worker_trainer
    _worker_trainer = trainer
    torch.set_num_threads(trainer.preset.threads or torch.get_num_threads())
    # A killed parent must not leave a worker behind that writes into what the next start reads.
    threading.Thread(target=lambda: (multiprocessing.parent_process().join(), os._exit(1)), daemon=True).start()


def _train_in_worker(run: Run) -> None:
    _worker_trainer.train(run)


def fit(
    run: Run,
    networks: nn.ModuleDict,
    preset: Preset,
    unit: Unit,
    samples: Callable[[int], ClipSamples],
    looks: Tensor | None = None,
) -> None:
    """Train ``networks`` until the run's phase is over, going on from the unit's checkpoint if there is one.

    Ranks share every step's sub-batches; rank 0 writes the checkpoints.

    Args:
        run: decides the objective, the rates and the random numbers.
        networks: from ``build``, with the weights they start from, on the device to train on.
        preset: optimizer, batch sizes, seed.
        unit: where checkpoints go; afterwards its facts hold the curves and the number of steps.
        samples: epoch -> the training samples of that epoch.
        looks: frames for which theta is noted before the first epoch and after each.

    Raises:
        TrainingDivergedError: if a loss or a weight stops being finite; the last checkpoint stays.
    """
    optimizer = make_optimizer(run, networks, preset)
    facts = _restore(unit, networks, optimizer) or {"epoch": 0, "loss": [], "measure": [], "looks": [], "seconds": 0.0}
    if not facts["epoch"] and looks is not None:
        facts["looks"].append(_thetas(networks, looks))
    phase, started = run.settings(preset), time.monotonic()
    # Beside others there is one bar, for all of them.
    hidden = multiprocessing.parent_process() is not None or not distributed.is_main()
    with tqdm(
        total=phase.epochs, initial=facts["epoch"], desc=run.name, unit="epoch", leave=False, disable=hidden
    ) as bar:
        while not phase.over(facts["loss"]):
            objective = make_objective(run, networks, run.guidance(preset, facts["epoch"]))
            loss, measure = _epoch(run, networks, optimizer, objective, samples(facts["epoch"]), preset, facts["epoch"])
            facts["epoch"] += 1
            facts["loss"].append(loss)
            facts["measure"].append(measure)
            if looks is not None:
                facts["looks"].append(_thetas(networks, looks))
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()
            last = phase.over(facts["loss"])
            if distributed.is_main() and (last or time.monotonic() - started > CHECKPOINT_SECONDS):
                facts["seconds"] += time.monotonic() - started
                _checkpoint(run, unit, networks, None if last else optimizer, facts)
                started = time.monotonic()
    distributed.barrier()  # whoever goes on from this run finds it whole


def settings_of_training(preset: Preset) -> dict[str, Any]:
    """Return what trained networks depend on, apart from the data and the weights that they start from."""
    settings = {key: value for key, value in asdict(preset).items() if key not in AFTER_TRAINING}
    return {"version": VERSION, **settings}


def autocast(preset: Preset, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute as precisely as the preset says; theta always has float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=preset.precision == "bfloat16")


def make_optimizer(run: Run, networks: nn.ModuleDict, preset: Preset) -> torch.optim.Optimizer:
    """Return the preset's optimizer; each part learns at its own rate."""
    phase = run.settings(preset)
    rates = {"classifier": phase.rate, "transformer": phase.localization_rate or phase.rate}
    if preset.optimizer == "adam":
        groups = [{"params": [*part.parameters()], "lr": rates[key]} for key, part in networks.items()]
        return torch.optim.Adam(groups, fused=True)
    groups = []
    for name, part in networks.items():
        weights = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups.append({"params": weights, "lr": rates[name]})
        groups.append({"params": biases, "lr": BIAS_RATE * rates[name], "weight_decay": 0.0})
    return torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_step(optimizer: torch.optim.Optimizer, objective: Objective, parts: Iterable[Sample], size: int) -> Outcome:
    """Make one step, its gradient summed over sub-batches and ranks; exact, for no layer looks across samples.

    Args:
        optimizer: of the networks that learn, which are the same on every rank.
        objective: what to minimize.
        parts: the sub-batches that are this rank's, which may be none.
        size: samples of the whole batch, over all sub-batches and ranks.

    Returns:
        The whole batch's mean loss and mean measure, on every rank.
    """
    optimizer.zero_grad()
    learning = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    sums = learning[0].new_zeros(2)
    for part in parts:
        loss, measure = objective(part)
        share = loss * (len(measure) / size)
        share.backward()
        sums += torch.stack([share.detach(), measure.sum()])
    for parameter in learning:
        if parameter.grad is None:  # on a rank without parts
            parameter.grad = torch.zeros_like(parameter)
    distributed.add_up([sums, *(parameter.grad for parameter in learning)])
    optimizer.step()
    return Outcome(sums[0], sums[1] / size)


def split(batch: Sample, size: int) -> list[Sample]:
    """Divide a batch into sub-batches of ``size`` samples; the last one may be smaller."""
    return [Sample(*part) for part in zip(*(field.split(size) for field in batch), strict=True)]


def _epoch(
    run: Run,
    networks: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    samples: ClipSamples,
    preset: Preset,
    epoch: int,
) -> tuple[float, float]:
    """Return the mean loss and the mean measure over one epoch's samples."""
    networks.train()
    device = next(networks.parameters()).device

    def seeded(part: Sample) -> Outcome:
        torch.manual_seed(seed_of(preset, run.seed_name, epoch, part.clip[0].item()))
        with autocast(preset, device):
            return objective(Sample(*(field.to(device) for field in part)))

    order = samples.shuffled()
    steps = chunks(order, preset.batch)
    shares = [distributed.share(chunks(step, preset.sub_batch)) for step in steps]
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
def _thetas(networks: nn.ModuleDict, images: Tensor) -> list[Any]:
    networks.eval()
    return networks["transformer"].localize(images).tolist()


def _weights_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _checkpoint(
    run: Run, unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer | None, facts: Mapping[str, Any]
) -> None:
    """Commit weights and facts; the optimizer's state only while there is more to train."""
    weights = {name: tensor.contiguous() for name, tensor in networks.state_dict().items()}
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise TrainingDivergedError(f"run {run.name}: a weight is not finite after epoch {facts['epoch']}")
    state = {} if optimizer is None else optimizer.state_dict()["state"]
    moments = {f"optimizer.{i}.{name}": tensor for i, slots in state.items() for name, tensor in slots.items()}
    name = _weights_name(facts["epoch"])
    with written_aside(unit.path(name)) as path:
        save_file(weights | moments, path)
    unit.commit(name, **facts)


def _restore(unit: Unit, networks: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load the unit's checkpoint into ``networks`` and ``optimizer`` and return its facts, if there is one."""
    if not unit.done:
        return None
    weights, state = _split(unit.path(_weights_name(unit.facts["epoch"])))
    networks.load_state_dict(weights)
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return {**unit.facts}


def _split(path: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    weights, state = {}, {}
    for name, tensor in load_file(path).items():
        if name.startswith("optimizer."):
            _, index, slot = name.split(".")
            state.setdefault(int(index), {})[slot] = tensor
        else:
            weights[name] = tensor
    return weights, state
