"""Which networks are trained, in which order, and what each starts from."""

import hashlib
from dataclasses import dataclass, replace
from itertools import product

import torch

from examples.mpii_cooking.config import Level, PhaseSettings, Preset, SeedPlan
from examples.mpii_cooking.training.networks import Classifier, Networks, transformer
from examples.mpii_cooking.training.weights import NO_WEIGHTS, Weights, start
from examples.mpii_cooking.variants import Group, Guidance, Modality, Phase, Variant, Window
from supervised_st import LinearAnneal


@dataclass(frozen=True)
class Run:
    """One network, or pair of networks, trained in one phase."""

    phase: Phase
    modality: Modality
    level: Level
    localizer: str | None = None  # the localization network; None for runs that have none
    variant: Variant | None = None  # None for recognition, from which all variants of the stream start

    @property
    def name(self) -> str:
        """A unique name."""
        parts = (self.phase, self.modality, self.level.name, self.localizer, self.variant and self.variant.key)
        return "-".join(part.lower() for part in parts if part is not None)

    @property
    def seed_name(self) -> str:
        """The run's name in version 0.2. It seeds dropout, so runs keep their random numbers and their results."""
        return self.name.replace("recognize", "recognise").replace("center", "centre")  # codespell:ignore

    @property
    def has_classifier(self) -> bool:
        """Whether the run has a classifier."""
        return self.phase is not Phase.GUIDANCE

    @property
    def tested_variant(self) -> Variant:
        """The variant that the run is tested as: after recognition alone, it is the random crop."""
        return self.variant or Variant.RANDOM_CROP

    def settings(self, preset: Preset) -> PhaseSettings:
        """Return the epochs and rates of the run."""
        settings: PhaseSettings = getattr(preset.training, self.phase)
        traits = self.tested_variant.traits
        if traits.pace != 1:
            settings = replace(settings, localization_rate=traits.pace * (settings.localization_rate or settings.rate))
        # The number of epochs over which guidance fades must be known in advance.
        return replace(settings, patience=0) if traits.guidance is Guidance.FADING else settings

    def guidance(self, preset: Preset, epoch: int) -> float:
        """Return how strongly guidance pulls in an epoch, in [0, 1]."""
        guidance = self.tested_variant.traits.guidance
        if guidance is Guidance.FADING:
            return LinearAnneal(hold=0, until=preset.training.joint.epochs - 1).factor(epoch)
        return 1.0 if self.phase is Phase.GUIDANCE or guidance is Guidance.ON else 0.0

    def backbones(self, preset: Preset) -> tuple[str, ...]:
        """Return the names of the run's networks."""
        return (*([self.localizer] if self.localizer else []), *([preset.training.classifier] * self.has_classifier))

    def origins(self) -> dict[str, "Run"]:
        """Return the runs from which this one starts: part ("transformer", "classifier") -> run."""
        origins = {}
        if self.phase in (Phase.JOINT, Phase.BASELINE):
            origins["classifier"] = Run(Phase.RECOGNITION, self.modality, self.level)
        if self.phase is Phase.JOINT and self.tested_variant.traits.group is Group.GUIDED:
            origins["transformer"] = replace(self, phase=Phase.GUIDANCE, variant=Variant.SSTN)
        return origins


def extra_runs(preset: Preset) -> tuple[Run, ...]:
    """Return the runs of the variants that the paper does not have."""
    scope = preset.scope
    chosen = [level for level in preset.data.levels if level.name in scope.variant_levels]
    runs = []
    for level, variant in product(chosen, scope.variants):
        localizer = scope.main_localizer if variant.traits.window is Window.TRANSFORMER else None
        runs.append(Run(variant.traits.phase, Modality.SPATIAL, level, localizer, variant))
    return tuple(runs)


def all_runs(preset: Preset) -> tuple[Run, ...]:
    """Return every run in scope: those behind Tables 2 and 3 and the extra variants, each after its origins."""
    scope = preset.scope
    runs: list[Run] = []
    for modality, level in product(Modality, preset.data.levels):
        runs.append(Run(Phase.RECOGNITION, modality, level))
        runs.append(Run(Phase.BASELINE, modality, level, variant=Variant.HARD_CODED))
        for localizer in scope.localizers if modality is Modality.SPATIAL else (scope.main_localizer,):
            runs.append(Run(Phase.GUIDANCE, modality, level, localizer, Variant.SSTN))
            runs.append(Run(Phase.JOINT, modality, level, localizer, Variant.SSTN))
            if modality is Modality.SPATIAL:
                runs.append(Run(Phase.JOINT, modality, level, localizer, Variant.STN))
        runs += [run for run in extra_runs(preset) if (run.modality, run.level) == (modality, level)]
    return tuple(runs)


def planned_runs(preset: Preset, plan: SeedPlan) -> tuple[Run, ...]:
    """Return the runs that are trained from one seed, each after those it starts from."""
    runs = all_runs(preset)
    if not plan.only:
        return runs
    chosen = {
        run
        for run in runs
        if run.has_classifier
        and run.modality is Modality.SPATIAL
        and run.localizer in (preset.scope.main_localizer, None)
        and (run.tested_variant, run.level.name) in plan.only
    }
    needed = chosen | {origin for run in chosen for origin in run.origins().values()}
    return tuple(run for run in runs if run in needed)


def build(run: Run, classes: int, preset: Preset, weights: Weights = NO_WEIGHTS, *, seed: int = 0) -> Networks:
    """Return the run's networks before any training.

    The random numbers depend on the seed, the stream and the localization network only. So all variants start from the
    same weights, except for heads that do not start at random.
    """
    networks = Networks()
    if run.localizer is not None:
        torch.manual_seed(seed_of(seed, run.modality, run.level.name, run.localizer))
        traits = run.tested_variant.traits
        networks.transformer = transformer(run.localizer, run.level, run.modality, preset, traits.head)
        if run.localizer in weights:
            start(networks.transformer.localization, weights[run.localizer])
        networks.transformer.requires_grad_(not traits.is_frozen)
    if run.has_classifier:
        torch.manual_seed(seed_of(seed, run.modality, run.level.name))
        networks.classifier = Classifier(classes, run.modality, preset)
        if preset.training.classifier in weights:
            start(networks.classifier, weights[preset.training.classifier])
    return networks


def seed_of(seed: int, *words: object) -> int:
    """Return a seed that depends on ``seed`` and ``words`` alone."""
    text = "/".join(map(str, (seed, *words)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
