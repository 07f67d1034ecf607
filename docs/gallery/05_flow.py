"""
From optical flow to windows
============================

.. currentmodule:: supervised_st

A flower is carried through a picture. The flow between frames shows where it is, and the window
with the most motion is the target for guidance. Flow is computed once, stored as bytes, and
searched when it is needed.
"""

from itertools import pairwise

import cv2
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_sample_image

from supervised_st import MotionWindowTarget, affine_sample, paste, plot
from supervised_st.geometry import window_to_theta
from supervised_st.motion import motion_map

still, flower = (
    torch.tensor(load_sample_image(f"{name}.jpg")).movedim(-1, 0)[None] / 255
    for name in ("china", "flower")
)
blossom = window_to_theta(torch.tensor([[190, 60, 290, 290]]), flower.shape[-2:])
head = affine_sample(flower, blossom, 96, antialias=True)
y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
places = [torch.tensor([[60 + 6 * time, 250 - 4 * time, 96, 96]]) for time in range(6)]
disk = ((x**2 + y**2) < 0.95).float()[None, None]


def frame(place):
    """Return the picture with the flower at a place."""
    theta = window_to_theta(place, still.shape[-2:])
    ink = paste(disk, theta, torch.zeros_like(still[:, :1]))
    return torch.lerp(still, paste(head, theta, still), ink)


frames = torch.cat([frame(place) for place in places])
gray = (255 * frames.mean(1)).byte().numpy()

# %%
# ``DISOpticalFlow`` needs milliseconds per frame. Networks such as RAFT are more exact. For the
# five pairs of frames they return ``(5, 2, H, W)``; a first axis for clips makes it what the
# search takes, as below.

method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
flow = torch.stack([torch.tensor(method.calc(a, b, None)) for a, b in pairwise(gray)])
flow = flow.movedim(-1, 1)[None]  # (batch, field, 2, height, width); five fields are averaged

# %%
# As bytes, flow takes a quarter of the space. ``bound`` is the largest displacement that is
# told apart, in pixels.

bound = 16.0
stored = (flow * (255 / (2 * bound)) + 128).round().clamp(0, 255).byte()
window = MotionWindowTarget(112, bound=bound)(stored)
exact = MotionWindowTarget(112)(flow)
print(f"window {window.window[0].tolist()} from bytes, {exact.window[0].tolist()} from floats")

figure, (first, second, third) = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
plot.windows(frames[3], window.theta, axes=first)
second.imshow(motion_map(stored, bound=bound)[0].sqrt().numpy(), cmap="magma")
plot.outline(second, window.theta, frames.shape[-2:])
third.imshow(affine_sample(frames[3:4], window.theta, 112)[0].movedim(0, -1).numpy())
for panel, name in zip(
    (first, second, third),
    ("fourth frame", "motion (square root)", "the target's glimpse"),
    strict=True,
):
    panel.set_title(name)
    panel.axis("off")
plt.show()

# %%
# ``window.theta`` is what :meth:`RegressiveGuidance.objective` takes as its target. Pass
# ``lambda: MotionWindowTarget(112, bound=bound)(stored)`` instead, and the search is skipped
# once guidance has ended. Random
# crops of full height need no new search: see :meth:`MotionWindowTarget.profile`.
