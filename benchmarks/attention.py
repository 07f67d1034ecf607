"""Train small transformers, guided and then free, in many settings: what becomes of their windows?

    python benchmarks/attention.py [--quick] [--processes N] [--fresh] [--json FILE]

Every setting is a task, a parameterization, a localization network and an optimizer, with five seeds. After guidance,
each setting goes on in several ways from the same state. A run that was stopped goes on where it was.
"""

import argparse
import copy
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from tqdm import tqdm

from benchmarks.attention_scenes import GLIMPSE, TASKS, Scenes
from benchmarks.attention_tables import attention_table
from benchmarks.records import Measured, provenance, results_file
from benchmarks.saving import Row, save
from supervised_st import Glimpse, HardSwitch, RegressiveGuidance, SupervisedSpatialTransformer, affine_sample
from supervised_st.geometry import PARAMETERIZATIONS, distortion, window_iou
from supervised_st.types import Parameterization

Groups = list[dict[str, Any]]
GUIDED, FREE, BATCH = 400, 400, 32
TRAINING_SCENES, TEST_SCENES = 2048, 512
NETWORKS = {"narrow": 6, "medium": 10, "wide": 16}  # filters of the localization network's first layer
COMPARED = "medium"  # with this network and the kinds below, every way to go on is tried
COMPARED_KINDS: tuple[Parameterization, ...] = ("affine", "crop3")
OPTIMIZERS: dict[str, Callable[[Groups], Optimizer]] = {
    "Adam": partial(Adam, lr=2e-3),
    "AdamW": partial(AdamW, lr=1e-3),
    "SGD": partial(SGD, lr=3e-2, momentum=0.9),
}
DEFAULT_PACE = RegressiveGuidance().free_pace
LOST = 0.5  # a run has lost its windows if they lie out of bounds by more than this fraction, on average
SEEDS = range(5)
TUNING_SEEDS = range(100, 102)
RECIPES = {  # by hand, after guidance: the transformer's rate as a fraction of the classifier's, and a pause before
    "1/3": (1 / 3, 0),
    "1/10": (1 / 10, 0),
    "1/30": (1 / 30, 0),
    "1/100": (1 / 100, 0),
    "1/10 after 100 steps": (1 / 10, 100),
}


@dataclass(frozen=True)
class Setting:
    """One training with guidance, from which several others go on."""

    task: str
    parameterization: Parameterization
    network: str
    optimizer: str
    seed: int


