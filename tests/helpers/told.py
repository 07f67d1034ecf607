"""A layer whose windows are told by a test."""

import torch
from torch import nn

from supervised_st import SupervisedSpatialTransformer


class Told(nn.Module):
    """Returns the theta it is told, one row for each image."""

    def __init__(self, theta):
        super().__init__()
        self.theta = theta

    def forward(self, image):
        return self.theta.flatten(1)


def told_layer(theta, size, **options):
    """A layer that looks where it is told; `localization.theta` may be changed."""
    look = SupervisedSpatialTransformer(Told(theta.float()), size, features=6, **options)
    with torch.no_grad():
        look.head.weight.copy_(torch.eye(6))
        look.head.bias.zero_()
    return look
