"""Regressive guidance: pull theta onto a target window at first, then let the task alone decide."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from supervised_st._checks import check_choice, check_floating, check_shape
from supervised_st.geometry import corners


class Schedule:
    """How strongly guidance pulls, from 1 down to 0, after a number of optimizer steps."""

    def factor(self, step: int) -> float:
        """Return the strength in [0, 1] after ``step`` optimizer steps."""
        raise NotImplementedError

    def observe(self, loss: Tensor) -> None:
        """Take note of a training loss before strength is applied, a scalar without a graph."""

    def advance(self) -> None:
        """Take note of an optimizer step."""

    def state(self) -> dict[str, float]:
        """Return what a resumed run needs to know besides the step."""
        return {}

    def restore(self, state: dict[str, float]) -> None:
        """Take over what `state` returned."""


@dataclass(frozen=True)
class Always(Schedule):
    """Full strength until it is turned off by hand."""

    def factor(self, step: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class HardSwitch(Schedule):
    """Full strength for ``steps`` optimizer steps, then none: the paper's way."""

    steps: int

    def __post_init__(self) -> None:
        """Check the number."""
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")

    def factor(self, step: int) -> float:
        """Return 1 before the switch and 0 from it on."""
        return 1.0 if step < self.steps else 0.0


@dataclass(frozen=True)
class LinearAnneal(Schedule):
    """Full strength for ``hold`` optimizer steps, then linearly down to none at step ``until``."""

    hold: int
    until: int

    def __post_init__(self) -> None:
        """Check the order."""
        if not 0 <= self.hold < self.until:
            raise ValueError(f"hold and until must satisfy 0 <= hold < until, got {self.hold} and {self.until}")

    def factor(self, step: int) -> float:
        """Return 1 up to ``hold``, 0 from ``until`` on, and the straight line in between."""
        return min(1.0, max(0.0, (self.until - step) / (self.until - self.hold)))


