"""How the raw operators are registered, and what they refuse.

Whatever is reachable as ``torch.ops.supervised_st`` is reachable with any arguments, so each operator checks its own,
though `affine_sample` has checked them too, under the names that its caller knows.
"""

from typing import Any

import torch
from torch import Tensor

from supervised_st._checks import FLOATING, check_choice, check_device, check_dtype, check_shape
from supervised_st._sampler.reference import IMAGE_DTYPES, PADDING_MODES, wants_derivative

KERNEL_MODES = ("bilinear", "nearest")


def register(name: str, arguments: str, check: Any, launch: Any, fake: Any) -> Any:
    """Make an operator that compilers do not look into; it refuses what it would touch foreign memory for."""

    def checked(function: Any) -> Any:
        def call(*given: Any) -> Tensor:
            check(*given)
            result: Tensor = function(*given)
            return result

        return call

    qualified = f"supervised_st::{name}"
    torch.library.define(qualified, f"{arguments} -> Tensor", tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(qualified, ("cpu", "cuda"), checked(launch))
    torch.library.register_fake(qualified, checked(fake))
    return getattr(torch.ops.supervised_st, name).default


def differentiate(op: Any, function: Any) -> None:
    """Have ``function`` called where autograd looks at ``op``. Without that, gradients would silently be zero."""
    torch.library.impl(op.name().partition(".")[0], "Autograd", function)


def below_autograd(op: Any, *arguments: Any) -> Tensor:
    """Call ``op`` itself, within what autograd calls in its place."""
    with torch._C._AutoDispatchBelowAutograd():
        result: Tensor = op(*arguments)
    return result


def refuse_derivatives(op: Any, *arguments: Any) -> Tensor:
    """Call an operator that nobody can differentiate."""
    check_no_derivative(op, *arguments)
    return below_autograd(op, *arguments)


def check_no_derivative(op: Any, *arguments: Any) -> None:
    """Raise RuntimeError if one of these arguments wants a derivative: ``op`` has none, which would look like zero."""
    if any(map(wants_derivative, filter(torch.is_tensor, arguments))):
        raise RuntimeError(f"{op.name()} has no derivative in all that is given, got a tensor that wants one")


def _check_maps(like: Tensor, theta: Tensor, sizes: dict[str, int], mode: str, padding_mode: str) -> dict[str, int]:
    """Check what all operators take, and return the sizes that are known now."""
    check_choice("mode", mode, KERNEL_MODES)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    check_dtype("theta", theta, (torch.float64, torch.float32))
    check_device("theta", theta, like)
    return check_shape("theta", theta, "batch map 2 3" if theta.ndim == 4 else "batch 2 3", **sizes)


def _grad_pattern(theta: Tensor) -> str:
    return "batch map channel h w" if theta.ndim == 4 else "batch channel h w"


def check_forward(
    image: Tensor, theta: Tensor, fill: Tensor | None, mean: Tensor | None, std: Tensor | None,
    height: int, width: int, mode: str, padding_mode: str, align_corners: bool,
) -> dict[str, int]:  # fmt: skip
    """Check what the forward takes, and return the sizes that are known now."""
    check_dtype("image", image, IMAGE_DTYPES)
    sizes = check_shape("image", image, "batch channel height width")
    if min(sizes["height"], sizes["width"], height, width) < 1:
        raise ValueError(f"image and output must have pixels, got {tuple(image.shape)} and {(height, width)}")
    if (fill is None) == (padding_mode == "fill"):
        raise ValueError(f"fill must be there for padding_mode='fill' and for no other, got {padding_mode!r}")
    if (mean is None) != (std is None) or (mean is not None and image.dtype != torch.uint8):
        raise ValueError("mean and std must be there together, and only for uint8 images")
    for name, constant in (("fill", fill), ("mean", mean), ("std", std)):
        if constant is not None:
            check_dtype(name, constant, (torch.promote_types(image.dtype, torch.float32),))
            check_shape(name, constant, "channel", channel=sizes["channel"])
            check_device(name, constant, image)
            if not constant.is_contiguous():
                raise ValueError(f"{name} must be contiguous, got strides {constant.stride()}")
    return _check_maps(image, theta, sizes, mode, padding_mode)


def check_image_gradient(
    grad: Tensor, theta: Tensor, height: int, width: int, channels_last: bool,
    mode: str, padding_mode: str, align_corners: bool,
) -> None:  # fmt: skip
    """Check what the gradient to an image of ``height`` x ``width`` takes."""
    check_dtype("grad", grad, FLOATING)
    sizes = _check_maps(grad, theta, {}, mode, padding_mode)
    sizes = check_shape("grad", grad, _grad_pattern(theta), **sizes)
    if min(height, width, sizes["h"], sizes["w"]) < 1:
        raise ValueError(f"image and grad must have pixels, got {(height, width)} and {tuple(grad.shape)}")


def check_theta_gradient(
    grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor | None, mean: Tensor | None, std: Tensor | None,
    mode: str, padding_mode: str, align_corners: bool,
) -> None:  # fmt: skip
    """Check what the gradient to theta takes."""
    check_dtype("grad", grad, (torch.float32 if image.dtype == torch.uint8 else image.dtype,))
    check_device("grad", grad, image)
    pattern = _grad_pattern(theta)
    height, width = (check_shape("grad", grad, pattern)[side] for side in "hw")
    sizes = check_forward(image, theta, fill, mean, std, height, width, mode, padding_mode, align_corners)
    check_shape("grad", grad, pattern, **sizes)
