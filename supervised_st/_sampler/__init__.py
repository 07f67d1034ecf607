"""The sampler behind `affine_sample`: its definition, its fast paths and its kernels."""
