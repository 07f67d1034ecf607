"""ImageNet weights for the networks of Table 2, read from released files.

The .mat files are SimpleNN networks of MatConvNet, http://www.vlfeat.org/matconvnet/pretrained, for RGB in 0..255 minus
a mean image. The others are torchvision's state dicts. ``start`` fits the first convolution to the example's inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.samples import RGB_MEAN
from examples.mpii_cooking.storage import sha256
from examples.mpii_cooking.training.networks import FULL_INPUT, Backbone, ResponseNorm
from examples.mpii_cooking.variants import Modality

FILES: dict[str, tuple[str, ...]] = {
    "vgg-f": ("imagenet-vgg-f.mat",),
    "vgg-m": ("imagenet-vgg-m.mat",),
    "vgg-16": ("imagenet-vgg-verydeep-16.mat", "vgg16*.safetensors", "vgg16*.pth"),
}
"""Names of the files of each network, as patterns."""
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in 0..1, by which torchvision's VGG-16 was trained."""
RGB = Modality.SPATIAL.channels
KERNEL, BIAS = "features.0.weight", "features.0.bias"
"""Of the first convolution, the only layer that depends on the format of the inputs."""
RANDOM = "random"  # origin of a network that starts at random

_MATCONVNET_TYPES = {nn.Conv2d: "conv", nn.Linear: "conv", nn.ReLU: "relu", ResponseNorm: "lrn", nn.MaxPool2d: "pool"}
_Content = tuple[Mapping[str, Tensor], Tensor, Tensor]
"""Weights, and the mean and deviation by which the inputs were normalized, of RGB in 0..255."""


@dataclass(frozen=True, eq=False)
class Released:
    """The released weights of one network, all but its last layer."""

    file: str
    sha256: str
    state: Mapping[str, Tensor]
    """Float32 tensors by their names in ``Backbone``, for inputs of RGB in 0..255 minus ``mean``."""
    mean: Tensor
    """(3,) float64, the RGB color in 0..255 that was subtracted from inputs."""


Weights = Mapping[str, Released]
"""Network -> its weights. A network without weights starts at random."""
NO_WEIGHTS: Weights = {}


def read_weights(folder: Path, preset: Preset) -> dict[str, Released]:
    """Read the weights of all networks of the preset that have a file in ``folder``, or raise DataError."""
    if preset.data.scale != 1 or preset.training.width != 1:
        raise DataError(
            "weights must be for the networks as published, 224 px wide and with all their channels, as in the preset "
            f"paper; preset {preset.name} has {preset.data.glimpse} px and {preset.training.width:g} of the channels"
        )
    if not folder.is_dir():
        raise DataError(f"weights must be an existing folder, got {folder}")
    found = {}
    for network in preset.networks:
        files = sorted(path for pattern in FILES[network] for path in folder.glob(pattern))
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(f"weights must hold one file of {network}, got {len(files)} in {folder}: {names}")
        if files:
            with torch.device("meta"):
                backbone = Backbone(network, RGB, input_size=FULL_INPUT, width=1.0, dropout=0.0)
            found[network] = read(files[0], backbone)
    if not found:
        names = ", ".join(name for network in preset.networks for name in FILES[network])
        raise DataError(f"weights must hold a file of at least one network ({names}), got none in {folder}")
    return found


def read(path: Path, network: Backbone) -> Released:
    """Read a file for ``network``, of which only the shapes matter: it may be on torch's device "meta"."""
    try:
        content, mean, std = _read_matconvnet(path, network) if path.suffix == ".mat" else _read_torchvision(path)
        state = {name: content[name].float() for name in network.state_dict()}
    except DataError:
        raise
    except Exception as problem:  # readers raise all kinds of errors for broken files
        reason, _, _ = str(problem).partition("\n")
        raise DataError(f"{path} cannot be read: {type(problem).__name__}: {reason}") from problem
    for name, own in network.state_dict().items():
        if state[name].shape != own.shape:
            raise DataError(f"{path}: {name} must have shape {tuple(own.shape)}, got {tuple(state[name].shape)}")
        if not state[name].isfinite().all():
            raise DataError(f"{path}: {name} must be finite, got inf or nan")
    state[KERNEL] = (state[KERNEL].double() / std[:, None, None]).float()
    return Released(path.name, sha256(path), state, mean)


