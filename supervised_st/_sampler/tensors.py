"""What the backends ask about tensors, and the private parts of torch that they need for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.nn import Parameter
from torch.utils._python_dispatch import _disable_current_modes

_AUTOGRAD = torch._C.DispatchKey.AutogradOther  # excluded together with that of every device
_PLAIN_TYPES = (Tensor, Parameter)


def normalize(image: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Return a uint8 image as float32, less ``mean`` and over ``std`` ``[channel]``; other images as they are."""
    if image.dtype != torch.uint8:
        return image
    values = image.float()
    if mean is None or std is None:
        return values
    mean, std = mean[:, None, None], std[:, None, None]
    # Batched constants cannot be written into an image without batch, and torch 2.6 exports no writing to ONNX.
    if torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling():
        return (values - mean) / std
    return values.sub_(mean).div_(std)  # In place takes less than half of the time.


def lay_out(sampled: Tensor, image: Tensor) -> Tensor:
    """Turn ``[batch channel [transform] h w]`` into ``(batch, [transform,] channel, h, w)`` in the image's layout."""
    if is_channels_last(image):
        return sampled.movedim(1, -1).contiguous().movedim(-1, -3)
    return (sampled.transpose(1, 2) if sampled.ndim == 5 else sampled).contiguous()


def is_channels_last(image: Tensor) -> bool:
    """Return whether an image is channels_last in memory, or was cropped from one that is.

    The layout of tensors batched by ``torch.func.vmap`` is not known; they count as contiguous.
    """
    if torch._C._are_functorch_transforms_active() or image.is_contiguous():
        return False
    _, channels, height, width = image.shape
    return channels > 1 and height * width > 1 and image.stride(1) == 1


def dense_strides(shape: tuple[int, ...], *, channels_last: bool = False) -> tuple[int, ...]:
    """Return the strides that torch gives dense tensors; channels_last ones are ``[..., channel, height, width]``."""
    in_memory = (*shape[:-3], *shape[-2:], shape[-3]) if channels_last else shape
    strides = [1]
    for length in reversed(in_memory[1:]):
        strides.insert(0, strides[0] * torch.sym_max(length, 1))  # type: ignore[no-untyped-call]
    return (*strides[:-3], strides[-1], *strides[-3:-1]) if channels_last else tuple(strides)


@contextmanager
def lasting() -> Iterator[None]:
    """Make tensors that outlive the modes they are made in, and inference mode."""
    with _disable_current_modes(), torch.inference_mode(False):
        yield


def needs_gradient(tensor: Tensor) -> bool:
    """Return whether autograd differentiates with respect to this tensor, in reverse or in forward mode."""
    return (torch.is_grad_enabled() and tensor.requires_grad) or has_tangent(tensor)


def has_tangent(tensor: Tensor) -> bool:
    """Return whether forward-mode differentiation goes through this tensor."""
    # No level is entered: there are no tangents, and unpacking would take longer.
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def is_transformed(*tensors: Tensor) -> bool:
    """Return whether a ``torch.func`` transform or forward mode is active; only the reference supports these."""
    if torch._C._are_functorch_transforms_active():
        return True
    return forward_ad._current_level >= 0 and any(has_tangent(tensor) for tensor in tensors)


def give_lasting(function: Callable[[Tensor], None], tensor: Tensor) -> None:
    """Call a function that keeps the tensor beyond ``torch.func`` transforms, with the mean over what they map.

    What transforms wrap must not be kept: it is invalid when they end.
    """
    if not torch._C._are_functorch_transforms_active():
        function(tensor)
        return
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    with torch._C._DisableFuncTorch():
        function(tensor.mean())


def has_values(tensor: Tensor) -> bool:
    """Return whether the numbers of this tensor can be inspected: not while a graph is traced."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (traced or tensor.is_meta or isinstance(tensor, FakeTensor))


def is_exporting_to_onnx() -> bool:
    """Return whether the graph being traced is for ONNX, which has no operator for the kernels."""
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced and torch.onnx.is_in_onnx_export()  # The second takes longer.


def is_unobserved(*tensors: Tensor) -> bool:
    """Return whether nobody could tell that an operator was not called, but what it does was done.

    Those who could are compilers, tracers, modes, transforms, forward mode, the profiler, and tensors that are no plain
    ones.
    """
    if (
        torch.compiler.is_dynamo_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    ):
        return False
    for tensor in tensors:
        if type(tensor) not in _PLAIN_TYPES or tensor.is_neg() or tensor._is_zerotensor():
            return False
        if tensor.layout != torch.strided or tensor.is_nested or not torch._C._has_storage(tensor):
            return False  # It may have no memory, as under ``is_grads_batched``, or more than one.
    return True


def kind_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return all that checks and launches depend on. Kernels for pointers aligned to 16 bytes are others."""
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device, tensor.data_ptr() % 16


def records_gradients(image: Tensor, theta: Tensor) -> bool:
    """Return whether autograd records what is done with these tensors."""
    return (
        (image.requires_grad or theta.requires_grad)
        and torch.is_grad_enabled()
        and not torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD)
    )


def below_autograd(op: Any, inputs: tuple[Any, ...]) -> Tensor:
    """Call an operator's own implementation from within what autograd calls in its place."""
    with torch._C._AutoDispatchBelowAutograd():
        result: Tensor = op(*inputs)
    return result
