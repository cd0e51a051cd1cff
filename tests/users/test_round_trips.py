"""What requests about users cost in round trips to PostgreSQL, once their statements are prepared."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import asyncpg.connection
import httpx2
import pytest

from project.accounts.models import User

pytestmark = [pytest.mark.postgresql, pytest.mark.asyncio]

_trips: ContextVar[list[str] | None] = ContextVar("trips", default=None)
"""What was sent for the request that this task makes; the process's own tasks, such as the poll, have None."""


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Each query that goes out, and each BEGIN, COMMIT and ROLLBACK."""
    connection: Any = asyncpg.connection.Connection

    def counted(send: Callable[..., Any]) -> Callable[..., Any]:
        async def count(self: object, query: str, *arguments: Any, **options: Any) -> Any:
            if (sent := _trips.get()) is not None:
                sent.append(query.split(maxsplit=1)[0].rstrip(";"))
            return await send(self, query, *arguments, **options)

        return count

    monkeypatch.setattr(connection, "execute", counted(connection.execute))
    monkeypatch.setattr(connection, "_do_execute", counted(connection._do_execute))  # What ``fetch`` comes down to.
    sent: list[str] = []
    yield sent
    _trips.set(None)


async def sent_for(trips: list[str], client: httpx2.AsyncClient, method: str, path: str, **options: Any) -> list[str]:
    trips.clear()
    _trips.set(trips)
    answer = await client.request(method, path, **options)
    _trips.set(None)
    assert answer.status_code < 400, answer.text
    return [*trips]


async def test_read__of_one_or_of_a_page__is_one_round_trip(
    trips: list[str], writer: httpx2.AsyncClient, bob: User
) -> None:
    one = f"/api/v1/users/{bob.pk}"
    tag = (await writer.get(one)).headers["etag"]
    cursor = (await writer.get("/api/v1/users?limit=1")).json()["next_cursor"]

    for path in (
        one,
        "/api/v1/users/me",
        "/api/v1/users",
        f"/api/v1/users?limit=1&cursor={cursor}",
        "/api/v1/users?sort=-created_at&is_active=true",
        "/api/v1/users?created_from=2020-01-01T00:00:00Z",
        "/api/v1/users?search=bob",
        "/api/v1/users?email=bob@example.com",
    ):
        assert await sent_for(trips, writer, "GET", path) == ["SELECT"], path
    assert await sent_for(trips, writer, "GET", one, headers={"if-none-match": tag}) == ["SELECT"]


async def test_write__with_and_without_a_condition__is_one_round_trip(
    trips: list[str], writer: httpx2.AsyncClient, bob: User
) -> None:
    one = f"/api/v1/users/{bob.pk}"

    assert await sent_for(trips, writer, "PATCH", one, json={"display_name": "B."}) == ["UPDATE"]
    tag = (await writer.get(one)).headers["etag"]
    condition = {"if-match": tag}
    assert await sent_for(trips, writer, "PATCH", one, json={"display_name": "C."}, headers=condition) == ["UPDATE"]
    condition = {"if-match": (await writer.get(one)).headers["etag"]}
    assert await sent_for(trips, writer, "DELETE", one, headers=condition) == ["UPDATE"]
    assert await sent_for(trips, writer, "POST", "/api/v1/users", json={"email": "a@example.com"}) == ["INSERT"]


async def test_post__with_a_key__keeps_key_effect_and_answer_in_one_transaction(
    trips: list[str], writer: httpx2.AsyncClient
) -> None:
    asked: dict[str, Any] = {"json": {"email": "a@example.com"}, "headers": {"idempotency-key": "a"}}

    first = await sent_for(trips, writer, "POST", "/api/v1/users", **asked)
    again = await sent_for(trips, writer, "POST", "/api/v1/users", **asked)

    assert first == ["BEGIN", "INSERT", "SAVEPOINT", "INSERT", "RELEASE", "UPDATE", "COMMIT"]
    assert again == ["BEGIN", "INSERT", "SELECT", "ROLLBACK"]
