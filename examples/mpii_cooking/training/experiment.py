"""An experiment: everything trained and evaluated from one seed, and where its parts are kept."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from examples.mpii_cooking.config import Level, Preset, SeedPlan
from examples.mpii_cooking.data.caches import VideoCache
from examples.mpii_cooking.data.dataset import Clip, Dataset
from examples.mpii_cooking.data.samples import ClipSamples, Sample
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.training.checkpoints import History
from examples.mpii_cooking.training.networks import Backbone, Networks, Positions
from examples.mpii_cooking.training.runs import Run, build, planned_runs
from examples.mpii_cooking.training.weights import Weights
from examples.mpii_cooking.variants import Modality, Phase
from examples.mpii_cooking.workspace import NotDoneError, Unit, Workspace, fingerprint

FOLLOWED_CLIPS = 12  # test clips on which Figures 7 and 8 follow the windows
TRAINING = "examples.mpii_cooking.training.train"  # the module that trains runs


@dataclass(frozen=True)
class Experiment:
    """The data, the settings and the seed of a run, and its units."""

    dataset: Dataset
    caches: Mapping[str, VideoCache]
    """The prepared videos."""
    preset: Preset
    plan: SeedPlan
    workspace: Workspace
    """Where everything is kept that depends on the seed."""
    device: torch.device
    weights: Weights = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.plan.seed

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """What is trained, each run after those it starts from."""
        return planned_runs(self.preset, self.plan)

    def unit(self, run: Run) -> Unit:
        """Return where the run's weights and history are kept."""
        inputs = {
            "follows": self.follows(run),
            "weights": {name: self.weights[name].sha256 for name in run.backbones(self.preset) if name in self.weights},
            "start": {part: self.content(origin) for part, origin in run.origins().items()},
        }
        everything = self._read_by(run) | inputs | made_by(TRAINING)
        return self.workspace.unit(f"models/{run.name}", everything, self.check_caches)

    def check_caches(self) -> None:
        """Raise DataError if what was prepared has changed since it was checked."""
        for cache in self.caches.values():
            cache.check()

    def content(self, run: Run) -> str | None:
        """Return a digest of the run's weights at the end of its training; None before that."""
        unit = self.unit(run)
        return unit.content if unit.fitting and unit.fitting["facts"]["is_finished"] else None

    def seen_by(self, run: Run) -> dict[str, object]:
        """Return what decides what the trained networks of a run see in its data."""
        return self._read_by(run) | {"network": self.content(run)}

    def is_finished(self, run: Run) -> bool:
        """Whether the run is trained to its end."""
        unit = self.unit(run)
        return unit.done and checkpoints.load_history(unit).is_finished

    def history(self, run: Run) -> History:
        """Return what training logged. If the run is not finished, this raises NotDoneError."""
        return checkpoints.load_history(self._finished_unit(run))

    def trained(self, run: Run) -> Networks:
        """Return a run's networks, ready for evaluation. If it is not finished, this raises NotDoneError."""
        networks = build(run, len(self.dataset.classes), self.preset)
        checkpoints.load_weights(self._finished_unit(run), networks)
        return self.placed(networks).eval()

    def untrained(self, run: Run) -> Networks:
        """Return the networks with which the run starts. The runs that it starts from must be finished."""
        networks = build(run, len(self.dataset.classes), self.preset, self.weights, seed=self.seed)
        for part, origin in run.origins().items():
            networks.get_submodule(part).load_state_dict(self.trained(origin).get_submodule(part).state_dict())
        return self.placed(networks)

    def placed(self, networks: Networks) -> Networks:
        """Move networks to the device. If the preset says so, compile their backbones when they are first called."""
        if self.preset.training.compile:
            for part in networks.modules():
                if isinstance(part, Backbone | Positions):
                    part.compile()  # in place: names in the state dict stay
        return networks.to(self.device)

    def training_samples(self, run: Run, epoch: int) -> ClipSamples:
        """Return the samples of one epoch of training."""
        stream, span = (run.level, run.modality, self.preset), run.settings(self.preset).span
        clips, seed = self.dataset.train, self.seed
        return ClipSamples(clips, self.caches, *stream, seed=seed, augment=True, epoch=epoch, span=span)

    def test_samples(self, modality: Modality, level: Level, clips: tuple[Clip, ...] | None = None) -> ClipSamples:
        """Return one random frame of every test clip, or of some; the same frames for every run of a level."""
        chosen = self.dataset.test if clips is None else clips
        return ClipSamples(chosen, self.caches, level, modality, self.preset, seed=self.seed, augment=False)

    def follows(self, run: Run) -> bool:
        """Whether the run's windows are logged on fixed test frames, before its first epoch and after each."""
        stream = (run.phase, run.modality, run.localizer)
        return stream == (Phase.JOINT, Modality.SPATIAL, self.preset.scope.main_localizer)

    @property
    def followed_clips(self) -> list[int]:
        """The test clips, by index, on which windows are followed: one of each class, if there are not too many."""
        of_class: defaultdict[int, list[int]] = defaultdict(list)
        for index, clip in enumerate(self.dataset.test):
            of_class[clip.label].append(index)
        clips, classes = (min(FOLLOWED_CLIPS, len(them)) for them in (self.dataset.test, of_class))
        shown = [sorted(of_class)[place * len(of_class) // classes] for place in range(classes)]
        # A clip from another place in each class, so that they are not all of the same person.
        places = ((of_class[shown[turn % classes]], turn) for turn in range(clips))
        return list(dict.fromkeys(own[turn * len(own) // clips] for own, turn in places))

    def followed_frames(self, level: Level, modality: Modality = Modality.SPATIAL) -> Sample:
        """Return one frame of each of those clips as the networks of a stream read it."""
        clips = tuple(self.dataset.test[i] for i in self.followed_clips)
        return self.test_samples(modality, level, clips).__getitems__(range(len(clips)))

    @cached_property
    def dataset_digests(self) -> dict[str, str]:
        """Digests of the clips with their classes, and of everything that was prepared from the videos."""
        clips = fingerprint([self.dataset.classes, self.dataset.train, self.dataset.test])
        return {"clips": clips, "prepared": fingerprint({key: cache.content for key, cache in self.caches.items()})}

    def _finished_unit(self, run: Run) -> Unit:
        unit = self.unit(run)
        if not checkpoints.load_history(unit).is_finished:
            raise NotDoneError(f"run {run.name} is not trained to its end: train it first")
        return unit

    def _read_by(self, run: Run) -> dict[str, object]:
        """Return what decides the samples of a run."""
        settings = {"data": self.preset.data, "training": self.preset.training}
        return {"run": run, "seed": self.seed} | settings | self.dataset_digests
