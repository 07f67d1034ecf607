"""The smoke run with fewer networks, epochs and processes, for short forms; its options are those of ``run_all.py``."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import tyro

from examples.mpii_cooking import interrupts, run_all
from examples.mpii_cooking.config import Scope
from examples.mpii_cooking.presets import PRESETS

SMOKE = PRESETS["smoke"]
ONE_EPOCH = {name: replace(getattr(SMOKE.training, name), epochs=1) for name in ("recognize", "joint", "baseline")}

if __name__ == "__main__":
    training = replace(SMOKE.training, **ONE_EPOCH)  # guidance keeps two epochs: it is resumed in between
    scope, machine = Scope(localizers=("vgg-16",), variants=()), replace(SMOKE.machine, processes=1)
    PRESETS["smoke"] = replace(SMOKE, training=training, scope=scope, machine=machine)
    interrupts.stoppable(lambda: tyro.cli(run_all.main))
