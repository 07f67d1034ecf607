"""What a network depends on: what it read, what it started from and what made it."""

import os
from dataclasses import replace

import pytest
import torch

from examples.mpii_cooking.config import SeedPlan
from examples.mpii_cooking.data.dataset import DataError
from examples.mpii_cooking.data.preparation import prepare
from examples.mpii_cooking.data.readers import open_dataset
from examples.mpii_cooking.evaluation import predictions
from examples.mpii_cooking.training import checkpoints, experiment
from examples.mpii_cooking.training.checkpoints import History
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.runs import Run, build
from examples.mpii_cooking.variants import Modality, Phase, Variant
from examples.mpii_cooking.workspace import Unit, Workspace
from tests.helpers.small_videos import DETAIL, PRESET, moving_patch, write

RECOGNITION = Run(Phase.RECOGNITION, Modality.SPATIAL, DETAIL)
GUIDANCE = Run(Phase.GUIDANCE, Modality.SPATIAL, DETAIL, "vgg-16", Variant.SSTN)
JOINT = Run(Phase.JOINT, Modality.SPATIAL, DETAIL, "vgg-16", Variant.SSTN)
ORIGINS = (RECOGNITION, GUIDANCE)


def start(folder, dataset, preset=PRESET):
    """Start on a dataset, as a command that is given again does."""
    caches = prepare(dataset, preset.data, Workspace(folder / "cache"))
    return Experiment(dataset, caches, preset, SeedPlan(0), Workspace(folder / "seed-0"), torch.device("cpu"))


def finish(started, run, seed=0, loss=1.0):
    """Commit weights as those of the end of a run's training."""
    networks = build(run, len(started.dataset.classes), PRESET, seed=seed)
    checkpoints.save(started.unit(run), networks, None, History((loss,), (0.5,), seconds=loss, is_finished=True))


def finished(started):
    return {run for run in (*ORIGINS, JOINT) if started.is_finished(run)}


@pytest.fixture
def videos(tmp_path):
    for name in ("left", "right"):
        for number in (1, 2):
            write(tmp_path / "data" / name / f"{number}.avi", moving_patch(6, number))
    return open_dataset(tmp_path / "data")


@pytest.fixture
def whole(videos, tmp_path):
    """An experiment with three finished runs."""
    started = start(tmp_path, videos)
    for run in (*ORIGINS, JOINT):
        finish(started, run)
    assert finished(start(tmp_path, videos)) == {*ORIGINS, JOINT}
    return started


def test_a_video_of_the_same_size_and_time_but_other_content_is_other_data(whole, videos, tmp_path):
    path = videos.videos["left/1.avi"]
    stat = path.stat()
    still = write(tmp_path / "still.avi", moving_patch(1, 1) * 6).read_bytes()  # takes fewer bytes
    path.write_bytes(still.ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert finished(start(tmp_path, videos)) == set()


def test_data_that_was_moved_is_the_same_data(whole, tmp_path, monkeypatch):
    (tmp_path / "data").rename(tmp_path / "moved")
    monkeypatch.setattr("examples.mpii_cooking.data.preparation.prepare_video", lambda *_: pytest.fail("prepared"))
    assert finished(start(tmp_path, open_dataset(tmp_path / "moved"))) == {*ORIGINS, JOINT}


def test_networks_that_were_trained_from_a_broken_cache_are_not_those_of_the_repaired_one(videos, tmp_path):
    unit = start(tmp_path, videos).caches["left/1.avi"]._unit
    broken = unit.path("windows-detail-row.bin")
    right = broken.read_bytes()
    broken.write_bytes(right[:-2] + b"\1\0")
    unit.commit(*unit.kept["files"], **unit.facts)  # as if the file had been like this when it was written
    for run in ORIGINS:
        finish(start(tmp_path, videos), run)
    assert finished(start(tmp_path, videos)) == {*ORIGINS}
    broken.write_bytes(bytes(len(right)))
    repaired = start(tmp_path, videos)
    assert broken.read_bytes() == right
    assert finished(repaired) == set()


@pytest.mark.parametrize("run", [RECOGNITION, JOINT], ids=lambda run: run.name)
def test_nothing_is_kept_that_was_made_while_a_cache_changed(whole, videos, tmp_path, run):
    started = start(tmp_path, videos)
    path = started.caches["left/1.avi"]._unit.path("windows-detail-row.bin")
    right, stat = path.read_bytes(), path.stat()
    path.write_bytes(b"\1" + right[1:])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for unit in (started.unit(run), predictions._unit(started, "predictions", run)):
        kept = unit.kept
        with pytest.raises(DataError, match=r"left/1\.avi was changed while it was read: start again"):
            unit.commit(answers=[1])
        assert Unit(unit.folder, unit.inputs).kept == kept
    assert finished(start(tmp_path, videos)) == {*ORIGINS, JOINT}
    assert path.read_bytes() == right


def test_a_repaired_cache_is_the_same_to_the_byte_and_keeps_the_networks(whole, videos, tmp_path):
    for name in ("flow.mkv", "rgb-general.mkv", "windows-detail-score.bin"):
        whole.caches["left/1.avi"]._unit.path(name).write_bytes(b"")
    assert finished(start(tmp_path, videos)) == {*ORIGINS, JOINT}


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda run: run.name)
def test_a_network_depends_on_those_it_starts_from(whole, videos, tmp_path, origin):
    again = start(tmp_path, videos)
    finish(again, origin, loss=2.0)
    assert finished(again) == {*ORIGINS, JOINT}, "the same weights"
    finish(again, origin, seed=1)
    assert finished(again) == {*ORIGINS}
    unit = again.unit(origin)
    unit.commit(*unit.kept["files"], **unit.facts | {"is_finished": False})
    assert finished(again) == {*ORIGINS} - {origin}


def test_answers_depend_on_the_network_and_on_what_it_saw(whole, videos, tmp_path):
    def answered(started, run):
        return predictions._unit(started, "predictions", run).done

    for run in (RECOGNITION, JOINT):
        predictions._unit(whole, "predictions", run).commit(answers=[0])
    assert answered(start(tmp_path, videos), JOINT)
    assert not answered(replace(whole, plan=SeedPlan(1)), JOINT)
    assert not answered(replace(whole, dataset=replace(videos, test=videos.train)), JOINT)
    finish(whole, JOINT, seed=1)
    assert not answered(start(tmp_path, videos), JOINT)
    assert answered(start(tmp_path, videos), RECOGNITION)


@pytest.mark.parametrize("part", ["code", "version"])
def test_other_code_and_other_versions_are_other_networks(whole, videos, tmp_path, monkeypatch, part):
    def other(module, made_by=experiment.made_by):
        made = made_by(module)
        return made | {part: made[part] | {sorted(made[part])[0]: "other"}}

    monkeypatch.setattr(experiment, "made_by", other)
    assert finished(start(tmp_path, videos)) == set()
    monkeypatch.undo()
    assert finished(start(tmp_path, videos)) == {*ORIGINS, JOINT}
