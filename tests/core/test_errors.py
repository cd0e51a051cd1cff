"""What errors look like from outside, and which are the database's circumstances."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fastapi_app.core.errors import is_unavailable, json_pointer
from fastapi_app.core.problems import ProblemResponses
from project.deadline import Deadline


class FromDriver(Exception):
    def __init__(self, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PoolTimeoutError(), True),
        (OperationalError("", None, FromDriver()), True),
        (DBAPIError("", None, FromDriver("57P01")), True),
        (DBAPIError("", None, FromDriver("40001")), True),
        (DBAPIError("", None, FromDriver("53300")), True),
        (DBAPIError("", None, FromDriver("08006"), connection_invalidated=True), True),
        (DBAPIError("", None, FromDriver("42P01")), False),
        (DBAPIError("", None, FromDriver()), False),
        (IntegrityError("", None, FromDriver("23505")), False),
        (LookupError(), False),
        (asyncpg.ConnectionDoesNotExistError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("the server expects 1 argument"), False),
        (asyncpg.InternalClientError(), True),
        (asyncpg.UndefinedTableError(), False),
        (asyncpg.UniqueViolationError(), False),
    ],
)
def test_is_unavailable__circumstance_or_mistake(error: Exception, expected: bool) -> None:
    assert is_unavailable(error) is expected


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ([], "#"),
        (["email"], "#/email"),
        (["items", 0, "a/b"], "#/items/0/a~1b"),
        (["~", "é ü", "%"], "#/~0/%C3%A9%20%C3%BC/%25"),
        (["\ud800"], "#/%3F"),
    ],
)
def test_json_pointer__as_rfc_6901_writes_it_in_a_fragment(path: list[str | int], pointer: str) -> None:
    assert json_pointer(path) == pointer


async def plain(_request: Request) -> Response:
    return PlainTextResponse("No, because.", 418, {"x-kept": "yes"})


async def phrase(_request: Request) -> Response:
    return PlainTextResponse("Not Found", 404)


async def of_its_own(_request: Request) -> Response:
    return JSONResponse({"mine": True}, 409)


async def fine(_request: Request) -> Response:
    return PlainTextResponse("fine")


async def stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"No, ", b"for two ", b"reasons."):
            yield piece

    return StreamingResponse(pieces(), 500, media_type="text/plain")


async def stalled(_request: Request) -> Response:
    await asyncio.sleep(60)
    return Response()


async def slow_stream(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            await asyncio.sleep(0.1)
            yield b"x"

    return StreamingResponse(pieces(), media_type="text/plain")


async def times_out_by_itself(_request: Request) -> Response:
    raise TimeoutError("its own")


ENDPOINTS = (plain, phrase, of_its_own, fine, stream, stalled, slow_stream, times_out_by_itself)
APP = Starlette(
    middleware=[Middleware(ProblemResponses, prefix="/api"), Middleware(Deadline, 0.2)],
    routes=[
        Route(f"{prefix}/{endpoint.__name__}", endpoint) for endpoint in ENDPOINTS for prefix in ("/api", "/other")
    ],
)


async def get(path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(APP), base_url="http://testserver") as client:
        return await client.get(path)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("plain", 418, "No, because."),
        ("phrase", 404, None),
        ("stream", 500, "No, for two reasons."),
        ("stalled", 504, "No answer within 0.2 s."),
    ],
)
async def test_plain_error__below_the_prefix__becomes_a_problem(path: str, status: int, detail: str | None) -> None:
    answer = await get(f"/api/{path}")

    problem: dict[str, Any] = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem.get("detail") == detail
    assert answer.headers.get("x-kept") == ("yes" if path == "plain" else None)
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.asyncio
async def test_other_responses__stay_as_they_are() -> None:
    assert (await get("/other/plain")).text == "No, because."
    assert (await get("/apish/plain")).text == "Not Found"
    assert (await get("/api/fine")).text == "fine"
    assert (await get("/api/of_its_own")).json() == {"mine": True}


@pytest.mark.asyncio
async def test_deadline__the_response_has_begun__may_take_its_time() -> None:
    assert (await get("/other/slow_stream")).text == "xxxx"


@pytest.mark.asyncio
async def test_deadline__a_time_out_of_the_apps_own__is_not_its_business() -> None:
    with pytest.raises(TimeoutError, match="its own"):
        await get("/other/times_out_by_itself")
