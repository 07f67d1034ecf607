"""Random and hostile arguments of everything in the library but the sampler, each compared with what is documented."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st

from benchmarks.reliability.sampler_cases import same
from supervised_st import (
    HardSwitch,
    LinearAnneal,
    MotionWindowTarget,
    Plateau,
    RegressiveGuidance,
    TemporalCorrelationPooling,
)
from supervised_st.geometry import (
    PARAMETERIZATIONS,
    distortion,
    parameters_from_theta,
    theta_from_parameters,
    theta_to_window,
    window_iou,
    window_to_theta,
)
from supervised_st.types import Loss, Parameterization

SEEDS = st.integers(0, 2**32 - 1)
POWERS = st.one_of(st.just(0), st.integers(-1000, 1000))


class Windows(NamedTuple):
    """A window in an image, and two transforms whose entries are multiples of a power of two."""

    seed: int
    image_size: tuple[int, int]
    align_corners: bool
    power: int
    kind: Parameterization
    bounds: tuple[float, float]


_SIDES = st.one_of(st.integers(1, 2**30), st.integers(1, 9))
WINDOWS = st.builds(
    Windows,
    SEEDS,
    st.tuples(_SIDES, _SIDES),
    st.booleans(),
    POWERS,
    st.sampled_from(sorted(PARAMETERIZATIONS)),
    st.tuples(st.floats(0.01, 0.49), st.floats(0.5, 1)),
)


def check_windows(case: Windows) -> None:
    """Windows and parameters are inverted; overlaps lie in [0, 1]; no measure of a finite theta is NaN."""
    g = torch.Generator().manual_seed(case.seed)
    sides = torch.tensor(case.image_size[::-1], dtype=torch.float64)
    near = torch.rand(3, 2, dtype=torch.float64, generator=g) * sides
    window = torch.cat([near, torch.rand(3, 2, dtype=torch.float64, generator=g) * sides + 1], 1)
    theta = window_to_theta(window, case.image_size, align_corners=case.align_corners)
    back = theta_to_window(theta, case.image_size, align_corners=case.align_corners)
    assert torch.allclose(back, window, rtol=1e-12, atol=1e-12 * float(sides.max())), f"window {back}, was {window}"

    first, second = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=g) * 2.0**case.power
    overlap, same = window_iou(first, second), window_iou(first, first)
    assert ((overlap >= 0) & (overlap <= 1)).all(), f"overlap {overlap}"
    assert torch.equal(same, torch.ones(3, dtype=torch.float64)), f"overlap with itself {same}"
    torch.testing.assert_close(window_iou(second, first), overlap, rtol=1e-12, atol=1e-300)
    measured = distortion(first, case.image_size, (3, 4), align_corners=case.align_corners)
    assert not any(it.isnan().any() for it in measured), f"{measured}"
    assert ((measured.outside >= 0) & (measured.outside <= 1) & (measured.anisotropy >= 1 - 1e-12)).all(), f"{measured}"

    parameters = torch.randn(4, PARAMETERIZATIONS[case.kind], dtype=torch.float64, generator=g)
    is_bounded = case.kind in ("crop4", "crop3", "translation")
    options: dict[str, Any] = {"bounds": case.bounds} if is_bounded else {}
    scale = case.bounds[0] if is_bounded else 1.0
    made = theta_from_parameters(parameters, case.kind, scale=scale, **options)
    torch.testing.assert_close(parameters_from_theta(made, case.kind, **options), parameters, rtol=1e-5, atol=1e-5)
    if is_bounded:
        far = theta_from_parameters(parameters * 2.0**case.power, case.kind, scale=scale, **options)
        assert (far[:, :, :2].abs().sum(-1) + far[:, :, 2].abs() <= 1 + 1e-12).all(), f"{far} leaves the image"
        assert parameters_from_theta(far, case.kind, **options).isfinite().all(), f"parameters of {far}"


class Motion(NamedTuple):
    """Flow of small whole numbers, or of one level, in which windows have equal sums."""

    seed: int
    frame: tuple[int, int]
    fields: int
    window: tuple[int, int]
    crop: tuple[int, int, int]
    levels: int
    power: int


_SIDE = st.integers(1, 7)
MOTION = st.builds(
    Motion,
    SEEDS,
    st.tuples(_SIDE, _SIDE),
    st.integers(1, 2),
    st.tuples(_SIDE, _SIDE),
    st.tuples(_SIDE, _SIDE, _SIDE),
    st.integers(1, 5),
    st.integers(-400, 400),
)


def check_motion(case: Motion) -> None:
    """The window is the one that a search of all windows finds, in a frame and in its crops."""
    height, width = case.frame
    h, w = (min(pair) for pair in zip(case.window, case.frame, strict=True))
    crop_width = w + case.crop[0] % (width - w + 1)
    x0 = case.crop[1] % (width - crop_width + 1)
    g = torch.Generator().manual_seed(case.seed)
    whole = torch.randint(0, case.levels, (1, case.fields, 2, height, width), generator=g).double()
    flow = whole * 2.0**case.power
    target = MotionWindowTarget((h, w))
    found = target(flow, crop=(x0, 0, crop_width, height))
    motion = whole.square().sum(2).mean(1)[0, :, x0 : x0 + crop_width]
    scores = {(x, y): float(motion[y : y + h, x : x + w].sum()) for y in range(height - h + 1)
              for x in range(crop_width - w + 1)}  # fmt: skip
    best = max(scores.values())
    is_still = best - min(scores.values()) <= 1e-6 * best
    middle = (crop_width - w) // 2, (height - h) // 2
    want = middle if is_still else next(place for place, score in scores.items() if score == best)
    assert found.window.tolist() == [[*want, w, h]], f"window {found.window.tolist()}, by search {want}"
    scale = 4.0**case.power
    assert math.isclose(found.score.item(), best * scale, rel_tol=1e-12), f"score {found.score}, by search {best}"
    late = target.from_profile(target.profile(flow), crop_x=torch.tensor([x0]), crop_size=(height, crop_width))
    assert all(map(torch.equal, late, found)), f"{late} from the profile, {found} from the flow"


class Pooled(NamedTuple):
    """Features of clips that are padded, some of their trajectories equal or constant."""

    seed: int
    kind: str
    batch: int
    frames: int
    channels: int
    blocks: int
    map: str
    power: float
    shrinkage: float
    scale: float
    equal: bool
    constant: bool


KINDS = ("distance", "rbf", "laplacian", "mds", "inner", "covariance", "correlation", "cosine")
POOLED = st.builds(
    Pooled,
    SEEDS,
    st.sampled_from(KINDS),
    st.integers(0, 3),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(("none", "log")),
    st.sampled_from((0.5, 1.0)),
    st.sampled_from((0.0, 1e-3, 1.0)),
    st.sampled_from((1.0, 0.0, 1e-80, 1e-30, 1e30, 1e74)),
    st.booleans(),
    st.booleans(),
)


def check_pooling(case: Pooled) -> None:
    """Descriptors have length 1 or 0, and depend on nothing but the frames of their clip."""
    g = torch.Generator().manual_seed(case.seed)
    channels = case.channels * case.blocks
    features = torch.randn(case.batch, case.frames, channels, dtype=torch.float64, generator=g)
    if case.equal:
        features[..., 0] = features[..., -1]
    if case.constant:
        features[..., 0] = 1.0
    features *= case.scale
    lengths = torch.randint(1, case.frames + 1, (case.batch,), generator=g)
    gamma = min(1e300, 1 / max(case.scale, 1e-150) ** 2)
    pooling = TemporalCorrelationPooling(
        case.kind, gamma=gamma, map="none" if case.kind == "distance" else case.map, blocks=case.blocks,
        power=case.power, shrinkage=case.shrinkage,
    )  # fmt: skip
    found = pooling(features, lengths)
    assert found.shape == (case.batch, pooling.descriptor_size(channels))
    length = found.norm(dim=1)
    assert (((length - 1).abs() < 1e-9) | (length == 0)).all(), f"lengths {length}"
    for clip, frames, descriptor in zip(features, lengths.tolist(), found, strict=True):
        noisy = clip.clone()
        noisy[frames:] = float("nan")
        alone = pooling(noisy[None], torch.tensor([frames]))[0]
        assert torch.allclose(alone, descriptor, rtol=0, atol=1e-7), f"alone {alone}, in a batch {descriptor}"


class Guided(NamedTuple):
    """What happens to guidance, in order."""

    schedule: str
    loss: Loss
    events: list[str]
    losses: list[float]


SCHEDULES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "switch": lambda: HardSwitch(3),
    "anneal": lambda: LinearAnneal(1, 4),
    "plateau": lambda: Plateau(2, min_fall=0.1),
}
GUIDED = st.builds(
    Guided,
    st.sampled_from(sorted(SCHEDULES)),
    st.sampled_from(("l1", "corner_l1", "grid_mse")),
    st.lists(st.sampled_from(("on", "off", "auto", "step", "step", "step", "save")), max_size=12),
    st.lists(st.sampled_from((0.0, 1.0, 1.0, 2.0, 1e30, -3e38, math.inf, math.nan)), min_size=12, max_size=12),
)


def check_guidance(case: Guided) -> None:
    """A resumed guidance does what one that was never interrupted does; the strength lies in [0, 1]."""
    straight, resumed = _guidance(case), _guidance(case)
    for event, number in zip(case.events, case.losses, strict=False):
        if event == "save":
            saved, resumed = resumed.state_dict(), _guidance(case)
            resumed.load_state_dict(saved)
            continue
        results = []
        for guidance in (straight, resumed):
            theta = torch.full((2, 2, 3), number, requires_grad=True)
            target = torch.zeros(2, 2, 3)
            target[0] = math.nan  # of confidence 0
            results.append(guidance(theta, target, torch.tensor([0.0, 1.0])).detach())
            getattr(guidance, event)()
            assert 0 <= guidance.strength <= 1, f"strength {guidance.strength}"
        assert same(*results), f"{results}"
        assert straight.strength == resumed.strength
        if math.isfinite(number) and abs(number) < 1e30:
            assert results[0].isfinite(), f"loss {results[0]}"


def _guidance(case: Guided) -> RegressiveGuidance:
    return RegressiveGuidance(case.loss, schedule=SCHEDULES[case.schedule]())
