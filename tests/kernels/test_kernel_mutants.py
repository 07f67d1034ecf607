"""Each fault in a kernel breaks its law. This shows that such tests can fail.

A law compares the kernels with the reference, values and both gradients, on a few small cases. Buffers that kernels
write arrive full of NaN, and kernels may use the memory of their arguments only.
"""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.programs import ROOT, run_python
from tests.helpers.sharing import made_once
from tests.kernels.faults import CHECKED, FAULTS, Fault
from tests.kernels.laws import LAWS

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="faults are found by the interpreter, on a CPU")

PACKAGE = ROOT / "supervised_st"

CONTROL = "supervised_st_control"


def copy(folder: Path, name: str, fault: Fault | None = None) -> None:
    """Write the package under another name, with a fault.

    Both can then be imported in one process and register their operators. ``__init__`` stays empty, since most modules
    are not needed.
    """
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8") if path != PACKAGE / "__init__.py" else ""
        if fault and path == file_of(fault):
            text = text.replace(fault.text, fault.replacement)
        to = folder / name / path.relative_to(PACKAGE)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text.replace("supervised_st", name), encoding="utf-8")


def file_of(fault: Fault) -> Path:
    return PACKAGE / "_sampler" / "kernels" / f"{fault.file}.py"


def occurrences(fault: Fault) -> int:
    return file_of(fault).read_text(encoding="utf-8").count(fault.text)


def package_of(fault: Fault) -> str:
    return f"supervised_st_fault_{FAULTS.index(fault)}"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """By package and law."""
    pytest.importorskip("triton")
    folder = made_once(tmp_path_factory, "faults", judge_all)
    return {(name, law): found for name, law, found in json.loads((folder / "verdicts.json").read_text())}


def judge_all(folder: Path) -> None:
    """Judge all packages in one process. If it crashes, the later ones get that as their verdict."""
    copy(folder, CONTROL)
    plan = [(CONTROL, law, "oit") for law in LAWS]
    for fault in FAULTS:
        if occurrences(fault) == fault.times:
            copy(folder, package_of(fault), fault)
            plan.append((package_of(fault), fault.law, fault.result or CHECKED[fault.file]))
    (folder / "plan.json").write_text(json.dumps(plan))
    done = run_python(
        "-W", "ignore", "-m", "tests.kernels.judge", folder, TRITON_INTERPRET="1", CUDA_VISIBLE_DEVICES=""
    )
    missing = f"not run, exit code {done.returncode}: {done.stderr[-2000:]}"
    verdicts = [[name, law, missing] for name, law, _ in plan] + [*map(json.loads, done.stdout.splitlines())]
    (folder / "verdicts.json").write_text(json.dumps(verdicts))


@pytest.mark.parametrize("law", LAWS)
def test_the_kernels_obey_the_law(law, verdicts):
    assert verdicts[CONTROL, law] == "holds"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_breaks_its_law(fault, verdicts):
    where = f"fault {fault.name!r} in {file_of(fault).relative_to(ROOT)}"
    count = occurrences(fault)
    assert count == fault.times, f"{where} is stale: {fault.text!r} occurs {count} times, not {fault.times}"
    found = verdicts[package_of(fault), fault.law]
    assert found.startswith("killed: "), f"{where} is not found by the law {fault.law!r}: {found}"


def test_every_fault_has_its_own_name():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 25
    assert {fault.law for fault in FAULTS} <= LAWS.keys()
