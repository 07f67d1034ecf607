"""The fused sampler: allocate, launch, differentiate. The only file that uses both torch and Triton.

Forward and gradients are opaque operators: compilers see one node each. For autograd, the forward is
a ``torch.autograd.Function``, so graphs that hold the operator, exported ones too, can be differentiated. Second
derivatives come from the reference, which is differentiable itself.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from supervised_st._sampler import kernels, launches, operators, replay
from supervised_st._sampler.operators import Forward, ImageGradient, ThetaGradient, sampling_of
from supervised_st._sampler.options import ChannelConstants, Sampling
from supervised_st._sampler.reference import affine_sample_reference
from supervised_st._sampler.replay import Recorder
from supervised_st._sampler.tensors import (
    below_autograd,
    dense_strides,
    has_tangent,
    is_channels_last,
    is_transformed,
    is_unobserved,
    records_gradients,
)


def affine_sample_fused(
    image: Tensor, theta: Tensor, constants: ChannelConstants, size: tuple[int, int], sampling: Sampling
) -> Tensor:
    """Sample with one kernel, which also normalizes uint8 images; raise RuntimeError where Triton cannot run."""
    if not replay.runs_on(image.device):
        raise RuntimeError(f"backend='triton' needs an image on a CUDA or ROCm device, got one on {image.device}")
    given = [constant for constant in constants if constant is not None]
    if is_unobserved(image, theta, *given):
        return _sample(forward.kind((image, theta, *constants), (*size, *sampling)), constants, image, theta)
    sampled: Tensor = forward_op(image, theta, *constants, *size, *sampling)
    return sampled


def sampler(image: Tensor, theta: Tensor, size: tuple[int, int], sampling: Sampling) -> Callable[..., Tensor] | None:
    """Return how to sample any image and theta of this kind that nobody observes; None where Triton cannot run."""
    constants = ChannelConstants()
    if not replay.runs_on(image.device):
        return None
    return partial(_sample, forward.kind((image, theta, *constants), (*size, *sampling)), constants)


def _sample(kind: replay.Kind, constants: ChannelConstants, image: Tensor, theta: Tensor) -> Tensor:
    """Do what the forward operator does, with tensors that nobody observes."""
    if records_gradients(image, theta):
        sampled: Tensor = _record(image, theta, constants, kind.options, kind)
        return sampled
    return kind.run((image, theta, *constants))


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


def launch_forward(inputs: Forward, recorder: Recorder) -> Tensor:
    """Launch the forward."""
    image, theta, sampling = inputs.image, inputs.theta, sampling_of(inputs)
    size, channels, transforms = (inputs.height, inputs.width), image.shape[1], theta.shape[:-2].numel()
    last = is_channels_last(image)
    out = recorder.empty(_output_shape(inputs), _output_dtype(inputs), channels_last=last)
    if not out.numel():
        return out
    offset = _offset(image, out)
    vectorized = last and channels % launches.VECTORIZED == 0
    launch = launches.choose_launch("forward", vectorized, image, sampling, offset == tl.int64)
    grid = launches.make_grid(launch, transforms, channels, size, _processors(image.device))
    build = _build(out.dtype, theta, offset, launch, normalized=inputs.mean is not None, channels_last=last)
    recorder.launch(
        kernels.forward_kernel, (transforms * grid.tiles, grid.groups),
        image, recorder.derived(Tensor.contiguous, theta), inputs.fill, inputs.mean, inputs.std, out,
        channels, *image.shape[2:], *size, grid.tiles, grid.tile_rows, grid.passes,
        transforms // image.shape[0], *image.stride(),
        SAMPLING=sampling, BUILD=build, **launches.compile_options(launch),
    )  # fmt: skip
    return out


def _output_shape(inputs: Forward) -> tuple[int, ...]:
    """Return ``(batch, [transform,] channel, height, width)``."""
    return (*inputs.theta.shape[:-2], inputs.image.shape[1], inputs.height, inputs.width)


def _output_dtype(inputs: Forward) -> torch.dtype:
    return torch.float32 if inputs.image.dtype == torch.uint8 else inputs.image.dtype


def launch_image_gradient(inputs: ImageGradient, recorder: Recorder) -> Tensor:
    """Launch the gradient to the image: one kernel for images with usual transforms only, then one for the others."""
    grad, theta, sampling = inputs.grad, recorder.derived(Tensor.contiguous, inputs.theta), sampling_of(inputs)
    batch, transforms, last = grad.shape[0], theta.shape[:-2].numel(), inputs.channels_last
    shape = (batch, grad.shape[-3], inputs.height, inputs.width)
    out = recorder.empty(shape, grad.dtype, channels_last=last)
    if not grad.numel():  # no images, channels or transforms
        return out.zero_()
    channels, sizes = grad.shape[-3], (inputs.height, inputs.width, *grad.shape[-2:])
    vectorized, offset = last and channels % launches.VECTORIZED == 0, _offset(grad, out)
    options = vectorized, grad, sampling, offset == tl.int64 or transforms > batch
    search, usual = (launches.choose_launch(kernel, *options) for kernel in ("image_search", "image_gradient"))
    out_block, out_width = launches.OUT_BLOCK[vectorized]
    build = _build(grad.dtype, theta, offset, search, channels_last=last, out_block=out_block, out_width=out_width)
    processors = _processors(grad.device)
    grid = launches.make_image_grid(search, batch, channels, sizes[:2], processors)
    programs, inverses = launches.search_programs(search, processors), None
    grad = recorder.derived(_one_batch, grad)
    # With less work than that, one launch takes less time than three.
    if grid.work > programs and launches.has_usual_transforms(sampling, grad.dtype):
        inverses = recorder.empty((transforms, kernels.ENTRY), torch.int64)
        recorder.launch(
            kernels.inverse_kernel, (-(-transforms // launches.INVERSE_BLOCK),),
            theta, inverses, transforms, *sizes,
            SAMPLING=sampling, BUILD=build, BLOCK=launches.INVERSE_BLOCK, num_warps=1,
        )  # fmt: skip
        usual_grid = launches.make_image_grid(usual, batch, channels, sizes[:2], processors)
        recorder.launch(
            kernels.image_gradient_kernel, (usual_grid.work,),
            grad, inverses, out,
            channels, *sizes, usual_grid.programs, usual_grid.tiles, usual_grid.tile_rows,
            transforms // batch, *grad.stride(),
            SAMPLING=sampling, BUILD=_build(grad.dtype, theta, offset, usual, channels_last=last),
            **launches.compile_options(usual),
        )  # fmt: skip
    recorder.launch(
        kernels.image_search_kernel, (grid.work if inverses is None else max(1, programs),),
        grad, theta, inverses, out,
        channels, *sizes, grid.work, transforms, grid.programs, grid.tiles, grid.tile_rows,
        transforms // batch, *grad.stride(),
        SAMPLING=sampling, BUILD=build, **launches.compile_options(search),
    )  # fmt: skip
    return out


def _one_batch(grad: Tensor) -> Tensor:
    """Return the gradient to the output as ``[batch * transform channel h w]``."""
    return grad.flatten(0, -4)


def launch_theta_gradient(inputs: ThetaGradient, recorder: Recorder) -> Tensor:
    """Launch the gradient to theta: sums per tile first, then over the tiles in order if there are several."""
    grad, image, theta, sampling = inputs.grad, inputs.image, inputs.theta, sampling_of(inputs)
    channels, *size = grad.shape[-3:]
    out = recorder.empty(tuple(theta.shape), theta.dtype)
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
    partials = recorder.empty((transforms, parts, 2, 3), torch.float64) if parts > 1 else out
    grad = recorder.derived(_one_batch, grad)
    recorder.launch(
        kernels.theta_gradient_kernel, (transforms * grid.tiles, grid.groups),
        grad, image, recorder.derived(Tensor.contiguous, theta), inputs.fill, inputs.mean, inputs.std, partials,
        channels, *image.shape[2:], *size, grid.tiles, grid.tile_rows, grid.passes,
        transforms // image.shape[0], *grad.stride(), *image.stride(),
        SAMPLING=sampling, BUILD=build, ALONE=parts == 1, **launches.compile_options(launch),
    )  # fmt: skip
    if parts > 1:
        recorder.launch(
            kernels.theta_reduction_kernel, (transforms,),
            partials, out, parts, *image.shape[2:], *size,
            ALIGN=sampling.align_corners, BLOCK=launches.REDUCTION_BLOCK, num_warps=1,
        )  # fmt: skip
    return out


def _fake_output(inputs: Forward) -> Tensor:
    shape, last = _output_shape(inputs), is_channels_last(inputs.image)
    strides = dense_strides(shape, channels_last=last)
    return inputs.image.new_empty_strided(shape, strides, dtype=_output_dtype(inputs))


def _fake_image_gradient(inputs: ImageGradient) -> Tensor:
    shape = (inputs.grad.shape[0], inputs.grad.shape[-3], inputs.height, inputs.width)
    return inputs.grad.new_empty_strided(shape, dense_strides(shape, channels_last=inputs.channels_last))


def _fake_theta_gradient(inputs: ThetaGradient) -> Tensor:
    return torch.empty_like(inputs.theta, memory_format=torch.contiguous_format)


forward = replay.Operator(Forward, operators.check_forward, launch_forward)
image_gradient = replay.Operator(ImageGradient, operators.check_image_gradient, launch_image_gradient)
theta_gradient = replay.Operator(ThetaGradient, operators.check_theta_gradient, launch_theta_gradient)

forward_op = operators.register("affine_sample", forward, _fake_output)
image_gradient_op = operators.register("affine_sample_image_gradient", image_gradient, _fake_image_gradient)
theta_gradient_op = operators.register("affine_sample_theta_gradient", theta_gradient, _fake_theta_gradient)


class _AffineSample(torch.autograd.Function):
    """The forward, differentiable with respect to image and theta; ``options`` are the inputs that are no tensors.

    ``kind`` is None where somebody observes the tensors; then operators are called.
    """

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, theta: Tensor, constants: ChannelConstants, options: tuple[Any, ...],
        kind: replay.Kind | None,
    ) -> Tensor:  # fmt: skip
        ctx.call = options, kind
        tensors = image, theta, *constants
        ctx.save_for_backward(*tensors)
        return below_autograd(forward_op, (*tensors, *options)) if kind is None else kind.run(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        image, theta, *constants = ctx.saved_tensors
        options, kind = ctx.call
        needed = image_needed, theta_needed = ctx.needs_input_grad[:2]
        is_second = torch.is_grad_enabled()  # create_graph=True
        is_direct = kind is not None and not is_second and is_unobserved(grad)
        if not is_direct and (is_second or has_tangent(grad)):  # or forward over reverse
            inputs = Forward(image, theta, *constants, *options)
            return *_differentiable_gradients(grad, inputs, needed), None, None, None
        sampling = options[2:]
        grad_image = grad_theta = None
        if image_needed:
            last = not image.is_contiguous() and is_channels_last(image)
            tensors, options = (grad, theta), (*image.shape[2:], last, *sampling)
            if is_direct:
                grad_image = image_gradient.run(tensors, options)
            else:
                grad_image = below_autograd(image_gradient_op, (*tensors, *options))
        if theta_needed:
            tensors = grad, image, theta, *constants
            if is_direct:
                grad_theta = theta_gradient.run(tensors, sampling)
            else:
                grad_theta = below_autograd(theta_gradient_op, (*tensors, *sampling))
        return grad_image, grad_theta, None, None, None


# Function.apply, less its care for torch.func transforms: nobody observes the tensors.
_record = super(torch.autograd.Function, _AffineSample).apply


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
        constants = ChannelConstants(inputs.fill, inputs.mean, inputs.std)
        out: Tensor = _AffineSample.apply(inputs.image, inputs.theta, constants, inputs[5:], None)
        return out
    return below_autograd(forward_op, inputs)


operators.differentiate(forward_op, _under_autograd)
operators.refuse_gradients(image_gradient_op)
operators.refuse_gradients(theta_gradient_op)
