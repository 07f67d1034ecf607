"""
Registration by second-order optimization
=========================================

.. currentmodule:: supervised_st

Two pictures of one place: which transform takes one to the other? The sampler can be
differentiated twice, so Newton's method applies. It arrives within a dozen steps, where
gradient descent needs hundreds.
"""

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_image
from torch.autograd.functional import hessian, jacobian

from supervised_st import affine_sample, plot

photo = torch.tensor(load_sample_image("china.jpg")).double().mean(-1)[None, None] / 255
small = affine_sample(photo, torch.eye(2, 3)[None], (107, 160), antialias=True)
moving = F.avg_pool2d(
    small, 9, stride=1
)  # blurred, so that the picture leads the way from farther off
true = torch.tensor([[0.55, 0.06, -0.22], [-0.08, 0.52, 0.1]], dtype=torch.float64)
fixed = affine_sample(moving, true[None], (48, 72))


def difference(theta):
    """Return the mean squared difference between what theta shows and the fixed picture."""
    return (affine_sample(moving, theta.reshape(1, 2, 3), (48, 72)) - fixed).square().mean()


def newton(theta, steps, damping=1e-3):
    """Take steps of Newton's method, more damped after a bad one. Return all thetas."""
    thetas = [theta]
    for _ in range(steps):
        slope, curvature = jacobian(difference, theta), hessian(difference, theta)
        values, vectors = torch.linalg.eigh(curvature)
        step = vectors @ (
            (vectors.T @ slope) / (values.abs() + damping)
        )  # downhill, also where it is not convex
        helps = difference(theta - step) < difference(theta)
        theta, damping = (theta - step, damping / 10) if helps else (theta, damping * 10)
        thetas.append(theta)
    return torch.stack(thetas)


def descent(theta, steps):
    """Take steps of Adam. Return all thetas."""
    theta, thetas = theta.clone().requires_grad_(), [theta]
    optimizer = torch.optim.Adam([theta], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        difference(theta).backward()
        optimizer.step()
        thetas.append(theta.detach().clone())
    return torch.stack(thetas)


start = torch.tensor([0.6, 0, -0.15, 0, 0.6, 0.05], dtype=torch.float64)
by_newton, by_adam = newton(start, 20), descent(start, 150)
found = by_newton[-1]
errors = {
    name: (thetas - true.flatten()).abs().amax(1)
    for name, thetas in (("Newton", by_newton), ("Adam", by_adam))
}
for name, error in errors.items():
    print(f"{name}: off by {error[12]:.0e} after 12 steps, by {error[-1]:.0e} at the end")

figure, ((left, curve), below) = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
windows = {"start": start.reshape(2, 3), "found": found.reshape(2, 3)}
plot.windows(moving[0], windows, axes=left)
for panel, (name, theta) in zip(below, windows.items(), strict=True):
    seen = affine_sample(moving, theta[None], (48, 72))
    panel.imshow((seen - fixed)[0, 0].numpy(), cmap="RdBu", vmin=-0.5, vmax=0.5)
    panel.set_title(f"{name}: difference from the fixed picture")
    panel.axis("off")
for name, error in errors.items():
    curve.semilogy(error.clamp_min(1e-16).numpy(), label=name, linewidth=2)
curve.set(xlabel="steps", ylabel="error of theta")
curve.legend(frameon=False)
plt.show()
