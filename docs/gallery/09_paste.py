"""
A glimpse back into the frame
=============================

.. currentmodule:: supervised_st

What was computed in a glimpse goes back to its place with :func:`paste`: a mask, or here the
glimpse itself, without its face. It can be differentiated, too.
"""

import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.cbook import get_sample_data

from supervised_st import affine_sample, paste, plot
from supervised_st.geometry import Components, theta_from_components

with get_sample_data("grace_hopper.jpg") as file:
    portrait = (
        torch.tensor(plt.imread(file, "jpg")).movedim(-1, 0)[None] / 255
    )  # (1, 3, 600, 512)
components = Components(
    angle=torch.tensor(math.radians(12)),
    scale=torch.tensor([1.0, 1.0]),
    shear=torch.tensor(0.0),
    center=torch.tensor([265.0, 170.0]),
)
theta = theta_from_components(components, portrait.shape[-2:], (240, 192))[None]
glimpse = affine_sample(portrait, theta, (240, 192))
blocks = F.interpolate(F.avg_pool2d(glimpse, 12), (240, 192))
framed = paste(blocks, theta, portrait)

figure, panels = plt.subplots(1, 4, figsize=(10, 3.2), layout="constrained")
plot.windows(portrait[0], theta[0], axes=panels[0])
names = ("frame", "glimpse", "changed", "pasted")
for panel, picture, name in zip(panels, (None, glimpse, blocks, framed), names, strict=True):
    if picture is not None:
        panel.imshow(picture[0].movedim(0, -1).clamp(0, 1).numpy())
    panel.set_title(name)
    panel.axis("off")
plt.show()
