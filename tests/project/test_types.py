"""What a type checker tells users: what calls return, and that misspelled choices are errors."""

import subprocess
import sys

from tests.helpers.programs import ROOT

PROGRAM = """
import torch
from torch import Tensor, nn

from supervised_st import RegressiveGuidance, SupervisedSpatialTransformer, affine_sample
from supervised_st.geometry import window_to_theta

image = torch.rand(1, 3, 8, 8)
look = SupervisedSpatialTransformer(nn.Flatten(), image.shape[-2:], features=192)
reveal_type(look(image).image)
reveal_type(look(image).theta)
reveal_type(RegressiveGuidance()(look.localize(image), look.localize(image)))
affine_sample(image, look.localize(image), image.shape[-2:], mode="bilnear")
affine_sample(image, look.localize(image), 4, padding_mode="edge", backend="cuda")
SupervisedSpatialTransformer(nn.Flatten(), 4, features=3, parameterization="crop", head_init="zeros")
RegressiveGuidance("l2")
window_to_theta(torch.ones(4), 8, format="cxcywh")
"""


def test_a_type_checker_knows_results_and_choices(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(program)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    # Of the path only the name counts: the cache of mypy may know another folder.
    lines = {int(line.split(":")[1]): line for line in found.splitlines() if "program.py:" in line}
    text = PROGRAM.splitlines()
    revealed = [line for number, line in lines.items() if "reveal_type" in text[number - 1]]
    assert [line.split('"')[1] for line in revealed] == ["torch._tensor.Tensor"] * 3, found
    wrong = [number for number, line in lines.items() if "error" in line]
    assert [text[number - 1].split("(")[0] for number in wrong] == [
        "affine_sample", "affine_sample", "SupervisedSpatialTransformer", "RegressiveGuidance", "window_to_theta",
    ]  # fmt: skip
