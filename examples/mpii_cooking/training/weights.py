"""ImageNet weights for the networks of Table 2, read from the files that others have released.

=========  ==================================  ==================================================
network    file                                input that the file was trained on
=========  ==================================  ==================================================
VGG-F, M   ``imagenet-vgg-{f,m}.mat``          RGB in 0..255 minus a mean image
VGG-16     ``imagenet-vgg-verydeep-16.mat``    RGB in 0..255 minus a mean color
           ``vgg16*.safetensors``, ``.pth``    (RGB / 255 - mean) / std; torchvision's state dict
=========  ==================================  ==================================================

The .mat files are SimpleNN networks of MatConvNet, http://www.vlfeat.org/matconvnet/pretrained. Their images are arrays
of (row, column, channel), their kernels of (row, column, input, output), and their fully connected layers are
convolutions. A mean image is reduced to its mean color, as in two-stream networks: the example's inputs do not have
the size of the mean image. ``start`` fits the first convolution to the example's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import scipy.io
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.samples import RGB_MEAN
from examples.mpii_cooking.training.networks import FULL_INPUT, Backbone, ResponseNorm
from examples.mpii_cooking.variants import Modality
from examples.mpii_cooking.workspace import sha256

FILES: dict[str, tuple[str, ...]] = {
    "vgg-f": ("imagenet-vgg-f.mat",),
    "vgg-m": ("imagenet-vgg-m.mat",),
    "vgg-16": ("imagenet-vgg-verydeep-16.mat", "vgg16*.safetensors", "vgg16*.pth"),
}
"""Names of the files of each network, as patterns."""
TORCHVISION_MEAN, TORCHVISION_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in 0..1, by which torchvision's VGG-16 was trained."""
RGB = Modality.SPATIAL.channels
FIRST = "features.0"
"""The first convolution, the only layer that depends on how images are fed in."""


@dataclass(frozen=True, eq=False)
class Released:
    """The released weights of one network, all but its last layer."""

    file: str
    """Name of the file they are from."""
    sha256: str
    """Of the file, in hexadecimal."""
    state: Mapping[str, Tensor]
    """Float32 tensors by their names in ``Backbone``, for inputs of RGB in 0..255 minus ``mean``."""
    mean: Tensor
    """(3,) float64, the RGB color in 0..255 that was subtracted from inputs."""


Weights = Mapping[str, Released]
"""Network -> its weights. A network without weights starts at random."""
NO_WEIGHTS: Weights = {}
RANDOM = "random"
"""Origin of a network that starts at random."""


def read_weights(folder: Path, preset: Preset) -> dict[str, Released]:
    """Read the weights of all networks of the preset that have a file in ``folder``.

    Raises:
        DataError: if the preset's networks are smaller than the released ones, the folder is missing, it has no file or
            several files of one network, or a file cannot be read or is of another network.
    """
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
    """Read a file of weights.

    Args:
        path: one of ``FILES``.
        network: the network that gets the weights. Only its shapes matter; it may be on torch's device "meta".

    Raises:
        DataError: if the file cannot be read or is of another network.
    """
    state, mean = (_read_matconvnet if path.suffix == ".mat" else _read_torchvision)(path, network)
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise DataError(f"{path}: {name} must be finite numbers, got others among them")
    return Released(path.name, sha256(path), state, mean)


def start(network: nn.Module, released: Released) -> None:
    """Give ``network`` the released weights. A last layer that was not released stays as it is.

    For RGB, the difference between the example's mean color and the file's goes into the first convolution's bias. This
    is exact except at the border of a padded convolution (VGG-16), where the padding means the example's mean color.
    MatConvNet's VGG-16 has the same mean as the example, torchvision's differs by half a gray level.

    For flow, every channel gets the mean of the three RGB kernels, not rescaled (Wang et al., Temporal Segment
    Networks, ECCV 2016). Inputs without motion are zero, so the bias stays.
    """
    own, state = network.state_dict(), dict(released.state)
    kernel, bias = (state[f"{FIRST}.{kind}"].double() for kind in ("weight", "bias"))
    channels = own[f"{FIRST}.weight"].shape[1]
    if channels == RGB:
        bias = bias + kernel.sum((2, 3)) @ (torch.tensor(RGB_MEAN, dtype=torch.float64) - released.mean)
    else:
        kernel = kernel.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    state |= {f"{FIRST}.weight": kernel, f"{FIRST}.bias": bias}
    network.load_state_dict(own | state)


