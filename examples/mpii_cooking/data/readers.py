"""Open a folder as a dataset. To read another format, write a module like ``class_folders`` and call it here."""

from pathlib import Path

from examples.mpii_cooking.data import class_folders, mpii
from examples.mpii_cooking.data.class_folders import NO_CHOICES, Choices
from examples.mpii_cooking.data.dataset import DataError, Dataset, Split


def group_names(folder: Path | None, choices: Choices, *, skip_broken: bool) -> tuple[str, ...]:
    """Return the groups of the clips of a folder of classes, in natural order, or of those that can be read."""
    if folder is None or not folder.is_dir():
        raise DataError(f"data must be an existing folder of classes, if clips have groups, got {folder}")
    return class_folders.group_names(folder, choices, skip_broken=skip_broken)


def open_dataset(
    folder: Path, split: Split | None = None, choices: Choices = NO_CHOICES, *, skip_broken: bool = False
) -> Dataset:
    """Read the clips of ``folder``, whichever format it has. A ``DataError`` lists everything that is wrong with it.

    With ``skip_broken``, videos that cannot be read are left out.
    """
    if not folder.is_dir():
        raise DataError(f"data must be an existing folder, got {folder}")
    if mpii.annotation_files(folder):
        if choices != NO_CHOICES:
            raise DataError(f"groups, without, rate and aspect need a folder of classes, {folder} has annotations")
        return mpii.read_dataset(folder, split, skip_broken=skip_broken)
    if class_folders.class_clips(folder):
        return class_folders.read_dataset(folder, split, choices, skip_broken=skip_broken)
    raise DataError(
        "data must hold an annotation file (*.csv) of MPII Cooking, or at least two class folders with videos; "
        f"{folder} holds neither"
    )
