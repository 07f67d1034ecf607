"""
Boxes, gaze, saliency and class activations as targets
======================================================

.. currentmodule:: supervised_st

Guidance takes a theta for each image, and how much it counts. :mod:`targets` makes both from
what there is. What is missing, such as a blink in the gaze, gets confidence 0, and guidance
leaves that image out.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch import nn

from supervised_st import affine_sample, paste, plot, targets
from supervised_st.geometry import window_to_theta

torch.manual_seed(0)
photo, flower = (
    torch.tensor(load_sample_image(f"{name}.jpg")).movedim(-1, 0)[None] / 255
    for name in ("china", "flower")
)
image_size = photo.shape[-2:]  # (427, 640), of both
blossom = window_to_theta(torch.tensor([[190, 60, 290, 290]]), image_size)
head = affine_sample(flower, blossom, 96, antialias=True)
image = paste(head, window_to_theta(torch.tensor([[430, 240, 96, 96]]), image_size), photo)

# %%
# **Boxes**, of annotators or of a detector, whose scores are the confidence. Say if they are
# ``(x0, y0, x1, y1)``.

boxes = torch.tensor([[430.0, 240.0, 526.0, 336.0]])
by_box = targets.from_boxes(boxes, image_size, format="xyxy", confidence=torch.tensor([0.9]))

# %%
# **Gaze** is a point; the window around it has a size that you choose. NaN means that nobody
# looked.

gaze = torch.tensor([[470.0, 300.0]])
by_gaze = targets.from_points(gaze, image_size, (112, 112))

# %%
# **Saliency** is a map. The window of a size that holds most of it is found exactly. Here, the
# map is how much redder than blue each pixel is.

saliency = (image[:, 0] - image[:, 2]).relu()  # (1, 427, 640)
by_saliency = targets.from_map(saliency, (112, 112))

# %%
# **Class activations** need no annotation of places at all. A small network learns to tell
# pieces of both photographs apart; its scores before averaging say where the flower is. The map
# is smaller than the image, and the window's size is in cells of the map.

convolutions = nn.Conv2d(3, 16, 5, 4), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU()
network = nn.Sequential(*convolutions, nn.Conv2d(16, 2, 1))
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
label = torch.tensor([0, 1]).repeat_interleave(16)  # 1: the flower
for _ in range(100):
    anywhere = torch.rand(16, 2) * torch.tensor([640 - 64, 427 - 64])
    on_the_flower = 190 + 200 * torch.rand(16, 2)
    corner = torch.stack([anywhere, on_the_flower])
    windows = torch.cat([corner, torch.full((2, 16, 2), 64)], 2)
    pieces = affine_sample(torch.cat([photo, flower]), window_to_theta(windows, image_size), 64)
    loss = F.cross_entropy(network(pieces.flatten(0, 1)).mean((2, 3)), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    activations = network(image).softmax(1)[:, 1]  # (1, 52, 79)
by_class = targets.from_map(activations, (14, 14))

figure, panels = plt.subplots(2, 2, figsize=(8.6, 6.2), layout="constrained")
found = {
    "a box": by_box,
    "gaze": by_gaze,
    "saliency": by_saliency,
    "class activations": by_class,
}
shown = (image[0], image[0], saliency[0] / saliency.max(), activations[0])
for panel, picture, (name, target) in zip(panels.flat, shown, found.items(), strict=True):
    plot.windows(picture, target.theta, axes=panel)
    panel.set_title(name)
panels[0, 1].plot(*gaze[0], "o", color="white", markeredgecolor="black")
plt.show()

# %%
# Each of these is a target for :meth:`RegressiveGuidance.objective`. For clips and several
# regions, the same functions take more batch axes.
