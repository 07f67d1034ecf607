"""Temporal correlation pooling: each kind against its definition and against the signature of its eigenvalues."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supervised_st._matrix_log import log_of_identity_plus_products, matrix_log
from supervised_st.pooling import TemporalCorrelationPooling, median_gamma, vectorize

KINDS = ("distance", "rbf", "laplacian", "mds", "inner", "covariance", "correlation", "cosine")
MAPS = [(kind, map) for kind, map in product(KINDS, ("none", "log")) if kind != "distance" or map == "none"]
LENGTHS = torch.tensor([7, 1, 4, 3])


def pooling(kind, **options):
    return TemporalCorrelationPooling(kind, **{"gamma": 0.7, **options})


def random_clips(batch=4, frames=7, channels=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, channels, dtype=torch.float64, generator=generator)


def definition(kind, clip, gamma=0.7):
    """The matrix of one clip (frames, channels), entry by entry, in numpy."""
    trajectories = clip.numpy().T
    n, m = trajectories.shape[1], len(trajectories)
    squared = np.array([[((s - t) ** 2).sum() / n for t in trajectories] for s in trajectories])
    centering = np.eye(m) - 1 / m
    return {
        "distance": lambda: np.sqrt(squared),
        "rbf": lambda: np.exp(-gamma * squared),
        "laplacian": lambda: np.exp(-gamma * np.sqrt(squared)),
        "mds": lambda: -centering @ squared @ centering / 2,
        "inner": lambda: trajectories @ trajectories.T / n,
        "covariance": lambda: np.cov(trajectories),
        "correlation": lambda: np.corrcoef(trajectories),
        "cosine": lambda: np.array(
            [[s @ t / math.sqrt((s @ s) * (t @ t)) for t in trajectories] for s in trajectories]
        ),
    }[kind]()


class TestMatrices:
    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=10)
    @given(seed=st.integers(0, 2**16), frames=st.integers(2, 9), channels=st.integers(2, 6))
    def test_are_what_the_kind_says(self, kind, seed, frames, channels):
        clips = random_clips(2, frames, channels, seed)
        matrices = pooling(kind, shrinkage=0.0).matrices(clips)[:, 0]
        expected = torch.from_numpy(np.stack([definition(kind, clip) for clip in clips]))
        torch.testing.assert_close(matrices, expected, rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize("frames", [3, 30], ids=["n < m", "n > m"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_have_the_eigenvalues_of_their_kind(self, kind, frames):
        m = 8
        values = torch.linalg.eigvalsh(pooling(kind, shrinkage=0.0).matrices(random_clips(3, frames, m)))
        tiny = 1e-12 * values.abs().amax(-1, keepdim=True)
        positive, negative = ((values > tiny).sum(-1), (values < -tiny).sum(-1))
        rank = {
            "distance": 1,
            "mds": min(frames, m - 1),
            "inner": min(frames, m),
            "covariance": min(frames - 1, m),
            "correlation": min(frames - 1, m),
            "cosine": min(frames, m),
        }.get(kind, m)
        assert (positive == rank).all()
        assert (negative == (m - 1 if kind == "distance" else 0)).all()

    def test_of_rbf_are_right_far_from_zero(self):
        """Distances come from a product of matrices, whose error grows with the length of what is multiplied."""
        clips = random_clips(1, 7, 5) + 1e4
        expected = torch.from_numpy(definition("rbf", clips[0]))
        torch.testing.assert_close(pooling("rbf", shrinkage=0.0).matrices(clips)[0, 0], expected, rtol=1e-10, atol=0)

    def test_distances_have_no_trace(self):
        assert pooling("distance").matrices(random_clips()).diagonal(dim1=-2, dim2=-1).count_nonzero() == 0

    @pytest.mark.parametrize("kind", KINDS)
    def test_of_blocks_are_those_of_the_channels_in_them(self, kind):
        clips = random_clips(channels=6)
        together = pooling(kind, blocks=3).matrices(clips, LENGTHS)
        for block in range(3):
            alone = pooling(kind).matrices(clips[..., 2 * block : 2 * block + 2], LENGTHS)
            torch.testing.assert_close(together[:, block], alone[:, 0], rtol=1e-14, atol=1e-15)

    def test_one_frame_has_no_covariance(self):
        clip = random_clips(1, 1)
        assert pooling("covariance").matrices(clip).count_nonzero() == 0
        assert torch.equal(pooling("correlation").matrices(clip)[0, 0], torch.eye(5, dtype=torch.float64))

    def test_a_constant_trajectory_is_correlated_with_nothing(self):
        """0.1 has no exact mean in floating point, so what is left of it is rounding, not motion."""
        clips = random_clips(1, 7, 3)
        clips[..., 0] = 0.1
        clips[..., 1] = 1e-9 * clips[..., 1]
        correlation = pooling("correlation", shrinkage=0.0).matrices(clips)[0, 0]
        assert correlation[0].tolist() == [1, 0, 0]
        assert correlation[1, 2].abs() > 1e-3

    def test_a_zero_trajectory_has_no_cosine(self):
        clips = random_clips(1, 7, 3)
        clips[..., 0] = 0
        assert pooling("cosine", shrinkage=0.0).matrices(clips)[0, 0, 0].tolist() == [1, 0, 0]


class TestShrinkage:
    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "distance"])
    def test_makes_positive_definite_and_keeps_the_trace(self, kind):
        clips = random_clips(3, 3, 8)
        bare, shrunk = (pooling(kind, shrinkage=rho).matrices(clips)[:, 0] for rho in (0.0, 0.25))
        mean = bare.diagonal(dim1=-2, dim2=-1).mean(-1)
        assert (torch.linalg.eigvalsh(shrunk)[:, 0] >= 0.25 * mean * (1 - 1e-12)).all()
        torch.testing.assert_close(shrunk.diagonal(dim1=-2, dim2=-1).mean(-1), mean)

    def test_leaves_distances_alone(self):
        clips = random_clips()
        assert torch.equal(*(pooling("distance", shrinkage=rho).matrices(clips) for rho in (0.0, 0.5)))


class TestVectorize:
    def test_keeps_frobenius_products(self):
        a, b = (x + x.mT for x in torch.randn(2, 3, 6, 6, dtype=torch.float64))
        torch.testing.assert_close((vectorize(a) * vectorize(b)).sum(-1), (a * b).sum((-2, -1)))

    def test_order(self):
        matrix = torch.tensor([[1.0, 4, 5], [4, 2, 6], [5, 6, 3]])
        expected = torch.tensor([1, 2, 3, 4 * 2**0.5, 5 * 2**0.5, 6 * 2**0.5])
        torch.testing.assert_close(vectorize(matrix), expected)


class TestDescriptors:
    @pytest.mark.parametrize(("kind", "map"), MAPS)
    def test_are_unit_vectors_of_the_documented_size(self, kind, map):
        layer = pooling(kind, map=map, blocks=2)
        descriptors = layer(random_clips(channels=6), LENGTHS.clamp_min(2))
        assert descriptors.shape == (4, layer.descriptor_size(6))
        torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(4, dtype=torch.float64))

    def test_have_the_paper_s_sizes(self):
        assert pooling("rbf").descriptor_size(256) == 32896
        assert pooling("distance").descriptor_size(256) == 32640
        assert pooling("rbf", blocks=16).descriptor_size(4096) == 16 * 32896

    @pytest.mark.parametrize("frames", [3, 9], ids=["n < m", "n > m"])
    @pytest.mark.parametrize("kind", ["rbf", "mds", "inner", "covariance", "correlation", "cosine"])
    def test_hold_the_logarithm(self, kind, frames):
        """By its definition, exp(log S) = S, up to the ridge on the diagonal. One of the trajectories is zero."""
        clips = random_clips(2, frames, 4)
        clips[0, :, 1] = 0
        layer = pooling(kind, map="log", power=1.0, shrinkage=0.1)
        matrices = layer.matrices(clips)[:, 0]
        ridge = 1e-6 * matrices.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] * torch.eye(4)
        values, vectors = torch.linalg.eigh(matrices + ridge)
        mapped = vectors @ torch.diag_embed(values.log()) @ vectors.mT
        torch.testing.assert_close(torch.linalg.matrix_exp(mapped), matrices + ridge, rtol=1e-12, atol=1e-12)
        expected = torch.nn.functional.normalize(vectorize(mapped), dim=1)
        torch.testing.assert_close(layer(clips), expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("shrinkage", [0.0, 1e-3, 1.0])
    @pytest.mark.parametrize("kind", ["mds", "inner", "covariance", "correlation", "cosine"])
    def test_of_few_frames_are_those_of_the_same_frames_and_many_without_weight(self, kind, shrinkage):
        """Padding to as many frames as channels makes the layer take the logarithm of the whole matrix."""
        clips, lengths = random_clips(3, 5, 12), torch.tensor([5, 4, 2])
        padded = torch.nn.functional.pad(clips, (0, 0, 0, 9))
        layer = pooling(kind, shrinkage=shrinkage, power=1.0)
        torch.testing.assert_close(layer(clips, lengths), layer(padded, lengths), rtol=1e-8, atol=1e-9)

    def test_signed_power(self):
        clips = random_clips()
        plain, rooted = (pooling("covariance", map="none", power=power)(clips) for power in (1.0, 0.5))
        expected = torch.nn.functional.normalize(plain.sign() * plain.abs().sqrt(), dim=1)
        torch.testing.assert_close(rooted, expected)

    @pytest.mark.parametrize("padding", [0.0, 1e30, math.nan, math.inf])
    @pytest.mark.parametrize(("kind", "map"), MAPS)
    def test_depend_neither_on_padding_nor_on_batch_mates(self, kind, map, padding):
        clips = random_clips()
        for clip, length in zip(clips, LENGTHS, strict=True):
            clip[length:] = padding
        layer = pooling(kind, map=map)
        together = layer(clips, LENGTHS)
        alone = torch.cat([layer(clip[None, :length]) for clip, length in zip(clips, LENGTHS, strict=True)])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_do_not_depend_on_the_order_of_the_frames(self, kind):
        clips = random_clips()
        layer = pooling(kind)
        torch.testing.assert_close(layer(clips[:, torch.randperm(7)]), layer(clips), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_do_not_depend_on_the_speed(self, kind):
        """Every frame twice; only the covariance, which divides by n - 1, notices, and only by a factor."""
        clips = random_clips()
        layer = pooling(kind, map="none")
        torch.testing.assert_close(layer(clips.repeat_interleave(2, 1)), layer(clips), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_are_float64_inside(self, dtype):
        clips = random_clips().to(dtype)
        layer = pooling("covariance")
        assert torch.equal(layer(clips, LENGTHS), layer(clips.double(), LENGTHS).to(dtype))

    @pytest.mark.parametrize(("kind", "map"), MAPS)
    def test_of_a_motionless_black_clip_are_finite(self, kind, map):
        clips = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
        descriptors = pooling(kind, map=map)(clips)
        descriptors.sum().backward()
        assert descriptors.isfinite().all()
        assert clips.grad.isfinite().all()
        if kind in ("distance", "mds", "inner", "covariance"):
            assert descriptors.count_nonzero() == 0

    @pytest.mark.parametrize(("kind", "map"), MAPS)
    @pytest.mark.parametrize("power", [0.5, 1.0])
    def test_have_length_1_or_0_however_tiny_the_features_are(self, kind, map, power):
        """A floor under the length, as F.normalize has one, would be far above the lengths of these."""
        layer, clips = pooling(kind, map=map, power=power), random_clips(1).double()
        for exponent in (20, 38, 70, 100, 150, 155, 160, 200, 307):
            tiny = (clips * 10.0**-exponent).requires_grad_()
            descriptor = layer(tiny)
            length = descriptor.norm().item()
            assert length == pytest.approx(1, rel=1e-9) or (length == 0 and exponent > 70), exponent
            descriptor.sum().backward()
            assert not tiny.grad.isnan().any(), exponent
        smallest = clips.float() * 2.0**-126
        torch.testing.assert_close(layer(smallest).norm(), torch.tensor(1.0))

    def test_of_no_clips_are_none(self):
        assert pooling("rbf")(torch.zeros(0, 3, 4)).shape == (0, 10)


class TestAccumulation:
    @pytest.mark.parametrize(("kind", "map"), MAPS)
    @settings(max_examples=8)
    @given(seed=st.integers(0, 2**16), cuts=st.lists(st.integers(1, 39), max_size=6, unique=True))
    def test_equals_the_batch_for_every_split(self, kind, map, seed, cuts):
        """40 frames of 6 channels far from zero, in pieces of any length; after most pieces, they are reduced."""
        clip = random_clips(1, 40, 6, seed) + 3
        layer = pooling(kind, map=map, blocks=2)
        running = layer.accumulate()
        for stretch in torch.tensor_split(clip[0], sorted(cuts)):
            running.add(stretch)
        torch.testing.assert_close(running.descriptor(), layer(clip)[0], rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("kind", ["distance", "correlation"])
    def test_holds_equal_and_constant_trajectories_apart_from_others(self, kind):
        """After reduction equal trajectories are 1e-15 of their length apart, of which power=0.5 makes 1e-7."""
        clip = random_clips(1, 90, 4) + 1
        clip[..., 1], clip[..., 2] = clip[..., 0], 0.1
        layer = pooling(kind, map="none", shrinkage=0.0)
        running = layer.accumulate()
        for stretch in clip[0].split(20):
            running.add(stretch)
        torch.testing.assert_close(running.descriptor(), layer(clip)[0], rtol=0, atol=1e-7)

    def test_gives_descriptors_before_all_frames_are_added(self):
        clip = random_clips(1, 30, 4)
        layer = pooling("rbf")
        running = layer.accumulate()
        for start in range(0, 30, 10):
            running.add(clip[0, start : start + 10])
            torch.testing.assert_close(running.descriptor(), layer(clip[:, : start + 10])[0], rtol=1e-9, atol=1e-9)

    def test_holds_no_more_than_two_frames_per_channel(self):
        running = pooling("rbf").accumulate()
        for frames in random_clips(50, 7, 4):
            running.add(frames)
            assert running._clip[1].numel() <= 5 * 2 * 5

    def test_keeps_no_graph(self):
        running = pooling("rbf").accumulate()
        running.add(random_clips(1)[0].requires_grad_())
        assert not running._clip[1].requires_grad
        assert not running.descriptor().requires_grad

    def test_refuses_what_it_cannot_do(self):
        running = pooling("inner").accumulate()
        with pytest.raises(ValueError, match="frames must be added before a descriptor"):
            running.descriptor()
        with pytest.raises(ValueError, match=r"features must have shape \(frame, channel\), got \(1, 3, 4\)"):
            running.add(torch.zeros(1, 3, 4))
        running.add(torch.zeros(3, 4))
        with pytest.raises(ValueError, match=r"features must have shape \(frame, 4\), got \(3, 5\)"):
            running.add(torch.zeros(3, 5))


class TestGradients:
    @pytest.mark.parametrize(("kind", "map"), MAPS)
    def test_are_right(self, kind, map):
        clips = random_clips(2, 5, 4).requires_grad_()
        layer = pooling(kind, map=map, blocks=2, shrinkage=0.05)
        assert torch.autograd.gradcheck(lambda clips: layer(clips, torch.tensor([5, 3])), clips)

    @pytest.mark.parametrize("kind", ["mds", "inner", "covariance", "correlation", "cosine"])
    def test_are_right_for_fewer_frames_than_channels(self, kind):
        clips = random_clips(2, 3, 5).requires_grad_()
        layer = pooling(kind, shrinkage=0.05)
        assert torch.autograd.gradcheck(lambda clips: layer(clips, torch.tensor([3, 2])), clips)

    @pytest.mark.parametrize("shrinkage", [0.0, 0.05])
    @pytest.mark.parametrize("is_wide", [False, True], ids=["n > m", "n < m"])
    def test_are_right_at_repeated_eigenvalues(self, is_wide, shrinkage):
        """Orthogonal trajectories or frames: the eigenvalues are equal, where eigh's own backward is NaN."""
        clips = 3 * torch.linalg.qr(random_clips(1, 6, 4))[0]
        layer = pooling("inner", map="log", shrinkage=shrinkage, power=1.0)
        assert torch.autograd.gradcheck(layer, (clips.mT if is_wide else clips).contiguous().requires_grad_())

    @pytest.mark.parametrize("scale", [0.0, 1e-6, 3e-3, 1e-2, 1.0, 100.0])
    def test_of_a_logarithm_are_right_for_small_and_large_eigenvalues(self, scale):
        """The eigenvalues are about 4 scale^2; divided differences of those below 1e-4 are a series."""
        rows = scale * random_clips(1, 5, 3)

        def by_definition(rows):
            return matrix_log(torch.eye(5) + rows @ rows.mT)

        torch.testing.assert_close(log_of_identity_plus_products(rows), by_definition(rows), rtol=1e-9, atol=1e-14)
        weights = random_clips(1, 5, 5, seed=1)
        found, wanted = (
            torch.autograd.functional.jacobian(lambda rows, log=log: (log(rows) * weights).sum(), rows)
            for log in (log_of_identity_plus_products, by_definition)
        )
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-14)

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "distance"])
    def test_are_finite_for_equal_trajectories_and_few_frames(self, kind):
        clips = random_clips(1, 2, 6)
        clips[..., 3:] = clips[..., :3]
        clips[..., 0] = 1
        clips.requires_grad_()
        pooling(kind, map="log", shrinkage=0.0)(clips).sum().backward()
        assert clips.grad.isfinite().all()

    def test_do_not_reach_padding(self):
        clips = random_clips()
        clips[1, 1:] = math.nan
        clips.requires_grad_()
        pooling("rbf")(clips, LENGTHS).sum().backward()
        assert clips.grad[1, 1:].count_nonzero() == 0
        assert clips.grad.isfinite().all()

    @pytest.mark.parametrize(("kind", "map"), MAPS)
    def test_come_from_function_transforms_too(self, kind, map):
        clips, layer = random_clips(2, 5, 4), pooling(kind, map=map)
        want = torch.autograd.functional.jacobian(layer, clips)
        torch.testing.assert_close(torch.func.jacrev(layer)(clips), want, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("transform", [torch.func.grad, torch.func.jacrev])
    def test_of_gradients_are_not_silently_wrong_in_function_transforms(self, transform):
        def total(clips):
            return (matrix_log(clips[0].mT @ clips[0]) * torch.arange(25.0).view(5, 5)).sum()

        with pytest.raises(RuntimeError, match="can be differentiated only once"):
            transform(lambda clips: torch.func.grad(total)(clips).sum())(random_clips(1))

    def test_of_gradients_are_refused(self):
        clips = random_clips(1).requires_grad_()
        (gradient,) = torch.autograd.grad(pooling("inner")(clips).sum(), clips, create_graph=True)
        with pytest.raises(RuntimeError, match="can be differentiated only once"):
            gradient.sum().backward()


class TestMedianGamma:
    def test_gives_the_median_pair_the_similarity_1_over_e(self):
        """Ten pairs of channels in three clips of their own lengths; torch's median is the lower of the middle two."""
        clips, lengths = random_clips(3), torch.tensor([7, 4, 2])
        for kind in ("rbf", "laplacian"):
            gamma = median_gamma(clips, lengths, kind=kind)
            matrices = pooling(kind, gamma=gamma, shrinkage=0.0).matrices(clips, lengths)[:, 0]
            similarities = matrices[:, *torch.triu_indices(5, 5, offset=1)].flatten().sort(descending=True).values
            assert similarities[(len(similarities) - 1) // 2].item() == pytest.approx(1 / math.e, rel=1e-12)

    @pytest.mark.parametrize("clips", [torch.ones(2, 3, 4), torch.ones(2, 3, 1), torch.ones(0, 3, 4)], ids=str)
    def test_refuses_clips_without_different_trajectories(self, clips):
        with pytest.raises(ValueError, match="features must hold pairs of different trajectories"):
            median_gamma(clips)

    def test_refuses_kinds_without_gamma(self):
        with pytest.raises(ValueError, match="kind must be one of 'rbf', 'laplacian', got 'inner'"):
            median_gamma(random_clips(), kind="inner")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kind": "tcp"}, "kind must be one of 'distance', 'rbf'"),
        (
            {"kind": "rbf", "gamma": None},
            r"gamma must be a positive number for kind='rbf' \(see median_gamma\), got None",
        ),
        ({"kind": "laplacian", "gamma": 0.0}, r"gamma must be a positive number .* got 0\.0"),
        ({"kind": "rbf", "gamma": math.nan}, "gamma must be a positive number .* got nan"),
        ({"kind": "rbf", "map": "exp"}, "map must be one of 'none', 'log', got 'exp'"),
        (
            {"kind": "distance", "map": "log"},
            "map must be 'none' for kind='distance', .* negative eigenvalues",
        ),
        ({"kind": "rbf", "shrinkage": 1.5}, r"shrinkage must lie in \[0, 1\], got 1\.5"),
        ({"kind": "inner", "blocks": 0}, "blocks must be at least 1, got 0"),
        ({"kind": "inner", "power": 0.0}, r"power must lie in \(0, 1\], got 0\.0"),
    ],
)
def test_refuses_options(options, match):
    with pytest.raises(ValueError, match=match):
        pooling(**options)


