"""
A first model
=============

Each photograph has a digit somewhere in it. A network is to read it, so it has to find it first. Its transformer is
guided by the digits' boxes; then guidance ends, and only the labels count.
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

from supervised_st import HardSwitch, RegressiveGuidance, SupervisedSpatialTransformer, affine_sample, paste
from supervised_st.geometry import window_iou, window_to_theta

torch.manual_seed(0)
photo = F.avg_pool2d(torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0)[None] / 255, 2)  # (1, 3, 213, 320)
digits, labels = torch.tensor(load_digits().images).float()[:, None] / 16, torch.tensor(load_digits().target)


def make_scenes(count, among):
    """Return photographs (N, 3, 64, 64), the boxes of their digits, (x0, y0, width, height), and the labels."""
    which = torch.randint(*among, (count,))
    side = torch.full((count, 1), 64)
    corner = (torch.rand(count, 2) * torch.tensor([320 - 64, 213 - 64])).long()
    view = window_to_theta(torch.cat([corner, side, side], 1), photo.shape[-2:])
    background = affine_sample(photo, view[None], 64)[0]
    boxes = torch.cat([torch.randint(64 - 16, (count, 2)), side // 4, side // 4], 1)
    return paste(digits[which].expand(-1, 3, -1, -1), window_to_theta(boxes, 64), background), boxes, labels[which]


def convolution(channels, filters, stride):
    return nn.Sequential(nn.Conv2d(channels, filters, 3, stride, padding=1), nn.ReLU())


localization = nn.Sequential(convolution(3, 16, 2), convolution(16, 32, 2), convolution(32, 32, 2), nn.Flatten())
look = SupervisedSpatialTransformer(localization, 16, features=32 * 8 * 8, scale=1/4)
classify = nn.Sequential(convolution(3, 16, 1), convolution(16, 32, 2), nn.Flatten(), nn.Linear(32 * 8 * 8, 10))
guidance = RegressiveGuidance(schedule=HardSwitch(250))
optimizer = torch.optim.Adam([*look.parameters(), *classify.parameters()], lr=2e-3)
test, boxes, answers = make_scenes(256, (1400, 1797))
seen = {}
import time
t=time.process_time()
for step in range(501):
    if step in (0, 250, 500):
        with torch.no_grad():
            seen[step] = look(test)
            right = (classify(seen[step].image).argmax(1) == answers).float().mean()
        overlap = window_iou(seen[step].theta, window_to_theta(boxes, 64)).mean()
        print(f"after {step:3} steps: {overlap:.2f} of box and window overlap, {right:.0%} of the digits are read", time.process_time()-t)
    image, target, label = make_scenes(32, (0, 1400))
    loss = guidance.objective(
        look,
        image,
        target=window_to_theta(target, 64),
        task=lambda glimpse, label=label: F.cross_entropy(classify(glimpse.image), label),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guidance.step()
