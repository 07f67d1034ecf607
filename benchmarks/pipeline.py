"""Time the hot stages of the paper's pipeline beside other ways to the same answers.

    python benchmarks/pipeline.py --device cpu|cuda [--quick | --full] [--json FILE]

Preparing a video (decode, flow, windows), searching motion maps for the best window, temporal correlation pooling and
feature extraction. Every answer first has to be right; then everybody takes turns. Results are a JSON file and a table;
`python benchmarks/tables.py` brings that of docs/speed.md up to date.
"""

import argparse
import copy
import io
import itertools
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "tests"))

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from budgets import EXACT, FLOAT32_SUM, rounding
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

import supervised_st
from benchmarks import measure
from benchmarks.contestants import Call
from benchmarks.records import ROOT, Row, provenance
from benchmarks.tables import RESULTS, pipeline_table
from examples.mpii_cooking import features, flow, video
from examples.mpii_cooking.clips import Clip, Corpus
from examples.mpii_cooking.config import MODALITIES, PAPER, QUICK, SMOKE, KitchenSize, Level, Preset, levels
from examples.mpii_cooking.prepare import VideoCache, prepare, resize, window_side
from examples.mpii_cooking.samples import FrameSamples, Sample, batches, chunks
from examples.mpii_cooking.streams import Run, build
from examples.mpii_cooking.synthetic import make_kitchen
from examples.mpii_cooking.train import Trainer
from examples.mpii_cooking.workspace import Unit, Workspace
from supervised_st import MotionWindowTarget, TemporalCorrelationPooling, affine_sample
from supervised_st.motion import WindowProfile, motion_map, window_profile, window_scores
from supervised_st.pooling import median_gamma

SEARCHED = 1e-10
"""Relative error of a window's score in maps that are not whole numbers: `window_scores` rounds each of its up to 224^2
pixels to 2^-52 of the map's total, and many pixels are alike."""

POOLED = 1e-9
"""How far apart the entries of two descriptors of length 1 may be: both are float64, but the logarithm magnifies what
rounding leaves of small eigenvalues, and the square root what it leaves of small entries."""

NOISE = 3.0
"""Standard deviation of the noise on enlarged frames, of 255, so that they are not easier to code than a camera's."""

LONG_SECONDS = 30
"""Who takes longer has one turn only, before the others."""

ROUNDS, QUICK_ROUNDS = 5, 2
VIDEO = "s"


