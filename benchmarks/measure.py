"""Measures speed (in turns, as medians, with the spread of ratios), memory, and the speed of a plain copy.

On a GPU, two times matter, and neither is a part of the other: that of the GPU, measured in replays of a graph, and
that of the host, measured in calls that wait for nothing.
"""

import argparse
import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Call = Callable[[], Any]
Clock = Callable[[Call, int], float]  # (call, repeats) to the mean seconds of one call

TURN_SECONDS = 2e-3  # the shortest turn, so that the cost of the clock itself does not count
COPIED_BYTES = 2**28
UNAWAITED = 32  # calls; after about a thousand launches a host has to wait until the GPU has begun some of them


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return Spread(middle, low, high)


def speedup(baseline: Sequence[float], own: Sequence[float]) -> Spread:
    """Return how many times as fast as the baseline: median and quartiles of the ratios within each round."""
    return spread([other / mine for other, mine in zip(baseline, own, strict=True)])


def take_turns(calls: Mapping[str, Call], clock: Clock, rounds: int) -> dict[str, list[float]]:
    """Return the seconds per call in each round.

    Each call has one turn per round, so a slow phase of the machine slows all calls. The order changes from round to
    round, so no call always follows the same other one.
    """
    repeats: dict[str, int] = {}
    for name, call in calls.items():
        clock(call, 2)  # the first calls are slow
        repeats[name] = max(1, round(TURN_SECONDS / max(clock(call, 2), 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order.sample(list(calls), len(calls)):
                seconds[name].append(clock(calls[name], repeats[name]))
    finally:
        gc.enable()
    return seconds


def cpu_clock(call: Call, repeats: int) -> float:
    """Time calls back to back; each finds the caches as the previous call left them."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


@cache
def _larger_than_l2() -> Tensor:
    size = 4 * torch.cuda.get_device_properties("cuda").L2_cache_size
    return torch.empty(size, dtype=torch.uint8, device="cuda")


def cuda_clock(call: Call, repeats: int) -> float:
    """Time calls by events on the GPU; its L2 cache is overwritten before each call."""
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(repeats)]
    for start, end in pairs:
        _larger_than_l2().zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return float(sum(start.elapsed_time(end) for start, end in pairs)) / repeats / 1e3


CLOCKS: dict[str, Clock] = {"cpu": cpu_clock, "cuda": cuda_clock}


def host_clock(call: Call, repeats: int) -> float:
    """Time calls back to back on the host; the GPU may still be at work when the clock stops."""
    torch.cuda.synchronize()
    seconds = cpu_clock(call, min(repeats, UNAWAITED))
    torch.cuda.synchronize()
    return seconds


def replay(call: Call) -> Call:
    """Capture a call in a CUDA graph and return its replay, which leaves out the time of the host."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def peak_bytes(call: Call) -> int:
    """Return the GPU memory that a call needs on top of what is already allocated."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


class Gauges(NamedTuple):
    """How calls on a GPU are measured."""

    replay: Callable[[Call], Call]  #: what the time of the GPU is taken of
    clock: Clock
    host_clock: Clock
    peak_bytes: Callable[[Call], int]


GPU = Gauges(replay, cuda_clock, host_clock, peak_bytes)


def copy_gigabytes_per_second(device: str) -> float:
    """Return the speed of a plain copy, bytes read plus bytes written, of more data than a cache holds."""
    source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = source.clone()
    seconds = median(CLOCKS[device](lambda: target.copy_(source), 1) for _ in range(9))
    return 2 * COPIED_BYTES / seconds / 1e9


def timing_options(description: str, *, quick: str, full: str) -> argparse.ArgumentParser:
    """Return the command-line options that all timing benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", dest="plan", action="store_const", const="quick", help=quick)
    parser.add_argument("--full", dest="plan", action="store_const", const="full", help=full)
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    parser.add_argument("--rounds", type=int, help="rounds, with one turn per contestant in each")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.set_defaults(plan="default")
    return parser
