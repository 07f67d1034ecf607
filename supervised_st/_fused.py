"""The fused sampler: allocate, launch, register. The only file that meets both torch and Triton.

Forward and backward are opaque operators, so compilers see one node each; a ``torch.autograd.Function`` around them
makes them differentiable. Second derivatives go through the reference, which differentiates itself.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op

from supervised_st import _kernels
from supervised_st._reference import affine_sample_reference, pixel_map_vjp

BLOCK = 256
"""Pixels per program of the forward and of the theta gradient."""

GATHER_BLOCK = 128
GATHER_CHANNELS = 16
"""Input pixels per program of the image gradient, and channels that share their weights."""

INTERPRETED = not isinstance(_kernels.forward_kernel, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, which it does on any device."""


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """All memory that kernels write comes from here."""
    return torch.empty(shape, dtype=dtype, device=like.device)


def affine_sample_fused(
    image: Tensor, theta: Tensor, fill: Tensor, size: tuple[int, int], mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    """Sample by one kernel; the arguments are those of ``affine_sample_reference``.

    Raises:
        RuntimeError: if the image is on a device on which Triton cannot run.
    """
    if not (image.is_cuda or INTERPRETED):
        raise RuntimeError(f"backend='triton' needs an image on a CUDA or ROCm device, got one on {image.device}")
    out: Tensor = _AffineSample.apply(image, theta, fill, *size, mode, padding_mode, align_corners)
    return out


def _tiles(height: int, width: int, block: int) -> int:
    return -(-height * width // block)


def _common(image_dtype: torch.dtype, theta: Tensor, padding_mode: str, align_corners: bool) -> dict[str, object]:
    """The compile-time arguments that all kernels share."""
    rounding = torch.finfo(torch.float64 if theta.dtype == torch.float64 else torch.float32).eps
    acc = tl.float64 if image_dtype == torch.float64 else tl.float32
    return {"PADDING": padding_mode, "ALIGN": align_corners, "ROUNDING": rounding, "ACC": acc}


@custom_op("supervised_st::affine_sample", mutates_args=())
def forward_op(
    image: Tensor, theta: Tensor, fill: Tensor, height: int, width: int, mode: str, padding_mode: str,
    align_corners: bool,
) -> Tensor:  # fmt: skip
    """Launch the forward."""
    batch, channels = image.shape[:2]
    out = empty(image, (batch, channels, height, width), image.dtype)
    tiles = _tiles(height, width, BLOCK)
    if out.numel():
        with torch.cuda.device_of(image):
            _kernels.forward_kernel[(batch * tiles,)](
                image, theta.contiguous(), fill, out,
                channels, *image.shape[2:], height, width, tiles, *image.stride(),
                MODE=mode, **_common(image.dtype, theta, padding_mode, align_corners), BLOCK=BLOCK,
            )  # fmt: skip
    return out


@forward_op.register_fake
def _(
    image: Tensor, theta: Tensor, fill: Tensor, height: int, width: int, mode: str, padding_mode: str,
    align_corners: bool,
) -> Tensor:  # fmt: skip
    return image.new_empty(*image.shape[:2], height, width)


@custom_op("supervised_st::affine_sample_image_gradient", mutates_args=())
def image_gradient_op(
    grad: Tensor, theta: Tensor, height: int, width: int, mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    """Launch the gradient to an image of ``height`` x ``width``."""
    batch, channels = grad.shape[:2]
    out = empty(grad, (batch, channels, height, width), grad.dtype)
    tiles = _tiles(height, width, GATHER_BLOCK)
    if out.numel():
        with torch.cuda.device_of(grad):
            _kernels.image_gradient_kernel[(batch * tiles,)](
                grad, theta.contiguous(), out,
                channels, height, width, *grad.shape[2:], tiles, *grad.stride(),
                MODE=mode, **_common(grad.dtype, theta, padding_mode, align_corners),
                BLOCK=GATHER_BLOCK, CHANNELS=min(triton.next_power_of_2(channels), GATHER_CHANNELS),
            )  # fmt: skip
    return out


@image_gradient_op.register_fake
def _(
    grad: Tensor, theta: Tensor, height: int, width: int, mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    return grad.new_empty(*grad.shape[:2], height, width)


@custom_op("supervised_st::affine_sample_theta_gradient", mutates_args=())
def theta_gradient_op(
    grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor, mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    """Launch the gradient to theta: sums per tile first, then over the tiles in their order."""
    batch, channels, height, width = grad.shape
    if not grad.numel():
        return torch.zeros_like(theta, memory_format=torch.contiguous_format)
    tiles = _tiles(height, width, BLOCK)
    partials = empty(grad, (batch, tiles, 2, 3), torch.float64)
    with torch.cuda.device_of(grad):
        _kernels.theta_gradient_kernel[(batch * tiles,)](
            grad, image, theta.contiguous(), fill, partials,
            channels, *image.shape[2:], height, width, tiles, *grad.stride(), *image.stride(),
            MODE=mode, **_common(image.dtype, theta, padding_mode, align_corners), BLOCK=BLOCK,
        )  # fmt: skip
    image_size = (image.shape[2], image.shape[3])
    grad_theta = pixel_map_vjp(partials.sum(1), image_size, (height, width), align_corners=align_corners)
    return grad_theta.to(theta.dtype)


@theta_gradient_op.register_fake
def _(
    grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor, mode: str, padding_mode: str, align_corners: bool
) -> Tensor:
    return torch.empty_like(theta, memory_format=torch.contiguous_format)


class _AffineSample(torch.autograd.Function):
    """Differentiable in image and theta; it has no ``jvp``, so forward mode raises instead of returning zeros."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, theta: Tensor, fill: Tensor, *options: Any) -> Tensor:
        ctx.save_for_backward(image, theta, fill)
        ctx.options = options
        out: Tensor = forward_op(image, theta, fill, *options)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        image, theta, fill = ctx.saved_tensors
        rest = ctx.options[2:]
        wants_image, wants_theta = ctx.needs_input_grad[:2]
        nothing = (None,) * (1 + len(ctx.options))
        if torch.is_grad_enabled():  # create_graph=True
            return *_differentiable_backward(grad, image, theta, fill, ctx), *nothing
        grad_image = image_gradient_op(grad, theta, *image.shape[2:], *rest) if wants_image else None
        grad_theta = theta_gradient_op(grad, image, theta, fill, *rest) if wants_theta else None
        return grad_image, grad_theta, *nothing


def _differentiable_backward(grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor, ctx: Any) -> list[Tensor | None]:
    """The same gradients, themselves differentiable."""
    height, width, mode, padding_mode, align_corners = ctx.options
    out = affine_sample_reference(
        image, theta, fill, (height, width), mode=mode, padding_mode=padding_mode, align_corners=align_corners
    )
    wanted = [t for t, wants in zip((image, theta), ctx.needs_input_grad, strict=False) if wants]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if wants else None for wants in ctx.needs_input_grad[:2]]
