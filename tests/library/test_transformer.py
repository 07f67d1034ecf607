"""The layer: its head, its state, its precision and its errors."""

import copy
import re

import pytest
import torch
from torch import nn

from supervised_st.geometry import PARAMETERIZATIONS, theta_from_parameters, theta_to_window
from supervised_st.transformer import Glimpse, Resize, SupervisedSpatialTransformer


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def localization(features=5, channels=3):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, features), nn.Tanh())


def build(size=(4, 4), **options):
    return SupervisedSpatialTransformer(localization(), size, features=5, **options)


def diagonal(side, *, batch=2):
    return torch.tensor([[side, 0.0, 0.0], [0.0, side, 0.0]]).expand(batch, 2, 3)


def test_an_identity_head_returns_the_image():
    image = torch.randn(2, 3, 8, 8)
    glimpse = build((8, 8), head_init="identity")(image)
    assert isinstance(glimpse, Glimpse)
    assert torch.equal(glimpse.image, image)
    assert torch.equal(glimpse.theta, diagonal(1.0))


@pytest.mark.parametrize("align_corners", [False, True])
def test_a_level_head_returns_the_center_crop(align_corners):
    image = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    scale = 3 / 11 if align_corners else 4 / 12
    transformer = build(scale=scale, align_corners=align_corners).double()
    transformer.reset_head()  # in float64 now
    seen = transformer(image).image
    torch.testing.assert_close(seen, image[..., 4:8, 4:8], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
@pytest.mark.parametrize(("head_init", "side"), [("level", 0.25), ("identity", 1.0)])
def test_every_family_starts_with_the_window_it_is_asked_for(kind, head_init, side):
    transformer = build(parameterization=kind, head_init=head_init, scale=side)
    assert torch.equal(transformer.localize(torch.randn(2, 3, 9, 9)), diagonal(side))


@pytest.mark.parametrize("kind", ["crop4", "crop3", "translation"])
def test_a_bounded_head_starts_with_the_window_it_is_asked_for(kind):
    transformer = build(parameterization=kind, scale=0.25, bounds=(0.1, 0.5))
    torch.testing.assert_close(transformer.localize(torch.randn(2, 3, 9, 9)), diagonal(0.25), rtol=0, atol=1e-7)


def test_a_gaussian_head_is_the_papers():
    head = SupervisedSpatialTransformer(nn.Flatten(), (2, 2), features=4096, head_init="gaussian").head
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.weight.mean().item() == pytest.approx(0, abs=2e-4)
    assert not head.bias.any()


def test_localize_and_sample_make_the_glimpse():
    transformer = build(head_init="gaussian", parameterization="similarity", padding_mode="border", mode="nearest")
    image = torch.randn(2, 3, 9, 9)
    theta = transformer.localize(image)
    parameters = transformer.head(transformer.localization(image))
    assert torch.equal(theta, theta_from_parameters(parameters, "similarity"))
    glimpse = transformer(image)
    assert torch.equal(glimpse.theta, theta)
    assert torch.equal(glimpse.image, transformer.sample(image, theta))


@pytest.mark.parametrize(("options", "padding"), [({}, 0.0), ({"padding_mode": "border"}, 2.0)])
def test_padding_is_the_users_choice(options, padding):
    seen = build((6, 6), scale=3.0, **options)(torch.full((1, 3, 4, 4), 2.0)).image
    assert seen[0, :, 0, 0].tolist() == [padding] * 3
    filled = build((6, 6), scale=3.0, padding_mode="fill", fill_value=(1.0, 2.0, 3.0))(torch.zeros(1, 3, 4, 4)).image
    assert filled[0, :, 0, 0].tolist() == [1, 2, 3]


def test_localization_sees_the_small_image_and_the_sampler_the_large_one():
    seen = []

    class Watch(nn.Module):
        def forward(self, image):
            seen.append(image)
            return image.mean((2, 3))

    transformer = SupervisedSpatialTransformer(Watch(), (4, 4), features=3, downscale=nn.MaxPool2d(4), scale=0.25)
    image = torch.randn(2, 3, 16, 16)
    glimpse = transformer(image)
    assert torch.equal(seen[0], nn.functional.max_pool2d(image, 4))
    assert torch.equal(glimpse.image, image[..., 6:10, 6:10])


def test_resize_keeps_what_an_average_must_keep():
    """Antialiased: shrinking by a whole factor keeps a constant and a linear ramp away from the border."""
    ramp = torch.arange(64, dtype=torch.float64).expand(1, 1, 64, 64)
    small = Resize((16, 16))(ramp)
    expected = (torch.arange(16, dtype=torch.float64) + 0.5) * 4 - 0.5
    torch.testing.assert_close(small[0, 0, 8, 2:-2], expected[2:-2])
    every_fourth = (torch.arange(64) % 4 == 0).double().expand(1, 1, 64, 64)
    torch.testing.assert_close(Resize((16, 16))(every_fourth)[..., 2:-2], torch.full((1, 1, 16, 12), 0.25).double())


def test_resize_rounds_bytes_to_the_nearest_level():
    """Conversion cuts off, which made white 254 and images half a level too dark (vision#2950)."""
    for level in (0, 1, 254, 255):
        assert set(Resize((5, 5))(torch.full((1, 1, 13, 17), level, dtype=torch.uint8)).unique().tolist()) == {level}
    image = torch.randint(0, 256, (2, 3, 40, 30), dtype=torch.uint8)
    for size in ((7, 9), (80, 61)):
        assert (Resize(size)(image) - Resize(size)(image.double())).abs().max() < 0.5 + 1e-4
    with pytest.raises(TypeError, match=r"image must be float64, .*, bfloat16 or uint8, got torch\.int64"):
        Resize(4)(image.long())


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_theta_stays_float32_under_autocast(low):
    """1/3 and 1/7 have no short binary form, so one half-precision step on the way would show."""
    transformer = build((8, 8), parameterization="crop4", head_init="identity")
    with torch.no_grad():
        transformer.head.bias.copy_(torch.tensor([1 / 3, 1.0, 1 / 7, 0.0]))
    image = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=low):
        assert transformer.localization(image).dtype == low
        theta = transformer.localize(image)
    assert theta.dtype == torch.float32
    assert torch.equal(theta, torch.tensor([[1 / 3, 0, 1 / 7], [0, 1, 0]]).expand(2, 2, 3))


