"""Where results come from: data, machine, versions and time, for the report."""

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch

import supervised_st
from examples.mpii_cooking import distributed
from examples.mpii_cooking.data import frames
from examples.mpii_cooking.data.dataset import Dataset
from examples.mpii_cooking.data.preparation import VideoCache
from examples.mpii_cooking.evaluation.schema import DatasetFacts, Environment, StageTime
from examples.mpii_cooking.typed_json import encode
from examples.mpii_cooking.workspace import write_json


class Timings:
    """Seconds per stage, summed over every start of one job; a stage that was killed is not counted.

    They are kept under the job's name in a JSON file, which may have other jobs too. Rank 0 keeps them for all ranks.
    """

    def __init__(self, path: Path, job: str) -> None:
        self._path, self._job = path, job
        self._jobs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self._seconds: dict[str, float] = {row["stage"]: row["seconds"] for row in self._jobs.get(job, [])}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce the stage, run the block and add the time it takes, also when it ends in an exception."""
        if not distributed.is_main():
            yield
            return
        print(f"{name} ...", flush=True)
        started = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - started
            self._seconds[name] = self._seconds.get(name, 0.0) + took
            write_json(self._path, self._jobs | {self._job: encode(self.rows())})
        print(f"{name}: {took:.1f} s", flush=True)

    def rows(self) -> tuple[StageTime, ...]:
        """Return one entry per stage, in the order they first ran."""
        return tuple(StageTime(stage, seconds) for stage, seconds in self._seconds.items())


def describe_dataset(
    dataset: Dataset, folder: Path, caches: Mapping[str, VideoCache], *, is_synthetic: bool
) -> DatasetFacts:
    """Return the facts of ``dataset`` that the report states."""
    first = next(iter(dataset.videos.values()))
    height, width = next(frames.decode(first, dataset.framing)).shape[:2]
    counts = Counter(clip.label for clip in dataset.train)
    return DatasetFacts(
        name=dataset.name,
        protocol=dataset.protocol,
        has_paper_protocol=dataset.has_paper_protocol,
        is_synthetic=is_synthetic,
        videos=len(dataset.videos),
        frames=sum(cache.frames for cache in caches.values()),
        frame_size=(width, height),
        classes=dataset.classes,
        train_clips=tuple(counts[label] for label in range(len(dataset.classes))),
        folder=str(folder),
        groups=tuple(clip.group for clip in dataset.test if clip.group),
        lost=dataset.lost,
        cues={} if dataset.cues is None else dict(dataset.cues.values),
    )


def describe_environment(device: torch.device) -> Environment:
    """Return versions and machine, without anything that names its user."""
    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        supervised_st=supervised_st.__version__,
        platform=platform.platform(),
        cpu=platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        commit=commit(Path(__file__).parents[1]),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def command() -> str:
    """Return the command line that started this program."""
    return shlex.join(["python", *sys.argv])


def commit(folder: Path) -> str | None:
    """Return the commit of the checkout that ``folder`` is in; None outside of a checkout.

    "+ local changes" follows if files of ``folder`` or of the library differ from it, other than recorded results.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ".", ":/supervised_st", ":(exclude)results")
        return git("rev-parse", "HEAD") + (" + local changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None
