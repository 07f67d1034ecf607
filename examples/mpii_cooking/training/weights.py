"""ImageNet weights for the networks of Table 2, read from released files.

Such files come from anywhere, so a process of its own reads them, with limits of memory and time. It may crash; the run
does not. ``start`` fits the first convolution to the example's inputs.
"""

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.samples import RGB_MEAN
from examples.mpii_cooking.storage import sha256
from examples.mpii_cooking.training import weight_files
from examples.mpii_cooking.training.weight_files import BIAS, KERNEL, RGB
from examples.mpii_cooking.workspace import stamp

FILES: dict[str, tuple[str, ...]] = {
    "vgg-f": ("imagenet-vgg-f.mat",),
    "vgg-m": ("imagenet-vgg-m.mat",),
    "vgg-16": ("imagenet-vgg-verydeep-16.mat", "vgg16*.safetensors", "vgg16*.pth"),
}
"""Names of the files of each network, as patterns."""
RANDOM = "random"  # origin of a network that starts at random

_MEGABYTES_100 = 100_000_000
_ROOT = Path(__file__).resolve().parents[3]


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
            found[network] = read(files[0], network)
    if not found:
        names = ", ".join(name for network in preset.networks for name in FILES[network])
        raise DataError(f"weights must hold a file of at least one network ({names}), got none in {folder}")
    return found


def read(path: Path, network: str, width: float = 1.0) -> Released:
    """Read a file in a process of its own; a ``DataError`` says why it was refused."""
    if not path.is_file():
        raise DataError(f"{path} must be a file")
    needed = 4 * sum(parameter.numel() for parameter in weight_files.make_network(network, width).parameters())
    largest, stored = 2 * needed + _MEGABYTES_100, path.stat().st_size  # in float64, and with the last layer
    if stored > largest:
        raise DataError(f"{path} must have at most {largest:,} bytes to hold the weights of {network}, got {stored:,}")
    memory = 6 * needed + 10 * _MEGABYTES_100
    read_from = stamp(path)
    command = [sys.executable, "-m", weight_files.__name__, *map(str, (path.resolve(), network, width, memory))]
    try:
        done = subprocess.run(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=weight_files.LONGEST, check=False
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{path} could not be read within {weight_files.LONGEST} s") from None
    if done.returncode == weight_files.REFUSED:
        raise DataError(done.stdout.decode(errors="replace").strip())
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else last
        raise DataError(f"{path} cannot be read: its reader ended with {ended}")
    state, digest = load(done.stdout), sha256(path)
    if stamp(path) != read_from:
        raise DataError(f"{path} was changed while it was read", "start again when it is complete")
    return Released(path.name, digest, state, state.pop(weight_files.MEAN))


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
