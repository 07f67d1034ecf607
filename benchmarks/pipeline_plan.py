"""The sizes that the pipeline's benchmark measures: frames, motion maps and clips, by device and plan."""

from dataclasses import dataclass, replace

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.presets import PAPER, QUICK, SMOKE


@dataclass(frozen=True)
class Scene:
    """A video that is prepared and described at one scale."""

    preset: Preset
    prepared: int  #: frames on which preparation is timed
    described: int  #: frames whose features are computed
    levels: tuple[str, ...] = ("general", "middle", "detail")  #: whose features are computed


@dataclass(frozen=True)
class Plan:
    """The sizes of all stages."""

    scenes: tuple[Scene, ...]
    maps: int = 2  #: motion maps that are searched at once
    map_size: tuple[int, int] = (896, 1189)  #: (height, width)
    window: int = 224  #: side of the searched window
    clips: int = 16  #: that are pooled at once
    clip_frames: int = 100  #: of the longest clip
    channels: tuple[int, ...] = (32, 256)  #: of the clips' features, one stage for each number


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
