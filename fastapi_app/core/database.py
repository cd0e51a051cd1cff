"""The database as the API uses it.

Repositories hold ``Statement``s and run them on a ``Database``: one statement is one round trip, and atomic by itself.
Several that belong together run in a ``transaction``, which is undone unless the service commits it::

    async with self._database.transaction() as transaction:
        await Orders(transaction).add(...)
        await Stock(transaction).take(...)
        await transaction.commit()

For graphs of objects there is SQLAlchemy's own ``AsyncSession``, one for a request. All draw on one pool.
"""

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Annotated, Any, Self

import asyncpg
from fastapi import Depends
from sqlalchemy import CheckConstraint, Index, NullPool, UniqueConstraint, event, literal, make_url, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    AsyncTransaction,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import PoolResetState
from starlette.requests import Request

from fastapi_app.core.errors import DATABASE_UNAVAILABLE, Unavailable
from fastapi_app.core.requests import resources_of
from fastapi_app.core.statements import Row, Statement
from project.config import Config, StartupError

logger = logging.getLogger(__name__)

type Connection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

INTEGRITY_ERRORS = (IntegrityError, asyncpg.IntegrityConstraintViolationError)
"""What a refused row raises; ``violates`` tells which constraint refused it."""

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)
"""What asyncpg raises on a connection that has ended; the third while it is still hearing of that."""

NOT_ANSWERED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What asyncpg raises when the server refuses, has gone, or (TimeoutError, an OSError) takes too long."""

PING = Statement(select(literal(1).label("one")))


class Executor(ABC):
    """What runs statements: the database itself, or a transaction on it."""

    @abstractmethod
    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        """The rows that the statement returns.

        Raises:
            IntegrityError, asyncpg.IntegrityConstraintViolationError: a constraint refused a row.
            Unavailable: no connection came free in time, or the database does not answer.
        """

    async def fetch_one(self, statement: Statement, /, **values: Any) -> Row | None:
        """The first row that the statement returns, or None. Raises what ``fetch_all`` raises."""
        rows = await self.fetch_all(statement, **values)
        return rows[0] if rows else None

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager["Transaction"]:
        """A transaction, rolled back at the end unless it was committed.

        Inside it run nothing on the database itself: that would take a second connection while holding the first.
        In a transaction this is a savepoint: undone alone, but true only once that transaction is committed too.
        """


class Transaction(Executor):
    """Statements that become true together, by ``commit``, or not at all."""

    @abstractmethod
    async def commit(self) -> None:
        """Make it true. Raises what ``fetch_all`` raises.

        Deferred constraints are checked now; within another transaction, by that one's commit.
        """


async def _fetch_alone(executor: Executor, statement: Statement, values: dict[str, Any]) -> list[Row]:
    """Run a statement in a transaction, or a savepoint, of its own."""
    async with executor.transaction() as alone:
        rows = await alone.fetch_all(statement, **values)
        await alone.commit()
    return rows


class Joined(Executor):
    """A transaction in place of the database: what is run on it comes out as it would there.

    A refused row undoes its own statement and no more, and a block without a commit is undone, but all of it becomes
    true with the transaction only. A write costs two round trips more than there; a read none, so one that fails ends
    the transaction on PostgreSQL.
    """

    def __init__(self, outer: Transaction) -> None:
        self._outer = outer

    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        if statement.is_read:
            return await self._outer.fetch_all(statement, **values)
        return await _fetch_alone(self._outer, statement, values)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._outer.transaction()


class Database(Executor):
    """The process's database; safe to use from many tasks at once."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def ping(self) -> None:
        """Have the database answer. Raises what ``fetch_all`` raises when it does not."""
        await self.fetch_all(PING)


# PostgreSQL: asyncpg's pool


