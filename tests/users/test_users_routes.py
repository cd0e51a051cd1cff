"""The routes alone: a service of the test's own takes the place of the database, by ``dependency_overrides``."""

import datetime
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.routing import Mount

from fastapi_app.app import create_api
from fastapi_app.core.credentials import Principal
from fastapi_app.core.pagination import PageOf
from fastapi_app.core.security import any_caller
from fastapi_app.core.statements import Row
from fastapi_app.users.dependencies import may_read_users, may_write_users, user_service
from fastapi_app.users.errors import EmailTaken, UserNotFound
from fastapi_app.users.schemas import UserCreate, UserQuery, UserUpdate
from fastapi_app.users.service import UserService

pytestmark = pytest.mark.asyncio

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


class UsersInMemory(UserService):
    """The use cases on a dictionary."""

    def __init__(self) -> None:
        self.users: dict[int, Row] = {}

    async def get(self, user_id: int) -> Row:
        if user_id not in self.users:
            raise UserNotFound
        return self.users[user_id]

    async def page(self, query: UserQuery) -> PageOf:
        (after,) = query.place or (0,)
        following = [user for key, user in self.users.items() if key > int(after)]
        return PageOf.first_of(following, query, lambda user: (user["id"],))

    async def create(self, new: UserCreate) -> Row:
        if any(user["email"] == new.email for user in self.users.values()):
            raise EmailTaken
        user_id = len(self.users) + 1
        flags = {"version": 1, "is_active": True, "is_staff": False, "created_at": WHEN, "updated_at": WHEN}
        self.users[user_id] = {"id": user_id, **new.model_dump(), **flags}
        return self.users[user_id]

    async def change(self, user_id: int, changes: UserUpdate, versions: frozenset[int] | None = None) -> Row:
        (await self.get(user_id)).update(changes.model_dump())
        return self.users[user_id]

    async def deactivate(self, user_id: int, versions: frozenset[int] | None = None) -> None:
        await self.change(user_id, UserUpdate(is_active=False))


@pytest.fixture
def users() -> UsersInMemory:
    return UsersInMemory()


@pytest.fixture
def api(users: UsersInMemory) -> Iterator[FastAPI]:
    """The API with neither database nor tokens: both are dependencies, and both are replaced."""
    caller = Principal(user_id=1, client_id="tests", scopes=frozenset())
    api = create_api()
    api.dependency_overrides = {
        user_service: lambda: users,
        **dict.fromkeys((any_caller, may_read_users, may_write_users), lambda: caller),
    }
    yield api
    api.dependency_overrides.clear()


@pytest_asyncio.fixture
async def client(api: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://testserver") as client:
        yield client


async def test_routes__a_life__needs_no_database(client: httpx2.AsyncClient) -> None:
    created = await client.post("/v1/users", json={"email": "New@example.com"})
    assert (created.status_code, created.headers["location"]) == (201, "/v1/users/1")
    assert created.json()["created_at"] == "2026-01-02T03:04:05Z"

    assert (await client.post("/v1/users", json={"email": "new@example.com"})).status_code == 409
    assert (await client.get("/v1/users/me")).json() == created.json()
    assert (await client.get("/v1/users")).json() == {"items": [created.json()], "next_cursor": None}
    assert (await client.patch("/v1/users/1", json={"display_name": "N"})).json()["display_name"] == "N"
    assert (await client.delete("/v1/users/1")).status_code == 204
    assert (await client.get("/v1/users/1")).json()["is_active"] is False
    assert (await client.get("/v1/users/2")).status_code == 404


async def test_routes__below_a_path_with_more_than_letters__lead_to_what_was_created(api: FastAPI) -> None:
    transport = httpx2.ASGITransport(Mount("/{team}", api))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        created = await client.post("/č%0Ad/v1/users", json={"email": "new@example.com"})

        assert created.headers["location"] == "/%C4%8D%0Ad/v1/users/1"
        assert (await client.get(created.headers["location"])).json() == created.json()


async def test_routes__more_than_a_page__lead_on(client: httpx2.AsyncClient, users: UsersInMemory) -> None:
    for number in range(3):
        await users.create(UserCreate(email=f"user{number}@example.com"))

    first = (await client.get("/v1/users", params={"limit": 2})).json()
    last = (await client.get("/v1/users", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [user["id"] for user in first["items"]] == [1, 2]
    assert [user["id"] for user in last["items"]] == [3]
    assert last["next_cursor"] is None
