"""Versions: side by side, each with a document of its own; the next takes over what it does not change."""

import datetime
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel

from contract.compare import compare
from fastapi_app.app import VERSIONS, create_api
from fastapi_app.core.credentials import Principal
from fastapi_app.core.deprecation import Deprecation, deprecated
from fastapi_app.core.docs import openapi_document
from fastapi_app.core.errors import responses
from fastapi_app.core.routing import ContractRoute
from fastapi_app.core.security import any_caller
from fastapi_app.core.statements import Row
from fastapi_app.core.versions import Version
from fastapi_app.users.dependencies import UserId, Users, may_read_users, may_write_users, user_service
from fastapi_app.users.errors import UserNotFound
from fastapi_app.users.schemas import UserCreate
from tests.users.test_users_routes import UsersInMemory

(V1,) = VERSIONS
LEAVING = Deprecation(
    since=datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC),
    sunset=datetime.datetime(2028, 1, 1, tzinfo=datetime.UTC),
    guide="https://api.example.com/api/v2/docs",
)

# A version that changes one route and adds one: this is all it takes.


class UserOutV2(BaseModel):
    """A person, as the second version shows them."""

    id: int
    address: str


changed = APIRouter(prefix="/users", tags=["users"])


@changed.get(
    "/{user_id}",
    response_model=UserOutV2,
    dependencies=[Depends(may_read_users)],
    responses=responses(UserNotFound),
)
async def get_user(user_id: UserId, users: Users) -> Row:
    """Get a user."""
    user = await users.get(user_id)
    return {"id": user["id"], "address": user["email"]}


@changed.get("/newest", response_model=UserOutV2, dependencies=[Depends(may_read_users)])
async def get_newest_user() -> Row:
    """Get the user who came last."""
    return {"id": 0, "address": "newest@example.com"}


V2 = Version("v2", [changed], inherits=V1)


@pytest.fixture
def api() -> Iterator[FastAPI]:
    """Two versions, neither with a database nor with tokens."""
    users = UsersInMemory()
    caller = Principal(user_id=1, client_id="tests", scopes=frozenset())
    api = create_api([V1, V2])
    api.dependency_overrides = {
        user_service: lambda: users,
        **dict.fromkeys((any_caller, may_read_users, may_write_users), lambda: caller),
    }
    yield api
    api.dependency_overrides.clear()


def client_of(api: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(api), base_url="http://testserver")


@pytest.mark.asyncio
async def test_next_version__one_route_changed__the_rest_is_inherited(api: FastAPI) -> None:
    async with client_of(api) as client:
        created = await client.post("/v2/users", json=UserCreate(email="new@example.com").model_dump())
        assert created.status_code == HTTPStatus.CREATED, "inherited"
        assert created.headers["location"] == "/v2/users/1", "and leads to its own version"

        old, new = [(await client.get(f"/{version}/users/1")).json() for version in ("v1", "v2")]
        assert (old["email"], old["display_name"]) == ("new@example.com", "")
        assert new == {"id": 1, "address": "new@example.com"}
        assert (await client.get("/v2/users/newest")).json()["id"] == 0, "no inherited /{user_id} hides it"
        assert (await client.get("/v1/users/newest")).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        assert (await client.get("/v2/users/me")).json() == old
        assert (await client.patch("/v2/users/me", json={})).headers["allow"] == "GET"
        assert (await client.get("/v3/users/1")).status_code == HTTPStatus.NOT_FOUND


def test_next_version__its_document__differs_in_what_it_changes_only(api: FastAPI) -> None:
    old, new = (openapi_document(api, version, server=f"/api/{version.name}") for version in (V1, V2))

    assert (old["info"]["version"], new["info"]["version"]) == ("1", "2")
    assert {change.where for change in compare(old, new)} == {"GET /users/{user_id}", "GET /users/newest"}
    assert old == openapi_document(create_api([V1]), V1, server="/api/v1"), "the old one is as it was"


