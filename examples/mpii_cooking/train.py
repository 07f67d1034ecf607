"""One training loop for every phase: guidance, recognition, joint training and the hard-coded baseline (sec. 4).

Every epoch draws its random numbers from (seed, run, epoch) alone. So a killed run goes on from its last checkpoint,
without any stored generator state, to the very bits an uninterrupted run ends with.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from examples.mpii_cooking.clips import Corpus
from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.prepare import VideoCache
from examples.mpii_cooking.samples import ClipSamples, Sample, batches
from examples.mpii_cooking.streams import Run, all_runs, build, seed_of
from examples.mpii_cooking.weights import Weights
from examples.mpii_cooking.workspace import Unit, Workspace, fingerprint, written_aside
from supervised_st import Glimpse, RegressiveGuidance, affine_sample
from supervised_st.geometry import window_iou, window_to_theta

CHECKPOINT_SECONDS = 10.0
"""Least time between two checkpoints of a run: what a killed run loses at most, beyond its current epoch."""
LOOKS = 8
"""Test frames on which figures 7 and 8 follow the windows."""
AFTER_TRAINING = frozenset({"feature_stride", "kitchen", "pca", "pooling", "processes", "svm_c", "workers"})
"""Settings that trained networks do not depend on."""
VERSION = 1
"""Raised when training changes, so that no network of an older version is taken for one of this."""
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # MatConvNet's trainer
BIAS_RATE = 2.0  # MatConvNet trains biases at twice the rate and without decay


class TrainingDivergedError(RuntimeError):
    """A loss or a weight is no longer a finite number."""


class Outcome(NamedTuple):
    """What an objective says about a sub-batch."""

    loss: Tensor
    """Mean loss, a scalar."""
    measure: Tensor
    """(N,) per sample: 1 where the class is right, or the overlap with the target window."""


Objective = Callable[[Sample], Outcome]


@dataclass(frozen=True)
class Trainer:
    """Everything that training runs share."""

    corpus: Corpus
    caches: Mapping[str, VideoCache]
    preset: Preset
    workspace: Workspace
    device: torch.device
    weights: Weights = field(default_factory=dict)
    """What networks start from; those without are random."""

    def train_all(self) -> None:
        """Train every run that is not finished yet; on a CPU as many at a time as the preset says."""
        runs = all_runs(self.preset)
        processes = self.preset.processes if self.device.type == "cpu" else 1
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
            networks = self._initial(run).to(self.device)
            fit(run, networks, self.preset, unit, self._training_samples(run), self._looks_at(run))

    def unit(self, run: Run) -> Unit:
        """Return where the run's weights and facts are kept."""
        settings = {key: value for key, value in asdict(self.preset).items() if key not in AFTER_TRAINING}
        weights = {name: self.weights[name].sha256 for name in run.backbones(self.preset) if name in self.weights}
        inputs = {"version": VERSION, "run": run, "settings": settings, "corpus": self._corpus_fingerprint}
        inputs |= {"weights": weights}
        return self.workspace.unit(f"models/{run.name}", inputs)

    def finished(self, run: Run, unit: Unit) -> bool:
        """Whether the last epoch of ``run`` is behind it."""
        return unit.done and unit.facts["epoch"] == run.settings(self.preset).epochs

    def trained(self, run: Run) -> nn.ModuleDict:
        """Return the networks of a finished run, ready for evaluation.

        Raises:
            RuntimeError: if the run is not finished.
        """
        unit = self.unit(run)
        if not self.finished(run, unit):
            raise RuntimeError(f"run {run.name} must be trained before its networks are used")
        networks = build(run, len(self.corpus.classes), self.preset)
        networks.load_state_dict(load_file(unit.path(_weights_name(unit.facts["epoch"]))))
        return networks.to(self.device).eval()

    def look_clips(self) -> list[int]:
        """Return the test clips, by index, on which figures 7 and 8 follow the windows."""
        count = min(LOOKS, len(self.corpus.test))
        return [i * len(self.corpus.test) // count for i in range(count)]

    def looks(self, level: Level) -> Sample:
        """Return one frame of each of those clips as the networks of a spatial level read it."""
        clips = [self.corpus.test[i] for i in self.look_clips()]
        samples = ClipSamples(clips, self.caches, level, "spatial", self.preset, augment=False)
        return samples.__getitems__(range(len(clips)))

    @cached_property
    def _corpus_fingerprint(self) -> str:
        """Clips, classes and the very files: an exchanged video is another corpus."""
        files = {key: [path.stat().st_size, path.stat().st_mtime_ns] for key, path in self.corpus.videos.items()}
        return fingerprint([self.corpus.classes, self.corpus.train, self.corpus.test, files])

    def _initial(self, run: Run) -> nn.ModuleDict:
        networks = build(run, len(self.corpus.classes), self.preset, self.weights)
        for part, origin in run.origins().items():
            networks[part].load_state_dict(self.trained(origin)[part].state_dict())
        return networks

    def _training_samples(self, run: Run) -> Callable[[int], ClipSamples]:
        return lambda epoch: ClipSamples(
            self.corpus.train, self.caches, run.level, run.modality, self.preset, augment=True, epoch=epoch
        )

    def _looks_at(self, run: Run) -> Tensor | None:
        followed = run.phase == "joint" and run.modality == "spatial" and run.localiser == self.preset.main_localiser
        return self.looks(run.level).image.to(self.device) if followed else None


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
    """Train ``networks`` for the epochs of the run's phase, going on from the unit's checkpoint if there is one.

    Args:
        run: decides the objective, the rates and the random numbers.
        networks: from ``build``, with the weights they start from, on the device to train on.
        preset: optimiser, batch sizes, seed.
        unit: where checkpoints go; afterwards its facts hold the curves and the number of steps.
        samples: epoch -> the training samples of that epoch.
        looks: frames for which theta is noted before the first epoch and after each.

    Raises:
        TrainingDivergedError: if a loss or a weight stops being finite; the last checkpoint stays.
    """
    optimiser = make_optimiser(run, networks, preset)
    facts = _restore(unit, networks, optimiser) or {"epoch": 0, "loss": [], "measure": [], "looks": [], "seconds": 0.0}
    if not facts["epoch"] and looks is not None:
        facts["looks"].append(_thetas(networks, looks))
    objective, epochs, started = make_objective(run, networks), run.settings(preset).epochs, time.monotonic()
    alone = multiprocessing.parent_process() is None  # beside others there is one bar, for all of them
    with tqdm(total=epochs, initial=facts["epoch"], desc=run.name, unit="epoch", leave=False, disable=not alone) as bar:
        while facts["epoch"] < epochs:
            loss, measure = _epoch(run, networks, optimiser, objective, samples(facts["epoch"]), preset, facts["epoch"])
            facts["epoch"] += 1
            facts["loss"].append(loss)
            facts["measure"].append(measure)
            if looks is not None:
                facts["looks"].append(_thetas(networks, looks))
            bar.set_postfix(loss=f"{loss:.3f}")
            bar.update()
            last = facts["epoch"] == epochs
            if last or time.monotonic() - started > CHECKPOINT_SECONDS:
                facts["seconds"] += time.monotonic() - started
                _checkpoint(run, unit, networks, None if last else optimiser, facts)
                started = time.monotonic()


def make_objective(run: Run, networks: nn.ModuleDict) -> Objective:
    """Return the loss of the run's phase and what is measured along the way."""
    if run.phase == "guide":
        return _guidance_objective(networks["transformer"])
    if run.phase == "joint":
        return _joint_objective(networks["transformer"], networks["recogniser"])
    windows = _random_windows if run.phase == "recognise" else lambda sample, side: sample.theta
    return _window_objective(networks["recogniser"], windows)


def make_optimiser(run: Run, networks: nn.ModuleDict, preset: Preset) -> torch.optim.Optimizer:
    """Return the preset's optimiser; each part learns at its own rate."""
    phase = run.settings(preset)
    rates = {"recogniser": phase.rate, "transformer": phase.localisation_rate or phase.rate}
    if preset.optimiser == "adam":
        return torch.optim.Adam([{"params": [*part.parameters()], "lr": rates[key]} for key, part in networks.items()])
    groups = []
    for name, part in networks.items():
        weights = [parameter for parameter in part.parameters() if parameter.ndim > 1]
        biases = [parameter for parameter in part.parameters() if parameter.ndim == 1]
        groups.append({"params": weights, "lr": rates[name]})
        groups.append({"params": biases, "lr": BIAS_RATE * rates[name], "weight_decay": 0.0})
    return torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def train_step(optimiser: torch.optim.Optimizer, objective: Objective, batch: Sample, sub_batch: int) -> Outcome:
    """Make one step on ``batch``, its gradient summed over sub-batches; exact, for no layer looks across samples."""
    optimiser.zero_grad()
    size, outcomes = len(batch.label), []
    for part in zip(*(values.split(sub_batch) for values in batch), strict=True):
        loss, measure = objective(Sample(*part))
        share = loss * (len(measure) / size)
        share.backward()
        outcomes.append(Outcome(share.detach(), measure.detach()))
    optimiser.step()
    return Outcome(torch.stack([part.loss for part in outcomes]).sum(), torch.cat([part.measure for part in outcomes]))


def _epoch(
    run: Run,
    networks: nn.ModuleDict,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    samples: ClipSamples,
    preset: Preset,
    epoch: int,
) -> tuple[float, float]:
    """Return the mean loss and the mean measure over one epoch's samples."""
    networks.train()
    device = next(networks.parameters()).device
    torch.manual_seed(seed_of(preset, run.name, epoch))
    losses, measures = 0.0, []
    for batch in batches(samples, preset.batch, order=samples.shuffled()):
        loss, measure = train_step(
            optimiser, objective, Sample(*(values.to(device) for values in batch)), preset.sub_batch
        )
        if not torch.isfinite(loss):
            raise TrainingDivergedError(f"run {run.name}: the loss is {loss.item()} in epoch {epoch + 1}")
        losses += loss.item() * len(measure)
        measures.append(measure)
    measured = torch.cat(measures)
    return losses / len(measured), measured.mean().item()


def _guidance_objective(transformer: nn.Module) -> Objective:
    guidance = RegressiveGuidance("l1")

    def objective(sample: Sample) -> Outcome:
        theta = transformer.localize(sample.image)
        loss = guidance(theta, sample.theta, sample.confidence)
        return Outcome(loss, window_iou(theta.detach(), sample.theta))

    return objective


def _joint_objective(transformer: nn.Module, recogniser: nn.Module) -> Objective:
    guidance = RegressiveGuidance("l1")
    guidance.off()

    def objective(sample: Sample) -> Outcome:
        hits: list[Tensor] = []

        def recognise(glimpse: Glimpse) -> Tensor:
            scores = recogniser(glimpse.image)
            hits.append(_hits(scores, sample.label))
            return F.cross_entropy(scores, sample.label)

        loss = guidance.objective(transformer, sample.image, target=None, task=recognise)
        return Outcome(loss, hits[0])

    return objective


def _window_objective(recogniser: nn.Module, windows: Callable[[Sample, int], Tensor]) -> Objective:
    side = recogniser.input_size

    def objective(sample: Sample) -> Outcome:
        scores = recogniser(affine_sample(sample.image, windows(sample, side), (side, side)))
        return Outcome(F.cross_entropy(scores, sample.label), _hits(scores, sample.label))

    return objective


def _random_windows(sample: Sample, side: int) -> Tensor:
    """Return theta of a random whole-pixel window of ``side`` pixels for each sample."""
    count, _, height, width = sample.image.shape
    x0 = torch.randint(width - side + 1, (count,))
    y0 = torch.randint(height - side + 1, (count,))
    window = torch.stack([x0, y0, torch.full_like(x0, side), torch.full_like(y0, side)], dim=1)
    return window_to_theta(window, (height, width)).to(sample.image)


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).float()


