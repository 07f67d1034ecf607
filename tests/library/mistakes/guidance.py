"""What goes wrong with guidance and schedules."""

import torch
from torch import nn

from supervised_st import HardSwitch, LinearAnneal, MotionWindowTarget, Plateau, RegressiveGuidance
from tests.library.mistakes.layer import IMAGE, THETA, look

FLOW = torch.zeros(2, 1, 2, 8, 10)


def objective(target=THETA, *, transformer=None, task=lambda glimpse: glimpse.image.mean(), joint=False):
    guidance = RegressiveGuidance(joint=joint)
    return guidance.objective(look() if transformer is None else transformer, IMAGE, target=target, task=task)


MISTAKES = {
    "a loss that does not exist": (
        lambda: RegressiveGuidance("l2"),
        ValueError,
        "loss must be one of 'l1', 'corner_l1', 'grid_mse', got 'l2'",
    ),
    "a loss that is a mean already": (
        lambda: RegressiveGuidance(nn.MSELoss()).forward(THETA, THETA),
        ValueError,
        "loss must return one number per region, (2,), got ()",
    ),
    "a schedule in place of the loss": (
        lambda: RegressiveGuidance(HardSwitch(10)),
        TypeError,
        "loss must be the name of a loss or a function, got HardSwitch(steps=10); pass schedule=HardSwitch(steps=10)",
    ),
    "a number of steps as schedule": (
        lambda: RegressiveGuidance(schedule=1000),
        TypeError,
        "schedule must be a Schedule such as HardSwitch(1000), got 1000",
    ),
    "a schedule without its steps": (
        lambda: RegressiveGuidance(schedule=HardSwitch),
        TypeError,
        "schedule must be a Schedule such as HardSwitch(1000), got <class 'supervised_st.schedules.HardSwitch'>",
    ),
    "a negative weight": (
        lambda: RegressiveGuidance(weight=-1.0),
        ValueError,
        "weight must be finite and not negative, got -1.0",
    ),
    "a transformer that stands still": (
        lambda: RegressiveGuidance(free_pace=0),
        ValueError,
        "free_pace must be positive and at most 1, got 0",
    ),
    "a pace in percent": (
        lambda: RegressiveGuidance(free_pace=10),
        ValueError,
        "free_pace must be positive and at most 1, got 10",
    ),
    "no target": (
        lambda: objective(None),
        ValueError,
        "target must be given while guidance is on (strength 1), got None",
    ),
    "a target of NumPy": (
        lambda: objective(THETA.numpy()),
        TypeError,
        "target must be a tensor theta, a MotionWindow or a function that returns either, got ndarray; pass torch.as_tensor(target)",
    ),
    "a target of lists": (
        lambda: objective(THETA.tolist()),
        TypeError,
        "target must be a tensor theta, a MotionWindow or a function that returns either, got list; pass torch.as_tensor(target)",
    ),
    "boxes as target": (
        lambda: objective(torch.tensor([[0.0, 0, 4, 4]] * 2)),
        ValueError,
        "target must be theta, (2, 2, 3), got windows (2, 4); pass targets.from_boxes(windows, image_size)",
    ),
    "one box for all images": (
        lambda: objective(torch.tensor([0.0, 0, 4, 4])),
        ValueError,
        "target must be theta, (2, 2, 3), got shape (4,); if these are windows, pass geometry.window_to_theta(target, image_size)",
    ),
    "one theta for all images": (
        lambda: objective(THETA[0]),
        ValueError,
        "target must be theta, (2, 2, 3), got shape (2, 3); pass target.expand(2, 2, 3)",
    ),
    "points as target": (
        lambda: objective(torch.tensor([[0.0, 0]] * 2)),
        ValueError,
        "target must be theta, (2, 2, 3), got shape (2, 2)",
    ),
    "a target of integers": (
        lambda: objective(THETA.long()),
        TypeError,
        "target must be float64, float32, float16 or bfloat16, got torch.int64; pass target.float()",
    ),
    "a target on another device": (
        lambda: objective(THETA.to("meta")),
        ValueError,
        "target must be on theta's device cpu, got meta; pass target.to(theta.device)",
    ),
    "a matrix in pixels as target": (
        lambda: objective(torch.tensor([[[1.0, 0, 300], [0, 1, 200]]] * 2)),
        ValueError,
        "target must be theta, in which the image reaches from -1 to 1, got a shift of 300; if it is a matrix in pixels, pass geometry.matrix_to_theta(matrix, image_size, size)",
    ),
    "the module that makes targets": (
        lambda: objective(MotionWindowTarget(4)),
        TypeError,
        "target must be a window, such as lambda: target(flow), got the module MotionWindowTarget",
    ),
    "a score map as target": (
        lambda: objective(torch.rand(2, 8, 10)),
        ValueError,
        "target must be theta, (2, 2, 3), got shape (2, 8, 10)",
    ),
    "one target for three regions": (
        lambda: objective(THETA, transformer=look(regions=3)),
        ValueError,
        "target must be theta, (2, 3, 2, 3), got shape (2, 2, 3)",
    ),
    "a function that returns boxes": (
        lambda: objective(lambda: torch.tensor([[0.0, 0, 4, 4]] * 2)),
        ValueError,
        "target must be theta, (2, 2, 3), got windows (2, 4); pass targets.from_boxes(windows, image_size)",
    ),
    "a function that returns nothing": (
        lambda: objective(lambda: None),
        TypeError,
        "target must be a tensor theta, a MotionWindow or a function that returns either, got NoneType",
    ),
    "the window of a MotionWindow": (
        lambda: objective(MotionWindowTarget(4)(FLOW).window),
        ValueError,
        "target must be theta, (2, 2, 3), got windows (2, 4); pass targets.from_boxes(windows, image_size)",
    ),
    "a target in a dict": (
        lambda: objective({"theta": THETA}),
        TypeError,
        "target must be a tensor theta, a MotionWindow or a function that returns either, got dict",
    ),
    "a loss instead of the task": (
        lambda: objective(task=torch.tensor(1.0)),
        TypeError,
        "task must be a function from a Glimpse to a loss, got Tensor",
    ),
    "no task": (
        lambda: objective(task=None),
        TypeError,
        "task must be a function from a Glimpse to a loss, got NoneType",
    ),
    "a task that returns a loss per sample": (
        lambda: objective(joint=True, task=lambda glimpse: glimpse.image.mean((1, 2, 3))),
        ValueError,
        "task must return a loss, a tensor of one number, got (2,); pass its mean()",
    ),
    "a task that returns nothing": (
        lambda: objective(joint=True, task=lambda glimpse: None),
        TypeError,
        "task must return a loss, a tensor of one number, got NoneType",
    ),
    "a glimpse instead of the transformer": (
        lambda: objective(transformer=look()(IMAGE)),
        TypeError,
        "transformer must be a SupervisedSpatialTransformer, or have the same call and localize, got Glimpse; pass the layer itself, not what it returns or what wraps it",
    ),
    "the whole model instead of the transformer": (
        lambda: objective(transformer=nn.Sequential(look())),
        TypeError,
        "transformer must be a SupervisedSpatialTransformer, or have the same call and localize, got Sequential; pass the layer itself, not what it returns or what wraps it",
    ),
    "a Glimpse instead of its theta": (
        lambda: RegressiveGuidance()(look()(IMAGE), THETA),
        TypeError,
        "theta must be a torch.Tensor, got Glimpse; pass one of its fields image, theta",
    ),
    "a MotionWindow instead of its theta": (
        lambda: RegressiveGuidance()(THETA, MotionWindowTarget(4)(FLOW)),
        TypeError,
        "target must be a torch.Tensor, got MotionWindow; pass one of its fields theta, window, score, confidence",
    ),
    "one confidence for all": (
        lambda: RegressiveGuidance()(THETA, THETA, 1.0),
        TypeError,
        "confidence must be a torch.Tensor, got float",
    ),
    "confidences with another axis": (
        lambda: RegressiveGuidance()(THETA, THETA, torch.ones(2, 1)),
        ValueError,
        "confidence must have shape (2,), got (2, 1)",
    ),
    "guidance for half of the training": (lambda: HardSwitch(0.5), TypeError, "steps must be a whole number, got 0.5"),
    "steps as text": (lambda: HardSwitch("100"), TypeError, "steps must be a whole number, got '100'"),
    "negative steps": (lambda: HardSwitch(-1), ValueError, "steps must not be negative, got -1"),
    "an end before its beginning": (
        lambda: LinearAnneal(100, 50),
        ValueError,
        "hold and until must satisfy 0 <= hold < until, got 100 and 50",
    ),
    "no patience": (lambda: Plateau(0), ValueError, "patience must be positive, got 0"),
    "the smallest change as patience": (lambda: Plateau(0.1), TypeError, "patience must be a whole number, got 0.1"),
    "a fall in percent": (lambda: Plateau(10, min_fall=20), ValueError, "min_fall must lie in [0, 1), got 20"),
}
