"""What each backend needs, and what the raw operators refuse."""

import pytest

from tests.helpers.programs import run_cases, run_python

PROGRAMS = "tests.library.programs"


def test_the_package_works_without_triton():
    run_cases(f"{PROGRAMS}.without_triton")


def test_importing_does_not_import_triton():
    loaded = "any(name in sys.modules for name in ('triton', 'supervised_st._sampler.fused'))"
    done = run_python("-c", f"import sys, torch, supervised_st; sys.exit({loaded})")
    assert done.returncode == 0, done.stderr


@pytest.mark.triton
def test_kernels_on_a_cpu_without_the_interpreter_are_refused():
    run_cases(f"{PROGRAMS}.without_interpreter")


@pytest.mark.triton
def test_raw_operators_refuse_wrong_arguments():
    """Torch's own did not: pytorch#78125, pytorch#73187 (heap corruption), pytorch#98136 (enums out of range).

    Callers can reach torch.ops.supervised_st.* with any arguments.
    """
    assert len(run_cases(f"{PROGRAMS}.raw_operators")) > 30
