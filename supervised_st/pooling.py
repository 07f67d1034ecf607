"""Temporal correlation pooling: from the features of a clip's frames to one descriptor of the clip.

Convention:
    The *trajectory* of a channel is its values over the frames. A clip of n frames and m channels is described by the
    symmetric m x m matrix that compares all pairs of trajectories, so clips of any length get descriptors of one size.

Raises:
    TypeError: by every function, if an argument does not have the type or dtype that is described.
    ValueError: by every function, if an argument does not have the shape or range that is described.
"""

import torch
from torch import Tensor, nn

from supervised_st import _pooling_kinds as kinds
from supervised_st._checks import check_choice, check_floating, check_number, check_shape, check_whole
from supervised_st._matrix_log import log_of_identity_plus_products, matrix_log
from supervised_st._settings import shown_settings

_SHORTEST = 2.0**-511  # length of a descriptor before it is divided by it; squares of shorter ones underflow
_SMALLEST = 2.0**-1000  # mean eigenvalue of a matrix with a logarithm; the ridge of smaller ones underflows
_CLOSEST = 1e-150  # median distance whose gamma is a number
_RIDGE = 1e-6  # relative to the mean eigenvalue: keeps the logarithm and its slope finite even without shrinkage


class TemporalCorrelationPooling(nn.Module):
    """Describe each clip by the matrix of similarities between its channels' trajectories.

    ===============  ============================================  ====================================
    kind             entry for the trajectories s and t            matrix
    ===============  ============================================  ====================================
    ``distance``     ``d = |s - t| / sqrt(n)``, the paper's (3)    trace 0, exactly one eigenvalue > 0
    ``rbf``          ``exp(-gamma d^2)``                           positive definite for any n
    ``laplacian``    ``exp(-gamma d)``                             positive definite for any n
    ``mds``          ``-d^2 / 2``, rows and columns centered       positive semi-definite, rank < m
    ``inner``        ``<s, t> / n``                                positive semi-definite, rank <= n
    ``covariance``   ``<s - mean, t - mean> / (n - 1)``            positive semi-definite, rank < n
    ``correlation``  covariance over both standard deviations      as covariance, diagonal 1
    ``cosine``       ``<s, t> / (|s| |t|)``                        as inner, diagonal 1
    ===============  ============================================  ====================================

    ("Positive definite" and "exactly one" hold if no two trajectories are equal.) Degenerate trajectories (constant for
    ``correlation``, zero for ``cosine``) have similarity 0 to all others and 1 to themselves. In a clip of one frame
    every trajectory is constant: the covariance is zero and the correlation is the identity.

    The steps after the matrix S are:

    1. shrinkage, ``(1 - rho) S + rho (tr S / m) I``, for all kinds but ``distance``;
    2. the matrix logarithm, if ``map="log"``;
    3. the upper triangle as a vector, see `vectorize`; ``distance`` leaves out its zero diagonal;
    4. the signed power ``sign(z) |z|^power``;
    5. division by the Euclidean length. A zero matrix gives the zero descriptor, as do features so tiny (below about
       1e-75) that their products underflow.

    All steps are in float64 and separate for each clip: neither padding nor the rest of the batch changes a descriptor.
    MPS has no float64, so features must not be there.

    Recipes: the paper's eq. (3) is ``TemporalCorrelationPooling("distance")``. For the kernels of Cherian and Gould,
    take ``kind="rbf"`` with ``gamma=median_gamma(training_features)``; for thousands of channels add ``blocks``, as in
    their block-diagonal variant: 16 blocks of 256 channels need 526,336 numbers instead of 8,390,656. A plain
    covariance descriptor is ``TemporalCorrelationPooling("covariance", shrinkage=0.0, map="none", power=1.0)``.

    Args:
        kind: see the table.
        gamma: width of ``rbf`` and ``laplacian``, required there and unused by the other kinds: one positive number for
            a whole dataset, see `median_gamma`. Like the other settings it is not part of the state dict.
        shrinkage: rho in [0, 1]. Unused by ``distance``.
        map: ``"none"`` or ``"log"`` (matrix logarithm, the log-Euclidean metric), which first adds 1e-6 of the mean
            eigenvalue to the diagonal. None is ``"none"`` for ``distance``, which has no logarithm, and ``"log"`` for
            the other kinds.
        blocks: split the channels into this many equal, contiguous blocks. Each block has its own matrix; the
            descriptor holds one block after the other.
        power: exponent in (0, 1] of the signed power.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, eq. (3). The paper calls the matrix of
        distances positive definite, which is impossible: its trace is zero. Kernels and blocks: Cherian, Gould,
        Second-order Temporal Pooling for Action Recognition, IJCV 2019, https://arxiv.org/abs/1704.06925.
        Temporal-attentive Covariance Pooling (Gao et al., NeurIPS 2021) is another method with the same initials.
    """

    def __init__(
        self,
        kind: str,
        *,
        gamma: float | None = None,
        shrinkage: float = 1e-3,
        map: str | None = None,
        blocks: int = 1,
        power: float = 0.5,
    ) -> None:
        super().__init__()
        check_choice("kind", kind, (*kinds.DISTANCE_KINDS, *kinds.PRODUCT_KINDS))
        if gamma is not None:
            check_number("gamma", gamma)
        if kind in kinds.NEED_GAMMA and (gamma is None or not 0 < gamma < float("inf")):
            raise ValueError(f"gamma must be a positive number for kind={kind!r} (see median_gamma), got {gamma}")
        check_number("shrinkage", shrinkage)
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
        if map is not None:
            check_choice("map", map, ("none", "log"))
        if kind == "distance" and map == "log":
            raise ValueError(
                "map must be 'none' for kind='distance', whose matrix has negative eigenvalues, got 'log'; for a "
                "logarithm take kind 'rbf', 'laplacian' or 'mds', which use the same distances"
            )
        check_whole("blocks", blocks)
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        check_number("power", power)
        if not 0 < power <= 1:
            raise ValueError(f"power must lie in (0, 1], got {power}")
        self.kind, self.gamma, self.shrinkage, self.map = kind, gamma, shrinkage, map
        self.blocks, self.power = blocks, power

    def forward(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return one descriptor of Euclidean length 1 for each clip.

        Args:
            features: ``[batch frame channel]``, floating point, finite and below 1e75 in magnitude; the number of
                channels is a multiple of ``blocks``. Shorter clips are padded at the end, with any values.
            lengths: ``[batch]``, integer, number of frames of each clip, at least 1; None if all frames count.

        Returns:
            ``(batch, descriptor_size(channel))`` in the dtype of the features. Differentiable once.
        """
        clips = kinds.make_clips(features, lengths, self.blocks)
        return self._describe(clips, len(features)).to(features.dtype)

    def accumulate(self) -> "PoolingAccumulator":
        """Return an accumulator, which takes one clip's frames a few at a time and then gives its descriptor."""
        return PoolingAccumulator(self)

    def matrices(self, features: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the matrices after shrinkage, before the logarithm; the arguments are those of `forward`.

        They are ``(batch, blocks, m, m)`` with ``m = channel / blocks``, float64.
        """
        matrices = self._compare(kinds.make_clips(features, lengths, self.blocks))
        return matrices.reshape(len(features), self.blocks, *matrices.shape[1:])

    def descriptor_size(self, channels: int) -> int:
        """Return the length of the descriptor for this many channels, a positive multiple of ``blocks``."""
        side = kinds.block_size(channels, self.blocks)
        return self.blocks * (side * (side - 1) if self.kind == "distance" else side * (side + 1)) // 2

    def extra_repr(self) -> str:
        """Return the kind and the settings that differ from their defaults, for ``repr``."""
        return shown_settings(self, TemporalCorrelationPooling)

    def _compare(self, clips: kinds.Clips) -> Tensor:
        matrices = kinds.compare(self.kind, clips, self.gamma)
        rho = 0.0 if self.kind == "distance" else self.shrinkage
        return _add_to_diagonal((1 - rho) * matrices, rho * _mean_eigenvalue(matrices))

    def _describe(self, clips: kinds.Clips, batch: int) -> Tensor:
        side, frames = clips.trajectories.shape[1:]
        if self.map == "none" or self.kind == "distance":
            matrices = self._compare(clips)
        elif self.kind in kinds.PRODUCT_KINDS and frames < side:
            matrices = _logarithm_by_frames(kinds.factors(self.kind, clips), self.shrinkage)
        else:
            matrices = _logarithm(self._compare(clips))
        vectors = vectorize(matrices)
        if self.kind == "distance":
            vectors = vectors[..., side:]
        vectors = _signed_power(vectors.reshape(batch, self.blocks * vectors.shape[1]), self.power)
        length = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / torch.where(length > _SHORTEST, length, torch.inf)


class PoolingAccumulator:
    """Computes one clip's descriptor from its frames, a few at a time. Memory does not grow with their number.

    Up to twice as many frames as channels are kept as they are. More frames are replaced by a triangular matrix with
    the same inner products (QR decomposition), which are all that `TemporalCorrelationPooling` depends on. This moves
    trajectories by about 1e-15 of their length, so the distance of equal ones is no longer exactly 0.
    Not differentiable.
    """

    def __init__(self, pooling: TemporalCorrelationPooling) -> None:
        self._pooling = pooling
        # The number of frames, and (block, channel + 1, kept frame): trajectories, and that of a constant 1. Both are
        # set in one step, so that an interrupted call has added all of its frames or none.
        self._clip: tuple[int, Tensor] | None = None

    @torch.no_grad()
    def add(self, features: Tensor) -> None:
        """Add the next frames of the clip: ``[frame channel]``, as for the pooling, with as many channels as before."""
        check_shape("features", features, "frame channel")
        clip = kinds.make_clips(features[None], None, self._pooling.blocks)
        rows = torch.cat([clip.trajectories, clip.ones], 1)
        frames = len(features)
        if self._clip is not None:
            before, kept = self._clip
            check_shape("features", features, "frame channel", channel=(kept.shape[1] - 1) * len(kept))
            frames, rows = frames + before, torch.cat([kept, rows], 2)
        if rows.shape[2] > 2 * rows.shape[1]:
            rows = torch.linalg.qr(rows.mT, mode="r").R.mT
        self._clip = frames, rows

    @torch.no_grad()
    def descriptor(self) -> Tensor:
        """Return the descriptor of the frames so far, ``(descriptor_size(channel),)`` in float64.

        Raises:
            ValueError: if no frames were added.
        """
        if self._clip is None:
            raise ValueError("frames must be added before a descriptor can be computed, got none")
        frames, rows = self._clip
        clips = kinds.Clips(rows[:, :-1], rows[:, -1:], rows.new_full((1, 1, 1), frames))
        return self._pooling._describe(clips, 1)[0]


def median_gamma(features: Tensor, lengths: Tensor | None = None, *, kind: str = "rbf") -> float:
    """Return the gamma at which the median pair of trajectories in a set of clips has the similarity 1/e.

    For ``rbf`` that is ``1 / median(d^2)``, a Gaussian of variance ``median(d^2) / 2``. The distances of all pairs of
    channels in all clips are in memory at once (8 bytes each). A few hundred training clips are a good sample.

    Args:
        features: ``[batch frame channel]``, see `TemporalCorrelationPooling.forward`. Fewer than half of the pairs may
            be pairs of equal trajectories.
        lengths: ``[batch]``, as there.
        kind: ``"rbf"`` or ``"laplacian"``.
    """
    check_choice("kind", kind, kinds.NEED_GAMMA)
    distances = kinds.distances(kinds.make_clips(features, lengths, 1))
    side = distances.shape[-1]
    pairs = distances.flatten(-2)[:, _triangle(side, distances.device)[side:]]
    median = float(pairs.median()) if pairs.numel() else 0.0
    if not median > _CLOSEST:
        raise ValueError("features must hold pairs of different trajectories, got none or mostly equal ones")
    return 1 / median**2 if kind == "rbf" else 1 / median


def vectorize(matrix: Tensor) -> Tensor:
    """Return symmetric matrices ``(..., m, m)`` as vectors ``(..., m (m + 1) / 2)``, such that inner products are kept.

    A vector holds the diagonal, then sqrt(2) times the entries above it, row by row. The dot product of two vectors is
    the Frobenius inner product of the matrices, which are floating point. Entries below the diagonal are not read.
    """
    side = check_shape("matrix", matrix, "... m m")["m"]
    check_floating("matrix", matrix)
    places = _triangle(side, matrix.device)
    scale = matrix.new_full(places.shape, 2**0.5)
    scale[:side] = 1
    return matrix.flatten(-2).index_select(-1, places).mul_(scale)


def _signed_power(entries: Tensor, power: float) -> Tensor:
    if power == 1:
        return entries
    # The slope at zero is infinite. Clamping the magnitude to the smallest positive number makes it zero.
    return entries.sign().mul_(entries.abs().clamp_min_(torch.finfo(entries.dtype).tiny).pow_(power))


def _triangle(side: int, device: torch.device) -> Tensor:
    """Return the places in a flat matrix of the diagonal, then of the entries above it, row by row."""
    rows, columns = torch.triu_indices(side, side, offset=1, device=device)
    return torch.cat([torch.arange(side, device=device) * (side + 1), rows * side + columns])


def _logarithm(matrices: Tensor) -> Tensor:
    """Return the logarithms of positive semi-definite matrices plus a ridge, which is added to them in place.

    That of a zero matrix is zero.
    """
    mean = _mean_eigenvalue(matrices)
    is_zero = mean < _SMALLEST
    ridge = torch.where(is_zero, 1, _RIDGE * mean)
    return torch.where(is_zero[..., None], 0, matrix_log(_add_to_diagonal(matrices, ridge)))


def _logarithm_by_frames(factors: kinds.Factors, shrinkage: float) -> Tensor:
    """Return what `_logarithm` returns for ``Z Z^T`` after shrinkage. The time grows with the cube of the frames."""
    rows, is_alone = factors
    mean = (rows.square().sum((1, 2)) + is_alone.sum(1))[:, None] / rows.shape[1]
    is_zero = mean < _SMALLEST
    ground = torch.where(is_zero, 1, (shrinkage + _RIDGE) * mean)  # the eigenvalue where Z Z^T has 0
    scale = torch.where(is_zero, 0, (1 - shrinkage) ** 0.5 / ground.sqrt())
    logarithm = log_of_identity_plus_products(rows * scale[..., None])
    return _add_to_diagonal(logarithm, torch.where(is_alone, ground + (1 - shrinkage), ground).log())


def _mean_eigenvalue(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True)


def _add_to_diagonal(matrices: Tensor, value: Tensor) -> Tensor:
    matrices.diagonal(dim1=-2, dim2=-1).add_(value)
    return matrices
