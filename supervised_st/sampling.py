"""``affine_sample``: its contract, its checks and the one choice of backend."""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from supervised_st._checks import check_choice, check_floating, check_shape, check_size
from supervised_st._reference import affine_sample_reference

MODES = ("bilinear", "nearest")
PADDING_MODES = ("zeros", "border", "reflection", "fill")
BACKENDS = ("auto", "reference", "aten", "triton")

_NEAR = 1024.0
"""Half image sizes. Maps that reach further, or are not finite, are not for ``F.grid_sample``."""


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

    Coordinates are formed in float64, so identity and whole-pixel maps return the bits of the image. Half-precision
    images are blended in float32 and rounded once. No input crashes: with zeros or fill padding an infinite coordinate
    is outside; with border it is clamped; a NaN coordinate gives NaN in its output pixel and in theta's gradient, and
    nothing to the image's gradient. Both gradients are the same bits in every run.

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
            elsewhere, and the reference for forward-mode differentiation, which the other two do not have.

    Returns:
        ``(batch, channel, h, w)`` in the image's dtype.

    Raises:
        TypeError: if an argument has the wrong type or dtype.
        ValueError: if shapes, devices, sizes or choices do not fit; the message names the argument.
        RuntimeError: if ``backend="triton"`` is asked for where Triton cannot run.

    Reference:
        Jaderberg et al., Spatial Transformer Networks, 2015, eq. (1), (3), (5): https://arxiv.org/abs/1506.02025
    """
    check_floating("image", image)
    sizes = check_shape("image", image, "batch channel height width")
    check_floating("theta", theta)
    check_shape("theta", theta, "batch 2 3", batch=sizes["batch"])
    if theta.device != image.device:
        raise ValueError(f"theta must be on the image's device {image.device}, got {theta.device}")
    if min(sizes["height"], sizes["width"]) < 1:
        raise ValueError(f"image must have at least one pixel, got shape {tuple(image.shape)}")
    size = check_size("size", size)
    check_choice("mode", mode, MODES)
    check_choice("padding_mode", padding_mode, PADDING_MODES)
    check_choice("backend", backend, BACKENDS)
    fill = _fill(fill_value, padding_mode, image)
    if theta.dtype in (torch.float16, torch.bfloat16):
        theta = theta.float()

    if backend == "auto":
        backend = _choose(image, theta)
    if backend == "triton":
        from supervised_st._fused import affine_sample_fused  # Triton is imported only when it is used.

        return affine_sample_fused(image, theta, fill, size, mode, padding_mode, align_corners)
    sample = affine_sample_reference if backend == "reference" else _affine_sample_aten
    return sample(image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners)


def _choose(image: Tensor, theta: Tensor) -> str:
    """Pick the backend that is fast on this device and can do what is asked."""
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in (image, theta)):  # type: ignore[no-untyped-call]
        return "reference"
    return "triton" if image.is_cuda and find_spec("triton") else "aten"


def _fill(fill_value: float | Sequence[float], padding_mode: str, image: Tensor) -> Tensor:
    """Return what stands outside as ``[channel]``, in the dtype that values are blended in."""
    channels = image.shape[1]
    try:
        values = [float(v) for v in fill_value] if isinstance(fill_value, Sequence) else [float(fill_value)] * channels
    except (TypeError, ValueError):
        raise TypeError(f"fill_value must be a number or one per channel, got {fill_value!r}") from None
    if len(values) != channels:
        raise ValueError(f"fill_value must be one number or one per channel ({channels}), got {len(values)}")
    if padding_mode != "fill" and any(v != 0 for v in values):
        raise ValueError(f"fill_value is only for padding_mode='fill', got {fill_value!r} with {padding_mode!r}")
    return torch.tensor(values, dtype=torch.promote_types(image.dtype, torch.float32), device=image.device)


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
    # Tracing cannot look at theta, so a traced graph gets the definition, which needs no guard. ``F.affine_grid`` has
    # its doubts about a single pixel with align_corners.
    single = align_corners and 1 in size
    if torch.compiler.is_compiling() or single or image.numel() == 0 or not _is_near(theta):
        return affine_sample_reference(
            image, theta, fill, size, mode=mode, padding_mode=padding_mode, align_corners=align_corners
        )
    values = image.to(fill.dtype)
    with torch.autocast(image.device.type, enabled=False):
        grid = F.affine_grid(theta, [*image.shape[:2], *size], align_corners=align_corners).to(values.dtype)
        if padding_mode != "fill":
            sampled = F.grid_sample(values, grid, mode=mode, padding_mode=padding_mode, align_corners=align_corners)
            return sampled.to(image.dtype)
        outside = fill[:, None, None]
        sampled = F.grid_sample(values - outside, grid, mode=mode, padding_mode="zeros", align_corners=align_corners)
        return (sampled + outside).to(image.dtype)


def _is_near(theta: Tensor) -> bool:
    """Tell whether every coordinate is finite and at most ``_NEAR`` half image sizes from the centre."""
    return bool((theta.detach().abs().sum(-1) <= _NEAR).all())