@dataclass(frozen=True)
class Scene:
    """What is prepared and described at one scale.

    Attributes:
        preset: sizes and networks.
        prepared: frames of the video on which preparation is timed.
        described: frames of the video whose features are computed.
        levels: the names of the levels whose features are.
    """

    preset: Preset
    prepared: int
    described: int
    levels: tuple[str, ...] = ("general", "middle", "detail")


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        scenes: videos.
        maps: motion maps that are searched at once.
        map_size: their (height, width).
        window: side of the window.
        clips: clips that are pooled at once.
        clip_frames: frames of the longest.
        channels: of their features, one stage for each number.
    """

    scenes: tuple[Scene, ...]
    maps: int = 2
    map_size: tuple[int, int] = (896, 1189)
    window: int = 224
    clips: int = 16
    clip_frames: int = 100
    channels: tuple[int, ...] = (32, 256)


_ON_A_CPU = Scene(QUICK, prepared=64, described=256)
# On a CPU everything has one thread, so there is nobody to load beside it.
_PAPER_ON_A_CPU = Scene(replace(PAPER, workers=0), prepared=3, described=2, levels=("detail",))
_QUICK = Plan((Scene(SMOKE, 12, 12, ("detail",)),), 2, (112, 149), 28, clips=4, clip_frames=20, channels=(16,))
PLANS = {
    "cpu": {"quick": _QUICK, "default": Plan((_ON_A_CPU,)), "full": Plan((_ON_A_CPU, _PAPER_ON_A_CPU))},
    "cuda": {
        "quick": _QUICK,
        "default": Plan((Scene(PAPER, prepared=16, described=256, levels=("detail",)),), maps=16),
        "full": Plan((Scene(PAPER, prepared=16, described=256),), maps=16),
    },
}


@dataclass(frozen=True)
class Contestant:
    """A way to the answer, or a part of ours.

    Attributes:
        call: what is timed; returns the answer.
        error: the answer's distance from the truth.
        budget: the largest distance that is right.
        role: another way ("peer"), a part of ours ("part"), or the part that nobody can spare ("floor").
    """

    call: Call
    error: Callable[[Any], float]
    budget: float
    role: Literal["peer", "part", "floor"] = "peer"


@dataclass(frozen=True)
class Stage:
    """One measurement; the first contestant is ours."""

    name: str
    unit: str
    count: int
    """Units of work in one call."""
    contestants: Mapping[str, Contestant]


def run_stage(stage: Stage, clock: measure.Clock, rounds: int) -> Row:
    """Check everybody, then time those who are right; nobody is timed where ours is wrong."""
    entries = {name: _checked(contestant, clock) for name, contestant in stage.contestants.items()}
    own = next(iter(entries.values()))
    row = {"stage": stage.name, "unit": stage.unit, "count": stage.count, "failed": own.get("reason", "")}
    right = [name for name, entry in entries.items() if entry["status"] == "right" and not row["failed"]]
    once = {name: entries[name].pop("checked_in") for name in entries}
    calls = {name: stage.contestants[name].call for name in right if once[name] <= LONG_SECONDS}
    seconds = {name: [once[name]] for name in right} | measure.take_turns(calls, clock, rounds)
    for name, of in seconds.items():
        entries[name] |= {"status": "timed", "seconds": of}
    return row | {"contestants": entries}


def _checked(contestant: Contestant, clock: measure.Clock) -> Row:
    answers: list[Any] = []
    seconds = clock(lambda: answers.append(contestant.call()), 1)
    error = contestant.error(answers[0])
    entry = {"error": error, "budget": contestant.budget, "role": contestant.role, "checked_in": seconds}
    if error <= contestant.budget:
        return {"status": "right"} | entry
    return {"status": "wrong", "reason": f"error is {error:.1e}, allowed is {contestant.budget:.1e}"} | entry


def stages(plan: Plan, device: str, folder: Path) -> Iterator[Stage]:
    """Yield the stages in the pipeline's order; videos and what is made of them go into ``folder``."""
    film = _film(max(max(scene.prepared, scene.described) for scene in plan.scenes), folder / "kitchen")
    for scene in plan.scenes:
        yield preparation(scene, film, folder / scene.preset.name)
    yield window_search(plan, device)
    for channels in plan.channels:
        yield pooling(plan, channels, device)
    for scene in plan.scenes:
        yield from extraction(scene, film, folder / scene.preset.name, device)


def _film(frames: int, folder: Path) -> Path:
    """Write a video of the small synthetic kitchen, at least so long."""
    # Actions may be shorter than their mean by 15 %.
    make_kitchen(folder, KitchenSize(1, 1, 1, clips=1, frames=round(frames / 0.85)), seed=0)
    return min((folder / "videos").iterdir())


def _corpus(film: Path, frames: int, size: KitchenSize, path: Path) -> Corpus:
    """Cut the beginning of a film out, enlarge it if the size says so, and make one clip of it."""
    rng = np.random.default_rng(0)
    with video.new_video(path, "mpeg4") as writer:
        for frame in itertools.islice(video.decode(film), frames):
            writer.write(frame if frame.shape[0] == size.height else _enlarged(frame, size, rng))
    return Corpus(VIDEO, {VIDEO: path}, ("class",), (), (Clip(VIDEO, 0, frames, label=0),), "none", False)


def _enlarged(frame: np.ndarray, size: KitchenSize, rng: np.random.Generator) -> np.ndarray:
    large = resize(frame, (size.height, size.width))
    return np.clip(large + rng.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)


def _prepared(corpus: Corpus, preset: Preset, workspace: Workspace) -> dict[str, VideoCache]:
    with redirect_stderr(io.StringIO()):  # Its progress bar.
        return prepare(corpus, preset, workspace)


