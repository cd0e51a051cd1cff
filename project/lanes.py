"""Lanes: how many requests run Django's Python at once, so that ``/api`` keeps its latency while people use ``/admin``.

Threads share one interpreter: two busy Django requests finish no sooner side by side than one after the other, but
together they take the interpreter from the API's event loop for longer. A request holds its lane's slot only while it
runs Python: it steps aside while the database works, and holds none while a body is read or sent.

Whoever waits for the database must not have a slot, however it waits: the holder of the lock that it waits for may need
that slot to go on. Django shows statements to an ``execute_wrapper``, and that is all that waits on SQLite, where a
COMMIT has its lock already. ``project.postgresql`` sees to the rest.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from django.db import connections

from project.tuning import forgo_credit


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
        self._back: deque[threading.Event] = deque()
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
            forgo_credit()
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
        self._wait_in(self._begun)

    def come_back(self) -> None:
        """Take a place and a slot again after ``end``, before any new request and however long that takes."""
        self._wait_in(self._back)

    def _wait_in(self, line: deque[threading.Event]) -> None:
        with self._lock:
            turn = threading.Event()
            line.append(turn)
            self._call_next()
        turn.wait()
        forgo_credit()

    def end(self) -> None:
        """Give up the place of a request that has given its connection back."""
        with self._lock:
            self._places += 1
            self._call_next()

    def _call_next(self) -> None:
        while self._slots and self._begun:
            self._slots -= 1
            self._begun.popleft().set()
        while self._slots and self._places and (line := self._back or self._new):
            self._slots -= 1
            self._places -= 1
            line.popleft().set()

    @contextmanager
    def stepping_aside(self) -> Iterator[None]:
        """While this lasts, this thread gives up the slot that it has whenever it waits for the database."""
        with ExitStack() as stack:
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(_execute_aside))
            _this_thread.lane = self
            try:
                yield
            finally:
                _this_thread.lane = None


class _ThisThread(threading.local):
    lane: Lane | None = None
    """Where this thread has a slot."""


_this_thread = _ThisThread()


@contextmanager
def aside() -> Iterator[None]:
    """While this lasts, the calling thread has no slot, if it had one. Within another one this does nothing."""
    lane, _this_thread.lane = _this_thread.lane, None
    if lane is None:
        yield
        return
    lane.step_aside()
    try:
        yield
    finally:
        lane.resume()
        _this_thread.lane = lane


def _execute_aside[**P, T](execute: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with aside():
        return execute(*args, **kwargs)
