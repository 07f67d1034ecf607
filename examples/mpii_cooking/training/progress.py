"""How far training has come over all runs and all starts, and how long the rest takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tqdm import tqdm

from examples.mpii_cooking.formats import counted, duration

SHOWN_EVERY = 1.0  # seconds

Note = Callable[[float, float], None]
"""Takes how many epochs of a run are done, with the part of the one under way, and the seconds that they took."""


@dataclass(frozen=True)
class Work:
    """A run: how much of it is done, and in what time, over all starts."""

    name: str
    kind: tuple[object, ...]
    """From the general to the special: the more of it two runs share, the closer the times of their epochs."""
    total: float  # epochs, at most
    epochs: float = 0.0  # that are done
    seconds: float = 0.0
    is_finished: bool = False

    @property
    def left(self) -> float:
        """The epochs that are left."""
        return 0.0 if self.is_finished else self.total - self.epochs


def seconds_left(works: Sequence[Work], at_a_time: int) -> float | None:
    """Estimate how long the rest takes, several runs at a time; None before anything was measured.

    An epoch takes as long as an epoch of the runs with which it has the most in common, among those with any. What
    earlier starts have measured counts, so a resumed run is right at once.
    """
    measured = [work for work in works if work.epochs]
    if not measured:
        return None
    return sum(work.left * _epoch(work, measured) for work in works if work.left) / at_a_time


def _epoch(work: Work, measured: Sequence[Work]) -> float:
    """Return the seconds of an epoch."""
    lengths = range(len(work.kind), -1, -1)
    groups = ([other for other in measured if other.kind[:length] == work.kind[:length]] for length in lengths)
    alike = next(group for group in groups if group)
    return sum(other.seconds for other in alike) / sum(other.epochs for other in alike)


class Progress:
    """The bar of all runs: it moves with the steps of all that are trained, once a second."""

    def __init__(self, works: Sequence[Work], at_a_time: int, *, hidden: bool) -> None:
        self._works, self._at_a_time = list(works), at_a_time
        self._bar = tqdm(total=1, leave=False, disable=hidden)
        self._shown = -SHOWN_EVERY
        self._current = ""

    def start(self, place: int) -> None:
        """Note that a run has started."""
        self._current = self._works[place].name
        self.show()

    def note(self, place: int, epochs: float, seconds: float) -> None:
        """Note how far a run is."""
        self._works[place] = replace(self._works[place], epochs=epochs, seconds=seconds)
        if time.monotonic() - self._shown >= SHOWN_EVERY:
            self.show()

    def finish(self, place: int) -> None:
        """Note that a run is finished, perhaps before its last epoch."""
        self._works[place] = replace(self._works[place], is_finished=True)
        self.show()

    def show(self) -> None:
        """Draw the bar: in seconds, of the work that is done and of all."""
        self._shown = time.monotonic()
        if self._bar.disable:
            return
        done, left = sum(work.seconds for work in self._works), seconds_left(self._works, self._at_a_time)
        self._bar.n, self._bar.total = (0, 1) if left is None else (done, done + left * self._at_a_time or 1)
        self._bar.bar_format = f"train: {{percentage:3.0f}} % |{{bar:20}}| {self.words(left)}"
        self._bar.refresh()

    def words(self, left: float | None) -> str:
        """Return what stands behind the bar."""
        finished = sum(work.is_finished for work in self._works)
        rest = "measuring" if left is None else f"about {duration(left)} left"
        return f"{finished} of {counted(len(self._works), 'network')}, {rest}; {self._current}"

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
