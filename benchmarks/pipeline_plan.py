"""What the pipeline's benchmark measures: sizes of frames, maps and clips, by device and patience."""

from dataclasses import dataclass, replace

from examples.mpii_cooking.config import PAPER, QUICK, SMOKE, Preset


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


# Enough frames for several batches: the first one is read while there is nothing to compute.
_ON_A_CPU = Scene(QUICK, prepared=64, described=1024)
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
