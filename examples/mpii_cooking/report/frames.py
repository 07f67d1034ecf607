"""The images on which the report draws windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2

from examples.mpii_cooking.data.dataset import Dataset
from examples.mpii_cooking.data.preparation import VideoCache
from examples.mpii_cooking.evaluation.results import Results
from examples.mpii_cooking.workspace import written_aside


def write_frames(results: Results, dataset: Dataset, caches: Mapping[str, VideoCache], folder: Path) -> None:
    """Write the probe frames to ``folder`` as the crops that the networks read."""
    for probe in results.probe_frames:
        for image, clip, frame in zip(probe.images, probe.clips, probe.frames, strict=True):
            picture = caches[dataset.test[clip].video].rgb(results.level(probe.level), frame)
            height, width = picture.shape[:2]
            left = (width - height) // 2
            with written_aside(folder / image) as aside:
                cv2.imwrite(str(aside), cv2.cvtColor(picture[:, left : left + height], cv2.COLOR_RGB2BGR))
