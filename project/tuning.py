"""How the interpreter and its threads are set up to serve, each setting with its reason."""

import gc
import os
import sys

from project.config import config

SWITCH_INTERVAL_S = 0.00005
"""How long a busy Django thread keeps the interpreter while the API's event loop asks for it, as it does two or three
times in a request: Python's own 5 ms cost the API most of its latency (docs/decisions/0005-lanes.md)."""


def tune_interpreter() -> None:
    """Hand over quickly between threads, and never search what start-up made for garbage: it stays."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.freeze()


def make_way() -> None:
    """Have the kernel prefer the event loop to the calling thread. Only Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.nice(config.django_niceness)


def forgo_credit() -> None:
    """Give up the processor time that the kernel owes the calling thread for having waited.

    It would be paid at once, for up to a tick of 4 ms, in which the event loop may wake and is not even considered.
    Linux forgets it at a yield (6.12.63 and other kernels since the end of 2025); before, a yield changes little.
    """
    if sys.platform == "linux":
        os.sched_yield()
