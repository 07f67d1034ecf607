"""Checks values and gradients against float64: only what is right is timed."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import PHASES, Case, pixel_coordinates, thetas
from benchmarks.contestants import MEAN, STD, Contestant, grid_sampled
from benchmarks.tolerances import FLOAT32_SUM, rounding

SAME_PROBLEM = 0.01  # error, relative to the largest true value, above which a contestant solves another problem
SLACK = 2  # allowed ratio between two rounding errors, which depend on the order of operations
UNDECIDED = 1e-3  # pixels; derivatives this close to a kink are not compared
TRUTH_ELEMENTS = 2**27  # values of float64 images that are compared at a time


class Inputs:
    """The inputs of every contestant, on the device.

    Images are smooth, as frames are: in white noise, the last bit of a coordinate would change a pixel by its whole
    range. The gradient of the output is zero at coordinates that are too close to a whole pixel: there float32 rounding
    decides which of two derivatives is taken.
    """

    def __init__(self, case: Case, device: str) -> None:
        generator = torch.Generator(device).manual_seed(0)
        coarse = torch.randn(*case.image_shape[:2], *[-(-case.side // 8)] * 2, generator=generator, device=device)
        image = F.interpolate(coarse, case.image_shape[2:], mode="bicubic")
        if case.dtype == "uint8":
            image = (image * STD + MEAN).clamp(0, 255)
        layout = torch.channels_last if case.layout == "channels_last" else torch.contiguous_format
        self.case = case
        self.image = image.to(getattr(torch, case.dtype)).contiguous(memory_format=layout)
        theta = thetas(case).to(device)
        self.theta = theta if case.transforms > 1 else theta[:, 0]
        shape = (*self.theta.shape[:-2], case.channels, case.out, case.out)
        dtype = torch.float32 if case.dtype == "uint8" else self.image.dtype
        near = ((at := pixel_coordinates(case)) - at.round()).abs()
        undecided = ((near > 0) & (near < UNDECIDED)).any(-1).to(device)
        weights = torch.randn(shape, generator=generator, device=device)
        self.gradient = weights.masked_fill(undecided.view(*shape[:-3], 1, *shape[-2:]), 0).to(dtype)


def answers(contestant: Contestant, inputs: Inputs) -> dict[str, Tensor]:
    """Return a contestant's values, and its gradients in the phase of the case."""
    case, wanted = inputs.case, PHASES[inputs.case.phase]
    leaves = {
        "image": inputs.image.detach().requires_grad_("image" in wanted),
        "theta": inputs.theta.detach().requires_grad_("theta" in wanted),
    }
    parameter = contestant.parameter(leaves["theta"], case)

    def answer() -> dict[str, Tensor]:
        out = contestant.sample(leaves["image"], parameter, case.size, case.align_corners)
        return _answers(out, leaves, wanted, inputs.gradient)

    found: dict[str, Tensor] = contestant.around(answer)()
    return found


def _answers(out: Tensor, leaves: dict[str, Tensor], wanted: tuple[str, ...], gradient: Tensor) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(out, [leaves[name] for name in wanted], gradient) if wanted else ()
    return {"values": out.detach()} | dict(zip(wanted, gradients, strict=True))


def truth(inputs: Inputs, images: slice) -> dict[str, Tensor]:
    """Return the true values and gradients of some images, in float64.

    Coordinates are moved right by a billionth of a pixel: at whole pixels, where the derivative has a kink, the one on
    the right counts.
    """
    case = inputs.case
    image = inputs.image[images].double()
    if case.dtype == "uint8":
        image = (image - MEAN) / STD
    leaves = {"image": image.requires_grad_(), "theta": inputs.theta[images].double().requires_grad_()}
    moved = leaves["theta"] + torch.tensor([0, 0, 2e-9 / case.side], dtype=torch.float64, device=image.device)
    out = grid_sampled(image, moved, case.size, case.align_corners)
    return _answers(out, leaves, PHASES[case.phase], inputs.gradient[images].double())


def errors(found: dict[str, Tensor], inputs: Inputs) -> dict[str, float]:
    """Return the largest distances from the truth, relative to the largest true value or to one if that is larger."""
    step = max(1, TRUTH_ELEMENTS // inputs.image[0].numel())
    furthest, largest = dict.fromkeys(found, 0.0), dict.fromkeys(found, 1.0)
    for start in range(0, len(inputs.image), step):
        images = slice(start, start + step)
        for name, true in truth(inputs, images).items():
            distance = (found[name][images].double() - true).abs().max().item()
            if not distance <= furthest[name]:  # `max` would lose a NaN
                furthest[name] = distance
            largest[name] = max(largest[name], true.abs().max().item())
    return {name: furthest[name] / largest[name] for name in found}


def solves_another_problem(found: dict[str, float]) -> bool:
    """Return whether errors are too large for rounding."""
    # The gradient to theta has kinks at whole pixels, and float32 coordinates fall on either side.
    return not all(error <= SAME_PROBLEM for name, error in found.items() if name != "theta")


def complaint(own: dict[str, float], baselines: Sequence[dict[str, float]], case: Case, device: str) -> str:
    """Return what is wrong with the library's answers, or "".

    On a GPU their errors must be within the tests' tolerances. On a CPU the library calls the baseline's functions with
    float32 coordinates. There a tolerance grows by the error of the most accurate baseline, times `SLACK`.
    """
    dtype = torch.float32 if case.dtype == "uint8" else getattr(torch, case.dtype)
    image = FLOAT32_SUM if dtype == torch.float32 else rounding(dtype)
    allowed = {"values": rounding(dtype), "theta": FLOAT32_SUM, "image": image}
    for name, error in own.items():
        tolerance = allowed[name]
        if device == "cpu" and baselines:
            tolerance += SLACK * min(baseline[name] for baseline in baselines)
        if not error <= tolerance:
            return f"error of {name} is {error:.1e}, allowed is {tolerance:.1e}"
    return "another problem" if solves_another_problem(own) else ""
