"""Ask a GPU everything at once: one command of less than nine minutes on an H200.

    python benchmarks/device_session.py [first | second | STEP ...] [--folder FOLDER] [--commit TEXT] [--rehearse]

Each step has a process, a time limit and a file of its own, written when it ends. The next step follows whatever became
of it. Nothing is installed: torch with CUDA, Triton, NumPy, tqdm, and pytest with hypothesis, filelock and xdist must
be there. `--rehearse` tries all of it on a CPU, with small cases in Triton's interpreter.
"""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.saving import ROOT, Results, Row, save

LINES = 12  # of a step's output that are printed
KEPT_CHARACTERS = 8000  # of a step's output that are kept in its file
RESERVE_SECONDS = 8  # that a measuring step has left when it begins no more cases
PATIENCE = 20  # how many times as long a rehearsal may take, on a CPU that others use too

MEASURE = (sys.executable, "benchmarks/device_steps.py")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN", "--tb=short", "-v")
# Other versions of packages warn of other things; that is no reason for a test to fail here.
ON_DEVICE = (*PYTEST, "-W", "default", "-n", "12")
SAMPLING = [f"tests/library/test_sampling_{name}.py" for name in ("accuracy", "bits", "derivatives", "layouts")]
REHEARSED_TEST = "tests/kernels/test_fused.py::test_the_schemas_are_those_that_exported_graphs_hold"
SANITIZED = [
    f"tests/kernels/test_gpu.py::test_{name}"
    for name in (
        "outputs_may_be_changed_in_place[contiguous]",
        "an_image_does_not_depend_on_its_neighbors_in_the_batch[channels_last]",
        "many_tiles_agree_with_float64[contiguous-torch.float32]",
    )
]
SANITIZER = ("compute-sanitizer", "--target-processes", "all", "--error-exitcode", "9")
# The clocks of a GPU that others use later are left alone.
NCU = ["ncu", "--clock-control", "none", "--profile-from-start", "off", "--csv"]
SECTIONS = ("SpeedOfLight", "MemoryWorkloadAnalysis", "SchedulerStats", "WarpStateStats", "Occupancy", "LaunchStats")
COUNTERS = (
    "smsp__inst_executed.sum", "l1tex__data_pipe_lsu_wavefronts.sum",
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum", "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum",
)  # fmt: skip


def read_tests(output: str) -> Results:
    """Count the results of tests, also of a run that was ended, and name those that failed."""
    result = r"(PASSED|FAILED|ERROR|SKIPPED)"
    found = re.findall(rf"^\[gw\d+\] \[ *\d+%\] {result} (\S+::.*?) *$", output, re.M)
    found += [(word, name) for name, word in re.findall(rf"^(\S+::.*) {result}.*\[ *\d+%\]$", output, re.M)]
    failed = [name for word, name in found if word in ("FAILED", "ERROR")]
    return {"counts": Counter(word for word, _ in found), "failed": failed}


def read_profile(output: str) -> Results:
    """Return what the profiler counted, a row for each kernel in the order of launches."""
    start = output.find('"ID"')
    lines = [line for line in output[start:].splitlines() if line.startswith('"')] if start >= 0 else []
    rows: dict[str, Row] = {}
    for line in csv.DictReader(lines):
        row = rows.setdefault(line["ID"], {"kernel": line["Kernel Name"], "metrics": {}})
        row["metrics"][f"{line['Metric Name']} [{line['Metric Unit']}]"] = line["Metric Value"]
    return {"rows": list(rows.values())}


def read_sanitizer(output: str) -> Results:
    """Return the number of bad accesses, None if the tool did not come to its end."""
    found = re.search(r"ERROR SUMMARY: (\d+) error", output)
    return {"bad_accesses": int(found[1]) if found else None} | read_tests(output)


class Step(NamedTuple):
    """One step; without a command it is one of ``device_steps.py``."""

    half: str
    name: str  #: of its file too
    seconds: int  #: after which it is ended
    what: str
    command: tuple[str, ...] = ()
    rehearsal: tuple[str, ...] = ()  #: the command of a rehearsal, if it is another one
    read: Callable[[str], Results] = lambda output: {}  #: from the output to results
    variables: Mapping[str, str] = {}  #: of the environment

    @property
    def tool(self) -> str:
        """The program that the step needs beside Python."""
        return "" if not self.command or self.command[0] == sys.executable else self.command[0]


