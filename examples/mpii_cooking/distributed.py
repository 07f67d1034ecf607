"""Share the work between the processes that ``torchrun`` starts. A single process does all of it.

Every rank computes its part of a stage's items, or of a step's sub-batches, and all ranks get all results. So all ranks
take the same decisions from the same numbers. When one rank fails or is killed, all of them stop.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous
from tqdm import tqdm

from examples.mpii_cooking import interrupts

FIRST_CONTACT = timedelta(seconds=30)  # with torchrun, which listens before it starts any rank
LONGEST_WAIT = timedelta(days=30)  # for the other ranks: one may still prepare videos when another has none left

Item = TypeVar("Item")
Result = TypeVar("Result")


_is_exchanging = False  # whether this process is inside a function that all ranks must call


class OtherRankFailed(RuntimeError):  # noqa: N818 - it says what happened
    """Another rank has failed, and prints the reason, or was killed, which ``torchrun`` reports."""


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that ``torchrun`` started; without ``torchrun``, work alone."""
    if not dist.is_torchelastic_launched():
        yield
        return
    interrupts.end_with_parent()
    if device().type == "cuda":
        torch.cuda.set_device(device())
    # Gradients travel from GPU to GPU, results, which are Python objects, through gloo.
    backend = "cpu:gloo,cuda:nccl" if device().type == "cuda" else "gloo"
    try:
        store, number, ranks = next(rendezvous("env://", timeout=FIRST_CONTACT))
    except dist.DistError as error:
        raise OtherRankFailed(f"torchrun cannot be reached; perhaps it was killed: {error}") from error
    store.set_timeout(LONGEST_WAIT)
    dist.init_process_group(backend, store=store, rank=number, world_size=ranks, timeout=LONGEST_WAIT)
    yield
    dist.destroy_process_group()


def device() -> torch.device:
    """Return the GPU of this rank, or the CPU if there is no GPU."""
    gpu = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return gpu if torch.cuda.is_available() else torch.device("cpu")


def rank() -> int:
    """Return the number of this process, 0 if it works alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return how many processes share the work."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process prints, and writes what ranks do not share."""
    return rank() == 0


def share(items: Sequence[Item]) -> Sequence[Item]:
    """Return this rank's part of ``items``, the same on every rank: every ``world()``-th."""
    return items[rank() :: world()]


def shared_map(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    desc: str | None = None,
    unit: str = "it",
    using: Callable[[Callable[[Item], Result], Iterable[Item]], Iterable[Result]] = map,
) -> list[Result]:
    """Return ``work(item)`` for all items, which are the same on every rank, in their order. One rank computes each.

    All ranks must call it. ``work`` must not call a function of this module that all ranks must call: it would wait
    forever, and is refused. Its results must be picklable and small. If it raises an exception, the other ranks raise
    ``OtherRankFailed``. ``using`` says how a rank goes through its items; ``desc`` and ``unit`` are for the progress
    bar of rank 0.
    """
    mine = tqdm(share(items), desc=desc, unit=unit, leave=False, disable=desc is None or not is_main())
    parts = _exchanged(lambda: list(using(work, mine)))
    return [parts[i % world()][i // world()] for i in range(len(items))]


def once(work: Callable[[], Result]) -> Result:
    """Return ``work()`` on every rank. Rank 0 computes it, and the others wait, as in ``shared_map``."""
    return _exchanged(lambda: [work()] if is_main() else [])[0][0]


def barrier() -> None:
    """Wait until every rank is here."""
    _exchanged(lambda: None)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor, in place, by its sum over the ranks. All ranks must call it."""
    with _never_nested():
        if not dist.is_initialized():
            return
        try:
            for sent in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                sent.wait()
        except RuntimeError as error:
            raise _lost(error) from error


def _exchanged(work: Callable[[], Result]) -> list[Result]:
    """Return every rank's result."""
    result: list[Result] = []
    failure: Exception | None = None
    with _never_nested():
        try:
            result.append(work())
        except Exception as error:
            failure = error
        everyone = [(result, "" if failure is None else repr(failure))] * world()
        if dist.is_initialized():
            try:
                dist.all_gather_object(everyone, everyone[rank()])
            except RuntimeError as error:
                failure = failure or _lost(error)
    if failure is not None:
        raise failure
    for number, (_, problem) in enumerate(everyone):
        if problem:
            raise OtherRankFailed(f"rank {number} failed: {problem}")
    return [found for results, _ in everyone for found in results]


@contextmanager
def _never_nested() -> Iterator[None]:
    global _is_exchanging
    if _is_exchanging:
        raise RuntimeError(
            "shared_map, once, barrier and add_up must not be called by the work of one of them: not all ranks do that "
            "work, so they would wait for each other forever"
        )
    _is_exchanging = True
    try:
        yield
    finally:
        _is_exchanging = False


def _lost(error: RuntimeError) -> OtherRankFailed:
    """Return what it means that ranks cannot exchange results: one of them is gone, and its connections are closed."""
    return OtherRankFailed(f"rank {rank()} cannot reach the others: {error}")
