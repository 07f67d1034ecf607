"""``affine_sample``: its contract, its checks and the one choice of backend."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from supervised_st._checks import check_choice, check_floating, check_shape, check_size
from supervised_st._reference import affine_sample_reference

MODES = ("bilinear", "nearest")
PADDING_MODES = ("zeros", "border", "reflection", "fill")
BACKENDS = ("auto", "reference", "aten", "triton")

_NEAR = 1024.0
"""Half image sizes. Maps that reach further, or are not finite, are not for ``F.grid_sample``."""

_LARGEST_FILL = 256.0
"""Larger fill values would cost the image digits on the way through ``F.grid_sample``."""


def affine_sample(
    image: Tensor,
    theta: Tensor,
    size: tuple[int, int],
    *,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool = False,
    fill_value: float | Sequence[float] = 0.0,
    backend: str = "auto",
) -> Tensor:
    """Sample each image where its affine map sends the pixels of the output; no grid is kept in memory.

    Convention:
        ``theta`` maps *output* to *input* coordinates. Both are ``(x, y)`` in ``[-1, 1]``, measured between the outer
        pixel **edges** (``align_corners=False``) or between the outer pixel **centres** (``align_corners=True``).

    No input crashes: with zeros or fill padding an infinite coordinate is outside; with border it is clamped; a NaN
    coordinate gives NaN in its output pixel and in theta's gradient, and nothing to the image's gradient.
    Half-precision images are blended in float32 and rounded once.

    The backends ``"reference"`` and ``"triton"`` form coordinates in float64, so identity and whole-pixel maps return
    the bits of the image; ``"aten"`` is as exact as ``F.affine_grid`` and ``F.grid_sample``. First derivatives by
    ``"triton"``, and by all backends on a CPU, are the same bits in every run.

    Args:
        image: ``[batch channel height width]``, float64, float32, float16 or bfloat16.
        theta: ``[batch 2 3]``, floating point, on the image's device; it is never narrowed to the image's dtype.
        size: ``(h, w)`` of the output in pixels.
        mode: ``"bilinear"`` or ``"nearest"`` (halves go to the even pixel).
        padding_mode: what stands outside of the image: ``"zeros"``, ``"border"`` (the nearest edge pixel),
            ``"reflection"`` (mirrored at the pixel edges, or at the pixel centres with ``align_corners=True``) or
            ``"fill"`` (``fill_value``).
        align_corners: see the convention.
        fill_value: one number, or one per channel; only with ``padding_mode="fill"``.
        backend: ``"reference"`` (the definition, any device), ``"aten"`` (``F.affine_grid`` and ``F.grid_sample``
            behind guards), ``"triton"`` (one fused kernel on CUDA and ROCm) or ``"auto"``: Triton on the GPU, ATen
            elsewhere, and the reference under ``torch.func`` transforms and forward-mode differentiation, which the
            other two do not have, and for graphs traced on a CPU, in which ATen's guards could not look at theta.

    Returns:
        ``(batch, channel, h, w)`` in the image's dtype.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if shapes, devices, sizes or choices do not fit; the message names the argument.
        RuntimeError: if ``backend="triton"`` is asked for where Triton cannot run.

    Reference:
        Jaderberg et al., Spatial Transformer Networks, 2015, eq. (1), (3), (5): https://arxiv.org/abs/1506.02025
    """
    check_sampling(mode, padding_mode, fill_value, backend)
    check_floating("image", image)
    sizes = check_shape("image", image, "batch channel height width")
    check_floating("theta", theta)
    check_shape("theta", theta, "batch 2 3", batch=sizes["batch"])
    if theta.device != image.device:
        raise ValueError(f"theta must be on the image's device {image.device}, got {theta.device}")
    if min(sizes["height"], sizes["width"]) < 1:
        raise ValueError(f"image must have at least one pixel, got shape {tuple(image.shape)}")
    size = check_size("size", size)
    align_corners = bool(align_corners)
    fill = _fill(fill_value, image)
    if theta.dtype in (torch.float16, torch.bfloat16):
        theta = theta.float()

    if backend == "auto":
        backend = _choose(image, theta)
    if backend == "triton":
        from supervised_st._fused import affine_sample_fused  # Triton is imported only when it is used.

        return affine_sample_fused(image, theta, fill, size, mode, padding_mode, align_corners)
    sample = affine_sample_reference if backend == "reference" else _affine_sample_aten
    return sample(image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def check_sampling(mode: str, padding_mode: str, fill_value: float | Sequence[float], backend: str) -> None:
    """Check the options of :func:`affine_sample` that do not depend on the image; raises as it does."""
    check_choice("mode", mode, MODES)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    check_choice("backend", backend, BACKENDS)
    if padding_mode != "fill" and any(value != 0 for value in _numbers(fill_value)):
        raise ValueError(f"fill_value is only for padding_mode='fill', got {fill_value!r} with {padding_mode!r}")


def _choose(image: Tensor, theta: Tensor) -> str:
    """Pick the backend that is fast on this device and can do what is asked."""
    forward_mode = any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in (image, theta))  # type: ignore[no-untyped-call]
    if forward_mode or torch._C._are_functorch_transforms_active():
        return "reference"
    return "triton" if image.is_cuda and find_spec("triton") else "aten"


def _numbers(fill_value: float | Sequence[float]) -> list[float]:
    if isinstance(fill_value, (int, float)):
        return [float(fill_value)]
    try:
        # Adding zero refuses what only looks like a number: the characters of a string.
        return [float(value + 0) for value in fill_value]
    except (TypeError, ValueError):
        raise TypeError(f"fill_value must be a number or one per channel, got {fill_value!r}") from None


def _fill(fill_value: float | Sequence[float], image: Tensor) -> Tensor:
    """Return what stands outside as ``[channel]``, in the dtype that values are blended in."""
    channels, values = image.shape[1], _numbers(fill_value)
    # Filled on the device: a copy from the host would wait for it and could not be captured in a CUDA graph.
    blended_in = image.new_empty(0, dtype=torch.promote_types(image.dtype, torch.float32))
    if len(values) == 1:
        return blended_in.new_full((channels,), values[0])
    if len(values) != channels:
        raise ValueError(f"fill_value must be one number or one per channel ({channels}), got {len(values)}")
    return torch.stack([blended_in.new_full((), value) for value in values])


def _affine_sample_aten(
    image: Tensor,
    theta: Tensor,
    fill: Tensor,
    size: tuple[int, int],
    *,
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Tensor:
    """The usual pair, behind guards.

    ``F.grid_sample`` on a CPU reads and writes foreign memory for half-precision images above 32,768 pixels and for
    coordinates that are not finite (https://github.com/pytorch/pytorch/issues/24823), so neither ever reaches it.
    """
    if not (_is_tame(theta, fill) and image.numel()) or (
        align_corners and 1 in size
    ):  # F.affine_grid doubts the latter
        return affine_sample_reference(
            image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )
    values = image.to(fill.dtype)
    with torch.autocast(image.device.type, enabled=False):
        theta = theta.to(torch.promote_types(theta.dtype, values.dtype))
        grid = F.affine_grid(theta, [*image.shape[:2], *size], align_corners=align_corners).to(values.dtype)
        if padding_mode != "fill":
            sampled = F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
            return sampled.to(image.dtype)
        outside = fill[:, None, None]
        sampled = F.grid_sample(values - outside, grid, mode=mode, padding_mode="zeros", align_corners=align_corners)
        return (sampled + outside).to(image.dtype)


def _is_tame(theta: Tensor, fill: Tensor) -> bool:
    """Tell whether the usual pair can be trusted with these numbers; where they cannot be seen, it is not.

    Every coordinate must be finite and at most ``_NEAR`` half image sizes from the centre. The fill is subtracted from
    the image and added again, so it must be of the size of a pixel's value.
    """
    if torch.compiler.is_compiling() or theta.is_meta or isinstance(theta, FakeTensor):
        return False
    return bool((theta.detach().abs().sum(-1) <= _NEAR).all() and (fill.abs() <= _LARGEST_FILL).all())
