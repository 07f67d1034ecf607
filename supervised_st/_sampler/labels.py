"""Images of integers and truth values, such as masks: the nearest label is looked up, never computed."""

import torch
from torch import Tensor

from supervised_st._sampler.options import ChannelConstants, Sampler, Sampling
from supervised_st._sampler.tensors import lay_out


def affine_sample_labels(
    image: Tensor,
    theta: Tensor,
    fill: Tensor | None,
    size: tuple[int, int],
    sampling: Sampling,
    *,
    sample: Sampler,
) -> Tensor:
    """Sample an image of one of ``LABEL_DTYPES`` with a backend that samples float64 images.

    Out of bounds, and where a coordinate is NaN, the label is ``fill``, ``[channel]`` in the image's dtype, or else 0.
    """
    batch, channels, height, width = image.shape
    # An image of the pixels' numbers, which float64 holds exactly, shows which pixel is read.
    numbers = torch.arange(height * width, device=image.device, dtype=torch.float64).reshape(1, 1, height, width)
    outside = ChannelConstants(fill=numbers.new_full((1,), -1.0))
    if sampling.padding_mode == "zeros":
        sampling = Sampling(sampling.mode, "fill", sampling.align_corners)
    if sampling.padding_mode != "fill":
        outside = ChannelConstants()
    read = sample(numbers.expand(batch, -1, -1, -1).contiguous(), theta, outside, size, sampling)
    read = read.flatten(1)[:, None]
    is_read = read >= 0  # NaN is not
    index = torch.where(is_read, read, 0).long()
    labels = image.flatten(2).gather(2, index.expand(-1, channels, -1))
    labels = torch.where(is_read, labels, labels.new_zeros(()) if fill is None else fill[:, None])
    transforms = theta.shape[1:-2]
    return lay_out(labels.reshape(batch, channels, *transforms, *size), image)
