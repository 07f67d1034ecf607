"""
Several regions, in clips
=========================

.. currentmodule:: supervised_st

Two disks move through clips. With ``regions=2`` a transformer looks at two places of each
frame, and each of them is guided on its own: the first region to the red disk, the second to
the blue one.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from supervised_st import RegressiveGuidance, SupervisedSpatialTransformer, plot
from supervised_st.geometry import window_iou, window_to_theta

torch.manual_seed(0)
FRAMES, SIDE, WINDOW = 5, 48, 16
rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
colors = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.4, 1.0]])[:, :, None, None]


def make_clips(count):
    """Return clips (N, 5, 3, 48, 48), and theta around both disks (N, 5, 2, 2, 3)."""
    start, end = (
        8 + torch.rand(2, count, 1, 2, 2) * (SIDE - 16)
    ).unbind()  # (x, y) of both disks
    centers = torch.lerp(
        start, end, torch.linspace(0, 1, FRAMES)[:, None, None]
    )  # (N, 5, 2, 2)
    x, y = centers[..., None, None].unbind(3)
    clips = 0.6 * torch.rand(count, FRAMES, 1, SIDE, SIDE).expand(-1, -1, 3, -1, -1)
    for disk in range(2):
        inside = (columns - x[:, :, disk]) ** 2 + (rows - y[:, :, disk]) ** 2 < 25
        clips = torch.where(inside[:, :, None], colors[disk], clips)
    windows = torch.cat([centers - WINDOW / 2, torch.full_like(centers, WINDOW)], -1)
    return clips, window_to_theta(windows, SIDE)


localization = nn.Sequential(
    *(nn.Conv2d(3, 16, 5, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()),
    *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU()),
)
look = SupervisedSpatialTransformer(
    localization,
    WINDOW,
    features=64,
    regions=2,
    parameterization="translation",
    scale=WINDOW / SIDE,
)
guidance = RegressiveGuidance()
optimizer = torch.optim.Adam(look.parameters(), lr=3e-3)
for _ in range(350):
    clips, targets = make_clips(8)
    loss = guidance.objective(
        look, clips, target=targets, task=lambda glimpse: glimpse.image.mean()
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guidance.step()

torch.manual_seed(3)
clips, targets = make_clips(1)
with torch.no_grad():
    glimpse = look(clips)
print(f"glimpses {tuple(glimpse.image.shape)}, theta {tuple(glimpse.theta.shape)}")
print(f"overlap with the targets {window_iou(glimpse.theta, targets).mean():.2f}")
frames = type(glimpse)(*(field[0] for field in glimpse))  # of the only clip
plot.glimpses(clips[0], frames, figure=plt.figure(figsize=(9, 5.6), layout="constrained"))
plt.show()
