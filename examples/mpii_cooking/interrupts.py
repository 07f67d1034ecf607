"""Ctrl-C ends a run at once. What was finished stays, so the same command resumes."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

EXIT_CODE = 130  # 128 + SIGINT, as shells report it


def end(*_: object) -> None:
    """Say that the run is stopped, and end this process; a handler of SIGINT."""
    _say_stopped()
    os._exit(EXIT_CODE)


def _say_stopped() -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(sys.stderr.fileno(), b"\nstopped; the same command goes on from here\n")  # print could deadlock


def stoppable(work: Callable[[], object]) -> None:
    """Run ``work`` so that Ctrl-C prints one line and ends this process and its children with ``EXIT_CODE``.

    Only atomic renames make results visible, so it does no harm to end any process at any moment.
    """
    is_stopped = threading.Event()

    def stop(*_: object) -> None:
        if multiprocessing.parent_process() is not None:  # a forked child: its parent handles the signal
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        is_stopped.set()
        _say_stopped()
        children = multiprocessing.active_children()
        if not children:
            os._exit(EXIT_CODE)
        for child in children:
            child.kill()
        # What was shared with the children is released on the way out, within a second.
        threading.Timer(1.0, os._exit, [EXIT_CODE]).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        work()
    except BaseException:  # KeyboardInterrupt, or an error caused by a killed child
        if not is_stopped.is_set():
            raise
    if is_stopped.is_set():
        gc.collect()  # frees the semaphores of process pools, which would outlive this process
        os._exit(EXIT_CODE)
