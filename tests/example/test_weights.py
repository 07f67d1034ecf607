"""Released ImageNet weights: read so that networks compute what MatConvNet or torchvision do, or refused by name."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import save_file

from benchmarks.reliability import weight_corpus
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.samples import RGB_MEAN
from examples.mpii_cooking.training import weight_files, weights
from examples.mpii_cooking.training.networks import Backbone
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from tests.helpers.released_weights import GENERAL, MEANS, NARROW, WIDTH, cells, read, released_layers, written


def matconvnet(layers, image):
    """What MatConvNet computes of an image (row, column, channel): its operations, in its layout, in float64."""
    for layer in layers:
        if layer["type"] == "conv":
            (top, bottom, left, right), (down, across) = layer["pad"], layer["stride"]
            filters = layer["filters"].astype(np.float64)
            rows, columns = filters.shape[:2]
            image = np.pad(image, ((top, bottom), (left, right), (0, 0)))
            image = sum(
                image[i : image.shape[0] - rows + i + 1 : down, j : image.shape[1] - columns + j + 1 : across]
                @ filters[i, j]
                for i in range(rows)
                for j in range(columns)
            ) + layer["biases"].ravel().astype(np.float64)
        elif layer["type"] == "relu":
            image = np.maximum(image, 0)
        elif layer["type"] == "lrn":
            size, kappa, alpha, beta = layer["param"]
            reach = int(size) // 2
            near = [image[..., max(0, c - reach) : c + reach + 1] for c in range(image.shape[2])]
            image = image / (kappa + alpha * np.stack([(x**2).sum(-1) for x in near], -1)) ** beta
        elif layer["type"] == "pool":
            top, bottom, left, right = layer["pad"]
            side = layer["pool"][0]
            image = np.pad(image, ((top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
            windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
            image = windows[::2, ::2].max((-2, -1))
    return image


def narrow(name, channels=3):
    return Backbone(name, channels, input_size=224, width=WIDTH, dropout=0.5)


@pytest.mark.parametrize("old", [False, True], ids=["new layout", "old layout"])
@pytest.mark.parametrize("name", ["vgg-f", "vgg-m", "vgg-16"])
def test_a_network_from_a_file_computes_what_matconvnet_does(tmp_path, name, old):
    layers = released_layers(name)
    path = written(tmp_path / "network.mat", layers, MEANS[name], old=old)
    network = narrow(name).double().eval()
    weights.start(network, read(path, name))
    photo = np.random.default_rng(1).uniform(0, 255, (224, 224, 3)) * np.linspace(0.2, 1, 224)[:, None, None]
    expected = matconvnet(layers[:-2], photo - np.array(MEANS[name], np.float32)).ravel()  # without fc8 and softmax
    ours = torch.from_numpy(photo - np.array(RGB_MEAN)).permute(2, 0, 1)[None]
    assert (expected > 0).sum() > 20
    np.testing.assert_allclose(network(ours).detach().numpy()[0], expected, rtol=0, atol=1e-5 * expected.max())


def test_flow_starts_from_the_mean_of_the_colors_and_the_released_bias(tmp_path):
    layers = released_layers("vgg-f")
    released = read(written(tmp_path / "network.mat", layers, MEANS["vgg-f"]), "vgg-f")
    network = narrow("vgg-f", channels=20)
    weights.start(network, released)
    first = network.features[0]
    colors = layers[0]["filters"].mean(2).transpose(2, 0, 1)  # (row, column, input, output)
    for channel in range(20):
        torch.testing.assert_close(first.weight[:, channel], torch.from_numpy(colors))
    assert torch.equal(first.bias, torch.from_numpy(layers[0]["biases"].ravel()))


def test_what_the_file_does_not_have_stays_as_it_was(tmp_path):
    """All layers start from the file but for the last of each network, which is drawn as without one."""
    path = written(tmp_path / "network.mat", released_layers("vgg-16"), MEANS["vgg-16"])
    released = {"vgg-16": read(path, "vgg-16")}
    run = Run(Phase.JOINT, Modality.TEMPORAL, GENERAL, "vgg-16", Variant.STN)
    random, begun = build(run, 5, NARROW).state_dict(), build(run, 5, NARROW, released).state_dict()
    same = {name for name, tensor in random.items() if torch.equal(tensor, begun[name])}
    assert same == {
        *("classifier.classifier.6.weight", "classifier.classifier.6.bias"),
        *("transformer.head.weight", "transformer.head.bias"),
    }
    for part in ("classifier.", "transformer.localization."):
        for name, tensor in released["vgg-16"].state.items():
            if name != "features.0.weight":
                assert torch.equal(begun[part + name], tensor)
    rates = [layer.p for layer in build(run, 5, NARROW, released).modules() if isinstance(layer, torch.nn.Dropout)]
    assert rates == [0.5] * 4


def test_networks_without_a_file_start_at_random(tmp_path):
    path = written(tmp_path / "network.mat", released_layers("vgg-f"), MEANS["vgg-f"])
    released = {"vgg-f": read(path, "vgg-f")}
    run = Run(Phase.JOINT, Modality.SPATIAL, GENERAL, "vgg-f", Variant.STN)
    random, begun = build(run, 5, NARROW), build(run, 5, NARROW, released)
    torch.testing.assert_close(begun.classifier.state_dict(), random.classifier.state_dict(), rtol=0, atol=0)
    assert torch.equal(
        begun.transformer.localization.classifier[0].weight, released["vgg-f"].state["classifier.0.weight"]
    )


def torchvision_state():
    generator = torch.Generator().manual_seed(0)
    shapes = {name: tensor.shape for name, tensor in weight_files.make_network("vgg-16", WIDTH).state_dict().items()}
    state = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"classifier.6.weight": torch.zeros(1000, 128), "classifier.6.bias": torch.zeros(1000)}


SAVE = {
    "vgg16.safetensors": save_file,
    "vgg16-397923af.pth": torch.save,
    "vgg16.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),  # as before 1.6
}


@pytest.mark.parametrize("file", SAVE)
def test_torchvisions_state_dict_sees_its_own_input_in_ours(tmp_path, file):
    state = torchvision_state()
    SAVE[file](state, tmp_path / file)
    network = narrow("vgg-16").double()
    weights.start(network, read(tmp_path / file, "vgg-16"))
    pixels = torch.randint(256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(1)).double()
    mean, std = (torch.tensor(of).double()[:, None, None] for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    first = (state["features.0.weight"].double(), state["features.0.bias"].double())
    expected = torch.nn.functional.conv2d((pixels / 255 - mean) / std, *first, padding=1)
    ours = network.features[0](pixels - torch.tensor(RGB_MEAN).double()[:, None, None])
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(ours[inside], expected[inside], rtol=0, atol=1e-5 * expected.abs().max().item())
    assert not torch.allclose(ours, expected, rtol=0, atol=1e-3), "at the border, padding is another color"
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.1)  # five taps, half a gray level in 58 each
    after = {
        name: tensor.float() for name, tensor in network.state_dict().items() if not name.startswith("features.0.")
    }
    torch.testing.assert_close(after, {name: state[name] for name in after}, rtol=0, atol=0)


def changed_layer(layers, number, **fields):
    """The layers with other fields in one of them; None takes a field away."""
    layer = {key: value for key, value in (layers[number - 1] | fields).items() if value is not None}
    return [*layers[: number - 1], layer, *layers[number:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers[:12], "cannot be read: KeyError: 'features.12.weight'"),
        (lambda layers: changed_layer(layers, 2, type="sigmoid"), "layer 2: type must be relu, got sigmoid"),
        (lambda layers: changed_layer(layers, 3, type=None), "cannot be read: KeyError: 'type'"),
        (
            lambda layers: changed_layer(layers, 3, param=[5, 1, 2e-5, 0.75]),
            r"layer 3: param must be \(5, 2.0, 0.0001, 0.75\), got \[5.0e\+00 1.0e\+00 2.0e-05 7.5e-01\]",
        ),
        (lambda layers: changed_layer(layers, 4, method="avg"), "layer 4: method must be max, got avg"),
        (lambda layers: changed_layer(layers, 4, pool=[2, 2]), r"layer 4: pool must be 3, got \[2 2\]"),
        (lambda layers: changed_layer(layers, 4, pad=[1, 0, 1, 0]), r"layer 4: near pad must be 0, got \[1 1\]"),
        (lambda layers: changed_layer(layers, 4, pad=0), r"layer 4: windows must be \[27 27\], got \[26 26\]"),
        (lambda layers: changed_layer(layers, 4, pad=[0, 1]), "cannot be read: ValueError: "),
        (lambda layers: changed_layer(layers, 5, pad=0), "layer 5: pad must be 2, got 0"),
        (lambda layers: changed_layer(layers, 5, stride=[1, 2]), r"layer 5: stride must be 1, got \[1 2\]"),
        (lambda layers: changed_layer(layers, 5, stride="two"), "cannot be read: "),
        (
            lambda layers: changed_layer(layers, 5, filters=np.zeros((5, 5, 2, 9), np.float32)),
            r"features.4.weight must have shape \(8, 2, 5, 5\), got \(9, 2, 5, 5\)",
        ),
        (
            lambda layers: changed_layer(layers, 5, biases=np.zeros(7, np.float32)),
            r"features.4.bias must have shape \(8,\), got \(7,\)",
        ),
        (lambda layers: changed_layer(layers, 5, filters=None), "cannot be read: KeyError: 'filters'"),
        (
            lambda layers: changed_layer(layers, 5, biases=np.full(8, np.nan, np.float32)),
            "features.4.bias must be finite, got inf or nan",
        ),
        (lambda layers: [*layers[:4], np.zeros(3), *layers[5:]], "cannot be read: IndexError: "),
    ],
)
def test_a_file_of_another_network_is_refused_by_layer_and_field(tmp_path, change, message):
    path = written(tmp_path / "network.mat", change(released_layers("vgg-f")), MEANS["vgg-f"], old=True)
    with pytest.raises(DataError, match=message) as caught:
        read(path, "vgg-f")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"net": 1}, "KeyError: 'layers'"),
        ({}, "KeyError: 'normalization'"),
        ({"meta": {"classes": 1}}, "KeyError: 'normalization'"),
        ({"meta": {"normalization": {"border": 1}}}, "KeyError: 'averageImage'"),
        ({"normalization": {"averageImage": np.zeros((224, 224))}}, "ValueError: cannot reshape"),
    ],
)
def test_a_file_without_its_parts_is_refused(tmp_path, content, message):
    path = tmp_path / "network.mat"
    layers = {} if "net" in content else {"layers": cells(released_layers("vgg-f"), old=True)}
    scipy.io.savemat(path, layers | content)
    with pytest.raises(DataError, match=f"network.mat cannot be read: {message}"):
        read(path, "vgg-f")


def test_dropout_in_a_file_changes_nothing(tmp_path):
    """The converter of the released files leaves it out by default."""
    layers = released_layers("vgg-f")
    place = next(number for number, layer in enumerate(layers) if layer["name"] == "relu17") + 1
    dropped = [*layers[:place], {"name": "drop6", "type": "dropout", "rate": 0.5}, *layers[place:]]
    states = [
        read(written(tmp_path / f"{len(each)}.mat", each, MEANS["vgg-f"]), "vgg-f").state for each in (layers, dropped)
    ]
    torch.testing.assert_close(*states, rtol=0, atol=0)


def nan_classifier(state):
    return state | {"classifier.0.weight": torch.full_like(state["classifier.0.weight"], torch.nan)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {key: state[key] for key in state if key != "features.28.bias"},
            "cannot be read: KeyError: 'features.28.bias'",
        ),
        (lambda state: state | {"features.2.weight": torch.zeros(2, 2, 5, 5)}, r"\(2, 2, 3, 3\), got \(2, 2, 5, 5\)"),
        (lambda state: {"model": 3}, "cannot be read: KeyError: 'features.0.weight'"),
        (lambda state: [1, 2], "cannot be read: TypeError"),
        (nan_classifier, "classifier.0.weight must be finite, got inf or nan"),  # torchvision's IMAGENET1K_FEATURES
    ],
)
def test_a_state_dict_of_another_network_is_refused(tmp_path, change, message):
    path = tmp_path / "vgg16.pth"
    torch.save(change(torchvision_state()), path)
    with pytest.raises(DataError, match=message):
        read(path, "vgg-16")


class _Payload:
    def __reduce__(self):
        return (Path.touch, (Path("payload-ran"),))


@pytest.mark.parametrize("name", ["imagenet-vgg-f.mat", "vgg16.safetensors", "vgg16.pth"])
def test_a_broken_file_cannot_be_read(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not what the name says" * 20)
    with pytest.raises(DataError, match=f"{name} cannot be read: "):
        read(path, "vgg-16")


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": _Payload()}, "vgg16.pth")
    with pytest.raises(DataError, match=r"vgg16\.pth cannot be read: it is damaged, or holds more than tensors"):
        read(Path("vgg16.pth"), "vgg-16")
    assert not Path("payload-ran").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems set no limits, and may not crash")
@pytest.mark.parametrize(("make", "ending"), [
    (lambda: weight_corpus.nested_cells(20_000), "its reader ended with SIGSEGV"),
    (lambda: weight_corpus.deflate_bomb(4_000_000_000), "it takes more memory than weights do"),
], ids=["cells nested 20,000 deep", "deflate bomb"])  # fmt: skip
def test_a_file_that_kills_its_reader_is_refused(tmp_path, make, ending):
    path = tmp_path / "imagenet-vgg-f.mat"
    path.write_bytes(make())
    assert path.stat().st_size < 5_000_000
    with pytest.raises(DataError, match=f"imagenet-vgg-f.mat cannot be read: {ending}"):
        weights.read(path, "vgg-f", WIDTH)


def test_what_cannot_be_weights_is_not_read_at_all(tmp_path):
    with pytest.raises(DataError, match=r"vgg16.pth must be a file"):
        weights.read(tmp_path / "vgg16.pth", "vgg-16")
    with (tmp_path / "vgg16.pth").open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(
        DataError, match=r"at most 1,174,0\d\d,\d\d\d bytes to hold the weights of vgg-16, got 2,000,000,000"
    ):
        weights.read(tmp_path / "vgg16.pth", "vgg-16")


def test_a_reader_that_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_files, "LONGEST", 0.01)
    (tmp_path / "vgg16.pth").touch()
    with pytest.raises(DataError, match=r"vgg16.pth could not be read within 0.01 s"):
        weights.read(tmp_path / "vgg16.pth", "vgg-16")
