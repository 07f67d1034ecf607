"""Triton device code. Knows pointers and sizes, not tensors or autograd; imports nothing of ours.

One file per direction, and `coordinates`, which they share. docs/kernel.md derives what is computed here.
"""

from supervised_st._sampler.kernels.forward import forward_kernel as forward_kernel
from supervised_st._sampler.kernels.image_gradient import image_gradient_kernel as image_gradient_kernel
from supervised_st._sampler.kernels.theta_gradient import theta_gradient_kernel as theta_gradient_kernel
from supervised_st._sampler.kernels.theta_gradient import theta_reduction_kernel as theta_reduction_kernel
