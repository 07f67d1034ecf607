"""``affine_sample`` in graphs: compiled, exported, traced, and under ``torch.func``."""

import pytest
import torch

from supervised_st._sampler.options import PADDING_MODES
from supervised_st.sampling import affine_sample
from tests.helpers.sampling import IDENTITY, INF, NAN, case, pixels


def transformed(image, theta, sample):
    """Derivatives of a scalar by six function transforms."""

    def one(image, theta):
        return sample(image[None], theta[None]).square().sum()

    def total(theta):
        return sample(image, theta).square().sum()

    def along(theta):
        return torch.func.jvp(total, (theta,), (torch.ones_like(theta),))[1]

    return {
        "grad": torch.func.grad(total)(theta),
        "jacrev": torch.func.jacrev(total)(theta),
        "jacfwd": torch.func.jacfwd(total)(theta),
        "vmap of grad": torch.func.vmap(torch.func.grad(one, argnums=1))(image, theta),
        "jvp": along(theta),
        "grad of jvp": torch.func.grad(along)(theta),
    }


@pytest.mark.parametrize("options", [{}, {"mode": "bicubic"}, {"antialias": True}], ids=str)
@pytest.mark.parametrize("backend", ["auto", "aten"])
def test_function_transforms(backend, options):
    image, theta, size = case(11, spread=0.5)

    def sample(image, theta):
        return affine_sample(image, theta, size, **options, backend=backend)

    got = transformed(image, theta, sample)
    theta.requires_grad_()
    (want,) = torch.autograd.grad(sample(image, theta).square().sum(), theta, create_graph=True)
    (second,) = torch.autograd.grad(want.sum(), theta)
    want = want.detach()
    for name in ("grad", "jacrev", "jacfwd", "vmap of grad"):
        torch.testing.assert_close(got[name], want, rtol=1e-9, atol=1e-9, msg=name)
    torch.testing.assert_close(got["jvp"], want.sum(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got["grad of jvp"], second, rtol=1e-9, atol=1e-9)


@pytest.mark.triton
@pytest.mark.parametrize("antialias", [False, True])
def test_the_kernels_refuse_function_transforms(antialias):
    image, theta, size = case(11)

    def total(theta):
        return affine_sample(image, theta, size, antialias=antialias, backend="triton").sum()

    for transform in (torch.func.grad, torch.func.jacfwd):
        with pytest.raises(RuntimeError, match=r"supports neither torch.func transforms nor forward-mode"):
            transform(total)(theta)


def test_constants_may_be_batched():
    image, theta = pixels(1, 2, 4, 5), torch.eye(2, 3)[None] * 0.9
    means = torch.rand(3, 2) * 100

    def sample(mean):
        return affine_sample(image, theta, (3, 3), mean=mean, std=50.0)

    torch.testing.assert_close(torch.func.vmap(sample)(means), torch.stack([sample(mean) for mean in means]))


class Sample(torch.nn.Module):
    def __init__(self, size, **options):
        super().__init__()
        self.size, self.options = size, options

    def forward(self, image, theta):
        return affine_sample(image, theta, self.size, **self.options)


@pytest.mark.parametrize("options", [{}, {"antialias": True, "padding_mode": "fill", "fill_value": 1.5}], ids=str)
@pytest.mark.parametrize("dynamic", [False, True])
def test_the_default_path_compiles_whole_and_exports(dynamic, options):
    image, theta, size = case(12, dtype=torch.float32, largest=8)
    theta = theta.float()
    want = affine_sample(image, theta, size, **options, backend="reference")
    sample = Sample(size, **options)
    compiled = torch.compile(sample, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    torch.testing.assert_close(compiled(image, theta), want, rtol=1e-5, atol=1e-5)

    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch}) if dynamic else None
    exported = torch.export.export(sample, (image, theta), dynamic_shapes=shapes).module()
    torch.testing.assert_close(exported(image, theta), want, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is not supported in Python 3.14:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_traced_graph_is_as_safe_as_the_call():
    """A check of theta's values at tracing would never be made again."""
    image, theta, size = case(12, dtype=torch.float32, largest=8)
    traced = torch.jit.trace(Sample(size, padding_mode="reflection"), (image, theta))
    theta[0, 0, 0] = float("nan")
    image.requires_grad_()
    out = traced(image, theta)
    torch.testing.assert_close(
        out, affine_sample(image, theta, size, padding_mode="reflection"), equal_nan=True, rtol=1e-5, atol=1e-5
    )
    assert torch.autograd.grad(out.sum(), image)[0].isfinite().all()


def test_a_compiled_call_raises_and_returns_what_the_call_does():
    """pytorch#193822, pytorch#183769, PR pytorch#176721: errors and values that differ under the compiler."""
    compiled = torch.compile(affine_sample, backend="eager")
    image = torch.ones(1, 1, 2, 2)
    for theta, size, error in ((IDENTITY, (0, 2), ValueError), (torch.zeros(1, 3, 3), (2, 2), ValueError),
                               (IDENTITY.long(), (2, 2), TypeError)):  # fmt: skip
        with pytest.raises(error) as plain:
            affine_sample(image, theta, size)
        with pytest.raises(error) as traced:
            compiled(image, theta, size)
        assert str(traced.value).startswith(str(plain.value))
    for value in (NAN, INF, -INF, 2.5e38):
        theta = IDENTITY.clone()
        theta[0, 0, 2] = value
        for padding_mode in PADDING_MODES:
            got, want = (of(image, theta, (2, 2), padding_mode=padding_mode) for of in (compiled, affine_sample))
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True, msg=f"{value}, {padding_mode}")
