"""The host's time is measured without a GPU."""

import json
import shutil

import pytest
import torch

from tests.helpers.programs import run_python

pytest.importorskip("triton", reason="kernels are launched by Triton")
pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("gcc", "clang", "cc"))), reason="needs a C compiler, for a driver without a GPU"
)


def test_host_time_compares_all_phases(tmp_path):
    path = tmp_path / "host.json"
    done = run_python("benchmarks/host_time.py", "--quick", "--rounds", "2", "--json", path, TRITON_INTERPRET="0")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(path.read_text())
    assert [row["phase"] for row in results["rows"]] == [
        "forward", "forward, gradient to theta", "forward, gradient to the image", "forward, both gradients",
    ]  # fmt: skip
    for row in results["rows"]:
        assert 0 < row["ratio"]["low"] <= row["ratio"]["high"]
        assert done.stdout.count(f"| {row['phase']} |") == 1
    assert results["versions"]["torch"] == torch.__version__
