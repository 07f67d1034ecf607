"""Launches that a GPU is asked to compare with those of ``launches.py``, which the last session on one has decided.

Results depend on launches, so they are compared here and chosen by hand, never at run time.
"""

from supervised_st._sampler import launches

Table = dict[tuple[str, bool], launches.Launch]  # by kernel and whether channels are vectorized

# By table: where it differs from the present one. Static analysis cannot tell which is faster: fewer instructions,
# or more threads that wait for memory at the same time.
CHANGES: dict[str, dict[tuple[str, bool], dict[str, int]]] = {
    "version 0.3.0": {
        ("forward", False): {"block": 256, "tile_width": 32, "tile_rows": 32, "warps": 4, "registers": 64},
        ("theta_gradient", False): {"block": 256, "tile_width": 32, "tile_rows": 32, "warps": 4, "registers": 80},
        ("image_gradient", False): {"block": 256, "tile_width": 32, "tile_rows": 8, "warps": 2, "registers": 255},
        ("forward", True): {"block": 64, "tile_width": 8, "tile_rows": 32, "warps": 8, "registers": 128},
        ("theta_gradient", True): {"block": 16, "tile_width": 8, "tile_rows": 32, "warps": 4, "registers": 168},
        ("image_gradient", True): {"block": 64, "tile_width": 8, "tile_rows": 8, "warps": 4, "registers": 255},
    },
    "forward of 128 pixels, 128 registers": {("forward", False): {"block": 128, "warps": 1, "registers": 128}},
    "forward of 256 pixels, 128 registers": {("forward", False): {"block": 256, "warps": 2, "registers": 128}},
    "forward of 256 pixels, 168 registers": {("forward", False): {"block": 256, "warps": 2, "registers": 168}},
    "image gradient with 128 registers": {("image_gradient", False): {"registers": 128}},
}


def tables() -> dict[str, Table]:
    """Return the tables by name, the present one first."""
    present = dict(launches.LAUNCHES)
    changed = {
        name: {key: launch._replace(**changes.get(key, {})) for key, launch in present.items()}
        for name, changes in CHANGES.items()
    }
    return {"present": present} | changed