def origins(preset: Preset, weights: Weights) -> dict[str, str]:
    """Return what each network of the preset starts from: the file and its SHA-256, or ``RANDOM``."""
    return {
        name: f"{weights[name].file}, SHA-256 {weights[name].sha256}" if name in weights else RANDOM
        for name in preset.networks
    }


def _read_torchvision(path: Path, network: Backbone) -> tuple[dict[str, Tensor], Tensor]:
    unpickled = partial(torch.load, map_location="cpu", weights_only=True)  # runs no code
    content = _loaded(path, load_file if path.suffix == ".safetensors" else unpickled)
    state = {}
    for name, own in network.state_dict().items():
        tensor = content.get(name, "nothing")
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else tensor
        if got != own.shape:
            raise DataError(f"{path}: {name} must be a tensor of shape {tuple(own.shape)}, got {got}")
        state[name] = tensor.float()
    mean, std = (255 * torch.tensor(of, dtype=torch.float64) for of in (TORCHVISION_MEAN, TORCHVISION_STD))
    kernel = f"{FIRST}.weight"
    state[kernel] = (state[kernel].double() / std[:, None, None]).float()
    return state, mean


def _read_matconvnet(path: Path, network: Backbone) -> tuple[dict[str, Tensor], Tensor]:
    content = _loaded(path, scipy.io.loadmat)
    if "layers" not in content:
        raise DataError(f"{path} must be a SimpleNN network of MatConvNet, got a file without 'layers'")
    layers = _layers(path, content["layers"])
    image = torch.empty(1, RGB, network.input_size, network.input_size, device="meta")  # only its shape matters
    state: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        types = _TYPES.get(type(module))
        if types is None:
            continue
        layer = next(layers, None)
        if layer is None or layer.type not in types:
            place, got = (path, "the end") if layer is None else (layer.place, repr(layer.type))
            raise DataError(f"{place}: type must be {types[0]!r}, got {got}")
        if isinstance(module, nn.Conv2d | nn.Linear):
            state |= {f"{name}.{kind}": tensor for kind, tensor in _weights(layer, module, image).items()}
        elif isinstance(module, ResponseNorm):
            layer.expect("param", [*module.PARAMETERS])
        seen = image
        image = module(image.flatten(1) if isinstance(module, nn.Linear) else image)
        if isinstance(module, nn.MaxPool2d):
            _check_pool(layer, module, seen.shape[2:], image.shape[2:])
    return state, _mean_color(path, content)


_TYPES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("conv",),
    nn.Linear: ("conv",),
    nn.ReLU: ("relu",),
    ResponseNorm: ("lrn", "normalize"),
    nn.MaxPool2d: ("pool",),
}
"""MatConvNet's names of our layers, the newest first."""


class _Struct:
    """A MATLAB struct. Fields are read by name, since their order differs between versions of MatConvNet."""

    def __init__(self, place: str, value: np.ndarray) -> None:
        if value.dtype.names is None or value.size != 1:
            raise DataError(f"{place} must be one struct, got {value.dtype} of shape {value.shape}")
        self.place, self._value = place, value

    def __contains__(self, field: str) -> bool:
        return field in (self._value.dtype.names or ())

    def __getitem__(self, field: str) -> np.ndarray:
        if field not in self:
            raise DataError(f"{self.place} must have a field {field!r}, got {', '.join(self._value.dtype.names or ())}")
        content: np.ndarray = self._value[field].item()
        return content

    def text(self, field: str) -> str:
        """Return a field that is a string."""
        return "".join(map(str, self[field].ravel()))

    @property
    def type(self) -> str:
        """What kind of layer this struct is."""
        return self.text("type")

    def numbers(self, field: str, count: int, default: float | None = None) -> list[float]:
        """Return ``count`` numbers of a field, which may hold one for all of them; a missing field has the default."""
        found = np.array(default) if default is not None and field not in self else self[field]
        if found.dtype.kind not in "fiu" or found.size not in (1, count):
            raise DataError(f"{self.place}: {field} must be {count} numbers, got {found.ravel().tolist()}")
        numbers: list[float] = np.broadcast_to(found.ravel().astype(float), count).tolist()
        return numbers

    def expect(self, field: str, wanted: Sequence[float], default: float | None = None) -> None:
        """Check the numbers of a field."""
        found = self.numbers(field, len(wanted), default)
        if not np.allclose(found, wanted, rtol=1e-6, atol=0):
            raise DataError(f"{self.place}: {field} must be {[*wanted]}, got {found}")


