"""What goes wrong with windows, matrices and points."""

import numpy as np
import torch

from supervised_st import geometry

IMAGE, THETA = torch.zeros(2, 3, 8, 10), torch.eye(2, 3).repeat(2, 1, 1)


MISTAKES = {
    "a box as a list": (
        lambda: geometry.window_to_theta([0, 0, 4, 4], (8, 10)),
        TypeError,
        "window must be a torch.Tensor, got list; pass torch.as_tensor(window)",
    ),
    "corners in the wrong order": (
        lambda: geometry.window_to_theta(torch.tensor([[5, 5, 3, 3]]), (8, 10), format="xyxy"),
        ValueError,
        "window must have x1 > x0 and y1 > y0, since format is 'xyxy'; got [5, 5, 3, 3] in window 0",
    ),
    "an empty box": (
        lambda: geometry.window_to_theta(torch.tensor([[1, 1, 0, 4]]), (8, 10)),
        ValueError,
        "window must have positive width and height, since format is 'xywh'; got [1, 1, 0, 4] in window 0",
    ),
    "boxes by their centers": (
        lambda: geometry.window_to_theta(torch.tensor([[4, 4, 2, 2]]), (8, 10), format="cxcywh"),
        ValueError,
        "format must be one of 'xywh', 'xyxy', got 'cxcywh'",
    ),
    "the image instead of its size": (
        lambda: geometry.window_to_theta(torch.tensor([[1, 1, 4, 4]]), IMAGE),
        TypeError,
        "image_size must be two integers (height, width), or one for a square, got a tensor of shape (2, 3, 8, 10); pass its shape[-2:]",
    ),
    "the shape instead of the size": (
        lambda: geometry.window_to_theta(torch.tensor([[1, 1, 4, 4]]), IMAGE.shape),
        TypeError,
        "image_size must be two integers (height, width), or one for a square, got (2, 3, 8, 10); pass shape[-2:]",
    ),
    "boxes with an index": (
        lambda: geometry.window_to_theta(torch.tensor([[0, 1, 1, 4, 4]]), (8, 10)),
        ValueError,
        "window must have shape (..., 4), got (1, 5)",
    ),
    "the overlap of boxes": (
        lambda: geometry.window_iou(torch.tensor([[1.0, 1, 4, 4]]), torch.tensor([[1.0, 1, 4, 4]])),
        ValueError,
        "theta must have shape (..., 2, 3), got (1, 4); if these are windows, pass geometry.window_to_theta(theta, image_size)",
    ),
    "a matrix with a third row, inverted": (
        lambda: geometry.invert(torch.eye(3)),
        ValueError,
        "theta must have shape (..., 2, 3), got (3, 3); pass theta[..., :2, :]",
    ),
    "a size as transform": (
        lambda: geometry.compose(THETA, (4, 4)),
        TypeError,
        "inner must be a torch.Tensor, got tuple",
    ),
    "a matrix of OpenCV": (
        lambda: geometry.matrix_to_theta(np.eye(2, 3), (8, 10), 4),
        TypeError,
        "matrix must be a torch.Tensor, got ndarray; pass torch.as_tensor(matrix)",
    ),
    "a matrix with a third row": (
        lambda: geometry.matrix_to_theta(torch.eye(3), (8, 10), 4),
        ValueError,
        "matrix must have shape (..., 2, 3), got (3, 3); pass matrix[..., :2, :]",
    ),
    "a direction that does not exist": (
        lambda: geometry.matrix_to_theta(torch.eye(2, 3), (8, 10), 4, direction="inverse"),
        ValueError,
        "direction must be one of 'image_to_glimpse', 'glimpse_to_image', got 'inverse'",
    ),
    "points of integers": (
        lambda: geometry.points_in_image(torch.tensor([[1, 2]]), THETA[0], (8, 10), 4),
        TypeError,
        "points must be float64, float32, float16 or bfloat16, got torch.int64; pass points.float()",
    ),
    "a single point": (
        lambda: geometry.points_in_image(torch.tensor([1.0, 2]), THETA[0], (8, 10), 4),
        ValueError,
        "points must have shape (..., point, 2), got (2,); pass points[None]",
    ),
    "points in space": (
        lambda: geometry.points_in_image(torch.ones(2, 5, 3), THETA, (8, 10), 4),
        ValueError,
        "points must have shape (..., point, 2), got (2, 5, 3)",
    ),
    "flow of OpenCV, with channels last": (
        lambda: geometry.flow_in_glimpse(torch.ones(2, 8, 10, 2), THETA, (8, 10), 4),
        ValueError,
        "flow must have shape (..., 2, height, width), got (2, 8, 10, 2); if channels are last, pass flow.movedim(-1, -3)",
    ),
    "a window of integers": (
        lambda: geometry.window_in_image(torch.ones(2, 4).long(), THETA, (8, 10), 4),
        TypeError,
        "window must be float64, float32, float16 or bfloat16, got torch.int64; pass window.float()",
    ),
    "three parameters for four": (
        lambda: geometry.theta_from_parameters(torch.zeros(2, 3), "crop4"),
        ValueError,
        "parameters must have shape (..., 4), got (2, 3)",
    ),
    "a kind that does not exist": (
        lambda: geometry.theta_from_parameters(torch.zeros(2, 3), "scale"),
        ValueError,
        "kind must be one of 'affine', 'similarity', 'crop4', 'crop3', 'translation', got 'scale'",
    ),
    "components in a tuple": (
        lambda: geometry.theta_from_components((0.0, 1.0, 0.0, (0, 0)), (8, 10), 4),
        TypeError,
        "components must be Components, got tuple; pass Components(angle, scale, shear, center)",
    ),
}
