"""Temporal correlation pooling: from the features of a clip's frames to one descriptor of the clip.

Convention:
    The *trajectory* of a channel is its course over the frames. A clip of n frames and m channels is described by the
    symmetric m x m matrix that compares all pairs of trajectories, so clips of any length get descriptors of one size.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from supervised_st._checks import check_choice, check_floating, check_shape

_RIDGE = 1e-6  # of the mean eigenvalue: keeps the maps and their slopes finite even without shrinkage
_CONSTANT = 1e-12  # of a trajectory's length: what float64 may leave of a constant one when its mean is taken off


class TemporalCorrelationPooling(nn.Module):
    """Describe each clip by the matrix of similarities between its channels' trajectories.

    ===============  ============================================  ====================================
    kind             entry for the trajectories s and t            matrix
    ===============  ============================================  ====================================
    ``distance``     ``d = |s - t| / sqrt(n)``, the paper's (3)    trace 0, exactly one eigenvalue > 0
    ``rbf``          ``exp(-gamma d^2)``                           positive definite for any n
    ``laplacian``    ``exp(-gamma d)``                             positive definite for any n
    ``mds``          ``-d^2 / 2``, rows and columns centered        positive semi-definite, rank < m
    ``inner``        ``<s, t> / n``                                positive semi-definite, rank <= n
    ``covariance``   ``<s - mean, t - mean> / (n - 1)``            positive semi-definite, rank < n
    ``correlation``  covariance over both standard deviations      as covariance, diagonal 1
    ``cosine``       ``<s, t> / (|s| |t|)``                        as inner, diagonal 1
    ===============  ============================================  ====================================

    ("Positive definite" and "exactly one" hold where no two trajectories are equal.) A trajectory without a direction
    (constant for ``correlation``, zero for ``cosine``) is like no other: 0, and 1 on the diagonal. In a clip of one
    frame every trajectory is constant: the covariance is zero, the correlation is the identity.

    What follows is, for all kinds but ``distance``, shrinkage ``(1 - rho) S + rho (tr S / m) I``; then the map, the
    upper triangle as a vector (`vectorize`; ``distance`` leaves out its zero diagonal), the signed power, and division
    by the Euclidean length. A zero matrix gives the zero descriptor. All of this is float64 and separate for every
    clip: neither padding nor the other clips of a batch matter.

    Args:
        kind: see the table.
        gamma: of ``rbf`` and ``laplacian``, which need it: one number for a whole data set, see `median_gamma`. It is a
            setting like the others, not part of the state dict. Unused by the other kinds.
        shrinkage: rho in [0, 1]; or ``"ledoit_wolf"`` or ``"oas"`` to estimate it for every clip, for the last four
            kinds of the table. Unused by ``distance``.
        map: ``"none"``, ``"log"`` (matrix logarithm: the log-Euclidean metric) or ``"sqrt"`` (matrix square root); the
            last two first add 1e-6 of the mean eigenvalue to the diagonal. None is ``"log"``, and ``"none"`` for
            ``distance``, which can have no other.
        blocks: split the channels into this many equal, contiguous blocks, with one matrix and one stretch of the
            descriptor for each.
        power: exponent in (0, 1] of the signed power ``sign(z) |z|^power``.

    Raises:
        ValueError: if an option is unknown, missing, out of range, or cannot go with the kind.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, eq. (3), where the matrix of distances is
        called positive definite, which it never is. Kernels: Cherian, Gould, Second-order Temporal Pooling for Action
        Recognition, https://arxiv.org/abs/1704.06925. Temporal-attentive Covariance Pooling (Gao et al., NeurIPS 2021)
        is another method with the same initials.
    """

    def __init__(
        self,
        kind: str,
        *,
        gamma: float | None = None,
        shrinkage: float | str = 1e-3,
        map: str | None = None,
        blocks: int = 1,
        power: float = 0.5,
    ) -> None:
        super().__init__()
        check_choice("kind", kind, (*_KERNELS, *_FACTORS))
        if kind in _NEED_GAMMA and (gamma is None or not 0 < gamma < float("inf")):
            raise ValueError(f"gamma must be a positive number for kind={kind!r} (see median_gamma), got {gamma}")
        _check_shrinkage(shrinkage, kind)
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        if not 0 < power <= 1:
            raise ValueError(f"power must lie in (0, 1], got {power}")
        self.kind = kind
        self.gamma = gamma
        self.shrinkage = 0.0 if kind == "distance" else shrinkage
        self.map = _checked_map(map, kind)
        self.blocks = blocks
        self.power = power

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return one descriptor of Euclidean length 1 for each clip.

        Args:
            features: ``[batch frame channel]``, floating point; clips are padded to one length, with anything.
            lengths: ``[batch]``, integer, number of frames of each clip; None if all frames count.

        Returns:
            ``(batch, descriptor_size(channel))`` in the dtype of the features. Differentiable once.

        Raises:
            TypeError: if an argument has the wrong type.
            ValueError: if shapes do not fit, a clip has no frame or a feature that is not finite, or the channels
                cannot be split into the blocks.
        """
        return self._describe(self.matrices(features, lengths)).to(features.dtype)

    def accumulate(self) -> "PoolingAccumulator":
        """Return an accumulator, which takes one clip's frames a few at a time and then gives its descriptor.

        Raises:
            ValueError: if shrinkage is ``"ledoit_wolf"``, for which all frames are needed at once.
        """
        return PoolingAccumulator(self)

    def matrices(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the matrices behind the descriptors: after shrinkage, before the map.

        Args:
            features: see `forward`.
            lengths: see `forward`.

        Returns:
            ``(batch, blocks, m, m)`` with ``m = channel / blocks``, float64.

        Raises:
            TypeError: as `forward`.
            ValueError: as `forward`.
        """
        clips = _clips(features, lengths, self.blocks)
        matrices = self._compare(clips)
        return matrices.reshape(len(features), self.blocks, *matrices.shape[1:])

    def descriptor_size(self, channels: int) -> int:
        """Return how long the descriptor of a clip with so many channels is.

        Raises:
            ValueError: if the channels cannot be split into the blocks.
        """
        side = _block_size(channels, self.blocks)
        return self.blocks * (side * (side - 1) if self.kind == "distance" else side * (side + 1)) // 2

    def extra_repr(self) -> str:
        """Return the settings, for ``repr``."""
        settings = {name: getattr(self, name) for name in ("kind", "gamma", "shrinkage", "map", "blocks", "power")}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())

    def _compare(self, clips: "_Clips") -> Tensor:
        if self.kind in _KERNELS:
            matrices = _KERNELS[self.kind](_distances(clips), self.gamma or 0.0)
        else:
            factors = _FACTORS[self.kind](clips)
            matrices = factors @ factors.mT
            if self.kind in _UNIT_DIAGONAL:
                matrices = matrices.diagonal_scatter(torch.ones_like(matrices[..., 0]), dim1=-2, dim2=-1)
            if isinstance(self.shrinkage, str):
                return _shrink(matrices, _ESTIMATORS[self.shrinkage](factors, clips.lengths))
        return _shrink(matrices, float(self.shrinkage))

    def _describe(self, matrices: Tensor) -> Tensor:
        if self.map != "none":
            matrices = _mapped(matrices, self.map)
        vectors = vectorize(matrices)
        if self.kind == "distance":
            vectors = vectors[..., matrices.shape[-1] :]
        return F.normalize(_signed_power(vectors.flatten(1), self.power), dim=1)


class PoolingAccumulator:
    """One clip's descriptor from its frames, a few at a time, in memory that does not grow with their number.

    Frames are held as they are until there are more than twice as many as channels, then as a triangle of the same
    inner products (of a QR decomposition; every matrix of `TemporalCorrelationPooling` depends on nothing else). Held
    that way, trajectories move by about 1e-15 of their own length, so equal ones are no longer at distance 0 exactly.
    Not differentiable.

    Args:
        pooling: what the descriptor is to be.

    Raises:
        ValueError: if the pooling's shrinkage is ``"ledoit_wolf"``, for which all frames are needed at once.
    """

    def __init__(self, pooling: TemporalCorrelationPooling) -> None:
        if pooling.shrinkage == "ledoit_wolf":
            raise ValueError("shrinkage='ledoit_wolf' needs all frames at once, so it cannot be accumulated")
        self._pooling = pooling
        self._frames = 0
        self._rows: Tensor | None = None  # (block, channel + 1, held frame): the trajectories, and that of a constant 1

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """Take the next frames of the clip.

        Args:
            features: ``[frame channel]``, floating point, with as many channels as before.

        Raises:
            TypeError: if the features are of the wrong type.
            ValueError: if shapes do not fit, a feature is not finite, or the channels cannot be split into the blocks.
        """
        check_shape("features", features, "frame channel")
        clip = _clips(features[None], None, self._pooling.blocks)
        rows = torch.cat([clip.trajectories, clip.ones], 1)
        if self._rows is not None:
            channels = (self._rows.shape[1] - 1) * len(self._rows)
            check_shape("features", features, "frame channel", channel=channels)
            rows = torch.cat([self._rows, rows], 2)
        if rows.shape[2] > 2 * rows.shape[1]:
            rows = torch.linalg.qr(rows.mT, mode="r").R.mT
        self._rows = rows
        self._frames += len(features)

    @torch.no_grad()
    def descriptor(self) -> Tensor:
        """Return the descriptor of the frames so far, ``(descriptor_size(channel),)`` in float64.

        Raises:
            ValueError: if there are none.
        """
        if self._rows is None:
            raise ValueError("frames must be added before a descriptor can be given, got none")
        clips = _Clips(self._rows[:, :-1], self._rows[:, -1:], self._rows.new_full((1, 1, 1), self._frames))
        return self._pooling._describe(self._pooling._compare(clips)[None])[0]


def median_gamma(features: Tensor, lengths: Tensor | None = None, *, kind: str = "rbf") -> float:
    """Return the gamma at which the median pair of trajectories in a set of clips has the similarity 1/e.

    For ``rbf`` that is ``1 / median(d^2)``, a Gaussian of variance ``median(d^2) / 2``. All pairs of channels of all
    clips are kept at once (8 bytes each); a few hundred training clips are a good sample of any number of them.

    Args:
        features: ``[batch frame channel]``, see `TemporalCorrelationPooling.forward`.
        lengths: ``[batch]``, as there.
        kind: ``"rbf"`` or ``"laplacian"``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if shapes do not fit, a clip has no frame or a feature that is not finite, or at least half of the
            pairs are pairs of equal trajectories.
    """
    check_choice("kind", kind, _NEED_GAMMA)
    distances = _distances(_clips(features, lengths, 1))
    pairs = distances[:, *_upper_triangle(distances)]
    median = float(pairs.median()) if pairs.numel() else 0.0
    if not median > 0:
        raise ValueError("features must hold pairs of different trajectories, got none or mostly equal ones")
    return 1 / median**2 if kind == "rbf" else 1 / median


def vectorize(matrix: Tensor) -> Tensor:
    """Lay out a symmetric matrix as a vector, keeping inner products.

    Args:
        matrix: ``(..., m, m)``, symmetric.

    Returns:
        ``(..., m (m + 1) / 2)``: the diagonal, then sqrt(2) times the entries above it, row by row; so that the dot
        product of two vectors is the Frobenius inner product of the matrices.
    """
    return torch.cat([matrix.diagonal(dim1=-2, dim2=-1), 2**0.5 * matrix[..., *_upper_triangle(matrix)]], -1)


def _signed_power(entries: Tensor, power: float) -> Tensor:
    if power == 1:
        return entries
    # The slope is infinite at zero; held at the smallest magnitude it is zero there instead.
    return entries.sign() * entries.abs().clamp_min(torch.finfo(entries.dtype).tiny).pow(power)


def _upper_triangle(matrix: Tensor) -> Tensor:
    """Row and column numbers of the entries above the diagonal."""
    side = matrix.shape[-1]
    return torch.triu_indices(side, side, offset=1, device=matrix.device)


class _Clips(NamedTuple):
    """Clips (or blocks of their channels) in float64, with zeros for padding."""

    trajectories: Tensor  # (clip, channel, frame)
    ones: Tensor  # (clip, 1, frame), the trajectory of a constant 1
    lengths: Tensor  # (clip, 1, 1)


def _clips(features: Tensor, lengths: Tensor | None, blocks: int) -> _Clips:
    sizes = check_shape("features", features, "batch frame channel")
    check_floating("features", features)
    side = _block_size(sizes["channel"], blocks)
    frames = torch.arange(sizes["frame"], device=features.device)
    inside = frames < _frame_counts(features, lengths)[:, None]
    known = features.double().masked_fill(~inside[..., None], 0)
    broken = ~known.isfinite().flatten(1).all(1)
    if broken.any():
        raise ValueError(f"features must be finite, got nan or inf in clip {int(broken.nonzero()[0])}")
    trajectories = known.mT.reshape(-1, side, sizes["frame"])
    ones = inside.double().repeat_interleave(blocks, 0)[:, None]
    return _Clips(trajectories, ones, ones.sum(-1, keepdim=True))


def _frame_counts(features: Tensor, lengths: Tensor | None) -> Tensor:
    batch, frames = features.shape[:2]
    if frames < 1:
        raise ValueError(f"features must hold at least one frame, got shape {tuple(features.shape)}")
    if lengths is None:
        lengths = torch.full((batch,), frames)
    check_shape("lengths", lengths, "batch", batch=batch)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths must be of an integer type, got {lengths.dtype}")
    wrong = (lengths < 1) | (lengths > frames)
    if wrong.any():
        clip = int(wrong.nonzero()[0])
        raise ValueError(
            f"lengths must lie in [1, {frames}], the frames given, got {int(lengths[clip])} for clip {clip}"
        )
    return lengths.to(features.device)


def _distances(clips: _Clips) -> Tensor:
    # The usual form by a matrix product leaves about 1e-8 between equal trajectories, and on the diagonal.
    distances = torch.cdist(clips.trajectories, clips.trajectories, compute_mode="donot_use_mm_for_euclid_dist")
    return distances / clips.lengths.sqrt()


def _double_centered(matrix: Tensor) -> Tensor:
    rows_centered = matrix - matrix.mean(-1, keepdim=True)
    return rows_centered - rows_centered.mean(-2, keepdim=True)


def _centered(clips: _Clips) -> Tensor:
    mean = clips.trajectories @ clips.ones.mT / clips.lengths
    return clips.trajectories - mean * clips.ones


def _directions(rows: Tensor, clips: _Clips) -> Tensor:
    """Scale rows to length 1, and to 0 where nothing but rounding is left of the trajectory."""
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    lives = norm > _CONSTANT * torch.linalg.vector_norm(clips.trajectories, dim=-1, keepdim=True)
    return torch.where(lives, rows / torch.where(lives, norm, 1), 0)


_KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "distance": lambda distances, _: distances,
    "rbf": lambda distances, gamma: (-gamma * distances.square()).exp(),
    "laplacian": lambda distances, gamma: (-gamma * distances).exp(),
    "mds": lambda distances, _: _double_centered(distances.square() / -2),
}
"""Matrices made of the distances between trajectories (and gamma)."""

_FACTORS: dict[str, Callable[[_Clips], Tensor]] = {
    "inner": lambda clips: clips.trajectories / clips.lengths.sqrt(),
    "covariance": lambda clips: _centered(clips) / (clips.lengths - 1).clamp_min(1).sqrt(),
    "correlation": lambda clips: _directions(_centered(clips), clips),
    "cosine": lambda clips: _directions(clips.trajectories, clips),
}
"""Z for the matrices of the form Z Z^T."""

_NEED_GAMMA = ("rbf", "laplacian")
_UNIT_DIAGONAL = ("correlation", "cosine")


def _shrink(matrices: Tensor, rho: Tensor | float) -> Tensor:
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return (1 - rho) * matrices + rho * _mean_eigenvalue(matrices) * identity


def _mean_eigenvalue(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]


def _ledoit_wolf(factors: Tensor, lengths: Tensor) -> Tensor:
    """Return the rho of Ledoit, Wolf, JMVA 2004, lemmas 3.2 to 3.4: https://doi.org/10.1016/S0047-259X(03)00096-4."""
    trace, squares = _moments(factors, lengths)
    channels = factors.shape[-2]
    fourth = factors.square().sum(-2, keepdim=True).square().sum(-1, keepdim=True) / lengths
    spread = squares - trace.square() / channels
    return ((fourth - squares) / lengths / torch.where(spread > 0, spread, 1)).clamp(0, 1)


def _oas(factors: Tensor, lengths: Tensor) -> Tensor:
    """Return the rho of Chen et al., IEEE TSP 2010, without its small term 2/m: https://arxiv.org/abs/0907.4698."""
    trace, squares = _moments(factors, lengths)
    spread = squares - trace.square() / factors.shape[-2]
    rho = (squares + trace.square()) / (lengths + 1) / torch.where(spread > 0, spread, 1)
    return torch.where(spread > 0, rho, 1).clamp_max(1)


def _moments(factors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Trace, and sum of the squared entries, of the second-moment matrix of each clip's frames."""
    moment = factors @ factors.mT / lengths
    return _mean_eigenvalue(moment) * moment.shape[-1], moment.square().sum((-2, -1), keepdim=True)


_ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ledoit_wolf": _ledoit_wolf, "oas": _oas}


def _mapped(matrices: Tensor, map: str) -> Tensor:
    mean = _mean_eigenvalue(matrices)
    empty = mean <= 0
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    apply: Callable[[Tensor, str], Tensor] = _SpectralMap.apply
    return torch.where(empty, 0, apply(matrices + torch.where(empty, 1, _RIDGE * mean) * identity, map))


class _SpectralContext(FunctionCtx):
    saved_tensors: tuple[Tensor, Tensor]
    map: str


class _SpectralMap(torch.autograd.Function):
    """A function of symmetric positive definite matrices, whose backward is finite for repeated eigenvalues too.

    The derivative of ``f(S) = U f(L) U^T`` in the direction E is ``U (K * (U^T E U)) U^T`` with the divided differences
    ``K_ij = (f(l_i) - f(l_j)) / (l_i - l_j)`` (Daleckii, Krein, 1965), here in forms without cancellation; the backward
    of `torch.linalg.eigh` divides by ``l_i - l_j`` alone.
    """

    @staticmethod
    def forward(ctx: _SpectralContext, matrices: Tensor, map: str) -> Tensor:
        eigenvalues, vectors = torch.linalg.eigh(matrices)
        ctx.save_for_backward(eigenvalues, vectors)
        ctx.map = map
        mapped: Tensor = vectors * _SPECTRAL[map].function(eigenvalues)[..., None, :] @ vectors.mT
        return mapped

    @staticmethod
    @once_differentiable
    def backward(ctx: _SpectralContext, gradient: Tensor) -> tuple[Tensor, None]:
        eigenvalues, vectors = ctx.saved_tensors
        differences = _SPECTRAL[ctx.map].divided_difference(eigenvalues[..., :, None], eigenvalues[..., None, :])
        symmetric = (gradient + gradient.mT) / 2
        return vectors @ (differences * (vectors.mT @ symmetric @ vectors)) @ vectors.mT, None


class _Spectral(NamedTuple):
    function: Callable[[Tensor], Tensor]
    divided_difference: Callable[[Tensor, Tensor], Tensor]


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    lower = torch.minimum(a, b)
    gap = (a - b).abs() / lower
    return torch.where(gap > 0, gap.log1p() / torch.where(gap > 0, gap, 1), 1) / lower


_SPECTRAL = {
    "log": _Spectral(torch.log, _log_difference),
    "sqrt": _Spectral(torch.sqrt, lambda a, b: 1 / (a.sqrt() + b.sqrt())),
}


def _checked_map(map: str | None, kind: str) -> str:
    if map is None:
        return "none" if kind == "distance" else "log"
    check_choice("map", map, ("none", *_SPECTRAL))
    if kind == "distance" and map != "none":
        raise ValueError(
            f"map={map!r} needs a positive semi-definite matrix: kind='distance' has trace 0, so negative eigenvalues; "
            "take map='none', or kind 'rbf', 'laplacian' or 'mds', which are made of the same distances"
        )
    return map


def _check_shrinkage(shrinkage: float | str, kind: str) -> None:
    if not isinstance(shrinkage, str):
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
        return
    check_choice("shrinkage", shrinkage, _ESTIMATORS)
    if kind not in _FACTORS:
        raise ValueError(
            f"shrinkage={shrinkage!r} needs kind to be one of {', '.join(map(repr, _FACTORS))}, got {kind!r}"
        )


def _block_size(channels: int, blocks: int) -> int:
    if channels < 1 or channels % blocks:
        raise ValueError(f"channels must be a positive multiple of blocks={blocks}, got {channels}")
    return channels // blocks
