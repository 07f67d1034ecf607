"""Two checkpoints stay: what is damaged or cannot be written costs the epochs since the one before, and no bit."""

import pytest

from examples.mpii_cooking.storage import WriteError
from examples.mpii_cooking.training import checkpoints, train
from examples.mpii_cooking.training.checkpoints import load_history
from examples.mpii_cooking.training.runs import build
from examples.mpii_cooking.workspace import Unit, Workspace
from tests.helpers.made_up_samples import CLASSES, JOINT, PRESET, Epoch, made_up
from tests.helpers.small_disk import files_up_to

LAST = "epoch-0003.safetensors"


@pytest.fixture(autouse=True)
def _a_checkpoint_after_every_epoch(monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)


def trained(folder) -> list[int]:
    """Train a run to its end; return the epochs that it took."""
    epochs = []

    def samples(epoch):
        epochs.append(epoch)
        return Epoch([made_up(4)])

    train.fit(JOINT, build(JOINT, CLASSES, PRESET), PRESET, unit_in(folder), samples)
    return epochs


def unit_in(folder) -> Unit:
    return Workspace(folder).unit("run", {})


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero(path):
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(min(4096, len(content) - 100)) + content[4196:])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, zero, cut])
@pytest.mark.parametrize("name", [LAST, "manifest.json"])
def test_a_damaged_checkpoint_costs_one_epoch_and_no_bit(tmp_path, name, damage):
    assert trained(tmp_path) == [0, 1, 2]
    folder = unit_in(tmp_path).folder
    assert {path.name for path in folder.iterdir()} == {
        "epoch-0002.safetensors", LAST, "manifest-before.json", "manifest.json",
    }  # fmt: skip
    whole = (folder / LAST).read_bytes()
    damage(folder / name)
    assert load_history(unit_in(tmp_path)).epochs == 2
    assert trained(tmp_path) == [2]
    assert (folder / LAST).read_bytes() == whole
    assert load_history(unit_in(tmp_path)).is_finished


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save = checkpoints.save

    def save_on_a_small_disk(unit, networks, optimizer, history):
        with files_up_to(100_000 if history.epochs == 2 else None):
            save(unit, networks, optimizer, history)

    trained(tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", save_on_a_small_disk)
        with pytest.raises(WriteError, match=r"File too large.*epoch-0002\.safetensors"):
            trained(tmp_path / "full")
    assert load_history(unit_in(tmp_path / "full")).epochs == 1
    assert trained(tmp_path / "full") == [1, 2]
    assert unit_in(tmp_path / "full").path(LAST).read_bytes() == unit_in(tmp_path / "whole").path(LAST).read_bytes()