def test_the_identity_is_exact_under_autocast_and_in_half_precision():
    image = torch.randn(2, 3, 37, 53)
    transformer = build((37, 53), head_init="identity", backend="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transformer(image).image, image)
    glimpse = transformer.bfloat16()(image.bfloat16())
    assert torch.equal(glimpse.image, image.bfloat16())
    assert glimpse.theta.dtype == torch.float32


def test_a_half_precision_model_still_computes_theta_in_float32():
    """Weights are bfloat16, but the sum of their products is not rounded to bfloat16."""
    transformer = build(head_init="gaussian").bfloat16()
    image = torch.randn(2, 3, 9, 9, dtype=torch.bfloat16)
    head, features = transformer.head, transformer.localization(image)
    exact = nn.functional.linear(features.double(), head.weight.double(), head.bias.double()).view(2, 2, 3)
    torch.testing.assert_close(transformer.localize(image).double(), exact, rtol=0, atol=1e-7)


def test_an_image_that_needs_no_gradient_still_trains_the_localization():
    transformer = build(head_init="gaussian", backend="reference").double()
    transformer(torch.randn(2, 3, 9, 9, dtype=torch.float64)).image.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in transformer.parameters())


def test_the_paths_gradient_is_exact():
    transformer = build((3, 3), head_init="level", scale=0.55, backend="reference").double()
    image = torch.randn(1, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    nn.init.normal_(transformer.head.weight, std=0.05)
    assert torch.autograd.gradcheck(lambda image, bias: transformer(image).image, (image, transformer.head.bias))


def test_state_dict_names_are_stable_and_complete():
    downscale = nn.Conv2d(3, 3, 1)
    transformer = build(downscale=downscale, head_init="gaussian")
    assert {name.split(".")[0] for name in transformer.state_dict()} == {"localization", "head", "downscale"}
    other = build(downscale=copy.deepcopy(downscale))
    other.load_state_dict(transformer.state_dict())
    image = torch.randn(2, 3, 9, 9)
    assert torch.equal(other(image).image, transformer(image).image)


def test_reset_head_forgets_training():
    transformer = build(scale=0.5)
    nn.init.normal_(transformer.head.weight)
    nn.init.normal_(transformer.head.bias)
    transformer.reset_head()
    assert torch.equal(transformer.localize(torch.randn(2, 3, 9, 9)), diagonal(0.5))


def test_a_bounded_window_never_leaves_the_image():
    transformer = build(parameterization="crop4", scale=0.3, bounds=(0.2, 0.6))
    nn.init.normal_(transformer.head.weight, std=100)
    window = theta_to_window(transformer.localize(torch.randn(50, 3, 9, 9)), (100, 100))
    assert window[:, :2].min().item() >= -1e-4
    assert (window[:, :2] + window[:, 2:]).max().item() <= 100 + 1e-4


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"parameterization": "crop5"}, "parameterization must be one of 'affine', .*, got 'crop5'"),
        ({"head_init": "zeros"}, "head_init must be one of 'level', 'identity', 'gaussian', got 'zeros'"),
        ({"size": (0, 4)}, "size must be two integers .* from 1"),
        ({"scale": 0.0}, "scale must be one positive number, or two, .* got 0.0"),
        (
            {"bounds": (0.1, 0.9)},
            "bounds must be None unless the parameterization is one of 'crop4', .*, got 'affine'",
        ),
        ({"bounds": (0.1, 0.9), "head_init": "gaussian"}, "bounds must be None unless the parameterization is one of"),
        (
            {"parameterization": "translation", "scale": 0.25, "head_init": "identity"},
            "head_init='identity' starts with side 1.0; parameterization='translation' with scale=0.25",
        ),
        (
            {"parameterization": "crop3", "bounds": (0.1, 1.0)},
            r"head_init='level' starts with side 1.0; .* strictly between the bounds=\(0.1, 1.0\)",
        ),
    ],
)
def test_bad_options_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        build(**options)


