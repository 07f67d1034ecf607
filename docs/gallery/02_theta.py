"""
What theta means
================

.. currentmodule:: supervised_st

theta says for each pixel of the output where it is read in the input. Both are ``(x, y)`` in
[-1, 1], x to the right and y down. So it is a frame that is put on the image: what lies in the
frame is the output.
"""

import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_image

from supervised_st import affine_sample, plot
from supervised_st.geometry import (
    Components,
    compose,
    flip_theta,
    theta_from_components,
    window_to_theta,
)

photo = torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0) / 255  # (3, 427, 640)
image_size, size = photo.shape[-2:], (160, 240)
turned = Components(
    angle=torch.tensor(math.radians(20)),
    scale=torch.tensor([1.0, 1.0]),
    shear=torch.tensor(0.0),
    center=torch.tensor([210.0, 190.0]),
)
window = window_to_theta(torch.tensor([90, 110, 240, 160]), image_size)
thetas = {
    "the whole image": torch.tensor([[1.0, 0, 0], [0, 1, 0]]),
    "smaller diagonal: zoom in": torch.tensor([[0.4, 0, 0], [0, 0.4, 0]]),
    "last column: look right, down": torch.tensor([[0.4, 0, 0.5], [0, 0.4, 0.4]]),
    "a window in pixels": window,
    "turned by 20 degrees": theta_from_components(turned, image_size, size),
    "sheared": theta_from_components(
        turned._replace(angle=torch.tensor(0.0), shear=torch.tensor(0.5)), image_size, size
    ),
    "mirrored": compose(window, flip_theta(torch.eye(2, 3))),
    "beyond the edge": torch.tensor([[0.4, 0, 0.75], [0, 0.4, -0.2]]),
}

figure = plt.figure(figsize=(10, 7.2), layout="constrained")
for part, (name, theta) in zip(figure.subfigures(2, 4).flat, thetas.items(), strict=True):
    above, below = part.subplots(2, 1)
    plot.windows(photo, theta, axes=above)
    below.imshow(affine_sample(photo, theta, size).movedim(0, -1).numpy())
    below.axis("off")
    part.suptitle(name, fontsize=10)
plt.show()
