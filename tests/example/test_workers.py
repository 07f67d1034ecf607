"""What the processes that train runs share with the one that started them."""

import pickle

import pytest

from examples.mpii_cooking.storage import ASIDE, DamagedError
from examples.mpii_cooking.training import workers
from tests.example.test_train import experiment_of


class Intruder:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return self.path.write_text, ("executed",)


def test_a_worker_unpickles_only_what_its_parent_wrote(tmp_path):
    """Others may be able to write to the output folder, too."""
    trace = tmp_path / "trace"
    with workers._shared_files([experiment_of(tmp_path)], 1) as files:
        assert files.experiments.name.startswith(ASIDE), "the next start removes it"
        files.experiments.write_bytes(pickle.dumps(Intruder(trace)))
        with pytest.raises(DamagedError, match="experiments was changed since it was written"):
            workers._start_worker(*files)
    assert not trace.exists()
    assert not [*tmp_path.rglob(f"{ASIDE}*")]
