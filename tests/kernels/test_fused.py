"""The fused sampler's operators: registration and memory."""

import pytest
import torch
from torch.autograd import forward_ad

from supervised_st import affine_sample

pytestmark = pytest.mark.triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # of the operators, which no fixture moves anything for


IDENTITY = torch.eye(2, 3, device=DEVICE).repeat(2, 1, 1)


def arguments(dtype, batch=2):
    image = torch.randn(batch, 2, 5, 6, device=DEVICE).to(dtype)
    theta = torch.eye(2, 3, device=DEVICE).expand(batch, 2, 3) * 0.8 + 0.05
    return image, theta


EVERYTHING = (
    "test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static",
    "test_aot_dispatch_dynamic",
)  # fmt: skip


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize(
    ("dtype", "channels_last"), [(torch.float64, False), (torch.float32, False), (torch.float16, True)], ids=str
)
def test_operators_are_registered_as_torch_expects(dtype, batch, channels_last):
    from supervised_st._sampler import fused

    image, theta = arguments(dtype, batch)
    grad = torch.randn(batch, 2, 4, 7, device=DEVICE).to(dtype)
    if channels_last:
        image, grad = (t.contiguous(memory_format=torch.channels_last) for t in (image, grad))
    options = ("bilinear", "border", False)
    inputs = [t.clone().requires_grad_() for t in (image, theta)]
    torch.library.opcheck(fused.forward_op, (*inputs, None, None, None, 4, 7, *options), test_utils=EVERYTHING)
    for operator, given in (
        (fused.image_gradient_op, (grad, theta, 5, 6, channels_last, *options)),
        (fused.theta_gradient_op, (grad, image, theta, None, None, None, *options)),
    ):
        torch.library.opcheck(operator, given, test_utils=EVERYTHING)


def test_the_operator_for_uint8_and_several_transforms_is_registered_as_torch_expects():
    from supervised_st._sampler import fused

    image = torch.randint(0, 256, (1, 2, 5, 6), dtype=torch.uint8, device=DEVICE)
    theta = torch.randn(1, 2, 2, 3, device=DEVICE).requires_grad_()
    constants = [torch.rand(2, device=DEVICE) + 0.5 for _ in range(3)]
    arguments = (image, theta, *constants, 4, 7, "bilinear", "fill", True)
    torch.library.opcheck(fused.forward_op, arguments, test_utils=EVERYTHING)


SCHEMAS = (
    "supervised_st::affine_sample(Tensor image, Tensor theta, Tensor? fill, Tensor? mean, Tensor? std, SymInt height, "
    "SymInt width, str mode, str padding_mode, bool align_corners) -> Tensor",
    "supervised_st::affine_sample_image_gradient(Tensor grad, Tensor theta, SymInt height, SymInt width, "
    "bool channels_last, str mode, str padding_mode, bool align_corners) -> Tensor",
    "supervised_st::affine_sample_theta_gradient(Tensor grad, Tensor image, Tensor theta, Tensor? fill, Tensor? mean, "
    "Tensor? std, str mode, str padding_mode, bool align_corners) -> Tensor",
)


def test_the_schemas_are_those_that_exported_graphs_hold():
    """They are made from the annotations of NamedTuples; a field that changes there would break saved graphs."""
    from supervised_st._sampler import fused

    operators = fused.forward_op, fused.image_gradient_op, fused.theta_gradient_op
    assert tuple(str(operator._schema) for operator in operators) == SCHEMAS


@pytest.mark.usefixtures("_poisoned_and_fenced_memory", "_programs_of_a_gpu")
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
    image, theta = arguments(torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        affine_sample(image.requires_grad_(), theta.clone().requires_grad_(), (32, 32), backend="triton")
    assert sorted(kept) == sorted([image.numel(), theta.numel()])


class Glimpse(torch.nn.Module):
    """A transform that is learned."""

    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.eye(2, 3)[None] * 0.8 + 0.03)

    def forward(self, image):
        return affine_sample(image, self.theta.expand(len(image), 2, 3), (4, 5), backend="triton")


def _export(model, image):
    return torch.export.export(model, (image,)).module()


def _decompose(model, image):
    return torch.export.export(model, (image,)).run_decompositions().module()


def _compile(model, image):
    return torch.compile(model, fullgraph=True, backend="aot_eager")


GRAPHS = {"exported": _export, "decomposed": _decompose, "traced": torch.jit.trace, "compiled": _compile}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_graphs_of_the_kernels_keep_their_gradients(graph):
    """An operator that is not registered with autograd would silently have no gradients."""
    image = torch.randn(2, 1, 5, 6, requires_grad=True)
    model = Glimpse()
    other = graph(model, image)
    want, got = model(image), other(image)
    assert torch.equal(got, want)
    of_model, of_other = (
        torch.autograd.grad(out.square().sum(), (image, *parameters))
        for out, parameters in ((want, model.parameters()), (got, other.parameters()))
    )
    for mine, true in zip(of_other, of_model, strict=True):
        assert torch.equal(mine, true)


def test_operators_raise_where_they_are_not_differentiable():
    from supervised_st._sampler import fused

    image, theta = arguments(torch.float32)

    def sample(theta):
        return fused.forward_op(image, theta, None, None, None, 4, 7, "bilinear", "zeros", False)

    for derivative in (torch.func.grad(lambda theta: sample(theta).sum()), torch.func.jacfwd(sample)):
        with pytest.raises(RuntimeError, match=r"supports neither torch.func transforms nor forward-mode"):
            derivative(theta)
    grad = torch.ones_like(sample(theta))
    plain = ("bilinear", "zeros", False)
    calls = (
        lambda theta: fused.image_gradient_op(grad, theta, 5, 6, False, *plain),
        lambda theta: fused.theta_gradient_op(grad, image, theta, None, None, None, *plain),
        lambda theta: fused.forward_op(
            image, IDENTITY, theta[:, 0, 0].clone(), None, None, 4, 7, "bilinear", "fill", False
        ),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match=r"is not differentiable.*; pass"):
            call(theta.clone().requires_grad_())
        with pytest.raises(RuntimeError, match=r"is not differentiable|supports neither torch.func"):
            torch.func.jvp(call, (theta,), (theta,))
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match=r"is not differentiable"):
            call(forward_ad.make_dual(theta, theta))


def test_forward_over_reverse_goes_through_the_reference():
    """Tangents of what comes after a spatial transformer reach its gradients."""
    image, theta = torch.randn(1, 2, 5, 6, requires_grad=True), (IDENTITY[:1].cpu() * 0.8).requires_grad_()
    weights, direction = torch.randn(2, 1, 2, 4, 7)
    tangents = []
    for backend in ("triton", "reference"):
        out = affine_sample(image, theta, (4, 7), backend=backend)
        with forward_ad.dual_level():
            loss = (out * forward_ad.make_dual(weights, direction)).sum()
            found = torch.autograd.grad(loss, (image, theta))
            tangents.append([forward_ad.unpack_dual(gradient).tangent for gradient in found])
    for mine, true in zip(*tangents, strict=True):
        assert true.abs().max() > 0.1
        torch.testing.assert_close(mine, true)
