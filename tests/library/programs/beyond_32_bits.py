"""Sample the last corner of an image of more than 2^31 pixels, a sparse file whose path is the argument."""

import os
import resource
import sys

import numpy as np
import torch
import torch.nn.functional as F

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when kernels are defined.
from triton.runtime import interpreter

from supervised_st import affine_sample

HEIGHT, WIDTH, h, w = 32_770, 65_536, 3, 5  # The upper left of the last four pixels is beyond element 2^31.
RUNS = (("reference", "float32"), ("aten", "float32"), ("triton", "float32"), ("triton", "float16"))

# All memory is the CPU's. Copying results back is not needed, and would touch all of the file.
interpreter.GridExecutor._restore_args_dev = lambda *arguments: None

corner = torch.randint(1, 100, (1, 1, h + 1, w + 1), generator=torch.Generator().manual_seed(0)).double()
# Halfway between the pixels of the last rows and columns: every output pixel is the mean of four.
theta = [[[w / WIDTH, 0, 1 - (w + 1) / WIDTH], [0, h / HEIGHT, 1 - (h + 1) / HEIGHT]]]
theta = torch.tensor(theta, dtype=torch.float64)
mean = F.avg_pool2d(corner, 2, stride=1)
weights = torch.arange(h * w).view(1, 1, h, w).double() % 7 - 2
across, down = corner.diff(dim=3), corner.diff(dim=2)
along_x = (across[..., :-1, :] + across[..., 1:, :]) * WIDTH / 4
along_y = (down[..., :-1] + down[..., 1:]) * HEIGHT / 4
x, y = ((2 * torch.arange(n).double() + 1) / n - 1 for n in (w, h))
slopes = torch.tensor([[[(weights * along * at).sum() for at in (x, y[:, None], 1)] for along in (along_x, along_y)]])

for backend, dtype in RUNS:
    print(f"{HEIGHT} x {WIDTH} pixels, {dtype}, {backend}", flush=True)
    image = torch.from_numpy(np.memmap(sys.argv[1], dtype, "w+", shape=(1, 1, HEIGHT, WIDTH)))
    image[..., -h - 1 :, -w - 1 :] = corner
    theta.requires_grad_(backend != "aten")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    out = affine_sample(image, theta, (h, w), backend=backend)
    # The baseline's coordinates, in float32, are off by a few thousandths of a pixel here.
    rounding = {"float16": 0.05, "float32": 2 if backend == "aten" else 1e-4}[dtype]
    torch.testing.assert_close(out.detach().double(), mean, rtol=0, atol=rounding)
    if backend != "aten":
        (got,) = torch.autograd.grad(out, theta, weights.to(out.dtype))
        torch.testing.assert_close(got, slopes, rtol=1e-5, atol=1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > 500_000 and sys.platform == "linux":  # where its unit is a kilobyte
        raise SystemExit(f"{grown} kB were taken: the image was copied")
