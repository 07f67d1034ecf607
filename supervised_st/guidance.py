"""Regressive guidance: pull theta onto a target window at first, then let the task alone decide."""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from supervised_st import schedules
from supervised_st._checks import (
    check_choice,
    check_flag,
    check_floating,
    check_number,
    check_shape,
    check_tensor,
    check_whole,
    conversion_hint,
    shape_hint,
)
from supervised_st._pace import Pace
from supervised_st._sampler.tensors import give_lasting, has_values, is_transformed
from supervised_st._settings import shown_settings
from supervised_st._state_tensor import from_tensor, to_tensor
from supervised_st.geometry import corners
from supervised_st.types import Loss


class WindowLike(Protocol):
    """A target with a confidence per region, such as a `MotionWindow` or what `supervised_st.targets` makes."""

    @property
    def theta(self) -> Tensor:
        """``[batch [frame] [region] 2 3]``, the window to look at."""

    @property
    def confidence(self) -> Tensor:
        """``[batch [frame] [region]]``, the weight of each region."""


_FARTHEST = 16.0  # a target's shift, in halves of the image's side; farther ones are numbers of pixels
_MANY_STILL_STEPS = 10  # in a row without a change; a gradient scaler skips fewer
_MANY_CALLS = 1000  # of `objective` without a step: far more than sub-batches are accumulated for one step

TargetLike = Tensor | WindowLike
_GlimpseT = TypeVar("_GlimpseT")
_GlimpseT_co = TypeVar("_GlimpseT_co", covariant=True)


class SpatialTransformerLike(Protocol[_GlimpseT_co]):
    """What guidance needs of a spatial transformer."""

    def __call__(self, image: Tensor, /) -> _GlimpseT_co:
        """Return the `Glimpse` of an image."""

    def localize(self, image: Tensor, /) -> Tensor:
        """Return theta alone."""


