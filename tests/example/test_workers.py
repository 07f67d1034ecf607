"""What the processes that train runs share with the one that started them."""

import pickle
from pathlib import Path

import pytest

from examples.mpii_cooking import interrupts
from examples.mpii_cooking.storage import ASIDE, DamagedError
from examples.mpii_cooking.training import workers
from examples.mpii_cooking.training.progress import Progress
from tests.example.test_train import experiment_of


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("executed",)


def test_a_worker_unpickles_only_what_its_parent_wrote(tmp_path, monkeypatch):
    """Others may be able to write to the output folder, too. What is wrong is said, not that a process was killed."""
    experiment, write_bytes = experiment_of(tmp_path), Path.write_bytes

    def exchanged(path, content):
        is_read = path.name.endswith("experiments")
        return write_bytes(path, pickle.dumps(Intruder(tmp_path / "trace")) if is_read else content)

    monkeypatch.setattr(Path, "write_bytes", exchanged)
    todo = [(0, experiment.runs[0])]
    progress = Progress([], 1, hidden=True)
    monkeypatch.setattr(progress, "start", lambda place: None)
    with pytest.raises(DamagedError, match=rf"{ASIDE}.*experiments was changed since it was written: start again"):
        workers.train_in_processes([experiment], todo, 1, progress, {todo[0]: 0})
    assert not (tmp_path / "trace").exists()
    assert not [*tmp_path.rglob(f"{ASIDE}*")]


def test_files_that_cannot_be_removed_do_not_hide_what_happened(tmp_path, monkeypatch):
    """The next start removes them."""

    def is_read_only(path, **options):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", is_read_only)
    with pytest.raises(interrupts.Stopped), workers._shared_files([experiment_of(tmp_path)], 1):
        raise interrupts.Stopped
