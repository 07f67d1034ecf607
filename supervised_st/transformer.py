"""The layer: decide on a small copy of the image where to look, and sample that region at full resolution."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supervised_st._checks import (
    check_channels_first,
    check_choice,
    check_dtype,
    check_number,
    check_shape,
    check_size,
    check_whole,
)
from supervised_st._named_tuples import serializable
from supervised_st._sampler.options import IMAGE_DTYPES
from supervised_st._sampler.tensors import normalize
from supervised_st._settings import shown_settings
from supervised_st.geometry import PARAMETERIZATIONS, parameters_from_theta, theta_from_parameters
from supervised_st.geometry.parameterizations import check_scale
from supervised_st.sampling import affine_sample, check_normalization, check_sampling
from supervised_st.types import Backend, HeadInit, Mode, PaddingMode, Parameterization, PerChannel, Scale, Size

_LARGEST_SCALE = 4.0  # of a window's sides, as fractions of the image's; larger ones are numbers of pixels


@serializable
class Glimpse(NamedTuple):
    """What the transformer saw, and where it looked."""

    image: Tensor  #: ``[batch [frame] [region] channel height width]``, the sampled region at the output size
    theta: Tensor  #: ``[batch [frame] [region] 2 3]``, the region: output to input coordinates, at least float32


class Resize(nn.Module):
    """Antialiased bilinear resize to a fixed size, for use as ``downscale``.

    ``size`` is ``(height, width)`` in pixels, or one number for a square.
    """

    __call__: Callable[..., Tensor]

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = check_size("size", size)

    def forward(self, image: Tensor) -> Tensor:
        """Resize ``[batch channel height width]`` to ``(batch, channel, *size)``, in the image's dtype.

        The image is floating point or uint8, which is rounded to the nearest level.
        """
        check_dtype("image", image, IMAGE_DTYPES)
        check_shape("image", image, "batch channel height width")
        wide = image.to(torch.promote_types(image.dtype, torch.float32))  # no half precision on CPUs
        resized = F.interpolate(wide, self.size, mode="bilinear", antialias=True)
        return (resized if image.is_floating_point() else resized.round()).to(image.dtype)

    def extra_repr(self) -> str:
        """Return the size, for ``repr``."""
        return shown_settings(self, Resize)


class SupervisedSpatialTransformer(nn.Module):
    """A spatial transformer whose localization can be called, and so supervised, on its own.

    Convention:
        ``theta`` maps *output* to *input* coordinates, both ``(x, y)`` in ``[-1, 1]``. With ``align_corners=False`` it
        means the same region at every resolution, so it can be predicted on a small image and applied to a large one.

    Images:
        An image is ``[batch channel height width]``. Clips ``[batch frame channel height width]`` are treated frame by
        frame. With ``regions=K`` each image has K regions. So theta is ``[batch [frame] [region] 2 3]``, and what is
        seen is ``(batch, [frame,] [region,] channel, *size)``. uint8 images are normalized by ``mean`` and ``std``.

    Submodules, and so the names in a state dict, are ``downscale``, ``localization`` and ``head``. The head is a linear
    map from the features to the parameters of theta. It computes in at least float32, also under autocast. It is no
    ``nn.Linear``, so ``model.apply(init)`` with a function for linear layers leaves its start alone. If a function
    changes it all the same, a UserWarning says so.

    Args:
        localization: maps the downscaled image to features ``(batch, features)``.
        size: ``(height, width)`` of the output in pixels, or one number for a square.
        features: number of features that ``localization`` returns.
        regions: number of regions per image, None for a single one without an axis of its own. All start with the same
            window, so each needs a target of its own, or features that differ, to become different.
        downscale: applied to the image before ``localization``, such as ``nn.MaxPool2d(4)`` or `Resize`; None: nothing.
        parameterization: the kind of ``theta``, a key of `geometry.PARAMETERIZATIONS`; the paper's is ``"affine"``.
        head_init: ``"level"`` starts with a centered window of side ``scale``, ``"identity"`` with the whole image,
            ``"gaussian"`` (the paper's) with weights of standard deviation 0.01 and zero biases.
        scale: sides of the window at the start for ``"level"``, and always for a translation, as fractions of the
            image's sides: ``(along height, along width)``, or one number for both; 224 / 896 for the paper's detail
            level. ``crop3`` keeps their ratio. For a square window of p pixels in an image that is not square, pass
            ``(p / height, p / width)``.
        bounds: smallest and largest side of the window, which then never leaves the image; see
            `geometry.theta_from_parameters`. The side at the start must lie strictly between them, because its
            gradient is zero at a bound.
        mean, std: for uint8 images, in units of 0..255, as for `affine_sample`.
        mode, padding_mode, align_corners, fill_value, antialias, backend: as for `affine_sample`.

    Raises:
        TypeError: by every method, if an argument, or what ``localization`` returns, does not have the type described.
        ValueError: by every method, if one of them does not have the shape or range that is described, or if the
            parameterization cannot express the window that ``head_init`` starts with.

    Reference:
        Liu, Wang, Kato, Supervised Spatial Transformer Networks, VISAPP 2019, section 3.3; the head's
        initializations are those of Jaderberg et al., Spatial Transformer Networks, 2015, section 4.2 (identity).
        Differs from the paper: ``"level"`` is the default. If ``scale`` is the side of the target windows, only the
        position is left to learn.
    """

    __call__: Callable[..., Glimpse]  # nn.Module's call returns anything

    def __init__(
        self,
        localization: nn.Module,
        size: Size,
        *,
        features: int,
        regions: int | None = None,
        downscale: nn.Module | None = None,
        parameterization: Parameterization = "affine",
        head_init: HeadInit = "level",
        scale: Scale = 1.0,
        bounds: tuple[float, float] | None = None,
        mean: PerChannel | None = None,
        std: PerChannel | None = None,
        mode: Mode = "bilinear",
        padding_mode: PaddingMode = "zeros",
        align_corners: bool = False,
        fill_value: float | Sequence[float] = 0.0,
        antialias: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_choice("parameterization", parameterization, PARAMETERIZATIONS)
        check_choice("head_init", head_init, get_args(HeadInit))
        check_sampling(mode, padding_mode, fill_value, align_corners, antialias, backend)
        for name, module in (("localization", localization), ("downscale", downscale)):
            if not isinstance(module, nn.Module) and (name == "localization" or module is not None):
                raise TypeError(f"{name} must be a module, got {module!r}")
        check_whole("features", features)
        if features < 1:
            raise ValueError(f"features must be positive, got {features}")
        if regions is not None:
            check_whole("regions", regions)
        if regions is not None and regions < 1:
            raise ValueError(f"regions must be positive, or None for a single region, got {regions}")
        if max(check_scale(scale)) > _LARGEST_SCALE:
            raise ValueError(
                f"scale must be a fraction of the image's sides, got {scale!r}; pass (pixels / height, pixels / width)"
            )
        self.size = check_size("size", size)
        self.parameterization, self.head_init, self.scale, self.bounds = parameterization, head_init, scale, bounds
        self.mode, self.padding_mode, self.align_corners = mode, padding_mode, align_corners
        self.fill_value, self.antialias, self.backend = fill_value, antialias, backend
        self.regions, self.mean, self.std = regions, mean, std
        self.downscale = nn.Identity() if downscale is None else downscale
        self.localization = localization
        self.head = _Head(features, PARAMETERIZATIONS[parameterization] * (regions or 1))
        self.reset_head()

    def reset_head(self) -> None:
        """Reset the head to the weights of ``head_init``."""
        bias = _initial_bias(self.head_init, self.parameterization, self.scale, self.bounds)
        with torch.no_grad():
            self.head.bias.copy_(bias.repeat(self.regions or 1))
        if self.head_init == "gaussian":
            nn.init.normal_(self.head.weight, std=0.01)
        else:
            nn.init.zeros_(self.head.weight)

    def reset_parameters(self) -> None:
        """Do what `reset_head` does. Loops that reset a model look for this name in each of its modules."""
        self.reset_head()

    def parameter_groups(self, lr: float, *, localization: float = 0.1) -> list[dict[str, Any]]:
        """Return groups of parameters for an optimizer. In them, the transformer learns more slowly than the rest.

        ``torch.optim.AdamW([*look.parameter_groups(1e-3), {"params": classifier.parameters()}], lr=1e-3)`` trains the
        classifier at 1e-3 and the transformer at 1e-4. The default is the paper's ratio in joint training, 1e-6 to
        1e-5. The ratio holds in both phases, guided and free, and for schedulers that multiply the rates. The
        ``free_pace`` of `RegressiveGuidance` slows the free phase down as well, and the two multiply. So give guidance
        ``free_pace=1`` if the ratio alone shall decide.

        Each parameter is in one group, also if it is frozen, so that it learns once it is unfrozen. The head's bias has
        a group of its own without weight decay, which would pull an affine window toward a single point.

        Args:
            lr: learning rate of the rest of the model, finite and not negative.
            localization: learning rate of the transformer as a fraction of ``lr``, finite and not negative.
        """
        for name, value in (("lr", lr), ("localization", localization)):
            check_number(name, value)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        rest = [parameter for parameter in self.parameters() if parameter is not self.head.bias]
        rate = lr * localization
        return [{"params": rest, "lr": rate}, {"params": [self.head.bias], "lr": rate, "weight_decay": 0.0}]

    def localize(self, image: Tensor) -> Tensor:
        """Predict where to look, without sampling.

        The image is ``[batch [frame] channel height width]``, and theta ``[batch [frame] [region] 2 3]``.
        """
        frames = image.flatten(0, 1) if isinstance(image, Tensor) and image.ndim == 5 else image
        batch = check_shape("image", frames, "batch channel height width")["batch"]
        check_channels_first(frames)
        check_dtype("image", frames, IMAGE_DTYPES)
        if frames.dtype == torch.uint8:
            frames = normalize(frames, *check_normalization(self.mean, self.std, frames))
        features = self.localization(self.downscale(frames))
        check_shape("localization's output", features, "batch features", batch=batch, features=self.head.in_features)
        predicted = self.head(features)
        if self.regions is not None:
            predicted = predicted.reshape(batch, self.regions, PARAMETERIZATIONS[self.parameterization])
        theta = theta_from_parameters(predicted, self.parameterization, scale=self.scale, bounds=self.bounds)
        return theta.reshape(*image.shape[:2], *theta.shape[1:]) if image.ndim == 5 else theta

    def sample(self, image: Tensor, theta: Tensor) -> Tensor:
        """Sample regions of an image, or of feature maps of it, at the output size.

        Args:
            image: ``[batch [frame] channel height width]``.
            theta: ``[batch [frame] [region] 2 3]``. Any number of regions may be sampled.

        Returns:
            ``(batch, [frame,] [region,] channel, *size)``.
        """
        is_clip = isinstance(image, Tensor) and image.ndim == 5
        if is_clip and (not isinstance(theta, Tensor) or theta.shape[:2] != image.shape[:2]):
            raise ValueError(
                f"theta must be {(*image.shape[:2], 2, 3)}, or have regions before the last two axes, "
                f"got {tuple(getattr(theta, 'shape', ()))}"
            )
        is_uint8 = isinstance(image, Tensor) and image.dtype == torch.uint8
        sampled = affine_sample(
            image.flatten(0, 1) if is_clip else image,
            theta.flatten(0, 1) if is_clip else theta,
            self.size,
            mode=self.mode,
            padding_mode=self.padding_mode,
            align_corners=self.align_corners,
            fill_value=self.fill_value,
            mean=self.mean if is_uint8 else None,
            std=self.std if is_uint8 else None,
            antialias=self.antialias,
            backend=self.backend,
        )
        return sampled.reshape(*image.shape[:2], *sampled.shape[1:]) if is_clip else sampled

    def forward(self, image: Tensor, source: Tensor | None = None) -> Glimpse:
        """Predict where to look and sample there.

        Args:
            image: ``[batch [frame] channel height width]``, on which to decide where to look.
            source: what to sample there, ``[batch [frame] channel height width]``, such as feature maps of the image.
                theta means the same region at every resolution (with ``align_corners=False``). None: the image.
        """
        if isinstance(source, Tensor) and isinstance(image, Tensor) and source.shape[:-3] != image.shape[:-3]:
            raise ValueError(
                f"source must have the image's axes {tuple(image.shape[:-3])} before channel, height and width, "
                f"got shape {tuple(source.shape)}"
            )
        theta = self.localize(image)
        return Glimpse(self.sample(image if source is None else source, theta), theta)

    def extra_repr(self) -> str:
        """Return the size and the settings that differ from their defaults, for ``repr``."""
        return shown_settings(self, SupervisedSpatialTransformer, hidden=("localization", "features", "downscale"))


class _Head(nn.Module):
    """A linear map that computes in at least float32. In bfloat16, coordinates in 896 px would be off by 1.75 px.

    It is no `nn.Linear` and is not called one, so that functions that initialize linear layers leave its start alone.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        linear = nn.Linear(in_features, out_features)  # draws what a linear layer draws: seeds keep their meaning
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(..., in_features)`` of any floating-point dtype to ``(..., out_features)``, at least float32."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast("cpu" if input.is_meta else input.device.type, enabled=False):  # meta has no autocast
            return F.linear(input.to(wide), self.weight.to(wide), self.bias.to(wide))

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Apply ``fn``, as ``apply`` of the whole model does, and warn if that changes the weight or the bias."""
        weight, bias = self.weight.detach().clone(), self.bias.detach().clone()
        super().apply(fn)
        if not (_same_values(weight, self.weight) and _same_values(bias, self.bias)):
            warnings.warn(
                f"apply({getattr(fn, '__name__', fn)}) changed the head of a SupervisedSpatialTransformer, so the "
                "window that head_init starts with is lost; call reset_head() of the transformer to restore it",
                stacklevel=2,
            )
        return self

    def extra_repr(self) -> str:
        """Return the numbers of features, for ``repr``."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _same_values(old: Tensor, new: Tensor) -> bool:
    """Compare what ``apply`` may have moved to another device or dtype; meta tensors have no values to lose."""
    return old.is_meta or new.is_meta or torch.equal(old.to(new), new)


def _initial_bias(
    head_init: HeadInit, kind: Parameterization, scale: Scale, bounds: tuple[float, float] | None
) -> Tensor:
    height, width = (1.0, 1.0) if head_init == "identity" else check_scale(scale)
    wanted = torch.tensor([[width, 0, 0], [0, height, 0]], dtype=torch.float64, device="cpu")
    is_random = head_init == "gaussian"
    zeros = torch.zeros(PARAMETERIZATIONS[kind], dtype=torch.float64, device="cpu")
    bias = zeros if is_random else parameters_from_theta(wanted, kind, scale=scale, bounds=bounds)
    reached = theta_from_parameters(bias, kind, scale=scale, bounds=bounds)
    if not is_random and not torch.allclose(reached, wanted, rtol=0, atol=1e-9):
        sides = f"side {width}" if width == height else f"sides {(height, width)}"
        raise ValueError(
            f"head_init={head_init!r} starts with {sides}; parameterization={kind!r} with scale={scale} must be "
            f"able to express it, and it must lie strictly between the bounds={bounds}, where it has a gradient; "
            f"pass a scale between them{f', such as {math.sqrt(bounds[0] * bounds[1]):.2g}' if bounds else ''}"
        )
    return bias
