"""Schedules: how strongly guidance pulls after a number of optimizer steps, from 1 down to 0.

Raises:
    TypeError: by every schedule, if a setting is not a number, or not a whole one where steps are counted.
    ValueError: by every schedule, if a setting is not in the range that is described.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from supervised_st._checks import check_number, check_whole
from supervised_st._settings import shown_settings


class Schedule:
    """The interface of a schedule. Only `factor` must be defined; the rest is for schedules that watch the loss."""

    def factor(self, step: int) -> float:
        """Return the strength in [0, 1] after ``step`` optimizer steps."""
        raise NotImplementedError

    def observe(self, loss: Tensor) -> None:
        """Record a training loss: a detached scalar, before weight and strength are applied."""

    def advance(self) -> None:
        """Count an optimizer step."""

    def state(self) -> dict[str, float]:
        """Return what a resumed run must know besides the step."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from what `state` returned."""


@dataclass(frozen=True)
class Always(Schedule):
    """Full strength at every step."""

    def factor(self, step: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class HardSwitch(Schedule):
    """Full strength for ``steps >= 0`` optimizer steps, then none. This is the paper's schedule."""

    steps: int

    def __post_init__(self) -> None:
        """Check the number of steps."""
        check_whole("steps", self.steps)
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def factor(self, step: int) -> float:
        """Return 1 before the switch and 0 from it on."""
        return 1.0 if step < self.steps else 0.0


@dataclass(frozen=True)
class LinearAnneal(Schedule):
    """Full strength for ``hold >= 0`` optimizer steps, then linearly down to none at step ``until > hold``."""

    hold: int
    until: int

    def __post_init__(self) -> None:
        """Check the order of the steps."""
        check_whole("hold", self.hold)
        check_whole("until", self.until)
        if not 0 <= self.hold < self.until:
            raise ValueError(f"hold and until must satisfy 0 <= hold < until, got {self.hold} and {self.until}")

    def factor(self, step: int) -> float:
        """Return 1 up to ``hold``, 0 from ``until`` on, and values on a straight line in between."""
        return min(1.0, max(0.0, (self.until - step) / (self.until - self.hold)))


@dataclass(repr=False)
class Plateau(Schedule):
    """Full strength until the loss stops falling, then none for good.

    The mean loss of each ``patience >= 1`` optimizer steps is compared with the lowest such mean so far. Guidance ends
    when the new mean is not lower by more than ``min_delta >= 0``. A network that starts from scratch may stay at
    chance for a while before it learns. With ``min_fall`` in (0, 1) guidance therefore ends only at a mean that is
    below ``(1 - min_fall)`` times the first mean.

    A loss that is infinite or NaN is left out. The loss is read from its device once per ``patience`` steps. With an
    initialized process group, all ranks compare the mean over all ranks, so they switch at the same step. Each rank
    saves its own sums: a run on several ranks resumes exactly only from a step that is a multiple of ``patience``.
    """

    patience: int
    min_delta: float = 0.0
    min_fall: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the settings."""
        check_whole("patience", self.patience)
        check_number("min_delta", self.min_delta)
        check_number("min_fall", self.min_fall)
        if self.patience < 1:
            raise ValueError(f"patience must be positive, got {self.patience}")
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta must be finite and not negative, got {self.min_delta}")
        if not 0 <= self.min_fall < 1:
            raise ValueError(f"min_fall must lie in [0, 1), got {self.min_fall}")
        self._first, self._best, self._flat = math.inf, math.inf, False
        self._steps = 0
        self._sums: Tensor | None = None

    def __repr__(self) -> str:
        """Return the settings that differ from their defaults."""
        return f"Plateau({shown_settings(self, Plateau)})"

    def factor(self, step: int) -> float:
        """Return 1 while the loss falls and 0 afterwards."""
        return 0.0 if self._flat else 1.0

    def observe(self, loss: Tensor) -> None:
        """Add a loss to the current mean; it stays on its device. One that is not finite is left out."""
        # Low precision would soon stop to count. The count is a tensor too: compiled code would be recompiled whenever
        # a Python number changes.
        wide = loss.to(torch.promote_types(loss.dtype, torch.float32))
        observed = torch.where(wide.isfinite(), torch.stack([wide, torch.ones_like(wide)]), 0)
        # A resumed run has its sums on the CPU; the model may have moved, too.
        self._sums = observed if self._sums is None else self._sums.to(observed) + observed

    def advance(self) -> None:
        """Count an optimizer step, and compare the mean every ``patience`` steps."""
        self._steps += 1
        if self._steps < self.patience or self._flat or self._sums is None:
            return
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._sums)
        total, count = self._sums.tolist()
        self._sums, self._steps = None, 0
        if not (count and math.isfinite(total)):  # every loss was infinite or NaN, or their sum is
            return
        mean = total / count
        if self._first == math.inf:
            self._first = mean
        has_fallen = self.min_fall == 0 or mean < (1 - self.min_fall) * self._first
        self._flat = has_fallen and mean >= self._best - self.min_delta
        self._best = min(self._best, mean)

    def state(self) -> dict[str, float]:
        """Return the sums of the current mean, and the first and the lowest mean so far."""
        total, count = (0.0, 0.0) if self._sums is None else self._sums.tolist()
        means = {"first": self._first, "best": self._best}
        return {**means, "flat": self._flat, "total": total, "count": count, "steps": self._steps}

    def restore(self, state: dict[str, float]) -> None:
        """Continue from what `state` returned."""
        self._first = state.get("first", math.inf)  # version 0.2.0 did not save it
        self._best, self._flat, self._steps = state["best"], bool(state["flat"]), int(state["steps"])
        sums = [state["total"], state["count"]]
        self._sums = torch.tensor(sums, dtype=torch.float64, device="cpu") if state["count"] else None
