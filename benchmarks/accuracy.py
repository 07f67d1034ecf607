"""Compare affine_sample with float64, and with the baseline of F.affine_grid and F.grid_sample.

    python benchmarks/accuracy.py --device cpu|cuda [--cases N]

It samples random transforms of unit noise, identities, whole-pixel shifts, and the identity under autocast.
"""

import argparse
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from benchmarks.contestants import Sample, baseline, library, widened_baseline
from benchmarks.records import origin, provenance, results_file
from benchmarks.saving import Results, save
from benchmarks.tolerances import RANDOM_TRANSFORMS
from examples.mpii_cooking.formats import markdown_table
from supervised_st.types import Backend

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULT: dict[str, Backend] = {"cpu": "aten", "cuda": "triton"}  # what "auto" chooses for bilinear sampling
PER_BATCH = 40  # cases of equal sizes, which one call samples
LARGEST_SCALE, LARGEST_SHIFT = 4.0, 1.5
SMALLEST_SIDE, LARGEST_SIDE = 4, 127
EXACT_SIZES = (*range(1, 4097), 16_384, 65_536)
AUTOCAST_SIZES = (224, 512, 1920, 3840)


def batches(cases: int) -> Iterator[tuple[Tensor, Tensor, tuple[int, int], bool]]:
    """Draw images, theta (scaled per axis, rotated by any angle, shifted), the output's size and align_corners.

    They are the same on every device; a shorter run has the first cases of a longer one.
    """
    sizes = torch.Generator().manual_seed(0)
    for index, first in enumerate(range(0, cases, PER_BATCH)):
        sides = torch.randint(SMALLEST_SIDE, LARGEST_SIDE + 1, (4,), generator=sizes).tolist()
        count, generator = min(PER_BATCH, cases - first), torch.Generator().manual_seed(index)
        image = torch.randn(count, 1, *sides[:2], generator=generator)
        angle = _uniform(math.pi, count, generator=generator)
        turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), dim=1).view(-1, 2, 2)
        linear = turn * _uniform(math.log(LARGEST_SCALE), count, 1, 2, generator=generator).exp()
        shift = _uniform(LARGEST_SHIFT, count, 2, 1, generator=generator)
        yield image, torch.cat((linear, shift), dim=2).float(), (sides[2], sides[3]), index % 2 == 1


