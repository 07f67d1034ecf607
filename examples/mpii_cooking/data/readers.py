"""Open a folder as a dataset.

To read another format, write a module like ``class_folders`` and list it in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.mpii_cooking.data import class_folders, mpii
from examples.mpii_cooking.data.dataset import DataError, Dataset, Split


@dataclass(frozen=True)
class Format:
    """A way to write down which frames of which videos show what.

    Attributes:
        description: what a folder of this format holds, for messages.
        recognizes: whether a folder has this format, by the names in it.
        read: (folder, split) -> dataset. The split says which subjects train and which are tested; None leaves the
            choice to the format. Raises a ``DataError`` that lists all problems if the folder cannot be used.
    """

    description: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, Split | None], Dataset]


FORMATS = (
    Format("an annotation file (*.csv) of MPII Cooking", mpii.recognizes, mpii.read_dataset),
    Format("at least two class folders with videos", class_folders.recognizes, class_folders.read_dataset),
)
"""The first format that recognizes a folder reads it."""


def open_dataset(folder: Path, split: Split | None = None) -> Dataset:
    """Read the clips of ``folder``, whichever of ``FORMATS`` it has.

    Args:
        folder: an existing folder.
        split: which subjects train and which are tested; for formats that name subjects.

    Raises:
        DataError: if the folder is missing or has none of the formats, or if its annotations or videos cannot be used.
    """
    if not folder.is_dir():
        raise DataError(f"data must be an existing folder, got {folder}")
    for format_ in FORMATS:
        if format_.recognizes(folder):
            return format_.read(folder, split)
    choices = ", or ".join(format_.description for format_ in FORMATS)
    raise DataError(f"data must hold {choices}; {folder} holds neither")