class _BoundedTransaction:
    """asyncpg's transaction, or within one a savepoint, but its rollback ends even if the server never answers."""

    def __init__(self, connection: Connection, wait_s: float, **options: Any) -> None:
        self._connection = connection
        self._wait_s = wait_s
        self._transaction = connection.transaction(**options)
        self.start, self.commit = self._transaction.start, self._transaction.commit

    async def rollback(self) -> None:
        """Undo it; if that fails, or takes longer than ``wait_s``, close the connection, which undoes it too."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._transaction.rollback()
        except NOT_ANSWERED as error:
            logger.warning("closed a connection to the database that did not roll back: %r", error)
            _terminate(self._connection)


class _PostgreSQLTransaction(Transaction):
    def __init__(self, connection: Connection, wait_s: float) -> None:
        self._connection = connection
        self._wait_s = wait_s
        self._transaction = _BoundedTransaction(connection, wait_s)
        self._is_open = False

    async def __aenter__(self) -> Self:
        await self._transaction.start()
        self._is_open = True
        return self

    async def __aexit__(self, *_raised: object) -> None:
        if self._is_open:
            await self._transaction.rollback()

    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        return statement.rows(await self._connection.fetch(statement.sql, *statement.arguments(values)))

    def transaction(self) -> "_PostgreSQLTransaction":
        return _PostgreSQLTransaction(self._connection, self._wait_s)

    async def commit(self) -> None:
        self._is_open = False
        await self._transaction.commit()


def _has_ended(connection: Connection) -> bool:
    """Whether it is closed. Once it has ended by itself, asyncpg takes it back, and raises for who holds it still."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def _terminate(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):  # It has ended by itself, as above.
        connection.terminate()