@pytest.mark.asyncio
async def test_addresses__lead_to_the_newest_version(api: FastAPI, client: httpx2.AsyncClient) -> None:
    async with client_of(api) as both:
        for path, target in (("/", "/v2/docs"), ("/docs", "/v2/docs"), ("/openapi.json", "/v2/openapi.json")):
            assert (await both.get(path)).headers["location"] == target
        for version in ("v1", "v2"):
            assert f'data-document="/{version}/openapi.json"' in (await both.get(f"/{version}/docs")).text
            assert (await both.get(f"/{version}/openapi.json")).json()["servers"] == [{"url": f"/{version}"}]

    under_the_mount = await client.get("/api/docs", follow_redirects=True)
    assert under_the_mount.url.path == "/api/v1/docs"
    assert 'data-document="/api/v1/openapi.json"' in under_the_mount.text


# Deprecation


def assert_leaving(answer: httpx2.Response) -> None:
    assert answer.headers["deprecation"] == "@1798761600"
    assert answer.headers["sunset"] == "Sat, 01 Jan 2028 00:00:00 GMT"
    guide = "<https://api.example.com/api/v2/docs>"
    assert answer.headers["link"] == (
        f'{guide}; rel="deprecation"; type="text/html", {guide}; rel="sunset"; type="text/html"'
    )


def assert_marked(operation: dict[str, Any]) -> None:
    assert operation["deprecated"] is True
    assert operation["x-deprecated-since"] == "2027-01-01T00:00:00+00:00"
    assert operation["x-sunset"] == "2028-01-01T00:00:00+00:00"


@pytest.mark.asyncio
async def test_deprecated_version__says_so_on_every_route_and_in_its_document_and_the_next_does_not() -> None:
    leaving = Version("v1", V1.routers, deprecation=LEAVING)
    api = create_api([leaving, Version("v2", [changed], inherits=leaving)])
    async with client_of(api) as client:
        for method, path in (("GET", "/users"), ("POST", "/users"), ("DELETE", "/users/1")):
            refused = await client.request(method, f"/v1{path}", json={})
            assert refused.status_code == HTTPStatus.UNAUTHORIZED
            assert_leaving(refused)
            assert_leaving(await client.put(f"/v1{path}"))
            assert "sunset" not in (await client.request(method, f"/v2{path}", json={})).headers
        documents = [(await client.get(f"/{version}/openapi.json")).json() for version in ("v1", "v2")]

    for document, check in zip(documents, (assert_marked, assert_unmarked), strict=True):
        for operations in document["paths"].values():
            for operation in operations.values():
                check(operation)


def assert_unmarked(operation: dict[str, Any]) -> None:
    assert not operation.keys() & {"deprecated", "x-deprecated-since", "x-sunset"}


@pytest.mark.asyncio
async def test_deprecated_route__says_so_alone_whatever_it_answers() -> None:
    class OwnRoute(ContractRoute):
        pass

    router = APIRouter(prefix="/things", tags=["things"], route_class=OwnRoute)

    @router.get("/old", openapi_extra=deprecated(LEAVING))
    async def old(limit: int = 1) -> str:
        return "old"

    @router.get("/new")
    async def new() -> str:
        return "new"

    api = create_api([Version("v1", [router])])
    routes = [route for route in api.routes if isinstance(route, ContractRoute)]
    assert [(type(route), route.is_direct) for route in routes] == [(OwnRoute, True), (OwnRoute, True)]
    async with client_of(api) as client:
        for answer, status in (
            (await client.get("/v1/things/old"), HTTPStatus.OK),
            (await client.get("/v1/things/old?limit=x"), HTTPStatus.UNPROCESSABLE_ENTITY),
            (await client.get("/v1/things/old", headers={"Accept": "text/csv"}), HTTPStatus.NOT_ACCEPTABLE),
            (await client.post("/v1/things/old"), HTTPStatus.METHOD_NOT_ALLOWED),
        ):
            assert answer.status_code == status
            assert_leaving(answer)
        assert "sunset" not in (await client.get("/v1/things/new")).headers
        paths = (await client.get("/v1/openapi.json")).json()["paths"]

    assert_marked(paths["/things/old"]["get"])
    assert_unmarked(paths["/things/new"]["get"])
