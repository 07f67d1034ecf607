"""``affine_sample``: its contract, its checks and the choice of backend."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from numbers import Real

import torch
from torch import Tensor

from supervised_st._checks import (
    LONGEST_SIDE,
    check_channels_first,
    check_choice,
    check_device,
    check_dtype,
    check_flag,
    check_floating,
    check_shape,
    check_size,
)
from supervised_st._precision import check_float64
from supervised_st._sampler import aten
from supervised_st._sampler.antialias import affine_sample_antialiased
from supervised_st._sampler.calls import call_of
from supervised_st._sampler.labels import affine_sample_labels
from supervised_st._sampler.options import (
    BACKENDS,
    IMAGE_DTYPES,
    LABEL_DTYPES,
    MODES,
    PADDING_MODES,
    ChannelConstants,
    Sampling,
)
from supervised_st._sampler.reference import affine_sample_reference
from supervised_st._sampler.tensors import is_exporting_to_onnx, is_transformed, needs_gradient
from supervised_st.types import Backend, Mode, PaddingMode, PerChannel, Size

# Here, because ``torch.compile`` cannot trace ``find_spec``. Triton 3.3, of torch 2.7, cannot compile the kernels.
_HAS_TRITON = find_spec("triton") is not None and torch.__version__ >= "2.8"

_LARGEST_EXACT = 2.0**53  # up to here, floats hold all whole numbers
_ZERO = 2.0**-150  # from here on, numbers are rounded to zero in float32


def affine_sample(
    image: Tensor,
    theta: Tensor,
    size: Size,
    *,
    mode: Mode = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool = False,
    fill_value: PerChannel = 0.0,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    antialias: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Sample each image at the positions that an affine transform gives the pixels of the output.

    Convention:
        ``theta`` transforms *output* to *input* coordinates. Both are ``(x, y)`` in ``[-1, 1]``, measured between the
        outer pixel **edges** (``align_corners=False``) or between the outer pixel **centers** (``align_corners=True``).

    Every theta is safe. With zeros or fill padding an infinite coordinate is out of bounds, with border padding it is
    clamped. A NaN coordinate gives NaN in its output pixel and in theta's gradient, and adds nothing to the image's
    gradient. Half-precision images are blended in float32 and rounded once.

    Accuracy: ``"reference"`` computes coordinates in float64. ``"triton"`` computes the transform to pixels in float64
    and rounds coordinates to 2^-24 pixel, except for float64 images. Both return the bits of the image for the identity
    and for whole-pixel shifts and crops. ``"aten"`` is about as exact as ``F.affine_grid`` and ``F.grid_sample``. First
    derivatives are the same bits in every run with ``"triton"``, and with every backend on a CPU. On MPS, which has no
    float64, ``"reference"`` computes coordinates in float32: they may be off by 2^-20 of the image's side.

    Args:
        image: ``[batch channel height width]``, float64, float32, float16, bfloat16 or uint8; with ``mode="nearest"``
            also bool, int8, int16, int32 or int64, for masks and labels. Or ``[channel height width]`` with theta
            ``[2 3]``, for one image.
        theta: ``[batch 2 3]``, or ``[batch transform 2 3]`` for several transforms per image; images are not copied for
            them. Floating point, on the image's device; it is never rounded to the image's dtype.
        size: ``(h, w)`` of the output in pixels, or one number for a square.
        mode: ``"bilinear"``, ``"nearest"`` (ties go to the even pixel) or ``"bicubic"`` (cubic convolution with
            A = -0.75; it has no Triton kernel).
        padding_mode: how positions out of bounds are handled: ``"zeros"``, ``"border"`` (the nearest edge pixel),
            ``"reflection"`` (mirrored at the pixel edges, or at the pixel centers with ``align_corners=True``) or
            ``"fill"`` (``fill_value``).
        align_corners: see the convention.
        fill_value: the value out of bounds, in units of the output; only with ``padding_mode="fill"``. Like ``mean``
            and ``std``, it is one number or one per channel: a number, a sequence or a floating-point tensor on the
            image's device, which must not require grad.
        mean: subtracted from a uint8 image before it is sampled; default 0.
        std: divides a uint8 image, less its mean, before it is sampled; default 1, which leaves pixels in 0..255. Must
            not be zero. Only Python numbers are checked: checking a tensor would synchronize with the device.
        antialias: average the image over the footprint of each output pixel instead of interpolating at its center.
            The footprint is a box around the sampled position, parallel to the image's axes. Its sides are
            ``hypot(dx/dcolumn, dx/drow)`` and ``hypot(dy/dcolumn, dy/drow)`` input pixels, and at least one pixel.
            Pixels are unit squares. Without minification this is bilinear interpolation; for whole-number reductions
            it is the mean of each block. Only with ``mode="bilinear"`` and ``padding_mode="zeros"`` or ``"fill"``;
            pixels and fill values must be finite. Not on MPS.
        backend: ``"reference"`` (the definition, any device), ``"aten"`` (``F.grid_sample`` behind guards, which
            synchronize with the device), ``"triton"`` (one fused kernel on CUDA and ROCm, without a grid; only its
            inputs are kept for the backward pass) or ``"auto"``. On a GPU, ``"auto"`` is Triton, or the reference for
            bicubic and where Triton is not installed. Elsewhere, and for ``torch.onnx.export``, it is ATen; its guards
            become a part of traced graphs. For ``torch.func`` transforms and forward-mode differentiation it is the
            reference on every device.

    Returns:
        ``(batch, channel, h, w)``, or ``(batch, transform, channel, h, w)`` for several transforms, in the image's
        dtype and memory layout (contiguous or channels_last). A uint8 image gives float32. Labels are looked up and so
        are exact; where a coordinate is NaN they are ``fill_value``. ``(channel, h, w)`` for one image.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if shapes, devices, sizes or choices do not fit; the message names the argument.
        RuntimeError: for ``backend="triton"`` where Triton cannot run.

    Reference:
        Jaderberg et al., Spatial Transformer Networks, 2015, eq. (1), (3), (5): https://arxiv.org/abs/1506.02025
        Keys, Cubic convolution interpolation for digital image processing, 1981 (``"bicubic"``).
        Crow, Summed-area tables for texture mapping, 1984 (``antialias``).
    """
    call = None
    is_plain = mean is None and std is None and padding_mode != "fill" and antialias is False  # no number per channel
    if is_plain and isinstance(size, tuple):
        call = call_of(image, theta, *size, mode, padding_mode, align_corners, fill_value, backend)
        if call is not None and call.sample is not None:
            return call.sample(image, theta)

    sampling = check_sampling(mode, padding_mode, fill_value, align_corners, antialias, backend)
    _check_image_dtype(image, mode)
    check_floating("theta", theta)
    is_single = image.ndim == 3 and theta.ndim == 2
    if is_single:
        image, theta, call = image[None], theta[None], None
    _check_shapes(image, theta)
    out_size = check_size("size", size)
    fill = _per_channel("fill_value", fill_value, image) if padding_mode == "fill" else None
    constants = ChannelConstants(fill, *check_normalization(mean, std, image))
    if theta.dtype in (torch.float16, torch.bfloat16):
        theta, call = theta.float(), None

    if backend == "auto":
        backend = _fastest_backend(image, theta, mode)
    sample = aten.affine_sample_aten if backend == "aten" else affine_sample_reference
    if backend == "triton":
        from supervised_st._sampler import fused  # Imports Triton only if it is used.

        sample = fused.affine_sample_fused
    if antialias:
        check_float64("image", image)
        sampled = affine_sample_antialiased(image, theta, constants, out_size, sampling, sample=sample)
    elif image.dtype in LABEL_DTYPES:
        check_float64("image", image)
        sampled = affine_sample_labels(image, theta, fill, out_size, sampling, sample=sample)
    else:
        sampled = sample(image, theta, constants, out_size, sampling)
        if call is not None and backend != "reference":
            call.sample = (fused if backend == "triton" else aten).sampler(image, theta, out_size, sampling)
    return sampled[0] if is_single else sampled


