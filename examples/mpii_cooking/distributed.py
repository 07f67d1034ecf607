"""Several processes as one: what ``torchrun`` starts shares the work, and a process of its own does all of it.

A rank computes its share of a stage's items, or of a step's sub-batches, and what comes out goes to all ranks. So all
of them decide alike on the same numbers, and one that fails takes the others along.
"""

from __future__ import annotations

import builtins
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

LONGEST_WAIT = timedelta(days=30)
"""How long a rank waits for the others: one may still be preparing videos when another has none left."""
ORPHAN_CHECK_SECONDS = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")

_alone = False


class ElsewhereError(RuntimeError):
    """Another rank has failed, and says why."""


@contextmanager
def joined() -> Iterator[None]:
    """Work with the other processes that ``torchrun`` started, within the block; without ``torchrun``, alone."""
    if not dist.is_torchelastic_launched():
        yield
        return
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if device().type == "cuda":
        torch.cuda.set_device(device())
    # Gradients travel from GPU to GPU; results, which are Python's objects, through gloo.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device().type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    yield
    dist.destroy_process_group()


def device() -> torch.device:
    """Return the GPU of this rank, or the CPU where there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def rank() -> int:
    """Return the number of this process, 0 if it works alone."""
    return dist.get_rank() if _together() else 0


def world() -> int:
    """Return how many processes share the work."""
    return dist.get_world_size() if _together() else 1


def is_main() -> bool:
    """Whether this is the process that prints, and writes what is not a share."""
    return rank() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's part of ``items``, the same on every rank: every ``world()``-th."""
    return items[rank() :: world()]


def map(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    desc: str | None = None,
    unit: str = "it",
    using: Callable[[Callable[[Item], Result], Iterable[Item]], Iterable[Result]] = builtins.map,
) -> list[Result]:
    """Return ``work(item)`` for all items, in their order, on every rank; each was done by one of them.

    Args:
        work: its results must be picklable if several ranks work together, and should be small.
        items: the same on every rank.
        desc: what the progress bar of rank 0 says; there is none without it.
        unit: of the progress bar.
        using: how a rank goes through its share.

    Raises:
        ElsewhereError: if ``work`` raised an exception on another rank; where it was raised, it is raised again.
    """
    mine = tqdm(share(items), desc=desc, unit=unit, leave=False, disable=desc is None or not is_main())
    parts = _exchanged(lambda: list(using(work, mine)))
    return [parts[i % world()][i // world()] for i in range(len(items))]


def once(work: Callable[[], Result]) -> Result:
    """Return ``work()`` on every rank, done by rank 0; inside, rank 0 works alone, so nothing there waits for others.

    Raises:
        ElsewhereError: on the other ranks, if ``work`` raised an exception; on rank 0 it is raised again.
    """
    return _exchanged(lambda: _done_alone(work) if is_main() else None)[0]


def barrier() -> None:
    """Wait until every rank is here."""
    _exchanged(lambda: None)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over the ranks."""
    if _together():
        for sent in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
            sent.wait()


def _together() -> bool:
    return dist.is_initialized() and not _alone


def _done_alone(work: Callable[[], Result]) -> Result:
    global _alone
    before, _alone = _alone, True
    try:
        return work()
    finally:
        _alone = before


def _exchanged(work: Callable[[], Result]) -> list[Result]:
    """Return every rank's result."""
    if not _together():
        return [work()]
    failure = result = None
    try:
        result = work()
    except Exception as error:
        failure = error
    everyone: list[tuple[Result, str | None]] = [None] * world()
    dist.all_gather_object(everyone, (result, failure and repr(failure)))
    if failure is not None:
        raise failure
    for number, (_, problem) in enumerate(everyone):
        if problem is not None:
            raise ElsewhereError(f"rank {number} failed: {problem}")
    return [result for result, _ in everyone]


def _end_with(parent: int) -> None:
    """End this process when ``parent`` was killed: it must not write into what the next start reads."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_SECONDS)
    os._exit(1)
