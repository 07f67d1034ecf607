"""Hold affine_sample against float64, and the usual pair of F.affine_grid and F.grid_sample beside it.

    python benchmarks/accuracy.py --device cpu|cuda [--cases N]

Random maps of unit noise in three dtypes, images that must come back bit for bit, and the identity under autocast.
Truth is the pair in float64, from inputs that were rounded to the dtype before. Results are a JSON file among the
published ones and a table.
"""

import argparse
import json
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import supervised_st
from benchmarks.budgets import RANDOM_MAPS
from benchmarks.records import ROOT, provenance
from supervised_st import affine_sample

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT = {"cpu": "aten", "cuda": "triton"}
"""The backend that ``"auto"`` takes for bilinear sampling."""

PER_BATCH = 40
"""Cases of equal sizes, which are sampled by one call."""

LARGEST_SCALE, LARGEST_SHIFT = 4.0, 1.5
SMALLEST_PLANE, LARGEST_PLANE = 4, 127
EXACT_SIZES = (*range(1, 4097), 16_384, 65_536)
AUTOCAST_SIZES = (224, 512, 1920, 3840)

Results = dict[str, Any]
Sample = Callable[[Tensor, Tensor, tuple[int, int], bool], Tensor]


@dataclass(frozen=True)
class Batch:
    """Cases of equal sizes; ``index`` seeds their images and maps."""

    index: int
    cases: int
    image_size: tuple[int, int]
    size: tuple[int, int]
    align_corners: bool

    def inputs(self) -> tuple[Tensor, Tensor]:
        """Return the same images and maps on every device: scaled per axis, turned by any angle, shifted."""
        generator = torch.Generator().manual_seed(self.index)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return torch.rand(self.cases, *shape, generator=generator, dtype=torch.float64) * (high - low) + low

        image = torch.randn(self.cases, 1, *self.image_size, generator=generator)
        angle, largest = uniform(-math.pi, math.pi), math.log(LARGEST_SCALE)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(-1, 2, 2)
        linear = turn * uniform(-largest, largest, 1, 2).exp()
        shift = uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 2, 1)
        return image, torch.cat((linear, shift), dim=2).float()


def batches(cases: int) -> Iterator[Batch]:
    """Draw the sizes of images and outputs; a run of fewer cases is the beginning of one of more."""
    generator = torch.Generator().manual_seed(0)
    for index, first in enumerate(range(0, cases, PER_BATCH)):
        sizes = torch.randint(SMALLEST_PLANE, LARGEST_PLANE + 1, (4,), generator=generator).tolist()
        yield Batch(index, min(PER_BATCH, cases - first), tuple(sizes[:2]), tuple(sizes[2:]), index % 2 == 1)