def check_sampling(
    mode: str, padding_mode: str, fill_value: PerChannel, align_corners: bool, antialias: bool, backend: str
) -> Sampling:
    """Check the options of :func:`affine_sample` that do not depend on the image; raises as it does."""
    check_choice("mode", mode, MODES)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    check_choice("backend", backend, BACKENDS)
    check_flag("align_corners", align_corners)
    check_flag("antialias", antialias)
    if padding_mode != "fill" and (isinstance(fill_value, Tensor) or any(_numbers("fill_value", fill_value))):
        raise ValueError(f"fill_value is only for padding_mode='fill', got {fill_value!r} with {padding_mode!r}")
    if mode == "bicubic" and backend == "triton":
        raise ValueError("backend must be 'auto', 'reference' or 'aten' for mode='bicubic', got 'triton'")
    if antialias and (mode != "bilinear" or padding_mode not in ("zeros", "fill")):
        raise ValueError(
            "antialias is only for mode='bilinear' with padding_mode='zeros' or 'fill', "
            f"got mode={mode!r} with padding_mode={padding_mode!r}"
        )
    return Sampling(mode, padding_mode, align_corners)


def _check_image_dtype(image: Tensor, mode: str) -> None:
    if isinstance(image, Tensor) and image.dtype in LABEL_DTYPES and mode != "nearest":
        raise TypeError(
            f"image must be floating point or uint8 for mode={mode!r}, got {image.dtype}; "
            "pass mode='nearest' for labels, or image.float()"
        )
    check_dtype("image", image, (*IMAGE_DTYPES, *LABEL_DTYPES) if mode == "nearest" else IMAGE_DTYPES)


