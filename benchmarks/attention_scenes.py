"""Small tasks for attention: images, the windows that guidance teaches, those that show the class, and the classes."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from examples.quickstart import SIDE, WINDOW, make_scenes
from supervised_st import MotionWindowTarget
from supervised_st.geometry import window_to_theta

GLIMPSE = 16  # pixels: side of what the classifier sees
FRAGMENTS, FRAGMENT = 4, 6  # pieces of other digits in each image, and their side in pixels
NOISE = 0.1


class Scenes(NamedTuple):
    """A batch of scenes."""

    image: Tensor  # [batch 1 height width]
    target: Tensor  # [batch 2 3], the window that guidance teaches
    truth: Tensor  # [batch 2 3], the window that shows the class
    label: Tensor  # [batch]


class Task(NamedTuple):
    """A task, and the window with which its transformers start."""

    make: Callable[[int, torch.Generator, bool], Scenes]  # number, random numbers, whether for training
    size: tuple[int, int]  # height and width of the images
    scale: float  # side of the window at the start, as a fraction of the image's sides
    classes: int


def digits(size: tuple[int, int], sides: tuple[int, ...]) -> Callable[[int, torch.Generator, bool], Scenes]:
    """Return a maker of scenes with one digit, of one of the ``sides`` in pixels, among pieces of other digits.

    Training and test scenes have different digits (those of scikit-learn, 8 x 8 pixels, resized). Guidance has its box.
    """
    height, width = size
    found = load_digits()
    pictures, names = torch.tensor(found.images / 16).float(), torch.tensor(found.target)
    split = len(names) * 3 // 4
    resized = {side: F.interpolate(pictures[:, None], (side, side), mode="bilinear")[:, 0] for side in sides}

    def make(count: int, generator: torch.Generator, is_training: bool) -> Scenes:
        def random(high: int, *shape: int) -> Tensor:
            return torch.randint(high, shape, generator=generator)

        image = torch.zeros(count, 1, height, width)
        which = random(split if is_training else len(names) - split, count) + (0 if is_training else split)
        side = torch.tensor(sides)[random(len(sides), count)]
        x, y = (torch.rand(2, count, generator=generator) * (torch.tensor([[width], [height]]) - side)).long()
        for each in range(count):
            picture = image[each, 0]
            for piece in random(split, FRAGMENTS):
                row, column = random(height - FRAGMENT, 1), random(width - FRAGMENT, 1)
                top, left = random(8 - FRAGMENT, 2)
                cut = pictures[piece, top : top + FRAGMENT, left : left + FRAGMENT]
                picture[row : row + FRAGMENT, column : column + FRAGMENT] = cut
            digit = resized[int(side[each])][which[each]]
            picture[y[each] : y[each] + side[each], x[each] : x[each] + side[each]] = digit
        image += NOISE * torch.randn(image.shape, generator=generator)
        theta = window_to_theta(torch.stack([x, y, side, side], 1), size)
        return Scenes(image, theta, theta, names[which])

    return make


def held_tiles(count: int, generator: torch.Generator, is_training: bool) -> Scenes:
    """Return the quickstart's scenes. Guidance has the window of most motion, which shows a corner of the tile."""
    image, flow, label, tile = make_scenes(count, generator)
    truth = tile.clone()
    truth[:, 0, 0] = truth[:, 1, 1] = WINDOW / SIDE
    return Scenes(image, MotionWindowTarget(WINDOW)(flow).theta, truth, label)


TASKS = {
    "digits": Task(digits((64, 64), (16,)), (64, 64), 1 / 4, 10),
    "digits of two sizes": Task(digits((64, 64), (12, 24)), (64, 64), 1 / 4, 10),
    "digits in wide images": Task(digits((48, 96), (16,)), (48, 96), 1 / 4, 10),
    "held tiles, by motion": Task(held_tiles, (SIDE, SIDE), WINDOW / SIDE, 4),
}
