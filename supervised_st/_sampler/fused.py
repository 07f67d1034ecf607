"""The fused sampler: allocate, launch, differentiate. The only file that meets both torch and Triton.

Forward and backward are opaque operators, so compilers see one node each; a ``torch.autograd.Function`` is what the
forward does where autograd looks at it, so graphs that hold it, exported ones too, can be differentiated. Second
derivatives go through the reference, which differentiates itself.
"""

from functools import cache, partial
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from supervised_st._sampler import kernels
from supervised_st._sampler.launches import (
    GATHER_GROUPS,
    OUT_BLOCK,
    REDUCTION_BLOCK,
    VECTORIZED,
    choose_launch,
    compile_options,
    plan,
)
from supervised_st._sampler.operators import (
    below_autograd,
    check_forward,
    check_image_gradient,
    check_no_derivative,
    check_theta_gradient,
    differentiate,
    refuse_derivatives,
    register,
)
from supervised_st._sampler.reference import (
    affine_sample_reference,
    has_tangent,
    is_channels_last,
    is_transformed,
    normalize,
)

INTERPRETED = not isinstance(kernels.forward_kernel, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, which it does on any device."""


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """All memory that kernels write comes from here."""
    return torch.empty(shape, dtype=dtype, device=like.device)


def affine_sample_fused(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    size: tuple[int, int],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """Sample by one kernel.

    Args:
        image: ``[batch channel height width]``, floating point or uint8.
        theta: ``[batch 2 3]`` or ``[batch maps 2 3]``, float32 or float64.
        fill: ``[channel]`` for ``padding_mode="fill"``.
        mean: ``[channel]``, subtracted from uint8 images; both or neither of it and ``std``.
        std: ``[channel]``, by which the difference is divided.
        size: ``(h, w)`` of the output.
        mode: ``"bilinear"`` or ``"nearest"``.
        padding_mode: see `affine_sample`.
        align_corners: see `affine_sample`.

    Returns:
        ``(batch, channel, h, w)`` or ``(batch, maps, channel, h, w)`` in the image's dtype (float32 for uint8) and
        layout.

    Raises:
        RuntimeError: if the image is on a device on which Triton cannot run.
    """
    if not (image.is_cuda or INTERPRETED):
        raise RuntimeError(f"backend='triton' needs an image on a CUDA or ROCm device, got one on {image.device}")
    sampled: Tensor = forward_op(image, theta, fill, mean, std, *size, mode, padding_mode, align_corners)
    return sampled


@cache
def _processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; the interpreter walks the ways of an H100's."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def _offset(*tensors: Tensor) -> Any:
    """Offsets inside one image take 64 bits only where an image is that large."""
    reach = max(sum((n - 1) * abs(s) for n, s in zip(t.shape[-3:], t.stride()[-3:], strict=True)) for t in tensors)
    return tl.int64 if reach >= 2**31 else tl.int32


def _common(blended_in: torch.dtype, theta: Tensor, padding_mode: str, align_corners: bool) -> dict[str, object]:
    """The compile-time arguments that all kernels share."""
    # A float64 map is formed with one rounding more than theta itself has.
    rounding = 2 * torch.finfo(torch.float64).eps if theta.dtype == torch.float64 else torch.finfo(torch.float32).eps
    acc = tl.float64 if blended_in == torch.float64 else tl.float32
    return {"PADDING": padding_mode, "ALIGN": align_corners, "ROUNDING": rounding, "ACC": acc}


def _forward(
    image: Tensor, theta: Tensor, fill: Tensor | None, mean: Tensor | None, std: Tensor | None,
    height: int, width: int, mode: str, padding_mode: str, align_corners: bool,
) -> Tensor:  # fmt: skip
    """Launch the forward."""
    channels, maps = image.shape[1], theta.shape[:-2].numel()
    out = _empty_output(image, theta, height, width)
    if not out.numel():
        return out
    last = is_channels_last(image)
    offset = _offset(image, out)
    launch = choose_launch(
        "forward", last and channels % VECTORIZED == 0, image, mode, padding_mode, offset == tl.int64
    )
    grid = plan(launch, maps, channels, (height, width), _processors(image.device))
    with torch.cuda.device_of(image):
        kernels.forward_kernel[(maps * grid.tiles, grid.groups)](
            image, theta.contiguous(), fill, mean, std, out,
            channels, *image.shape[2:], height, width, grid.tiles, grid.tile_rows, grid.channels,
            maps // image.shape[0], *image.stride(),
            MODE=mode, **_common(out.dtype, theta, padding_mode, align_corners),
            NORMALIZED=mean is not None, OFFSET=offset, LAST=last,
            BLOCK=launch.block, TILE_W=launch.tile_width, VECTOR=launch.vector,
            **compile_options(launch),
        )  # fmt: skip
    return out


def _empty_output(image: Tensor, theta: Tensor, height: int, width: int) -> Tensor:
    """Uninitialized ``(batch, [maps,] channel, height, width)`` in the image's layout."""
    channels, leading = image.shape[1], theta.shape[:-2]
    dtype = torch.float32 if image.dtype == torch.uint8 else image.dtype
    if is_channels_last(image):
        return empty(image, (*leading, height, width, channels), dtype).movedim(-1, -3)
    return empty(image, (*leading, channels, height, width), dtype)


def _image_gradient(
    grad: Tensor, theta: Tensor, height: int, width: int, channels_last: bool,
    mode: str, padding_mode: str, align_corners: bool,
) -> Tensor:  # fmt: skip
    """Launch the gradient to an image of ``height`` x ``width``."""
    batch, (channels, *size) = grad.shape[0], grad.shape[-3:]
    if channels_last:
        out = empty(grad, (batch, height, width, channels), grad.dtype).movedim(-1, 1)
    else:
        out = empty(grad, (batch, channels, height, width), grad.dtype)
    if not out.numel():
        return out
    vectorized = channels_last and channels % VECTORIZED == 0
    offset = _offset(grad, out)
    launch = choose_launch("image_gradient", vectorized, grad, mode, padding_mode, offset == tl.int64)
    groups = 1 if vectorized else next(n for n in range(GATHER_GROUPS, 0, -1) if channels % n == 0)
    tiles = -(-height // launch.tile_rows) * -(-width // launch.tile_width)
    out_block, out_width = OUT_BLOCK[vectorized]
    maps = theta.shape[:-2].numel() // batch
    grad = grad.flatten(0, -4)
    with torch.cuda.device_of(grad):
        kernels.image_gradient_kernel[(batch * tiles * (channels // (launch.vector * groups)),)](
            grad, theta.contiguous(), out,
            channels, height, width, *size, batch * tiles, tiles, launch.tile_rows, maps, *grad.stride(),
            MODE=mode, **_common(grad.dtype, theta, padding_mode, align_corners),
            OFFSET=offset, LAST=channels_last,
            BLOCK=launch.block, TILE_W=launch.tile_width, VECTOR=launch.vector, GROUPS=groups,
            OUT_BLOCK=out_block, OUT_W=out_width, **compile_options(launch),
        )  # fmt: skip
    return out


def _theta_gradient(
    grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor | None, mean: Tensor | None, std: Tensor | None,
    mode: str, padding_mode: str, align_corners: bool,
) -> Tensor:  # fmt: skip
    """Launch the gradient to theta: sums per tile first, then over the tiles in their order."""
    channels, height, width = grad.shape[-3:]
    out = empty(grad, tuple(theta.shape), theta.dtype)
    if not grad.numel():
        return out.zero_()
    offset = _offset(image, grad)
    # Of nearest pixels no channel is looked at, since they have no slope.
    vectorized = is_channels_last(image) and channels % VECTORIZED == 0 and mode == "bilinear"
    launch = choose_launch("theta_gradient", vectorized, image, mode, padding_mode, offset == tl.int64)
    maps = theta.shape[:-2].numel()
    grid = plan(launch, maps, channels, (height, width), _processors(image.device))
    parts = grid.tiles * grid.groups
    partials = empty(grad, (maps, parts, 2, 3), torch.float64)
    grad = grad.flatten(0, -4)
    with torch.cuda.device_of(grad):
        kernels.theta_gradient_kernel[(maps * grid.tiles, grid.groups)](
            grad, image, theta.contiguous(), fill, mean, std, partials,
            channels, *image.shape[2:], height, width, grid.tiles, grid.tile_rows, grid.channels,
            maps // image.shape[0], *grad.stride(), *image.stride(),
            MODE=mode, **_common(grad.dtype, theta, padding_mode, align_corners),
            NORMALIZED=mean is not None, OFFSET=offset,
            BLOCK=launch.block, TILE_W=launch.tile_width, VECTOR=launch.vector,
            **compile_options(launch),
        )  # fmt: skip
        kernels.theta_reduction_kernel[(maps,)](
            partials, out, parts, *image.shape[2:], height, width, ALIGN=align_corners, BLOCK=REDUCTION_BLOCK,
            num_warps=1,
        )  # fmt: skip
    return out


_CONSTANTS = "Tensor? fill, Tensor? mean, Tensor? std"

forward_op = register(
    "affine_sample",
    f"(Tensor image, Tensor theta, {_CONSTANTS}, SymInt height, SymInt width, str mode, str padding_mode, "
    "bool align_corners)",
    check_forward,
    _forward,
    lambda image, theta, fill, mean, std, height, width, *options: _empty_output(image, theta, height, width),
)
image_gradient_op = register(
    "affine_sample_image_gradient",
    "(Tensor grad, Tensor theta, SymInt height, SymInt width, bool channels_last, str mode, str padding_mode, "
    "bool align_corners)",
    check_image_gradient,
    _image_gradient,
    lambda grad, theta, height, width, channels_last, *options: (
        grad.new_empty(grad.shape[0], height, width, grad.shape[-3]).movedim(-1, 1)
        if channels_last
        else grad.new_empty(grad.shape[0], grad.shape[-3], height, width)
    ),
)
theta_gradient_op = register(
    "affine_sample_theta_gradient",
    f"(Tensor grad, Tensor image, Tensor theta, {_CONSTANTS}, str mode, str padding_mode, bool align_corners)",
    check_theta_gradient,
    _theta_gradient,
    lambda grad, image, theta, *options: torch.empty_like(theta, memory_format=torch.contiguous_format),
)


class _AffineSample(torch.autograd.Function):
    """Differentiable in image and theta."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        theta: Tensor,
        fill: Tensor | None,
        mean: Tensor | None,
        std: Tensor | None,
        options: tuple[Any, ...],
    ) -> Tensor:
        ctx.save_for_backward(image, theta, fill, mean, std)
        ctx.options = options
        out: Tensor = below_autograd(forward_op, image, theta, fill, mean, std, *options)
        return out.detach()  # With channels innermost it is a view, which nobody may change that gets it from here.

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        image, theta, fill, mean, std = ctx.saved_tensors
        _, _, *options = ctx.options
        wants_image, wants_theta = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled() or has_tangent(grad):  # create_graph=True, or forward over reverse
            values = normalize(image, mean, std)
            found = _differentiable_gradients(grad, values, theta, fill, (wants_image, wants_theta), *ctx.options)
            return *found, None, None, None, None
        grad_image = grad_theta = None
        if wants_image:
            channels_last = is_channels_last(image)
            grad_image = below_autograd(image_gradient_op, grad, theta, *image.shape[2:], channels_last, *options)
        if wants_theta:
            grad_theta = below_autograd(theta_gradient_op, grad, image, theta, fill, mean, std, *options)
        return grad_image, grad_theta, None, None, None, None


def _under_autograd(
    image: Tensor, theta: Tensor, fill: Tensor | None, mean: Tensor | None, std: Tensor | None, *options: Any
) -> Tensor:
    if is_transformed(image, theta):
        raise RuntimeError("backend='triton' has no torch.func transforms and no forward mode; 'auto' has both")
    check_no_derivative(forward_op, fill, mean, std)
    if torch.is_grad_enabled() and (image.requires_grad or theta.requires_grad):
        out: Tensor = _AffineSample.apply(image, theta, fill, mean, std, options)
        return out
    return below_autograd(forward_op, image, theta, fill, mean, std, *options)


differentiate(forward_op, _under_autograd)
differentiate(image_gradient_op, partial(refuse_derivatives, image_gradient_op))
differentiate(theta_gradient_op, partial(refuse_derivatives, theta_gradient_op))


def _differentiable_gradients(
    grad: Tensor, image: Tensor, theta: Tensor, fill: Tensor | None, wants: tuple[bool, bool],
    height: int, width: int, mode: str, padding_mode: str, align_corners: bool,
) -> list[Tensor | None]:  # fmt: skip
    """The same gradients, themselves differentiable."""
    # Aliases: theta may have been computed from the image, and what reaches it that way is the caller's to add.
    with torch.enable_grad():
        inputs = image.view_as(image), theta.view_as(theta)
        sampled = affine_sample_reference(
            *inputs, fill, (height, width), mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )
    wanted = [tensor for tensor, wants_it in zip(inputs, wants, strict=True) if wants_it]
    found = iter(torch.autograd.grad(sampled, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if wants_it else None for wants_it in wants]
