"""Time graphs that hold affine_sample on a CPU, against the same graphs of affine_grid and grid_sample.

    python benchmarks/graphs.py [--quick] [--rounds N] [--json FILE]

Each kind of graph is made of both, and they take turns. Times are those of the process, so other programs do not count.
"""

import argparse
import logging
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks import measure
from benchmarks.contestants import baseline, library
from benchmarks.measure import Call
from benchmarks.records import provenance, results_file
from benchmarks.saving import Row, save
from examples.mpii_cooking.formats import markdown_table

ROUNDS, QUICK_ROUNDS = 31, 3
SHAPES = [((8, 3, 224, 224), (112, 112)), ((4, 64, 56, 56), (28, 28)), ((1, 3, 64, 64), (32, 32))]
Graph = Callable[..., Tensor]


class _Sample(nn.Module):
    def __init__(self, sample: Graph, size: tuple[int, int]) -> None:
        super().__init__()
        self.sample, self.size = sample, size

    def forward(self, image: Tensor, theta: Tensor) -> Tensor:
        return self.sample(image, theta, self.size, False)


def _in_onnx_runtime(module: nn.Module, inputs: tuple[Tensor, Tensor]) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    program: Any = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    names = [node.name for node in session.get_inputs()]
    return lambda *given: session.run(None, {name: it.numpy() for name, it in zip(names, given, strict=True)})[0]


KINDS: dict[str, Callable[[nn.Module, tuple[Tensor, Tensor]], Graph]] = {
    "exported": lambda module, inputs: torch.export.export(module, inputs).module(),
    "traced": lambda module, inputs: torch.jit.trace(module, inputs),  # type: ignore[no-untyped-call]
    "compiled": lambda module, inputs: torch.compile(module),
    "ONNX Runtime": _in_onnx_runtime,
}


def own_clock(call: Call, repeats: int) -> float:
    """Time calls back to back by the process's own time."""
    started = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - started) / repeats


def measured(kind: str, shape: tuple[int, ...], size: tuple[int, int], rounds: int) -> list[Row]:
    """Time both graphs of a kind, forward and with both gradients where a graph has them."""
    torch.compiler.reset()
    image, theta = torch.randn(shape), 0.6 * torch.eye(2, 3) + torch.randn(shape[0], 2, 3) * 0.1
    samples = {"ours": library, "pair": baseline}
    graphs = {name: KINDS[kind](_Sample(sample, size), (image, theta)) for name, sample in samples.items()}
    calls: dict[str, dict[str, Call]] = {
        "forward": {name: partial(graph, image, theta) for name, graph in graphs.items()}
    }
    if kind != "ONNX Runtime":
        leaves = image.clone().requires_grad_(), theta.clone().requires_grad_()
        weights = torch.ones(*shape[:2], *size)
        calls["forward, both gradients"] = {
            name: lambda graph=graph: torch.autograd.grad(graph(*leaves), leaves, weights)  # type: ignore[misc]
            for name, graph in graphs.items()
        }
    return [_row(kind, shape, size, phase, each, rounds) for phase, each in calls.items()]


def _row(
    kind: str, shape: tuple[int, ...], size: tuple[int, int], phase: str, calls: dict[str, Call], rounds: int
) -> Row:
    seconds = measure.take_turns(calls, own_clock, rounds)
    ratio = measure.spread([ours / pair for ours, pair in zip(seconds["ours"], seconds["pair"], strict=True)])
    us = {name: measure.spread([1e6 * value for value in of])._asdict() for name, of in seconds.items()}
    what = f"{'x'.join(map(str, shape))} -> {size[0]}x{size[1]}"
    return {"graph": kind, "shape": what, "phase": phase, "us": us, "ratio": ratio._asdict()}


def table(rows: list[Row]) -> str:
    """Return the rows as a table."""
    cells = [
        [
            *(row[name] for name in ("graph", "shape", "phase")),
            *(f"{row['us'][name]['median']:,.0f}" for name in ("ours", "pair")),
            f"{row['ratio']['median']:.2f} ({row['ratio']['low']:.2f} to {row['ratio']['high']:.2f})",
        ]
        for row in rows
    ]
    return markdown_table(["graph", "image, output", "phase", "affine_sample, µs", "pair, µs", "ratio"], cells)


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="exported graphs only, in few rounds")
    parser.add_argument("--rounds", type=int, help="rounds, with one turn for each in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", module=r"torch\..*")  # of tracers and exporters, about themselves
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    kinds = ["exported"] if arguments.quick else [*KINDS]
    rows = [row for shape, size in SHAPES for kind in kinds for row in measured(kind, shape, size, rounds)]
    path = arguments.json or results_file("graphs", is_quick=arguments.quick)
    save(path, provenance("cpu", 1) | {"rounds": rounds, "rows": rows})
    print(f"{table(rows)}\n\n{path}")


if __name__ == "__main__":
    main()
