"""raw without the pool, which takes a connection back between two statements: here, as in the product, it is passed on.

Nobody's documentation has it so. It is the limit of what Starlette and asyncpg can do.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from benchmarks.peers.common import DATABASE_URL, POOL_SIZE
from benchmarks.peers.raw import create_app


class Handed:
    """Some connections, each handed to who has waited longest."""

    def __init__(self, connections: Iterable["asyncpg.Connection[asyncpg.Record]"]) -> None:
        self._free = list(connections)
        self._line: deque[asyncio.Future[asyncpg.Connection[asyncpg.Record]]] = deque()

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        connection = self._free.pop() if self._free else await self._wait()
        try:
            return await connection.fetch(statement, *arguments)
        finally:
            self._hand_on(connection)

    async def _wait(self) -> "asyncpg.Connection[asyncpg.Record]":
        waiter: asyncio.Future[asyncpg.Connection[asyncpg.Record]] = asyncio.get_running_loop().create_future()
        self._line.append(waiter)
        return await waiter

    def _hand_on(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():  # Its client has gone.
                waiter.set_result(connection)
                return
        self._free.append(connection)


@asynccontextmanager
async def open_handed() -> AsyncIterator[Handed]:
    async with AsyncExitStack() as stack:
        connections: list[asyncpg.Connection[asyncpg.Record]] = []
        for _ in range(POOL_SIZE):
            connections.append(await asyncpg.connect(DATABASE_URL))
            stack.push_async_callback(connections[-1].close)
        yield Handed(connections)


app = create_app(open_handed)
