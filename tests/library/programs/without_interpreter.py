"""Ask for kernels on a CPU without the interpreter. That must fail with an error that says what is missing."""

import os

import torch

os.environ.pop("TRITON_INTERPRET", None)  # Triton reads it when kernels are defined.
from supervised_st import affine_sample

try:
    affine_sample(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 3), (2, 2), backend="triton")
except RuntimeError as error:
    if "needs an image on a CUDA or ROCm device, got one on cpu" not in str(error):
        raise SystemExit(f"another error: {error}") from error
else:
    raise SystemExit("no error")