@pytest.mark.parametrize(
    ("features", "lengths", "error", "match"),
    [
        (torch.zeros(3, 4), None, ValueError, r"features must have shape \(batch, frame, channel\), got \(3, 4\)"),
        (torch.zeros(2, 3, 4).int(), None, TypeError, "features must be float64"),
        (torch.zeros(2, 0, 4), None, ValueError, "features must hold at least one frame"),
        (torch.zeros(2, 3, 5), None, ValueError, "channels must be a positive multiple of blocks=2, got 5"),
        (torch.zeros(2, 3, 4), [3], ValueError, r"lengths must have shape \(2,\), got \(1,\)"),
        (torch.zeros(2, 3, 4), [3.0, 3.0], TypeError, "lengths must have an integer dtype, got torch.float32"),
        (torch.zeros(2, 3, 4), [3, 0], ValueError, r"lengths must lie in \[1, 3\], got 0 in sample 1"),
        (torch.zeros(2, 3, 4), [4, 3], ValueError, r"lengths must lie in \[1, 3\], got 4 in sample 0"),
        (torch.zeros(2, 3, 4) / 0, [3, 3], ValueError, "features must be finite, got inf or nan in sample 0"),
        (
            torch.tensor([1.0, -1e75], dtype=torch.float64).view(2, 1, 1).expand(2, 3, 4),
            [3, 3],
            ValueError,
            r"features must be below 1e\+75 in magnitude, got 1e\+75 in sample 1",
        ),
    ],
)
def test_refuses_features(features, lengths, error, match):
    with pytest.raises(error, match=match):
        pooling("inner", blocks=2)(features, None if lengths is None else torch.tensor(lengths))


