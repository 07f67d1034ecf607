"""Use the package as installed, where there is neither Triton nor matplotlib."""

import sys

sys.modules["triton"] = sys.modules["matplotlib"] = None  # so that importing them fails

import torch

import supervised_st

if not supervised_st.__file__.startswith(sys.prefix):
    raise SystemExit(f"another copy of the package was imported: {supervised_st.__file__}")
layer = supervised_st.SupervisedSpatialTransformer(torch.nn.Flatten(), (4, 4), features=48)
if layer(torch.rand(2, 3, 4, 4)).image.shape != (2, 3, 4, 4):
    raise SystemExit("the layer gives another shape")
