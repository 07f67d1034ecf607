"""Random and hostile calls of ``affine_sample``, each compared with its documentation in NumPy."""

from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.reliability import sampler_oracle as oracle
from benchmarks.reliability.sampler_oracle import Array, How
from supervised_st import affine_sample
from supervised_st.types import Backend

IMAGES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8)
THETAS = IMAGES[:4]
MODES = ("bilinear", "nearest", "bicubic")
PADDING_MODES = ("zeros", "border", "reflection", "fill")
LAYOUTS = ("contiguous", "channels_last", "turned", "spread", "one image", "one channel")
HOSTILE = (
    0.0, -0.0, 1.0, -1.0, 1e-8, 1e-30, 255.99, 256.0, 257.0, 1e5, 2.0**24 + 1, 2.0**31, -1e20, 2.5e38, -3.2e38,
    float("inf"), -float("inf"), float("nan"),
)  # fmt: skip
NUMBERS = (float("nan"), float("inf"), -float("inf"), 3e38, 1e-45)


class Call(NamedTuple):
    """A call of ``affine_sample``. Numbers are drawn from ``seed``, and then some are replaced."""

    backend: Backend
    seed: int
    batch: int
    transforms: int | None
    channels: int
    image_size: tuple[int, int]
    size: tuple[int, int]
    image_dtype: torch.dtype
    theta_dtype: torch.dtype
    layout: str
    how: How
    spread: float  # of theta
    entries: list[tuple[int, float]]  # of theta that are replaced, by place
    pixels: list[tuple[int, float]]  # of the image
    per_channel: bool  # constants are one number per channel


def calls(backend: Backend) -> st.SearchStrategy[Call]:
    """Draw calls of one backend."""
    modes = MODES[:2] if backend == "triton" else MODES
    plain = st.builds(How, st.sampled_from(modes), st.sampled_from(PADDING_MODES), st.booleans(), st.just(False))
    filtered = st.builds(How, st.just("bilinear"), st.sampled_from(("zeros", "fill")), st.booleans(), st.just(True))
    side, place = st.sampled_from((1, 2, 3, 4, 7)), st.integers(0, 2**16)
    return st.builds(
        Call,
        st.just(backend),
        st.integers(0, 2**32 - 1),
        st.integers(0, 3),
        st.sampled_from((None, None, None, 0, 1, 3)),
        st.sampled_from((0, 1, 2, 3, 16)),
        st.tuples(side, side),
        st.tuples(side, side),
        st.sampled_from(IMAGES),
        st.sampled_from(THETAS),
        st.sampled_from(LAYOUTS),
        st.one_of(plain, plain, plain, filtered),
        st.sampled_from((0.0, 0.1, 1.0, 3.0)),
        st.lists(st.tuples(place, st.sampled_from(HOSTILE)), max_size=2),
        st.lists(st.tuples(place, st.sampled_from(NUMBERS)), max_size=1),
        st.booleans(),
    )


def check(call: Call) -> None:
    """Raise AssertionError if values or gradients are not what is documented."""
    image, theta, constants = _arguments(call)
    is_byte = image.dtype == torch.uint8
    before = image.clone(), theta.clone()
    image.requires_grad_(not is_byte)
    theta.requires_grad_()
    out = _sample(call, image, theta, constants)
    again = _sample(call, image, theta, constants)
    assert same(out, again), "a repeated call gives other values"
    assert same(image, before[0]), "the image was changed"
    assert same(theta, before[1]), "theta was changed"
    shape = (call.batch, *(() if call.transforms is None else (call.transforms,)), call.channels, *call.size)
    assert out.shape == shape, f"shape {tuple(out.shape)}, documented {shape}"
    assert out.dtype == (torch.float32 if is_byte else image.dtype), f"dtype {out.dtype}"

    values, fill = _values(call, image, constants)
    transforms = theta.detach().double().numpy().reshape(call.batch, -1 if call.batch else call.transforms or 1, 2, 3)
    at = oracle.positions(transforms, call.image_size, call.size, call.how, _epsilon(call))
    touched = _is_touched(call, values, at)
    finite = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    want, allowed = _wanted(call, finite, transforms, at, fill)
    got = out.detach().double().numpy().reshape(want.shape)
    undefined = np.broadcast_to(at.undefined[:, :, None], want.shape)
    assert np.isnan(got[undefined & ~touched]).all(), "a NaN coordinate does not give NaN"
    known = ~undefined & ~touched
    wrong = known & ~(np.abs(got - want) <= allowed)
    assert not wrong.any(), f"values {got[wrong][:3]}, documented {want[wrong][:3]} +- {allowed[wrong][:3]}"
    _check_gradients(call, image, theta, out, bool(touched.any()))


def _check_gradients(call: Call, image: Tensor, theta: Tensor, out: Tensor, is_touched: bool) -> None:
    inputs = [it for it in (image, theta) if it.requires_grad]
    g = torch.Generator().manual_seed(call.seed)
    weights = (torch.randint(-16, 17, out.shape, generator=g) / 16).to(out.dtype)
    found = torch.autograd.grad(out, inputs, weights, materialize_grads=True)
    is_defined = bool(theta.isfinite().all())
    if is_defined and not is_touched:
        assert found[-1].isfinite().all(), f"the gradient to theta is {found[-1]}"
    if not image.requires_grad or call.how.antialias:
        return
    assert found[0].isfinite().all(), "the gradient to the image is not finite"
    if is_defined and not is_touched and call.how.padding_mode != "fill":
        # The sampler is linear in the image, and the gradient is its adjoint.
        wide = image.detach().double().nan_to_num(0, 0, 0)
        left, right = (weights.double() * out.detach().double()).sum(), (found[0].double() * wide).sum()
        largest = max(1.0, float(wide.abs().max())) if wide.numel() else 1.0
        scale = largest * 4 * (float(weights.double().abs().sum()) + float(found[0].double().abs().sum()) + 1)
        rounding = torch.finfo(out.dtype).eps if out.dtype != torch.float64 else torch.finfo(torch.float32).eps
        assert abs(left - right) <= scale * rounding, f"<g, S v> = {left}, <S* g, v> = {right}"


