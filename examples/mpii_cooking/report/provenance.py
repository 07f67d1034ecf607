"""Where results come from: data, machine, versions and time, for the report."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import torch

import supervised_st
from examples.mpii_cooking import distributed
from examples.mpii_cooking.config import Preset
from examples.mpii_cooking.data import video
from examples.mpii_cooking.data.dataset import Clip, Dataset
from examples.mpii_cooking.data.preparation import VideoCache
from examples.mpii_cooking.workspace import write_json


class Timings:
    """Seconds per stage, summed over every start of one job; kept in a file, from which a killed stage is missing.

    Rank 0 keeps them for all ranks.

    Args:
        path: the JSON file, which may hold other jobs too; read if it is there.
        job: what counts as the same job, in the file's key.
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
            write_json(self._path, self._jobs | {self._job: self.rows()})
        print(f"{name}: {took:.1f} s", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return one entry per stage, in the order they first ran."""
        return [{"stage": stage, "seconds": seconds} for stage, seconds in self._seconds.items()]

    def total(self) -> float:
        """Return the seconds of all stages."""
        return sum(self._seconds.values())


def describe_dataset(
    dataset: Dataset, folder: Path, caches: Mapping[str, VideoCache], *, synthetic: bool
) -> dict[str, Any]:
    """Return the facts of ``dataset`` that the report states."""
    first = next(iter(dataset.videos.values()))
    height, width = next(video.decode(first)).shape[:2]
    return {
        "name": dataset.name,
        "folder": str(folder),
        "split": dataset.protocol,
        "has_paper_protocol": dataset.has_paper_protocol,
        "synthetic": synthetic,
        "videos": len(dataset.videos),
        "frames": sum(cache.frames for cache in caches.values()),
        "frame_size": [width, height],
        "classes": list(dataset.classes),
        "train_clips": len(dataset.train),
        "test_clips": len(dataset.test),
        "train_per_class": _per_class(dataset.train, len(dataset.classes)),
        "test_per_class": _per_class(dataset.test, len(dataset.classes)),
    }


def describe_settings(preset: Preset) -> dict[str, Any]:
    """Return all settings, without their division into parts."""
    parts = (preset.data, preset.training, preset.evaluation, preset.scope, preset.machine)
    variants = [variant.key for variant in preset.scope.variants]
    whole = {"name": preset.name, "kitchen": asdict(preset.kitchen)}
    return whole | reduce(or_, map(asdict, parts)) | {"variants": variants}


def describe_levels(preset: Preset, frame_size: Sequence[int]) -> list[dict[str, Any]]:
    """Return the sizes of Table 1 at the preset's scale for frames of ``frame_size`` (width, height)."""
    width, height = frame_size
    return [
        {
            "name": level.name,
            "height": level.height,
            "width": round(width * level.height / height),
            "glimpse": preset.data.glimpse,
        }
        for level in preset.data.levels
    ]


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return versions and machine, without anything that names its user."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "supervised_st": supervised_st.__version__,
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "commit": commit(Path(__file__).parent),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def commit(folder: Path) -> str | None:
    """Return the commit of the checkout that ``folder`` is in, None outside one.

    "+ local changes" follows where ``folder`` or the library has files that differ from it, other than kept results.
    """
    try:
        changes = _git(folder, "status", "--porcelain", "--", ".", ":/supervised_st", ":(exclude)results")
        return _git(folder, "rev-parse", "HEAD") + (" + local changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _per_class(clips: Sequence[Clip], classes: int) -> list[int]:
    counts = Counter(clip.label for clip in clips)
    return [counts[label] for label in range(classes)]
