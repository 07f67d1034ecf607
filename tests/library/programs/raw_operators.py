"""Call the raw operators with arguments that do not fit. Each call must raise an error about it."""

import os

import torch

os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when kernels are defined.
import supervised_st._sampler.fused  # noqa: F401 - registers the operators

forward = torch.ops.supervised_st.affine_sample
image_gradient = torch.ops.supervised_st.affine_sample_image_gradient
theta_gradient = torch.ops.supervised_st.affine_sample_theta_gradient
image, theta, grad = torch.ones(2, 3, 4, 4), torch.eye(2, 3).repeat(2, 1, 1), torch.ones(2, 3, 3, 3)
NONE, PLAIN = (None, None, None), ("bilinear", "zeros", False)

CASES = {
    "an unknown mode": lambda: forward(image, theta, *NONE, 3, 3, "cubic", "zeros", False),
    "an unknown padding": lambda: forward(image, theta, *NONE, 3, 3, "bilinear", "wrap", False),
    "three transforms of two images": lambda: forward(image, torch.eye(2, 3).repeat(3, 1, 1), *NONE, 3, 3, *PLAIN),
    "five transforms of two images": lambda: forward(image, torch.eye(2, 3).repeat(5, 1, 1), *NONE, 3, 3, *PLAIN),
    "one transform of two images": lambda: forward(image, theta[:1], *NONE, 3, 3, *PLAIN),
    "a theta of 2 x 2": lambda: forward(image, theta[..., :2], *NONE, 3, 3, *PLAIN),
    "fewer fills than channels": lambda: forward(
        image, theta + 9, torch.ones(1), None, None, 3, 3, "bilinear", "fill", False
    ),
    "an expanded fill": lambda: forward(
        image, theta, torch.ones(1).expand(3), None, None, 3, 3, "bilinear", "fill", False
    ),
    "no fill": lambda: forward(image, theta, *NONE, 3, 3, "bilinear", "fill", False),
    "a fill for zeros": lambda: forward(image, theta, torch.ones(3), None, None, 3, 3, *PLAIN),
    "a fill of another dtype": lambda: forward(
        image, theta, torch.ones(3).half(), None, None, 3, 3, "bilinear", "fill", False
    ),
    "an output of no rows": lambda: forward(image, theta, *NONE, 0, 3, *PLAIN),
    "an output of negative width": lambda: forward(image, theta, *NONE, 3, -3, *PLAIN),
    "an image of no columns": lambda: forward(image[..., :0], theta, *NONE, 3, 3, *PLAIN),
    "an image on another device": lambda: forward(image.to("meta"), theta, *NONE, 3, 3, *PLAIN),
    "theta in half precision": lambda: forward(image, theta.half(), *NONE, 3, 3, *PLAIN),
    "a mean without a std": lambda: forward(image.byte(), theta, None, torch.ones(3), None, 3, 3, *PLAIN),
    "no images, two transforms": lambda: forward(image[:0], theta, *NONE, 3, 3, *PLAIN),
    "an image of integers": lambda: forward(image.long(), theta, *NONE, 3, 3, *PLAIN),
    "a theta of integers": lambda: forward(image, theta.long(), *NONE, 3, 3, *PLAIN),
    "image gradient, unknown mode": lambda: image_gradient(grad, theta, 4, 4, False, "cubic", "zeros", False),
    "image gradient, one transform of two": lambda: image_gradient(grad, theta[:1], 4, 4, False, *PLAIN),
    "image gradient, five transforms, one gradient": lambda: image_gradient(
        grad, theta[:, None].repeat(1, 5, 1, 1), 4, 4, False, *PLAIN
    ),
    "theta gradient, one image of two": lambda: theta_gradient(grad, image[:1], theta, *NONE, *PLAIN),
    "theta gradient, one gradient of two": lambda: theta_gradient(grad[:1], image, theta, *NONE, *PLAIN),
    "image gradient of no rows": lambda: image_gradient(grad, theta, 0, 4, False, *PLAIN),
    "image gradient, integers": lambda: image_gradient(grad.long(), theta, 4, 4, False, *PLAIN),
    "theta gradient, a number": lambda: theta_gradient(grad.sum(), image, theta, *NONE, *PLAIN),
    "theta gradient, other channels": lambda: theta_gradient(grad[:, :2], image, theta, *NONE, *PLAIN),
    "theta gradient, another dtype": lambda: theta_gradient(grad.double(), image, theta, *NONE, *PLAIN),
    "theta gradient, other transforms": lambda: theta_gradient(
        grad[:, None], image, theta[:, None].repeat(1, 2, 1, 1), *NONE, *PLAIN
    ),
    "theta gradient, one transform of two": lambda: theta_gradient(grad, image, theta[:1], *NONE, *PLAIN),
}
accepted = []
for name, call in CASES.items():
    print(name, flush=True)
    try:
        call()
    except (TypeError, ValueError, RuntimeError):
        pass
    except Exception as error:
        accepted.append(f"{name} ({type(error).__name__})")
    else:
        accepted.append(name)
if accepted:
    raise SystemExit(f"no error that says what is wrong: {accepted}")
