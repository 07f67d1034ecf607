"""What is in files of released ImageNet weights. As a command, it reads one for a process that must come to no harm.

The .mat files are SimpleNN networks of MatConvNet, http://www.vlfeat.org/matconvnet/pretrained, for RGB in 0..255 minus
a mean image. The others are torchvision's state dicts.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import scipy.io
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.training.networks import FULL_INPUT, Backbone, ResponseNorm
from examples.mpii_cooking.variants import Modality

TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in 0..1, by which torchvision's VGG-16 was trained."""
RGB = Modality.SPATIAL.channels
KERNEL, BIAS = "features.0.weight", "features.0.bias"
"""Of the first convolution, the only layer that depends on the format of the inputs."""
MEAN = "mean"  # among the tensors that the command writes
LONGEST = 3600  # seconds until a reader is ended, also if it waits for a disk or a busy machine
REFUSED = 3  # exit code after a message

_WORK = 300  # seconds that a reader may compute
_MATCONVNET_TYPES = {nn.Conv2d: "conv", nn.Linear: "conv", nn.ReLU: "relu", ResponseNorm: "lrn", nn.MaxPool2d: "pool"}
_Stored = tuple[Mapping[str, Tensor], Tensor, Tensor]
"""Weights, and the mean and deviation by which the inputs were normalized, of RGB in 0..255."""


class Content(NamedTuple):
    """The weights of all layers of a ``Backbone``, float32, and the (3,) float64 color that was subtracted from RGB."""

    state: dict[str, Tensor]
    mean: Tensor


def make_network(name: str, width: float) -> Backbone:
    """Return a network without numbers."""
    with torch.device("meta"):
        return Backbone(name, RGB, input_size=FULL_INPUT, width=width, dropout=0.0)


def parse(path: Path, network: Backbone) -> Content:
    """Return the weights for ``network``, of which only the shapes matter."""
    try:
        stored, mean, std = _read_matconvnet(path, network) if path.suffix == ".mat" else _read_torchvision(path)
        state = {name: stored[name].float() for name in network.state_dict()}
    except DataError:
        raise
    except MemoryError as problem:
        raise DataError(f"{path} cannot be read: it takes more memory than weights do") from problem
    except UnpicklingError as problem:  # torch's own words are advice to run what the file says
        raise DataError(f"{path} cannot be read: it is damaged, or holds more than tensors") from problem
    except Exception as problem:  # readers raise all kinds of errors for broken files
        reason, _, _ = str(problem).partition("\n")
        raise DataError(f"{path} cannot be read: {type(problem).__name__}: {reason[:200]}") from problem
    for name, own in network.state_dict().items():
        if state[name].shape != own.shape:
            raise DataError(f"{path}: {name} must have shape {tuple(own.shape)}, got {tuple(state[name].shape)}")
        if not state[name].isfinite().all():
            raise DataError(f"{path}: {name} must be finite, got inf or nan")
    state[KERNEL] = (state[KERNEL].double() / std[:, None, None]).float()
    return Content(state, mean)


def main(path: str, name: str, width: str, memory: str) -> None:
    """Write a file's weights to standard output as safetensors, within ``memory`` bytes, or why they are refused."""
    torch.set_num_threads(1)
    network = make_network(name, float(width))
    _limit(int(memory))
    try:
        state, mean = parse(Path(path), network)
        sys.stdout.buffer.write(save({name: tensor.contiguous() for name, tensor in (state | {MEAN: mean}).items()}))
    except DataError as problem:
        print(problem)
        sys.exit(REFUSED)


def _limit(memory: int) -> None:
    """Limit what this process may take from now on, where the system can."""
    if sys.platform != "linux":
        return
    import resource

    pages, *_ = map(int, Path("/proc/self/statm").read_text().split())
    most = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (_WORK, _WORK))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash is expected


def _read_torchvision(path: Path) -> _Stored:
    is_safe = path.suffix == ".safetensors"
    content = load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)  # runs no code
    mean, std = (255 * torch.tensor(of, dtype=torch.float64) for of in (TORCHVISION_MEAN, TORCHVISION_STD))
    return content, mean, std


def _read_matconvnet(path: Path, network: Backbone) -> _Stored:
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


if __name__ == "__main__":
    main(*sys.argv[1:])