def _uniform(largest: float, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * (2 * largest) - largest


def cast_baseline(image: Tensor, theta: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Sample by the baseline with theta, and not only the grid, cast to the image's dtype."""
    return baseline(image, theta.to(image.dtype), size, align_corners)


def contestants(device: str) -> dict[str, Sample]:
    """Return two backends of the library, and the baseline."""
    default = DEFAULT[device]
    reference = partial(library, backend="reference")
    return {default: partial(library, backend=default), "reference": reference, "baseline": cast_baseline}


def random_transforms(dtype: str, device: str, cases: int) -> Results:
    """Return statistics of each contestant's errors; a case's error is its largest.

    ``further`` counts the cases in which another contestant is closer to the truth. ``over_budget`` counts the cases
    with a value that is not the rounding of one within `RANDOM_TRANSFORMS` of the truth. ``worst`` is a case's number.
    """
    everyone = contestants(device) | {"widened baseline": widened_baseline}
    found: dict[str, list[Tensor]] = {name: [] for name in everyone}
    over_budget = dict.fromkeys(everyone, 0)
    total = -(-cases // PER_BATCH)
    for batch in tqdm(batches(cases), desc=f"random transforms, {dtype}", total=total, unit="batch", leave=False):
        image, theta, size, align_corners = batch
        image, theta = image.to(device, DTYPES[dtype]), theta.to(device)
        truth = baseline(image.double(), theta.double(), size, align_corners)
        low, high = ((truth + sign * RANDOM_TRANSFORMS).to(image.dtype) for sign in (-1, 1))
        for name, sample in everyone.items():
            got = sample(image, theta, size, align_corners)
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
            "worst": int(error.argmax()),
        }
        for name, error in errors.items()
    }


def exactness(device: str, sizes: Sequence[int]) -> Results:
    """Count the sizes whose images do not come back bit for bit from identity and from a whole-pixel shift.

    Images are one row and one column of noise. The shift is by a third of the pixels, and zeros come in.
    """
    everyone = contestants(device)
    failures = {name: torch.zeros(2, dtype=torch.int64) for name in everyone}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*affine_grid behavior has changed for unit-size grids.*")
        for n in tqdm(sizes, desc="exactness", unit="size", leave=False):
            for images, theta, truth, align_corners in _exact_cases(n, device):
                for name, sample in everyone.items():
                    got = sample(images, theta, (images.shape[2], images.shape[3]), align_corners)
                    failures[name] += (got != truth).flatten(1).any(1).cpu()
    return {
        "cases_per_transform": 4 * len(sizes),
        "failures": {
            name: {"identity": {"count": int(identity)}, "shift": {"count": int(shift)}}
            for name, (identity, shift) in failures.items()
        },
    }


def _exact_cases(n: int, device: str) -> Iterator[tuple[Tensor, Tensor, Tensor, bool]]:
    """Yield for each axis and convention: the image twice, identity and shift, the two outputs, align_corners."""
    row = torch.randn(1, 1, 1, n, generator=torch.Generator().manual_seed(n)).to(device)
    pixels = n // 3 or min(1, n - 1)
    wanted = torch.cat((row, F.pad(row[..., pixels:], (0, pixels))))
    for align_corners in (False, True):
        theta = torch.eye(2, 3, device=device).repeat(2, 1, 1)
        theta[1, 0, 2] = 2 * pixels / max(1, n - 1 if align_corners else n)
        yield row.repeat(2, 1, 1, 1), theta, wanted, align_corners
        yield row.mT.repeat(2, 1, 1, 1), theta.flip(1)[..., [1, 0, 2]], wanted.mT, align_corners


def autocast_identity(device: str) -> Results:
    """Return how many pixels identity under autocast is off by, by dtype, contestant and width.

    The value of a pixel is its column. Pixels at the edges are left out, since they blend with the padding.
    """
    found: Results = {}
    for dtype in ("float16", "bfloat16"):
        for n in AUTOCAST_SIZES:
            ramp = torch.arange(n, dtype=torch.float32, device=device).expand(1, 1, 4, n).contiguous()
            theta = torch.eye(2, 3, device=device)[None]
            for name, sample in contestants(device).items():
                with torch.autocast(device, dtype=DTYPES[dtype]):
                    got = sample(ramp, theta, (4, n), True)
                off = (got - ramp)[..., 1:-1, 8:-8].abs().max().item()
                found.setdefault(dtype, {}).setdefault(name, {})[str(n)] = off
    return found


def measure(device: str, cases: int) -> Results:
    """Return all results, with what they depend on."""
    return provenance(device, torch.get_num_threads()) | {
        "cases": cases,
        "budget": RANDOM_TRANSFORMS,
        "random_transforms": {dtype: random_transforms(dtype, device, cases) for dtype in DTYPES},
        "exactness": exactness(device, EXACT_SIZES),
        "autocast_identity": autocast_identity(device),
    }


def table(results: Results) -> str:
    """Return the results as Markdown."""
    described = (
        f"{origin(results)}. {results['cases']:,} random transforms per dtype: scale 1/{LARGEST_SCALE:.0f} to "
        f"{LARGEST_SCALE:.0f}, any angle, shift up to {LARGEST_SHIFT}, images and outputs of {SMALLEST_SIDE} to "
        f"{LARGEST_SIDE} pixels a side, unit noise. A case's error is its largest; it is beyond tolerance if a value "
        f"is not the rounding of one within {results['budget']:.0e} of the truth. `{results['command']}`"
    )
    header = ["dtype", "by", "max", "99 %", "median", "beyond tolerance", "further than the baseline", "than widened"]
    rows = []
    for dtype, of in results["random_transforms"].items():
        for name, errors in of.items():
            further = [str(errors["further"].get(other, "")) for other in ("baseline", "widened baseline")]
            numbers = [f"{errors[key]:.2e}" for key in ("max", "p99", "median")]
            rows.append([dtype, name, *numbers, str(errors["over_budget"]), *further])
    random = markdown_table(header, rows)

    exact = results["exactness"]
    of_cases = f"not bit for bit, of {exact['cases_per_transform']:,}"
    rows = [[name, *(f"{count['count']:,}" for count in of.values())] for name, of in exact["failures"].items()]
    exactness = markdown_table(["by", f"identity: {of_cases}", f"shift: {of_cases}"], rows)

    rows = [
        [dtype, name, *(f"{off:.2g} px" for off in widths.values())]
        for dtype, of in results["autocast_identity"].items()
        for name, widths in of.items()
    ]
    autocast = markdown_table(["autocast", "by", *(f"{n} pixels wide" for n in AUTOCAST_SIZES)], rows)
    return "\n\n".join((described, random, exactness, autocast))


def main() -> None:
    """Measure, save and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=tuple(DEFAULT), default="cpu")
    parser.add_argument("--cases", type=int, default=10_000, help="random transforms per dtype (default: 10000)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = results_file(f"accuracy-{arguments.device}")
    print(f"{table(save(path, measure(arguments.device, arguments.cases)))}\n\n{path}")


if __name__ == "__main__":
    main()
