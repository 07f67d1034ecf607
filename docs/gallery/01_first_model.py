"""
A first model
=============

.. currentmodule:: supervised_st

Each photograph has a plate with a digit somewhere. A network is to read the digit, so it has to
find the plate first. Its transformer is guided by the plates' boxes, for 200 steps. Then
guidance ends, and only the labels count.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

from supervised_st import (
    HardSwitch,
    RegressiveGuidance,
    SupervisedSpatialTransformer,
    affine_sample,
    paste,
    plot,
)
from supervised_st.geometry import window_iou, window_to_theta

torch.manual_seed(0)
photo = torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0)[None] / 255
photo = F.avg_pool2d(photo, 2)  # (1, 3, 213, 320)
digits = torch.tensor(load_digits().images).float()[:, None] / 16
labels = torch.tensor(load_digits().target)


def make_scenes(count, first, last):
    """Return photographs (N, 3, 64, 64), the plates' (x0, y0, width, height), and labels."""
    which = torch.randint(first, last, (count,))
    corner = (torch.rand(count, 2) * torch.tensor([320 - 64, 213 - 64])).long()
    views = torch.cat([corner, torch.full((count, 2), 64)], 1)
    background = affine_sample(photo, window_to_theta(views, photo.shape[-2:])[None], 64)[0]
    boxes = torch.cat([torch.randint(64 - 20, (count, 2)), torch.full((count, 2), 20)], 1)
    plates = digits[which].expand(-1, 3, -1, -1)
    return paste(plates, window_to_theta(boxes, 64), background), boxes, labels[which]


def convolution(channels, filters, stride):
    """Return a 3 x 3 convolution with ReLU."""
    return nn.Sequential(nn.Conv2d(channels, filters, 3, stride, padding=1), nn.ReLU())


# %%
# The localization network decides on the whole image. The classifier sees only the window, 16 x
# 16 pixels.

localization = nn.Sequential(
    convolution(3, 16, 2), convolution(16, 32, 2), convolution(32, 32, 2), nn.Flatten()
)
look = SupervisedSpatialTransformer(localization, 16, features=32 * 8 * 8, scale=20 / 64)
classify = nn.Sequential(
    convolution(3, 16, 1), convolution(16, 32, 2), nn.Flatten(), nn.Linear(32 * 8 * 8, 10)
)
guidance = RegressiveGuidance(schedule=HardSwitch(200))
optimizer = torch.optim.Adam([*look.parameters(), *classify.parameters()], lr=3e-3)

# %%
# One call gives the loss in both phases. Guidance computes no label loss, and afterward no
# target is needed.

scenes, boxes, answers = make_scenes(256, 1400, 1797)  # digits that training never sees
found = {}
for step in range(501):
    if step in (0, 200, 500):
        with torch.no_grad():
            found[step] = look(scenes)
            right = (classify(found[step].image).argmax(1) == answers).float().mean()
        overlap = window_iou(found[step].theta, window_to_theta(boxes, 64)).mean()
        print(f"step {step:3}: overlap {overlap:.2f}, {right:.0%} of the digits are read")
    images, targets, numbers = make_scenes(32, 0, 1400)
    loss = guidance.objective(
        look,
        images,
        target=window_to_theta(targets, 64),
        task=lambda glimpse, numbers=numbers: F.cross_entropy(classify(glimpse.image), numbers),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guidance.step()

# %%
# Where the transformer looks at the start, when guidance ends, and at the end; below, what the
# classifier sees then.

figure, panels = plt.subplots(2, 4, figsize=(9, 5), layout="constrained")
for n, (panel, below) in enumerate(zip(*panels, strict=True)):
    names = {"start": found[0], "guided": found[200], "free": found[500]}
    windows = {name: glimpse.theta[n] for name, glimpse in names.items()}
    plot.windows(scenes[n], windows, axes=panel, legend=False)
    below.imshow(found[500].image[n].movedim(0, -1).clamp(0, 1).numpy())
    below.axis("off")
names = panel.get_legend_handles_labels()
figure.legend(*names, loc="outside upper left", ncols=3, frameon=False)
plt.show()

# %%
# Everything is trained at one rate. Once guidance has ended, :class:`RegressiveGuidance` slows
# the transformer down, so that its windows stay where guidance brought them; see
# :doc:`/attention`. How to guide with something else than boxes: :doc:`04_targets`. Which kinds
# of windows there are: :doc:`/howto/parameterization`.
