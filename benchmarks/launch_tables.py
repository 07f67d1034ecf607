"""Launches that a GPU is asked to compare with those of ``launches.py``, which the last session on one has decided.

Results depend on launches, so they are compared here and chosen by hand, never at run time.
"""

from supervised_st._sampler import launches

Table = dict[tuple[str, bool], launches.Launch]  # by kernel and whether channels are vectorized

# What the table of version 0.3.0 had where a launch has changed since.
VERSION_0_3_0: dict[tuple[str, bool], dict[str, int]] = {
    ("forward", False): {"block": 256, "tile_width": 32, "tile_rows": 32, "warps": 4, "registers": 64},
    ("theta_gradient", False): {"block": 256, "tile_width": 32, "tile_rows": 32, "warps": 4, "registers": 80},
    ("image_gradient", False): {"block": 256, "tile_width": 32, "tile_rows": 8, "warps": 2, "registers": 255},
    ("forward", True): {"block": 64, "tile_width": 8, "tile_rows": 32, "warps": 8, "registers": 128},
    ("theta_gradient", True): {"block": 16, "tile_width": 8, "tile_rows": 32, "warps": 4, "registers": 168},
    ("image_gradient", True): {"block": 64, "tile_width": 8, "tile_rows": 8, "warps": 4, "registers": 255},
}

# Static analysis alone cannot tell which is faster: fewer instructions, or more threads that wait at the same time.
FORWARDS = {
    "forward of 128 pixels, 1 warp": {"block": 128, "warps": 1, "registers": 128},
    "forward of 256 pixels, 2 warps": {"block": 256, "warps": 2, "registers": 128},
    "forward of 256 pixels, 2 warps, more registers": {"block": 256, "warps": 2, "registers": 168},
}


def tables() -> dict[str, Table]:
    """Return the tables by name, the present one first."""
    present = dict(launches.LAUNCHES)
    earlier = {key: launch._replace(**VERSION_0_3_0.get(key, {})) for key, launch in present.items()}
    key = ("forward", False)
    forwards = {name: present | {key: present[key]._replace(**changes)} for name, changes in FORWARDS.items()}
    return {"present": present, "version 0.3.0": earlier} | forwards
