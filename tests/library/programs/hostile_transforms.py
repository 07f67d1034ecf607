"""Compare results for affine transforms that have one hostile entry with the documentation.

`documented` is that documentation in NumPy, independent of the library. It forms coordinates in float64 from theta as
theta's dtype holds it.
"""

import itertools

import numpy as np
import torch

from supervised_st._sampler.options import MODES, PADDING_MODES
from supervised_st.sampling import affine_sample
from tests.helpers.sampling import FLOATS, INF, NAN

HOSTILE = (NAN, INF, -INF, 1e20, -1e20, 2.5e38, -3.2e38, 2.0**24 + 1, 2.0**31)
RUNS = [*((dtype, "auto") for dtype in FLOATS), (torch.float32, "reference")]

SIDE, FILL, FAR = 4, 7.0, 2.0**30
PIXELS = np.arange(16.0).reshape(SIDE, SIDE)
ENDS = np.array([-0.75, -0.25, 0.25, 0.75])
"""Coordinates of the output pixels. None is zero, where a large entry would not count."""


def fold(c):
    distance = np.abs(c + 0.5)
    turns = np.floor(distance / SIDE)
    rest = distance - turns * SIDE
    return np.where(turns % 2 == 0, rest, SIDE - rest) - 0.5


def pad(c, padding):
    if padding in ("zeros", "fill"):
        return c
    return np.clip(fold(c) if padding == "reflection" else c, 0, SIDE - 1)


def near(d):
    return ((-0.75 + 2) * d - (-0.75 + 3)) * d * d + 1


def away(d):
    return (((d - 5) * d + 8) * d - 4) * -0.75


def taps(c, mode, padding):
    if mode == "nearest":
        return [(np.round(pad(c, padding)), 1.0)]
    if mode == "bilinear":
        c = pad(c, padding)
        first = np.floor(c)
        return [(first, 1 - (c - first)), (first + 1, c - first)]
    first = np.floor(c)
    f = c - first
    weights = away(f + 1), near(f), near(1 - f), away(2 - f)
    return [(pad(first + offset, padding), weight) for offset, weight in zip((-1, 0, 1, 2), weights, strict=True)]


def documented(theta, image, fill, mode, padding):
    """The documented values, and where they are undefined."""
    with np.errstate(all="ignore"):
        x, y = (((a * ENDS + b * ENDS[:, None] + t + 1) * SIDE - 1) / 2 for a, b, t in theta)
    # An infinite entry in the left two columns gives NaN everywhere, also where a partner is not of the other sign.
    undefined = np.isnan(x) | np.isnan(y) | np.isinf(theta[:, :2]).any()
    x, y = (np.clip(np.where(undefined, 0, c), -FAR, FAR) for c in (x, y))
    total = 0.0
    for (i, wi), (j, wj) in itertools.product(taps(y, mode, padding), taps(x, mode, padding)):
        in_bounds = (i >= 0) & (i < SIDE) & (j >= 0) & (j < SIDE)
        at = np.where(in_bounds, i, 0).astype(int), np.where(in_bounds, j, 0).astype(int)
        total = total + np.where(in_bounds, image[at], fill) * wi * wj
    return np.where(undefined, NAN, total), undefined


def check(what, message):
    if not what:
        raise SystemExit(message)


def check_value(value, mode, padding, dtype, backend):
    """Sample seven images: each of the first six has the value in another entry of theta, the last one has none."""
    name = f"{value} in theta, {mode}, {padding}, {dtype}, {backend}"
    print(name, flush=True)
    rounding = 16 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    image = torch.from_numpy(PIXELS).to(dtype).expand(7, 1, SIDE, SIDE).clone().requires_grad_()
    theta = torch.eye(2, 3, dtype=dtype).repeat(7, 1, 1)
    theta.view(7, 6)[range(6), range(6)] = torch.tensor(value).to(dtype)  # torch 2.6 raises for what overflows
    theta.requires_grad_()
    fill = FILL if padding == "fill" else 0.0
    out = affine_sample(image, theta, (SIDE, SIDE), mode=mode, padding_mode=padding, fill_value=fill, backend=backend)
    grad_image, grad_theta = torch.autograd.grad(out.sum(), (image, theta), materialize_grads=True)
    check((out[6] - image[6]).abs().max() <= 16 * rounding, f"{name}: the other image's value {out[6]}")
    check((grad_image[6] - 1).abs().max() <= 16 * rounding, f"{name}: the other image's gradient {grad_image[6]}")
    check(grad_theta[6].isfinite().all(), f"{name}: the other theta's gradient {grad_theta[6]}")
    for entry in range(6):
        name = f"{value} in entry {entry} of theta, {mode}, {padding}, {dtype}, {backend}"
        held = theta[entry].detach().double().numpy()
        want, undefined = documented(held, PIXELS, fill, mode, padding)
        arrived, _ = documented(held, np.ones_like(PIXELS), 0.0, mode, padding)
        got = out[entry, 0].detach().double().numpy()
        if padding == "reflection" and dtype != torch.float64 and not undefined.any():
            # Theta's own rounding is more than a pixel: it may snap to a whole-pixel shift, or be mirrored elsewhere.
            right = (got >= -4) & (got <= 19)
        else:
            right = np.isclose(got, want, rtol=rounding, atol=rounding, equal_nan=True)
        check(right.all(), f"{name}: value {got}, documented {want}")
        missed = abs(float(grad_image[entry].sum()) - float(np.nansum(arrived)))
        check(missed <= 32 * rounding, f"{name}: the image's gradient {grad_image[entry]}")
        slope = grad_theta[entry]
        if undefined.any():
            check(slope.isnan().all(), f"{name}: theta's gradient {slope} has no NaN")
            check(not undefined.all() or (grad_image[entry] == 0).all(), f"{name}: NaN reached the image's gradient")
            continue
        check(slope.isfinite().all(), f"{name}: theta's gradient {slope}")
        if padding in ("zeros", "fill"):
            check((slope == 0).all(), f"{name}: theta's gradient {slope} although all is out of bounds")
        if padding == "border":
            check((slope[entry // 3] == 0).all(), f"{name}: theta's gradient {slope} beyond the border")


if __name__ == "__main__":
    for run, *case in itertools.product(RUNS, MODES, PADDING_MODES, HOSTILE):
        mode, padding, value = case
        check_value(value, mode, padding, *run)
