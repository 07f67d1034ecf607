"""Put a glimpse, or what was predicted in it, back into the frame."""

import torch
from torch import Tensor

from supervised_st._checks import check_device, check_floating, check_shape
from supervised_st.geometry import invert
from supervised_st.sampling import affine_sample
from supervised_st.types import Backend


def paste(
    glimpse: Tensor,
    theta: Tensor,
    frame: Tensor,
    *,
    align_corners: bool = False,
    antialias: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Return the frame with the glimpse at the place where ``theta`` looks.

    Sampling the result shows the glimpse again, up to interpolation. The glimpse is sampled through the inverse of
    ``theta``, so the result is differentiable in all three. A glimpse may hold anything that was predicted in it, such
    as the probabilities of a mask; paste it into ``torch.zeros`` of the frame's size. At its edges, where bilinear
    interpolation reads past the glimpse, it is blended with the frame. Where the region has no area, nothing is pasted.

    Args:
        glimpse: ``[batch channel h w]``, floating point.
        theta: ``[batch 2 3]``, the region of the frame that the glimpse shows.
        frame: ``[batch channel height width]``, in the glimpse's dtype and on its device.
        align_corners: the convention of ``theta``.
        antialias: average over the glimpse's pixels where several fall on one of the frame's; see `affine_sample`.
        backend: see `affine_sample`.

    Returns:
        ``[batch channel height width]``.

    Raises:
        TypeError: if an argument does not have the type or dtype that is described.
        ValueError: if an argument does not have the shape or device that is described.
    """
    check_floating("glimpse", glimpse)
    sizes = check_shape("glimpse", glimpse, "batch channel h w")
    batch, channels = sizes["batch"], sizes["channel"]
    shape = check_shape("frame", frame, "batch channel height width", batch=batch, channel=channels)
    check_device("frame", frame, glimpse)
    if frame.dtype != glimpse.dtype:
        raise TypeError(
            f"frame must have the glimpse's dtype {glimpse.dtype}, got {frame.dtype}; pass frame.to(glimpse.dtype)"
        )
    check_shape("theta", theta, "batch 2 3", batch=batch)
    # A region without area has no inverse. Its glimpse is moved out of sight.
    has_area = invert(theta.detach()).isfinite().all((1, 2), keepdim=True)
    nowhere = torch.tensor([[1.0, 0.0, 9.0], [0.0, 1.0, 9.0]], dtype=theta.dtype, device=theta.device)
    back = invert(torch.where(has_area, theta, nowhere))
    # The extra channel is 1 in the glimpse: pasted, it is the share of each pixel of the frame that the glimpse covers.
    covered = torch.cat([glimpse, torch.ones_like(glimpse[:, :1])], 1)
    size = (shape["height"], shape["width"])
    pasted = affine_sample(covered, back, size, align_corners=align_corners, antialias=antialias, backend=backend)
    return pasted[:, :-1] + (1 - pasted[:, -1:]) * frame
