"""
Beyond the edge, and far away
=============================

.. currentmodule:: supervised_st

A window may leave the image, and it may be much larger than the output. ``padding_mode``
decides what is read outside. ``antialias`` averages the pixels that would otherwise be skipped.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_image

from supervised_st import affine_sample, plot
from supervised_st.geometry import window_to_theta

photo = torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0) / 255
outside = window_to_theta(torch.tensor([480, 267, 240, 240]), photo.shape[-2:])
large = window_to_theta(torch.tensor([100, 140, 280, 280]), photo.shape[-2:])

seen = {f'padding_mode="{mode}"': affine_sample(photo, outside, 240, padding_mode=mode)
        for mode in ("zeros", "border", "reflection")}  # fmt: skip
seen['"fill", fill_value=(1, 0.5, 0.05)'] = affine_sample(
    photo, outside, 240, padding_mode="fill", fill_value=(1, 0.5, 0.05)
)
seen["280 to 56 pixels, every fifth"] = affine_sample(photo, large, 56)
seen["antialias=True"] = affine_sample(photo, large, 56, antialias=True)

figure = plt.figure(figsize=(11, 5), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[5, 7])
plot.windows(photo, {"outside": outside, "large": large}, axes=left.subplots())
for panel, (name, picture) in zip(right.subplots(2, 3).flat, seen.items(), strict=True):
    panel.imshow(picture.movedim(0, -1).clamp(0, 1).numpy())
    panel.set_title(name, fontsize=10)
    panel.axis("off")
plt.show()