@torch.no_grad()
def _thetas(networks: nn.ModuleDict, images: Tensor) -> list[Any]:
    networks.eval()
    return networks["transformer"].localize(images).tolist()


def _weights_name(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _checkpoint(
    run: Run, unit: Unit, networks: nn.Module, optimiser: torch.optim.Optimizer | None, facts: Mapping[str, Any]
) -> None:
    """Commit weights and facts; the optimiser's state only while there is more to train."""
    weights = {name: tensor.contiguous() for name, tensor in networks.state_dict().items()}
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        raise TrainingDivergedError(f"run {run.name}: a weight is not finite after epoch {facts['epoch']}")
    state = {} if optimiser is None else optimiser.state_dict()["state"]
    moments = {f"optimiser.{i}.{name}": tensor for i, slots in state.items() for name, tensor in slots.items()}
    name = _weights_name(facts["epoch"])
    with written_aside(unit.path(name)) as path:
        save_file(weights | moments, path)
    unit.commit(name, **facts)


def _restore(unit: Unit, networks: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Load the unit's checkpoint into ``networks`` and ``optimiser`` and return its facts, if there is one."""
    if not unit.done:
        return None
    weights, state = _split(unit.path(_weights_name(unit.facts["epoch"])))
    networks.load_state_dict(weights)
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return {**unit.facts}


def _split(path: Path) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
    weights, state = {}, {}
    for name, tensor in load_file(path).items():
        if name.startswith("optimiser."):
            _, index, slot = name.split(".")
            state.setdefault(int(index), {})[slot] = tensor
        else:
            weights[name] = tensor
    return weights, state
