"""``affine_sample``: its contract, its checks and the one choice of backend."""

from collections.abc import Sequence
from importlib.util import find_spec
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from supervised_st._checks import (
    LONGEST_SIDE,
    check_choice,
    check_device,
    check_dtype,
    check_flag,
    check_floating,
    check_shape,
    check_size,
)
from supervised_st._sampler.antialias import footprints, outside_share, summed_area_table
from supervised_st._sampler.aten import affine_sample_aten
from supervised_st._sampler.reference import (
    IMAGE_DTYPES,
    MODES,
    PADDING_MODES,
    affine_sample_reference,
    is_transformed,
    lay_out,
    normalize,
    pixel_map,
    wants_derivative,
)

BACKENDS = ("auto", "reference", "aten", "triton")

_HAS_TRITON = find_spec("triton") is not None
"""Found out here, since compilers cannot look into it where it is used."""

PerChannel = float | Sequence[float] | Tensor
"""One number, or one per channel."""


def affine_sample(
    image: Tensor,
    theta: Tensor,
    size: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill_value: PerChannel = 0.0,
    mean: PerChannel | None = None,
    std: PerChannel | None = None,
    antialias: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Sample each image where its affine maps send the pixels of the output.

    Convention:
        ``theta`` maps *output* to *input* coordinates. Both are ``(x, y)`` in ``[-1, 1]``, measured between the outer
        pixel **edges** (``align_corners=False``) or between the outer pixel **centers** (``align_corners=True``).

    No input crashes: with zeros or fill padding an infinite coordinate is outside; with border it is clamped; a NaN
    coordinate gives NaN in its output pixel and in theta's gradient, and nothing to the image's gradient.
    Half-precision images are blended in float32 and rounded once.

    The backend ``"reference"`` forms coordinates in float64; ``"triton"`` forms the map to pixels in float64 and rounds
    coordinates to 2^-24 pixel, but for float64 images. Both return the bits of the image for identity and whole-pixel
    maps; ``"aten"`` is about as exact as ``F.affine_grid`` and ``F.grid_sample``. First derivatives by ``"triton"``,
    and by all backends on a CPU, are the same bits in every run.

    Args:
        image: ``[batch channel height width]``, float64, float32, float16, bfloat16 or uint8.
        theta: ``[batch 2 3]``, or ``[batch map 2 3]`` for several maps of each image, which is not copied for them.
            Floating point, on the image's device; it is never narrowed to the image's dtype.
        size: ``(h, w)`` of the output in pixels.
        mode: ``"bilinear"``, ``"nearest"`` (halves go to the even pixel) or ``"bicubic"`` (cubic convolution with
            A = -0.75; it has no Triton kernel).
        padding_mode: what stands outside of the image: ``"zeros"``, ``"border"`` (the nearest edge pixel),
            ``"reflection"`` (mirrored at the pixel edges, or at the pixel centers with ``align_corners=True``) or
            ``"fill"`` (``fill_value``).
        align_corners: see the convention.
        fill_value: in units of the output; only with ``padding_mode="fill"``. As ``mean`` and ``std``, it is one number
            or one per channel, in a sequence or in a floating-point tensor on the image's device, which must not want a
            gradient, for it gets none.
        mean: subtracted from a uint8 image before it is sampled; 0 by default.
        std: divides a uint8 image, less its mean, before it is sampled; 1 by default, which leaves pixels in 0..255.
            Not zero, which is checked in numbers, and not in tensors, for which it would have to wait.
        antialias: average the image over the footprint of each output pixel, instead of interpolating at its center:
            over a box with the sides of the image as its axes, centered there, whose sides are what one step in the
            output covers, ``hypot(dx/dcolumn, dx/drow)`` and ``hypot(dy/dcolumn, dy/drow)`` in input pixels, and
            at least one pixel. Pixels are unit squares. That is bilinear interpolation where nothing is minified, and
            the mean of each block where an image is shrunk by whole factors. Only with ``mode="bilinear"`` and what is
            outside in zeros or fill; pixels and fill values must be finite.
        backend: ``"reference"`` (the definition, any device), ``"aten"`` (``F.grid_sample`` behind guards, which wait
            for the device), ``"triton"`` (one fused kernel on CUDA and ROCm, which makes no grid and keeps only its
            inputs for the backward pass) or ``"auto"``: Triton on the GPU, ATen elsewhere, and the reference for what
            those two do not have: bicubic on the GPU, and all else where Triton is not installed there, ``torch.func``
            transforms and forward-mode differentiation, what ``torch.onnx.export`` traces, and graphs traced on a CPU,
            in which ATen's guards could not see theta.

    Returns:
        ``(batch, channel, h, w)``, or ``(batch, map, channel, h, w)`` if theta has several maps; in the image's dtype
        and memory layout (contiguous, or channels innermost). A uint8 image gives float32.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if shapes, devices, sizes or choices do not fit; the message names the argument.
        RuntimeError: if ``backend="triton"`` is asked for where Triton cannot run.

    Reference:
        Jaderberg et al., Spatial Transformer Networks, 2015, eq. (1), (3), (5): https://arxiv.org/abs/1506.02025
        Keys, Cubic convolution interpolation for digital image processing, 1981 (``"bicubic"``).
        Crow, Summed-area tables for texture mapping, 1984 (``antialias``).
    """
    check_sampling(mode, padding_mode, fill_value, align_corners, antialias, backend)
    _check_tensors(image, theta)
    size = check_size("size", size)
    fill = _per_channel("fill_value", fill_value, image) if padding_mode == "fill" else None
    mean, std = _normalization(mean, std, image)
    if theta.dtype in (torch.float16, torch.bfloat16):
        theta = theta.float()

    if backend == "auto":
        backend = _choose(image, theta, mode)
    if backend != "triton" or antialias:  # The kernels normalize what they read.
        image, mean, std = normalize(image, mean, std), None, None
    if antialias:
        return _area_sample(image, theta, fill, size, align_corners=align_corners, backend=backend)
    return _sample(
        image, theta, fill, mean, std, size,
        mode=mode, padding_mode=padding_mode, align_corners=align_corners, backend=backend,
    )  # fmt: skip


def check_sampling(
    mode: str, padding_mode: str, fill_value: PerChannel, align_corners: bool, antialias: bool, backend: str
) -> None:
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


def _check_tensors(image: Tensor, theta: Tensor) -> None:
    check_dtype("image", image, IMAGE_DTYPES)
    sizes = check_shape("image", image, "batch channel height width")
    check_floating("theta", theta)
    check_shape("theta", theta, "batch map 2 3" if theta.ndim == 4 else "batch 2 3", batch=sizes["batch"])
    check_device("theta", theta, image)
    if min(sizes["height"], sizes["width"]) < 1 or max(sizes["height"], sizes["width"]) > LONGEST_SIDE:
        raise ValueError(f"image must have sides of 1 to {LONGEST_SIDE} pixels, got shape {tuple(image.shape)}")


def _numbers(name: str, value: float | Sequence[float]) -> list[float]:
    if isinstance(value, (int, float, Real)):
        return [float(value)]
    try:
        # Adding zero refuses what only looks like a number: the characters of a string.
        return [float(number + 0) for number in value]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or one per channel, got {value!r}") from None


def _per_channel(name: str, value: PerChannel, image: Tensor) -> Tensor:
    """Return ``[channel]`` on the image's device, in the dtype that its values are blended in."""
    channels, dtype = image.shape[1], torch.promote_types(image.dtype, torch.float32)
    if isinstance(value, Tensor):
        check_floating(name, value)
        check_device(name, value, image)
        if value.shape not in ((), (channels,)):
            raise ValueError(f"{name} must have shape () or (channel) = ({channels},), got {tuple(value.shape)}")
        if wants_derivative(value):
            raise ValueError(f"{name} is a constant and gets no gradient, got one that wants one: pass {name}.detach()")
        return value.detach().to(dtype).expand(channels).contiguous()
    # Filled on the device: a copy from the host would wait for it and could not be captured in a CUDA graph.
    numbers = _numbers(name, value)
    if len(numbers) == 1:
        return image.new_full((channels,), numbers[0], dtype=dtype)
    if len(numbers) != channels:
        raise ValueError(f"{name} must be one number or one per channel ({channels}), got {len(numbers)}")
    # An image without channels has no constants either, and nothing cannot be stacked.
    return torch.cat([image.new_empty(0, dtype=dtype), *(image.new_full((1,), n, dtype=dtype) for n in numbers)])


def _normalization(
    mean: PerChannel | None, std: PerChannel | None, image: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return both as ``[channel]``, or neither, which stands for 0 and 1."""
    if mean is None and std is None:
        return None, None
    if image.dtype != torch.uint8:
        raise ValueError(f"mean and std are only for uint8 images, got them with {image.dtype}")
    if std is not None and not isinstance(std, Tensor) and 0 in np.asarray(_numbers("std", std), np.float32):
        raise ValueError(f"std must not be zero, got {std!r}")
    return (
        _per_channel("mean", 0.0 if mean is None else mean, image),
        _per_channel("std", 1.0 if std is None else std, image),
    )


def _choose(image: Tensor, theta: Tensor, mode: str) -> str:
    """Pick the backend that is fast on this device and can do what is asked."""
    if is_transformed(image, theta):
        return "reference"
    if image.is_cuda:
        has_kernel = mode != "bicubic" and _HAS_TRITON and not _is_for_onnx()
        return "triton" if has_kernel else "reference"
    return "aten"


def _is_for_onnx() -> bool:
    """Tell whether a graph is being made in which there is no operator for the kernels."""
    is_traced = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return is_traced and torch.onnx.is_in_onnx_export()  # which takes longer


def _sample(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    mean: Tensor | None,
    std: Tensor | None,
    size: tuple[int, int],
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
    backend: str,
) -> Tensor:
    """Sample ``[batch channel H W]`` by ``[batch [map] 2 3]`` to ``(batch, [map,] channel, h, w)``."""
    if backend == "triton":
        from supervised_st._sampler.fused import affine_sample_fused  # Triton is imported only when it is used.

        return affine_sample_fused(image, theta, fill, mean, std, size, mode, padding_mode, align_corners)
    sample = affine_sample_reference if backend == "reference" else affine_sample_aten
    return sample(image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def _area_sample(
    image: Tensor, theta: Tensor, fill: Tensor | None, size: tuple[int, int], *, align_corners: bool, backend: str
) -> Tensor:
    """Average over footprints: what is outside counts as zero, and as much of the fill is added as lies there."""
    table = summed_area_table(image)
    maps = theta if theta.ndim == 4 else theta[:, None]
    image_size = (image.shape[2], image.shape[3])
    pixel = pixel_map(maps, image_size, size, align_corners=align_corners)
    corners, areas = footprints(pixel, image_size, size)
    sums = _sample(
        table, corners.flatten(1, 2), None, None, None, size,
        mode="bilinear", padding_mode="border", align_corners=False, backend=backend,
    )  # fmt: skip
    upper_left, upper_right, lower_left, lower_right = sums.view(*maps.shape[:2], 4, *sums.shape[2:]).unbind(2)
    averages = ((lower_right - lower_left) - (upper_right - upper_left)) / areas[..., None, None, None]
    if fill is not None:
        share = outside_share(pixel, image_size, size)[:, :, None]
        # Where nothing is outside, the fill does not count, even if it is infinite.
        averages = averages + torch.where(share > 0, share * fill.double()[:, None, None], 0.0)
    sampled = lay_out(averages.to(image.dtype).transpose(1, 2), image)
    return sampled if theta.ndim == 4 else sampled.squeeze(1)
