"""Sample where Triton cannot be imported."""

import sys

sys.modules["triton"] = None  # The package must not import it before this line, so this comes first.

import torch

from supervised_st import affine_sample

image, theta = torch.randn(1, 1, 4, 4), torch.eye(2, 3)[None]
torch.testing.assert_close(affine_sample(image, theta, (4, 4)), image, rtol=0, atol=1e-5)
