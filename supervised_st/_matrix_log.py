"""The matrix logarithm of symmetric positive definite matrices, differentiable at repeated eigenvalues."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


def matrix_log(matrices: Tensor) -> Tensor:
    """Return the logarithms of symmetric positive definite matrices ``(..., m, m)``. Differentiable once."""
    return _function(matrices, _LOG)


def log_of_identity_plus_products(rows: Tensor) -> Tensor:
    """Return ``log(I + A A^T)`` for ``A`` of shape ``(..., m, n)``. Differentiable once.

    It is ``A f(A^T A) A^T`` with ``f(x) = log(1 + x) / x``. The spectrum is that of an n x n matrix, so short rows are
    fast.
    """
    return rows @ _function(rows.mT @ rows, _LOG_RATIO) @ rows.mT


class _Function(NamedTuple):
    """A function of eigenvalues."""

    value: Callable[[Tensor], Tensor]
    divided_difference: Callable[[Tensor, Tensor], Tensor]  # (f(a) - f(b)) / (a - b), and f'(a) where a = b


def _function(matrices: Tensor, function: _Function) -> Tensor:
    apply: Callable[[Tensor, _Function], tuple[Tensor, Tensor, Tensor]] = _MatrixFunction.apply
    return apply(matrices, function)[0]


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor]
    function: _Function


class _MatrixFunction(torch.autograd.Function):
    """The function ``U f(L) U^T`` of symmetric ``S = U L U^T``.

    Its derivative in the direction E is ``U (K * (U^T E U)) U^T`` with the divided differences
    ``K_ij = (f(l_i) - f(l_j)) / (l_i - l_j)`` (Daleckii, Krein, 1965), computed here without cancellation. The
    backward of `torch.linalg.eigh` divides by ``l_i - l_j`` alone, which is NaN for repeated eigenvalues.
    """

    generate_vmap_rule = True  # for torch.func.jacrev, which maps the backward

    @staticmethod
    def forward(matrices: Tensor, function: _Function) -> tuple[Tensor, Tensor, Tensor]:
        eigenvalues, vectors = torch.linalg.eigh(matrices)
        return vectors * function.value(eigenvalues)[..., None, :] @ vectors.mT, eigenvalues, vectors

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[Tensor, _Function], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.function = inputs[1]
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: _Context, gradient: Tensor | None, *of_spectrum: Tensor | None) -> tuple[Tensor | None, None]:
        # Eigenvalues and vectors are used below only, so their gradients are needed for second derivatives alone.
        if any(it is not None for it in of_spectrum):
            raise RuntimeError("the matrix logarithm of TemporalCorrelationPooling can be differentiated only once")
        if gradient is None:
            return None, None
        eigenvalues, vectors = ctx.saved_tensors
        differences = ctx.function.divided_difference(eigenvalues[..., :, None], eigenvalues[..., None, :])
        symmetric = (gradient + gradient.mT) / 2
        return vectors @ (differences * (vectors.mT @ symmetric @ vectors)) @ vectors.mT, None


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    lower = torch.minimum(a, b)
    gap = (a - b).abs() / lower
    return torch.where(gap > 0, gap.log1p() / torch.where(gap > 0, gap, 1), 1) / lower


def _log_ratio(x: Tensor) -> Tensor:
    """Return ``log(1 + x) / x``; x may be below 0 by rounding."""
    return torch.where(x > 0, x.clamp_min(0).log1p() / torch.where(x > 0, x, 1), 1)


def _log_ratio_difference(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.clamp_min(0), b.clamp_min(0)
    lower, upper = torch.minimum(a, b), torch.maximum(a, b)
    gap = upper - lower
    slope = torch.where(gap > 0, (gap / (1 + lower)).log1p() / torch.where(gap > 0, gap, 1), 1 / (1 + lower))
    series = (a + b) / 3 - (a * a + a * b + b * b) / 4 - 0.5
    return torch.where(upper < _SMALL, series, (slope - _log_ratio(lower)) / torch.where(upper < _SMALL, 1, upper))


_SMALL = 1e-4  # where the next term of the series is smaller than the rounding of the formula
_LOG = _Function(torch.log, _log_difference)
_LOG_RATIO = _Function(_log_ratio, _log_ratio_difference)
