"""The matrix logarithm of symmetric positive definite matrices, differentiable at repeated eigenvalues."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def matrix_log(matrices: Tensor) -> Tensor:
    """Return the logarithms of symmetric positive definite matrices ``(..., m, m)``. Differentiable once."""
    apply: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = _MatrixLog.apply
    return apply(matrices)[0]


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor]


class _MatrixLog(torch.autograd.Function):
    """The logarithm ``U log(L) U^T`` of ``S = U L U^T``.

    Its derivative in the direction E is ``U (K * (U^T E U)) U^T`` with the divided differences
    ``K_ij = (log l_i - log l_j) / (l_i - l_j)`` (Daleckii, Krein, 1965), computed here without cancellation. The
    backward of `torch.linalg.eigh` divides by ``l_i - l_j`` alone, which is NaN for repeated eigenvalues.
    """

    generate_vmap_rule = True  # for torch.func.jacrev, which maps the backward

    @staticmethod
    def forward(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eigenvalues, vectors = torch.linalg.eigh(matrices)
        return vectors * torch.log(eigenvalues)[..., None, :] @ vectors.mT, eigenvalues, vectors

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor | None, *of_spectrum: Tensor | None) -> Tensor | None:
        # Eigenvalues and vectors are used below only, so their gradients are needed for second derivatives alone.
        if any(it is not None for it in of_spectrum):
            raise RuntimeError("the matrix logarithm of TemporalCorrelationPooling can be differentiated only once")
        if gradient is None:
            return None
        eigenvalues, vectors = ctx.saved_tensors
        differences = _divided_difference(eigenvalues[..., :, None], eigenvalues[..., None, :])
        symmetric = (gradient + gradient.mT) / 2
        return vectors @ (differences * (vectors.mT @ symmetric @ vectors)) @ vectors.mT


def _divided_difference(a: Tensor, b: Tensor) -> Tensor:
    """Return ``(log a - log b) / (a - b)``, and its limit ``1 / a`` where ``a = b``."""
    lower = torch.minimum(a, b)
    gap = (a - b).abs() / lower
    return torch.where(gap > 0, gap.log1p() / torch.where(gap > 0, gap, 1), 1) / lower