def _check_shapes(image: Tensor, theta: Tensor) -> None:
    sizes = check_shape("image", image, "batch channel height width")
    check_shape("theta", theta, "batch transform 2 3" if theta.ndim == 4 else "batch 2 3", batch=sizes["batch"])
    check_device("theta", theta, image)
    if image.dtype == torch.uint8:
        check_channels_first(image)  # floating point may be narrow feature maps
    if min(sizes["height"], sizes["width"]) < 1 or max(sizes["height"], sizes["width"]) > LONGEST_SIDE:
        raise ValueError(f"image must have sides of 1 to {LONGEST_SIDE} pixels, got shape {tuple(image.shape)}")


def _fastest_backend(image: Tensor, theta: Tensor, mode: str) -> Backend:
    """Return the fastest backend that supports these arguments on this device."""
    if not image.is_cuda or is_exporting_to_onnx():
        return "aten"
    has_kernel = mode != "bicubic" and _HAS_TRITON and not is_transformed(image, theta)
    return "triton" if has_kernel else "reference"


def check_normalization(
    mean: PerChannel | None, std: PerChannel | None, image: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return both, checked, as ``[channel]``, with its default for one that is not given; or None for both."""
    if mean is None and std is None:
        return None, None
    if image.dtype != torch.uint8:
        raise ValueError(f"mean and std are only for uint8 images, got them with {image.dtype}")
    mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
    if not isinstance(std, Tensor) and any(abs(number) <= _ZERO for number in _numbers("std", std)):
        raise ValueError(f"std must not be zero, got {std!r}")
    if not (isinstance(mean, Tensor) or isinstance(std, Tensor)):
        means, stds = ([abs(number) for number in _numbers(*pair)] for pair in (("mean", mean), ("std", std)))
        if max([*means, *stds], default=1) <= 1 and (max(stds, default=1) < 1 or 0 < max(means, default=0) < 1):
            raise ValueError(
                f"mean and std must be in units of 0..255, got mean={mean!r}, std={std!r}; multiply them by 255"
            )
    return _per_channel("mean", mean, image), _per_channel("std", std, image)


def _numbers(name: str, value: float | Sequence[float]) -> list[float]:
    try:
        if isinstance(value, (int, float, Real)):
            return [float(value)]
        # Adding zero fails for values that float() would accept although they are not numbers, such as "1".
        return [float(number + 0) for number in value]
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number or one per channel, got {value!r}") from None


def _per_channel(name: str, value: PerChannel, image: Tensor) -> Tensor:
    """Return ``[channel]`` on the image's device, in the dtype of its values when they are sampled."""
    is_labels = image.dtype in LABEL_DTYPES
    channels, dtype = image.shape[1], image.dtype if is_labels else torch.promote_types(image.dtype, torch.float32)
    if isinstance(value, Tensor):
        check_floating(name, value)
        check_device(name, value, image)
        if value.ndim > 1 or (value.ndim and value.shape[0] != channels):
            raise ValueError(f"{name} must have shape () or ({channels},), got {tuple(value.shape)}")
        if needs_gradient(value):
            raise ValueError(f"{name} must not require grad; pass {name}.detach()")
        return value.detach().to(dtype).expand(channels).contiguous()
    # Filled on the device: copying from the host would synchronize, and could not be captured in a CUDA graph.
    numbers = _numbers(name, value)
    if is_labels and not all(_is_label(number, dtype) for number in numbers):
        raise ValueError(f"{name} must be a label that {dtype} can hold, got {value!r}")
    largest = _LARGEST_EXACT if is_labels else torch.finfo(dtype).max
    if any(largest < abs(number) < math.inf for number in numbers):
        raise ValueError(f"{name} must be at most {largest:.3g} in magnitude, got {value!r}")
    if len(numbers) == 1:
        return image.new_full((channels,), numbers[0], dtype=dtype)
    if len(numbers) != channels:
        raise ValueError(f"{name} must be one number or one per channel ({channels}), got {len(numbers)}")
    # The empty tensor is for images without channels, because torch.cat needs at least one tensor.
    return torch.cat([image.new_empty(0, dtype=dtype), *(image.new_full((1,), n, dtype=dtype) for n in numbers)])


def _is_label(number: float, dtype: torch.dtype) -> bool:
    low, high = (0, 1) if dtype == torch.bool else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    return number.is_integer() and low <= number <= high and abs(number) <= _LARGEST_EXACT
