"""Optical flow: eight bits and the estimators."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.mpii_cooking.data import flow


@settings(max_examples=50)
@given(st.floats(-20, 20), st.floats(0.5, 20))
def test_eight_bits_keep_a_displacement_to_one_step(displacement, bound):
    u, v = flow.quantize(np.full((1, 1, 2), displacement), bound).ravel().tolist()
    decoded = (u - 128) * 2 * bound / 255
    assert u == v
    assert abs(decoded - np.clip(displacement, -bound, bound)) <= 2 * bound / 255


@pytest.mark.parametrize("bound", [8.0, 20.0])
def test_eight_bits_saturate_at_the_bound(bound):
    step = 2 * bound / 255
    displacements = np.array([-1e6, -bound - step, -bound, -bound + step, bound - step, bound, bound + step, 1e6])
    u, v = flow.quantize(np.stack([displacements, -displacements], axis=-1)[None], bound)
    assert u.tolist() == [[0, 0, 0, 1, 254, 255, 255, 255]]
    assert v.tolist() == [[255, 255, 255, 254, 1, 0, 0, 0]]


def test_no_motion_is_exactly_128():
    assert (flow.quantize(np.zeros((3, 4, 2)), 8.0) == 128).all()


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_follows_a_shift_of_the_picture(method):
    texture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (80, 100)).astype(np.float32), (0, 0), 2)
    film = [np.roll(texture * 3 - 255, (now, 2 * now), (0, 1)).clip(0, 255).astype(np.uint8) for now in range(4)]
    found = list(flow.flows(film, flow.estimator(method), 8.0))
    u, v = (np.median((part[20:-20, 20:-20].astype(float) - 128) * 16 / 255) for part in found[0])
    assert (u, v) == pytest.approx((2, 1), abs=0.1)
    assert len(found) == len(film)
    np.testing.assert_array_equal(found[-1], found[-2])
    assert [part.tolist() for part in flow.flows(film[:1], flow.estimator(method), 8.0)] == [[[[128] * 100] * 80] * 2]