class RegressiveGuidance(nn.Module):
    """The switch between supervised and free attention.

    While guidance is on, ``theta`` is regressed onto a target window. While it is off, no target is computed and the
    autograd graph does not change. The schedule decides whether it is on, until `on` or `off`
    overrides the schedule and `auto` returns to it. The state is part of the state dict, so a resumed run continues
    identically.

    Guidance also sets the pace. The task's gradient of theta is noisy, and at the full rate it drives the windows out
    of the image within a few steps, from where no gradient leads back. So once guidance has ended, `step` shortens each
    update of the transformer: first to the usual length of its updates under guidance, if it is longer, then to
    ``free_pace`` of that. Without any guidance before, a transformer moves at the full rate.

    Args:
        loss: per region; the mean over all batch axes is taken afterwards.
            ``"l1"``, the paper's: ``sum_k |theta_k - target_k|`` over the six entries;
            ``"corner_l1"``: the L1 distance between the corners of both regions, summed over the four corners;
            ``"grid_mse"``: the mean squared distance between the input points of both, over the output square:
            ``||dA||_F^2 / 3 + ||dt||^2``, since ``E[x^2] = 1/3`` and ``E[x] = E[xy] = 0`` on ``[-1, 1]^2``;
            or a function from theta and target, ``[... 2 3]``, to the losses ``[...]``, such as
            ``lambda theta, target: 1 - geometry.window_iou(theta, target)``.
        schedule: how strength falls with the optimizer steps; `Always` if None.
        weight: factor of the loss at full strength, finite and not negative.
        joint: train the task too while guidance is on. The paper does not.
        free_pace: how far the transformer moves per optimizer step once guidance has ended, in (0, 1], as a fraction of
            the optimizer's own step or of the usual one under guidance, whichever is shorter. 1 leaves the pace to the
            optimizer, for example to the rates of `SupervisedSpatialTransformer.parameter_groups`.

    Raises:
        TypeError: by every method, if an argument does not have the type or dtype that is described.
        ValueError: by every method, if an argument does not have the shape or range that is described.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, eq. (1), sections 3.2 and 3.3; section 4
        lowers the localization network's rate at the switch, too, from 1e-3 to 1e-6.
    """

    __call__: Callable[..., Tensor]  # nn.Module's call returns anything

    def __init__(
        self,
        loss: Loss | Callable[[Tensor, Tensor], Tensor] = "l1",
        *,
        schedule: schedules.Schedule | None = None,
        weight: float = 1.0,
        joint: bool = False,
        free_pace: float = 0.1,
    ) -> None:
        super().__init__()
        if isinstance(loss, schedules.Schedule):
            raise TypeError(f"loss must be the name of a loss or a function, got {loss!r}; pass schedule={loss!r}")
        if not callable(loss):
            check_choice("loss", loss, _LOSSES)
        check_number("weight", weight)
        check_flag("joint", joint)
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be finite and not negative, got {weight}")
        self.loss, self.weight, self.joint = loss, weight, joint
        self.schedule = schedules.Always() if schedule is None else schedule
        if not isinstance(self.schedule, schedules.Schedule):
            raise TypeError(f"schedule must be a Schedule such as HardSwitch(1000), got {schedule!r}")
        self.steps = 0
        self._override: bool | None = None
        self._pace = Pace()
        self.free_pace = free_pace
        self._calls = 0  # of `objective` under guidance since the last step
        self._has_warned = False
        self._update()

    @property
    def free_pace(self) -> float:
        """How far the transformer moves per optimizer step once guidance has ended. It may be set at any time."""
        return self._pace.fraction

    @free_pace.setter
    def free_pace(self, value: float) -> None:
        check_number("free_pace", value)
        if not 0 < value <= 1:
            raise ValueError(f"free_pace must be positive and at most 1, got {value}")
        self._pace.fraction = value

    @property
    def strength(self) -> float:
        """The current factor of the loss: weight times schedule, the weight after `on`, 0 when off."""
        return self.weight * self._factor

    def on(self) -> None:
        """Guide with full weight from now on, whatever the schedule says."""
        self._override = True
        self._update()

    def off(self) -> None:
        """Stop guiding from now on, whatever the schedule says."""
        self._override = False
        self._update()

    def auto(self) -> None:
        """Let the schedule decide again, after `on` or `off`."""
        self._override = None
        self._update()

    def step(self) -> None:
        """Count an optimizer step. Call it after each ``optimizer.step()``, also if you switch by hand.

        Once guidance has ended, this also shortens the step that the optimizer has just made with the transformer. It
        does so for every optimizer, and to everything that the optimizer does, such as weight decay.
        """
        if self.strength > 0:
            self._pace.measure()
        else:
            self._pace.shorten()
        if self._pace.still_steps == _MANY_STILL_STEPS:
            warnings.warn(
                f"guidance.step() was called {_MANY_STILL_STEPS} times while the transformer was as it had been in "
                "objective: call it after optimizer.step(), or nothing slows the transformer down",
                stacklevel=2,
            )
        self._calls = 0
        self.steps += 1
        if self._override is None:
            self.schedule.advance()
        self._update()

    def forward(self, theta: Tensor, target: Tensor, confidence: Tensor | None = None) -> Tensor:
        """Return strength times the loss, a scalar. When off, it is a constant zero without a graph.

        The mean is over the batch, not over the confidence, so that sub-batches add up to the full batch.

        Args:
            theta: ``[batch [frame] [region] 2 3]``, floating point, what the transformer predicts.
            target: in the shape of theta, floating point, where it should look.
            confidence: ``[batch [frame] [region]]``, the weight of each region; 1 if None. Regions of confidence 0 may
                have any target, NaN too.
        """
        strength = self.strength
        if strength == 0:
            return theta.new_zeros(())
        check_shape("theta", theta, "... 2 3")
        check_floating("theta", theta)
        _check_target(target, theta, confidence)
        target = target.detach()
        if confidence is not None:
            target = torch.where((confidence == 0)[..., None, None], theta.detach(), target)  # 0 times NaN would be NaN
        losses = self.loss(theta, target) if callable(self.loss) else _LOSSES[self.loss](theta - target)
        if losses.shape != theta.shape[:-2]:
            raise ValueError(
                f"loss must return one number per region, {tuple(theta.shape[:-2])}, got {tuple(losses.shape)}"
            )
        weighted = losses if confidence is None else losses * confidence
        loss = weighted.sum() / max(weighted.numel(), 1)
        if loss.requires_grad:  # a validation loss must not move the schedule
            give_lasting(self.schedule.observe, loss.detach())
        return strength * loss

    def objective(
        self,
        transformer: SpatialTransformerLike[_GlimpseT],
        image: Tensor,
        *,
        target: TargetLike | Callable[[], TargetLike] | None,
        task: Callable[[_GlimpseT], Tensor],
    ) -> Tensor:
        """Return the one loss to train with, so that a training loop needs no case distinction.

        - On: the guidance loss of ``transformer.localize(image)``. Sampler and task are not called.
        - On, with ``joint``: the task's loss plus the guidance loss.
        - Off: exactly ``task(transformer(image))``.

        DistributedDataParallel synchronizes only the gradients of what runs in the ``forward`` that it wraps. So wrap
        a module whose ``forward`` returns this objective, with ``find_unused_parameters=True`` if that module holds
        the task's network too.

        Args:
            transformer: a `SupervisedSpatialTransformer`, or any object with the same call and ``localize``. Only
                a module is slowed down. Several transformers may share one guidance, with one ``step`` for all.
            image: ``[batch [frame] channel height width]``.
            target: theta ``[batch [frame] [region] 2 3]``, what a function of `supervised_st.targets` or a
                `MotionWindowTarget` returns, or a function without arguments that returns one of these. It is neither
                read nor called while guidance is off, and may then be None.
            task: maps the transformer's `Glimpse` to the task's loss.
        """
        if not callable(task):
            raise TypeError(f"task must be a function from a Glimpse to a loss, got {type(task).__name__}")
        if not (callable(transformer) and hasattr(transformer, "localize")):
            raise TypeError(
                "transformer must be a SupervisedSpatialTransformer, or have the same call and localize, got "
                f"{type(transformer).__name__}; pass the layer itself, not what it returns or what wraps it"
            )
        self._warn_of_forgotten_steps()
        self._pace.remember(transformer, is_guided=self.strength > 0)
        if self.strength == 0:
            return _checked_loss(task(transformer(image)))
        theta_and_confidence = self._resolve(target)
        if not self.joint:
            return self(transformer.localize(image), *theta_and_confidence)
        glimpse: Any = transformer(image)
        return _checked_loss(task(glimpse)) + self(glimpse.theta, *theta_and_confidence)

    def extra_repr(self) -> str:
        """Return the settings that differ from their defaults, and whether guidance is on and why, for ``repr``."""
        hidden = ("schedule",) if self.schedule == schedules.Always() else ()
        settings = shown_settings(self, RegressiveGuidance, hidden=hidden)
        state = "on" if self.strength else "off"
        cause = "the schedule" if self._override is None else "hand"
        state = f"{state} by {cause}, strength={self.strength:g}, steps={self.steps}"
        return f"{settings}, {state}" if settings else state

    def get_extra_state(self) -> Tensor:
        """Return the state of guidance, for the state dict."""
        return to_tensor(self._state())

    def set_extra_state(self, state: Tensor | dict[str, Any]) -> None:
        """Restore the state of guidance from a state dict, saved with the same kind of schedule.

        A ValueError says what is wrong with the state; then guidance stays as it is.
        """
        state = from_tensor(state) if isinstance(state, Tensor) else state  # a dict up to version 0.3.0
        if missing := {"override", "steps", "schedule", "schedule_state"} - state.keys():
            raise ValueError(f"the state of guidance must hold {', '.join(sorted(missing))}, got {sorted(state)}")
        kind = type(self.schedule).__name__
        if state["schedule"] != kind:
            raise ValueError(f"schedule must be {state['schedule']} as in the saved state, got {kind}")
        before = self._state()
        try:
            self._restore(state)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            self._restore(before)
            raise ValueError(
                f"the state of guidance must be as it was saved, got one with {type(problem).__name__}: {problem}"
            ) from problem

    def _state(self) -> dict[str, Any]:
        return {
            "override": self._override,
            "steps": self.steps,
            "schedule": type(self.schedule).__name__,
            "schedule_state": self.schedule.state(),
            "pace": self._pace.state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        check_whole("steps", state["steps"])
        if state["override"] is not None:
            check_flag("override", state["override"])
        self._override, self.steps = state["override"], state["steps"]
        # Version 0.2.0 stored no pace. There, off by hand was most often a transformer that was never guided.
        has_guided = self.steps > 0 and self._override is not False
        self._pace.restore(state.get("pace", {"has_guided": has_guided, "lengths": (0.0, 0.0)}))
        self.schedule.restore(state["schedule_state"])
        self._update()

    def _update(self) -> None:
        # Once per step, so that compiled code reads a number that rarely changes.
        self._factor = self.schedule.factor(self.steps) if self._override is None else float(self._override)

    def _warn_of_forgotten_steps(self) -> None:
        # Compiled code would be recompiled whenever the count changes.
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        self._calls += self.strength > 0
        is_needed = self.schedule != schedules.Always() or self.strength == 0
        if self._calls >= _MANY_CALLS and is_needed and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"guidance.step() was not called during {_MANY_CALLS} calls of objective: call it after each "
                "optimizer.step(), or the schedule does not move, and nothing slows the transformer down",
                stacklevel=3,
            )

    def _resolve(self, target: TargetLike | Callable[[], TargetLike] | None) -> tuple[Tensor, Tensor | None]:
        """Return theta and confidence of a target, which is computed here if it is a function."""
        if target is None:
            raise ValueError(f"target must be given while guidance is on (strength {self.strength:g}), got None")
        found = target() if callable(target) and not isinstance(target, nn.Module) else target
        if isinstance(found, Tensor):
            return found, None
        kind = type(found).__name__
        if isinstance(found, nn.Module):
            raise TypeError(f"target must be a window, such as lambda: target(flow), got the module {kind}")
        if not hasattr(found, "theta") or not hasattr(found, "confidence"):
            raise TypeError(
                f"target must be a tensor theta, a MotionWindow or a function that returns either, got {kind}"
                f"{conversion_hint('target', found)}"
            )
        return found.theta, found.confidence


