"""Triton device code. Knows pointers and sizes, not tensors or autograd; imports nothing of the rest of the package.

One file per kernel; `coordinates` and `tiles`, which all of them share; and `build`, their compile-time constants. The
README of the folder above explains every argument; docs/kernel.md derives the method.
"""

from supervised_st._sampler.kernels import inverse
from supervised_st._sampler.kernels.build import Build as Build
from supervised_st._sampler.kernels.forward import forward_kernel as forward_kernel
from supervised_st._sampler.kernels.image_gradient import image_gradient_kernel as image_gradient_kernel
from supervised_st._sampler.kernels.image_search import image_search_kernel as image_search_kernel
from supervised_st._sampler.kernels.inverse import inverse_kernel as inverse_kernel
from supervised_st._sampler.kernels.theta_gradient import theta_gradient_kernel as theta_gradient_kernel
from supervised_st._sampler.kernels.theta_gradient import theta_reduction_kernel as theta_reduction_kernel

ENTRY: int = inverse.ENTRY.value
"""Numbers per transform in the table of inverses."""