class Model(nn.Module):
    """A transformer, and a classifier of what it looks at."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        task, width = TASKS[setting.task], NETWORKS[setting.network]
        last = 4 * width * -(-task.size[0] // 16) * -(-task.size[1] // 16)
        layers = (_conv(1, width, 2), _conv(width, 2 * width, 2), _conv(2 * width, 4 * width, 2))
        self.look = SupervisedSpatialTransformer(
            nn.Sequential(*layers, _conv(4 * width, 4 * width, 1), nn.Flatten()),
            (GLIMPSE, GLIMPSE),
            features=last,
            downscale=nn.MaxPool2d(2),
            parameterization=setting.parameterization,
            scale=task.scale,
        )
        self.classifier = nn.Sequential(
            *(_conv(1, 16, 1), _conv(16, 32, 2), nn.Flatten(), nn.Linear(32 * (GLIMPSE // 2) ** 2, task.classes))
        )


@dataclass
class Training:
    """A model in training; all random numbers come from its generator."""

    model: Model
    optimizer: Optimizer
    guidance: RegressiveGuidance
    generator: torch.Generator

    @classmethod
    def start(cls, setting: Setting) -> "Training":
        """Return an untrained model, with one rate for everything."""
        torch.manual_seed(setting.seed)
        model = Model(setting)
        groups: Groups = [{"params": [*model.look.parameters()]}, {"params": [*model.classifier.parameters()]}]
        guidance = RegressiveGuidance(schedule=HardSwitch(GUIDED))
        return cls(model, OPTIMIZERS[setting.optimizer](groups), guidance, torch.Generator().manual_seed(setting.seed))

    def fork(self, *, free_pace: float = DEFAULT_PACE) -> "Training":
        """Return a copy that goes on by itself, at another pace."""
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        guidance = RegressiveGuidance(schedule=HardSwitch(GUIDED), free_pace=free_pace)
        guidance.load_state_dict(self.guidance.state_dict())
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return Training(model, optimizer, guidance, generator)

    def run(self, scenes: Scenes, steps: int) -> "Training":
        """Train for a number of steps."""
        for _ in range(steps):
            batch = torch.randint(len(scenes.label), (BATCH,), generator=self.generator)
            task = partial(self._task, labels=scenes.label[batch])
            target = scenes.target[batch]
            self._step(self.guidance.objective(self.model.look, scenes.image[batch], target=target, task=task))
            self.guidance.step()
        return self

    def run_fixed(self, scenes: Scenes, theta: Tensor, steps: int) -> "Training":
        """Train the classifier alone, on windows that stay as they are."""
        with torch.no_grad():
            glimpses = affine_sample(scenes.image, theta, (GLIMPSE, GLIMPSE))
        for _ in range(steps):
            batch = torch.randint(len(scenes.label), (BATCH,), generator=self.generator)
            self._step(F.cross_entropy(self.model.classifier(glimpses[batch]), scenes.label[batch]))
        return self

    def _task(self, glimpse: Glimpse, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.model.classifier(glimpse.image), labels)

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()


def run(setting: Setting) -> Row:
    """Train one setting in every way, and test each."""
    torch.set_num_threads(1)
    training, test = scenes(setting.task)
    guided = Training.start(setting).run(training, GUIDED)
    with torch.no_grad():
        theta = guided.model.look.localize(training.image)
    ways = {
        "guided": guided,
        "free": guided.fork().run(training, FREE),
        "frozen": guided.fork(free_pace=1).run_fixed(training, theta, FREE),
    }
    is_compared = setting.network == COMPARED and setting.parameterization in COMPARED_KINDS
    if is_compared:
        ways["free at full rate"] = guided.fork(free_pace=1).run(training, FREE)
        ways["hand-tuned"] = by_hand(guided, training, best_recipe(setting.task, setting.optimizer))
    found = {name: tested(it.model, it.model.look.localize, test) for name, it in ways.items()}
    if is_compared:
        oracle = guided.fork(free_pace=1).run_fixed(training, training.truth, FREE)
        found["oracle"] = tested(oracle.model, lambda _: test.truth, test)
    return {"case": asdict(setting), "failed": "", "found": found}


def by_hand(guided: Training, training: Scenes, recipe: str) -> Training:
    """Go on with a lower rate for the transformer, as a user would by parameter groups."""
    (fraction, pause), free = RECIPES[recipe], guided.fork(free_pace=1)
    group = free.optimizer.param_groups[0]
    rate, group["lr"] = group["lr"], 0.0
    free.run(training, pause)
    group["lr"] = fraction * rate
    return free.run(training, FREE - pause)


@cache
def best_recipe(task: str, optimizer: str) -> str:
    """Return the recipe with the best mean accuracy on seeds of its own."""
    training, test = scenes(task)
    totals = dict.fromkeys(RECIPES, 0.0)
    for seed in TUNING_SEEDS:
        guided = Training.start(Setting(task, COMPARED_KINDS[0], COMPARED, optimizer, seed)).run(training, GUIDED)
        for recipe in RECIPES:
            model = by_hand(guided, training, recipe).model
            totals[recipe] += tested(model, model.look.localize, test)["accuracy"]
    return max(totals, key=lambda recipe: totals[recipe])


@torch.no_grad()
def tested(model: Model, windows: Callable[[Tensor], Tensor], test: Scenes) -> Row:
    """Return the accuracy in percent, and means over the windows: overlap with the right one, and distortion."""
    theta = windows(test.image)
    glimpse = affine_sample(test.image, theta, (GLIMPSE, GLIMPSE))
    shape = distortion(theta, (test.image.shape[2], test.image.shape[3]), (GLIMPSE, GLIMPSE))
    means = {
        "accuracy": 100 * (model.classifier(glimpse).argmax(1) == test.label).double().mean(),
        "iou": window_iou(theta, test.truth).mean(),
        "anisotropy": shape.anisotropy.median(),
        "scale": shape.scale.median(),
        "outside": shape.outside.mean(),
    }
    found: Row = {name: round(float(value), 4) for name, value in means.items()}
    return found | {"is_lost": bool(found["outside"] > LOST)}


@cache
def scenes(task: str) -> tuple[Scenes, Scenes]:
    """Return the training and the test scenes of a task, the same for every setting."""
    make = TASKS[task].make
    return (
        make(TRAINING_SCENES, torch.Generator().manual_seed(0), True),
        make(TEST_SCENES, torch.Generator().manual_seed(1), False),
    )


def settings(*, is_quick: bool) -> list[Setting]:
    """Return all settings; a quick run has one seed, parameterization and network.

    The narrow and the wide network have two parameterizations: the most general one, and an upright window.
    """
    kinds = {COMPARED: tuple(PARAMETERIZATIONS), "narrow": COMPARED_KINDS, "wide": COMPARED_KINDS}
    crossed = [(network, kind) for network in NETWORKS for kind in kinds[network]]
    chosen = [(COMPARED, COMPARED_KINDS[0])] if is_quick else crossed
    # The seeds come first: a run that is stopped has a bit of everything.
    every = product(SEEDS[:1] if is_quick else SEEDS, TASKS, OPTIMIZERS, chosen)
    return [Setting(task, kind, network, optimizer, seed) for seed, task, optimizer, (network, kind) in every]


def _conv(channels: int, filters: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, filters, 3, stride, padding=1), nn.ReLU())


def main() -> None:
    """Run what is missing, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, parameterization and network: a few minutes")
    parser.add_argument("--processes", type=int, default=2, help="settings that are trained at a time (default: 2)")
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run has measured")
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    path = arguments.json or results_file("attention-cpu", is_quick=arguments.quick)
    steps = {"guided": GUIDED, "free": FREE, "batch": BATCH, "scenes": [TRAINING_SCENES, TEST_SCENES], "lost": LOST}
    every = settings(is_quick=arguments.quick)
    measured = Measured(path, provenance("cpu", 1) | {"steps": steps}, every, fresh=arguments.fresh)
    missing = measured.missing(every)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, context) as pool:
        done = tqdm(pool.map(run, missing), initial=len(every) - len(missing), total=len(every), unit="setting")
        for row in done:
            measured.add(row)
    print(f"{attention_table(save(path, measured.results))}\n\n{path}")


if __name__ == "__main__":
    main()
