"""Streams: each caller has a few at a time, whatever kind they are and however they end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Depends
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from fastapi_app.app import VERSIONS, create_api
from fastapi_app.core.dispatch import DirectApi
from fastapi_app.core.docs import openapi_document
from fastapi_app.core.errors import HANDLERS
from fastapi_app.core.routing import ContractRoute
from fastapi_app.core.streams import StreamPlaces
from project.accounts.models import User
from project.config import config
from tests.fixtures import IssueToken, assert_problem, bearer

pytestmark = [pytest.mark.asyncio, pytest.mark.attack]

MOST = 2


class Line:
    """A connection that takes a response's pieces while it is open."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            self.has_begun.set()
        elif message.get("body"):
            await self.is_open.wait()

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError


async def endless() -> AsyncIterator[bytes]:
    while True:
        await asyncio.sleep(0)
        yield b"x"


def endless_in_a_thread() -> Iterator[bytes]:
    while True:
        yield b"x"


async def breaks_off() -> AsyncIterator[bytes]:
    yield b"x"
    raise LookupError("in the middle")


async def who(request: Request) -> None:
    if caller := request.headers.get("x-caller"):
        request.scope["caller"] = caller


async def of_response() -> Response:
    return StreamingResponse(endless())


async def of_thread() -> Response:
    return StreamingResponse(endless_in_a_thread())


async def of_model() -> dict[str, str]:
    return StreamingResponse(endless())  # type: ignore[return-value]


async def events() -> AsyncIterator[dict[str, int]]:
    while True:
        await asyncio.sleep(0)
        yield {"number": 1}


async def broken() -> Response:
    return StreamingResponse(breaks_off())


def plain() -> str:
    return "plain"


def held() -> Iterator[str]:
    yield "a connection"


async def with_a_resource(_held: Annotated[str, Depends(held)]) -> Response:
    return StreamingResponse(endless())


ENDPOINTS: dict[str, dict[str, Any]] = {
    "/response": {"endpoint": of_response, "response_class": StreamingResponse},
    "/undeclared": {"endpoint": of_response},
    "/thread": {"endpoint": of_thread},
    "/direct": {"endpoint": of_model, "response_model": dict[str, str]},
    "/events": {"endpoint": events, "response_class": EventSourceResponse},
    "/lines": {"endpoint": events},
    "/resource": {"endpoint": with_a_resource},
    "/broken": {"endpoint": broken},
    "/plain": {"endpoint": plain},
}


@pytest.fixture
def api() -> DirectApi:
    api = DirectApi(exception_handlers=HANDLERS)
    for path, options in ENDPOINTS.items():
        api.router.add_api_route(path, **options, dependencies=[Depends(who)], route_class_override=ContractRoute)
    return api


class Server:
    """Serves the API, and knows its places."""

    def __init__(self, api: DirectApi) -> None:
        self.api = api
        self.places = StreamPlaces(MOST)
        self.lines: list[tuple[asyncio.Task[None], Line]] = []

    async def open(self, path: str, caller: str = "", address: str = "192.0.2.1") -> Line:
        line = Line()
        scope = {
            "type": "http", "asgi": {"spec_version": "2.4"}, "http_version": "1.1", "method": "GET", "path": path,
            "query_string": b"", "headers": [(b"x-caller", caller.encode())], "client": (address, 1),
            "state": {"resources": SimpleNamespace(streams=self.places)},
        }  # fmt: skip
        task = asyncio.create_task(self.api(scope, line.receive, line.send))
        self.lines.append((task, line))
        await asyncio.wait_for(line.has_begun.wait(), 30)
        return line

    async def cancel_all(self) -> None:
        for task, _line in self.lines:
            task.cancel()
        await asyncio.gather(*(task for task, _line in self.lines), return_exceptions=True)
        self.lines = []


@pytest.mark.parametrize("path", [path for path in ENDPOINTS if path not in {"/broken", "/plain"}])
async def test_stream__of_any_kind__holds_a_place_of_its_callers(path: str, api: DirectApi) -> None:
    server = Server(api)
    try:
        assert [(await server.open(path, "ada")).status for _ in range(MOST)] == [200] * MOST
        refused = await server.open(path, "ada")
        assert (refused.status, refused.headers[b"retry-after"]) == (429, b"5")
        assert (await server.open(path, "bob")).status == 200
        assert (await server.open("/plain", "ada")).status == 200
    finally:
        await server.cancel_all()

    assert server.places._taken == {}
    assert (await server.open(path, "ada")).status == 200
    await server.cancel_all()


async def test_stream__of_nobody__holds_a_place_of_the_address(api: DirectApi) -> None:
    server = Server(api)
    try:
        statuses = [
            (await server.open("/response", address=f"2001:db8::{number}")).status for number in range(MOST + 1)
        ]
        assert statuses == [200] * MOST + [429]
        assert (await server.open("/response", address="2001:db8:1::1")).status == 200
    finally:
        await server.cancel_all()


async def test_stream__breaks_off__gives_its_place_back(api: DirectApi) -> None:
    server = Server(api)
    for _ in range(3 * MOST):
        line = await server.open("/broken", "ada")
        line.is_open.set()
        await asyncio.gather(server.lines[-1][0], return_exceptions=True)
        assert line.status == 200

    assert server.places._taken == {}


async def test_exports__a_hundred_at_once__are_four_and_leave_others_theirs(
    client: httpx2.AsyncClient, alice: User, bob: User, issue_token: IssueToken
) -> None:
    tokens = [bearer(issue_token(user, "users:read")) for user in (alice, alice, bob)]
    # httpx2's transport answers once a response is whole, so they overlap while they wait for the database.
    asked = [client.get("/api/v1/users/export", headers=tokens[number % 2]) for number in range(100)]
    *exports, of_another = await asyncio.gather(*asked, client.get("/api/v1/users/export", headers=tokens[2]))

    statuses = [export.status_code for export in exports]
    assert statuses.count(200) >= config.max_streams_per_caller
    assert set(statuses) == {200, 429}
    assert of_another.status_code == 200
    refused = next(export for export in exports if export.status_code == 429)
    assert assert_problem(refused, 429)["type"].endswith("/too-many-streams")
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.get("/api/v1/users/export", headers=tokens[0])).status_code == 200


async def test_document__routes_that_stream__say_that_they_are_limited() -> None:
    document = openapi_document(create_api(), VERSIONS[-1], server="/api/v1")

    def examples(path: str) -> set[str]:
        return set(
            document["paths"][path]["get"]["responses"]["429"]["content"]["application/problem+json"]["examples"]
        )

    assert "too-many-streams" in examples("/users/export")
    assert "too-many-streams" not in examples("/users")
