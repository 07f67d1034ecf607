"""Every way to choose the window that a classifier sees. A variant is one row of ``Variant``; no other list exists.

A *stream* is a modality at a zoom level. Each stream has one classifier, pre-trained on random windows; all variants
but the first start from it.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Self

from supervised_st.types import HeadInit


class Modality(StrEnum):
    """What networks read."""

    SPATIAL = "spatial"  # RGB
    TEMPORAL = "temporal"  # ten consecutive flows, u and v interleaved, as in two-stream networks

    @property
    def channels(self) -> int:
        """Channels of a network's input."""
        return {Modality.SPATIAL: 3, Modality.TEMPORAL: 20}[self]


class Region(StrEnum):
    """Which window the features of Table 3 are from."""

    LEARNED = "R_d"  # where the SSTN of the main localization network looks
    HARD_CODED = "R_h"  # the window with the most motion


class Phase(StrEnum):
    """One stage of training (sec. 4 of the paper)."""

    GUIDANCE = "guide"  # the localization network learns to find the window with the most motion
    RECOGNITION = "recognize"  # the classifier learns on random windows
    JOINT = "joint"  # both learn from the error of classification
    BASELINE = "baseline"  # the classifier learns on windows that no transformer chooses


class Group(StrEnum):
    """The heading under which a variant is shown."""

    NONE = "No transformer"
    PLAIN = "Transformer without guidance"
    GUIDED = "Guided transformer"  # starts from the transformer that guidance trained


class Window(StrEnum):
    """Which window the classifier sees when it is tested."""

    CENTER = "center"
    MOST_MOTION = "most motion"
    TRANSFORMER = "transformer"  # where the variant's spatial transformer looks


class Guidance(StrEnum):
    """How strongly guidance pulls in joint training."""

    OFF = "off"
    ON = "on"
    FADING = "fading"  # linearly, from the first epoch of joint training to its last


@dataclass(frozen=True)
class Traits:
    """Everything about a variant."""

    key: str  # its name in tables, files and commands
    description: str
    group: Group
    phase: Phase = Phase.JOINT  # the last one of its training
    window: Window = Window.TRANSFORMER
    head: HeadInit = "gaussian"  # how the head of its localization network starts: at random, as in the paper (sec. 4)
    pace: float = 1.0  # multiplies the rate of its localization network in joint training
    guidance: Guidance = Guidance.OFF
    is_frozen: bool = False  # whether its transformer stays as guidance left it


class Variant(Enum):
    """From the least attention to the most, in the order in which they are shown; ``Variant("SSTN")`` finds one."""

    RANDOM_CROP = Traits(
        "random crop", "center window, classifier as trained on random windows", Group.NONE,
        Phase.RECOGNITION, Window.CENTER,
    )  # fmt: skip
    CENTER = Traits("center", "center window, classifier trained on it", Group.NONE, Phase.BASELINE, Window.CENTER)
    HARD_CODED = Traits("R_h", "hard-coded window of most motion", Group.NONE, Phase.BASELINE, Window.MOST_MOTION)
    STN = Traits("STN", "starts at random, as the paper's baseline", Group.PLAIN)
    STN_IDENTITY = Traits("STN-identity", "starts with the whole frame", Group.PLAIN, head="identity")
    STN_LEVEL = Traits("STN-level", "starts with the center window", Group.PLAIN, head="level")
    STN_SLOW = Traits("STN-slow", "learns where to look at a tenth of the rate", Group.PLAIN, pace=0.1)
    STN_FAST = Traits("STN-fast", "learns where to look at ten times the rate", Group.PLAIN, pace=10.0)
    FROZEN = Traits("frozen", "held where guidance left it", Group.GUIDED, is_frozen=True)
    SSTN = Traits("SSTN", "set free after guidance, the paper's method", Group.GUIDED)
    SSTN_SLOW = Traits(
        "SSTN-slow", "set free after guidance, to learn where to look at a tenth of the rate", Group.GUIDED, pace=0.1
    )
    GUIDED = Traits("guided", "guidance never turned off", Group.GUIDED, guidance=Guidance.ON)
    ANNEALED = Traits("annealed", "guidance fades out", Group.GUIDED, guidance=Guidance.FADING)

    traits: Traits
    key: str

    def __new__(cls, traits: Traits) -> Self:
        """Make a member that is found by its key."""
        member = object.__new__(cls)
        member._value_ = member.key = traits.key
        member.traits = traits
        return member


PAPER_VARIANTS = (Variant.RANDOM_CROP, Variant.HARD_CODED, Variant.STN, Variant.SSTN)
