"""Ctrl-C may end a call at any line. What later calls return is what they would have returned without it."""

import sys
from pathlib import Path

import pytest
import torch

import supervised_st
from supervised_st import TemporalCorrelationPooling, affine_sample
from tests.helpers.remembered import forget_calls
from tests.helpers.sampling import gradients, leaf

PACKAGE = Path(supervised_st.__file__).parent


def was_interrupted(call, line, place=PACKAGE):
    """Make a call and raise KeyboardInterrupt before its n-th line in a place; return whether it has so many."""
    lines = 0

    def before_line(frame, event, _):
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == line:
                raise KeyboardInterrupt
        return before_line

    def before_call(frame, event, _):
        return before_line if frame.f_code.co_filename.startswith(str(place)) else None

    traced = sys.gettrace()
    sys.settrace(before_call)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(traced)
    return False


def sample(seed, backend):
    g = torch.Generator().manual_seed(seed)
    inputs = leaf(torch.randn(1, 1, 2, 2, generator=g)), leaf(torch.randn(1, 2, 3, generator=g))
    out = affine_sample(*inputs, (1, 2), backend=backend)
    return out.detach(), *gradients(out, inputs)


# The interpreter of kernels is slow. What remembers their launches is in one file.
CASES = [
    pytest.param("aten", PACKAGE, True, 1, id="first call"),
    pytest.param("aten", PACKAGE, False, 1, id="repeated call"),
    pytest.param("triton", PACKAGE / "_sampler" / "replay.py", True, 11, id="first launch"),
    pytest.param("triton", PACKAGE / "_sampler" / "replay.py", False, 3, id="repeated launch"),
]


@pytest.mark.parametrize(("backend", "place", "is_first", "step"), CASES)
def test_an_interrupted_sampler_is_as_good_as_new(backend, place, is_first, step):
    want, line = sample(1, backend), 1

    def is_interrupted():
        if is_first:
            forget_calls()
        return was_interrupted(lambda: sample(0, backend), line, place)

    while is_interrupted():
        assert all(map(torch.equal, sample(1, backend), want)), line
        line += step
    assert line > 20


def test_an_interrupted_accumulator_has_added_all_frames_or_none():
    pooling = TemporalCorrelationPooling("covariance")
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()

    def accumulated(*parts):
        running = pooling.accumulate()
        for frames in parts:
            running.add(frames)
        return running

    none, both = accumulated(first).descriptor(), accumulated(first, second).descriptor()
    found, line = set(), 1
    running = accumulated(first)
    while was_interrupted(lambda running=running: running.add(second), line):
        descriptor = running.descriptor()
        found.add("none" if torch.equal(descriptor, none) else "all" if torch.equal(descriptor, both) else line)
        running, line = accumulated(first), line + 1
    assert found == {"none"}
    assert torch.equal(running.descriptor(), both)
