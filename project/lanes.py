"""Lanes: how many requests run Django's Python at once, so that ``/api`` keeps its latency while people use ``/admin``.

Threads share one interpreter: two busy Django requests finish no sooner side by side than one after the other, but
together they take the interpreter from the API's event loop for longer. A request holds its lane's slot only while it
runs Python: it steps aside while the database works, and holds none while a body is read or sent.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.db import connections

SWITCH_INTERVAL_S = 0.001
"""How long a busy Django thread keeps the interpreter while the API's event loop asks for it: Python's own 5 ms cost
the API most of its latency, half a millisecond cost more in switching than it gave (docs/decisions/0005-lanes.md)."""


class DjangoBusy(Exception):
    """Too many requests wait for Django, or this one has waited too long."""


class Lane:
    """``slots`` threads run at once; at most ``queue`` requests wait to begin, each for at most ``wait_s`` seconds."""

    def __init__(self, *, slots: int, queue: int, wait_s: float) -> None:
        self.queue = queue
        self.wait_s = wait_s
        self._lock = threading.Lock()
        self._free = slots
        self._begun: deque[threading.Event] = deque()
        self._new: deque[threading.Event] = deque()

    def begin(self) -> None:
        """Take a slot for a new request.

        Raises:
            DjangoBusy: the queue is full, or none came free in time.
        """
        if len(self._new) >= self.queue or not self._take(self._new, self.wait_s):
            raise DjangoBusy

    def resume(self) -> None:
        """Take a slot again, before any new request, so that what has begun is finished first."""
        self._take(self._begun, None)

    def leave(self) -> None:
        """Give the slot to whoever is next."""
        with self._lock:
            if waiting := self._begun or self._new:
                waiting.popleft().set()
            else:
                self._free += 1

    def _take(self, waiting: deque[threading.Event], timeout_s: float | None) -> bool:
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            turn = threading.Event()
            waiting.append(turn)
        if turn.wait(timeout_s):
            return True
        with self._lock:
            if turn.is_set():  # It came in the last moment.
                return True
            waiting.remove(turn)
            return False

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """While this lasts, this thread's statements give up its slot until the database has answered."""

        def wait_for_the_database[**P, T](execute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            self.leave()
            try:
                return execute(*args, **kwargs)
            finally:
                self.resume()

        with ExitStack() as stack:
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(wait_for_the_database))
            yield
