"""Compare the kernels with the reference where two output pixels are millions of input pixels apart."""

from contextlib import nullcontext

import torch

from supervised_st import affine_sample
from tests.helpers.interpreter import patched_once

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def compare(step):
    print(f"{step * 256:.0f} pixels from one output pixel to the next", flush=True)
    image = torch.ones(1, 1, 8, 512, device=DEVICE, requires_grad=True)
    theta = torch.tensor([[[step, 0, step / 2 - 0.9], [0, 0.01, 0]]], device=DEVICE, requires_grad=True)
    results = []
    for backend in ("triton", "reference"):
        out = affine_sample(image, theta, (1, 2), backend=backend)
        results.append((out.detach(), *torch.autograd.grad(out.sum(), (image, theta))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


with nullcontext() if DEVICE == "cuda" else patched_once():
    for step in (541200.5625, *(2.0**n for n in range(12, 24))):
        compare(step)