def test_no_features_is_an_error():
    with pytest.raises(ValueError, match="features must be positive, got 0"):
        SupervisedSpatialTransformer(nn.Flatten(), (2, 2), features=0)


def test_a_localization_with_other_features_is_named():
    transformer = SupervisedSpatialTransformer(localization(features=7), (4, 4), features=5)
    expected = "localization's output must have shape (2, 5), got (2, 7)"
    with pytest.raises(ValueError, match=re.escape(expected)):
        transformer(torch.randn(2, 3, 9, 9))


def test_a_localization_that_returns_maps_or_no_tensor_is_named():
    image = torch.randn(2, 3, 9, 9)
    with pytest.raises(ValueError, match=r"localization's output must have shape .*, got \(2, 3, 9, 9\)"):
        SupervisedSpatialTransformer(nn.Identity(), (4, 4), features=3)(image)

    class Pair(nn.Module):
        def forward(self, image):
            return image, image

    with pytest.raises(TypeError, match=r"localization's output must be a torch\.Tensor, got tuple"):
        SupervisedSpatialTransformer(Pair(), (4, 4), features=3)(image)


def test_an_image_without_a_batch_is_named():
    with pytest.raises(ValueError, match=r"image must have shape \(batch, channel, height, width\), got \(3, 9, 9\)"):
        build()(torch.randn(3, 9, 9))
    with pytest.raises(ValueError, match=r"image must have shape \(batch, channel, height, width\), got \(3, 9, 9\)"):
        Resize((4, 4))(torch.randn(3, 9, 9))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"padding_mode": "zero"}, "padding_mode must be one of"),
        ({"mode": "cubic"}, "mode must be one of"),
        ({"backend": "cuda"}, "backend must be one of"),
        ({"fill_value": 1.0}, "fill_value is only for padding_mode='fill'"),
    ],
)
def test_bad_options_of_the_sampler_are_named_before_training(options, match):
    with pytest.raises(ValueError, match=match):
        SupervisedSpatialTransformer(nn.Flatten(), (4, 4), features=48, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_modules_run_on_a_cpu(dtype):
    look = SupervisedSpatialTransformer(nn.Flatten(), (4, 4), features=48, downscale=Resize((4, 4))).to(dtype)
    glimpse = look(torch.rand(2, 3, 8, 8, dtype=dtype))
    assert (glimpse.image.dtype, glimpse.theta.dtype) == (dtype, torch.float32)


def test_the_layer_can_be_built_without_memory():
    with torch.device("meta"):
        look = SupervisedSpatialTransformer(nn.Flatten(), (4, 4), features=48)
        assert look(torch.rand(2, 3, 4, 4)).image.shape == (2, 3, 4, 4)


def look_at_the_brightest():
    """Localizes the center of mass, so that thetas differ between images."""

    class Mass(nn.Module):
        def forward(self, image):
            weights = image.flatten(1).softmax(1).reshape(image.shape).sum(1)
            ticks = [torch.linspace(-1, 1, n) for n in weights.shape[1:]]
            return torch.stack([(weights.sum(1) * ticks[1]).sum(1), (weights.sum(2) * ticks[0]).sum(1)], 1)

    look = SupervisedSpatialTransformer(Mass(), (3, 3), features=2, parameterization="translation", scale=0.5)
    with torch.no_grad():
        look.head.weight.copy_(torch.eye(2))
    return look


def test_clips_are_seen_frame_by_frame():
    look, clips = look_at_the_brightest(), torch.randn(2, 4, 3, 9, 9)
    seen = look(clips)
    assert seen.theta.shape == (2, 4, 2, 3)
    for n in range(2):
        apart = look(clips[n])
        assert torch.equal(seen.image[n], apart.image)
        assert torch.equal(seen.theta[n], apart.theta)


def test_every_region_has_a_theta_of_its_own():
    torch.manual_seed(0)
    look = build(regions=3, parameterization="crop3", scale=0.5)
    clips = torch.randn(2, 4, 3, 9, 9)
    assert torch.equal(look(clips).theta, diagonal(0.5, batch=1).expand(2, 4, 3, 2, 3))
    nn.init.normal_(look.head.weight)
    seen = look(clips)
    assert seen.image.shape == (2, 4, 3, 3, 4, 4)
    features = look.localization(clips[1, 2][None])
    for region in range(3):
        rows = slice(3 * region, 3 * region + 3)
        expected = theta_from_parameters(features @ look.head.weight[rows].T + look.head.bias[rows], "crop3")
        torch.testing.assert_close(seen.theta[1, 2, region], expected[0])
        alone = look.sample(clips[1, 2][None], seen.theta[1, 2, region][None])
        torch.testing.assert_close(seen.image[1, 2, region], alone[0])


def test_what_is_decided_on_the_image_may_be_sampled_from_features():
    look, image = look_at_the_brightest(), torch.randn(2, 3, 16, 16)
    features = nn.functional.avg_pool2d(image, 2).repeat(1, 5, 1, 1)
    seen = look(image, features)
    assert torch.equal(seen.theta, look.localize(image))
    assert torch.equal(seen.image, look.sample(features, seen.theta))


def test_bytes_are_normalized_once():
    mean, std = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
    pixels = torch.randint(0, 256, (2, 3, 9, 9), dtype=torch.uint8)
    look = look_at_the_brightest()
    look.mean, look.std = mean, std
    image = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    seen, expected = look(pixels), look(image)
    torch.testing.assert_close(seen.theta, expected.theta)
    torch.testing.assert_close(seen.image, expected.image)


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.zeros(2, 48, 64, 3), r"looks like \[batch height width channel\]; pass image.movedim\(-1, -3\)"),
        (torch.zeros(2, 6, 48, 64, 3), "looks like"),
        (torch.zeros(3, 9, 9), r"image must have shape \(batch, channel, height, width\), got \(3, 9, 9\)"),
    ],
)
def test_other_layouts_are_refused(image, match):
    with pytest.raises(ValueError, match=match):
        build()(image)


def test_thetas_of_other_clips_are_refused():
    with pytest.raises(ValueError, match=r"theta must be \(2, 4, 2, 3\), or have regions .*, got \(2, 2, 3\)"):
        build().sample(torch.zeros(2, 4, 3, 9, 9), torch.zeros(2, 2, 3))