class _Connections:
    """asyncpg's pool, with a line of its own before it, in which all stand who want a connection.

    In the pool's line each connection is given back, and then taken out by the next, which costs as much as to run a
    small statement on it. From here it is handed over.
    """

    HANDED_OVER = 100
    """How many before one goes back all the same: only the pool knows when a connection has served long enough."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", wait_s: float) -> None:
        self._pool = pool
        self.wait_s = wait_s
        self._free = pool.get_max_size()
        """How many more may be taken from the pool. It knows, but would have to count."""
        self._line: deque[asyncio.Future[Connection | None]] = deque()
        self._handed_over = 0

    async def acquire(self) -> Connection:
        """A connection, until it is released or passed on. Raises Unavailable: none came free in time, none opens."""
        if self._free > 0:
            self._free -= 1
        elif (connection := await self._wait_in_line()) is not None:
            return connection
        try:
            return await self._pool.acquire()
        except BaseException as error:
            self.count_back()
            if isinstance(error, OSError | TimeoutError | asyncpg.PostgresError | asyncpg.InterfaceError):
                raise Unavailable(DATABASE_UNAVAILABLE) from error
            raise

    async def release(self, connection: Connection, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Give a connection back; if that fails, or takes longer than ``timeout`` seconds, it is closed instead."""
        try:
            await self._pool.release(connection, timeout=timeout)
        except NOT_ANSWERED as error:  # Not the caller's, who has an outcome of their own to tell.
            logger.warning("closed a connection to the database that could not be given back: %r", error)
        finally:
            self.count_back()

    async def pass_on(self, connection: Connection) -> None:
        """Give a connection, none the worse for a statement that ended well, to the first in the line, or back."""
        self._handed_over += 1
        if self._line and self._handed_over % self.HANDED_OVER and not _has_ended(connection):
            waiter = self._first_in_line()
            if waiter is not None:
                waiter.set_result(connection)
                return
        await self.release(connection)

    def count_back(self) -> None:
        """One more may be taken from the pool: it was given back, or has gone. The first in the line does."""
        waiter = self._first_in_line()
        if waiter is None:
            self._free += 1
        else:
            waiter.set_result(None)

    def _first_in_line(self) -> "asyncio.Future[Connection | None] | None":
        while self._line:
            waiter = self._line.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _wait_in_line(self) -> Connection | None:
        """Wait; None is leave to take one from the pool. Raises Unavailable: it took too long."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._line.append(waiter)
        timer = loop.call_later(self.wait_s, _give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:  # Its turn had come all the same.
                connection = waiter.result()
                self.count_back() if connection is None else await self.pass_on(connection)
            raise
        finally:
            timer.cancel()


def _give_up(waiter: "asyncio.Future[Connection | None]") -> None:
    if not waiter.done():
        waiter.set_exception(Unavailable(DATABASE_UNAVAILABLE))


class _PostgreSQL(Database):
    def __init__(self, connections: _Connections) -> None:
        self._connections = connections
        super().__init__(
            create_async_engine(
                "postgresql+asyncpg://", async_creator=self._lend, poolclass=NullPool, hide_parameters=True
            )
        )

    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        arguments = statement.arguments(values)
        try:
            return await self._fetch(statement, arguments)
        except LOST:
            if not statement.is_read:
                raise
        # The connection had ended, and nobody had noticed yet. A read may be sent twice.
        return await self._fetch(statement, arguments)

    async def _fetch(self, statement: Statement, arguments: list[Any]) -> list[Row]:
        connection = await self._connections.acquire()
        try:
            records = await connection.fetch(statement.sql, *arguments)
        except BaseException:
            # Once the server has heard of a cancellation.
            await self._connections.release(connection, timeout=self._connections.wait_s)
            raise
        await self._connections.pass_on(connection)
        return statement.rows(records)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        connection = await self._connections.acquire()
        try:
            async with _PostgreSQLTransaction(connection, self._connections.wait_s) as transaction:
                yield transaction
        finally:
            await self._connections.release(connection, timeout=self._connections.wait_s)

    async def _lend(self) -> "_Lent":
        return _Lent(self._connections, await self._connections.acquire())


class _Lent:
    """A connection of asyncpg's pool as SQLAlchemy has it: closing it gives it back, once, even if it has ended."""

    def __init__(self, connections: _Connections, connection: Connection) -> None:
        self._connections = connections
        self._connection = connection
        self._is_lent = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def transaction(self, **options: Any) -> _BoundedTransaction:
        return _BoundedTransaction(self._connection, self._connections.wait_s, **options)

    def is_closed(self) -> bool:
        return _has_ended(self._connection)

    async def close(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncpg's signature.
        if self._is_lent:
            self._is_lent = False
            await self._connections.release(self._connection, timeout=timeout)

    def terminate(self) -> None:
        _terminate(self._connection)
        if self._is_lent:
            self._is_lent = False
            self._connections.count_back()


async def _set_up_postgresql(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    # As SQLAlchemy's dialect has it: values are written as JSON text by their column's type, and read by the codec.
    await _read_json(connection, "json", prefix=b"")
    await _read_json(connection, "jsonb", prefix=b"\x01")


async def _read_json(connection: "asyncpg.Connection[asyncpg.Record]", type_name: str, *, prefix: bytes) -> None:
    def encode(text: str) -> bytes:
        return prefix + text.encode()

    def decode(data: bytes) -> Any:
        return json.loads(data.removeprefix(prefix))

    await connection.set_type_codec(type_name, schema="pg_catalog", format="binary", encoder=encode, decoder=decode)


async def _keep_as_it_is(_connection: object) -> None:
    """In place of asyncpg's reset, a round trip for each statement: nothing here changes a connection's settings."""


@asynccontextmanager
async def _open_postgresql(config: Config) -> AsyncIterator[Database]:
    pool = asyncpg.create_pool(
        config.database,
        min_size=1,
        max_size=config.api_pool_size,
        init=_set_up_postgresql,
        reset=_keep_as_it_is,
        timeout=config.database_wait_s,
        server_settings={"timezone": "UTC", "application_name": "tandem-api"},
    )
    async with pool:
        yield _PostgreSQL(_Connections(pool, config.database_wait_s))


# SQLite: SQLAlchemy's engine


class _SQLiteTransaction(Transaction):
    def __init__(self, connection: AsyncConnection, savepoint: AsyncTransaction | None = None) -> None:
        self._connection = connection
        self._committed = savepoint or connection

    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        result = await self._connection.execute(statement.core, values)
        return [dict(zip(statement.columns, row, strict=True)) for row in result]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        savepoint = await self._connection.begin_nested()
        try:
            yield _SQLiteTransaction(self._connection, savepoint)
        finally:
            if savepoint.is_active:
                await savepoint.rollback()

    async def commit(self) -> None:
        await self._committed.commit()


class _SQLite(Database):
    async def fetch_all(self, statement: Statement, /, **values: Any) -> list[Row]:
        return await _fetch_alone(self, statement, values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with self.engine.connect() as connection:
            yield _SQLiteTransaction(connection)


@asynccontextmanager
async def _open_sqlite(config: Config) -> AsyncIterator[Database]:
    engine = create_async_engine(
        make_url(config.database).set(drivername="sqlite+aiosqlite"),
        # IMMEDIATE takes the write lock at the first write, where SQLite waits for it instead of failing later.
        connect_args={"timeout": config.database_wait_s, "isolation_level": "IMMEDIATE"},
        hide_parameters=True,  # What people entered belongs into no log.
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "savepoint", _begin_before_savepoint)
    event.listen(engine.sync_engine, "reset", _roll_back_failed_commit)
    try:
        yield _SQLite(engine)
    finally:
        await engine.dispose()


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_before_savepoint(connection: Any, _name: str | None) -> None:
    # The driver begins a transaction at the first write. A savepoint that comes before it would be the transaction, and
    # its end the COMMIT.
    if not connection.connection.driver_connection.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _roll_back_failed_commit(connection: Any, _record: object, state: PoolResetState) -> None:
    # A COMMIT that a deferred foreign key refuses leaves SQLite's transaction open. SQLAlchemy takes it for ended and
    # would keep the connection, and with it the write lock of the whole database, in the pool.
    if not state.terminate_only and connection.driver_connection.in_transaction:
        connection.rollback()


# What the rest of the API uses


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """Open the pool and have the database answer once; close every connection at the end.

    Raises:
        StartupError: it does not answer.
    """
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(
                _open_sqlite(config) if config.is_sqlite else _open_postgresql(config)
            )
            await database.ping()
        except (OSError, SQLAlchemyError, asyncpg.PostgresError, Unavailable) as error:
            raise StartupError(
                f"the database does not answer, check DATABASE_URL: {error.__cause__ or error}"
            ) from error
        yield database


async def database_answers(request: Request) -> None:
    """Readiness: a pooled connection answers. Raises what the driver raises when it does not."""
    await resources_of(request).database.ping()


async def _session(request: Request) -> AsyncIterator[AsyncSession]:
    async with resources_of(request).database.sessions() as session:
        yield session


Session = Annotated[AsyncSession, Depends(_session, scope="function")]
"""The request's session, for graphs of objects. It is rolled back, before the response is sent, unless the service
commits; no two tasks share it."""


def violates(error: Exception, constraint: UniqueConstraint | CheckConstraint | Index) -> bool:
    """Whether one of ``INTEGRITY_ERRORS`` says that ``constraint``, a constant of ``tables``, was violated."""
    driver_error = error.orig if isinstance(error, IntegrityError) else error
    for cause in (driver_error, getattr(driver_error, "__cause__", None)):
        if (name := getattr(cause, "constraint_name", None)) is not None:
            return bool(name == constraint.name)
    # SQLite names the constraint only where it cannot name columns.
    columns = ", ".join(f"{column.table.name}.{column.name}" for column in constraint.columns)
    return str(driver_error) in {
        f"UNIQUE constraint failed: {columns}",
        f"UNIQUE constraint failed: index '{constraint.name}'",
        f"CHECK constraint failed: {constraint.name}",
    }
