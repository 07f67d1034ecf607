"""``paste`` puts a glimpse back where it was seen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st import affine_sample, paste
from supervised_st.geometry import window_to_theta


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("align_corners", [False, True])
@settings(max_examples=40)
@given(data=st.data())
def test_a_window_is_replaced_and_nothing_else(align_corners, data):
    height, width = data.draw(st.integers(2, 20)), data.draw(st.integers(2, 20))
    w, h = data.draw(st.integers(2, width)), data.draw(st.integers(2, height))
    x0, y0 = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    frame, glimpse = noise(1, 2, height, width), noise(1, 2, h, w, seed=1)
    theta = window_to_theta(torch.tensor([[x0, y0, w, h]]).double(), (height, width), align_corners=align_corners)
    expected = frame.clone()
    expected[..., y0 : y0 + h, x0 : x0 + w] = glimpse
    pasted = paste(glimpse, theta, frame, align_corners=align_corners, backend="reference")
    torch.testing.assert_close(pasted, expected, rtol=0, atol=1e-12)


def test_a_turned_glimpse_is_seen_again():
    """A quarter turn moves whole pixels, so that nothing is blended."""
    theta = torch.tensor([[[0.0, -0.5, 0.25], [0.5, 0.0, 0.25]]], dtype=torch.float64)
    frame, glimpse = noise(1, 3, 16, 16), noise(1, 3, 8, 8, seed=1)
    pasted = paste(glimpse, theta, frame, backend="reference")
    torch.testing.assert_close(affine_sample(pasted, theta, 8, backend="reference"), glimpse, rtol=0, atol=1e-12)
    assert (pasted != frame).sum() == glimpse.numel()


def test_a_constant_mask_is_worth_its_area():
    """Pasted ones sum up to the region's area in pixels, however it is turned, as long as it lies in the frame."""
    theta = torch.tensor([[[0.3, -0.2, 0.1], [0.2, 0.3, 0.0]]], dtype=torch.float64)
    area = torch.linalg.det(theta[..., :2]).item() * 64 * 64
    mask = paste(torch.ones(1, 1, 200, 200).double(), theta, torch.zeros(1, 1, 64, 64).double(), backend="reference")
    assert mask.sum().item() == pytest.approx(area, rel=0.01)


def test_gradients_of_all_three():
    theta = torch.tensor([[[0.4, -0.13, 0.07], [0.11, 0.52, -0.03]]], dtype=torch.float64)
    inputs = [each.requires_grad_() for each in (noise(1, 1, 3, 4), theta, noise(1, 1, 5, 6, seed=1))]
    assert torch.autograd.gradcheck(lambda *it: paste(*it, backend="reference"), inputs)


def test_a_region_without_area_pastes_nothing():
    frame = noise(2, 1, 4, 4)
    theta = torch.stack([torch.zeros(2, 3), torch.eye(2, 3)]).double().requires_grad_()
    pasted = paste(noise(2, 1, 4, 4, seed=1), theta, frame)
    assert torch.equal(pasted[0], frame[0])
    assert not torch.equal(pasted[1], frame[1])


@pytest.mark.parametrize(
    ("glimpse", "theta", "frame", "error", "match"),
    [
        (noise(1, 2, 3), noise(1, 2, 3), noise(1, 2, 8, 8), ValueError, r"glimpse must have shape \(batch, channel"),
        (noise(1, 2, 3, 3), noise(1, 2, 3), noise(1, 3, 8, 8), ValueError, r"frame must have shape \(1, 2, height"),
        (noise(1, 2, 3, 3), noise(2, 2, 3), noise(1, 2, 8, 8), ValueError, r"theta must have shape \(1, 2, 3\)"),
        (noise(1, 2, 3, 3), noise(1, 2, 3), noise(1, 2, 8, 8).float(), TypeError, "frame must have the glimpse's"),
        (noise(1, 2, 3, 3).long(), noise(1, 2, 3), noise(1, 2, 8, 8), TypeError, "glimpse must be float64"),
        (
            noise(1, 2, 3, 3),
            noise(1, 2, 3),
            noise(1, 2, 8, 8).to("meta"),
            ValueError,
            "frame must be on the",
        ),
    ],
)
def test_bad_arguments_are_named(glimpse, theta, frame, error, match):
    with pytest.raises(error, match=match):
        paste(glimpse, theta, frame)
