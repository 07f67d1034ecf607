"""The three networks of Table 2 - VGG-F, VGG-M and VGG-16 - and what the example builds from them.

Layer tables: Chatfield et al., "Return of the Devil in the Details" (BMVC 2014) for F and M, Simonyan and Zisserman,
"Very Deep Convolutional Networks" (ICLR 2015), configuration D, for 16, both as released for MatConvNet. VGG-16 has
torchvision's parameter names (``features.N``, ``classifier.N``). At a fraction of the paper's size the layers stay, but
no convolution strides or shrinks its map, so that something is left of a 28-pixel input; where one would have strided,
its kernel is that much smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from examples.mpii_cooking.config import MODALITIES, Level, Preset
from supervised_st import Resize, SupervisedSpatialTransformer

FULL_INPUT = 224
FULL_FC = 4096
LOCALIZER_DROPOUT = 0.5  # sec. 4
CLASSIFIER_DROPOUT = {"spatial": 0.85, "temporal": 0.5}  # sec. 4; for networks that start from ImageNet
# Ours: at 0.5, narrow networks started from scratch stay at chance for hundreds of steps, and their windows jump about.
SMALL_DROPOUT = 0.2


@dataclass(frozen=True)
class _Conv:
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    normalize: bool = False


@dataclass(frozen=True)
class _MaxPool:
    kernel: int
    stride: int = 2


def _plain(channels: int) -> _Conv:
    return _Conv(channels, kernel=3, padding=1)


_LAYERS: dict[str, tuple[_Conv | _MaxPool, ...]] = {
    "vgg-f": (
        _Conv(64, kernel=11, stride=4, normalize=True),
        _MaxPool(3),
        _Conv(256, kernel=5, padding=2, normalize=True),
        _MaxPool(3),
        *(_plain(256) for _ in range(3)),
        _MaxPool(3),
    ),
    "vgg-m": (
        _Conv(96, kernel=7, stride=2, normalize=True),
        _MaxPool(3),
        _Conv(256, kernel=5, stride=2, padding=1, normalize=True),
        _MaxPool(3),
        *(_plain(512) for _ in range(3)),
        _MaxPool(3),
    ),
    "vgg-16": tuple(
        layer
        for channels, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
        for layer in (*(_plain(channels) for _ in range(depth)), _MaxPool(2))
    ),
}


class ResponseNorm(nn.Module):
    """Divide every channel by the energy of the five around it: ``x / (2 + 1e-4 * sum(x ** 2)) ** 0.75``.

    These are the released weights' [5 2 1e-4 .75]. ``nn.LocalResponseNorm`` says the same, but pools over channels as
    over a volume, which takes about half of a small network's time on a CPU; a convolution does not.
    """

    PARAMETERS = (5, 2.0, 1e-4, 0.75)
    """MatConvNet's: channels, constant, factor, power."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size, constant, factor, _ = self.PARAMETERS
        index = torch.arange(channels)
        near = (index[:, None] - index).abs() <= size // 2
        self.register_buffer("factors", factor * near[..., None, None].double(), persistent=False)
        self.register_buffer("constants", torch.full((channels,), constant, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, channels, h, w)."""
        root = F.conv2d(x.square(), self.factors.to(x.dtype), self.constants.to(x.dtype)).rsqrt()
        return x * (root * root.sqrt())


class Backbone(nn.Module):
    """The convolutions, fc6 and fc7 of a VGG network.

    Args:
        name: "vgg-f", "vgg-m" or "vgg-16".
        channels: channels of the input.
        input_size: side of the square input in pixels.
        width: multiplies the channels of every layer.
        dropout: probability with which units of fc6 and fc7 are dropped.
    """

    def __init__(self, name: str, channels: int, *, input_size: int, width: float, dropout: float) -> None:
        super().__init__()
        self.input_size = input_size
        self.width = scaled(FULL_FC, width)
        self.features = nn.Sequential(*_convolutions(name, channels, width, full=input_size == FULL_INPUT))
        with torch.no_grad():
            flat = self.features(torch.zeros(1, channels, input_size, input_size)).numel()
        self.classifier = nn.Sequential(
            *(nn.Linear(flat, self.width), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(self.width, self.width), nn.ReLU(), nn.Dropout(dropout)),
        )
        initialize(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, channels, input_size, input_size) to fc7, (N, width)."""
        return self.classifier(self.features(image).flatten(1))

    def fc6(self, image: Tensor) -> Tensor:
        """Map images (N, channels, input_size, input_size) to fc6 after its ReLU, (N, width)."""
        return self.classifier[:2](self.features(image).flatten(1))


class Classifier(Backbone):
    """The preset's classifier with class scores on top; the paper's is VGG-16 for every stream (sec. 4)."""

    def __init__(self, classes: int, modality: str, preset: Preset) -> None:
        dropout = CLASSIFIER_DROPOUT[modality] if preset.scale == 1 else SMALL_DROPOUT
        super().__init__(
            preset.classifier, MODALITIES[modality], input_size=preset.glimpse, width=preset.width, dropout=dropout
        )
        self.classifier.append(nn.Linear(self.width, classes))
        nn.init.normal_(self.classifier[-1].weight, std=0.01)  # a new last layer starts almost silent, as in MatConvNet
        nn.init.zeros_(self.classifier[-1].bias)


def transformer(
    name: str, level: Level, modality: str, preset: Preset, head: str = "gaussian"
) -> SupervisedSpatialTransformer:
    """Build the spatial transformer of one level: ``name`` looks at the whole crop, scaled down to a glimpse's size.

    Args:
        name: the localization network.
        level: decides how the crop is scaled down: by max-pooling, or by resizing at the general level (Table 1).
        modality: "spatial" or "temporal".
        preset: sizes and widths.
        head: how the head starts, see :class:`SupervisedSpatialTransformer`.
    """
    dropout = LOCALIZER_DROPOUT if preset.scale == 1 else SMALL_DROPOUT
    localizer = Backbone(name, MODALITIES[modality], input_size=preset.glimpse, width=preset.width, dropout=dropout)
    side = (preset.glimpse, preset.glimpse)
    return SupervisedSpatialTransformer(
        localizer,
        side,
        features=localizer.width,
        downscale=nn.MaxPool2d(level.pool) if level.pool else Resize(side),
        head_init=head,
        scale=preset.glimpse / level.height,
    )


def scaled(channels: int, width: float) -> int:
    """Return ``channels`` multiplied by ``width``, at least one."""
    return max(1, round(channels * width))


def initialize(network: nn.Module) -> None:
    """Draw every convolution's and linear layer's weights after He et al. (ICCV 2015, eq. 10); biases are zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)


def _convolutions(name: str, channels: int, width: float, *, full: bool) -> Iterator[nn.Module]:
    for layer in _LAYERS[name]:
        if isinstance(layer, _MaxPool):
            # MatConvNet pads these pools at the far side, which is what rounding up does.
            yield nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=True)
            continue
        outputs = scaled(layer.channels, width)
        if full:
            yield nn.Conv2d(channels, outputs, layer.kernel, layer.stride, layer.padding)
        else:
            reach = layer.kernel // (2 * layer.stride)
            yield nn.Conv2d(channels, outputs, 2 * reach + 1, padding=reach)
        yield nn.ReLU()
        if layer.normalize:
            yield ResponseNorm(outputs)
        channels = outputs