STEPS = (
    Step("first", "kernels", 40, "every kernel once, against float64"),
    Step(
        "first", "tests", 95, "the tests of the kernels",
        (*ON_DEVICE, "tests/kernels"), (*PYTEST, REHEARSED_TEST), read_tests,
    ),
    Step("first", "launches", 100, "GPU time of every published case, with old and new launches"),
    Step("first", "host", 20, "host time of short calls, with autograd's thread and without it"),
    Step(
        "first", "sampling", 45, "the tests of sampling that run kernels",
        (*ON_DEVICE, "-k", "triton", *SAMPLING), (*PYTEST, REHEARSED_TEST), read_tests,
    ),
    Step("second", "cuda", 155, "all contestants, both times; those of the headline also compiled"),
    Step(
        "second", "ncu", 45, "hardware counters of six kernels",
        (
            *NCU, *(option for name in SECTIONS for option in ("--section", name)), "--metrics", ",".join(COUNTERS),
            *MEASURE, "profile", "--json", os.devnull,
        ),
        read=read_profile,
    ),
    Step(
        "second", "compute-sanitizer", 35, "bad accesses to memory in three tests",
        (*SANITIZER, *PYTEST, "-W", "default", *SANITIZED),
        read=read_sanitizer,
        # Otherwise torch asks for large pieces of memory, in which no access is out of bounds.
        variables={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
    ),
)  # fmt: skip
HALVES = ("first", "second")


class Session(NamedTuple):
    """What the steps of a session share."""

    folder: Path
    environment: dict[str, str]
    commit: str
    is_rehearsal: bool

    def command(self, step: Step) -> list[str]:
        """Return the command of a step."""
        rehearse = ["--rehearse"] if self.is_rehearsal else []
        if step.command:
            command = step.rehearsal if self.is_rehearsal and step.rehearsal else step.command
            return [*command, *(rehearse if "profile" in command else [])]
        options = ["--json", str(self.file(step)), "--seconds", str(self.limit(step) - RESERVE_SECONDS)]
        return [*MEASURE, step.name, *options, *(["--commit", self.commit] if self.commit else []), *rehearse]

    def file(self, step: Step) -> Path:
        """Return the file of a step's results."""
        return self.folder / f"{step.name}.json"

    def limit(self, step: Step) -> int:
        """Return the seconds after which a step is ended."""
        return step.seconds * (PATIENCE if self.is_rehearsal else 1)


def run(step: Step, session: Session) -> str:
    """Run a step, add to its file what became of it, and return that in a word or two."""
    path = session.file(step)
    path.unlink(missing_ok=True)
    if step.tool and not shutil.which(step.tool, path=session.environment.get("PATH")):
        status = f"skipped: {step.tool} is not installed"
        save(path, {"status": status})
        return status
    command, started = session.command(step), time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        environment = {**session.environment, **step.variables}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(session.limit(step))
            status = f"failed: exit code {code}" if code else "done"
        except subprocess.TimeoutExpired:
            status = "out of time"
            end(process)
        except KeyboardInterrupt:
            end(process)
            raise
        log.seek(0)
        output = log.read()
    kept = json.loads(path.read_text()) if path.exists() else {}
    seconds = round(time.monotonic() - started, 1)
    outcome = {"status": status, "seconds": seconds, "output": output[-KEPT_CHARACTERS:]}
    save(path, kept | step.read(output) | outcome)
    print("\n".join(f"    {line}" for line in output.strip().splitlines()[-LINES:]))
    return f"{status}, {seconds} s"


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and the others of the group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(folder: Path, *, rehearse: bool) -> dict[str, str]:
    """Return the environment of the steps. The package tells its version, so it needs metadata if not installed."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    try:
        version("supervised-st")
    except PackageNotFoundError:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        metadata = folder / f"supervised_st-{project['version']}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        paths.append(str(folder))
    interpreted = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""} if rehearse else {}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"} | interpreted


def main() -> int:
    """Run the steps; return 1 if one failed or ran out of time."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "steps", nargs="*", default=list(HALVES), metavar="STEP", help=f"{', '.join([*HALVES, *names])} (default: all)"
    )
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="folder for the results")
    parser.add_argument("--commit", default="", metavar="TEXT", help="the commit, where there is no git to tell it")
    parser.add_argument("--rehearse", action="store_true", help="try it on a CPU, with small cases")
    given = parser.parse_args()
    if unknown := set(given.steps) - {*HALVES, *names}:
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join([*HALVES, *names])}")
    chosen = [step for step in STEPS if step.name in given.steps or step.half in given.steps]
    folder = (given.folder or ROOT / "runs" / ("rehearsal" if given.rehearse else "device")).resolve()
    statuses: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as extra:
        session = Session(folder, environment(Path(extra), rehearse=given.rehearse), given.commit, given.rehearse)
        with suppress(KeyboardInterrupt):
            for step in chosen:
                print(f"{step.name}: {step.what} (at most {session.limit(step)} s)", flush=True)
                statuses[step.name] = "stopped"
                statuses[step.name] = run(step, session)
                print(f"    {statuses[step.name]}: {session.file(step)}", flush=True)
    print(f"\nThe results are in {folder}:")
    print("\n".join(f"- {name}.json: {status}" for name, status in statuses.items()))
    return int(not all(status.startswith(("done", "skipped")) for status in statuses.values()))


if __name__ == "__main__":
    sys.exit(main())
