"""A program that checks copies of the package against the laws, in one process of Triton's interpreter.

``python -m tests.kernels.judge FOLDER`` reads ``plan.json``, a list of ``[package, law, results]``, and writes one line
of JSON per entry: ``[package, law, verdict]``. One process for all, since importing torch takes longer than a law.
"""

import importlib
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.tolerances import EXACT, FLOAT32_SUM, rounding
from supervised_st.sampling import affine_sample
from tests.helpers.assertions import assert_close
from tests.helpers.interpreter import fenced, patched_once, poison
from tests.helpers.remembered import forget_calls
from tests.kernels.laws import INF, LAWS, Case


def sample(case: Case, image: Tensor, sampler: Callable[..., Tensor], **options: Any) -> dict[str, Tensor]:
    """The results of a case, by name. Incoming gradients are multiples of 1/16, which all dtypes hold exactly."""
    image = image.detach()
    image.requires_grad_("i" in case.results)
    theta = case.theta.detach().requires_grad_("t" in case.results)
    out = sampler(image, theta, case.size, **options)
    results = {"output": out.detach()}
    inputs = {"i": image, "t": theta}
    wanted = [inputs[name] for name in case.results if name in inputs]
    if wanted:
        generator = torch.Generator().manual_seed(1)
        weights = torch.randint(-40, 41, out.shape, generator=generator).to(out.dtype) / 16
        found = torch.autograd.grad(out, wanted, weights, allow_unused=True)
        results |= zip((f"{name} gradient" for name in case.results if name in inputs), found, strict=True)
    return results


@cache
def cases(law: str) -> list[tuple[Case, dict[str, Tensor]]]:
    """The cases of a law and their true results, from the reference in float64."""
    return [(case, truth(case)) for case in LAWS[law]()]


def truth(case: Case) -> dict[str, Tensor]:
    options, image = dict(case.options), case.image
    if image.dtype == torch.uint8 and "mean" in options:
        mean, std = (torch.tensor(options.pop(name), dtype=torch.float64)[:, None, None] for name in ("mean", "std"))
        image = (image.double() - mean) / std
    if not case.narrow:
        image = image.double()
    return {name: t.double() for name, t in sample(case, image, affine_sample, **options, backend="reference").items()}


def tolerance(case: Case, name: str) -> float:
    if case.tolerance is not None:
        return case.tolerance
    if case.image.dtype == torch.float64:
        return EXACT * 100
    if case.image.dtype == torch.float16:
        return FLOAT32_SUM if name == "t gradient" else rounding(torch.float16)
    if case.image.dtype == torch.uint8 and name == "output":
        return 2 * rounding(torch.float32)
    return rounding(torch.float32) if name == "output" else FLOAT32_SUM


def hold(law: str, package: ModuleType, fused: ModuleType, results: str = "oit") -> None:
    """Raise AssertionError if a law does not hold for some results of a package."""
    for number, (case, true) in enumerate(cases(law)):
        case = case._replace(results="".join(name for name in case.results if name in results))
        if not case.results:
            continue
        where = f"{law}, case {number}"
        with pytest.MonkeyPatch.context() as patch, fenced() as refused:
            forget_calls(fused.__name__.partition(".")[0])
            patch.setattr(f"{fused.__package__}.replay.empty", poisoned)
            # Usual transforms have a kernel of their own for images that fill a GPU; here, for all images.
            patch.setattr(f"{fused.__package__}.launches.search_programs", lambda launch, processors: 0)
            if case.high_tiles:
                patch.setattr(f"{fused.__package__}.launches.PROGRAMS_PER_PROCESSOR", 0)
            got = sample(case, case.image, package.affine_sample, **case.options, backend="triton")
        assert not refused, f"{where}: {refused[0]} used memory outside of its arguments"
        for name, mine in got.items():
            compare(f"{where}, {name}", mine, true[name], tolerance(case, name))


def poisoned(like: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(shape, strides, dtype=dtype).fill_(poison(dtype))


def compare(where: str, mine: Tensor, want: Tensor, allowed: float) -> None:
    for kind in (torch.isnan, torch.isposinf, torch.isneginf):
        assert torch.equal(kind(mine), kind(want)), f"{where}: {kind.__name__} is in other places than in the reference"
    mine, want = (torch.nan_to_num(tensor, 0.0, 0.0, 0.0) for tensor in (mine, want))
    assert_close(where, mine, want, allowed)
    if mine.dtype == torch.float16:  # rounded once, whatever the largest value is
        ulp = (torch.nextafter(mine.abs(), torch.tensor(INF, dtype=mine.dtype)) - mine.abs()).double()
        assert ((mine.double() - want).abs() <= ulp / 2 + FLOAT32_SUM).all(), f"{where}: rounded more than once"


def verdict(name: str, law: str, results: str) -> str:
    """Return "holds", "killed: " and where the law does not hold, or "broken: " and what else went wrong."""
    try:
        package, fused = (importlib.import_module(f"{name}.{module}") for module in ("sampling", "_sampler.fused"))
        hold(law, package, fused, results)
    except AssertionError as error:
        return f"killed: {error}"
    except Exception as error:
        return f"broken: {error!r}"
    return "holds"


def main(folder: str) -> None:
    """Judge the packages of a folder."""
    torch.set_num_threads(1)
    sys.path.insert(0, folder)
    with patched_once():
        for name, law, results in json.loads((Path(folder) / "plan.json").read_text()):
            sys.stdout.write(json.dumps([name, law, verdict(name, law, results)]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
