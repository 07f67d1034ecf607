"""The three networks of Table 2 - VGG-F, VGG-M and VGG-16 - and what the example builds from them.

Layer tables: Chatfield et al., "Return of the Devil in the Details" (BMVC 2014) for F and M, Simonyan and Zisserman,
"Very Deep Convolutional Networks" (ICLR 2015), configuration D, for 16, both as released for MatConvNet. VGG-16 has
torchvision's parameter names (``features.N``, ``classifier.N``). At a fraction of the paper's size the layers stay, but
no convolution has a stride or shrinks its map, so that something is left of a 28-pixel input. A convolution that has a
stride at full size has a kernel that is smaller by that factor. Of a localization network, only the layers before the
map gets too coarse stay.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from examples.mpii_cooking.config import Level, Preset
from examples.mpii_cooking.variants import Modality
from supervised_st import Resize, SupervisedSpatialTransformer
from supervised_st.types import HeadInit

FULL_INPUT = 224
FULL_FC = 4096
LOCALIZER_DROPOUT = 0.5  # sec. 4
# sec. 4; for networks that start from ImageNet
CLASSIFIER_DROPOUT = {Modality.SPATIAL: 0.85, Modality.TEMPORAL: 0.5}
# Ours: at 0.5, narrow networks that start at random stay at chance for hundreds of steps, and their windows jump about.
SMALL_DROPOUT = 0.2


class _Conv(NamedTuple):
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    normalize: bool = False


class _MaxPool(NamedTuple):
    kernel: int


_LAYERS: dict[str, tuple[_Conv | _MaxPool, ...]] = {
    "vgg-f": (
        *(_Conv(64, kernel=11, stride=4, padding=0, normalize=True), _MaxPool(3)),
        *(_Conv(256, kernel=5, padding=2, normalize=True), _MaxPool(3)),
        *(_Conv(256), _Conv(256), _Conv(256), _MaxPool(3)),
    ),
    "vgg-m": (
        *(_Conv(96, kernel=7, stride=2, padding=0, normalize=True), _MaxPool(3)),
        *(_Conv(256, kernel=5, stride=2, normalize=True), _MaxPool(3)),
        *(_Conv(512), _Conv(512), _Conv(512), _MaxPool(3)),
    ),
    "vgg-16": (
        *(_Conv(64), _Conv(64), _MaxPool(2)),
        *(_Conv(128), _Conv(128), _MaxPool(2)),
        *(_Conv(256), _Conv(256), _Conv(256), _MaxPool(2)),
        *(_Conv(512), _Conv(512), _Conv(512), _MaxPool(2)),
        *(_Conv(512), _Conv(512), _Conv(512), _MaxPool(2)),
    ),
}


class ResponseNorm(nn.Module):
    """Divide every channel by the energy of the five around it: ``x / (2 + 1e-4 * sum(x ** 2)) ** 0.75``.

    ``nn.LocalResponseNorm`` does the same, but takes half of a small network's time on a CPU; a convolution is faster.
    """

    PARAMETERS = (5, 2.0, 1e-4, 0.75)
    """Of the released weights, in MatConvNet's order: channels, constant, factor, power."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        size, constant, factor, _ = self.PARAMETERS
        index = torch.arange(channels)
        near = (index[:, None] - index).abs() <= size // 2
        self.factors = nn.Buffer(factor * near[..., None, None].double(), persistent=False)
        self.constants = nn.Buffer(torch.full((channels,), constant, dtype=torch.float64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, channels, h, w)."""
        root = F.conv2d(x.square(), self.factors.to(x.dtype), self.constants.to(x.dtype)).rsqrt()
        return x * (root * root.sqrt())


class Backbone(nn.Module):
    """The convolutions, fc6 and fc7 of a VGG network. ``width`` multiplies the channels of every layer."""

    def __init__(self, name: str, channels: int, *, input_size: int, width: float, dropout: float) -> None:
        super().__init__()
        self.input_size = input_size
        self.width = round(FULL_FC * width)
        self.features = nn.Sequential(*_convolutions(name, channels, width, full=input_size == FULL_INPUT))
        with torch.no_grad():
            flat = self.features(torch.zeros(1, channels, input_size, input_size)).numel()
        self.classifier = nn.Sequential(
            *(nn.Linear(flat, self.width), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(self.width, self.width), nn.ReLU(), nn.Dropout(dropout)),
        )
        _start_at_random(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return fc7, (N, width), of images (N, channels, input_size, input_size)."""
        features: Tensor = self.classifier(self.features(image).flatten(1))
        return features

    def fc6(self, image: Tensor) -> Tensor:
        """Return fc6 after its ReLU, (N, width), of images (N, channels, input_size, input_size)."""
        features: Tensor = self.classifier[:2](self.features(image).flatten(1))
        return features


class Positions(nn.Module):
    """A localization network for a fraction of the paper's size: where the maps of a VGG network are high.

    The pools of a whole network leave one pixel of a 28-pixel input, and with it hardly a trace of where things are.
    So the layers end with the last map that has at least a quarter of the input's side. A softmax over the pixels of
    each of its channels gives a mean position (Levine et al., End-to-End Training of Deep Visuomotor Policies, JMLR
    2016, sec. 5.1).
    """

    POOLS = 2
    """Of stride 2 each, so that a quarter of the side is left."""

    def __init__(self, name: str, channels: int, *, input_size: int, width: float) -> None:
        super().__init__()
        self.input_size = input_size
        layers = [*_convolutions(name, channels, width, full=False)]
        pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        self.features = nn.Sequential(*layers[: pools[self.POOLS]])
        with torch.no_grad():
            _, maps, _, side = self.features(torch.zeros(1, channels, input_size, input_size)).shape
        self.width = 2 * maps
        self.centers = nn.Buffer((2 * torch.arange(side) + 1) / side - 1, persistent=False)
        _start_at_random(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return x, then y, of every map, (N, width) in [-1, 1], of images (N, channels, input_size, input_size)."""
        maps = self.features(image)
        shares = maps.flatten(2).float().softmax(2).unflatten(2, maps.shape[2:])
        return torch.cat([(shares.sum(along) * self.centers).sum(2) for along in (2, 3)], dim=1)


class Classifier(Backbone):
    """The preset's classifier, with class scores as its output. The paper's is VGG-16 for every stream (sec. 4)."""

    def __init__(self, classes: int, modality: Modality, preset: Preset) -> None:
        training, side = preset.training, preset.data.glimpse
        dropout = CLASSIFIER_DROPOUT[modality] if preset.data.scale == 1 else SMALL_DROPOUT
        super().__init__(training.classifier, modality.channels, input_size=side, width=training.width, dropout=dropout)
        last = nn.Linear(self.width, classes)
        self.classifier.append(last)
        nn.init.normal_(last.weight, std=0.01)  # a new last layer starts with scores near zero, as in MatConvNet
        nn.init.zeros_(last.bias)


class Networks(nn.Module):
    """The networks of a run, of which one may be absent."""

    transformer: SupervisedSpatialTransformer
    classifier: Classifier


def transformer(
    name: str, level: Level, modality: Modality, preset: Preset, head: HeadInit = "gaussian"
) -> SupervisedSpatialTransformer:
    """Build the spatial transformer of one level. Its localization network sees the whole crop at a glimpse's size."""
    glimpse, width = preset.data.glimpse, preset.training.width
    localizer: Backbone | Positions
    if preset.data.scale == 1:
        localizer = Backbone(name, modality.channels, input_size=glimpse, width=width, dropout=LOCALIZER_DROPOUT)
    else:
        localizer = Positions(name, modality.channels, input_size=glimpse, width=width)
    size = (glimpse, glimpse)
    return SupervisedSpatialTransformer(
        localizer,
        size,
        features=localizer.width,
        downscale=nn.MaxPool2d(level.pool) if level.pool else Resize(size),  # Table 1
        head_init=head,
        scale=glimpse / level.height,
        antialias=True,  # ours: a window that is wider than the glimpse must not show moiré
    )


def autocast(preset: Preset, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute in the preset's precision. Theta is float32 in any case."""
    return torch.autocast(device.type, torch.bfloat16, enabled=preset.training.precision == "bfloat16")


def _start_at_random(network: nn.Module) -> None:
    """Initialize as in He et al., ICCV 2015, eq. 10."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.get_parameter("bias"))


def _convolutions(name: str, channels: int, width: float, *, full: bool) -> Iterator[nn.Module]:
    for layer in _LAYERS[name]:
        if isinstance(layer, _MaxPool):
            # MatConvNet pads these pools at the far side, which is what rounding up does.
            yield nn.MaxPool2d(layer.kernel, stride=2, ceil_mode=True)
            continue
        outputs = round(layer.channels * width)
        if full:
            yield nn.Conv2d(channels, outputs, layer.kernel, layer.stride, layer.padding)
        else:
            reach = layer.kernel // (2 * layer.stride)
            yield nn.Conv2d(channels, outputs, 2 * reach + 1, padding=reach)
        yield nn.ReLU()
        if layer.normalize:
            yield ResponseNorm(outputs)
        channels = outputs
