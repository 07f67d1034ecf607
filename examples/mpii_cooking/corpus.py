"""Open a folder as a corpus, whichever of the two known forms it has."""

from __future__ import annotations

from pathlib import Path

from examples.mpii_cooking import class_folders, mpii
from examples.mpii_cooking.clips import Clip as Clip
from examples.mpii_cooking.clips import Corpus as Corpus
from examples.mpii_cooking.clips import DataError as DataError
from examples.mpii_cooking.workspace import visible


def open_corpus(folder: Path) -> Corpus:
    """Open ``folder``: the MPII Cooking layout if it holds a CSV file, else one folder of videos per class.

    Raises:
        DataError: if the folder is missing or has neither form, or if its annotations or videos cannot be used.
    """
    if not folder.is_dir():
        raise DataError(f"data must be an existing folder, got {folder}")
    annotations = [path for path in visible(folder) if path.suffix == ".csv"]
    if len(annotations) > 1:
        names = ", ".join(path.name for path in annotations)
        raise DataError(f"data must hold one annotation file, got {len(annotations)} in {folder}: {names}")
    if annotations:
        return mpii.read_corpus(annotations[0])
    return class_folders.read_corpus(folder)
