"""The types of arguments, for annotations: sizes, scales, constants per channel, and the names of every choice."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

Size = int | Sequence[int]
"""``(height, width)`` in pixels, or one number for a square."""

Scale = float | tuple[float, float]
"""Sides of a window as fractions of the image's sides: ``(along height, along width)``, or one for both."""

PerChannel = float | Sequence[float] | Tensor
"""One number, or one per channel."""

Mode = Literal["bilinear", "nearest", "bicubic"]
"""How pixels are interpolated; see `supervised_st.affine_sample`."""

PaddingMode = Literal["zeros", "border", "reflection", "fill"]
"""How positions out of bounds are handled; see `supervised_st.affine_sample`."""

Backend = Literal["auto", "reference", "aten", "triton"]
"""What samples; see `supervised_st.affine_sample`."""

Parameterization = Literal["affine", "similarity", "crop4", "crop3", "translation"]
"""What a localization head predicts; see `supervised_st.geometry.theta_from_parameters`."""

HeadInit = Literal["level", "identity", "gaussian"]
"""How the head starts; see `supervised_st.SupervisedSpatialTransformer`."""

Loss = Literal["l1", "corner_l1", "grid_mse"]
"""The losses of `supervised_st.RegressiveGuidance`."""

WindowFormat = Literal["xywh", "xyxy"]
"""What the four numbers of a window are; see `supervised_st.geometry.window_to_theta`."""

Direction = Literal["image_to_glimpse", "glimpse_to_image"]
"""Which pixels a matrix starts from; see `supervised_st.geometry.matrix_to_theta`."""