Profiles = dict[Level, WindowProfile]


def preparation(scene: Scene, film: Path, folder: Path) -> Stage:
    """Return the stage from a video to its caches; it belongs to the host, whatever the device."""
    preset, frames = scene.preset, scene.prepared
    corpus = _corpus(film, frames, preset.kitchen, folder / "prepared.avi")
    path, numbers = corpus.videos[VIDEO], itertools.count()
    grays = [_gray(frame, preset.flow_height) for frame in video.decode(path)]
    method = flow.estimator(preset.flow)
    flows = list(flow.flows(grays, method, preset.flow_bound))
    error = _profiles_error(flows, preset)

    def whole() -> Profiles:
        workspace = Workspace(folder / "preparation" / str(next(numbers)))
        cache = _prepared(corpus, preset, workspace)[VIDEO]
        return {level: _stacked([cache.profile(level, frame) for frame in range(frames)]) for level in levels(preset)}

    contestants = {
        "`prepare`": Contestant(whole, error, SEARCHED),
        "decode": _counted(lambda: video.decode(path), frames),
        f"flow, {preset.flow}": _counted(lambda: flow.flows(grays, method, preset.flow_bound), frames),
        "windows": Contestant(lambda: _windows(flows, preset), error, SEARCHED, "part"),
    }
    height, width = preset.kitchen.height, preset.kitchen.width
    grid = f"{grays[0].shape[1]}x{grays[0].shape[0]}"
    return Stage(f"prepare {frames} frames, {width}x{height}, flow at {grid}", "frames", frames, contestants)


def _counted(items: Callable[[], Iterator[Any]], count: int) -> Contestant:
    """Run through as many items as there must be."""
    return Contestant(lambda: sum(1 for _ in items()), lambda found: abs(found - count), 0, "part")


def _gray(frame: np.ndarray, height: int) -> np.ndarray:
    width = round(frame.shape[1] * height / frame.shape[0])
    return cv2.cvtColor(resize(frame, (height, width)), cv2.COLOR_RGB2GRAY)


def _stacks(count: int, stack: int) -> Iterator[list[int]]:
    """Yield the numbers of the flows around each frame; at the ends the last one there is repeats."""
    for frame in range(count):
        first = frame - stack // 2
        yield [min(max(number, 0), count - 1) for number in range(first, first + stack)]


def _windows(flows: list[np.ndarray], preset: Preset) -> Profiles:
    singles = [motion_map(torch.from_numpy(uv)[None, None], bound=preset.flow_bound) for uv in flows]
    profiles: dict[Level, list[tuple[np.ndarray, np.ndarray]]] = {level: [] for level in levels(preset)}
    for stack in _stacks(len(flows), preset.stack):
        motion = sum(singles[number] for number in stack) / preset.stack
        for level, of in profiles.items():
            side = window_side(preset, level)
            profile = window_profile(window_scores(motion, (side, side)))
            of.append((profile.score[0].numpy(), profile.row[0].numpy()))
    return {level: _stacked(of) for level, of in profiles.items()}


def _stacked(profiles: list[tuple[np.ndarray, np.ndarray]]) -> WindowProfile:
    score, row = (torch.from_numpy(np.stack(part)) for part in zip(*profiles, strict=True))
    return WindowProfile(score, row.long())


def _profiles_error(flows: list[np.ndarray], preset: Preset) -> Callable[[Profiles], float]:
    """Return the distance of profiles from brute force in whole numbers, over all frames, levels and columns."""
    steps = np.stack(flows).astype(np.int64) - 128
    energy = (steps**2).sum(1)
    motion = np.stack([energy[stack].sum(0) for stack in _stacks(len(flows), preset.stack)])
    unit = (2 * preset.flow_bound / 255) ** 2 / preset.stack

    def error(profiles: Profiles) -> float:
        return max(of_level(level, profile) for level, profile in profiles.items())

    def of_level(level: Level, profile: WindowProfile) -> float:
        scores = exact_scores(motion, window_side(preset, level))
        found = np.take_along_axis(scores, profile.row.numpy()[:, None], axis=1)[:, 0]
        return _search_error(profile.score.numpy() / unit, found, scores.max(1))

    return error


