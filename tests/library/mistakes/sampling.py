"""What goes wrong with `affine_sample` and `paste`."""

import torch

from supervised_st import Glimpse, affine_sample, paste

IMAGE, THETA = torch.zeros(2, 3, 8, 10), torch.eye(2, 3).repeat(2, 1, 1)
FRAMES, GLIMPSE = IMAGE.byte(), torch.zeros(2, 3, 4, 4)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


MISTAKES = {
    "an array of NumPy": (
        lambda: affine_sample(IMAGE.numpy(), THETA, 4),
        TypeError,
        "image must be a torch.Tensor, got ndarray; pass torch.as_tensor(image)",
    ),
    "nested lists": (
        lambda: affine_sample(IMAGE.tolist(), THETA, 4),
        TypeError,
        "image must be a torch.Tensor, got list; pass torch.as_tensor(image)",
    ),
    "an image without a batch": (
        lambda: affine_sample(IMAGE[0], THETA, 4),
        ValueError,
        "image must have shape (batch, channel, height, width), got (3, 8, 10); pass image[None]",
    ),
    "theta without a batch": (
        lambda: affine_sample(IMAGE, THETA[0], 4),
        ValueError,
        "theta must have shape (2, 2, 3), got (2, 3); pass theta.expand(2, 2, 3)",
    ),
    "frames of OpenCV, with channels last": (
        lambda: affine_sample(torch.zeros(2, 64, 48, 3).byte(), THETA, 4),
        ValueError,
        "image must be [batch channel height width], got shape (2, 64, 48, 3), which looks like [batch height width channel]; pass image.movedim(-1, -3)",
    ),
    "six numbers instead of two rows": (
        lambda: affine_sample(IMAGE, THETA.flatten(1), 4),
        ValueError,
        "theta must have shape (2, 2, 3), got (2, 6); pass theta.unflatten(-1, (2, 3))",
    ),
    "a matrix with a third row": (
        lambda: affine_sample(IMAGE, torch.eye(3).repeat(2, 1, 1), 4),
        ValueError,
        "theta must have shape (2, 2, 3), got (2, 3, 3); pass theta[..., :2, :]",
    ),
    "a window instead of theta": (
        lambda: affine_sample(IMAGE, torch.tensor([[1.0, 1, 4, 4], [1, 1, 4, 4]]), 4),
        ValueError,
        "theta must have shape (2, 2, 3), got (2, 4); if these are windows, pass geometry.window_to_theta(theta, image_size)",
    ),
    "one theta for all images": (
        lambda: affine_sample(IMAGE, THETA[:1], 4),
        ValueError,
        "theta must have shape (2, 2, 3), got (1, 2, 3); pass theta.expand(2, 2, 3)",
    ),
    "a size that was divided": (
        lambda: affine_sample(IMAGE, THETA, 4.0),
        TypeError,
        "size must be two integers (height, width), or one for a square, got 4.0",
    ),
    "a size of zero": (
        lambda: affine_sample(IMAGE, THETA, 0),
        ValueError,
        "size must be two integers (height, width), or one for a square, from 1 to 1073741824, got 0",
    ),
    "a size with channels": (
        lambda: affine_sample(IMAGE, THETA, (3, 4, 4)),
        TypeError,
        "size must be two integers (height, width), or one for a square, got (3, 4, 4)",
    ),
    "a size as for affine_grid": (
        lambda: affine_sample(IMAGE, THETA, (2, 3, 4, 4)),
        TypeError,
        "size must be two integers (height, width), or one for a square, got (2, 3, 4, 4)",
    ),
    "a size as text": (
        lambda: affine_sample(IMAGE, THETA, "4"),
        TypeError,
        "size must be two integers (height, width), or one for a square, got '4'",
    ),
    "no size": (
        lambda: affine_sample(IMAGE, THETA, None),
        TypeError,
        "size must be two integers (height, width), or one for a square, got None",
    ),
    "theta of integers": (
        lambda: affine_sample(IMAGE, THETA.long(), 4),
        TypeError,
        "theta must be float64, float32, float16 or bfloat16, got torch.int64; pass theta.float()",
    ),
    "theta of NumPy": (
        lambda: affine_sample(IMAGE, THETA.numpy(), 4),
        TypeError,
        "theta must be a torch.Tensor, got ndarray; pass torch.as_tensor(theta)",
    ),
    "theta on another device": (
        lambda: affine_sample(IMAGE, THETA.to("meta"), 4),
        ValueError,
        "theta must be on the image's device cpu, got meta; pass theta.to(image.device)",
    ),
    "labels that would be blended": (
        lambda: affine_sample(IMAGE.long(), THETA, 4),
        TypeError,
        "image must be floating point or uint8 for mode='bilinear', got torch.int64; pass mode='nearest' for labels, or image.float()",
    ),
    "complex images": (
        lambda: affine_sample(IMAGE.cfloat(), THETA, 4),
        TypeError,
        "image must be float64, float32, float16, bfloat16 or uint8, got torch.complex64",
    ),
    "a mode of F.interpolate": (
        lambda: affine_sample(IMAGE, THETA, 4, mode="linear"),
        ValueError,
        "mode must be one of 'bilinear', 'nearest', 'bicubic', got 'linear'",
    ),
    "a mode in capitals": (
        lambda: affine_sample(IMAGE, THETA, 4, mode="Bilinear"),
        ValueError,
        "mode must be one of 'bilinear', 'nearest', 'bicubic', got 'Bilinear'",
    ),
    "a padding in the singular": (
        lambda: affine_sample(IMAGE, THETA, 4, padding_mode="zero"),
        ValueError,
        "padding_mode must be one of 'zeros', 'border', 'reflection', 'fill', got 'zero'",
    ),
    "a padding of F.pad": (
        lambda: affine_sample(IMAGE, THETA, 4, padding_mode="constant"),
        ValueError,
        "padding_mode must be one of 'zeros', 'border', 'reflection', 'fill', got 'constant'",
    ),
    "a padding as a number": (
        lambda: affine_sample(IMAGE, THETA, 4, padding_mode=0),
        ValueError,
        "padding_mode must be one of 'zeros', 'border', 'reflection', 'fill', got 0",
    ),
    "align_corners=None as in F.grid_sample": (
        lambda: affine_sample(IMAGE, THETA, 4, align_corners=None),
        TypeError,
        "align_corners must be True or False, got None",
    ),
    "a fill value without its padding": (
        lambda: affine_sample(IMAGE, THETA, 4, fill_value=0.5),
        ValueError,
        "fill_value is only for padding_mode='fill', got 0.5 with 'zeros'",
    ),
    "a fill for two of three channels": (
        lambda: affine_sample(IMAGE, THETA, 4, padding_mode="fill", fill_value=(0.1, 0.2)),
        ValueError,
        "fill_value must be one number or one per channel (3), got 2",
    ),
    "floating-point images that are normalized": (
        lambda: affine_sample(IMAGE, THETA, 4, mean=0.5, std=0.5),
        ValueError,
        "mean and std are only for uint8 images, got them with torch.float32",
    ),
    "statistics in 0..1 for pixels in 0..255": (
        lambda: affine_sample(FRAMES, THETA, 4, **IMAGENET),
        ValueError,
        "mean and std must be in units of 0..255, got mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225); multiply them by 255",
    ),
    "a mean in 0..1 alone": (
        lambda: affine_sample(FRAMES, THETA, 4, mean=(0.485, 0.456, 0.406)),
        ValueError,
        "mean and std must be in units of 0..255, got mean=(0.485, 0.456, 0.406), std=1.0; multiply them by 255",
    ),
    "a standard deviation of zero": (
        lambda: affine_sample(FRAMES, THETA, 4, mean=0.0, std=0.0),
        ValueError,
        "std must not be zero, got 0.0",
    ),
    "a mean for four channels": (
        lambda: affine_sample(FRAMES, THETA, 4, mean=(1, 2, 3, 4)),
        ValueError,
        "mean must be one number or one per channel (3), got 4",
    ),
    "antialiased labels": (
        lambda: affine_sample(IMAGE, THETA, 4, mode="nearest", antialias=True),
        ValueError,
        "antialias is only for mode='bilinear' with padding_mode='zeros' or 'fill', got mode='nearest' with padding_mode='zeros'",
    ),
    "antialiasing at a border": (
        lambda: affine_sample(IMAGE, THETA, 4, padding_mode="border", antialias=True),
        ValueError,
        "antialias is only for mode='bilinear' with padding_mode='zeros' or 'fill', got mode='bilinear' with padding_mode='border'",
    ),
    "a device as backend": (
        lambda: affine_sample(IMAGE, THETA, 4, backend="cuda"),
        ValueError,
        "backend must be one of 'auto', 'reference', 'aten', 'triton', got 'cuda'",
    ),
    "transforms for another batch": (
        lambda: affine_sample(IMAGE, THETA[None].repeat(3, 1, 1, 1), 4),
        ValueError,
        "theta must have shape (2, transform, 2, 3), got (3, 2, 2, 3)",
    ),
    "an empty image": (
        lambda: affine_sample(IMAGE[..., :0], THETA, 4),
        ValueError,
        "image must have sides of 1 to 1073741824 pixels, got shape (2, 3, 8, 0)",
    ),
    "a clip instead of images": (
        lambda: affine_sample(IMAGE[:, None], THETA, 4),
        ValueError,
        "image must have shape (batch, channel, height, width), got (2, 1, 3, 8, 10)",
    ),
    "a mask pasted into colors": (
        lambda: paste(torch.rand(2, 1, 4, 4), THETA, IMAGE),
        ValueError,
        "frame must have shape (2, 1, height, width), got (2, 3, 8, 10)",
    ),
    "a glimpse pasted into uint8 frames": (
        lambda: paste(GLIMPSE, THETA, FRAMES),
        TypeError,
        "frame must have the glimpse's dtype torch.float32, got torch.uint8; pass frame.to(glimpse.dtype)",
    ),
    "a Glimpse instead of its image": (
        lambda: paste(Glimpse(GLIMPSE, THETA), THETA, IMAGE),
        TypeError,
        "glimpse must be a torch.Tensor, got Glimpse; pass one of its fields image, theta",
    ),
}
