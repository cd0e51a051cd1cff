"""The database as the API uses it: one engine for the process, one session for a request."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import asyncpg
from fastapi import Depends
from sqlalchemy import CheckConstraint, Index, UniqueConstraint, event, make_url, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import PoolResetState
from starlette.requests import Request

from fastapi_app.core.errors import Unavailable
from fastapi_app.core.requests import AppRequest
from project.config import Config, StartupError


@dataclass(frozen=True, slots=True)
class Database:
    """An engine and what makes sessions on it."""

    engine: AsyncEngine
    reading: async_sessionmaker[AsyncSession]
    """Each statement stands alone: one round trip, no BEGIN, no ROLLBACK."""
    writing: async_sessionmaker[AsyncSession]
    """A transaction from the first statement to ``commit``; without a commit it is rolled back."""


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """Connect once, to prove the address, and dispose of every connection at the end.

    Raises:
        StartupError: it does not answer.
    """
    engine = create_engine(config)
    try:
        await _prove(engine)
        # SQLite's driver opens a transaction for writes only, so its reads stand alone as they are.
        reader = engine if config.is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        yield Database(
            engine,
            reading=async_sessionmaker(reader, expire_on_commit=False),
            writing=async_sessionmaker(engine, expire_on_commit=False),
        )
    finally:
        await engine.dispose()


def create_engine(config: Config) -> AsyncEngine:
    """An engine whose connections are set up as Django's are."""
    if config.is_sqlite:
        engine = create_async_engine(
            make_url(config.database).set(drivername="sqlite+aiosqlite"),
            # IMMEDIATE takes the write lock at the first write, where SQLite waits for it instead of failing later.
            connect_args={"timeout": config.database_wait_s, "isolation_level": "IMMEDIATE"},
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        event.listen(engine.sync_engine, "reset", _roll_back_failed_commit)
        return engine

    async def connect() -> "asyncpg.Connection[asyncpg.Record]":
        # asyncpg reads the address as libpq and Django do, sslmode, socket folders and several hosts included.
        try:
            return await asyncpg.connect(
                config.database,
                timeout=config.database_wait_s,
                server_settings={"timezone": "UTC", "application_name": "tandem-api"},
            )
        except (OSError, asyncpg.PostgresError) as error:
            raise Unavailable("The database does not answer just now.") from error

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=config.api_pool_size,
        max_overflow=0,
        pool_timeout=config.database_wait_s,
        pool_pre_ping=True,
        hide_parameters=True,  # What people entered belongs into no log.
    )


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _roll_back_failed_commit(connection: Any, _record: object, state: PoolResetState) -> None:
    # A COMMIT that a deferred foreign key refuses leaves SQLite's transaction open. SQLAlchemy takes it for ended and
    # would keep the connection, and with it the write lock of the whole database, in the pool.
    if not state.terminate_only and connection.driver_connection.in_transaction:
        connection.rollback()


async def database_answers(request: Request) -> None:
    """Readiness: a pooled connection answers. Raises what the driver raises when it does not."""
    await _ping(AppRequest(request.scope).state["resources"].database.engine)


async def _ping(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))


async def _prove(engine: AsyncEngine) -> None:
    try:
        await _ping(engine)
    except (SQLAlchemyError, Unavailable) as error:
        raise StartupError(f"the database does not answer, check DATABASE_URL: {error.__cause__ or error}") from error


# Both close before the response is sent (scope="function"), so that what goes wrong there is the response.


async def _read_session(request: AppRequest) -> AsyncIterator[AsyncSession]:
    async with request.state["resources"].database.reading() as session:
        yield session


async def _write_session(request: AppRequest) -> AsyncIterator[AsyncSession]:
    async with request.state["resources"].database.writing() as session:
        yield session


ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
"""The request's session for reading. One request uses one session; no two tasks share it."""

WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]
"""The request's session for a use case that writes; its service commits, visibly."""


def violates(error: IntegrityError, constraint: UniqueConstraint | CheckConstraint | Index) -> bool:
    """Whether ``error`` says that ``constraint``, one of the constants of ``tables``, was violated."""
    cause = getattr(error.orig, "__cause__", None)
    if (name := getattr(cause, "constraint_name", None)) is not None:
        return bool(name == constraint.name)
    # SQLite names the constraint only where it cannot name columns.
    columns = ", ".join(f"{column.table.name}.{column.name}" for column in constraint.columns)
    return str(error.orig) in {
        f"UNIQUE constraint failed: {columns}",
        f"UNIQUE constraint failed: index '{constraint.name}'",
        f"CHECK constraint failed: {constraint.name}",
    }
