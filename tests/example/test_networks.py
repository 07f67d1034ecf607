"""The networks of the example: the published sizes at full scale, and what remains of them at a fraction of it."""

import pytest
import torch
from torch import nn

from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.training.networks import Backbone, Classifier, Positions, transformer
from examples.mpii_cooking.variants import Modality

PAPER, QUICK = PRESETS["paper"], PRESETS["quick"]


def backbone(name, **changes):
    return Backbone(name, **({"channels": 3, "input_size": 224, "width": 1.0, "dropout": 0.5} | changes))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def chain(network, image):
    """Side of the map after every convolution and pool."""
    sides = []
    for layer in network.features:
        image = layer(image)
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            sides.append(image.shape[-1])
    return sides


@pytest.fixture
def on_meta():
    """Shapes and counts need no values, so full-size networks cost nothing on this device."""
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(("name", "count"), [("vgg-f", 56_762_118), ("vgg-m", 98_836_102), ("vgg-16", 134_285_126)])
@pytest.mark.usefixtures("on_meta")
def test_parameter_counts_with_a_six_number_head_are_the_published_ones(name, count):
    level = PAPER.data.levels[2]
    assert parameters(transformer(name, level, Modality.SPATIAL, PAPER)) == count


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("vgg-f", [54, 27, 27, 13, 13, 13, 13, 6]),
        ("vgg-m", [109, 54, 26, 13, 13, 13, 13, 6]),
        ("vgg-16", [224, 224, 112, 112, 112, 56, 56, 56, 56, 28, 28, 28, 28, 14, 14, 14, 14, 7]),
    ],
)
@pytest.mark.usefixtures("on_meta")
def test_full_scale_maps_have_the_published_sides(name, sides):
    assert chain(backbone(name), torch.zeros(1, 3, 224, 224)) == sides


@pytest.mark.usefixtures("on_meta")
def test_full_scale_classifier_has_the_names_and_shapes_of_torchvisions_vgg16():
    shapes = {
        name: tuple(tensor.shape) for name, tensor in Classifier(64, Modality.TEMPORAL, PAPER).state_dict().items()
    }
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert set(shapes) == {
        f"{layer}.{kind}"
        for layer in [*(f"features.{i}" for i in convolutions), *(f"classifier.{i}" for i in (0, 3, 6))]
        for kind in ("weight", "bias")
    }
    assert shapes["features.0.weight"] == (64, 20, 3, 3)
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert shapes["classifier.0.weight"] == (4096, 512 * 7 * 7)
    assert shapes["classifier.6.weight"] == (64, 4096)


@pytest.mark.parametrize("name", ["vgg-f", "vgg-m", "vgg-16"])
def test_an_eighth_of_the_size_keeps_every_layer_and_some_map(name):
    with torch.device("meta"):
        full = backbone(name)
    small = backbone(name, input_size=28, width=1 / 8)
    assert [type(layer) for layer in small.features] == [type(layer) for layer in full.features]
    assert chain(small, torch.zeros(1, 3, 28, 28))[-1] >= 1
    assert small.width == 512
    assert small(torch.zeros(2, 3, 28, 28)).shape == (2, 512)


@pytest.mark.parametrize("name", ["vgg-f", "vgg-m", "vgg-16"])
def test_a_small_localization_network_keeps_the_layers_up_to_a_quarter_of_the_side(name):
    whole = backbone(name, input_size=28, width=1 / 8)
    network = Positions(name, 3, input_size=28, width=1 / 8)
    kinds = [type(layer) for layer in network.features]
    assert kinds == [type(layer) for layer in whole.features][: len(kinds)]
    assert isinstance(whole.features[len(kinds)], nn.MaxPool2d)
    assert chain(network, torch.zeros(1, 3, 28, 28))[-1] == 7


def test_a_small_localization_network_returns_where_its_maps_are_high():
    """A map of 4 x 4 pixels has their centers at -3/4, -1/4, 1/4 and 3/4."""
    network = Positions("vgg-f", 3, input_size=16, width=1 / 8)
    network.features = nn.Identity()
    maps = torch.zeros(1, 4, 4, 4)
    maps[0, 0, 0, 3] = 90  # row 0, column 3
    maps[0, 1, 1, 0] = maps[0, 1, 2, 0] = 90
    maps[0, 2, :2, 1] = torch.tensor([3.0, 1.0]).log() + 90
    expected = [[3 / 4, -3 / 4, -1 / 4, 0, -3 / 4, 0, -5 / 8, 0]]
    torch.testing.assert_close(network(maps), torch.tensor(expected))
    torch.testing.assert_close(network(maps + 1e4), network(maps), rtol=0, atol=1e-3)


def test_normalization_divides_by_the_neighboring_channels_energy():
    """MatConvNet's [5 2 1e-4 0.75]: x / (2 + 1e-4 * sum of five neighbors' squares) ** 0.75."""
    layer = backbone("vgg-f", input_size=28, width=1 / 8).features[2]
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 300
    energy = torch.stack([x[:, max(0, c - 2) : c + 3].square().sum(1) for c in range(8)], dim=1)
    expected = x / (2 + 1e-4 * energy) ** 0.75
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x.float()), expected.float())
    # torch divides alpha by the number of channels, MatConvNet does not.
    torch.testing.assert_close(nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)(x), expected)


def test_he_initialization_keeps_the_signal_through_sixteen_layers():
    torch.manual_seed(0)
    network = backbone("vgg-16", width=1 / 4, input_size=56).eval()
    features = network(torch.randn(16, 3, 56, 56))
    assert 0.1 < features.square().mean().sqrt() < 10


def test_dropout_is_the_papers_only_where_training_starts_from_large_networks():
    def rates(classifier):
        return [layer.p for layer in classifier.classifier if isinstance(layer, nn.Dropout)]

    with torch.device("meta"):
        assert rates(Classifier(8, Modality.SPATIAL, PAPER)) == [0.85, 0.85]
        assert rates(Classifier(8, Modality.TEMPORAL, PAPER)) == [0.5, 0.5]
    assert rates(Classifier(8, Modality.SPATIAL, QUICK)) == [0.2, 0.2]


def test_fc6_is_the_first_classifier_layer_after_its_relu():
    torch.manual_seed(0)
    classifier = Classifier(3, Modality.SPATIAL, QUICK).eval()
    image = torch.randn(2, 3, 28, 28)
    flat = classifier.features(image).flatten(1)
    fc6 = classifier.classifier[0]
    torch.testing.assert_close(classifier.fc6(image), (flat @ fc6.weight.T + fc6.bias).clamp(min=0))
    assert classifier(image).shape == (2, 3)


@pytest.mark.parametrize("level", QUICK.data.levels, ids=lambda level: level.name)
def test_a_transformer_starts_from_a_random_head_as_in_the_paper(level):
    torch.manual_seed(0)
    head = transformer("vgg-16", level, Modality.SPATIAL, QUICK).head
    assert torch.equal(head.bias, torch.zeros(6))
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_a_window_wider_than_the_glimpse_shows_averages_and_no_moire():
    """Pixels that alternate between 1 and -1 average to 0 over the four by four of an output pixel."""
    level = QUICK.data.levels[2]
    rows, columns = torch.meshgrid(torch.arange(level.height), torch.arange(level.height), indexing="ij")
    image = (1 - 2 * ((rows + columns) % 2)).float().expand(1, 3, -1, -1)
    sampled = transformer("vgg-m", level, Modality.SPATIAL, QUICK).sample(image, torch.eye(2, 3)[None])
    assert sampled.abs().max() < 1e-6
