"""Calls of `affine_sample` that were made before. With tensors of the same kind they need no second check."""

from collections.abc import Callable
from functools import lru_cache

from torch import Tensor

from supervised_st._sampler.tensors import is_unobserved, kind_of

_VALUES = frozenset({bool, float, int, str})
MOST_KINDS = 1024  # that are remembered; then the one not used for longest is forgotten


class Call:
    """All calls with the same options and tensors of the same kind."""

    sample: Callable[[Tensor, Tensor], Tensor] | None = None  #: from image and theta, once it is known how


@lru_cache(MOST_KINDS, typed=True)  # 1 is not True here, and 2.0 not 2: they have to raise as always.
def _call(*key: object) -> Call:
    return Call()


def call_of(image: Tensor, theta: Tensor, *options: object) -> Call | None:
    """Return the call with these arguments; None if somebody observes it, who has to see the whole of it.

    None too if an option is no plain value: it may have no hash, or change without its hash.
    """
    if not (is_unobserved(image, theta) and _VALUES.issuperset(map(type, options))):
        return None
    return _call(kind_of(image), kind_of(theta), *options)
