"""The widest floating-point type of a device: float64, except for Apple's MPS, which has only float32."""

import torch
from torch import Tensor


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating-point dtype that tensors on this device may have."""
    return torch.float32 if device.type == "mps" else torch.float64


def widen(tensor: Tensor) -> Tensor:
    """Return the tensor in the widest dtype of its device."""
    return tensor.to(widest(tensor.device))


def check_float64(name: str, tensor: Tensor) -> None:
    """Raise TypeError where float32 would be too coarse and the device has no float64."""
    if widest(tensor.device) != torch.float64:
        raise TypeError(
            f"{name} must be on a device with float64, which {tensor.device.type} has not: pass {name}.cpu()"
        )
