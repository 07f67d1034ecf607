"""Studies: what learned attention gains, by how far the action is from the largest motion, or by the number of clips.

A study trains the same arms, on still frames at detail level, under several conditions. Each seed of each condition is
an experiment with units of its own, so a study that was stopped resumes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import KitchenSize, Preset, Scope, SeedPlan, StudySettings, TrainingSettings
from examples.mpii_cooking.data import kitchen
from examples.mpii_cooking.data.caches import VideoCache
from examples.mpii_cooking.data.dataset import Clip, DataError, Dataset
from examples.mpii_cooking.data.preparation import prepare
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.evaluation import study_results
from examples.mpii_cooking.evaluation.collect import frame_answers
from examples.mpii_cooking.evaluation.predictions import compute_answers
from examples.mpii_cooking.evaluation.scores import labels
from examples.mpii_cooking.evaluation.study_results import Condition, Kind, StudyResults
from examples.mpii_cooking.evaluation.visibility import compute_shown, load_shown
from examples.mpii_cooking.formats import duration
from examples.mpii_cooking.made_by import made_by
from examples.mpii_cooking.plan import check_disk, training_seconds
from examples.mpii_cooking.presets import STUDIES
from examples.mpii_cooking.report import provenance, study_page
from examples.mpii_cooking.training.all_runs import at_a_time, train_all
from examples.mpii_cooking.training.experiment import TRAINING, Experiment
from examples.mpii_cooking.training.runs import planned_runs
from examples.mpii_cooking.variants import PAPER_VARIANTS, Phase, Variant
from examples.mpii_cooking.workspace import Workspace, fingerprint

LEVEL = "detail"
_FEW = (Variant.HARD_CODED, Variant.STN, Variant.FROZEN, Variant.SSTN)
ARMS: dict[Kind, tuple[Variant, ...]] = {"distance": (*_FEW, Variant.STN_LEVEL, Variant.GUIDED), "clips": _FEW}
"""SSTN and its rivals."""


@dataclass(frozen=True)
class Setup:
    """A condition before anything is trained."""

    name: str
    preset: Preset
    dataset: Dataset

    @property
    def kitchen(self) -> str:
        """The name of its kitchen's folder, which conditions may share."""
        return _kitchen_name(self.preset.kitchen)

    def experiments(self, caches: Mapping[str, VideoCache], folder: Path, device: torch.device) -> list[Experiment]:
        """Return an experiment for each seed."""
        units = [Workspace(folder / f"{self.name.replace(' ', '-')}-seed-{each.seed}") for each in self.preset.seeds]
        return [
            Experiment(self.dataset, caches, self.preset, seed, unit, device)
            for seed, unit in zip(self.preset.seeds, units, strict=True)
        ]


def run(kind: Kind, output: Path, preset: Preset, *, plan_only: bool) -> None:
    """Run every stage of a study in order. What is finished in ``output`` is not done again."""
    if preset.name not in STUDIES:
        raise DataError(f"study needs a preset of {', '.join(STUDIES)}, got {preset.name}")
    restricted = _restricted(preset, ARMS[kind], STUDIES[preset.name].seeds)
    job = fingerprint([kind, STUDIES[preset.name], restricted, made_by(TRAINING)])
    timings = provenance.Timings(output / "timings.json", job)
    torch.set_num_threads(preset.training.threads or torch.get_num_threads())
    device = distributed.device()
    environment = provenance.describe_environment(device)
    with timings.stage("data"):
        setups = list(_setups(kind, restricted, STUDIES[preset.name], output))
    with timings.stage("plan"):
        distributed.once(lambda: print(_announcement(kind, setups, output, device), flush=True))
    if plan_only:
        return
    with timings.stage("prepare"):
        written, first = (output / "cache", *output.glob("*-seed-*")), setups[0]
        distributed.once(lambda: check_disk(first.dataset, first.preset, output, device, written, times=len(setups)))
        kitchens = {setup.kitchen: setup.dataset for setup in setups}
        caches = {
            name: prepare(dataset, preset.data, Workspace(output / "cache" / name))
            for name, dataset in kitchens.items()
        }
    trained = [setup.experiments(caches[setup.kitchen], output, device) for setup in setups]
    with timings.stage("train"):
        train_all([experiment for experiments in trained for experiment in experiments])
    with timings.stage("test"):
        for experiments in trained:
            compute_shown(experiments[0])
            for experiment in experiments:
                compute_answers(experiment)
    if distributed.is_main():
        dataset, cues = setups[0].dataset, setups[0].dataset.cues
        results = StudyResults(
            kind=kind,
            settings=preset,
            command=provenance.command(),
            classes=dataset.classes,
            cues=cues.values if cues else {},
            environment=environment,
            timings=timings.rows(),
            conditions=tuple(_condition(*each) for each in zip(setups, trained, strict=True)),
        )
        results.save(output / study_results.FILE)
        print(f"results: {output / study_results.FILE}")
        print(f"report: {study_page.write_page(results, output)}")


