"""Names of version 0.2.0: accepted with a FutureWarning, to be removed in version 0.4.0."""

import warnings
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def renamed_arguments(**names: str) -> Callable[[type[Module]], type[Module]]:
    """Let the class of a module accept old names of its arguments: ``renamed_arguments(old="new")``.

    The old names work as keyword arguments, as attributes, and as the first part of keys in a state dict.
    """

    def decorate(cls: type[Module]) -> type[Module]:
        init, assign = cls.__init__, cls.__setattr__

        @wraps(init)  # inspect.signature shows the new names only
        def accept_arguments(self: Module, *args: object, **kwargs: object) -> None:
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(f"{old} is the old name of {names[old]}; pass {names[old]} only, got both")
                _warn(f"argument {old}", names[old])
                kwargs[names[old]] = kwargs.pop(old)
            init(self, *args, **kwargs)

        def accept_assignment(self: Module, name: str, value: nn.Module) -> None:
            if name in names:
                _warn(f"attribute {name}", names[name])
            assign(self, names.get(name, name), value)

        methods = {"__init__": accept_arguments, "__setattr__": accept_assignment}
        methods["_load_from_state_dict"] = _accept_state_dicts(cls._load_from_state_dict, names)
        for name, value in {**methods, **{old: _attribute(old, new) for old, new in names.items()}}.items():
            setattr(cls, name, value)
        return cls

    return decorate


def _accept_state_dicts(load: Callable[..., None], names: dict[str, str]) -> Callable[..., None]:
    def accept(self: nn.Module, state_dict: dict[str, object], prefix: str, *args: object) -> None:
        for old, new in names.items():
            keys = [key for key in state_dict if key.startswith(f"{prefix}{old}.")]
            if keys:
                _warn(f"state-dict key {prefix}{old}", f"{prefix}{new}")
            for key in keys:
                state_dict[prefix + new + key.removeprefix(prefix + old)] = state_dict.pop(key)
        load(self, state_dict, prefix, *args)

    return accept


def _attribute(old: str, new: str) -> property:
    def get(self: nn.Module) -> object:
        _warn(f"attribute {old}", new)
        return getattr(self, new)

    return property(get)


def renamed_globals(module: str, **names: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module whose names have changed: ``old="package.module.new"``."""

    def find(name: str) -> object:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        _warn(f"{module}.{name}", names[name])
        place, _, new = names[name].rpartition(".")
        return getattr(import_module(place), new)

    return find


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now called {new}; version 0.4.0 removes the old name", FutureWarning, stacklevel=3)