def _arguments(call: Call) -> tuple[Tensor, Tensor, dict[str, Any]]:
    g = torch.Generator().manual_seed(call.seed)
    shape = (call.batch, call.channels, *call.image_size)
    if call.image_dtype == torch.uint8:
        image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=g)
    else:
        image = torch.randn(shape, generator=g)
        for place, number in call.pixels if image.numel() else ():
            image.view(-1)[place % image.numel()] = number
        image = image.to(call.image_dtype)
    transforms = () if call.transforms is None else (call.transforms,)
    theta = torch.eye(2, 3) + call.spread * torch.randn(call.batch, *transforms, 2, 3, generator=g)
    for place, entry in call.entries if theta.numel() else ():
        theta.view(-1)[place % theta.numel()] = entry

    def constant(low: float, high: float) -> float | list[float]:
        drawn: list[float] = (torch.rand(call.channels, generator=g) * (high - low) + low).tolist()
        return drawn if call.per_channel and call.channels != 1 else (drawn or [low])[0]

    constants = {"fill_value": constant(-2, 2)} if call.how.padding_mode == "fill" else {}
    if call.image_dtype == torch.uint8 and call.seed % 2:
        constants |= {"mean": constant(100, 150), "std": constant(20, 80)}
    return _laid_out(image, call.layout), theta.to(call.theta_dtype), constants


def _laid_out(image: Tensor, layout: str) -> Tensor:
    """Return an image in a memory layout. Where there is other memory between its pixels, that is NaN, or 255."""
    other = float("nan") if image.is_floating_point() else 255
    if layout == "channels_last":
        return image.contiguous(memory_format=torch.channels_last)
    if layout == "turned":
        return image.mT.contiguous().mT
    if layout == "spread":
        around = torch.full([2 * n + 2 for n in image.shape], other, dtype=image.dtype)
        inside = around[tuple(slice(1, 2 * n, 2) for n in image.shape)]
        return inside.copy_(image).detach()
    if layout == "one image":
        return image[:1].expand(image.shape) if len(image) else image
    if layout == "one channel":
        return image[:, :1].expand(image.shape) if image.shape[1] else image
    return image


def _sample(call: Call, image: Tensor, theta: Tensor, constants: dict[str, Any]) -> Tensor:
    return affine_sample(image, theta, call.size, **call.how._asdict(), **constants, backend=call.backend)


def _values(call: Call, image: Tensor, constants: dict[str, Any]) -> tuple[Array, Array]:
    """Return the pixels and the fill, ``[channel]``, in units of the output."""
    mean, std, fill = (
        torch.tensor(constants.get(name, default), dtype=torch.float32).expand(call.channels).double().numpy()
        for name, default in (("mean", 0.0), ("std", 1.0), ("fill_value", 0.0))
    )
    pixels = image.detach().double().numpy()
    return ((pixels - mean[:, None, None]) / std[:, None, None] if "mean" in constants else pixels), fill


def _epsilon(call: Call) -> float:
    """Return the rounding of coordinates: float64 where theta has it, but not ATen's for other images."""
    exact = call.theta_dtype == torch.float64 and (call.image_dtype == torch.float64 or call.backend == "reference")
    return 8 * float(np.finfo(np.float64 if exact else np.float32).eps)


def _wanted(call: Call, values: Array, theta: Array, at: oracle.Positions, fill: Array) -> tuple[Array, Array]:
    """Return the documented values, and how far results may be off."""
    if call.how.antialias:
        want = oracle.averages(values, theta, at, fill, call.size, call.how.align_corners)
    else:
        want = oracle.sample(values, at, fill, call.how)
    constant = max(0.0, float(np.abs(fill).max())) if fill.size else 0.0
    largest = max(float(np.abs(values).max()) if values.size else 0.0, constant)
    dtype = torch.float32 if call.image_dtype == torch.uint8 else call.image_dtype
    rounding = 8 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps if dtype != torch.float64 else 0) + 1e-12
    off = at.x_error + at.y_error
    if call.how.mode == "nearest":
        ties = [np.abs(c - np.floor(c) - 0.5) <= error for c, error in ((at.x, at.x_error), (at.y, at.y_error))]
        far = [np.abs(c) + error > oracle.FAR / 2 for c, error in ((at.x, at.x_error), (at.y, at.y_error))]
        off = np.where(np.logical_or.reduce([*ties, *far]), 1.0, np.minimum(off, 0.0))
    off = np.where(at.undefined, 0, off).clip(0, 1)
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # number; all others are multiples of it
    allowed = largest * (6 * off + rounding) + smallest
    return want, np.broadcast_to(allowed[:, :, None], want.shape)


def _is_touched(call: Call, values: Array, at: oracle.Positions) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which outputs may depend on a pixel that is not finite, or so large that sums overflow."""
    unusual = ~np.isfinite(values) | (np.abs(values) > 1e30)
    shape = (*at.x.shape[:2], values.shape[1], *at.x.shape[2:])
    if not unusual.any():
        return np.zeros(shape, bool)
    return np.broadcast_to(unusual.max((2, 3), keepdims=True)[:, None], shape)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have the same numbers, NaN in the same places."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())
