"""Ask for outputs that no memory holds. All must fail as the allocator does."""

import itertools
import resource

import torch

from supervised_st import affine_sample

OUTPUTS = (((2**30, 2**30), 1), ((1, 2**30), 2**30), ((2, 2), 2**40), ((2**30, 2), 2**20))

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
image = torch.ones(1, 1, 2, 2)
for backend, antialias, (size, transforms) in itertools.product(("aten", "reference"), (False, True), OUTPUTS):
    name = f"{size} for {transforms} transforms, antialias={antialias}, {backend}"
    print(name, flush=True)
    theta = torch.eye(2, 3).expand(1, transforms, 2, 3)
    try:
        affine_sample(image, theta, size, antialias=antialias, backend=backend)
    except RuntimeError as error:
        if "memory" not in str(error) and "overflow" not in str(error):
            raise SystemExit(f"{name}: not the allocator's error: {error}") from error
    else:
        raise SystemExit(f"{name}: no error")
