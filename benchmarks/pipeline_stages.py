"""The timed stages of the paper's pipeline: in each, our way, other ways, and the error of an answer."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import pipeline_peers as peers
from benchmarks.measure import Call
from benchmarks.pipeline_plan import Plan, Scene
from benchmarks.tolerances import EXACT, FLOAT32_SUM, rounding
from examples.mpii_cooking.config import DataSettings, KitchenSize, Level, Preset, SeedPlan
from examples.mpii_cooking.data import flow, video
from examples.mpii_cooking.data.caches import resize
from examples.mpii_cooking.data.dataset import Clip, Dataset
from examples.mpii_cooking.data.kitchen import make_kitchen
from examples.mpii_cooking.data.preparation import prepare, window_side
from examples.mpii_cooking.data.samples import FrameSamples, Sample
from examples.mpii_cooking.evaluation.features import Shard, Stream, compute_shard, load_features, region_runs
from examples.mpii_cooking.evaluation.predictions import evaluation_batches
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.networks import Networks
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Region
from examples.mpii_cooking.workspace import Workspace
from supervised_st import MotionWindowTarget, TemporalCorrelationPooling, affine_sample
from supervised_st.motion import motion_map, window_profile, window_scores
from supervised_st.pooling import median_gamma

# Relative error of a window's score if the map is not integer: `window_scores` rounds each of up to 224^2 pixels to
# 2^-52 of the map's total, and many pixels are alike.
SEARCHED = 1e-10
# Largest difference between entries of two descriptors of length 1. Both are float64, but the logarithm magnifies the
# rounding of small eigenvalues, and the square root that of small entries.
POOLED = 1e-9
# Standard deviation, of 255, of noise on enlarged frames, so that they compress no better than a camera's.
NOISE = 3.0
VIDEO = "s"


@dataclass(frozen=True)
class Solution:
    """One way to the answer, or a part of ours."""

    call: Call  #: returns the answer; this is timed
    error: Callable[[Any], float]  #: of an answer to its distance from the truth
    tolerance: float  #: the largest distance that counts as right
    role: Literal["peer", "part", "floor"] = "peer"  #: another way, a part of ours, or what every way needs


@dataclass(frozen=True)
class Stage:
    """One measurement; the first contestant is ours."""

    name: str
    unit: str
    count: int  #: of units in one call
    contestants: Mapping[str, Solution]


def stages(plan: Plan, device: str, folder: Path) -> Iterator[Stage]:
    """Yield the stages in the order of the pipeline; videos and all files go into ``folder``."""
    frames = max(max(scene.prepared, scene.described) for scene in plan.scenes)
    # A video of the small synthetic kitchen; its actions may be 15 % shorter than their mean.
    make_kitchen(folder / "kitchen", KitchenSize(classes=1, clips=1, frames=round(frames / 0.85)), seed=0)
    film = min((folder / "kitchen" / "videos").iterdir())
    for scene in plan.scenes:
        yield preparation(scene, film, folder / scene.preset.name)
    yield window_search(plan, device)
    for channels, kind in itertools.product(plan.channels, ("rbf", "covariance")):
        yield pooling(plan, channels, kind, device)
    for scene in plan.scenes:
        yield from extraction(scene, film, folder / scene.preset.name, device)


def _dataset(film: Path, frames: int, size: KitchenSize, path: Path) -> Dataset:
    """Make one clip of the beginning of a film, enlarged to ``size``."""
    rng = np.random.default_rng(0)
    with video.new_video(path, "mpeg4") as writer:
        for frame in itertools.islice(video.decode(film), frames):
            if frame.shape[0] != size.height:
                large = resize(frame, (size.height, size.width))
                frame = np.clip(large + rng.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
            writer.write(frame)
    return Dataset(VIDEO, {VIDEO: path}, ("class",), (), (Clip(VIDEO, 0, frames, label=0),), "none", False)


Profiles = dict[Level, list[tuple[np.ndarray, np.ndarray]]]
"""For each frame: the score and the row of the best window for every left column."""


def preparation(scene: Scene, film: Path, folder: Path) -> Stage:
    """Return the stage from a video to its caches, which runs on the host on any device."""
    settings, kitchen, frames = scene.preset.data, scene.preset.kitchen, scene.prepared
    dataset = _dataset(film, frames, kitchen, folder / "prepared.avi")
    path, numbers = dataset.videos[VIDEO], itertools.count()
    height, width = settings.flow_height, round(kitchen.width * settings.flow_height / kitchen.height)
    grays = [cv2.cvtColor(resize(frame, (height, width)), cv2.COLOR_RGB2GRAY) for frame in video.decode(path)]
    method = flow.estimator(settings.flow)
    flows = list(flow.flows(grays, method, settings.flow_bound))
    error = _profiles_error(flows, settings)

    def whole() -> Profiles:
        workspace = Workspace(folder / "preparation" / str(next(numbers)))
        cache = prepare(dataset, settings, workspace)[VIDEO]
        return {level: [cache.profile(level, frame) for frame in range(frames)] for level in settings.levels}

    contestants = {
        "`prepare`": Solution(whole, error, SEARCHED),
        "decode": _counted(lambda: video.decode(path), frames),
        f"flow, {settings.flow}": _counted(lambda: flow.flows(grays, method, settings.flow_bound), frames),
        "windows": Solution(lambda: _windows(flows, settings), error, SEARCHED, "part"),
    }
    name = f"prepare {frames} frames, {kitchen.width}x{kitchen.height}, flow at {width}x{height}"
    return Stage(name, "frames", frames, contestants)


def _counted(items: Callable[[], Iterator[Any]], count: int) -> Solution:
    """Consume the items and check their number."""
    return Solution(lambda: sum(1 for _ in items()), lambda found: abs(found - count), 0, "part")


def _stacks(count: int, stack: int) -> np.ndarray:
    """Return the numbers of the flows around each frame; the first and the last flow repeat at the ends."""
    numbers: np.ndarray = np.arange(count)[:, None] + np.arange(stack) - stack // 2
    return numbers.clip(0, count - 1)


def _windows(flows: list[np.ndarray], settings: DataSettings) -> Profiles:
    singles = motion_map(torch.from_numpy(np.stack(flows))[:, None], bound=settings.flow_bound)
    stacks = torch.from_numpy(_stacks(len(flows), settings.stack))
    motion = reduce(torch.add, (singles[numbers] for numbers in stacks.T)) / settings.stack
    profiles: Profiles = {}
    for level in settings.levels:
        side = window_side(settings, level)
        profile = window_profile(window_scores(motion, (side, side)))
        profiles[level] = list(zip(profile.score.numpy(), profile.row.numpy(), strict=True))
    return profiles


def _profiles_error(flows: list[np.ndarray], settings: DataSettings) -> Callable[[Profiles], float]:
    """Return the distance of profiles from an integer brute-force search, over all frames, levels and columns."""
    steps = np.stack(flows).astype(np.int64) - 128
    motion = (steps**2).sum(1)[_stacks(len(flows), settings.stack)].sum(1)
    unit = (2 * settings.flow_bound / 255) ** 2 / settings.stack

    def error(profiles: Profiles) -> float:
        errors = []
        for level, of in profiles.items():
            score, row = (np.stack(part) for part in zip(*of, strict=True))
            scores = peers.exact_scores(motion, window_side(settings, level))
            found = np.take_along_axis(scores, row[:, None].astype(np.int64), axis=1)[:, 0]
            errors.append(peers.search_error(score / unit, found, scores.max(1)))
        return max(errors)

    return error


def window_search(plan: Plan, device: str) -> Stage:
    """Return the search of motion maps, squared lengths of 8-bit flow: integers, whose float64 sums are exact."""
    side, (height, width) = plan.window, plan.map_size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(plan.maps, 2, -(-height // 16), -(-width // 16), generator=generator)
    steps = F.interpolate(30 * coarse, (height, width), mode="bicubic").round().clamp(-128, 127).long()
    energy = (steps**2).sum(1)
    scores = peers.exact_scores(energy.numpy(), side)
    motion = energy.double().to(device)
    single = motion.float()
    target = MotionWindowTarget(side)
    start = torch.zeros(plan.maps, dtype=torch.int64, device=device)

    def ours() -> peers.Found:
        profile = window_profile(window_scores(motion, (side, side)))
        result = target.from_profile(profile, crop_x=start, crop_size=(height, width))
        return result.score, result.window[:, 0], result.window[:, 1]

    def error(found: peers.Found) -> float:
        score, x, y = (torch.as_tensor(part).cpu().numpy() for part in found)
        return peers.search_error(score, scores[range(plan.maps), y, x], scores.max((1, 2)))

    contestants = {"`MotionWindowTarget`, float64": Solution(ours, error, EXACT)}
    if device == "cpu":
        maps = list(motion.numpy())
        contestants["`cv2.boxFilter`, float64"] = Solution(lambda: peers.box_filtered(maps, side), error, EXACT)
    contestants |= {
        "`F.avg_pool2d`, rows then columns, float64": Solution(
            lambda: peers.pooled(motion, (side, 1), (1, side)), error, EXACT
        ),
        "`F.avg_pool2d`, float32": Solution(lambda: peers.pooled(single, (side, side)), error, FLOAT32_SUM),
    }
    return Stage(f"search {plan.maps} maps, {width}x{height}, v = {side}", "maps", plan.maps, contestants)


def pooling(plan: Plan, channels: int, kind: str, device: str) -> Stage:
    """Return the pooling of clips by the logarithm of one kind of matrix of their trajectories."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(plan.clip_frames / 2, plan.clip_frames, plan.clips).round().long()
    # Features of neighboring frames are alike.
    clips = torch.randn(plan.clips, plan.clip_frames, channels, generator=generator, dtype=torch.float64).cumsum(1)
    gamma = median_gamma(clips, lengths)
    ours = TemporalCorrelationPooling(kind, gamma=gamma)
    inputs = clips.to(device), lengths.to(device)
    trajectories = [clip[:length].numpy() for clip, length in zip(clips, lengths.tolist(), strict=True)]

    def matrix(clip: np.ndarray) -> np.ndarray:
        return peers.rbf_by_numpy(clip, gamma) if kind == "rbf" else np.cov(clip.T)

    def by_numpy() -> np.ndarray:
        return np.stack([peers.described_by_numpy(matrix(clip)) for clip in trajectories])

    truth = by_numpy()

    def error(descriptors: Tensor | np.ndarray) -> float:
        return float(np.abs(torch.as_tensor(descriptors).cpu().numpy() - truth).max())

    contestants = {
        "`TemporalCorrelationPooling`": Solution(lambda: ours(*inputs), error, POOLED),
        "NumPy, clip by clip": Solution(by_numpy, error, POOLED),
    }
    name = f"pool {plan.clips} clips of up to {plan.clip_frames} frames, {channels} channels, log of {kind}"
    return Stage(name, "clips", plan.clips, contestants)


