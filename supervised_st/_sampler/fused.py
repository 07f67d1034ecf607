"""The fused sampler: allocate, launch, differentiate. The only file that uses both torch and Triton.

Forward and gradients are opaque operators: compilers see one node each. For autograd, the forward is
a ``torch.autograd.Function``, so graphs that hold the operator, exported ones too, can be differentiated. Second
derivatives come from the reference, which is differentiable itself.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from supervised_st._sampler import kernels, launches, operators
from supervised_st._sampler.operators import Forward, ImageGradient, ThetaGradient, sampling_of
from supervised_st._sampler.options import ChannelConstants, Sampling
from supervised_st._sampler.reference import affine_sample_reference
from supervised_st._sampler.tensors import below_autograd, has_tangent, is_channels_last, is_transformed

INTERPRETED = not isinstance(kernels.forward_kernel, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, which it does on any device."""


def affine_sample_fused(
    image: Tensor, theta: Tensor, constants: ChannelConstants, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample with one kernel, which also normalizes uint8 images; raise RuntimeError where Triton cannot run."""
    if not (image.is_cuda or INTERPRETED):
        raise RuntimeError(f"backend='triton' needs an image on a CUDA or ROCm device, got one on {image.device}")
    sampled: Tensor = forward_op(*Forward(image, theta, *constants, size[0], size[1], *sampling))
    return sampled


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate memory for a kernel to write. All of it comes from here."""
    return torch.empty(shape, dtype=dtype, device=like.device)


@cache
def _processors(device: torch.device) -> int:
    """Return a GPU's number of multiprocessors; the interpreter pretends to have an H100's 132."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def _offset(*tensors: Tensor) -> Any:
    """Return the dtype of offsets inside an image: 64 bits only for images that need them."""
    reach = max(sum((n - 1) * abs(s) for n, s in zip(t.shape[-3:], t.stride()[-3:], strict=True)) for t in tensors)
    return tl.int64 if reach >= 2**31 else tl.int32


def _build(dtype: torch.dtype, theta: Tensor, offset: Any, launch: launches.Launch, **others: Any) -> kernels.Build:
    """Return a kernel's compile-time constants; ``dtype`` is that of the output or of its gradient."""
    # Computing a float64 row adds one rounding to that of theta itself.
    rounding = 2 * torch.finfo(torch.float64).eps if theta.dtype == torch.float64 else torch.finfo(torch.float32).eps
    acc = tl.float64 if dtype == torch.float64 else tl.float32
    return kernels.Build(acc, rounding, offset, launch.block, launch.tile_width, launch.vector, launch.groups, **others)


def launch_forward(inputs: Forward) -> Tensor:
    """Launch the forward."""
    image, theta, sampling = inputs.image, inputs.theta, sampling_of(inputs)
    size, channels, transforms = (inputs.height, inputs.width), image.shape[1], theta.shape[:-2].numel()
    out = _empty_output(inputs)
    if not out.numel():
        return out
    last, offset = is_channels_last(image), _offset(image, out)
    vectorized = last and channels % launches.VECTORIZED == 0
    launch = launches.choose_launch("forward", vectorized, image, sampling, offset == tl.int64)
    grid = launches.make_grid(launch, transforms, channels, size, _processors(image.device))
    build = _build(out.dtype, theta, offset, launch, normalized=inputs.mean is not None, channels_last=last)
    with torch.cuda.device_of(image):
        kernels.forward_kernel[(transforms * grid.tiles, grid.groups)](
            image, theta.contiguous(), inputs.fill, inputs.mean, inputs.std, out,
            channels, *image.shape[2:], *size, grid.tiles, grid.tile_rows, grid.passes,
            transforms // image.shape[0], *image.stride(),
            SAMPLING=sampling, BUILD=build, **launches.compile_options(launch),
        )  # fmt: skip
    return out


def _empty_output(inputs: Forward) -> Tensor:
    """Allocate ``(batch, [transform,] channel, height, width)`` in the image's layout."""
    image, size = inputs.image, (inputs.height, inputs.width)
    dtype = torch.float32 if image.dtype == torch.uint8 else image.dtype
    return _empty_images(image, inputs.theta.shape[:-2], size, dtype, is_channels_last(image))


def _empty_images(like: Tensor, leading: torch.Size, size: tuple[int, int], dtype: torch.dtype, last: bool) -> Tensor:
    channels = like.shape[-3]
    if last:
        return empty(like, (*leading, *size, channels), dtype).movedim(-1, -3)
    return empty(like, (*leading, channels, *size), dtype)


def launch_image_gradient(inputs: ImageGradient) -> Tensor:
    """Launch the gradient to the image: one kernel for images with usual transforms only, then one for the others."""
    grad, theta, sampling = inputs.grad, inputs.theta.contiguous(), sampling_of(inputs)
    batch, transforms, last = grad.shape[0], theta.shape[:-2].numel(), inputs.channels_last
    out = _empty_image_gradient(inputs)
    if not out.numel():
        return out
    channels, sizes = grad.shape[-3], (inputs.height, inputs.width, *grad.shape[-2:])
    vectorized, offset = last and channels % launches.VECTORIZED == 0, _offset(grad, out)
    options = vectorized, grad, sampling, offset == tl.int64 or transforms > batch
    search, usual = (launches.choose_launch(kernel, *options) for kernel in ("image_search", "image_gradient"))
    out_block, out_width = launches.OUT_BLOCK[vectorized]
    build = _build(
        grad.dtype, theta, offset, search, channels_last=last, out_block=out_block, out_width=out_width
    )  # fmt: skip
    processors = _processors(grad.device)
    grid = launches.make_image_grid(search, batch, channels, sizes[:2], processors)
    programs, inverses = launches.search_programs(search, processors), None
    grad = grad.flatten(0, -4)
    with torch.cuda.device_of(grad):
        # With less work than that, one launch takes less time than three.
        if grid.work > programs and launches.has_usual_transforms(sampling, grad.dtype):
            inverses = empty(grad, (transforms, kernels.ENTRY), torch.int64)
            kernels.inverse_kernel[(-(-transforms // launches.INVERSE_BLOCK),)](
                theta, inverses, transforms, *sizes,
                SAMPLING=sampling, BUILD=build, BLOCK=launches.INVERSE_BLOCK, num_warps=1,
            )  # fmt: skip
            usual_grid = launches.make_image_grid(usual, batch, channels, sizes[:2], processors)
            kernels.image_gradient_kernel[(usual_grid.work,)](
                grad, inverses, out,
                channels, *sizes, usual_grid.programs, usual_grid.tiles, usual_grid.tile_rows,
                transforms // batch, *grad.stride(),
                SAMPLING=sampling, BUILD=_build(grad.dtype, theta, offset, usual, channels_last=last),
                **launches.compile_options(usual),
            )  # fmt: skip
        kernels.image_search_kernel[(grid.work if inverses is None else max(1, programs),)](
            grad, theta, inverses, out,
            channels, *sizes, grid.work, transforms, grid.programs, grid.tiles, grid.tile_rows,
            transforms // batch, *grad.stride(),
            SAMPLING=sampling, BUILD=build, **launches.compile_options(search),
        )  # fmt: skip
    return out


def _empty_image_gradient(inputs: ImageGradient) -> Tensor:
    """Allocate ``(batch, channel, height, width)`` in the image's layout."""
    grad, size = inputs.grad, (inputs.height, inputs.width)
    return _empty_images(grad, grad.shape[:1], size, grad.dtype, inputs.channels_last)


def launch_theta_gradient(inputs: ThetaGradient) -> Tensor:
    """Launch the gradient to theta: sums per tile first, then over the tiles in order if there are several."""
    grad, image, theta, sampling = inputs.grad, inputs.image, inputs.theta, sampling_of(inputs)
    channels, *size = grad.shape[-3:]
    out = empty(grad, tuple(theta.shape), theta.dtype)
    if not grad.numel():
        return out.zero_()
    offset = _offset(image, grad)
    # With mode="nearest" no channel is read.
    vectorized = is_channels_last(image) and channels % launches.VECTORIZED == 0 and sampling.mode == "bilinear"
    launch = launches.choose_launch("theta_gradient", vectorized, image, sampling, offset == tl.int64)
    transforms = theta.shape[:-2].numel()
    grid = launches.make_grid(launch, transforms, channels, (size[0], size[1]), _processors(image.device))
    build = _build(grad.dtype, theta, offset, launch, normalized=inputs.mean is not None)
    parts = grid.tiles * grid.groups
    partials = empty(grad, (transforms, parts, 2, 3), torch.float64) if parts > 1 else out
    grad = grad.flatten(0, -4)
    with torch.cuda.device_of(grad):
        kernels.theta_gradient_kernel[(transforms * grid.tiles, grid.groups)](
            grad, image, theta.contiguous(), inputs.fill, inputs.mean, inputs.std, partials,
            channels, *image.shape[2:], *size, grid.tiles, grid.tile_rows, grid.passes,
            transforms // image.shape[0], *grad.stride(), *image.stride(),
            SAMPLING=sampling, BUILD=build, ALONE=parts == 1, **launches.compile_options(launch),
        )  # fmt: skip
        if parts > 1:
            kernels.theta_reduction_kernel[(transforms,)](
                partials, out, parts, *image.shape[2:], *size,
                ALIGN=sampling.align_corners, BLOCK=launches.REDUCTION_BLOCK, num_warps=1,
            )  # fmt: skip
    return out


forward_op = operators.register("affine_sample", Forward, operators.check_forward, launch_forward, _empty_output)
image_gradient_op = operators.register(
    "affine_sample_image_gradient", ImageGradient, operators.check_image_gradient, launch_image_gradient,
    _empty_image_gradient,
)  # fmt: skip
theta_gradient_op = operators.register(
    "affine_sample_theta_gradient", ThetaGradient, operators.check_theta_gradient, launch_theta_gradient,
    lambda inputs: torch.empty_like(inputs.theta, memory_format=torch.contiguous_format),
)  # fmt: skip


class _AffineSample(torch.autograd.Function):
    """The forward, differentiable with respect to image and theta. Its arguments are those of `Forward`."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        image, theta, fill, mean, std, *ctx.others = arguments
        ctx.save_for_backward(image, theta, fill, mean, std)
        # A channels_last output is a view; detached, callers may change it in place.
        return below_autograd(forward_op, arguments).detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        inputs = Forward(*ctx.saved_tensors, *ctx.others)
        image, theta, sampling = inputs.image, inputs.theta, sampling_of(inputs)
        needed = image_needed, theta_needed = ctx.needs_input_grad[:2]
        none = (None,) * (len(inputs) - 2)
        if torch.is_grad_enabled() or has_tangent(grad):  # create_graph=True, or forward over reverse
            return *_differentiable_gradients(grad, inputs, needed), *none
        grad_image = grad_theta = None
        if image_needed:
            last = is_channels_last(image)
            grad_image = below_autograd(
                image_gradient_op, ImageGradient(grad, theta, image.shape[2], image.shape[3], last, *sampling)
            )
        if theta_needed:
            constants = inputs.fill, inputs.mean, inputs.std
            grad_theta = below_autograd(theta_gradient_op, ThetaGradient(grad, image, theta, *constants, *sampling))
        return grad_image, grad_theta, *none


def _differentiable_gradients(grad: Tensor, inputs: Forward, needed: tuple[bool, bool]) -> list[Tensor | None]:
    """Return the gradients to image and theta, themselves differentiable; None for those that are not needed."""
    # Aliases: theta may depend on the image; that part of the gradient is added by the caller.
    with torch.enable_grad():
        aliases = inputs.image.view_as(inputs.image), inputs.theta.view_as(inputs.theta)
        constants = ChannelConstants(inputs.fill, inputs.mean, inputs.std)
        size = inputs.height, inputs.width
        sampled = affine_sample_reference(*aliases, constants, size, sampling_of(inputs))
    wanted = [tensor for tensor, is_needed in zip(aliases, needed, strict=True) if is_needed]
    found = iter(torch.autograd.grad(sampled, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if is_needed else None for is_needed in needed]


def _under_autograd(*arguments: Any) -> Tensor:
    """What autograd calls for the forward operator."""
    inputs = Forward(*arguments)
    if is_transformed(inputs.image, inputs.theta):
        raise RuntimeError(
            "backend='triton' supports neither torch.func transforms nor forward-mode differentiation; use 'auto'"
        )
    operators.check_no_gradient(
        "affine_sample is not differentiable with respect to fill, mean or std; pass fill.detach()",
        inputs.fill, inputs.mean, inputs.std,
    )  # fmt: skip
    if torch.is_grad_enabled() and (inputs.image.requires_grad or inputs.theta.requires_grad):
        out: Tensor = _AffineSample.apply(*inputs)
        return out
    return below_autograd(forward_op, inputs)


operators.differentiate(forward_op, _under_autograd)
operators.refuse_gradients(image_gradient_op)
operators.refuse_gradients(theta_gradient_op)
