"""What goes wrong with motion windows and pooling."""

import torch

from supervised_st import MotionWindowTarget, TemporalCorrelationPooling, motion

FLOW, FEATURES = torch.zeros(2, 1, 2, 8, 10), torch.rand(2, 5, 6)


MISTAKES = {
    "one flow field per sample": (
        lambda: MotionWindowTarget(4)(FLOW[:, 0]),
        ValueError,
        "flow must have shape (batch, field, 2, height, width), got (2, 2, 8, 10); if each sample has one field, pass flow[:, None]",
    ),
    "flow with u and v last": (
        lambda: MotionWindowTarget(4)(FLOW.movedim(2, -1)),
        ValueError,
        "flow must have shape (batch, field, 2, height, width), got (2, 1, 8, 10, 2); if channels are last, pass flow.movedim(-1, -3)",
    ),
    "uint8 flow without its bound": (
        lambda: MotionWindowTarget(4)(FLOW.byte()),
        ValueError,
        "bound must be the displacement in pixels at which uint8 flow saturates, got None",
    ),
    "a bound for flow in pixels": (
        lambda: MotionWindowTarget(4, bound=20.0)(FLOW),
        ValueError,
        "bound must be None for floating-point flow, which is in pixels, got 20.0",
    ),
    "a window larger than the frame": (
        lambda: MotionWindowTarget(16)(FLOW),
        ValueError,
        "size must be at most the map's (height, width) (8, 10), got (16, 16)",
    ),
    "flow with NaN": (
        lambda: MotionWindowTarget(4)(FLOW / 0),
        ValueError,
        "flow must be finite, got inf or nan in sample 0",
    ),
    "a crop that leaves the frame": (
        lambda: MotionWindowTarget(4)(FLOW, crop=(8, 0, 8, 8)),
        ValueError,
        "crop must lie in the frame of (height, width) (8, 10), got (x0, y0) (8, 0) and (height, width) (8, 8) in sample 0",
    ),
    "a crop as (y, x, height, width)": (
        lambda: MotionWindowTarget(4)(FLOW, crop=(0, 0, 8, 10)),
        ValueError,
        "crop must lie in the frame of (height, width) (8, 10), got (x0, y0) (0, 0) and (height, width) (10, 8) in sample 0",
    ),
    "no fallback": (
        lambda: MotionWindowTarget(4, fallback=None),
        ValueError,
        "fallback must be one of 'center', 'invalid', got None",
    ),
    "a map with channels": (
        lambda: motion.window_scores(torch.rand(2, 1, 8, 10), 4),
        ValueError,
        "motion must have shape (batch, height, width), got (2, 1, 8, 10)",
    ),
    "a map without a batch": (
        lambda: motion.window_scores(torch.rand(8, 10), 4),
        ValueError,
        "motion must have shape (batch, height, width), got (8, 10); pass motion[None]",
    ),
    "a map of uint8": (
        lambda: motion.window_scores(FLOW[:, 0, 0].byte(), 4),
        TypeError,
        "motion must be float64, float32, float16 or bfloat16, got torch.uint8; pass motion.float()",
    ),
    "a kind that does not exist": (
        lambda: TemporalCorrelationPooling("cov"),
        ValueError,
        "kind must be one of 'distance', 'rbf', 'laplacian', 'mds', 'inner', 'covariance', 'correlation', 'cosine', got 'cov'",
    ),
    "rbf without gamma": (
        lambda: TemporalCorrelationPooling("rbf"),
        ValueError,
        "gamma must be a positive number for kind='rbf' (see median_gamma), got None",
    ),
    "a map that does not exist": (
        lambda: TemporalCorrelationPooling("covariance", map="sqrt"),
        ValueError,
        "map must be one of 'none', 'log', got 'sqrt'",
    ),
    "shrinkage in percent": (
        lambda: TemporalCorrelationPooling("covariance", shrinkage=2.0),
        ValueError,
        "shrinkage must lie in [0, 1], got 2.0",
    ),
    "features without a batch": (
        lambda: TemporalCorrelationPooling("covariance")(FEATURES[0]),
        ValueError,
        "features must have shape (batch, frame, channel), got (5, 6); pass features[None]",
    ),
    "features of integers": (
        lambda: TemporalCorrelationPooling("covariance")(FEATURES.long()),
        TypeError,
        "features must be float64, float32, float16 or bfloat16, got torch.int64; pass features.float()",
    ),
    "features with NaN": (
        lambda: TemporalCorrelationPooling("covariance")(FEATURES / 0 * 0),
        ValueError,
        "features must be finite, got inf or nan in sample 0",
    ),
    "lengths in a list": (
        lambda: TemporalCorrelationPooling("covariance")(FEATURES, [5, 5]),
        TypeError,
        "lengths must be a torch.Tensor, got list; pass torch.as_tensor(lengths)",
    ),
    "lengths beyond the features": (
        lambda: TemporalCorrelationPooling("covariance")(FEATURES, torch.tensor([5, 6])),
        ValueError,
        "lengths must lie in [1, 5], got 6 in sample 1",
    ),
    "blocks that do not divide the channels": (
        lambda: TemporalCorrelationPooling("covariance", blocks=4)(FEATURES),
        ValueError,
        "channels must be a positive multiple of blocks=4, got 6",
    ),
    "feature maps instead of features": (
        lambda: TemporalCorrelationPooling("covariance")(torch.rand(2, 5, 6, 7, 7)),
        ValueError,
        "features must have shape (batch, frame, channel), got (2, 5, 6, 7, 7)",
    ),
}
