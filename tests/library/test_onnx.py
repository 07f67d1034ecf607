"""``affine_sample`` in an ONNX graph: one ``GridSample``, with the values of the call for every theta."""

import onnxruntime
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.tolerances import GRAPHS
from supervised_st import affine_sample
from supervised_st._sampler.tensors import is_exporting_to_onnx
from supervised_st.sampling import _fastest_backend

NAN, INF = float("nan"), float("inf")
PIXEL = 255 * GRAPHS
DIMENSIONS = "batch", "height", "width"

pytestmark = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 exports no dynamic sizes to ONNX")


class Sample(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, image, theta):
        return affine_sample(image, theta, (5, 6), **self.options)


def inputs(batch, dtype, transforms, size=(9, 8)):
    image = torch.randint(0, 256, (batch, 3, *size)).to(dtype)
    theta = torch.eye(2, 3).repeat(batch, *transforms, 1, 1) + torch.randn(batch, *transforms, 2, 3) * 0.2
    return image, theta


# From torch's own exporter, and because both inputs' batches have one name.
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning")
@pytest.mark.filterwarnings("ignore:# The axis name. batch will not be used:UserWarning")
@pytest.mark.parametrize(
    ("options", "dtype", "transforms"),
    [
        ({}, torch.float32, ()),
        ({"mode": "bicubic", "padding_mode": "border"}, torch.float32, ()),
        ({"antialias": True, "padding_mode": "fill", "fill_value": (0.5, 1.0, 2.0)}, torch.float32, ()),
        ({"mode": "nearest", "padding_mode": "reflection", "mean": (110.0, 120.0, 130.0), "std": 60.0},
         torch.uint8, (2,)),
    ],
    ids=str,
)  # fmt: skip
def test_onnx_runtime_gives_the_same_values_for_every_batch_and_size(options, dtype, transforms):
    """The exporter makes sizes constant without a word if the code does."""
    sample = Sample(**options).eval()
    batch, height, width = (torch.export.Dim(name, min=1 + (name != "batch"), max=4096) for name in DIMENSIONS)
    shapes = {0: batch, 2: height, 3: width}, {0: batch}
    program = torch.onnx.export(sample, inputs(2, dtype, transforms), dynamo=True, dynamic_shapes=shapes, verbose=False)
    operators = [node.op_type for node in program.model_proto.graph.node]
    assert operators.count("GridSample") == 1
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    names = [node.name for node in session.get_inputs()]
    for count, size in ((1, (9, 8)), (5, (6, 13))):
        image, theta = inputs(count, dtype, transforms, size)
        if count == 5:
            theta[1, ..., 0, 0], theta[2, ..., 1, 2], theta[3, ..., 0, 2] = NAN, INF, 1e20
        (got,) = session.run(None, dict(zip(names, (image.numpy(), theta.numpy()), strict=True)))
        want = affine_sample(image, theta, (5, 6), **options, backend="reference")
        torch.testing.assert_close(torch.from_numpy(got), want, equal_nan=True, rtol=0, atol=PIXEL)


@pytest.mark.triton
@pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec:FutureWarning")
def test_no_kernel_is_put_into_a_graph_that_has_no_operator_for_it(monkeypatch):
    found = []

    class Watched(Sample):
        def forward(self, image, theta):
            found.append(is_exporting_to_onnx())
            return super().forward(image, theta)

    model, arguments = Watched().eval(), inputs(1, torch.float32, ())
    model(*arguments)
    assert found == [False]
    torch.onnx.export(model, arguments, dynamo=True, verbose=False)
    assert set(found[1:]) == {True}
    with FakeTensorMode():  # It needs no GPU.
        arguments = torch.empty(1, 1, 2, 2, device="cuda"), torch.empty(1, 2, 3, device="cuda"), "bilinear"
    assert _fastest_backend(*arguments) == "triton"
    monkeypatch.setattr("supervised_st.sampling.is_exporting_to_onnx", lambda: True)
    assert _fastest_backend(*arguments) == "aten"
