"""The raw operators ``torch.ops.supervised_st.*``: their inputs, their schemas, their checks and their registration.

Operators can be called directly, so each one checks its arguments again, although `affine_sample` has checked its own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor

from supervised_st._checks import FLOATING, check_choice, check_device, check_dtype, check_shape
from supervised_st._sampler.options import IMAGE_DTYPES, PADDING_MODES, Sampling
from supervised_st._sampler.replay import Operator
from supervised_st._sampler.tensors import below_autograd, needs_gradient

KERNEL_MODES = ("bilinear", "nearest")
GRAD_SHAPES = ("batch channel h w", "batch transform channel h w")  # for one transform per image, and for several

# How operator schemas write the types of inputs.
SCHEMA_TYPES = {Tensor: "Tensor", Tensor | None: "Tensor?", int: "SymInt", bool: "bool", str: "str"}


class Forward(NamedTuple):
    """The inputs of ``supervised_st::affine_sample``."""

    image: Tensor  #: ``[batch channel H W]``, one of `IMAGE_DTYPES`
    theta: Tensor  #: ``[batch 2 3]`` or ``[batch transform 2 3]``, float32 or float64
    fill: Tensor | None  #: ``[channel]``, for ``padding_mode="fill"``
    mean: Tensor | None  #: ``[channel]``, subtracted from uint8 images; only together with ``std``
    std: Tensor | None  #: ``[channel]``, divides the difference
    height: int  #: of the output
    width: int
    mode: str  #: one of `KERNEL_MODES`; with the two below it is the `Sampling`
    padding_mode: str
    align_corners: bool


class ImageGradient(NamedTuple):
    """The inputs of ``supervised_st::affine_sample_image_gradient``."""

    grad: Tensor  #: ``[batch channel h w]`` or ``[batch transform channel h w]``: the gradient to the output
    theta: Tensor
    height: int  #: of the image
    width: int
    channels_last: bool  #: the layout of the image
    mode: str
    padding_mode: str
    align_corners: bool


class ThetaGradient(NamedTuple):
    """The inputs of ``supervised_st::affine_sample_theta_gradient``."""

    grad: Tensor  #: ``[batch channel h w]`` or ``[batch transform channel h w]``: the gradient to the output
    image: Tensor
    theta: Tensor
    fill: Tensor | None
    mean: Tensor | None
    std: Tensor | None
    mode: str
    padding_mode: str
    align_corners: bool


def sampling_of(inputs: Forward | ImageGradient | ThetaGradient) -> Sampling:
    """Return the sampling options, which are the last inputs of every operator."""
    return Sampling(inputs.mode, inputs.padding_mode, inputs.align_corners)


def schema(inputs: type) -> str:
    """Return an operator's schema, made from the annotations of its inputs."""
    arguments = (f"{SCHEMA_TYPES[annotation]} {name}" for name, annotation in get_type_hints(inputs).items())
    return f"({', '.join(arguments)}) -> Tensor"


