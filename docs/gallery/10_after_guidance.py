"""
When guidance ends
==================

.. currentmodule:: supervised_st

When guidance ends, the classifier knows nothing yet, and its gradients are noise. At the full
rate, they drive the windows out of the image. :class:`RegressiveGuidance` therefore slows the
transformer down then. A monitor shows both.
"""

import warnings

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from supervised_st import (
    DistortionMonitor,
    HardSwitch,
    RegressiveGuidance,
    SupervisedSpatialTransformer,
    plot,
)
from supervised_st.geometry import window_to_theta

GUIDED, FREE, SIDE = 150, 100, 40
digits = torch.tensor(load_digits().images / 16).float()
labels = torch.tensor(load_digits().target)


def make_scenes(count):
    """Return noise with a digit (N, 1, 40, 40), theta of windows around digits, and labels."""
    image, which = 0.5 * torch.rand(count, 1, SIDE, SIDE), torch.randint(len(digits), (count,))
    corner = torch.randint(SIDE - 12, (count, 2))
    for scene, (x, y), digit in zip(image, corner, digits[which], strict=True):
        scene[0, y + 2 : y + 10, x + 2 : x + 10] = digit
    windows = torch.cat([corner, torch.full((count, 2), 12)], 1)
    return image, window_to_theta(windows, SIDE), labels[which]


def train(free_pace):
    """Train with guidance, then without, and return the monitor."""
    torch.manual_seed(0)
    convolutions = nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
    linear = nn.Linear(32 * 10 * 10, 64), nn.ReLU()
    localization = nn.Sequential(*convolutions, nn.Flatten(), *linear)
    look = SupervisedSpatialTransformer(localization, 12, features=64, scale=12 / SIDE)
    classify = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 10))
    guidance = RegressiveGuidance(schedule=HardSwitch(GUIDED), free_pace=free_pace)
    optimizer = torch.optim.Adam([*look.parameters(), *classify.parameters()], lr=3e-3)
    monitor = DistortionMonitor(look, make_scenes(8)[0])
    for _ in range(GUIDED + FREE):
        image, target, label = make_scenes(16)
        loss = guidance.objective(
            look,
            image,
            target=target,
            task=lambda glimpse, label=label: F.cross_entropy(classify(glimpse.image), label),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        guidance.step()
        monitor.step()
    return monitor


with warnings.catch_warnings(action="ignore"):  # it is what the second run is for
    runs = {"free_pace=0.1, the default": train(0.1), "free_pace=1": train(1.0)}
for name, monitor in runs.items():
    print(f"{name}: {monitor.describe()}\n")

# %%
# Four images, with their windows when guidance ends and 40 steps later, and how far all windows
# move from then on.

END = GUIDED // 10  # the monitor measures every ten steps
figure = plt.figure(figsize=(11, 5.4), layout="constrained")
for part, (name, monitor) in zip(figure.subfigures(2, 1), runs.items(), strict=True):
    part.suptitle(name)
    *panels, curves = part.subplots(1, 5, width_ratios=[1, 1, 1, 1, 1.8])
    for n, panel in enumerate(panels):
        windows = {"guided": monitor.thetas[END][n], "free": monitor.thetas[END + 4][n]}
        plot.windows(monitor.images[n], windows, axes=panel, legend=False)
    plot.drift(monitor, since=GUIDED, axes=curves)
names = panels[0].get_legend_handles_labels()
figure.legend(*names, loc="upper left", ncols=2, frameon=False)
plt.show()
