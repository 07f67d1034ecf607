"""The text that ``repr`` shows of an object's settings."""

from collections.abc import Collection
from inspect import Parameter, signature


def shown_settings(owner: object, constructor: type, *, hidden: Collection[str] = ()) -> str:
    """Return the required settings and those that differ from their defaults: ``"size=(4, 6), mode='nearest'"``.

    The ``constructor`` defines the settings; subclasses of it may not take them. ``owner`` keeps each as an attribute
    under the argument's name. ``hidden`` leaves out arguments such as submodules, which torch shows itself.
    """
    parameters = (p for p in signature(constructor).parameters.values() if p.name not in hidden)
    values = ((p, getattr(owner, p.name)) for p in parameters)
    # Texts are compared because == between tensors or arrays is not one bool.
    changed = ((p, value) for p, value in values if p.default is Parameter.empty or repr(value) != repr(p.default))
    return ", ".join(f"{p.name}={value!r}" for p, value in changed)
