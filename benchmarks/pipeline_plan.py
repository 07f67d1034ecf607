"""The sizes that the pipeline's benchmark measures: frames, motion maps and clips, by device and plan."""

from dataclasses import dataclass, replace

from examples.mpii_cooking.config import PAPER, QUICK, SMOKE, Preset


@dataclass(frozen=True)
class Scene:
    """A video that is prepared and described at one scale.

    Attributes:
        preset: sizes and networks.
        prepared: frames on which preparation is timed.
        described: frames whose features are computed.
        levels: names of the levels whose features are computed.
    """

    preset: Preset
    prepared: int
    described: int
    levels: tuple[str, ...] = ("general", "middle", "detail")


@dataclass(frozen=True)
class Plan:
    """The sizes of all stages.

    Attributes:
        scenes: videos.
        maps: number of motion maps that are searched at once.
        map_size: their (height, width).
        window: side of the window.
        clips: number of clips that are pooled at once.
        clip_frames: frames of the longest clip.
        channels: channels of their features, one stage for each number.
    """

    scenes: tuple[Scene, ...]
    maps: int = 2
    map_size: tuple[int, int] = (896, 1189)
    window: int = 224
    clips: int = 16
    clip_frames: int = 100
    channels: tuple[int, ...] = (32, 256)


# Enough frames for several batches: nothing is computed while the first one is read.
_ON_A_CPU = Scene(QUICK, prepared=64, described=1024)
# On a CPU everything runs in one thread, so workers would not help.
_PAPER_ON_A_CPU = Scene(
    replace(PAPER, machine=replace(PAPER.machine, workers=0)), prepared=3, described=2, levels=("detail",)
)
_QUICK = Plan((Scene(SMOKE, 12, 12, ("detail",)),), 2, (112, 149), 28, clips=4, clip_frames=20, channels=(16,))
PLANS = {
    "cpu": {"quick": _QUICK, "default": Plan((_ON_A_CPU,)), "full": Plan((_ON_A_CPU, _PAPER_ON_A_CPU))},
    "cuda": {
        "quick": _QUICK,
        "default": Plan((Scene(PAPER, prepared=16, described=256, levels=("detail",)),), maps=16),
        "full": Plan((Scene(PAPER, prepared=16, described=256),), maps=16),
    },
}
