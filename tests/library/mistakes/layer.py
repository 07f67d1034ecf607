"""What goes wrong with the layer, and with watching it."""

import torch
from torch import nn

from supervised_st import DistortionMonitor, Resize, SupervisedSpatialTransformer

IMAGE, THETA = torch.zeros(2, 3, 8, 10), torch.eye(2, 3).repeat(2, 1, 1)
FRAMES = IMAGE.byte()


def look(**options):
    localization = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return SupervisedSpatialTransformer(localization, 4, **({"features": 12} | options))


MISTAKES = {
    "a class instead of a module": (
        lambda: SupervisedSpatialTransformer(nn.Flatten, 4, features=12),
        TypeError,
        "localization must be a module, got <class 'torch.nn.modules.flatten.Flatten'>",
    ),
    "size before the network": (
        lambda: SupervisedSpatialTransformer(4, nn.Flatten(), features=12),
        TypeError,
        "localization must be a module, got 4",
    ),
    "features that were divided": (lambda: look(features=12.0), TypeError, "features must be a whole number, got 12.0"),
    "no features": (lambda: look(features=0), ValueError, "features must be positive, got 0"),
    "another number of features than the network's": (
        lambda: look(features=11)(IMAGE),
        ValueError,
        "localization's output must have shape (2, 11), got (2, 12)",
    ),
    "a size with channels": (
        lambda: SupervisedSpatialTransformer(nn.Flatten(), (4, 4, 3), features=12),
        TypeError,
        "size must be two integers (height, width), or one for a square, got (4, 4, 3)",
    ),
    "a network that returns maps": (
        lambda: SupervisedSpatialTransformer(nn.Identity(), 4, features=3)(IMAGE),
        ValueError,
        "localization's output must have shape (2, 3), got (2, 3, 8, 10)",
    ),
    "a parameterization that does not exist": (
        lambda: look(parameterization="crop"),
        ValueError,
        "parameterization must be one of 'affine', 'similarity', 'crop4', 'crop3', 'translation', got 'crop'",
    ),
    "a start that does not exist": (
        lambda: look(head_init="zeros"),
        ValueError,
        "head_init must be one of 'level', 'identity', 'gaussian', got 'zeros'",
    ),
    "a window without sides": (
        lambda: look(scale=0),
        ValueError,
        "scale must be one positive number, or two, (along height, along width), got 0",
    ),
    "the window's side in pixels": (
        lambda: look(scale=224),
        ValueError,
        "scale must be a fraction of the image's sides, got 224; pass (pixels / height, pixels / width)",
    ),
    "the window's sides in pixels": (
        lambda: look(scale=(112, 149)),
        ValueError,
        "scale must be a fraction of the image's sides, got (112, 149); pass (pixels / height, pixels / width)",
    ),
    "a scale per channel": (
        lambda: look(scale=(0.1, 0.2, 0.3)),
        TypeError,
        "scale must be one positive number, or two, (along height, along width), got (0.1, 0.2, 0.3)",
    ),
    "bounds for a free transform": (
        lambda: look(bounds=(0.1, 0.5)),
        ValueError,
        "bounds must be None unless the parameterization is one of 'crop4', 'crop3', 'translation', got 'affine'",
    ),
    "bounds that exclude the start": (
        lambda: look(parameterization="crop3", bounds=(0.1, 0.5)),
        ValueError,
        "head_init='level' starts with side 1.0; parameterization='crop3' with scale=1.0 must be able to express it, and it must lie strictly between the bounds=(0.1, 0.5), where it has a gradient; pass a scale between them, such as 0.22",
    ),
    "bounds in the wrong order": (
        lambda: look(parameterization="crop3", bounds=(0.5, 0.1), scale=0.3),
        ValueError,
        "bounds must be (s0, s1) with 0 < s0 < s1 <= 1, got (0.5, 0.1)",
    ),
    "bounds of three numbers": (
        lambda: look(parameterization="crop3", bounds=(0.1, 0.3, 0.5), scale=0.3),
        TypeError,
        "bounds must be two numbers (s0, s1), got (0.1, 0.3, 0.5)",
    ),
    "a single bound": (
        lambda: look(parameterization="crop3", bounds=0.5, scale=0.3),
        TypeError,
        "bounds must be two numbers (s0, s1), got 0.5",
    ),
    "bounds in pixels": (
        lambda: look(parameterization="crop3", bounds=(16, 64), scale=0.3),
        ValueError,
        "bounds must be (s0, s1) with 0 < s0 < s1 <= 1, got (16, 64)",
    ),
    "downscale as a factor": (lambda: look(downscale=4), TypeError, "downscale must be a module, got 4"),
    "no regions": (lambda: look(regions=0), ValueError, "regions must be positive, or None for a single region, got 0"),
    "a fraction of regions": (lambda: look(regions=2.0), TypeError, "regions must be a whole number, got 2.0"),
    "images with channels last": (
        lambda: look()(torch.zeros(2, 64, 48, 3)),
        ValueError,
        "image must be [batch channel height width], got shape (2, 64, 48, 3), which looks like [batch height width channel]; pass image.movedim(-1, -3)",
    ),
    "an image without a batch": (
        lambda: look()(IMAGE[0]),
        ValueError,
        "image must have shape (batch, channel, height, width), got (3, 8, 10); pass image[None]",
    ),
    "images of NumPy": (
        lambda: look()(IMAGE.numpy()),
        TypeError,
        "image must be a torch.Tensor, got ndarray; pass torch.as_tensor(image)",
    ),
    "images of integers": (
        lambda: look()(IMAGE.long()),
        TypeError,
        "image must be float64, float32, float16, bfloat16 or uint8, got torch.int64; pass image.float()",
    ),
    "statistics in 0..1 for pixels in 0..255": (
        lambda: look(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))(FRAMES),
        ValueError,
        "mean and std must be in units of 0..255, got mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225); multiply them by 255",
    ),
    "a mean for four channels": (
        lambda: look(mean=(1, 2, 3, 4.0))(FRAMES),
        ValueError,
        "mean must be one number or one per channel (3), got 4",
    ),
    "a scale instead of theta": (
        lambda: look().sample(IMAGE, 0.5),
        TypeError,
        "theta must be a torch.Tensor, got float",
    ),
    "one theta for all images": (
        lambda: look().sample(IMAGE, THETA[:1]),
        ValueError,
        "theta must have shape (2, 2, 3), got (1, 2, 3); pass theta.expand(2, 2, 3)",
    ),
    "a source of another batch": (
        lambda: look()(IMAGE, IMAGE[:1]),
        ValueError,
        "source must have the image's axes (2,) before channel, height and width, got shape (1, 3, 8, 10)",
    ),
    "a rate as text": (lambda: look().parameter_groups("1e-3"), TypeError, "lr must be a number, got '1e-3'"),
    "a negative rate": (
        lambda: look().parameter_groups(-1e-3),
        ValueError,
        "lr must be finite and not negative, got -0.001",
    ),
    "an image without a batch, to resize": (
        lambda: Resize(4)(IMAGE[0]),
        ValueError,
        "image must have shape (batch, channel, height, width), got (3, 8, 10); pass image[None]",
    ),
    "a monitor of the whole model": (
        lambda: DistortionMonitor(nn.Sequential(look()), IMAGE),
        TypeError,
        "look must be a SupervisedSpatialTransformer, got Sequential; pass the layer itself, not what it returns or what wraps it",
    ),
    "a monitor with one image": (
        lambda: DistortionMonitor(look(), IMAGE[0]),
        ValueError,
        "images must have shape (batch, channel, height, width), got (3, 8, 10); pass images[None]",
    ),
    "a monitor with a list of images": (
        lambda: DistortionMonitor(look(), [IMAGE]),
        TypeError,
        "images must be a torch.Tensor, got list; pass torch.stack(images)",
    ),
    "a monitor that measures every 0 steps": (
        lambda: DistortionMonitor(look(), IMAGE, every=0),
        ValueError,
        "every must be positive, got 0",
    ),
}