def pair(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample as everybody does: theta takes the image's dtype, since the pair refuses any other."""
    grid = F.affine_grid(theta.to(image.dtype), [len(theta), 1, *size], align_corners=align_corners)
    return F.grid_sample(image, grid, align_corners=align_corners)


def widened_pair(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample in float32 and round once: what who knows of the pair's coordinates in half precision does."""
    return pair(image.float(), theta, size, align_corners).to(image.dtype)


def ours(backend: str) -> Sample:
    """Return the library's sampler on a backend."""
    return lambda image, theta, size, align_corners: affine_sample(
        image, theta, size, align_corners=align_corners, backend=backend
    )


def contestants(device: str) -> dict[str, Sample]:
    """Return the library's two first, then the pair and the same in float32."""
    names = (DEFAULT[device], "reference")
    return {name: ours(name) for name in names} | {"pair": pair, "widened pair": widened_pair}


def random_maps(dtype: str, device: str, cases: int) -> Results:
    """Return what the largest errors of the cases come to, for each contestant.

    ``further`` counts the cases that are further from the truth than they are by another contestant, ``over_budget``
    those with a value that is not the rounding of one within ``RANDOM_MAPS`` of the truth, and ``worst`` names a case.
    """
    everyone = contestants(device)
    found: dict[str, list[Tensor]] = {name: [] for name in everyone}
    over_budget = dict.fromkeys(everyone, 0)
    drawn = list(batches(cases))
    for batch in tqdm(drawn, desc=f"random maps, {dtype}", unit="batch", leave=False):
        image, theta = (tensor.to(device) for tensor in batch.inputs())
        image = image.to(DTYPES[dtype])
        truth = pair(image.double(), theta.double(), batch.size, batch.align_corners)
        low, high = ((truth + sign * RANDOM_MAPS).to(image.dtype) for sign in (-1, 1))
        for name, sample in everyone.items():
            got = sample(image, theta, batch.size, batch.align_corners)
            found[name].append((got.double() - truth).abs().flatten(1).amax(1).cpu())
            over_budget[name] += int((~((low <= got) & (got <= high))).flatten(1).any(1).sum())
    errors = {name: torch.cat(of) for name, of in found.items()}
    return {
        name: {
            "max": error.max().item(),
            "p99": error.quantile(0.99).item(),
            "median": error.median().item(),
            "over_budget": over_budget[name],
            "further": {other: int((error > errors[other]).sum()) for other in everyone if other != name},
            "worst": _named(drawn, int(error.argmax())),
        }
        for name, error in errors.items()
    }


def _named(drawn: list[Batch], case: int) -> Results:
    return {**asdict(drawn[case // PER_BATCH]), "case": case % PER_BATCH}


def exactness(device: str, sizes: Sequence[int]) -> Results:
    """Count the sizes whose images do not come back bit for bit from identity and from a shift by whole pixels.

    Images are one row and one column of noise. The shift is by a third of them, and what comes in from outside is zero.
    """
    everyone = {name: sample for name, sample in contestants(device).items() if name != "widened pair"}
    failures: Results = {name: {"identity": [], "shift": []} for name in everyone}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*affine_grid behavior has changed for unit-size grids.*")
        for n in tqdm(sizes, desc="exactness", unit="size", leave=False):
            for case, images, theta, truth, align_corners in _exact_cases(n, device):
                for name, sample in everyone.items():
                    got = sample(images, theta, tuple(images.shape[2:]), align_corners)
                    same = (got == truth).flatten(1).all(1).tolist()
                    for map_ in (map_ for map_, is_same in zip(failures[name], same, strict=True) if not is_same):
                        failures[name][map_].append(case)
    return {
        "cases_per_map": 4 * len(sizes),
        "failures": {
            name: {map_: {"count": len(cases), "first": cases[:3]} for map_, cases in of.items()}
            for name, of in failures.items()
        },
    }


def _exact_cases(n: int, device: str) -> Iterator[tuple[str, Tensor, Tensor, Tensor, bool]]:
    """Yield for each axis and convention a name, an image twice, identity and a shift, what they give, and it."""
    row = torch.randn(1, 1, 1, n, generator=torch.Generator().manual_seed(n)).to(device)
    pixels = n // 3 or min(1, n - 1)
    wanted = torch.cat((row, F.pad(row[..., pixels:], (0, pixels))))
    for align_corners in (False, True):
        theta = torch.eye(2, 3, device=device).repeat(2, 1, 1)
        theta[1, 0, 2] = 2 * pixels / max(1, n - 1 if align_corners else n)
        name = f"{n} corners" if align_corners else f"{n}"
        yield f"{name} x", row.repeat(2, 1, 1, 1), theta, wanted, align_corners
        yield f"{name} y", row.mT.repeat(2, 1, 1, 1), theta.flip(1)[..., [1, 0, 2]], wanted.mT, align_corners


def autocast_identity(device: str) -> Results:
    """Return by how many pixels identity under autocast misses, by dtype, width and contestant.

    The image is a ramp, each pixel's value being its column.
    """
    found: Results = {}
    for dtype in ("float16", "bfloat16"):
        for n in AUTOCAST_SIZES:
            ramp = torch.arange(n, dtype=torch.float32, device=device).expand(1, 1, 4, n).contiguous()
            theta = torch.eye(2, 3, device=device)[None]
            for name, sample in contestants(device).items():
                if name == "widened pair":
                    continue
                with torch.autocast(device, dtype=DTYPES[dtype]):
                    got = sample(ramp, theta, (4, n), True)
                found.setdefault(dtype, {}).setdefault(name, {})[str(n)] = _missed(got, ramp)
    return found


def _missed(got: Tensor, ramp: Tensor) -> float:
    """Return the largest difference where the outermost pixels, which blend with what is outside, are left out."""
    return (got - ramp)[..., 1:-1, 8:-8].abs().max().item()


def measure(device: str, cases: int) -> Results:
    """Return all results, with what they depend on."""
    header = {key: value for key, value in provenance(device, torch.get_num_threads(), 1).items() if key != "rounds"}
    return header | {
        "date": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["python", *sys.argv]),
        "cases": cases,
        "budget": RANDOM_MAPS,
        "random_maps": {dtype: random_maps(dtype, device, cases) for dtype in DTYPES},
        "exactness": exactness(device, EXACT_SIZES),
        "autocast_identity": autocast_identity(device),
    }


def table(results: Results) -> str:
    """Return the results as Markdown."""
    return "\n\n".join(part(results) for part in (_described, _random_table, _exact_table, _autocast_table))


def _described(results: Results) -> str:
    versions = results["versions"]
    commit = results["commit"][:10] + results["commit"][40:]
    return (
        f"{results['machine']}; torch {versions['torch']}; supervised-st {versions['supervised-st']}, commit {commit}, "
        f"{results['date']}. {results['cases']:,} random maps per dtype: scale 1/{LARGEST_SCALE:.0f} to "
        f"{LARGEST_SCALE:.0f}, any angle, shift up to {LARGEST_SHIFT}, planes of {SMALLEST_PLANE} to {LARGEST_PLANE} "
        f"pixels a side, unit noise. A case's error is its largest; it is over budget if a value is not the rounding "
        f"of one within {results['budget']:.0e} of the truth. `{results['command']}`"
    )


def _random_table(results: Results) -> str:
    header = ["dtype", "by", "max", "99 %", "median", "over budget", "further than the pair", "than widened"]
    rows = []
    for dtype, of in results["random_maps"].items():
        for name, errors in of.items():
            further = [str(errors["further"].get(other, "")) for other in ("pair", "widened pair")]
            numbers = [f"{errors[key]:.2e}" for key in ("max", "p99", "median")]
            rows.append([dtype, name, *numbers, str(errors["over_budget"]), *further])
    return _markdown(header, rows)


def _exact_table(results: Results) -> str:
    exactness = results["exactness"]
    header = ["by", *(f"{map_}: not the bits, of {exactness['cases_per_map']:,}" for map_ in ("identity", "shift"))]
    rows = [[name, *(f"{count['count']:,}" for count in of.values())] for name, of in exactness["failures"].items()]
    return _markdown(header, rows)


def _autocast_table(results: Results) -> str:
    header = ["autocast", "by", *(f"{n} pixels wide" for n in AUTOCAST_SIZES)]
    rows = [
        [dtype, name, *(f"{missed:.2g} px" for missed in widths.values())]
        for dtype, of in results["autocast_identity"].items()
        for name, widths in of.items()
    ]
    return _markdown(header, rows)


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(DEFAULT), default="cpu")
    parser.add_argument("--cases", type=int, default=10_000, help="random maps per dtype (10000)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = measure(arguments.device, arguments.cases)
    path = ROOT / "benchmarks" / "results" / supervised_st.__version__ / f"accuracy-{arguments.device}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