@dataclass
class Plateau(Schedule):
    """Full strength until the loss stops falling, then none for good.

    The mean loss over each ``patience`` optimizer steps is compared with the lowest such mean before it; guidance ends
    when it is not lower by more than ``min_delta``. A network that starts from scratch may stay at chance for a while
    before it learns: with ``min_fall > 0`` guidance ends only at a mean below ``1 - min_fall`` times the first mean.
    The loss is read from the device once per ``patience`` steps. With an initialized process group all ranks compare
    the mean over all of them, so that they switch together; its state is each rank's own, so a run on several ranks
    resumes exactly only at the end of such a window.
    """

    patience: int
    min_delta: float = 0.0
    min_fall: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the numbers and start to wait."""
        if self.patience < 1:
            raise ValueError(f"patience must be positive, got {self.patience}")
        if self.min_delta < 0:
            raise ValueError(f"min_delta must not be negative, got {self.min_delta}")
        if not 0 <= self.min_fall < 1:
            raise ValueError(f"min_fall must lie in [0, 1), got {self.min_fall}")
        self._first, self._best, self._flat = math.inf, math.inf, False
        self._steps = 0
        self._sums: Tensor | None = None

    def factor(self, step: int) -> float:
        """Return 1 while the loss falls and 0 afterwards."""
        return 0.0 if self._flat else 1.0

    def observe(self, loss: Tensor) -> None:
        """Add a loss to the current window; it stays on its device."""
        # Both sums are on the device: a count in Python would be another program for the compiler at every step.
        observed = torch.stack([loss, torch.ones_like(loss)])
        self._sums = observed if self._sums is None else self._sums + observed

    def advance(self) -> None:
        """Count an optimizer step, and judge the window when it is full."""
        self._steps += 1
        if self._steps < self.patience or self._flat or self._sums is None:
            return
        mean = _mean_over_ranks(self._sums)
        if self._first == math.inf:
            self._first = mean
        has_fallen = self.min_fall == 0 or mean < (1 - self.min_fall) * self._first
        self._flat = has_fallen and mean >= self._best - self.min_delta
        self._best = min(self._best, mean)
        self._sums, self._steps = None, 0

    def state(self) -> dict[str, float]:
        """Return the sums of the current window, and the first and the lowest mean so far."""
        total, count = (0.0, 0.0) if self._sums is None else self._sums.tolist()
        means = {"first": self._first, "best": self._best}
        return {**means, "flat": self._flat, "total": total, "count": count, "steps": self._steps}

    def restore(self, state: dict[str, float]) -> None:
        """Go on where the state was taken."""
        self._first = state.get("first", math.inf)  # version 0.2.0 did not save it
        self._best, self._flat, self._steps = state["best"], bool(state["flat"]), int(state["steps"])
        self._sums = torch.tensor([state["total"], state["count"]]) if state["count"] else None


class Window(Protocol):
    """A target with a confidence per sample, such as a `MotionWindow`."""

    @property
    def theta(self) -> Tensor:
        """``[batch 2 3]``, the window to look at."""

    @property
    def confidence(self) -> Tensor:
        """``[batch]``, how much each sample counts."""


GlimpseT = TypeVar("GlimpseT")
GlimpseT_co = TypeVar("GlimpseT_co", covariant=True)


class Transformer(Protocol[GlimpseT_co]):
    """What guidance needs of a spatial transformer."""

    def __call__(self, image: Tensor, /) -> GlimpseT_co:
        """Look, and return a `Glimpse`."""

    def localize(self, image: Tensor, /) -> Tensor:
        """Return theta alone."""


class RegressiveGuidance(nn.Module):
    """The toggle between supervised and free attention.

    While it is on, ``theta`` is regressed onto a target window; while it is off it costs nothing: no target is computed
    and no node joins the graph. Whether it is on follows from the schedule, until `on` or `off` overrides it. The state
    is part of the state dict, so that a resumed run goes on identically.

    Args:
        loss: per sample, and then averaged over the batch:
            ``"l1"``, the paper's: ``sum_k |theta_k - target_k|`` over the six numbers;
            ``"corner_l1"``: the L1 distance between the corners of both regions, summed over the four;
            ``"grid_mse"``: the mean squared distance between where both send a point of the output square,
            ``||dA||_F^2 / 3 + ||dt||^2`` since ``E[x^2] = 1/3`` and ``E[x] = E[xy] = 0`` on ``[-1, 1]^2``.
        schedule: how strength falls with the optimizer steps, `Always` if not given.
        weight: factor of the loss at full strength.
        joint: train the task too while guidance is on; the paper does not.
        active: whether it starts on; if not, it is off until `on` is called.

    Raises:
        ValueError: if ``loss`` is unknown or ``weight`` is negative or not finite.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, sections 3.2 and 3.3.
    """

    def __init__(
        self,
        loss: str = "l1",
        *,
        schedule: Schedule | None = None,
        weight: float = 1.0,
        joint: bool = False,
        active: bool = True,
    ) -> None:
        super().__init__()
        check_choice("loss", loss, _LOSSES)
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be finite and not negative, got {weight}")
        self.loss, self.weight, self.joint = loss, weight, joint
        self.schedule = Always() if schedule is None else schedule
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule such as HardSwitch(1000), got {schedule!r}")
        self.steps = 0
        self._override: bool | None = None if active else False
        self._update()

    @property
    def strength(self) -> float:
        """The factor of the loss: weight times schedule, or what `on` and `off` made of it; 0 when off."""
        return self.weight * self._factor

    def on(self) -> None:
        """Guide with full weight from now on, whatever the schedule says."""
        self._override = True
        self._update()

    def off(self) -> None:
        """Do not guide from now on, whatever the schedule says."""
        self._override = False
        self._update()

    def step(self) -> None:
        """Tell the schedule that an optimizer step was made."""
        self.steps += 1
        if self._override is None:
            self.schedule.advance()
        self._update()

    def forward(self, theta: Tensor, target: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Return strength times the loss, a scalar; a constant zero without a graph when off.

        The mean is over the batch, not over the confidence, so that sub-batches add up to the full batch.

        Args:
            theta: ``[batch 2 3]``, what the transformer predicts.
            target: ``[batch 2 3]``, where it should look.
            confidence: ``[batch]``, weight of each sample, 1 if not given.

        Raises:
            TypeError: if an argument is not a tensor, or ``theta`` or ``target`` not floating point.
            ValueError: if the shapes do not fit.
        """
        strength = self.strength
        if strength == 0:
            return theta.new_zeros(())
        batch = check_shape("theta", theta, "batch 2 3")["batch"]
        check_shape("target", target, "batch 2 3", batch=batch)
        check_floating("theta", theta)
        check_floating("target", target)
        losses = _LOSSES[self.loss](theta - target.detach())
        if confidence is not None:
            check_shape("confidence", confidence, "batch", batch=batch)
            losses = losses * confidence
        loss = losses.sum() / max(batch, 1)
        if loss.requires_grad:  # a validation loss says nothing about training
            self.schedule.observe(loss.detach())
        return strength * loss

    def objective(
        self,
        transformer: Transformer[GlimpseT],
        image: Tensor,
        *,
        target: Tensor | Window | Callable[[], Tensor | Window] | None,
        task: Callable[[GlimpseT], Tensor],
    ) -> Tensor:
        """Return the one loss to train with, whether guidance is on, on beside the task, or off.

        On, the paper's way: the guidance loss of ``transformer.localize(image)``; sampler and task never run. On with
        ``joint``: the task's loss plus the guidance loss. Off: exactly ``task(transformer(image))``.

        Under DistributedDataParallel wrap a module whose ``forward`` returns this objective, with
        ``find_unused_parameters=True`` if that module holds the task's network: gradients are synchronized only for
        what runs within the wrapped ``forward``.

        Args:
            transformer: a `SupervisedSpatialTransformer`, or anything with the same call and ``localize``.
            image: ``(batch, channel, height, width)``.
            target: theta ``(batch, 2, 3)``, a `MotionWindow`, or a function of no arguments that computes either; never
                touched, nor called, while guidance is off.
            task: from the transformer's `Glimpse` to the task's loss.

        Raises:
            TypeError: if ``target`` is none of these.
            ValueError: if guidance is on and ``target`` is None.
        """
        if self.strength == 0:
            return task(transformer(image))
        theta_target, confidence = self._resolve(target)
        if not self.joint:
            return self._guide(transformer.localize(image), theta_target, confidence)
        glimpse: Any = transformer(image)
        return task(glimpse) + self._guide(glimpse.theta, theta_target, confidence)

    def extra_repr(self) -> str:
        """Show whether guidance is on, and why."""
        state = "on" if self.strength else "off"
        cause = "the schedule" if self._override is None else "hand"
        joint = ", joint=True" if self.joint else ""
        return (
            f"loss={self.loss!r}, {state} by {cause}, strength={self.strength:g}{joint}, "
            f"schedule={self.schedule}, steps={self.steps}"
        )

    def get_extra_state(self) -> dict[str, Any]:
        """Return the toggle's state for the state dict."""
        return {
            "override": self._override,
            "steps": self.steps,
            "schedule": type(self.schedule).__name__,
            "schedule_state": self.schedule.state(),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the toggle's state from a state dict.

        Raises:
            ValueError: if it was saved with another kind of schedule.
        """
        kind = type(self.schedule).__name__
        if state["schedule"] != kind:
            raise ValueError(f"schedule must be the saved {state['schedule']}, got {kind}")
        self._override, self.steps = state["override"], state["steps"]
        self.schedule.restore(state["schedule_state"])
        self._update()

    def _update(self) -> None:
        """Ask the schedule once per step, so that compiled code sees a number that seldom changes."""
        if self._override is None:
            self._factor = self.schedule.factor(self.steps)
        else:
            self._factor = float(self._override)

    def _guide(self, theta: Tensor, target: Tensor, confidence: Tensor | None) -> Tensor:
        loss: Tensor = self(theta, target, confidence)
        return loss

    def _resolve(self, target: Tensor | Window | Callable[[], Tensor | Window] | None) -> tuple[Tensor, Tensor | None]:
        if target is None:
            raise ValueError(f"target must be given while guidance is on (strength {self.strength:g}), got None")
        found = target() if callable(target) and not isinstance(target, nn.Module) else target
        if isinstance(found, Tensor):
            return found, None
        if isinstance(found, nn.Module):
            raise TypeError(
                f"target must be what {type(found).__name__} finds, such as lambda: target(flow), not itself"
            )
        if not hasattr(found, "theta") or not hasattr(found, "confidence"):
            raise TypeError(
                f"target must be theta, a MotionWindow or a function giving either, got {type(found).__name__}"
            )
        return found.theta, found.confidence


def _l1(difference: Tensor) -> Tensor:
    return difference.abs().sum((1, 2))


def _corner_l1(difference: Tensor) -> Tensor:
    return corners(difference).abs().sum((1, 2))  # corners are linear in theta


def _grid_mse(difference: Tensor) -> Tensor:
    matrix, shift = difference[..., :2], difference[..., 2]
    return matrix.square().sum((1, 2)) / 3 + shift.square().sum(1)


_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"l1": _l1, "corner_l1": _corner_l1, "grid_mse": _grid_mse}


def _mean_over_ranks(sums: Tensor) -> float:
    """Mean from the sum of all observed losses and their number."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(sums)
    total, count = sums.tolist()
    return float(total / count)
