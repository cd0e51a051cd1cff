"""The database as repositories see it: statements, transactions, sessions, on one pool."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from unittest.mock import AsyncMock

import asyncpg
import httpx2
import psycopg
import pytest
import pytest_asyncio
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from sqlalchemy import Float, bindparam, delete, func, insert, literal, make_url, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Receive, Scope, Send

from fastapi_app.core.database import (
    INTEGRITY_ERRORS,
    LOST,
    Connection,
    Database,
    Executor,
    Joined,
    _Connections,
    _PostgreSQL,
    open_database,
    violates,
)
from fastapi_app.core.errors import Unavailable, is_unavailable
from fastapi_app.core.revocation import RevocationView
from fastapi_app.core.statements import Statement
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_IS_LOWER_CASE, ACCOUNTS_USER_EMAIL_UNIQUE, User, UserGroups
from project.accounts.models import User as DjangoUser
from project.config import config
from project.deadline import Deadline
from tests.fixtures import IssueToken, bearer

pytestmark = pytest.mark.asyncio

ADD = Statement(insert(User).values(email=bindparam("email")).returning(User.id, User.email))
EMAILS = Statement(select(User.email).order_by(User.email))
RENAME = Statement(
    update(User)
    .values(display_name=bindparam("name"))
    .where(User.id == bindparam("user_id"))
    .returning(User.updated_at)
)
REMOVE = Statement(delete(User).where(User.email == bindparam("email")).returning(User.id))
JOIN_NOWHERE = Statement(insert(UserGroups).values(user_id=-1, group_id=-1).returning(UserGroups.id))


@asynccontextmanager
async def small_pool(address: str) -> AsyncIterator[Database]:
    small = {"database_url": SecretStr(address), "api_pool_size": 2, "database_wait_s": 0.5}
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_database(config.model_copy(update=small)))
        async with asyncio.timeout(20):  # Closing waits for every connection: it must not hang for one that is lost.
            await stack.aclose()


@pytest_asyncio.fixture
async def api(database: str) -> AsyncIterator[Database]:
    async with small_pool(database) as api:
        yield api


async def emails(executor: Executor) -> list[str]:
    return [row["email"] for row in await executor.fetch_all(EMAILS)]


async def test_statement__alone__is_a_transaction_of_its_own(api: Database) -> None:
    added = await api.fetch_one(ADD, email="a@example.com")

    assert added is not None
    assert added["email"] == "a@example.com"
    assert await emails(api) == ["a@example.com"]
    assert await api.fetch_one(REMOVE, email="a@example.com") == {"id": added["id"]}
    assert await api.fetch_one(REMOVE, email="a@example.com") is None


async def test_statement__column_that_python_fills_on_update__is_filled_each_time(api: Database) -> None:
    added = await api.fetch_one(ADD, email="a@example.com")
    assert added is not None

    first, second = [await api.fetch_one(RENAME, user_id=added["id"], name=name) for name in "ab"]

    assert first is not None
    assert second is not None
    assert first["updated_at"] < second["updated_at"]


@pytest.mark.parametrize("values", [{}, {"user_id": 1}, {"user_id": 1, "name": "n", "email": "e"}])
async def test_statement__wrong_values__says_which_it_takes(values: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"takes \['name', 'user_id'\]"):
        RENAME.arguments(values)


async def test_statement__constant_in_it__needs_no_value() -> None:
    statement = Statement(select(literal(7).label("seven"), User.id).where(User.is_active.is_(True)).limit(3))

    assert statement.names == frozenset()
    assert sorted(statement.arguments({})) == [3, 7]


async def test_constraint__violated__is_told_from_others(api: Database) -> None:
    await api.fetch_all(ADD, email="a@example.com")

    with pytest.raises(INTEGRITY_ERRORS) as taken:
        await api.fetch_all(ADD, email="a@example.com")
    with pytest.raises(INTEGRITY_ERRORS) as upper_case:
        await api.fetch_all(ADD, email="A@example.com")

    assert violates(taken.value, ACCOUNTS_USER_EMAIL_UNIQUE)
    assert not violates(taken.value, ACCOUNTS_USER_EMAIL_IS_LOWER_CASE)
    assert violates(upper_case.value, ACCOUNTS_USER_EMAIL_IS_LOWER_CASE)


async def test_transaction__committed__becomes_true_as_a_whole(api: Database) -> None:
    async with api.transaction() as transaction:
        await transaction.fetch_all(ADD, email="a@example.com")
        await transaction.fetch_all(ADD, email="b@example.com")
        assert await emails(api) == [], "nobody else sees it yet"
        await transaction.commit()

    assert await emails(api) == ["a@example.com", "b@example.com"]


async def test_transaction__not_committed_or_failed__leaves_nothing(api: Database) -> None:
    async with api.transaction() as transaction:
        await transaction.fetch_all(ADD, email="a@example.com")
    with pytest.raises(INTEGRITY_ERRORS):
        async with api.transaction() as transaction:
            await transaction.fetch_all(ADD, email="b@example.com")
            await transaction.fetch_all(ADD, email="b@example.com")
    with pytest.raises(INTEGRITY_ERRORS):
        async with api.transaction() as transaction:
            await transaction.fetch_all(ADD, email="c@example.com")
            await transaction.fetch_all(JOIN_NOWHERE)
            await transaction.commit()

    assert await emails(api) == []
    await api.fetch_all(ADD, email="d@example.com")


@pytest.mark.parametrize("is_nested", [False, True])
async def test_transaction__cancelled__leaves_nothing_and_the_pool_whole(api: Database, is_nested: bool) -> None:
    async def write(email: str) -> None:
        async with AsyncExitStack() as stack:
            transaction = await stack.enter_async_context(api.transaction())
            if is_nested:
                transaction = await stack.enter_async_context(transaction.transaction())
            await transaction.fetch_all(ADD, email=email)
            await asyncio.sleep(60)

    for number in range(4):
        task = asyncio.create_task(write(f"{number}@example.com"))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert await emails(api) == []
    async with api.transaction(), api.sessions() as session:
        assert (await session.execute(text("select 1"))).scalar_one() == 1


async def test_transaction__within_another__is_undone_alone_unless_it_is_committed(api: Database) -> None:
    async with api.transaction() as outer:
        async with outer.transaction() as committed:
            await committed.fetch_all(ADD, email="committed@example.com")
            await committed.commit()
        async with outer.transaction() as left:
            await left.fetch_all(ADD, email="left@example.com")
        with pytest.raises(LookupError):
            async with outer.transaction() as raised:
                await raised.fetch_all(ADD, email="raised@example.com")
                raise LookupError
        with pytest.raises(INTEGRITY_ERRORS):
            async with outer.transaction() as refused:
                await refused.fetch_all(ADD, email="refused@example.com")
                await refused.fetch_all(ADD, email="refused@example.com")
        await outer.fetch_all(ADD, email="outer@example.com")
        assert await emails(outer) == ["committed@example.com", "outer@example.com"]
        assert await emails(api) == [], "nobody else sees it yet"
        await outer.commit()

    assert await emails(api) == ["committed@example.com", "outer@example.com"]


async def test_transaction__within_another_that_is_not_committed__is_undone_with_it(api: Database) -> None:
    async with api.transaction() as outer, outer.transaction() as inner, inner.transaction() as innermost:
        await innermost.fetch_all(ADD, email="a@example.com")
        await innermost.commit()
        await inner.commit()
    async with api.sessions() as session, session.begin_nested():
        session.add(User(email="b@example.com"))

    assert await emails(api) == []


async def add_what_is_there(executor: Executor) -> list[str]:
    await executor.fetch_all(ADD, email="a@example.com")
    with pytest.raises(INTEGRITY_ERRORS) as refused:
        await executor.fetch_all(ADD, email="a@example.com")
    assert violates(refused.value, ACCOUNTS_USER_EMAIL_UNIQUE)
    return await emails(executor)


async def leave_a_block_without_commit(executor: Executor) -> list[str]:
    async with executor.transaction() as transaction:
        await transaction.fetch_all(ADD, email="a@example.com")
        return await emails(transaction)


async def go_on_after_a_block_that_failed(executor: Executor) -> list[str]:
    with pytest.raises(INTEGRITY_ERRORS):
        async with executor.transaction() as transaction:
            await transaction.fetch_all(ADD, email="a@example.com")
            await transaction.fetch_all(ADD, email="a@example.com")
            await transaction.commit()
    async with executor.transaction() as transaction:
        await transaction.fetch_all(ADD, email="b@example.com")
        await transaction.commit()
    return await emails(executor)


@pytest.mark.parametrize(
    ("service", "told", "there_is"),
    [
        (add_what_is_there, ["a@example.com"], ["a@example.com"]),
        (leave_a_block_without_commit, ["a@example.com"], []),
        (go_on_after_a_block_that_failed, ["b@example.com"], ["b@example.com"]),
    ],
)
async def test_transaction__in_place_of_the_database__does_what_a_service_would_do_there(
    service: Callable[[Executor], Awaitable[list[str]]], told: list[str], there_is: list[str], api: Database
) -> None:
    assert await service(api) == told
    assert await emails(api) == there_is
    await DjangoUser.objects.all().adelete()

    async with api.transaction() as transaction:
        assert await service(Joined(transaction)) == told
        assert await emails(api) == []
        await transaction.commit()

    assert await emails(api) == there_is


async def test_session__for_a_graph_of_objects__draws_on_the_same_pool(api: Database) -> None:
    async with api.sessions() as session:
        session.add(User(email="a@example.com"))
        await session.flush()
        assert await emails(api) == []
        await session.commit()
    assert await emails(api) == ["a@example.com"]

    async with api.sessions() as session:
        (user,) = await session.scalars(select(User))
        assert not user.is_staff
        user.display_name = "A."
    assert (await DjangoUser.objects.aget()).display_name == "", "not committed"


@pytest.mark.postgresql
async def test_pool__all_connections_held__is_unavailable_after_the_wait_for_all_alike(api: Database) -> None:
    async with api.transaction(), api.sessions() as session:
        await session.execute(text("select 1"))

        with pytest.raises(Unavailable):
            await api.fetch_all(EMAILS)
        with pytest.raises(Unavailable):
            async with api.sessions() as third:
                await third.execute(text("select 1"))

    assert await emails(api) == []


SLEEP = Statement(select(func.pg_sleep(bindparam("seconds", type_=Float)).label("slept")))


async def assert_whole(api: Database) -> None:
    """Both connections can be had at once, and are counted as two."""
    async with api.transaction() as one, api.transaction() as other:
        assert [*await asyncio.gather(one.fetch_all(EMAILS), other.fetch_all(EMAILS))] == [[], []]
    assert isinstance(api, _PostgreSQL)
    assert api._connections._free == 2


@pytest.mark.postgresql
async def test_line__for_the_last_connection__is_served_in_order_by_whatever_they_want_it_for(
    api: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Connections, "HANDED_OVER", 25)
    served: list[int] = []

    async def read(number: int) -> None:
        await api.ping()
        served.append(number)

    async def write(number: int) -> None:
        async with api.transaction() as transaction:
            await transaction.fetch_all(EMAILS)
            served.append(number)

    async def use_session(number: int) -> None:
        async with api.sessions() as session:
            await session.execute(text("select 1"))
            served.append(number)

    async with api.transaction():
        await asyncio.gather(*((read, read, write, use_session)[number % 4](number) for number in range(80)))

    # A read ends when its connection is with the next already, so neighbours may be told the other way round.
    assert all(abs(number - place) <= 2 for place, number in enumerate(served))
    await assert_whole(api)


@pytest.mark.postgresql
async def test_line__nobody_hands_over_in_time__is_unavailable_for_those_alone_who_wait_too_long(api: Database) -> None:
    async with api.transaction(), api.transaction():
        early = [asyncio.create_task(api.ping()) for _ in range(3)]
        await asyncio.sleep(0.3)
        late = [asyncio.create_task(api.ping()) for _ in range(3)]
        outcomes = await asyncio.gather(*early, return_exceptions=True)
    outcomes += await asyncio.gather(*late, return_exceptions=True)

    assert [isinstance(outcome, Unavailable) for outcome in outcomes] == [True] * 3 + [False] * 3
    assert outcomes[3:] == [None] * 3
    await assert_whole(api)


@pytest.mark.postgresql
@pytest.mark.parametrize("turn_comes_by", ["pass_on", "release"])
async def test_line__cancelled_when_its_turn_has_come__lets_the_next_have_it(
    api: Database, monkeypatch: pytest.MonkeyPatch, turn_comes_by: str
) -> None:
    """Between the hand-over and the waiter's next step, somebody cancels the waiter."""
    give = getattr(_Connections, turn_comes_by)
    waiting: list[asyncio.Task[None]] = []

    async def give_and_cancel(self: _Connections, *arguments: object, **options: object) -> None:
        await give(self, *arguments, **options)
        if waiting:
            waiting.pop(0).cancel()

    async with api.transaction() as holds:
        last = asyncio.create_task(api.fetch_all(SLEEP, seconds=0.1))
        await asyncio.sleep(0.05)
        cancelled, next_one = asyncio.create_task(api.ping()), asyncio.create_task(api.ping())
        await asyncio.sleep(0)
        monkeypatch.setattr(_Connections, turn_comes_by, give_and_cancel)
        waiting.append(cancelled)
        if turn_comes_by == "release":
            await holds.commit()
        else:
            await last
            await next_one
    await asyncio.gather(last, next_one)

    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await assert_whole(api)


