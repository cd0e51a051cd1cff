"""The connections that a server holds: how many at most, and how long each may wait for its client.

It imports nothing of the project before a server runs, because uvicorn imports the protocol class before the app.
"""

import asyncio
import logging
import sys
from typing import ClassVar, Protocol, Self
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

logger = logging.getLogger(__name__)

MOST_BY_DEFAULT = 10_000
"""Connections. A silent one takes about 10 kB, so that memory is the bound where files are not."""


class Connection(Protocol):
    """A connection, as its server sees it."""

    def waits_for_client(self) -> bool:
        """Returns whether the next step is the client's: to send a request, or to read a response."""

    def awaited(self) -> object | None:
        """Returns what the client has to send before long, if anything: the same object for as long as it has not."""

    def give_up(self) -> None:
        """Closes the connection, because it has not come."""

    def abort(self) -> None:
        """Closes the connection at once."""


class Connections:
    """The connections of one server, ordered by the time when their last request began.

    A full server aborts the connection that has waited for its client since the oldest request. So one client that
    opens connections in numbers loses its own, and a new client gets in. A limit for each address would not do: behind
    a proxy all clients have the same one, and an IPv6 client has as many as it likes.
    """

    TICK_S: ClassVar = 1.0
    _of_servers: ClassVar[WeakKeyDictionary[ServerState, Self]] = WeakKeyDictionary()

    def __init__(self, server: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        from project.config import config  # noqa: PLC0415  The app is imported after the protocol class.

        self._header_timeout_s = config.header_timeout_s
        self.client_read_timeout_s = config.client_read_timeout_s
        self._limit = config.max_connections or most_connections()
        self._loop = loop
        self._all = server.connections
        """Websockets too, which are not held here: uvicorn pings them."""
        self._held: dict[Connection, None] = {}
        self._awaited: dict[Connection, tuple[object, float]] = {}
        """What was awaited at the last tick, and since when."""
        self._is_ticking = False
        self._aborted = 0

    @classmethod
    def of(cls, server: ServerState, loop: asyncio.AbstractEventLoop) -> Self:
        """Returns the connections of this server."""
        if server not in cls._of_servers:
            cls._of_servers[server] = cls(server, loop)
        return cls._of_servers[server]

    def admit(self, connection: Connection) -> bool:
        """Holds a new connection, in place of another if the server is full; returns whether there is room."""
        has_room = len(self._all) <= self._limit or self._abort_oldest()
        self._held[connection] = None
        if not self._is_ticking:
            self._expect_tick()
        return has_room

    def renew(self, connection: Connection) -> None:
        """Notes that a request begins."""
        del self._held[connection]
        self._held[connection] = None

    def discard(self, connection: Connection) -> None:
        self._held.pop(connection, None)

    def _abort_oldest(self) -> bool:
        oldest = next((connection for connection in self._held if connection.waits_for_client()), None)
        if oldest is None:
            return False
        self.discard(oldest)
        oldest.abort()
        self._aborted += 1
        return True

    def _expect_tick(self) -> None:
        self._is_ticking = True
        self._loop.call_later(self.TICK_S, self._tick)

    def _tick(self) -> None:
        self._is_ticking = False
        if self._held:
            self._expect_tick()
        if self._aborted:
            logger.warning(
                "%d connections that waited for their clients were closed: MAX_CONNECTIONS, %d here, are held",
                self._aborted,
                self._limit,
            )
            self._aborted = 0
        self._give_up_late()

    def _give_up_late(self) -> None:
        """Closes those that have waited for the same thing for too long, and notes since when the others wait."""
        now, before = self._loop.time(), self._awaited
        self._awaited = {}
        for connection in list(self._held):
            awaited = connection.awaited()
            if awaited is None:
                continue
            thing, since = before.get(connection, (None, now))
            if thing is not awaited:
                since = now
            self._awaited[connection] = awaited, since
            if now - since >= self._header_timeout_s:
                connection.give_up()


def most_connections() -> int:
    """Returns half of the files that the process may open: databases, and the files that it serves, need some too."""
    if sys.platform == "win32":
        return MOST_BY_DEFAULT
    import resource  # noqa: PLC0415  Windows has none.

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_BY_DEFAULT if files == resource.RLIM_INFINITY else min(MOST_BY_DEFAULT, max(files // 2, 1))