class Untrained(Experiment):
    """An experiment with untrained networks: neither time nor errors depend on the weights."""

    def trained(self, run: Run) -> Networks:
        """Return the networks without reading a file, which a real run does once for hundreds of clips."""
        return _built(run, len(self.dataset.classes), self.preset, self.device)


@lru_cache(maxsize=2)
def _built(run: Run, classes: int, preset: Preset, device: torch.device) -> Networks:
    return build(run, classes, preset).to(device).eval()


def extraction(scene: Scene, film: Path, folder: Path, device: str) -> Iterator[Stage]:
    """Yield the stages from caches to files of features, one for each stream."""
    # The method of flow does not change what is read, and TV-L1 would take minutes.
    preset = replace(scene.preset, data=replace(scene.preset.data, flow="dis"))
    dataset = _dataset(film, scene.described, preset.kitchen, folder / "described.avi")
    workspace = Workspace(folder / "extraction")
    caches = prepare(dataset, preset.data, workspace)
    experiment = Untrained(dataset, caches, preset, SeedPlan(0), workspace, torch.device(device))
    for modality, level in itertools.product(Modality, preset.data.levels):
        if level.name in scene.levels:
            yield _stream(experiment, Stream(modality, level))


def _stream(experiment: Experiment, stream: Stream) -> Stage:
    """Return the features of one stream by the example's loop, and by the bare networks on inputs in memory."""
    preset, clips, numbers = experiment.preset, experiment.dataset.test, itertools.count()
    modality, level = stream
    attending, hard_coded = (experiment.trained(run) for run in region_runs(experiment, stream).values())
    transformer, classifiers = attending.transformer, (attending.classifier, hard_coded.classifier)
    size = (preset.data.glimpse, preset.data.glimpse)

    def samples() -> FrameSamples:
        # A copy of the caches holds no frames in memory yet.
        return FrameSamples(clips, copy.deepcopy(experiment.caches), level, modality, preset)

    frames = len(samples())
    inputs = []
    with torch.inference_mode():
        for batch in evaluation_batches(samples()):
            sample = Sample(*(field.to(experiment.device) for field in batch))
            thetas = transformer.localize(sample.image), sample.theta
            glimpses = [affine_sample(sample.image, theta, size, antialias=True) for theta in thetas]
            inputs.append((sample.image, glimpses))

    @torch.inference_mode()
    def bare() -> Tensor:
        found = []
        for image, glimpses in inputs:
            transformer.localize(image)
            both = zip(classifiers, glimpses, strict=True)
            found.append(torch.stack([classifier.fc6(glimpse) for classifier, glimpse in both]))
        return torch.cat(found, 1)

    truth = bare().cpu()

    def error(found: Tensor) -> float:
        return ((found.float().cpu() - truth).abs().max() / truth.abs().max()).item()

    def whole() -> Experiment:
        root = experiment.workspace.root / f"{modality}-{level.name}-{next(numbers)}"
        fresh = replace(experiment, caches=copy.deepcopy(experiment.caches), workspace=Workspace(root))
        compute_shard(fresh, stream, Shard("test-0000", clips))
        return fresh

    def written(fresh: Experiment) -> float:
        files = [np.concatenate(load_features(fresh, stream, region, "test")) for region in Region]
        return error(torch.from_numpy(np.stack(files)))

    contestants = {
        "`compute_shard`": Solution(whole, written, rounding(torch.float16)),
        "bare networks": Solution(bare, error, FLOAT32_SUM, "floor"),
        "reading batches": _counted(
            lambda: (frame for batch in evaluation_batches(samples()) for frame in batch.frame), frames
        ),
    }
    name = f"features of {frames} frames, {preset.name}, {modality}, {level.name}"
    return Stage(name, "frames", frames, contestants)
