"""``benchmarks/graphs.py``: each kind of graph is made of both, gives what the call gives, and is timed in turns."""

import pytest
import torch

from benchmarks import graphs
from benchmarks.contestants import library

# From torch, about its own tracer and exporter.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.trace.* deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
SHAPE, SIZE = (1, 2, 6, 7), (3, 4)


@pytest.mark.parametrize("kind", ["exported", "traced", "ONNX Runtime"])
def test_a_graph_gives_what_the_call_gives(kind):
    inputs = torch.randn(SHAPE), 0.7 * torch.eye(2, 3)[None]
    graph = graphs.KINDS[kind](graphs._Sample(library, SIZE).eval(), inputs)
    found = torch.as_tensor(graph(*inputs))
    torch.testing.assert_close(found, library(*inputs, SIZE, False), rtol=1e-5, atol=1e-5)


def test_both_directions_are_timed_in_turns():
    rows = graphs.measured("exported", SHAPE, SIZE, rounds=2)
    assert [row["phase"] for row in rows] == ["forward", "forward, both gradients"]
    for row in rows:
        assert row["us"]["ours"]["median"] > 0
        assert row["us"]["pair"]["median"] > 0
        assert row["shape"] == "1x2x6x7 -> 3x4"
        assert f"{row['ratio']['median']:.2f} (" in graphs.table([row])
