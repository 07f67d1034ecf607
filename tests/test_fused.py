"""The fused sampler's operators: registration and memory."""

import pytest
import torch

from supervised_st import affine_sample

pytestmark = pytest.mark.triton

BLENDED_IN = {torch.float64: torch.float64, torch.float32: torch.float32, torch.float16: torch.float32}


def arguments(dtype, batch=2, channels=3):
    image = torch.randn(batch, channels, 5, 6).to(dtype)
    theta = torch.eye(2, 3).expand(batch, 2, 3) * 0.8 + 0.05
    return image, theta, torch.zeros(channels, dtype=BLENDED_IN[dtype])


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize(
    ("dtype", "channels_last"), [(torch.float64, False), (torch.float32, False), (torch.float16, True)], ids=str
)
def test_operators_are_registered_as_torch_expects(dtype, batch, channels_last):
    from supervised_st import _fused

    device = "cuda" if torch.cuda.is_available() else "cpu"
    image, theta, _ = (tensor.to(device) for tensor in arguments(dtype, batch))
    grad = torch.randn(batch, 3, 4, 7, device=device).to(dtype)
    if channels_last:
        image, grad = (t.contiguous(memory_format=torch.channels_last) for t in (image, grad))
    options = ("bilinear", "border", False)
    torch.library.opcheck(_fused.forward_op, (image, theta, None, None, None, 4, 7, *options))
    torch.library.opcheck(_fused.image_gradient_op, (grad, theta, 5, 6, channels_last, *options))
    torch.library.opcheck(_fused.theta_gradient_op, (grad, image, theta, None, None, None, *options))


@pytest.mark.usefixtures("_poisoned_and_fenced_memory")
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection", "fill"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_kernels_write_all_of_their_memory_and_nothing_else(mode, padding_mode):
    # 19 x 17 pixels are more than one tile of every kernel, and the last tile is not full.
    image = torch.randn(2, 3, 19, 17, requires_grad=True)
    theta = (torch.eye(2, 3).repeat(2, 1, 1) * 0.6).requires_grad_()
    out = affine_sample(image, theta, (19, 17), mode=mode, padding_mode=padding_mode, backend="triton")
    grads = torch.autograd.grad(out.sum(), (image, theta))
    assert all(t.isfinite().all() for t in (out, *grads))


def test_only_the_image_and_theta_are_kept_for_backward():
    image, theta, _ = arguments(torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        affine_sample(image.requires_grad_(), theta.clone().requires_grad_(), (32, 32), backend="triton")
    assert sorted(kept) == sorted([image.numel(), theta.numel()])
