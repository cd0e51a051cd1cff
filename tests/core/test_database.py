"""The database as repositories see it: statements, transactions, sessions, on one pool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from unittest.mock import AsyncMock

import asyncpg
import httpx2
import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import Float, bindparam, delete, func, insert, literal, select, text, update

from fastapi_app.core.database import (
    INTEGRITY_ERRORS,
    LOST,
    Connection,
    Database,
    _Connections,
    open_database,
    violates,
)
from fastapi_app.core.errors import Unavailable, is_unavailable
from fastapi_app.core.revocation import RevocationView
from fastapi_app.core.statements import Statement
from fastapi_app.core.tables import ACCOUNTS_USER_EMAIL_IS_LOWER_CASE, ACCOUNTS_USER_EMAIL_UNIQUE, User, UserGroups
from project.accounts.models import User as DjangoUser
from project.config import config
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


@pytest_asyncio.fixture
async def api(database: str) -> AsyncIterator[Database]:
    small = config.model_copy(update={"api_pool_size": 2, "database_wait_s": 0.5})
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(open_database(small))
        async with asyncio.timeout(20):  # Closing waits for every connection: it must not hang for one that is lost.
            await stack.aclose()


async def emails(api: Database) -> list[str]:
    return [row["email"] for row in await api.fetch_all(EMAILS)]


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


async def test_transaction__cancelled__leaves_nothing_and_the_pool_whole(api: Database) -> None:
    async def write(email: str) -> None:
        async with api.transaction() as transaction:
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
    """Both connections can be had at once."""
    async with api.transaction() as one, api.transaction() as other:
        assert [*await asyncio.gather(one.fetch_all(EMAILS), other.fetch_all(EMAILS))] == [[], []]


@pytest.mark.postgresql
async def test_line__for_the_last_connection__is_served_in_order_by_whatever_they_want_it_for(api: Database) -> None:
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
        await asyncio.gather(*((read, read, write, use_session)[number % 4](number) for number in range(240)))

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