@pytest.mark.postgresql
async def test_line__handed_over_lost_and_cancelled_at_once__costs_no_place(
    api: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over = _Connections.pass_on
    waiting: list[asyncio.Task[None]] = []

    async def hand_over_lose_and_cancel(self: _Connections, connection: Connection) -> None:
        await hand_over(self, connection)
        if waiting:
            connection.terminate()
            waiting.pop().cancel()

    async with api.transaction():
        last = asyncio.create_task(api.fetch_all(SLEEP, seconds=0.1))
        await asyncio.sleep(0.05)
        cancelled, next_one = asyncio.create_task(api.ping()), asyncio.create_task(api.ping())
        await asyncio.sleep(0)
        monkeypatch.setattr(_Connections, "pass_on", hand_over_lose_and_cancel)
        waiting.append(cancelled)
        await last
        await next_one

    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await assert_whole(api)


@pytest.mark.postgresql
async def test_line__connections_are_killed_meanwhile__is_served_by_new_ones(api: Database) -> None:
    reads = [asyncio.create_task(api.ping()) for _ in range(20)]
    await asyncio.sleep(0)
    kill_connections()

    await asyncio.gather(*reads, return_exceptions=True)

    await assert_whole(api)


@pytest.mark.postgresql
async def test_connection__handed_over_often__goes_back_to_the_pool_now_and_then(
    api: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    returned = 0

    async def release(self: _Connections, connection: Connection, **options: float | None) -> None:
        nonlocal returned
        returned += 1
        await give_back(self, connection, **options)

    give_back = _Connections.release
    monkeypatch.setattr(_Connections, "release", release)
    await asyncio.gather(*(api.ping() for _ in range(1000)))

    assert returned == pytest.approx(1000 / _Connections.HANDED_OVER, abs=2)


def kill_connections() -> None:
    """Let the API's backends end, while the event loop, which would hear of it, stands still."""
    with psycopg.connect(config.database, autocommit=True) as killer:
        killer.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'tandem-api' and datname = current_database()"
        )


@pytest.mark.postgresql
@pytest.mark.parametrize("turns", [0, 1])
async def test_read__meets_a_connection_that_has_just_ended__is_sent_again(api: Database, turns: int) -> None:
    await api.ping()
    kill_connections()
    for _ in range(turns):
        await asyncio.sleep(0)

    assert await emails(api) == []


@pytest.mark.postgresql
@pytest.mark.parametrize("turns", [0, 1])
async def test_write__meets_a_connection_that_has_just_ended__is_unavailable_and_not_sent_again(
    api: Database, turns: int
) -> None:
    await api.ping()
    kill_connections()
    for _ in range(turns):
        await asyncio.sleep(0)

    with pytest.raises(LOST) as lost:
        await api.fetch_one(ADD, email="a@example.com")

    assert is_unavailable(lost.value)
    assert await emails(api) == []


@pytest.mark.postgresql
async def test_connection__killed_while_idle__is_replaced(api: Database) -> None:
    await asyncio.gather(*(api.ping() for _ in range(4)))
    kill_connections()
    await asyncio.sleep(0.2)  # The news arrives.

    assert await asyncio.gather(*(emails(api) for _ in range(4))) == [[]] * 4


async def lose_connections() -> None:
    kill_connections()
    await asyncio.sleep(0.2)  # The news arrives.


async def is_answered(session: AsyncSession) -> None:
    asyncio.get_running_loop().call_later(0.2, kill_connections)
    await session.execute(text("select pg_sleep(5)"))


async def asks_again(session: AsyncSession) -> None:
    await lose_connections()
    await session.execute(text("select 1"))


async def commits(session: AsyncSession) -> None:
    await lose_connections()
    await session.commit()


@pytest.mark.postgresql
@pytest.mark.parametrize("before_it", [is_answered, asks_again, commits])
async def test_session__its_connection_is_killed__is_unavailable_and_costs_no_place(
    before_it: Callable[[AsyncSession], Awaitable[None]], api: Database
) -> None:
    with pytest.raises(DBAPIError, check=is_unavailable):
        async with api.sessions() as session:
            await session.execute(text("select 1"))
            await before_it(session)

    await assert_whole(api)


@pytest.mark.postgresql
async def test_session__its_connection_is_killed_when_all_is_done__ends_well(api: Database) -> None:
    async with api.sessions() as session:
        await session.execute(text("select 1"))
        await lose_connections()

    await assert_whole(api)


@pytest.mark.postgresql
async def test_session__nobody_closed_it_and_its_connection_is_killed__costs_no_place(api: Database) -> None:
    async with api.engine.connect() as connection:
        lent = (await connection.get_raw_connection()).driver_connection
        assert lent is not None
        await lose_connections()
        lent.terminate()  # As the garbage collector has SQLAlchemy do it.

    await assert_whole(api)


@pytest.mark.postgresql
@pytest.mark.parametrize("is_nested", [False, True])
async def test_transaction__its_connection_is_killed__lets_its_own_error_through(
    api: Database, is_nested: bool
) -> None:
    with pytest.raises(LookupError):
        async with AsyncExitStack() as stack:
            transaction = await stack.enter_async_context(api.transaction())
            if is_nested:
                transaction = await stack.enter_async_context(transaction.transaction())
            await transaction.fetch_all(ADD, email="a@example.com")
            await lose_connections()
            raise LookupError

    await assert_whole(api)


class Line:
    """A way to PostgreSQL that can fall silent: it refuses nothing, and brings nothing to its end."""

    def __init__(self) -> None:
        self.is_silent = False
        self._tasks = set[asyncio.Task[None] | None]()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """The database's address at the near end."""
        async with await asyncio.start_server(self._serve, "127.0.0.1") as server:
            address = make_url(config.database).set(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
            yield address.set(query={"sslmode": "disable"}).render_as_string(hide_password=False)
            for task in filter(None, self._tasks):
                task.cancel()

    async def _serve(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        at = conninfo_to_dict(config.database)
        host, port = str(at.get("host") or "127.0.0.1"), int(at.get("port") or 5432)
        far, to_far = await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        try:
            await asyncio.gather(self._carry(near, to_far), self._carry(far, to_near))
        finally:
            to_far.close()
            to_near.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if not self.is_silent:
                    sink.write(data)
                    await sink.drain()
        sink.close()


@pytest.fixture
def line() -> Line:
    return Line()


@pytest_asyncio.fixture
async def far(database: str, line: Line) -> AsyncIterator[Database]:
    """The database, at the other end of the line."""
    async with line.open() as address, small_pool(address) as far:
        yield far


async def statement(far: Database, at_work: asyncio.Event) -> None:
    at_work.set()
    await far.fetch_all(SLEEP, seconds=5)


async def statement_in_transaction(far: Database, at_work: asyncio.Event) -> None:
    async with far.transaction() as transaction:
        at_work.set()
        await transaction.fetch_all(SLEEP, seconds=5)


async def statement_in_savepoint(far: Database, at_work: asyncio.Event) -> None:
    async with far.transaction() as transaction, transaction.transaction() as inner:
        at_work.set()
        await inner.fetch_all(SLEEP, seconds=5)


async def idle_transaction(far: Database, at_work: asyncio.Event) -> None:
    async with far.transaction() as transaction:
        await transaction.fetch_all(ADD, email="a@example.com")
        at_work.set()
        await asyncio.sleep(60)


async def statement_in_session(far: Database, at_work: asyncio.Event) -> None:
    async with far.sessions() as session:
        at_work.set()
        await session.execute(text("select pg_sleep(5)"))


async def idle_session(far: Database, at_work: asyncio.Event) -> None:
    async with far.sessions() as session:
        await session.execute(text("select 1"))
        at_work.set()
        await asyncio.sleep(60)


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "work",
    [
        statement,
        statement_in_transaction,
        statement_in_savepoint,
        idle_transaction,
        statement_in_session,
        idle_session,
    ],
)
async def test_database__silent_when_its_work_is_cancelled__ends_as_cancelled_and_costs_no_place(
    work: Callable[[Database, asyncio.Event], Awaitable[None]], far: Database, line: Line
) -> None:
    at_work = asyncio.Event()
    task = asyncio.ensure_future(work(far, at_work))
    await at_work.wait()
    await asyncio.sleep(0.2)

    line.is_silent = True
    task.cancel()
    await asyncio.wait([task], timeout=20)

    assert task.cancelled()
    line.is_silent = False
    await assert_whole(far)


@pytest.mark.postgresql
async def test_transaction__left_when_the_database_is_silent__is_undone_all_the_same(far: Database, line: Line) -> None:
    async with asyncio.timeout(20):
        async with far.transaction() as transaction:
            await transaction.fetch_all(ADD, email="a@example.com")
            line.is_silent = True
    line.is_silent = False

    await assert_whole(far)


@pytest.mark.postgresql
async def test_deadline__met_by_a_silent_database__is_what_the_client_is_told(far: Database, line: Line) -> None:
    async def sleep(_scope: Scope, _receive: Receive, _send: Send) -> None:
        asyncio.get_running_loop().call_later(0.2, setattr, line, "is_silent", True)
        await far.fetch_all(SLEEP, seconds=5)

    transport = httpx2.ASGITransport(Deadline(sleep, 0.5))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get("/")
    line.is_silent = False

    assert answer.status_code == 504


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("method", "path", "body", "statements"),
    [
        ("GET", "/api/v1/users/me", None, ["SELECT"]),
        ("GET", "/api/v1/users?limit=50", None, ["SELECT"]),
        ("POST", "/api/v1/users", {"email": "new@example.com"}, ["INSERT"]),
        ("PATCH", "/api/v1/users/{id}", {"display_name": "A."}, ["UPDATE"]),
        ("DELETE", "/api/v1/users/{id}", None, ["UPDATE"]),
    ],
)
async def test_route__each__sends_one_statement_compiled_at_import(
    method: str,
    path: str,
    body: object,
    statements: list[str],
    client: httpx2.AsyncClient,
    alice: DjangoUser,
    issue_token: IssueToken,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RevocationView, "poll", AsyncMock())
    token = bearer(issue_token(alice, "users:read", "users:write"))
    await client.get("/api/v1/users/me", headers=token)  # The pool is open, the token known.
    sent: list[str] = []
    connection_class = asyncpg.Connection
    for name in ("fetch", "fetchrow", "fetchval", "execute"):
        original = getattr(connection_class, name)

        async def record(
            self: object, query: str, *args: object, original: object = original, **options: object
        ) -> object:
            sent.append(query.split(maxsplit=1)[0])
            return await original(self, query, *args, **options)  # type: ignore[operator]

        monkeypatch.setattr(connection_class, name, record)
    monkeypatch.setattr(Statement, "__init__", None)

    answer = await client.request(method, path.format(id=alice.pk), headers=token, json=body)

    assert answer.is_success, answer.text
    assert sent == statements