def _layers(path: Path, cells: np.ndarray) -> Iterator[_Struct]:
    """Yield the layers in their order, without dropout, which has no weights."""
    for number, cell in enumerate(cells.ravel(), start=1):
        layer = _Struct(f"{path}: layer {number}", cell)
        if "name" in layer:
            layer.place += f" ({layer.text('name')})"
        if layer.type != "dropout":
            yield layer


def _weights(layer: _Struct, module: nn.Conv2d | nn.Linear, image: Tensor) -> dict[str, Tensor]:
    """Return the kernel and bias of a layer. In the file it is a convolution, even if ours is linear."""
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        inputs, pad, stride = module.in_channels, int(module.padding[0]), module.stride[0]
    else:  # the first linear layer sees a whole map, the second one the first one's single pixel
        inputs, height, width = image.shape[1:] if image.ndim == 4 else (image.shape[1], 1, 1)
        pad, stride = 0, 1
    layer.expect("pad", [pad] * 4, default=0)
    layer.expect("stride", [stride] * 2, default=1)
    if "weights" in layer:
        cells = layer["weights"].ravel()
        if len(cells) != 2:
            raise DataError(f"{layer.place}: weights must be filters and biases, got {len(cells)} arrays")
        filters, biases = cells
    else:
        filters, biases = layer["filters"], layer["biases"]
    outputs = module.weight.shape[0]
    for field, array, shape in (
        ("filters", filters, (height, width, inputs, outputs)),
        ("biases", biases.ravel(), (outputs,)),
    ):
        if array.shape != shape or array.dtype.kind != "f":
            raise DataError(
                f"{layer.place}: {field} must be floating-point of shape {shape}, got {array.dtype} of {array.shape}"
            )
    # No flip: MatConvNet correlates like torch, and its first axis is the vertical one too.
    kernel = filters.transpose(3, 2, 0, 1).reshape(module.weight.shape)
    return {"weight": _to_tensor(kernel), "bias": _to_tensor(biases.ravel())}


def _check_pool(layer: _Struct, module: nn.MaxPool2d, before: Sequence[int], after: Sequence[int]) -> None:
    """Check that the file's pool has the same windows as ours, which turns maps of side ``before`` into ``after``."""
    if layer.text("method") != "max":
        raise DataError(f"{layer.place}: method must be 'max', got {layer.text('method')!r}")
    kernel, stride = cast("tuple[int, int]", (module.kernel_size, module.stride))
    layer.expect("pool", [kernel] * 2)
    layer.expect("stride", [stride] * 2, default=1)
    # No padding above and to the left. Any padding below and to the right that leaves as many windows is fine.
    top, bottom, left, right = layer.numbers("pad", 4, default=0)
    room = (before[0] + top + bottom - kernel, before[1] + left + right - kernel)
    if top or left or [side // stride + 1 for side in room] != [*after]:
        raise DataError(
            f"{layer.place}: pad must be 0 above and to the left and turn {[*before]} pixels into {[*after]}, "
            f"got {[top, bottom, left, right]}"
        )


def _mean_color(path: Path, content: Mapping[str, Any]) -> Tensor:
    """Return the mean color of the image that was subtracted from the network's inputs."""
    if "meta" in content:
        found = _Struct(f"{path}: meta", content["meta"])["normalization"]
    elif "normalization" in content:  # until 1.0-beta16
        found = content["normalization"]
    else:
        raise DataError(f"{path} must have 'meta' or 'normalization', got neither")
    image = np.squeeze(_Struct(f"{path}: normalization", found)["averageImage"])
    if image.shape[-1:] != (RGB,) or image.dtype.kind not in "fiu":
        raise DataError(f"{path}: averageImage must be numbers, three colors last, got {image.dtype} of {image.shape}")
    return torch.from_numpy(image.reshape(-1, RGB).mean(0, dtype=np.float64))


def _loaded(path: Path, load: Callable[[Path], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        content = load(path)
    except Exception as problem:  # readers raise all kinds of errors for broken files
        reason = next(iter(str(problem).splitlines()), "")
        raise DataError(f"{path} cannot be read: {type(problem).__name__}: {reason}") from problem
    if not isinstance(content, Mapping):
        raise DataError(f"{path} must hold arrays by name, got {type(content).__name__}")
    return content


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
