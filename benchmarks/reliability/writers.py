"""What the example keeps on disk, each kind with a way to write it and to read it back."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from examples.mpii_cooking.config import KitchenSize
from examples.mpii_cooking.data import kitchen, preparation, video
from examples.mpii_cooking.evaluation import results
from examples.mpii_cooking.presets import PRESETS
from examples.mpii_cooking.report import docs_record, provenance
from examples.mpii_cooking.training import checkpoints
from examples.mpii_cooking.workspace import Unit

State = dict[str, object]  # what can be read back, by name


class Writer(NamedTuple):
    """One kind of writing. All of it happens below the folder that each function gets."""

    name: str
    before: Callable[[Path], object]  # writes the older state
    write: Callable[[Path], object]  # writes the newer one
    read: Callable[[Path], State]  # reads as the next start would; what is missing there is not in the state


def writers(source: Path) -> list[Writer]:
    """Return all writers. ``source`` is a folder for a small video that one of them reads."""
    clip = source / "clip.avi"
    with video.new_video(clip, "mjpeg") as film:
        for shade in range(4):
            film.write(np.full((48, 64, 3), 60 * shade, np.uint8))
    return [
        Writer("checkpoint", lambda folder: _train(folder, 1), lambda folder: _train(folder, 2), _trained),
        Writer("prepared video", lambda folder: None, lambda folder: _prepare(folder, clip), _prepared),
        Writer("kitchen", lambda folder: None, _film, _filmed),
        Writer("results", lambda folder: _save(folder, "before"), lambda folder: _save(folder, "after"), _saved),
        Writer("timings", lambda folder: _time(folder, "data"), lambda folder: _time(folder, "train"), _timed),
    ]


def _networks() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Linear(64, 64)
    return network, torch.optim.Adam(network.parameters())


def _train(folder: Path, epochs: int) -> None:
    """Commit a checkpoint after each epoch that is missing."""
    network, optimizer = _networks()
    done = checkpoints.restore(Unit(folder / "network", "inputs"), network, optimizer)
    for epoch in range(done.epochs, epochs):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)  # autograd's threads would not survive a fork
        optimizer.step()
        losses = tuple(map(float, range(epoch + 1)))
        history = checkpoints.History(loss=losses, measure=losses)
        checkpoints.save(Unit(folder / "network", "inputs"), network, optimizer, history)


def _trained(folder: Path) -> State:
    network, optimizer = _networks()
    history = checkpoints.restore(Unit(folder / "network", "inputs"), network, optimizer)
    weights = network.state_dict()["weight"].sum().item()
    return {"checkpoint": (history.loss, weights)} if history.epochs else {}


def _prepare(folder: Path, clip: Path) -> None:
    preparation.prepare_video(clip, PRESETS["smoke"].data, Unit(folder / "clip", "inputs"))


def _prepared(folder: Path) -> State:
    unit = Unit(folder / "clip", "inputs")
    return {"cache": (unit.facts, _files(unit.folder, "*"))} if unit.done else {}


def _film(folder: Path) -> None:
    kitchen.make_kitchen(folder, KitchenSize(classes=1, clips=1, frames=4), seed=0)


def _filmed(folder: Path) -> State:
    return {**_files(folder, "*"), **_files(folder, "videos/*")}


def _save(folder: Path, command: str) -> None:
    record = results.Results.load(docs_record.FOLDER / "kitchen")
    replace(record, command=command).save(folder)


def _saved(folder: Path) -> State:
    return {"command": results.Results.load(folder).command}


def _time(folder: Path, stage: str) -> None:
    with provenance.Timings(folder / "timings.json", "job").stage(stage):
        pass


def _timed(folder: Path) -> State:
    return {"stages": [row.stage for row in provenance.Timings(folder / "timings.json", "job").rows()]}


def _files(folder: Path, pattern: str) -> dict[str, str]:
    """Return the digests of visible files."""
    found = (path for path in sorted(folder.glob(pattern)) if path.is_file() and not path.name.startswith("."))
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in found}