def exact_scores(motion: np.ndarray, side: int) -> np.ndarray:
    """Return the sums of whole-numbered maps, (map, height, width), over every window, as whole numbers."""
    integral = np.pad(motion.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    strips = integral[:, side:] - integral[:, :-side]
    return strips[..., side:] - strips[..., :-side]


def _search_error(score: np.ndarray, found: np.ndarray, best: np.ndarray) -> float:
    """Return how far scores are from the best, as told and as they truly are in the windows found.

    All are (map, ...), and errors are relative to the map's largest: float64 resolves parts of the map's total.
    """
    largest = np.maximum(best.reshape(len(best), -1).max(1), 1).reshape(-1, *[1] * (best.ndim - 1))
    return float((np.maximum(np.abs(score - best), best - found) / largest).max())


Found = tuple[Any, Any, Any]
"""Of each map: the best score, and its window's left column and top row."""


def window_search(plan: Plan, device: str) -> Stage:
    """Return the search for the one best window of motion maps.

    The maps are the squared lengths of 8-bit flow in its own steps: whole numbers, whose float64 sums are exact.
    """
    side, (height, width) = plan.window, plan.map_size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(plan.maps, 2, -(-height // 16), -(-width // 16), generator=generator)
    steps = F.interpolate(30 * coarse, (height, width), mode="bicubic").round().clamp(-128, 127).long()
    energy = (steps**2).sum(1)
    scores = exact_scores(energy.numpy(), side)
    motion = energy.double().to(device)
    single = motion.float()
    target = MotionWindowTarget(side)
    start = torch.zeros(plan.maps, dtype=torch.int64, device=device)

    def ours() -> Found:
        profile = window_profile(window_scores(motion, (side, side)))
        result = target.from_profile(profile, crop_x=start, crop_size=(height, width))
        return result.score, result.window[:, 0], result.window[:, 1]

    def error(found: Found) -> float:
        score, x, y = (torch.as_tensor(part).cpu().numpy() for part in found)
        return _search_error(score, scores[range(plan.maps), y, x], scores.max((1, 2)))

    def square() -> Found:
        return _largest(F.avg_pool2d(single, side, stride=1, divisor_override=1))

    def two_strips() -> Found:
        strips = F.avg_pool2d(motion, (side, 1), stride=1, divisor_override=1)
        return _largest(F.avg_pool2d(strips, (1, side), stride=1, divisor_override=1))

    contestants = {"`MotionWindowTarget`, float64": Contestant(ours, error, EXACT)}
    if device == "cpu":
        maps = list(motion.numpy())
        contestants["`cv2.boxFilter`, float64"] = Contestant(lambda: _box_filtered(maps, side), error, EXACT)
    contestants["`F.avg_pool2d`, rows then columns, float64"] = Contestant(two_strips, error, EXACT)
    contestants["`F.avg_pool2d`, float32"] = Contestant(square, error, FLOAT32_SUM)
    return Stage(f"search {plan.maps} maps, {width}x{height}, v = {side}", "maps", plan.maps, contestants)


def _largest(scores: Tensor) -> Found:
    score, place = scores.flatten(1).max(1)
    return score, place % scores.shape[2], place // scores.shape[2]


def _box_filtered(maps: list[np.ndarray], side: int) -> Found:
    found = []
    for motion in maps:
        sums = cv2.boxFilter(motion, cv2.CV_64F, (side, side), anchor=(0, 0), normalize=False)
        # The windows that reach over the far edges are of no use.
        _, score, _, (x, y) = cv2.minMaxLoc(sums[: motion.shape[0] - side + 1, : motion.shape[1] - side + 1])
        found.append((score, x, y))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def pooling(plan: Plan, channels: int, device: str) -> Stage:
    """Return the description of clips by the logarithm of their trajectories' RBF matrix."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.linspace(plan.clip_frames / 2, plan.clip_frames, plan.clips).round().long()
    # Features of neighbouring frames are alike.
    clips = torch.randn(plan.clips, plan.clip_frames, channels, generator=generator, dtype=torch.float64).cumsum(1)
    gamma = median_gamma(clips, lengths)
    ours = TemporalCorrelationPooling("rbf", gamma=gamma)
    features_, lengths_ = clips.to(device), lengths.to(device)
    trajectories = [clip[:length].numpy() for clip, length in zip(clips, lengths.tolist(), strict=True)]
    truth = np.stack([described_by_numpy(clip, gamma) for clip in trajectories])

    def error(descriptors: Tensor | np.ndarray) -> float:
        return float(np.abs(torch.as_tensor(descriptors).cpu().numpy() - truth).max())

    contestants = {
        "`TemporalCorrelationPooling`": Contestant(lambda: ours(features_, lengths_), error, POOLED),
        "NumPy, clip by clip": Contestant(
            lambda: np.stack([described_by_numpy(clip, gamma) for clip in trajectories]), error, POOLED
        ),
    }
    name = f"pool {plan.clips} clips of up to {plan.clip_frames} frames, {channels} channels, log-Euclidean"
    return Stage(name, "clips", plan.clips, contestants)


def described_by_numpy(clip: np.ndarray, gamma: float) -> np.ndarray:
    """Return the descriptor of one clip, (frames, channels), as one writes it without the library."""
    frames, channels = clip.shape
    squares = (clip**2).sum(0)
    distances = (squares[:, None] + squares - 2 * clip.T @ clip) / frames
    matrix = np.exp(-gamma * np.maximum(distances, 0))
    matrix = 0.999 * matrix + 0.001 * np.trace(matrix) / channels * np.eye(channels)
    eigenvalues, vectors = np.linalg.eigh(matrix + 1e-6 * np.trace(matrix) / channels * np.eye(channels))
    logarithm = vectors * np.log(eigenvalues) @ vectors.T
    rows, columns = np.triu_indices(channels, 1)
    vector = np.concatenate((np.diag(logarithm), np.sqrt(2) * logarithm[rows, columns]))
    descriptor = np.sign(vector) * np.sqrt(np.abs(vector))
    return descriptor / np.linalg.norm(descriptor)


class Untrained(Trainer):
    """A trainer whose networks are as they were built: neither time nor the gate depends on their weights."""

    def trained(self, run: Run) -> nn.ModuleDict:
        """Return them without reading a file, which a real run does once in hundreds of clips."""
        return _built(run, len(self.corpus.classes), self.preset, self.device)


@lru_cache(maxsize=2)
def _built(run: Run, classes: int, preset: Preset, device: torch.device) -> nn.ModuleDict:
    return build(run, classes, preset).to(device).eval()


def extraction(scene: Scene, film: Path, folder: Path, device: str) -> Iterator[Stage]:
    """Yield the stages from caches to files of features, one for each stream."""
    # How the flow was found makes no difference to what is read; TV-L1 would take minutes.
    preset = replace(scene.preset, flow="dis")
    corpus = _corpus(film, scene.described, preset.kitchen, folder / "described.avi")
    workspace = Workspace(folder / "extraction")
    caches = _prepared(corpus, preset, workspace)
    trainer = Untrained(corpus, caches, preset, workspace, torch.device(device))
    for modality, level in itertools.product(MODALITIES, levels(preset)):
        if level.name in scene.levels:
            yield _stream(trainer, modality, level)


def _stream(trainer: Trainer, modality: str, level: Level) -> Stage:
    """Return one stream's features by the example's own loop, with what its networks take when all else is ready."""
    preset, clips = trainer.preset, trainer.corpus.test
    at_once, numbers = features.EVALUATION_BATCH * preset.sub_batch, itertools.count()
    joint, baseline = features.stream_runs(trainer, modality, level)
    attending, recogniser = trainer.trained(joint), trainer.trained(baseline)["recogniser"]
    transformer, recognisers = attending["transformer"], (attending["recogniser"], recogniser)
    side = (preset.glimpse, preset.glimpse)

    def cold() -> Trainer:
        """Forget the frames that were read and the features that were written."""
        # A copy of the caches starts with an empty memory.
        root = trainer.workspace.root / f"{modality}-{level.name}-{next(numbers)}"
        return replace(trainer, caches=copy.deepcopy(trainer.caches), workspace=Workspace(root))

    def samples() -> FrameSamples:
        return FrameSamples(clips, copy.deepcopy(trainer.caches), level, modality, preset)

    def ready() -> Iterator[tuple[Tensor, list[Tensor]]]:
        for batch in batches(samples(), chunks(range(len(samples())), at_once)):
            sample = Sample(*(field.to(trainer.device) for field in batch))
            thetas = transformer.localize(sample.image), sample.theta
            yield sample.image, [affine_sample(sample.image, theta, side) for theta in thetas]

    @torch.inference_mode()
    def bare() -> Tensor:
        found = []
        for image, glimpses in inputs:
            transformer.localize(image)
            found.append(
                torch.stack([looker.fc6(glimpse) for looker, glimpse in zip(recognisers, glimpses, strict=True)])
            )
        return torch.cat(found, 1)

    with torch.inference_mode():
        inputs = list(ready())
    truth = bare().cpu()

    def error(found: Tensor) -> float:
        return ((found.float().cpu() - truth).abs().max() / truth.abs().max()).item()

    def written(unit: Unit) -> float:
        files = [np.load(unit.path(f"{region}.npy")) for region in features.REGIONS]
        return error(torch.from_numpy(np.stack(files)))

    contestants = {
        "`frame_features`": Contestant(
            lambda: features.shard(cold(), modality, level, clips, "test"), written, rounding(torch.float16)
        ),
        "bare networks": Contestant(bare, error, FLOAT32_SUM, "floor"),
        "reading batches": _counted(
            lambda: itertools.chain.from_iterable(
                batch.frame for batch in batches(samples(), chunks(range(len(samples())), at_once))
            ),
            len(samples()),
        ),
    }
    name = f"features of {len(samples())} frames, {preset.name}, {modality}, {level.name}"
    return Stage(name, "frames", len(samples()), contestants)


def main() -> int:
    """Measure the plan, keep and print; return 1 if a stage failed."""
    arguments = _arguments()
    device, is_quick = arguments.device, arguments.plan == "quick"
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(arguments.threads)
    rounds = arguments.rounds or (QUICK_ROUNDS if is_quick else ROUNDS)
    results = _header(device, arguments.threads, rounds) | {"rows": []}
    clock = measure.CudaClock() if device == "cuda" else measure.cpu_clock
    with TemporaryDirectory() as folder, threadpool_limits(arguments.threads):
        for stage in stages(PLANS[device][arguments.plan], device, Path(folder)):
            print(stage.name, flush=True)
            results["rows"].append(run_stage(stage, clock, rounds))
    kept_in = ROOT / "runs" if is_quick else RESULTS / supervised_st.__version__
    path = arguments.json or kept_in / f"pipeline-{device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\n{pipeline_table(results)}\n\n{path}")
    return int(any(row["failed"] for row in results["rows"]))


def _header(device: str, threads: int, rounds: int) -> dict[str, Any]:
    header = provenance(device, threads, rounds)
    del header["absent"]  # Of other contestants.
    header["versions"] |= {name: version(name) for name in ("numpy", "av", "opencv-contrib-python-headless")}
    return header | {"date": datetime.now(UTC).date().isoformat(), "command": shlex.join(["python", *sys.argv])}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(PLANS), default="cpu")
    parser.add_argument("--quick", dest="plan", action="store_const", const="quick", help="small sizes: seconds")
    parser.add_argument(
        "--full", dest="plan", action="store_const", const="full", help="the paper's networks on a CPU too; all levels"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are kept")
    parser.add_argument("--rounds", type=int, help=f"turns for everybody ({ROUNDS}; {QUICK_ROUNDS} with --quick)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (1)")
    parser.set_defaults(plan="default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