def same_steps(training: TrainingSettings, usual: int, clips: int) -> TrainingSettings:
    """Return settings with as many steps on ``clips`` training clips as these have on ``usual``.

    Only whole epochs are trained, so the number of steps is right to within half an epoch.
    """
    factor = math.ceil(usual / training.batch) / math.ceil(clips / training.batch)
    phases = {phase.value: getattr(training, phase) for phase in Phase}
    scaled = {name: replace(each, epochs=max(1, round(factor * each.epochs))) for name, each in phases.items()}
    return replace(training, **scaled)


def first_clips(clips: Iterable[Clip], count: int) -> tuple[Clip, ...]:
    """Return the first ``count`` clips of each class in each video, in their order."""
    seen: Counter[tuple[str, int]] = Counter()
    chosen = []
    for clip in clips:
        seen[clip.video, clip.label] += 1
        if seen[clip.video, clip.label] <= count:
            chosen.append(clip)
    return tuple(chosen)


def _restricted(preset: Preset, arms: Sequence[Variant], seeds: Iterable[int]) -> Preset:
    """Return the preset with the arms at one level and the main localization network only."""
    main = preset.scope.main_localizer
    scope = Scope((main,), main, tuple(arm for arm in arms if arm not in PAPER_VARIANTS), (LEVEL,))
    only = tuple((arm, LEVEL) for arm in arms)
    return replace(preset, scope=scope, seeds=tuple(SeedPlan(seed, only) for seed in seeds))


def _setups(kind: Kind, preset: Preset, settings: StudySettings, folder: Path) -> Iterator[Setup]:
    if kind == "distance":
        for distance in settings.distances:
            size = replace(preset.kitchen, distance=distance)
            yield Setup(f"distance {_span(distance)}", replace(preset, kitchen=size), _made(size, folder))
        return
    size = replace(preset.kitchen, distance=settings.clips_distance, clips=max(settings.clips))
    dataset = _made(size, folder)
    usual = len(first_clips(dataset.train, preset.kitchen.clips))
    for count in settings.clips:
        part = first_clips(dataset.train, count)
        training = same_steps(preset.training, usual, len(part))
        yield Setup(f"clips {count}", replace(preset, kitchen=size, training=training), replace(dataset, train=part))


def _made(size: KitchenSize, folder: Path) -> Dataset:
    """Make a kitchen; those of one study differ in nothing but what the study varies."""
    videos = folder / "kitchens" / _kitchen_name(size)
    distributed.once(lambda: kitchen.make_kitchen(videos, size, seed=0))
    return distributed.once(lambda: open_dataset(videos))


def _kitchen_name(size: KitchenSize) -> str:
    return f"{_span(size.distance)}-px"


def _span(distance: tuple[float, float]) -> str:
    return "-".join(f"{end:g}" for end in distance)


def _announcement(kind: Kind, setups: Sequence[Setup], folder: Path, device: torch.device) -> str:
    """Say how many networks will be trained, and about how long that takes."""
    first = setups[0]
    networks = sum(len(planned_runs(setup.preset, plan)) for setup in setups for plan in setup.preset.seeds)
    # Under the other conditions there are as many steps.
    seconds = len(setups) * training_seconds(first.dataset, first.preset, folder, device)
    return (
        f"study {kind}: {networks} networks, under {len(setups)} conditions with {len(first.preset.seeds)} seeds each; "
        f"training takes about {duration(seconds / at_a_time(first.preset, device))} (measured on {device.type})"
    )


def _condition(setup: Setup, experiments: Sequence[Experiment]) -> Condition:
    """Collect what was found under one condition."""
    training = setup.preset.training
    arms = {arm for arm, _ in setup.preset.seeds[0].only}
    return Condition(
        name=setup.name,
        distance=setup.preset.kitchen.distance,
        train_clips=len(setup.dataset.train),
        epochs={phase: getattr(training, phase).epochs for phase in Phase},
        shown=load_shown(experiments[0]),
        labels=labels(setup.dataset.test),
        answers=tuple(row for each in experiments for row in frame_answers(each) if row.cell.variant in arms),
    )
