"""Open a folder as a dataset, whichever of the two known forms it has."""

from __future__ import annotations

from pathlib import Path

from examples.mpii_cooking.data import class_folders, mpii
from examples.mpii_cooking.data.dataset import Clip as Clip
from examples.mpii_cooking.data.dataset import DataError as DataError
from examples.mpii_cooking.data.dataset import Dataset as Dataset
from examples.mpii_cooking.workspace import visible


def open_dataset(folder: Path, split: mpii.Split | None = None) -> Dataset:
    """Open ``folder``: the MPII Cooking layout if it holds a CSV file, else one folder of videos per class.

    Args:
        folder: an existing folder.
        split: who trains and who is tested, the paper's split by default; for the MPII Cooking layout only.

    Raises:
        DataError: if the folder is missing or has neither form, if its annotations or videos cannot be used, or if it
            names no subjects to split by.
    """
    if not folder.is_dir():
        raise DataError(f"data must be an existing folder, got {folder}")
    annotations = [path for path in visible(folder) if path.suffix == ".csv"]
    if len(annotations) > 1:
        names = ", ".join(path.name for path in annotations)
        raise DataError(f"data must hold one annotation file, got {len(annotations)} in {folder}: {names}")
    if annotations:
        return mpii.read_dataset(annotations[0], split or mpii.FIXED5)
    if split is not None:
        raise DataError(f"split {split.name} needs an annotation file (*.csv) that names subjects, {folder} has none")
    return class_folders.read_dataset(folder)
