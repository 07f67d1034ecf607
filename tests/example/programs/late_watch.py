"""Kill the process while one that it started is not yet watching it."""

import multiprocessing
import os
import signal
import time

from examples.mpii_cooking.interrupts import end_with_parent


def watch_late():
    os.kill(os.getppid(), signal.SIGKILL)
    multiprocessing.parent_process().join()
    end_with_parent()
    time.sleep(60)


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=watch_late)
    process.start()
    process.join()
