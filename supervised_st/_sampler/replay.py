"""Does again what an operator did before: the same memory, the same launches, and nothing is decided a second time.

What an operator allocates and launches follows from the *kind* of its inputs: shapes, strides, dtypes, devices and
alignments of tensors, and the values of options. It is recorded at the first call of a kind, and replayed at the next
ones. A replay checks nothing, since the kind was checked, and does not search for compiled kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from triton.compiler import CompiledKernel
from triton.runtime import driver

from supervised_st._sampler import kernels
from supervised_st._sampler.calls import MOST_KINDS
from supervised_st._sampler.tensors import dense_strides, kind_of

INTERPRETED = not isinstance(kernels.forward_kernel, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, which it does on any device."""

_STREAM = object()  # stands for the stream in what is recorded
_KNOBS = getattr(triton, "knobs", None)  # since Triton 3.4

Tensors = tuple[Tensor | None, ...]
Values = list[Any]


def runs_on(device: torch.device) -> bool:
    """Return whether kernels run on a device."""
    return INTERPRETED or device.type == "cuda"


def empty(like: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate memory for a kernel to write. All of it comes from here."""
    return like.new_empty_strided(shape, strides, dtype=dtype)


class Make(NamedTuple):
    """A tensor that is made at every call."""

    function: Callable[..., Tensor]
    place: int  #: of its first argument among the values
    others: tuple[Any, ...]  #: the other arguments


class Plan(NamedTuple):
    """What an operator does with one kind of inputs.

    Its values are the stream, the tensors among the inputs, what is made of these, and then ``constants``.
    """

    driver: Any  #: Triton's, to which the compiled kernels belong; None for the interpreter
    device: int | None  #: the index of the GPU
    makes: list[Make]
    constants: Values
    launches: list[tuple[Callable[..., object], Callable[[Values], tuple[Any, ...]]]]  #: what to call, by which values
    result: int  #: its place among the values

    def is_current(self) -> bool:
        """Return whether the driver is the same and nobody, such as a profiler, has asked Triton to call it."""
        if self.driver is None or _KNOBS is None:
            return self.driver is _driver()
        hooks = _KNOBS.runtime
        return self.driver is driver.active and not (
            getattr(hooks.launch_enter_hook, "calls", True) or getattr(hooks.launch_exit_hook, "calls", True)
        )

    def replay(self, tensors: Tensors) -> Tensor:
        """Do it, and return the result."""
        of_triton, device, makes, constants, launches, place_of_result = self
        if device is not None and device != torch.cuda.current_device():
            with torch.cuda.device(device):
                return self.replay(tensors)
        stream = None if of_triton is None else of_triton.get_current_stream(device)
        values: Values = [stream, *tensors]
        for function, place, others in makes:
            values.append(function(values[place], *others))
        values += constants
        for launch, arguments_of in launches:
            launch(*arguments_of(values))
        result: Tensor = values[place_of_result]
        return result


class Recorder:
    """What an operator works with. It may use the kind of its inputs, but no numbers: only kernels read these."""

    def __init__(self, tensors: Tensors) -> None:
        # Aliases, so that each one is an object of its own, even where a caller gives the same tensor twice.
        self.tensors = tuple(tensor if tensor is None else tensor.detach() for tensor in tensors)
        self._values: Values = [_STREAM, *self.tensors]
        self._makes: list[Make] = []
        self._launches: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, *, channels_last: bool = False) -> Tensor:
        """Allocate a dense tensor on the device of the first input; ``[..., channel, h, w]`` if channels_last."""
        return self._made(empty, self.tensors[0], shape, dense_strides(shape, channels_last=channels_last), dtype)

    def derived(self, function: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
        """Return ``function(tensor)``, which may be the tensor itself."""
        return tensor if function(tensor) is tensor else self._made(function, tensor)

    def launch(self, kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
        """Launch a kernel; ``constants`` are compile-time constants and options of the compiler."""
        compiled = kernel[grid](*arguments, **constants)
        if isinstance(compiled, CompiledKernel) and _KNOBS:
            arguments += tuple(constants[name] for name in kernel.arg_names[len(arguments) :])
            # As Triton calls it, without hooks.
            before = (*(*grid, 1, 1)[:3], _STREAM, compiled.function, compiled.packed_metadata, None, None, None)
            self._launches.append((compiled.run, (*before, *arguments)))
        else:  # interpreted, or by a version of Triton without knobs
            self._launches.append((partial(kernel[grid], **constants), arguments))

    def plan(self, result: Tensor) -> Plan | None:
        """Return what was done, or None if nothing was launched."""
        if not self._launches:
            return None
        constants: Values = []
        launches: list[tuple[Callable[..., object], Callable[[Values], tuple[Any, ...]]]] = []
        for launch, arguments in self._launches:
            places = []
            for argument in arguments:
                if isinstance(argument, Tensor) or argument is _STREAM:
                    places.append(self._place(argument))
                else:
                    places.append(len(self._values) + len(constants))
                    constants.append(argument)
            launches.append((launch, itemgetter(*places)))
        device = self._values[1].device.index
        return Plan(_driver(), device, self._makes, constants, launches, self._place(result))

    def _made(self, function: Callable[..., Tensor], tensor: Any, *others: Any) -> Tensor:
        self._makes.append(Make(function, self._place(tensor), others))
        made = function(tensor, *others)
        self._values.append(made)
        return made

    def _place(self, argument: object) -> int:
        return next(place for place, value in enumerate(self._values) if value is argument)


def _driver() -> Any:
    return None if INTERPRETED else driver.active


@dataclass(frozen=True, eq=False)
class Operator:
    """How an operator is computed. Its inputs are a named tuple: tensors first, then options."""

    inputs: Any  #: the type of its inputs
    check: Callable[..., object]  #: raises if the kernels would read or write out of bounds
    launch: Callable[..., Tensor]  #: (inputs, recorder) to the result

    def run(self, tensors: Tensors, options: tuple[Any, ...]) -> Tensor:
        """Compute the result."""
        return self.kind(tensors, options).run(tensors)

    def kind(self, tensors: Tensors, options: tuple[Any, ...]) -> "Kind":
        """Return the kind of some inputs."""
        return _kind(self, options, *[tensor if tensor is None else kind_of(tensor) for tensor in tensors])


class Kind:
    """An operator for one kind of inputs."""

    def __init__(self, operator: Operator, options: tuple[Any, ...]) -> None:
        self.options = options
        self._operator = operator
        self._plan: Plan | None = None

    def run(self, tensors: Tensors) -> Tensor:
        """Compute the result for tensors of this kind."""
        plan = self._plan
        if plan is not None and plan.is_current():
            return plan.replay(tensors)
        operator = self._operator
        operator.check(operator.inputs(*tensors, *self.options))
        recorder = Recorder(tensors)
        with torch.cuda.device_of(recorder.tensors[0]):
            result = operator.launch(operator.inputs(*recorder.tensors, *self.options), recorder)
            self._plan = recorder.plan(result)
        return result


@lru_cache(MOST_KINDS)
def _kind(operator: Operator, options: tuple[Any, ...], *kinds: object) -> Kind:
    return Kind(operator, options)
