"""The backends of `affine_sample`. README.md says how to read this folder."""
