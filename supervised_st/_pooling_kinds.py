"""The kinds of temporal correlation pooling: from a clip's trajectories to the matrix that compares them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from supervised_st._checks import check_finite, check_floating, check_integer, check_shape, check_whole, first_true
from supervised_st._precision import check_float64
from supervised_st._sampler.tensors import is_transformed

_LARGEST = 1e75  # of features; squares of products of far larger ones overflow
_CONSTANT = 1e-12  # relative to a trajectory's length: a constant minus its mean may be this far from 0 by rounding


class Clips(NamedTuple):
    """The trajectories of clips, or of blocks of their channels, in float64, with zeros for padding."""

    trajectories: Tensor  # (clip, channel, frame)
    ones: Tensor  # (clip, 1, frame), the trajectory of a constant 1
    lengths: Tensor  # (clip, 1, 1), numbers of frames


class Factors(NamedTuple):
    """The matrix ``Z Z^T``, with 1 on the diagonal where a trajectory is similar to itself alone."""

    rows: Tensor  # (clip, channel, frame), Z
    is_alone: Tensor  # (clip, channel); Z is 0 there


def make_clips(features: Tensor, lengths: Tensor | None, blocks: int) -> Clips:
    """Check the arguments of `TemporalCorrelationPooling.forward` and return one clip per sample and block."""
    sizes = check_shape("features", features, "batch frame channel")
    check_floating("features", features)
    check_float64("features", features)
    side = block_size(sizes["channel"], blocks)
    frames = torch.arange(sizes["frame"], device=features.device)
    inside = frames < _frame_counts(features, lengths)[:, None]
    known = features.double().masked_fill(~inside[..., None], 0)
    _check_range(known)
    trajectories = known.mT.reshape(-1, side, sizes["frame"])
    ones = inside.double().repeat_interleave(blocks, 0)[:, None]
    return Clips(trajectories, ones, ones.sum(-1, keepdim=True))


def _check_range(features: Tensor) -> None:
    """Raise ValueError unless features are finite, and so small that squares of products of trajectories are, too."""
    if torch.linalg.vector_norm(features) < _LARGEST:  # one fast pass
        return
    check_finite("features", features)
    is_large = (features.abs() >= _LARGEST).flatten(1).any(1)
    if is_large.any():
        sample = first_true(is_large)
        largest = float(features[sample].abs().max())
        raise ValueError(f"features must be below {_LARGEST:.0e} in magnitude, got {largest:g} in sample {sample}")


def block_size(channels: int, blocks: int) -> int:
    """Return the channels per block; raise ValueError unless they divide evenly."""
    check_whole("channels", channels)
    if channels < 1 or channels % blocks:
        raise ValueError(f"channels must be a positive multiple of blocks={blocks}, got {channels}")
    return channels // blocks


def distances(clips: Clips) -> Tensor:
    """Return eq. (3) of the paper for all pairs of trajectories: ``|s - t| / sqrt(n)``."""
    rows = clips.trajectories
    if is_transformed():  # torch.func.jacrev maps the backward of torch.cdist, and gets wrong numbers (torch 2.13)
        lengths: Tensor = torch.linalg.vector_norm(rows[:, :, None] - rows[:, None], dim=-1)
    else:
        # A matrix product would be faster, but off by about 1e-8 on the diagonal and between equal trajectories.
        lengths = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return lengths / clips.lengths.sqrt()


def compare(kind: str, clips: Clips, gamma: float | None) -> Tensor:
    """Return the matrix of each clip, ``(clip, channel, channel)``."""
    if kind in DISTANCE_KINDS:
        return DISTANCE_KINDS[kind](clips, gamma or 0.0)
    rows = PRODUCT_KINDS[kind](clips)
    matrices = rows @ rows.mT
    if kind in _UNIT_DIAGONAL:
        matrices = matrices.diagonal_scatter(torch.ones_like(matrices[..., 0]), dim1=-2, dim2=-1)
    return matrices


def factors(kind: str, clips: Clips) -> Factors:
    """Return the matrix of each clip, of one of `PRODUCT_KINDS`, without multiplying."""
    rows = PRODUCT_KINDS[kind](clips)
    is_alone = (rows == 0).all(-1) if kind in _UNIT_DIAGONAL else torch.zeros_like(rows[..., 0], dtype=torch.bool)
    return Factors(rows, is_alone)


def _frame_counts(features: Tensor, lengths: Tensor | None) -> Tensor:
    batch, frames = features.shape[:2]
    if frames < 1:
        raise ValueError(f"features must hold at least one frame, got shape {tuple(features.shape)}")
    if lengths is None:
        lengths = torch.full((batch,), frames, device="cpu")  # checked without waiting for a device
    check_shape("lengths", lengths, "batch", batch=batch)
    check_integer("lengths", lengths)
    lengths = lengths.long()  # torch does not compare unsigned ones
    wrong = (lengths < 1) | (lengths > frames)
    if wrong.any():
        sample = first_true(wrong)
        raise ValueError(f"lengths must lie in [1, {frames}], got {int(lengths[sample])} in sample {sample}")
    return lengths.to(features.device)


def _rbf(clips: Clips, gamma: float) -> Tensor:
    """Return ``exp(-gamma d^2)``; ``d^2`` is off by about 1e-16 of the squared lengths, too far only for its root."""
    rows = clips.trajectories - clips.trajectories.mean(1, keepdim=True)  # shorter, at the same distances
    rows = rows * (2 * gamma / clips.lengths).sqrt()
    products = rows @ rows.mT
    halves = products.diagonal(dim1=-2, dim2=-1) / 2
    check_finite("gamma times the squared features", halves)
    return products.sub_(halves[..., :, None]).sub_(halves[..., None, :]).clamp_max_(0).exp_()


def _centered(clips: Clips) -> Tensor:
    mean = clips.trajectories @ clips.ones.mT / clips.lengths
    return clips.trajectories - mean * clips.ones


def _directions(rows: Tensor, clips: Clips) -> Tensor:
    """Scale rows to length 1, or to 0 where they hold only rounding errors of the trajectory."""
    norm = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    is_direction = norm > _CONSTANT * torch.linalg.vector_norm(clips.trajectories, dim=-1, keepdim=True)
    return torch.where(is_direction, rows / torch.where(is_direction, norm, 1), 0)


DISTANCE_KINDS: dict[str, Callable[[Clips, float], Tensor]] = {
    "distance": lambda clips, _: distances(clips),
    "rbf": _rbf,
    "laplacian": lambda clips, gamma: (-gamma * distances(clips)).exp(),
}
"""Matrices computed from the distances between trajectories, and gamma."""

PRODUCT_KINDS: dict[str, Callable[[Clips], Tensor]] = {
    "mds": lambda clips: (clips.trajectories - clips.trajectories.mean(1, keepdim=True)) / clips.lengths.sqrt(),
    "inner": lambda clips: clips.trajectories / clips.lengths.sqrt(),
    "covariance": lambda clips: _centered(clips) / (clips.lengths - 1).clamp_min(1).sqrt(),
    "correlation": lambda clips: _directions(_centered(clips), clips),
    "cosine": lambda clips: _directions(clips.trajectories, clips),
}
"""The factors Z of matrices ``Z Z^T``. That of ``mds`` is ``-d^2 / 2`` with its rows and columns centered."""

NEED_GAMMA = ("rbf", "laplacian")
_UNIT_DIAGONAL = ("correlation", "cosine")
