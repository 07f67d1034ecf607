"""Sample half-precision images around 32,768 pixels under identity."""

import itertools

import torch

from supervised_st import affine_sample

SIZES = ((151, 217), (128, 256), (331, 99), (182, 182))

for dtype, (height, width), backend in itertools.product((torch.float16, torch.bfloat16), SIZES, ("auto", "reference")):
    name = f"{height} x {width} = {height * width} pixels, {dtype}, {backend}"
    print(name, flush=True)
    image = (torch.arange(height * width) % 61).view(1, 1, height, width).to(dtype).requires_grad_()
    theta = torch.eye(2, 3)[None].requires_grad_()
    out = affine_sample(image, theta, (height, width), backend=backend)
    grad_image, grad_theta = torch.autograd.grad(out, (image, theta), torch.ones_like(out))
    if not (out - image).abs().max() <= 0.25:
        raise SystemExit(f"{name}: values are off by {(out - image).abs().max()}")
    if not (grad_image - 1).abs().max() <= 0.01:
        raise SystemExit(f"{name}: the image's gradient is off by {(grad_image - 1).abs().max()}")
    if not grad_theta.isfinite().all():
        raise SystemExit(f"{name}: theta's gradient {grad_theta}")