def start(network: nn.Module, released: Released) -> None:
    """Give ``network`` the released weights. A last layer that was not released stays as it is.

    For RGB, the difference between the example's mean color and the file's goes into the first convolution's bias. This
    is exact except at the border of a padded convolution, where the padding means the example's mean color.

    For flow, every channel gets the mean of the three RGB kernels, not rescaled (Wang et al., Temporal Segment
    Networks, ECCV 2016). Inputs without motion are zero, so the bias stays.
    """
    own, state = network.state_dict(), dict(released.state)
    kernel, bias = state[KERNEL].double(), state[BIAS].double()
    channels = own[KERNEL].shape[1]
    if channels == RGB:
        bias = bias + kernel.sum((2, 3)) @ (torch.tensor(RGB_MEAN, dtype=torch.float64) - released.mean)
    else:
        kernel = kernel.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    network.load_state_dict(own | state | {KERNEL: kernel, BIAS: bias})


def origins(preset: Preset, weights: Weights) -> dict[str, str]:
    """Return what each network of the preset starts from: the file and its SHA-256, or ``RANDOM``."""
    return {
        name: f"{weights[name].file}, SHA-256 {weights[name].sha256}" if name in weights else RANDOM
        for name in preset.networks
    }


def _read_torchvision(path: Path) -> _Content:
    is_safe = path.suffix == ".safetensors"
    content = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)  # runs no code
    mean, std = (255 * torch.tensor(of, dtype=torch.float64) for of in (TORCHVISION_MEAN, TORCHVISION_STD))
    return content, mean, std


def _read_matconvnet(path: Path, network: Backbone) -> _Content:
    content = scipy.io.loadmat(path, simplify_cells=True)
    layers = [
        (f"{path}: layer {number}", layer)
        for number, layer in enumerate(content["layers"], start=1)
        if layer["type"] != "dropout"  # the converter writes it only if asked to
    ]
    modules = [(name, module) for name, module in network.named_modules() if type(module) in _MATCONVNET_TYPES]
    image = torch.empty(1, RGB, network.input_size, network.input_size, device="meta")  # only its shape matters
    state: dict[str, Tensor] = {}
    for (name, module), (place, layer) in zip(modules, layers, strict=False):  # the file also has class scores
        seen = image
        image = module(image.flatten(1) if isinstance(module, nn.Linear) else image)
        _check_layer(place, layer, module, np.array(seen.shape[2:]), np.array(image.shape[2:]))
        if isinstance(module, nn.Conv2d | nn.Linear):
            # Files older than 1.0-beta17 have filters and biases instead of weights.
            filters, biases = layer["weights"] if "weights" in layer else (layer["filters"], layer["biases"])
            filters = filters[(None,) * (4 - filters.ndim)]  # loadmat drops the rows and columns of a 1 x 1 kernel
            # (row, column, input, output), not mirrored: MatConvNet correlates, as torch does.
            kernel = filters.transpose(3, 2, 0, 1)
            if isinstance(module, nn.Linear):  # a convolution in the file
                kernel = kernel.reshape(len(kernel), -1)
            state |= {f"{name}.weight": torch.from_numpy(kernel), f"{name}.bias": torch.from_numpy(biases)}
    # The mean image becomes a mean color, as in two-stream networks: the example's inputs have other sizes.
    pixels = content.get("meta", content)["normalization"]["averageImage"].reshape(-1, RGB)
    return state, torch.from_numpy(pixels.mean(0, dtype=np.float64)), torch.ones(RGB)


def _check_layer(place: str, layer: dict[str, Any], module: nn.Module, before: np.ndarray, after: np.ndarray) -> None:
    """Check that a layer does the same as our module, which turns maps with sides ``before`` into maps ``after``."""
    found = {"pad": 0, "stride": 1} | layer | {"type": layer["type"].replace("normalize", "lrn")}  # the older name
    wanted: dict[str, Any] = {"type": _MATCONVNET_TYPES[type(module)]}
    if isinstance(module, nn.Conv2d):
        wanted |= {"pad": module.padding[0], "stride": module.stride[0]}
    elif isinstance(module, nn.Linear):
        wanted |= {"pad": 0, "stride": 1}
    elif isinstance(module, ResponseNorm):
        wanted |= {"param": module.PARAMETERS}
    elif isinstance(module, nn.MaxPool2d):
        kernel, stride = module.kernel_size, module.stride
        wanted |= {"method": "max", "pool": kernel, "stride": stride, "near pad": 0, "windows": after}
        # Any padding below and to the right is fine that leaves as many windows.
        pad = np.broadcast_to(found["pad"], 4).reshape(2, 2)  # (top, bottom), (left, right)
        found |= {"near pad": pad[:, 0], "windows": (before + pad.sum(1) - kernel) // stride + 1}
    for field, value in wanted.items():
        if not (found[field] == value if isinstance(value, str) else np.allclose(found[field], value, atol=0)):
            raise DataError(f"{place}: {field} must be {value}, got {found[field]}")