def _checked_loss(loss: Tensor) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TypeError(f"task must return a loss, a tensor of one number, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(f"task must return a loss, a tensor of one number, got {tuple(loss.shape)}; pass its mean()")
    return loss


def _check_confidence(confidence: Tensor, theta: Tensor) -> None:
    check_tensor("confidence", confidence)
    if confidence.shape != theta.shape[:-2]:
        raise ValueError(f"confidence must have shape {tuple(theta.shape[:-2])}, got {tuple(confidence.shape)}")
    if confidence.device != theta.device:
        raise ValueError(f"confidence must be on theta's device {theta.device}, got {confidence.device}")


def _check_target(target: Tensor, theta: Tensor, confidence: Tensor | None) -> None:
    """Raise an error for what cannot be a target; where there is no confidence, any numbers can."""
    if isinstance(target, Tensor) and target.shape == (*theta.shape[:-2], 4):
        raise ValueError(
            f"target must be theta, {tuple(theta.shape)}, got windows {tuple(target.shape)}; "
            "pass targets.from_boxes(windows, image_size)"
        )
    check_floating("target", target)
    if target.shape != theta.shape:
        wanted = [str(int(size)) for size in theta.shape]
        hint = shape_hint("target", tuple(target.shape), wanted)
        raise ValueError(f"target must be theta, {tuple(theta.shape)}, got shape {tuple(target.shape)}{hint}")
    if target.device != theta.device:
        raise ValueError(
            f"target must be on theta's device {theta.device}, got {target.device}; pass target.to(theta.device)"
        )
    if confidence is not None:
        _check_confidence(confidence, theta)
    if target.device.type == "cpu" and has_values(target) and not is_transformed(target):
        shifts = target.detach()[..., 2] if confidence is None else target.detach()[confidence != 0][..., 2]
        farthest = shifts.abs().nan_to_num(0, posinf=0).max().item() if shifts.numel() else 0.0
        if farthest > _FARTHEST:
            raise ValueError(
                f"target must be theta, in which the image reaches from -1 to 1, got a shift of {farthest:g}; "
                "if it is a matrix in pixels, pass geometry.matrix_to_theta(matrix, image_size, size)"
            )


def _grid_mse(difference: Tensor) -> Tensor:
    matrix, shift = difference[..., :2], difference[..., 2]
    return matrix.square().sum((-2, -1)) / 3 + shift.square().sum(-1)


_LOSSES: dict[Loss, Callable[[Tensor], Tensor]] = {
    "l1": lambda difference: difference.abs().sum((-2, -1)),
    "corner_l1": lambda difference: corners(difference).abs().sum((-2, -1)),  # corners are linear in theta
    "grid_mse": _grid_mse,
}
