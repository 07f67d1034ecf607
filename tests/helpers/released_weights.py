"""Files as the released ones of ImageNet weights, with a 32nd of their channels."""

import numpy as np
import scipy.io

from examples.mpii_cooking.data.samples import RGB_MEAN
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training import weight_files, weights
from tests.helpers.made_up_samples import changed

WIDTH = 1 / 32
NARROW = changed(PRESETS["paper"], width=WIDTH)
GENERAL = NARROW.data.levels[0]
MEANS = {"vgg-f": (122.7, 114.9, 101.5), "vgg-m": (120.1, 117.2, 104.3), "vgg-16": RGB_MEAN}
"""Mean colors of the made-up files; VGG-16's is the released one."""
LAYERS = {  # ((kernel, stride, pad), published channels), "lrn", (pool, pad below and to the right)
    "vgg-f": [((11, 4, 0), 64), "lrn", (3, 1), ((5, 1, 2), 256), "lrn", (3, 1)]
    + [((3, 1, 1), 256)] * 3
    + [(3, 1), ((6, 1, 0), 4096), ((1, 1, 0), 4096), ((1, 1, 0), 1000)],
    "vgg-m": [((7, 2, 0), 96), "lrn", (3, 0), ((5, 2, 1), 256), "lrn", (3, 1)]
    + [((3, 1, 1), 512)] * 3
    + [(3, 0), ((6, 1, 0), 4096), ((1, 1, 0), 4096), ((1, 1, 0), 1000)],
    "vgg-16": [
        *(((3, 1, 1), 64), ((3, 1, 1), 64), (2, 0), ((3, 1, 1), 128), ((3, 1, 1), 128), (2, 0)),
        *(*[((3, 1, 1), 256)] * 3, (2, 0), *[((3, 1, 1), 512)] * 3, (2, 0), *[((3, 1, 1), 512)] * 3, (2, 0)),
        *(((7, 1, 0), 4096), ((1, 1, 0), 4096), ((1, 1, 0), 1000)),
    ],
}


def released_layers(name):
    """The layers of a released file with a 32nd of its channels: kernels of (row, column, input, output), lopsided."""
    generator = np.random.default_rng(0)
    layers, inputs = [], 3
    for entry in LAYERS[name]:
        if entry == "lrn":
            layers.append({"type": "lrn", "param": [5.0, 2.0, 1e-4, 0.75]})
        elif isinstance(entry[0], int):
            pool, pad = entry
            layers.append({"type": "pool", "method": "max", "pool": [pool] * 2, "stride": [2, 2], "pad": [0, pad] * 2})
        else:
            (kernel, stride, pad), outputs = entry
            outputs = round(outputs * WIDTH)
            filters = generator.normal(0.1, 1, (kernel, kernel, inputs, outputs)) * (2 / kernel**2 / inputs) ** 0.5
            biases = generator.normal(0, 1, (outputs, 1))
            layer = {"type": "conv", "filters": np.float32(filters), "biases": np.float32(biases)}
            layers += [layer | {"pad": [pad] * 4, "stride": [stride] * 2}, {"type": "relu"}]
            inputs = outputs
    layers[-1] = {"type": "softmax"}  # where the loop has put a ReLU
    return [{"name": f"{layer['type']}{number}"} | layer for number, layer in enumerate(layers, start=1)]


def written(path, layers, mean, *, old=False):
    """Write a SimpleNN network: as it is since 1.0-beta17, or as it was, with its fields in another order."""
    gradient = np.linspace(-20, 20, 224, dtype=np.float32)[:, None, None]  # a mean image is not one color
    image = np.float32(mean) + np.broadcast_to(gradient, (224, 224, 1))
    parts = {"normalization": {"imageSize": [224.0, 224.0, 3.0], "averageImage": image}}
    scipy.io.savemat(path, {"layers": cells(layers, old=old)} | (parts if old else {"meta": parts}))
    return path


def cells(layers, *, old):
    """A MATLAB cell array, in which anything may lie instead of a layer."""
    array = np.empty((1, len(layers)), object)
    for place, layer in enumerate(layers):
        if isinstance(layer, dict):
            layer = dict(layer)
            if old and layer.get("type") == "lrn":
                layer["type"] = "normalize"
            if old:
                layer = dict(reversed(layer.items()))
            elif "filters" in layer:
                weights = np.empty((1, 2), object)
                weights[0, 0], weights[0, 1] = layer.pop("filters"), layer.pop("biases")
                layer |= {"weights": weights, "size": weights[0, 0].shape, "dilate": 1}
        array[0, place] = layer
    return array


def read(path, name):
    """What `weights.read` returns, without a process."""
    return weights.Released(path.name, "", *weight_files.parse(path, weight_files.make_network(name, WIDTH)))
