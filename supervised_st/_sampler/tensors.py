"""What the backends ask about tensors, and the private parts of torch that they need for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes


def normalize(image: Tensor, mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Return a uint8 image as float32, less ``mean`` and over ``std`` ``[channel]``; other images as they are."""
    if image.dtype != torch.uint8:
        return image
    values = image.float()
    if mean is None or std is None:
        return values
    mean, std = mean[:, None, None], std[:, None, None]
    if torch._C._are_functorch_transforms_active():  # Batched constants cannot be written into an image without batch.
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


def has_values(tensor: Tensor) -> bool:
    """Return whether the numbers of this tensor can be inspected: not while a graph is traced."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (traced or tensor.is_meta or isinstance(tensor, FakeTensor))


def is_exporting_to_onnx() -> bool:
    """Return whether the graph being traced is for ONNX, which has no operator for the kernels."""
    is_traced = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced and torch.onnx.is_in_onnx_export()  # The second takes longer.


def below_autograd(op: Any, inputs: tuple[Any, ...]) -> Tensor:
    """Call an operator's own implementation from within what autograd calls in its place."""
    with torch._C._AutoDispatchBelowAutograd():
        result: Tensor = op(*inputs)
    return result
