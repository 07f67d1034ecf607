"""Time what the host does in a call of affine_sample, against the eager pair.

    python benchmarks/host_time.py [--device cpu|cuda] [--quick] [--rounds N] [--json FILE]

On a CPU, Triton launches through a driver that does nothing (`stub_driver`), and the pair computes four pixels, without
launches of its own. On a GPU both launch, and nobody waits for the kernels.
"""

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks import measure, stub_driver
from benchmarks.contestants import grid_sampled, library
from benchmarks.measure import Call
from benchmarks.records import provenance, results_file
from benchmarks.saving import Row, save
from examples.mpii_cooking.formats import markdown_table

SIZE = (2, 2)  # of image and output
PHASES = {
    "forward": (),
    "forward, gradient to theta": ("theta",),
    "forward, gradient to the image": ("image",),
    "forward, both gradients": ("image", "theta"),
}
ROUNDS, QUICK_ROUNDS = 101, 7


def host_clock(call: Call, repeats: int) -> float:
    """Time calls back to back without waiting for a GPU: by the process's own time, or by the wall where there is one.

    Backward passes on a GPU run in a thread of their own, for which this one waits.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    for _ in range(repeats):
        call()
    seconds = (clock() - started) / repeats
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return seconds


def calls_of(phase: str, device: str) -> dict[str, Call]:
    """Return the calls to compare."""
    wanted = PHASES[phase]
    image = torch.rand(1, 1, *SIZE, device=device).requires_grad_("image" in wanted)
    theta = torch.eye(2, 3, device=device)[None].requires_grad_("theta" in wanted)
    leaves = [{"image": image, "theta": theta}[name] for name in wanted]
    gradient = torch.ones(1, 1, *SIZE, device=device)

    def ours() -> Tensor:
        return library(image, theta, SIZE, False, backend="triton")

    def pair() -> Tensor:
        return grid_sampled(image, theta, SIZE, False)

    def call(sample: Call) -> object:
        out = sample()
        return torch.autograd.grad(out, leaves, gradient) if leaves else out

    return {"ours": partial(call, ours), "pair": partial(call, pair)}


def measured(phase: str, device: str, rounds: int) -> Row:
    """Time one phase, in turns."""
    seconds = measure.take_turns(calls_of(phase, device), host_clock, rounds)
    ratio = measure.spread([ours / pair for ours, pair in zip(seconds["ours"], seconds["pair"], strict=True)])
    us = {name: measure.spread([1e6 * value for value in of])._asdict() for name, of in seconds.items()}
    return {"phase": phase, "us": us, "ratio": ratio._asdict()}


def table(rows: list[Row]) -> str:
    """Return the rows as a table."""
    cells = [
        [row["phase"], *(f"{row['us'][name]['median']:.0f}" for name in row["us"]), f"{row['ratio']['median']:.2f}"]
        for row in rows
    ]
    return markdown_table(["host time", "affine_sample, µs", "pair, µs", "ratio"], cells)


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--rounds", type=int, help="rounds, with one turn for each in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    with TemporaryDirectory() as folder:
        if arguments.device == "cpu":
            stub_driver.activate(Path(folder))
        rows = [measured(phase, arguments.device, rounds) for phase in PHASES]
    path = arguments.json or results_file(f"host-{arguments.device}", is_quick=arguments.quick)
    save(path, provenance(arguments.device, 1) | {"rounds": rounds, "rows": rows})
    print(f"{table(rows)}\n\n{path}")


if __name__ == "__main__":
    main()