def register(name: str, operator: Operator, fake: Callable[[Any], Tensor]) -> Any:
    """Make an operator of ``torch.ops.supervised_st`` that compilers treat as one opaque node, and return it.

    ``fake`` only returns a tensor of the shape, dtype and layout of the result.
    """

    def checked_fake(*arguments: Any) -> Tensor:
        inputs = operator.inputs(*arguments)
        operator.check(inputs)
        return fake(inputs)

    count = sum(annotation in (Tensor, Tensor | None) for annotation in get_type_hints(operator.inputs).values())

    def compute(*arguments: Any) -> Tensor:
        return operator.run(arguments[:count], arguments[count:])

    qualified = f"supervised_st::{name}"
    torch.library.define(qualified, schema(operator.inputs), tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(qualified, ("cpu", "cuda"), compute)
    torch.library.register_fake(qualified, checked_fake)
    return getattr(torch.ops.supervised_st, name).default


def differentiate(op: Any, function: Callable[..., Tensor]) -> None:
    """Make ``function`` what autograd calls for ``op``. Without one, gradients would silently be zero."""
    torch.library.impl(op.name().partition(".")[0], "Autograd", function)


def refuse_gradients(op: Any) -> None:
    """Make ``op`` raise where autograd would need a derivative of it."""

    def call(*arguments: Any) -> Tensor:
        check_no_gradient(f"{op.name()} is not differentiable; pass tensors that do not require grad", *arguments)
        return below_autograd(op, arguments)

    differentiate(op, call)


def check_no_gradient(message: str, *arguments: Any) -> None:
    """Raise RuntimeError with this message if one of the arguments requires grad, or has a tangent."""
    if any(needs_gradient(argument) for argument in arguments if isinstance(argument, Tensor)):
        raise RuntimeError(message)


def _check_common(like: Tensor, theta: Tensor, sizes: dict[str, int], sampling: Sampling) -> dict[str, int]:
    """Check what all operators take, and return the sizes known so far."""
    check_choice("mode", sampling.mode, KERNEL_MODES)
    check_choice("padding_mode", sampling.padding_mode, PADDING_MODES)
    check_dtype("theta", theta, (torch.float64, torch.float32))
    check_device("theta", theta, like)
    return check_shape("theta", theta, "batch transform 2 3" if theta.ndim == 4 else "batch 2 3", **sizes)


def check_forward(inputs: Forward) -> dict[str, int]:
    """Check the inputs of the forward, and return the sizes known so far."""
    image, size = inputs.image, (inputs.height, inputs.width)
    check_dtype("image", image, IMAGE_DTYPES)
    sizes = check_shape("image", image, "batch channel height width")
    if min(sizes["height"], sizes["width"], *size) < 1:
        raise ValueError(f"image and output must not be empty, got an image {tuple(image.shape)} and an output {size}")
    if (inputs.fill is None) == (inputs.padding_mode == "fill"):
        state = "no fill" if inputs.fill is None else "a fill"
        raise ValueError(f"fill must be given for padding_mode='fill' only, got {state} with {inputs.padding_mode!r}")
    if (inputs.mean is None) != (inputs.std is None) or (inputs.mean is not None and image.dtype != torch.uint8):
        raise ValueError("mean and std must be given together, and only for uint8 images")
    for name, constant in (("fill", inputs.fill), ("mean", inputs.mean), ("std", inputs.std)):
        if constant is not None:
            check_dtype(name, constant, (torch.promote_types(image.dtype, torch.float32),))
            check_shape(name, constant, "channel", channel=sizes["channel"])
            check_device(name, constant, image)
            if not constant.is_contiguous():
                raise ValueError(f"{name} must be contiguous, got strides {constant.stride()}")
    return _check_common(image, inputs.theta, sizes, sampling_of(inputs))


def check_image_gradient(inputs: ImageGradient) -> None:
    """Check the inputs of the gradient to the image."""
    grad, size = inputs.grad, (inputs.height, inputs.width)
    check_dtype("grad", grad, FLOATING)
    sizes = _check_common(grad, inputs.theta, {}, sampling_of(inputs))
    sizes = check_shape("grad", grad, GRAD_SHAPES[inputs.theta.ndim == 4], **sizes)
    if min(*size, sizes["h"], sizes["w"]) < 1:
        raise ValueError(f"image and grad must not be empty, got an image {size} and a grad {tuple(grad.shape)}")


def check_theta_gradient(inputs: ThetaGradient) -> None:
    """Check the inputs of the gradient to theta."""
    grad, image, theta = inputs.grad, inputs.image, inputs.theta
    check_dtype("grad", grad, (torch.float32 if image.dtype == torch.uint8 else image.dtype,))
    check_device("grad", grad, image)
    pattern = GRAD_SHAPES[theta.ndim == 4]
    height, width = (check_shape("grad", grad, pattern)[side] for side in "hw")
    constants = inputs.fill, inputs.mean, inputs.std
    sizes = check_forward(Forward(image, theta, *constants, height, width, *sampling_of(inputs)))
    check_shape("grad", grad, pattern, **sizes)
