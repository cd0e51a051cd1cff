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


class DjangoBusy(Exception):
    """Too many requests wait for Django, or this one has waited too long."""


class Lane:
    """Runs ``slots`` requests at once, of at most ``places`` that have begun; ``queue`` more may wait to begin.

    ``places`` is no more than the connections there are for them: a request that held a slot while it waited for a
    connection, whose holder waited for a slot, would wait for ever.
    """

    def __init__(self, *, slots: int, places: int, queue: int, wait_s: float) -> None:
        self.queue = queue
        self.wait_s = wait_s
        self._lock = threading.Lock()
        self._slots = slots
        self._places = places
        self._begun: deque[threading.Event] = deque()
        self._new: deque[threading.Event] = deque()

    def begin(self) -> None:
        """Take a place and a slot for a new request.

        Raises:
            DjangoBusy: the queue is full, or ``wait_s`` seconds have passed.
        """
        with self._lock:
            if len(self._new) >= self.queue and not (self._slots and self._places):
                raise DjangoBusy
            turn = threading.Event()
            self._new.append(turn)
            self._call_next()
        if turn.wait(self.wait_s):
            return
        with self._lock:
            if not turn.is_set():  # It may have come in the last moment.
                self._new.remove(turn)
                raise DjangoBusy

    def step_aside(self) -> None:
        """Give up the slot for a while."""
        with self._lock:
            self._slots += 1
            self._call_next()

    def resume(self) -> None:
        """Take a slot again, before any new request, so that what has begun is finished first."""
        with self._lock:
            turn = threading.Event()
            self._begun.append(turn)
            self._call_next()
        turn.wait()

    def end(self) -> None:
        """Give up the place of a request that has given its connection back."""
        with self._lock:
            self._places += 1
            self._call_next()

    def _call_next(self) -> None:
        while self._slots and self._begun:
            self._slots -= 1
            self._begun.popleft().set()
        while self._slots and self._places and self._new:
            self._slots -= 1
            self._places -= 1
            self._new.popleft().set()

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """While this lasts, this thread's statements give up its slot until the database has answered."""

        def wait_for_the_database[**P, T](execute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
            self.step_aside()
            try:
                return execute(*args, **kwargs)
            finally:
                self.resume()

        with ExitStack() as stack:
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(wait_for_the_database))
            yield