@pytest.mark.parametrize("power", [0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_features_have_descriptors(kind, power):
    """Squares of products of numbers far above 1e75 overflow, and those of numbers far below 1e-75 are zero."""
    features = torch.rand(1, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9.9e74
    found = pooling(kind, gamma=1e-75 if kind == "laplacian" else 1e-150, power=power, map="none")(features)
    want = pooling(kind, gamma=1.0, power=power, map="none")(features / 1e75)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def test_a_gamma_that_is_too_large_for_the_features_is_refused():
    features = torch.rand(2, 5, 3, dtype=torch.float64) + 1
    assert pooling("rbf", gamma=1e300)(features).isfinite().all()
    with pytest.raises(ValueError, match="gamma times the squared features must be finite, got inf or nan in sample 0"):
        pooling("rbf", gamma=1e300)(features * 1e9)


@pytest.mark.parametrize("kind", ["rbf", "laplacian"])
def test_features_so_close_that_gamma_would_be_infinite_are_equal(kind):
    features = torch.rand(2, 5, 3, dtype=torch.float64)
    assert 0 < median_gamma(features * 1e-140, kind=kind) < math.inf
    with pytest.raises(ValueError, match="features must hold pairs of different trajectories"):
        median_gamma(features * 1e-152, kind=kind)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.uint16, torch.int32, torch.uint64], ids=str)
def test_lengths_may_have_any_integer_dtype(dtype):
    features = torch.rand(2, 5, 3)
    found = pooling("inner")(features, torch.tensor([3, 5], dtype=dtype))
    assert torch.equal(found, pooling("inner")(features, torch.tensor([3, 5])))
