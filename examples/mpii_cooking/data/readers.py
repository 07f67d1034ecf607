"""Open a folder as a dataset. To read another format, write a module like ``class_folders`` and call it here."""

from pathlib import Path

from examples.mpii_cooking.data import class_folders, mpii
from examples.mpii_cooking.data.dataset import DataError, Dataset, Split


def open_dataset(folder: Path, split: Split | None = None) -> Dataset:
    """Read the clips of ``folder``, whichever format it has. A ``DataError`` lists everything that is wrong with it."""
    if not folder.is_dir():
        raise DataError(f"data must be an existing folder, got {folder}")
    if mpii.annotation_files(folder):
        return mpii.read_dataset(folder, split)
    if class_folders.class_videos(folder):
        return class_folders.read_dataset(folder, split)
    raise DataError(
        "data must hold an annotation file (*.csv) of MPII Cooking, or at least two class folders with videos; "
        f"{folder} holds neither"
    )
