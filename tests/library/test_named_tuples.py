"""Named tuples in exported programs that are saved and loaded."""

import importlib
import inspect
import io
import pkgutil

import pytest
import torch
from torch import nn

import supervised_st
from supervised_st import Glimpse, SupervisedSpatialTransformer

MODULES = [
    importlib.import_module(f"supervised_st.{it.name}")
    for it in pkgutil.iter_modules(supervised_st.__path__)
    if it.name != "lightning"  # needs a package that may be absent, and has no tuples
]
PUBLIC = {
    thing
    for module in MODULES
    for name, thing in inspect.getmembers(module, inspect.isclass)
    if not name.startswith("_") and "._" not in thing.__module__ and hasattr(thing, "_fields")
}


def reloaded(module, *arguments):
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, arguments), file)
    file.seek(0)
    return torch.export.load(file).module()


def test_a_saved_layer_returns_glimpses():
    """pytorch#197104: export works, and saving is refused."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
    look = SupervisedSpatialTransformer(net, (4, 4), features=4, head_init="gaussian")
    image = torch.randn(2, 3, 5, 5)
    found = reloaded(look, image)(image)
    assert isinstance(found, Glimpse)
    for got, want in zip(found, look(image), strict=True):
        torch.testing.assert_close(got, want)


class Double(nn.Module):
    def forward(self, given):
        return type(given)(*(it * 2 for it in given))


@pytest.mark.parametrize("kind", sorted(PUBLIC, key=lambda kind: kind.__name__))
def test_every_public_named_tuple_may_go_in_and_out(kind):
    given = kind(*(torch.full((2,), float(n)) for n in range(len(kind._fields))))
    found = reloaded(Double(), given)(given)
    assert type(found) is kind
    assert [it.tolist() for it in found] == [[2.0 * n, 2.0 * n] for n in range(len(kind._fields))]


def test_the_public_named_tuples_are_these():
    assert {kind.__name__ for kind in PUBLIC} == {
        "Components",
        "Distortion",
        "Glimpse",
        "MotionWindow",
        "Target",
        "WindowProfile",
    }
