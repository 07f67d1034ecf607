"""What Ctrl-C, SIGTERM and the end of a parent do. What was finished stays, so the same command resumes.

Ctrl-C ends a run at once. SIGTERM gives training the time to finish its step and to save it.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_TO_ANSWER = 1.0  # of a worker, to send what it has found

_is_training = False
_has_sigterm = False
_ended_by: int | None = None  # the signal that ends the run at once


class Stopped(BaseException):
    """SIGTERM has come, and training is saved."""


def exit_code(number: int) -> int:
    """Return with what code a process ends after a signal, as shells report it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + number


def end(number: int, _: object) -> None:
    """Say that the run is stopped, and end this process; a handler of signals."""
    _say_stopped()
    os._exit(exit_code(number))


@contextmanager
def finishing_steps() -> Iterator[None]:
    """Leave it to the training inside to end after SIGTERM, which it sees in ``has_sigterm`` after every step."""
    global _is_training
    _is_training = True
    try:
        yield
        check()
    finally:
        _is_training = False


def end_with_parent(parent: int | None = None) -> None:
    """End this process when its parent was killed: it must not write into what the next start reads, nor stay.

    ``parent`` is its process ID. Pass it if it is known, since the parent may be killed before this is called.
    """
    starter = multiprocessing.parent_process()
    known = parent or (os.getppid() if starter is None else starter.pid)

    def watch() -> None:
        if os.name == "nt":  # where the number of the parent stays
            if starter is not None:
                starter.join()
                os._exit(1)
            return
        while os.getppid() == known:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def has_sigterm() -> bool:
    """Whether SIGTERM has come."""
    return _has_sigterm


def check() -> None:
    """Raise Stopped if SIGTERM has come."""
    if _has_sigterm:
        raise Stopped


def note_sigterm(*_: object) -> None:
    """Remember that SIGTERM has come; its handler in a process that does nothing but train."""
    global _has_sigterm
    _has_sigterm = True


@contextmanager
def working_for_another() -> Iterator[None]:
    """Let a worker finish its step after SIGTERM, and end soon after. Without work, SIGTERM ends it at once.

    It must not wait for more work: a worker that was killed may hold the lock of the queue from which it would come.
    """
    before = signal.signal(signal.SIGTERM, note_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if _has_sigterm:
            threading.Timer(_SECONDS_TO_ANSWER, os._exit, [exit_code(signal.SIGTERM)]).start()


def stoppable(work: Callable[[], object]) -> None:
    """Run ``work`` so that Ctrl-C and SIGTERM print one line and end this process and its children.

    Only atomic renames make results visible, so it does no harm to end any process at any moment.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)
    try:
        work()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # nothing is left to stop, and Python's end has no handlers
    except Stopped:
        _say_stopped()
        _leave(signal.SIGTERM)
    except BaseException:  # KeyboardInterrupt, or an error caused by a killed child
        if _ended_by is None:
            raise
    if _ended_by is not None:
        _leave(_ended_by)


def _handle(number: int, _: object) -> None:
    global _ended_by
    if multiprocessing.parent_process() is not None:
        if number == signal.SIGTERM:
            os._exit(exit_code(number))
        return  # Ctrl-C reaches all processes, and the parent of this one handles it
    if number == signal.SIGTERM and _is_training:
        note_sigterm()
        for child in multiprocessing.active_children():
            child.terminate()  # a worker finishes its step, too
        return
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    _ended_by = number
    _say_stopped()
    children = multiprocessing.active_children()
    if not children:
        os._exit(exit_code(number))
    for child in children:
        child.kill()
    # What was shared with the children is released on the way out, within a second.
    threading.Timer(1.0, os._exit, [exit_code(number)]).start()
    raise KeyboardInterrupt


def _leave(number: int) -> None:
    gc.collect()  # frees the semaphores of process pools, which would outlive this process
    os._exit(exit_code(number))


def _say_stopped() -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(sys.stderr.fileno(), b"\nstopped; the same command goes on from here\n")  # print could deadlock
