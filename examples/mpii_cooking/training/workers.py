"""Train several runs at a time, each in a process of its own, which ends with the process that started it."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mpii_cooking import interrupts
from examples.mpii_cooking.formats import show_messages
from examples.mpii_cooking.storage import ASIDE, DamagedError, written_aside
from examples.mpii_cooking.training.experiment import Experiment
from examples.mpii_cooking.training.progress import SHOWN_EVERY, Progress
from examples.mpii_cooking.training.runs import Run
from examples.mpii_cooking.training.train import train

Job = tuple[int, Run]  # the experiment, by its index, and the run


class WorkerLostError(RuntimeError):
    """A process that trained was killed."""


def train_in_processes(
    experiments: Sequence[Experiment],
    todo: list[Job],
    processes: int,
    progress: Progress,
    places: Mapping[Job, int],
) -> None:
    """Train ``todo`` in processes of their own. A run starts as soon as those that it starts from are finished."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[None], Job] = {}
    with (
        _shared_files(experiments, len(places)) as files,
        ProcessPoolExecutor(processes, context, _start_worker) as pool,
        _ending_together(),
    ):
        noted = _noted(files.noted)
        while todo or running:
            interrupts.check()
            unfinished = {*todo, *running.values()}
            ready = [
                (index, run)
                for index, run in todo
                if unfinished.isdisjoint((index, origin) for origin in run.origins().values())
            ]
            for job in ready[: processes - len(running)]:
                todo.remove(job)
                progress.start(places[job])
                # Submitting starts the workers, which then ignore Ctrl-C too: this process handles it.
                handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
                running[pool.submit(_train_in_worker, files, *job, places[job])] = job
                signal.signal(signal.SIGINT, handler)
            ended = wait(running, timeout=SHOWN_EVERY, return_when=FIRST_COMPLETED).done
            for job in running.values():
                if noted[places[job]].any():
                    progress.note(places[job], *noted[places[job]].tolist())
            for future in ended:
                job = running.pop(future)
                future.result()
                progress.finish(places[job])


class _Files(NamedTuple):
    """What the main process and its workers share."""

    experiments: Path
    digest: str  # of the experiments: others may write to the output folder, too
    noted: Path  # how far each run is: epochs and seconds, two float64


@contextmanager
def _shared_files(experiments: Sequence[Experiment], runs: int) -> Iterator[_Files]:
    """Yield the files from which workers read the experiments, and in which they note how far they are.

    What a process is started with comes through a pipe, of which its parent holds both ends. If that is more than a
    pipe holds, the parent waits until the process reads it, and forever if the process is killed before.

    The files are in the output folder, where the next start removes what a killed one leaves.
    """
    folder = experiments[0].workspace.root
    read, noted = (folder / f"{ASIDE}{os.getpid()}-{name}" for name in ("experiments", "noted"))
    pickled = pickle.dumps(experiments)
    try:
        for path, content in ((read, pickled), (noted, bytes(16 * runs))):
            with written_aside(path) as aside:
                aside.write_bytes(content)
        yield _Files(read, hashlib.sha256(pickled).hexdigest(), noted)
    finally:
        for path in (read, noted):
            with suppress(OSError):  # the next start removes it
                path.unlink(missing_ok=True)


def _noted(path: Path) -> NDArray[np.float64]:
    """Return what is noted of all runs, as memory that processes share: unlike a queue, it survives any kill."""
    return np.memmap(path, np.float64).reshape(-1, 2)


@contextmanager
def _ending_together() -> Iterator[None]:
    """When one worker process has failed, let the others finish their steps and save them."""
    try:
        yield
    except BaseException as error:
        for worker in multiprocessing.active_children():
            worker.terminate()
        if isinstance(error, BrokenProcessPool):
            interrupts.check()  # SIGTERM may have come to a worker that was just starting
            raise WorkerLostError(
                "a process that trains was killed, perhaps because memory ran out; the same command goes on from its "
                "last checkpoint"
            ) from error
        raise


def _start_worker() -> None:
    """Prepare a process to train runs, one after another."""
    tqdm.set_lock(threading.RLock())  # tqdm's default lock has a semaphore that would outlive a killed worker
    show_messages()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # while there is no work
    interrupts.end_with_parent()


@cache
def _read(files: _Files) -> tuple[Sequence[Experiment], NDArray[np.float64]]:
    """Return the experiments and what is noted. All runs of a process have the same, and so the same decoded frames."""
    pickled = files.experiments.read_bytes()
    if hashlib.sha256(pickled).hexdigest() != files.digest:
        raise DamagedError(f"{files.experiments} was changed since it was written: start again")
    experiments: Sequence[Experiment] = pickle.loads(pickled)
    torch.set_num_threads(experiments[0].preset.training.threads or torch.get_num_threads())
    return experiments, _noted(files.noted)


def _train_in_worker(files: _Files, index: int, run: Run, place: int) -> None:
    with interrupts.working_for_another():
        experiments, noted = _read(files)

        def note(epochs: float, seconds: float) -> None:
            noted[place] = epochs, seconds

        train(experiments[index], run, note)
