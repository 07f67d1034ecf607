"""
In front of a backbone
======================

.. currentmodule:: supervised_st

A backbone takes small images, but what matters may be a small part of large ones. The
transformer decides on a copy of 64 pixels, and cuts what the backbone sees out of the frame.
Frames stay bytes until then.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

from supervised_st import (
    RegressiveGuidance,
    Resize,
    SupervisedSpatialTransformer,
    affine_sample,
    plot,
)
from supervised_st.geometry import at_scales, window_to_theta

torch.manual_seed(0)
MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)  # of ImageNet, in units of 0..255
photo = torch.tensor(load_sample_image("china.jpg")).movedim(-1, 0)[None]
views = torch.cat([torch.rand(24, 2) * torch.tensor([340, 127]), torch.full((24, 2), 300)], 1)
backgrounds = affine_sample(photo, window_to_theta(views, photo.shape[-2:])[None], 256)
digits = torch.tensor(load_digits().images / 16).float()[:, None]
digits = F.interpolate(digits, scale_factor=3)  # 24 x 24, without blending
pink, white = torch.tensor([190.0, 0, 140]).reshape(3, 1, 1), torch.tensor(255.0)
plates = torch.lerp(pink, white, digits).byte()


def make_frames(count):
    """Return frames (N, 3, 256, 256) of bytes, each with a plate of 24 pixels, and targets."""
    frames = backgrounds[0, torch.randperm(24)[:count]].byte()
    corner = torch.randint(12, 256 - 36, (count, 2))
    for frame, (x, y) in zip(frames, corner, strict=True):
        frame[:, y : y + 24, x : x + 24] = plates[torch.randint(len(plates), ())]
    return frames, window_to_theta(torch.cat([corner - 12, torch.full((count, 2), 48)], 1), 256)


# %%
# Here, the backbone is two layers. With timm it would be ``timm.create_model("resnet18",
# pretrained=True, num_classes=10)``. Only guidance is shown. To train the backbone, too, give
# guidance a schedule and a task, as in :doc:`01_first_model`.

backbone = nn.Sequential(
    *(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
)


class Model(nn.Module):
    """Looks first, then recognizes."""

    def __init__(self):
        super().__init__()
        self.look = SupervisedSpatialTransformer(
            nn.Sequential(
                *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
                *(nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()),
            ),
            size=48,
            features=32 * 8 * 8,
            downscale=nn.AvgPool2d(4),
            parameterization="translation",
            scale=48 / 256,
            mean=MEAN,
            std=STD,
        )
        self.backbone = backbone

    def forward(self, frames):
        """Return the scores of the classes (N, 10)."""
        return self.backbone(self.look(frames).image)


model = Model()
guidance = RegressiveGuidance()
optimizer = torch.optim.Adam(model.look.parameters(), lr=1e-3)
for _ in range(300):
    frames, targets = make_frames(16)
    loss = guidance.objective(
        model.look,
        frames,
        target=targets,
        task=lambda glimpse: model.backbone(glimpse.image).mean(),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    guidance.step()

# %%
# Below each frame: the same frame, shrunk to the backbone's 48 pixels; and what the transformer
# gives it instead.

frames, _ = make_frames(4)
with torch.no_grad():
    print(f"scores {tuple(model(frames).shape)}")
    theta = model.look.localize(frames)
figure, panels = plt.subplots(3, 4, figsize=(8.6, 6.7), layout="constrained")
for column, frame, region in zip(panels.T, frames, theta, strict=True):
    plot.windows(frame, region, axes=column[0])
    column[1].imshow(Resize(48)(frame[None])[0].movedim(0, -1).numpy())
    seen = affine_sample(frame, region, 48).movedim(0, -1) / 255
    column[2].imshow(seen.clamp(0, 1).numpy())
    for panel, name in zip(
        column, ("frame, 256 pixels", "shrunk to 48", "looked at, 48"), strict=True
    ):
        panel.set_title(name, fontsize=10)
        panel.axis("off")
plt.show()

# %%
# The transformer can also decide on the frames, and sample feature maps of the backbone at the
# same place. And it can look at one place in several scales, from the window itself to one that
# is four times as wide.

with torch.no_grad():
    features = backbone[:4](frames / 255)
    glimpse = model.look(frames, source=features)
    scales = model.look.sample(frames, at_scales(theta, (1, 2, 4)))
print(f"of features {tuple(features.shape)} it samples {tuple(glimpse.image.shape)}")
print(f"in three scales it sees {tuple(scales.shape)}")
